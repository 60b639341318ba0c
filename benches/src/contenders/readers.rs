//! A bank that is read by some clients while another one pays without a pause.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::mechanisms::sandbox::Sandbox;
use host::pure::request::{Outcome, Request};
use host::tree::{DaemonOptions, DaemonPlan, Root};
use serde_json::{Value, json};

use super::{MIB, deploy, quiet_root};

/// What is read, and what that is called: one customer's accounts, or those of all.
pub const READS: [(&str, &str); 2] = [("balance", "short"), ("total", "long")];

const CUSTOMERS: u64 = 10_000;
const CLIENTS: usize = 2;
const WINDOW: Duration = Duration::from_millis(200);

/// A root with a bank that has some readers.
#[derive(Debug)]
pub struct Read {
    root: Root,
}

fn request(contract: &str, args: Value) -> Request {
    Request::new("bank", contract, args)
}

impl Read {
    /// Starts the daemon and its readers.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn start(sandbox: &Sandbox, readers: u32) -> Self {
        let options = DaemonOptions { readers, ..DaemonOptions::new("bank", 16 * MIB) };
        let plan = DaemonPlan::new(deploy(sandbox, "smallbank"), options);
        let root = Root::start(vec![plan], quiet_root()).expect("the bank starts");
        let read = Self { root };
        read.ask(&request("load", json!({"customers": CUSTOMERS})));
        read
    }

    fn ask(&self, request: &Request) {
        let answer = self.root.call(request.clone()).expect("the bank answers");
        assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
    }

    /// How many reads were answered in a second, and how many payments beside them.
    ///
    /// # Panics
    ///
    /// When a request crashes.
    #[must_use]
    pub fn per_second(&self, read: &str) -> (f64, f64) {
        let args = if read == "balance" { json!({"customer": 7}) } else { json!({}) };
        let read = request(read, args);
        let pay = request("send_payment", json!({"from": 1, "to": 2, "amount": 0}));
        let enough = AtomicBool::new(false);
        let ask_on = |request: &Request| {
            let mut count = 0_u32;
            while !enough.load(Ordering::Relaxed) {
                self.ask(request);
                count += 1;
            }
            f64::from(count)
        };
        let start = Instant::now();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask_on(&read))).collect();
            let writer = scope.spawn(|| ask_on(&pay));
            std::thread::sleep(WINDOW);
            enough.store(true, Ordering::Relaxed);
            let ended = |client: std::thread::ScopedJoinHandle<'_, f64>| {
                client.join().expect("a client that asks")
            };
            let reads: f64 = clients.into_iter().map(ended).sum();
            let commits = ended(writer);
            let seconds = start.elapsed().as_secs_f64();
            (reads / seconds, commits / seconds)
        })
    }
}
