//! A daemon that is asked one request after the other, while something else goes on beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use host::mechanisms::sandbox::{Guest, Sandbox};
use host::pure::request::{Outcome, Request};
use host::tree::{DaemonOptions, DaemonPlan, Root};
use serde_json::{Value, json};
use supervisor::policy::{Backoff, Policy, Restart};

use super::{MIB, deploy, quiet_root};

/// What goes on beside it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beside {
    /// Nothing.
    Quiet,
    /// Another daemon commits short requests, one after the other.
    Commits,
    /// Another daemon commits requests that take about as long as a crash with its restart.
    LongCommits,
    /// Each request to another daemon crashes.
    Crashes,
    /// Another daemon's thread dies as soon as it begins, and gets a successor at once.
    Deaths,
    /// The same, with a millisecond before each successor: a hundredth of what `host` waits before
    /// the second one, and less than that of what it waits later.
    ApartDeaths,
    /// Plain threads that do nothing but tell that they end; then the next one begins. That is what
    /// dying threads cost by the machine's rules, whoever starts them.
    Threads,
}

/// Deaths of a thread that are asked for at once.
const DEATHS: u32 = 50;

const BUDGET_BYTES: usize = 4 * MIB;

/// A root with the daemon that is asked and the others.
#[derive(Debug)]
pub struct Storm {
    root: Root,
}

fn request(daemon: &str, contract: &str, args: Value) -> Request {
    Request::new(daemon, contract, args)
}

impl Storm {
    /// Starts the daemons.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn start(sandbox: &Sandbox) -> Self {
        let (counter, chaos) = (deploy(sandbox, "counter"), deploy(sandbox, "chaos"));
        let endless = Policy::new(Restart::Permanent).with_intensity(None).with_backoff(None);
        let millisecond = Duration::from_millis(1);
        let apart = Backoff::new(millisecond, 1, millisecond, 0).expect("a delay");
        let plan = |name: &str, guest: &Arc<Guest>| {
            let mut options = DaemonOptions::new(name, BUDGET_BYTES);
            options.retries_max = 0;
            let delayed = name == "apart";
            options.restarts = if delayed { endless.with_backoff(Some(apart)) } else { endless };
            DaemonPlan::new(guest.clone(), options)
        };
        let plans = vec![
            plan("sibling", &counter),
            plan("commits", &counter),
            plan("deaths", &counter),
            plan("apart", &counter),
            plan("crashes", &chaos),
        ];
        Self { root: Root::start(plans, quiet_root()).expect("the daemons start") }
    }

    /// Asks the sibling that often; answers how long each answer took, sorted, and how often a
    /// second there was something beside it.
    #[must_use]
    pub fn ask(&self, beside: Beside, times: usize) -> (Vec<Duration>, f64) {
        let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while beside != Beside::Quiet && !over.load(Ordering::Relaxed) {
                    count.fetch_add(self.beside(beside), Ordering::Relaxed);
                }
            });
            // What is beside it is under way.
            while beside != Beside::Quiet && count.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            let (start, before) = (Instant::now(), count.load(Ordering::Relaxed));
            let mut took: Vec<Duration> = (0..times).map(|_| self.increment()).collect();
            let others = count.load(Ordering::Relaxed) - before;
            let per_second = others as f64 / start.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            took.sort_unstable();
            (took, per_second)
        })
    }

    fn increment(&self) -> Duration {
        let request = request("sibling", "increment", json!({"by": 1}));
        let start = Instant::now();
        let answer = self.root.call(request).expect("the daemon answers");
        let took = start.elapsed();
        assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
        took
    }

    /// One thing beside it; answers for how many it counts.
    fn beside(&self, beside: Beside) -> u64 {
        let (daemon, contract, args) = match beside {
            Beside::Quiet => return 0,
            Beside::Commits => ("commits", "increment", json!({"by": 1})),
            Beside::LongCommits => ("crashes", "touch", json!({"pages": 64})),
            Beside::Crashes => ("crashes", "die", json!({"how": "panic"})),
            Beside::Deaths => ("deaths", "value", json!({})),
            Beside::ApartDeaths => ("apart", "value", json!({})),
            Beside::Threads => {
                let (sender, ends) = std::sync::mpsc::sync_channel(1);
                for _ in 0..DEATHS {
                    let sender = sender.clone();
                    std::thread::spawn(move || sender.send(()));
                    ends.recv().expect("a sender is left");
                }
                return u64::from(DEATHS);
            }
        };
        let dies = matches!(beside, Beside::Deaths | Beside::ApartDeaths);
        if dies {
            self.root.let_thread_die(daemon, DEATHS - 1).expect("room in its mailbox");
        }
        let answer = self.root.call(request(daemon, contract, args)).expect("the daemon answers");
        let crashed = matches!(answer.outcome, Outcome::Crashed(_));
        assert_eq!(crashed, beside == Beside::Crashes, "{answer:?}");
        if dies { u64::from(DEATHS) } else { 1 }
    }
}
