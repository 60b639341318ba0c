//! Calls of resources: a guest in a host, and the same by the native clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use host::mechanisms::providers::Provider;
use host::mechanisms::sandbox::Sandbox;
use host::pure::request::{Outcome, Request};
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonOptions, DaemonPlan, ResourcePlan, Root, RootOptions};
use redis::Script;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::{MIB, deploy, quiet_root};

/// What guests know as `cache`.
const RESOURCE: &str = "bench/cache";

/// The script of the guest `limits`.
const COUNT: &str = "local count = redis.call('INCR', KEYS[1]) \
                     if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end \
                     return count";

/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(20);

/// A runtime of this thread.
fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// The client of Redis alone, on a runtime of this thread.
pub struct Native {
    runtime: Runtime,
    connection: MultiplexedConnection,
    script: Script,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").finish_non_exhaustive()
    }
}

impl Native {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn start(url: &str) -> Self {
        let runtime = runtime();
        let client = redis::Client::open(url).expect("a URL");
        let connection = runtime.block_on(client.get_multiplexed_async_connection());
        Self { runtime, connection: connection.expect("a connection"), script: Script::new(COUNT) }
    }

    /// Time of so many counts, one after the other.
    ///
    /// # Panics
    ///
    /// When one fails.
    pub fn count(&mut self, times: u32) -> Duration {
        let (connection, script) = (&mut self.connection, &self.script);
        let start = Instant::now();
        self.runtime.block_on(async {
            for _ in 0..times {
                let mut counted = script.key("limits:native");
                let count: i64 = counted.arg(60).invoke_async(connection).await.expect("it counts");
                assert!(count > 0);
            }
        });
        start.elapsed()
    }
}

/// The client of `PostgreSQL` alone, on a runtime of this thread.
pub struct NativeSql {
    runtime: Runtime,
    client: tokio_postgres::Client,
}

impl std::fmt::Debug for NativeSql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeSql").finish_non_exhaustive()
    }
}

impl NativeSql {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn start(url: &str) -> Self {
        let runtime = runtime();
        let (client, connection) =
            runtime.block_on(tokio_postgres::connect(url, NoTls)).expect("a connection");
        let _driver = runtime.spawn(connection);
        Self { runtime, client }
    }

    /// Time of so many runs of a statement, one after the other.
    ///
    /// # Panics
    ///
    /// When one fails.
    #[must_use]
    pub fn run(&self, statement: &str, times: u32) -> Duration {
        let start = Instant::now();
        self.runtime.block_on(async {
            for _ in 0..times {
                let rows = self.client.query_typed(statement, &[]).await;
                assert_eq!(rows.expect("it answers").len(), 1);
            }
        });
        start.elapsed()
    }
}

/// A daemon in a host, in memory.
#[derive(Debug)]
pub struct Hosted {
    root: Root,
}

impl Hosted {
    /// Starts it, and waits for its server.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[must_use]
    pub fn start(sandbox: &Sandbox, guest: &str, provider: Arc<dyn Provider>) -> Self {
        let options = DaemonOptions::new("a", 4 * MIB);
        let needs = vec![RESOURCE.to_owned()];
        let plan = DaemonPlan { needs, ..DaemonPlan::new(deploy(sandbox, guest), options) };
        let resource = ResourcePlan {
            name: RESOURCE.to_owned(),
            provider,
            jobs: Vec::new(),
            policy: Policy::default(),
        };
        let options = RootOptions { resources: vec![resource], ..quiet_root() };
        let root = Root::start(vec![plan], options).expect("the daemon starts");
        let start = Instant::now();
        while root.resources().iter().any(|resource| resource.status != Status::Available) {
            assert!(start.elapsed() < PATIENCE, "the server does not come");
        }
        Self { root }
    }

    /// Time of so many transactions.
    ///
    /// # Panics
    ///
    /// When one is not committed.
    #[must_use]
    pub fn run(&self, contract: &str, args: &Value, times: u32) -> Duration {
        let start = Instant::now();
        for _ in 0..times {
            let answer = self.root.call(Request::new("a", contract, args.clone()));
            let answer = answer.expect("an answer");
            assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
        }
        start.elapsed()
    }

    /// Waits until every effect that was staged is over.
    pub fn settle(&self) {
        while self.root.effects_left() > 0 {
            std::thread::yield_now();
        }
    }
}
