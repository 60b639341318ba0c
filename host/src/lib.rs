//! Bulkhead: a WebAssembly transaction host.
//!
//! A guest is an ordinary program that keeps its state in its own memory. Every call of it is one
//! atomic transaction over that memory: it commits whole, or it never happened. A guest that traps,
//! runs away or exceeds its budget is rolled back and running again, on its last committed state,
//! in microseconds.
//!
//! The whole of it, embedded (`cargo run --release --example embed`):
//!
//! ```no_run
#![doc = include_str!("../examples/embed.rs")]
//! ```
//!
//! Layers, lowest first; a module names only what is below it:
//!
//! | module | holds |
//! |---|---|
//! | [`base`] | identities, limits, time, randomness, errors |
//! | [`pure`] | decisions as functions of values: admission, write barrier, contracts, policies |
//! | [`mechanisms`] | memory, and the sandbox that runs guests over it |
//! | [`tree`] | the root and its daemons |
//! | [`shell`] | command line and socket |

#![cfg_attr(
    test,
    expect(clippy::duplicate_mod, reason = "the stop latch once more, on a scheduler's atomics")
)]

pub mod base;
pub mod mechanisms;
pub mod pure;
pub mod shell;
pub mod tree;

pub use base::clock::SystemClock;
pub use base::entropy::SystemEntropy;
pub use base::error::{Blame, Code, Fault};
pub use base::stop::{Reason, StopLatch};
pub use base::vitals::Vitals;
pub use mechanisms::sandbox::{Guest, Limits, Sandbox, SandboxOptions};
pub use pure::policy::OnCrash;
pub use pure::request::{Answer, Outcome, Request};
pub use tree::{DaemonOptions, DaemonPlan, Root, RootOptions};
