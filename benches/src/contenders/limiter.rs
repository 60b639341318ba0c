//! A rate limiter on a Redis: the guest `limits` in a host, and the same script by the native
//! client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use host::mechanisms::providers::redis::{Jobs, Redis};
use host::mechanisms::sandbox::Sandbox;
use host::pure::request::{Outcome, Request};
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonOptions, DaemonPlan, ResourcePlan, Root, RootOptions};
use redis::Script;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio::runtime::Runtime;

use super::{MIB, deploy, quiet_root};

const RESOURCE: &str = "bench/cache";

/// The script of the guest `limits`.
const COUNT: &str = "local count = redis.call('INCR', KEYS[1]) \
                     if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end \
                     return count";

/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(20);

/// The client alone, on a runtime of this thread.
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
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
    pub fn start(sandbox: &Sandbox, url: &str) -> Self {
        let options = DaemonOptions::new("limits", 4 * MIB);
        let needs = vec![RESOURCE.to_owned()];
        let plan = DaemonPlan { needs, ..DaemonPlan::new(deploy(sandbox, "limits"), options) };
        let resource = ResourcePlan {
            name: RESOURCE.to_owned(),
            provider: Arc::new(Redis::new(url, None, 1, Jobs::new()).expect("a URL")),
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

    /// Time of so many transactions, each of which counts once.
    ///
    /// # Panics
    ///
    /// When one is not committed.
    #[must_use]
    pub fn count(&self, contract: &str, times: u32) -> Duration {
        let args = match contract {
            "take" => json!({"user": "hosted", "limit": u32::MAX, "seconds": 60}),
            _ => json!({}),
        };
        let start = Instant::now();
        for _ in 0..times {
            let answer = self.root.call(Request::new("limits", contract, args.clone()));
            let answer = answer.expect("an answer");
            assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
        }
        start.elapsed()
    }
}
