//! Real servers, started for a test or a benchmark and gone after it, and a proxy that breaks the
//! connections to them.

#![expect(
    clippy::panic,
    reason = "helpers of tests: what goes wrong here fails the test that asked"
)]

mod kept;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod proxy;
mod redis;

pub use kept::Kept;
pub use pgbouncer::{PgBouncer, pgbouncer_program};
pub use postgres::{Postgres, postgres_programs};
pub use process::{Listens, Server, User, command, home, run};
pub use proxy::{Fault, Proxy};
pub use redis::{Redis, redis_program};
pub use tempfile::TempDir;
