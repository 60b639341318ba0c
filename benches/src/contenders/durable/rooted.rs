//! The host with a journal: requests through the root, answers when they are durable.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use host::base::clock::SystemClock;
use host::base::entropy::SystemEntropy;
use host::base::error::{Code, Fault};
use host::mechanisms::journal::{DirectoryId, Journal, Origin, Store, StoreOptions};
use host::mechanisms::memory::Images;
use host::mechanisms::sandbox::{Guest, NoLog};
use host::pure::record::Record;
use host::pure::request::{Answer, Outcome, Request};
use host::tree::{
    Daemon, DaemonOptions, DaemonPlan, JournalSeat, RevertTo, Root, RootOptions, World,
};
use serde_json::{Map, Value, json};
use smallbank::mix;

use super::{DurableBank, Ending, Served, random_text};
use crate::contenders::daemon::bind;
use crate::contenders::quiet_root;

/// The name of the only daemon.
const NAME: &str = "owner";
/// The name of its copy.
const COPY: &str = "copy";

/// A large state is made of texts of that many bytes.
const TEXT_BYTES: usize = 256 << 10;

/// More than the journal keeps as records at least.
const SMALL_COMMITS: usize = 20;

/// A root with one daemon and its journal.
#[derive(Debug)]
pub struct DurableHost {
    root: Arc<Root>,
    store: Arc<Store>,
    opened: Duration,
}

impl DurableHost {
    /// Opens or makes the data directory `dir` and starts a daemon of `guest` on it.
    ///
    /// # Panics
    ///
    /// When the host refuses.
    #[must_use]
    pub fn start(dir: &Path, guest: &Arc<Guest>, budget_bytes: usize, store: StoreOptions) -> Self {
        let start = Instant::now();
        let store = Arc::new(Store::open(dir, store, DirectoryId(1)).expect("a store"));
        let opened = start.elapsed();
        let plan = DaemonPlan::new(guest.clone(), DaemonOptions::new(NAME, budget_bytes));
        let options = RootOptions { journal: Some(store.clone()), ..quiet_root() };
        let root = Arc::new(Root::start(vec![plan], options).expect("the daemon starts"));
        Self { root, store, opened }
    }

    /// How long it took to open the store, without loading anything.
    #[must_use]
    pub fn opened(&self) -> Duration {
        self.opened
    }

    /// Runs a request that must commit, and answers its value.
    ///
    /// # Panics
    ///
    /// When it doesn't.
    #[must_use]
    pub fn commit(&self, contract: &str, args: Value) -> Value {
        let answer = self.root.call(request(contract, args)).expect("the daemon answers");
        let Outcome::Committed(value) = &answer.outcome else { panic!("{answer:?}") };
        host::pure::json::from_message_pack(value).expect("a value")
    }

    /// Makes the state of the guest `ledger` large: texts that don't compress. The commits after
    /// it are small, so that with a short retention all large ones are folded.
    pub fn grow(&self, bytes: usize) {
        for seed in 0..bytes / TEXT_BYTES {
            self.deposit(&random_text(TEXT_BYTES, seed as u64));
        }
        for _ in 0..SMALL_COMMITS {
            self.deposit("last");
        }
    }

    /// A small commit of the guest `ledger`.
    pub fn deposit(&self, account: &str) {
        let _balance = self.commit("deposit", json!({"account": account, "amount": 1}));
    }

    /// Starts a copy of the daemon on its state, and answers how long that took; then removes it.
    ///
    /// # Panics
    ///
    /// When the host refuses.
    #[must_use]
    pub fn fork(&self) -> Duration {
        let start = Instant::now();
        let same_code = |_: &[u8]| Err(Fault::new(Code::HostBug, "the code is the same"));
        let forked = self.root.fork(NAME, COPY, None, &same_code);
        let time = start.elapsed();
        drop(forked.expect("a copy"));
        self.root.remove(COPY).expect("copies can be removed");
        time
    }

    /// Undoes the last commit, and answers how long that took.
    ///
    /// # Panics
    ///
    /// When the host refuses.
    #[must_use]
    pub fn revert(&self) -> Duration {
        let start = Instant::now();
        let reverted = self.root.revert(NAME, RevertTo::Last(1));
        let time = start.elapsed();
        reverted.expect("the last commit can be undone");
        time
    }

    /// Opens the accounts.
    pub fn load(&self, customers: u64) {
        let load = mix::Request::Load { customers };
        let _total = self.commit(load.contract(), arguments(&load));
    }
}

impl DurableBank for DurableHost {
    /// A client's next request is submitted by the reply to the one before, on the journal's
    /// thread, as a server's event loop would do it: no thread is woken for a client.
    fn serve(&mut self, clients: usize, requests: &[mix::Request]) -> Served {
        // What a client would have parsed is made before the time starts.
        let waiting: Vec<(mix::Request, Request)> = requests
            .iter()
            .map(|bank| (*bank, request(bank.contract(), arguments(bank))))
            .collect();
        let (done, all_done) = channel();
        let progress = Progress {
            waiting: waiting.into_iter(),
            running: clients,
            latencies: Vec::with_capacity(requests.len()),
            answers: 0,
            done,
        };
        let run = Arc::new(Run { root: self.root.clone(), progress: Mutex::new(progress) });
        let start = Instant::now();
        for _ in 0..clients {
            run.send_next();
        }
        all_done.recv().expect("all requests are answered");
        let time = start.elapsed();
        // The last callback may still hold the root, which must not end on the journal's thread.
        while Arc::strong_count(&run) > 1 {
            std::thread::yield_now();
        }
        let mut progress = run.progress();
        let latencies = std::mem::take(&mut progress.latencies);
        Served { answers: progress.answers, time, latencies }
    }

    fn total(&mut self) -> Option<i64> {
        self.commit("total", Value::Object(Map::new())).as_i64()
    }

    /// Old records are folded in quiet times.
    fn settle(&mut self) {
        while self.store.fold_debt().records > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn file_bytes(&self) -> Option<u64> {
        Some(self.store.traffic().0)
    }
}

/// One measured run of all clients.
struct Run {
    root: Arc<Root>,
    progress: Mutex<Progress>,
}

struct Progress {
    waiting: std::vec::IntoIter<(mix::Request, Request)>,
    /// Clients that have not run out of requests.
    running: usize,
    latencies: Vec<u64>,
    answers: usize,
    done: Sender<()>,
}

impl Run {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_next(self: &Arc<Self>) {
        let mut progress = self.progress();
        let Some((bank, request)) = progress.waiting.next() else {
            progress.running -= 1;
            if progress.running == 0 {
                progress.done.send(()).expect("somebody waits for it");
            }
            return;
        };
        drop(progress);
        let (run, sent) = (self.clone(), Instant::now());
        let reply = move |answer: Answer| {
            run.note(&bank, sent, &answer);
            run.send_next();
        };
        self.root.submit(request, Box::new(reply));
    }

    fn note(&self, bank: &mix::Request, sent: Instant, answer: &Answer) {
        let committed = match &answer.outcome {
            Outcome::Committed(_) => true,
            // The guest's own "no"; a refusal of the host has run nothing.
            Outcome::Rejected(_) if answer.attempts > 0 => false,
            _ => panic!("{answer:?}"),
        };
        let mut progress = self.progress();
        progress.answers += 1;
        if Ending::of(bank, committed) == Ending::Committed {
            progress.latencies.push(super::nanos(sent.elapsed()));
        }
    }
}

/// The records that the requests leave in a journal; none for those that change nothing.
///
/// # Panics
///
/// When the host refuses.
#[must_use]
pub fn records(
    dir: &Path,
    guest: &Arc<Guest>,
    budget_bytes: usize,
    customers: u64,
    requests: &[mix::Request],
) -> Vec<Option<Vec<u8>>> {
    let store = Store::open(dir, StoreOptions::default(), DirectoryId(1)).expect("a store");
    let store = Arc::new(store);
    let key = store.daemon(NAME, Origin::Init, budget_bytes as u64).expect("a key");
    let seat = JournalSeat { key, journal: store };
    let world = World {
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        log: Arc::new(NoLog),
        outputs: Arc::default(),
        hold: None,
    };
    let images = Images::new(budget_bytes, &guest.shape()).expect("memory for the images");
    let options = DaemonOptions::new(NAME, budget_bytes);
    let daemon = Daemon::open(guest.clone(), images, options, world, &seat);
    let mut daemon = daemon.expect("the guest starts");
    let mut record = |request: &mix::Request| {
        let bound = bind(guest, request.contract(), arguments(request));
        let _transacted = daemon.transact(&bound);
        daemon.take_records().pop().map(|(_, record)| record)
    };
    let _first = record(&mix::Request::Load { customers });
    requests.iter().map(record).collect()
}

/// Bytes of state that a record changes.
///
/// # Panics
///
/// When it is none.
#[must_use]
pub fn changed_bytes(record: &[u8]) -> usize {
    let mut scratch = Vec::new();
    let record = Record::decode(record, &mut scratch).expect("a record");
    record.ranges().map(|(_, bytes)| bytes.len()).sum()
}

fn request(contract: &str, args: Value) -> Request {
    Request::new(NAME, contract, args)
}

fn arguments(request: &mix::Request) -> Value {
    let arguments = request.arguments().map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(Map::from_iter(arguments))
}
