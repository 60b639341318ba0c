//! Readers: read-only transactions beside the daemon's own, each on a state that was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use host::base::clock::SystemClock;
use host::base::entropy::SeededEntropy;
use host::base::error::Fault;
use host::mechanisms::journal::Store;
use host::mechanisms::sandbox::{GuestLine, GuestLog};
use host::pure::request::{Answer, Request};
use host::tree::{DaemonOptions, DaemonPlan, DaemonState, DaemonView, RevertTo, Root, RootOptions};
use serde_json::{Value, json};
use supervisor::policy::{Intensity, Policy, Restart};
use tests::{
    Holdings, REAL, REHEARSAL, Tree, deployed, in_own_process, plan, request, setting, until,
};

use super::durable::store;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn read_by(
    readers: u32,
    name: &str,
    guest: &str,
    change: impl FnOnce(&mut DaemonOptions),
) -> DaemonPlan {
    plan(name, &deployed(guest), |options| {
        options.readers = readers;
        change(options);
    })
}

/// Stops whoever prints `wait`, until it is opened.
#[derive(Default)]
pub(super) struct Valve {
    open: Mutex<bool>,
    turned: Condvar,
    waiting: AtomicUsize,
}

impl GuestLog for Valve {
    fn line(&self, line: &GuestLine<'_>) {
        if line.message == "wait" {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let open = self.open.lock().unwrap();
            drop(self.turned.wait_while(open, |open| !*open).unwrap());
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Valve {
    fn turn(&self, open: bool) {
        *self.open.lock().unwrap() = open;
        self.turned.notify_all();
    }
}

/// Opens it at last, also when a test fails.
pub(super) struct Valved(Arc<Valve>);

impl Valved {
    pub(super) fn turn(&self, open: bool) {
        self.0.turn(open);
    }
}

impl Drop for Valved {
    fn drop(&mut self) {
        self.0.turn(true);
    }
}

pub(super) fn valved(plans: Vec<DaemonPlan>, journal: Option<Arc<Store>>) -> (Tree, Valved) {
    let valve = Arc::new(Valve::default());
    let log = valve.clone();
    let clock = Arc::new(SystemClock::new());
    let options = RootOptions::new(usize::MAX, clock, Arc::new(SeededEntropy::new(7)));
    let logs: host::tree::MakeLog = Box::new(move |_name| log.clone());
    let options = RootOptions { logs: Some(logs), journal, ..options };
    let root = Root::start(plans, options).unwrap();
    (Tree { root, lines: Arc::default() }, Valved(valve))
}

/// Sends requests without waiting, and takes the answers as they come.
pub(super) struct Sending {
    reply: Sender<Answer>,
    pub(super) answers: Receiver<Answer>,
}

impl Sending {
    pub(super) fn new() -> Self {
        let (reply, answers) = channel();
        Self { reply, answers }
    }

    pub(super) fn submit(&self, tree: &Tree, request: Request) {
        let reply = self.reply.clone();
        tree.root.submit(request, Box::new(move |answer| drop(reply.send(answer))));
    }

    /// Lets so many reads wait at the valve.
    pub(super) fn wait_at(&self, tree: &Tree, valve: &Valved, count: usize) {
        let before = valve.0.waiting.load(Ordering::SeqCst);
        for _ in 0..count {
            self.submit(tree, request("bank", "print", json!({"text": "wait"})));
        }
        until("all wait", || valve.0.waiting.load(Ordering::SeqCst) == before + count);
    }

    pub(super) fn next(&self) -> Answer {
        self.answers.recv_timeout(MINUTE).unwrap()
    }

    /// So many next answers, by contract and code.
    pub(super) fn take(&self, count: usize) -> BTreeMap<(String, String), usize> {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            let answer = self.next();
            *seen.entry((answer.contract.clone(), code(&answer))).or_default() += 1;
        }
        assert!(self.answers.try_recv().is_err(), "somebody was answered");
        seen
    }
}

pub(super) fn code(answer: &Answer) -> String {
    answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

pub(super) fn seen<const N: usize>(
    seen: [(&str, &str, usize); N],
) -> BTreeMap<(String, String), usize> {
    seen.map(|(contract, code, count)| ((contract.to_owned(), code.to_owned()), count)).into()
}

pub(super) fn balances() -> Request {
    request("bank", "balances", json!({}))
}

pub(super) fn reader(tree: &Tree, index: usize) -> DaemonView {
    tree.view("bank").readers.remove(index)
}

/// Reads that the daemon ran itself, and reads of its readers.
pub(super) fn reads(tree: &Tree) -> (u64, u64) {
    let view = tree.view("bank");
    (view.report.read, view.readers.iter().map(|reader| reader.report.read).sum())
}

/// A client that moves money and reads: what it reads is whole, and never older than what it knows.
fn client(tree: &Tree, number: u64, rounds: u64, total: &Value) {
    let mut last = 0;
    let mut random = number;
    for _ in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (from, to) = ((random >> 33) % 50, 50 + (random >> 43) % 50);
        let args = json!({"from": from, "to": to, "amount": random % 100});
        let paid = tree.call("bank", "send_payment", args);
        assert!(paid.value().is_some() && paid.sequence.0 > last, "{paid:?} after {last}");
        last = paid.sequence.0;
        for _ in 0..3 {
            let sum = tree.call("bank", "total", json!({}));
            assert_eq!(sum.value().as_ref(), Some(total));
            assert!(sum.sequence.0 >= last, "{sum:?} after {last}");
            last = sum.sequence.0;
        }
    }
}

fn clients(tree: &Tree, rounds: u64) {
    let total = tree.committed("bank", "load", json!({"customers": 100}));
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let total = &total;
            scope.spawn(move || client(tree, number, rounds, total));
        }
    });
    let (own, by_readers) = reads(tree);
    assert_eq!(own + by_readers, 4 * rounds * 3);
    assert!(by_readers > own, "{own} and {by_readers}");
    assert!(tree.view("bank").readers.iter().all(|reader| reader.report.read > 0));
}

#[test]
fn s0_17_reads_beside_writes_are_whole_and_never_older_than_what_a_client_knows() {
    let rounds = setting("BULKHEAD_READER_ROUNDS", 300);
    let tree = Tree::start_quietly(vec![read_by(3, "bank", "smallbank", |_| {})]);
    clients(&tree, rounds);
    let report = tree.view("bank").report;
    assert_eq!((report.restarts, report.sequence), (0, 1 + 4 * rounds));
    // In release as it is used, without the comparison of whole images.
    let quick = |options: &mut DaemonOptions| options.verify = false;
    let tree = Tree::start_quietly(vec![read_by(2, "bank", "smallbank", quick)]);
    clients(&tree, 10 * rounds);
}

#[test]
fn s0_17_reads_beside_durable_writes_are_no_older_either() {
    let dir = tempfile::tempdir().unwrap();
    let plans = vec![read_by(2, "bank", "smallbank", |_| {})];
    let tree = Tree::durable(plans.clone(), store(dir.path()));
    clients(&tree, setting("BULKHEAD_READER_ROUNDS", 300) / 6);
    let (before, sum) = (tree.hash("bank"), tree.committed("bank", "total", json!({})));
    assert!(tree.root.unsynced().is_empty());
    drop(tree);
    // What the journal holds is followed as well, before anything was committed.
    let tree = Tree::durable(plans, store(dir.path()));
    assert_eq!((tree.committed("bank", "total", json!({})), reads(&tree).1), (sum, 1));
    assert_eq!(tree.hash("bank"), before);
}

#[test]
fn s0_17_long_reads_run_side_by_side_and_hold_up_no_write() {
    let (tree, valve) = valved(vec![read_by(3, "bank", "chaos", |_| {})], None);
    let sent = Sending::new();
    sent.wait_at(&tree, &valve, 2);
    for touched in 1..=20 {
        assert_eq!(tree.committed("bank", "touch", json!({"pages": touched})), touched);
        let read = tree.root.call(balances()).unwrap();
        assert_eq!((read.value(), read.sequence.0), (Some(json!([1000, 1000])), touched));
    }
    sent.wait_at(&tree, &valve, 1);
    // All are busy: a further one waits for its turn, as at the daemon itself.
    sent.submit(&tree, balances());
    assert_eq!(tree.committed("bank", "touch", json!({"pages": 1})), 20);
    assert!(sent.answers.try_recv().is_err());
    let running = tree.view("bank").readers.iter().filter_map(|one| one.report.running).count();
    assert_eq!(running, 3);
    valve.turn(true);
    assert_eq!(sent.take(4), seen([("balances", "", 1), ("print", "", 3)]));
    assert_eq!(reads(&tree), (0, 24));
}

#[test]
fn s0_17_what_is_no_read_or_has_a_key_goes_to_the_daemon_itself() {
    let tree = Tree::start_quietly(vec![read_by(2, "bank", "chaos", |_| {})]);
    assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
    assert_eq!(reads(&tree), (0, 1));
    let keyed = || Request { key: Some("once".to_owned()), ..balances() };
    assert!(tree.root.call(keyed()).unwrap().value().is_some());
    assert!(tree.root.call(keyed()).unwrap().value().is_some());
    assert_eq!(reads(&tree), (1, 1));
    let unknown = tree.call("bank/reader-0", "balances", json!({}));
    assert_eq!(code(&unknown), "E_DAEMON_UNKNOWN");
    let message = unknown.to_json()["error"]["message"].to_string();
    assert!(message.contains("`bank/reader-0` is a reader of daemon `bank`"), "{message}");
    // A state that grew, and what a read allocates itself.
    for mib in 1..=2 {
        assert_eq!(tree.committed("bank", "hold", json!({"mib": 1})), mib);
        let long = "x".repeat(200_000);
        for _ in 0..3 {
            assert_eq!(tree.committed("bank", "echo", json!({ "text": long })), long);
            let states = [(); 2].map(|()| tree.committed("bank", "state", json!({})));
            assert_eq!(states[0], states[1]);
        }
    }
    // One transaction after the other, they end up with the same state.
    let hash = tree.hash("bank");
    until("both have followed", || {
        assert!(tree.root.call(balances()).unwrap().value().is_some());
        (0..2).all(|index| tree.hash(&format!("bank/reader-{index}")) == hash)
    });
}

#[test]
fn s0_17_a_read_that_traps_or_a_reader_that_dies_hurts_nobody() {
    let policy = Policy::new(Restart::Permanent).with_backoff(None);
    let (tree, valve) = valved(
        vec![read_by(2, "bank", "chaos", |options| {
            options.limits.fuel = 1_500_000;
            options.restarts = policy.with_intensity(Intensity::new(100, MINUTE).unwrap());
        })],
        None,
    );
    for mib in 1..=2 {
        assert_eq!(tree.committed("bank", "hold", json!({"mib": 1})), mib);
    }
    for n in 1..=3_u64 {
        let crashed = tree.call("bank", "state", json!({}));
        assert_eq!((code(&crashed).as_str(), crashed.sequence.0), ("E_FUEL", 2));
        assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
        let view = tree.view("bank");
        assert_eq!((view.report.generation, view.report.crashed), (1, 0));
        assert_eq!(view.readers.iter().map(|one| one.report.crashed).sum::<u64>(), n);
    }
    // Of a thread that dies only what it ran ends.
    let sent = Sending::new();
    sent.wait_at(&tree, &valve, 1);
    let busy = usize::from(reader(&tree, 0).report.running.is_none());
    let other = 1 - busy;
    tree.root.let_thread_die(&format!("bank/reader-{other}"), 2).unwrap();
    until("it is back", || reader(&tree, other).deaths == 3);
    for _ in 0..5 {
        assert_eq!(tree.committed("bank", "touch", json!({"pages": 1})), 1);
        assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
    }
    // The daemon's own thread: reads go on, and see what it had committed.
    let died = tree.root.simulate_thread_death("bank").unwrap();
    assert_eq!((died.deaths, died.before.hash), (1, died.after.hash));
    let read = tree.root.call(balances()).unwrap();
    assert_eq!((read.value(), read.sequence.0), (Some(json!([1000, 1000])), 7));
    assert_eq!(tree.committed("bank", "touch", json!({"pages": 1})), 1);
    assert!(tree.root.simulate_crash(&format!("bank/reader-{other}")).is_ok());
    assert_eq!(tree.root.call(balances()).unwrap().sequence.0, 8);
    valve.turn(true);
    assert_eq!(sent.take(1), seen([("print", "", 1)]));
}

#[test]
fn r9_s0_17_without_readers_the_daemon_reads_itself() {
    let strict = Policy::new(Restart::Permanent)
        .with_intensity(Intensity::new(1, MINUTE).unwrap())
        .with_backoff(None)
        .with_exhausted(supervisor::policy::Exhausted::Park);
    let bank = read_by(2, "bank", "chaos", |options| options.restarts = strict);
    let (tree, valve) = valved(vec![bank], None);
    let sent = Sending::new();
    sent.wait_at(&tree, &valve, 2);
    for _ in 0..3 {
        sent.submit(&tree, balances());
    }
    for index in 0..2 {
        tree.root.let_thread_die(&format!("bank/reader-{index}"), 1).unwrap();
    }
    valve.turn(true);
    assert_eq!(sent.take(5), seen([("balances", "", 3), ("print", "", 2)]));
    let parked = |index| reader(&tree, index).report.state == DaemonState::Parked;
    until("both are given up", || parked(0) && parked(1));
    let before = reads(&tree);
    assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
    assert_eq!(reads(&tree), (before.0 + 1, before.1));
    assert_eq!(tree.view("bank").report.state, DaemonState::Ready);
    assert!(tree.root.resume("bank").unwrap().was_parked);
    assert_eq!(tree.committed("bank", "touch", json!({"pages": 1})), 1);
    until("they read again", || {
        assert_eq!(tree.root.call(balances()).unwrap().sequence.0, 1);
        reads(&tree).1 > before.1
    });
}

#[test]
fn s0_17_a_parked_daemon_has_no_readers_either() {
    let tree = Tree::start_quietly(vec![read_by(2, "bank", "chaos", |options| {
        options.retries_max = 0;
    })]);
    let print =
        || Request { key: Some("k".to_owned()), ..request("bank", "print", json!({"text": ""})) };
    for _ in 0..2 {
        tree.root.panic_in_next_host_call("bank").unwrap();
        assert_eq!(code(&tree.root.call(print()).unwrap()), "E_HOST_BUG");
    }
    assert_eq!(tree.view("bank").report.state, DaemonState::Parked);
    assert_eq!(tree.code("bank", "balances", json!({})), "E_PARKED");
    assert!(tree.root.resume("bank").unwrap().was_parked);
    assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
    // A reader whose guest is parked leaves its reads to the others.
    for index in 0..2 {
        let name = format!("bank/reader-{index}");
        let parked = || reader(&tree, index).report.state == DaemonState::Parked;
        until("it is parked", || {
            tree.root.panic_in_next_host_call(&name).unwrap();
            drop(tree.call("bank", "print", json!({"text": ""})));
            parked()
        });
        assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
    }
    assert_eq!(tree.view("bank").report.state, DaemonState::Ready);
    assert!(tree.root.resume("bank").unwrap().was_parked);
    assert!((0..2).all(|index| reader(&tree, index).report.state == DaemonState::Ready));
}

#[test]
fn s4_29_s0_17_kill_bits_hold_for_readers_too() {
    let (tree, valve) = valved(vec![read_by(3, "bank", "chaos", |_| {})], None);
    let sent = Sending::new();
    sent.wait_at(&tree, &valve, 2);
    let paused = tree.root.pause("bank", false).unwrap();
    assert_eq!((paused.left.len(), paused.stopped.len(), paused.held), (2, 0, 0));
    for _ in 0..5 {
        sent.submit(&tree, balances());
    }
    sent.submit(&tree, request("bank", "touch", json!({"pages": 3})));
    until("held", || tree.view("bank").held == 6);
    assert!(sent.answers.try_recv().is_err());
    assert_eq!(tree.root.resume("bank").unwrap().held, 6);
    assert_eq!(sent.take(6), seen([("balances", "", 5), ("touch", "", 1)]));
    // One contract of it, and one request, wherever they run.
    let off = tree.root.disable("bank", Some("print"), false).unwrap();
    assert_eq!((off.left.len(), off.stopped.len()), (2, 0));
    let (ran_by, stopped) = tree.root.kill(off.left[0]).unwrap();
    assert!(ran_by.starts_with("bank/reader-"), "{ran_by}");
    assert_eq!(stopped.end, None, "it hangs in a call of the host");
    valve.turn(true);
    assert_eq!(sent.take(2).values().sum::<usize>(), 2);
    assert_eq!(tree.code("bank", "print", json!({"text": ""})), "E_DISABLED");
    assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
    tree.root.enable("bank", Some("print")).unwrap();
    assert_eq!(tree.code("bank", "print", json!({"text": ""})), "");
}

/// A root whose readers are busy, with reads that wait; it is stopped.
fn busy_and_stopped() {
    let (mut tree, valve) = valved(vec![read_by(3, "bank", "chaos", |_| {})], None);
    let sent = Sending::new();
    sent.wait_at(&tree, &valve, 3);
    for _ in 0..10 {
        sent.submit(&tree, balances());
    }
    tree.root.refuse_requests();
    assert_eq!(tree.code("bank", "balances", json!({})), "E_STOPPING");
    until("the daemon itself ends", || tree.root.daemons_left().len() == 3);
    assert!(sent.answers.try_recv().is_err());
    valve.turn(true);
    tree.root.stop();
    assert_eq!(sent.take(13), seen([("balances", "E_STOPPING", 10), ("print", "", 3)]));
    assert!(tree.view("bank").readers.iter().all(|r| r.report.state == DaemonState::Stopped));
}

#[test]
fn s2_26_s0_17_a_stop_with_all_readers_busy_answers_everybody_and_leaves_nothing() {
    in_own_process(
        "host::readers::s2_26_s0_17_a_stop_with_all_readers_busy_answers_everybody_and_leaves_nothing",
        || {
            let (before, after) = Holdings::around(busy_and_stopped);
            assert_eq!((after.threads, after.descriptors), (before.threads, before.descriptors));
            assert!(after.mappings <= before.mappings + 8, "{before:?} {after:?}");
        },
    );
}

/// Lets those who look at it end, also when a test fails meanwhile.
pub(super) struct Ends<'a>(pub(super) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Clients that read the sum until they are told to stop, and how many answers each got.
fn reading<R>(tree: &Tree, work: impl FnOnce(&AtomicUsize) -> R) -> (R, usize) {
    let (enough, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let done = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !enough.load(Ordering::SeqCst) {
                    let sum = tree.call("bank", "total", json!({}));
                    assert_eq!(sum.value(), Some(json!(100)), "{sum:?}");
                    assert!(sum.sequence.0 >= last, "{sum:?} after {last}");
                    last = sum.sequence.0;
                    answers.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _ends = Ends(&enough);
        work(&answers)
    });
    (done, answers.load(Ordering::SeqCst))
}

#[test]
fn u2_s0_17_readers_change_over_with_an_upgrade_and_no_read_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let plans = vec![read_by(2, "bank", "ledger", |_| {})];
    let tree = Tree::durable(plans, store(dir.path()));
    for account in ["ann", "ben", "cyd", "dan"] {
        let paid = tree.committed("bank", "deposit", json!({"account": account, "amount": 25}));
        assert_eq!(paid, 25);
    }
    let before = tree.root.bill();
    let rehearsed = tree.root.upgrade("bank", deployed("ledger-next"), REHEARSAL).unwrap();
    assert_eq!(
        (rehearsed.sequence.0, tree.code("bank", "uses", json!({"account": "ann"})).as_str()),
        (4, "E_CONTRACT_UNKNOWN")
    );
    let ((), answers) = reading(&tree, |answers| {
        until("they read", || answers.load(Ordering::SeqCst) > 50);
        let upgraded = tree.root.upgrade("bank", deployed("ledger-next"), REAL).unwrap();
        assert_eq!((upgraded.sequence.0, upgraded.dry_run), (5, false));
        let by_readers = reads(&tree).1;
        until("readers read again", || reads(&tree).1 > by_readers + 50);
    });
    assert!(answers > 100);
    let generations = tree.view("bank").readers.iter().map(|one| one.report.generation).max();
    assert_eq!(generations, Some(2), "one instance of each code");
    let own = tree.view("bank").report.read;
    assert_eq!(tree.committed("bank", "uses", json!({"account": "ann"})), 0);
    assert_eq!((tree.view("bank").report.read, tree.root.bill()), (own, before));
    assert_eq!(tree.committed("bank", "deposit", json!({"account": "ann", "amount": 5})), 30);
    assert_eq!(tree.committed("bank", "balance", json!({"account": "ann"})), 30);
}

#[test]
fn s0_17_a_revert_is_read_at_once_and_a_copy_has_no_readers() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::durable(vec![read_by(2, "bank", "chaos", |_| {})], store(dir.path()));
    let state = || tree.call("bank", "state", json!({}));
    let mut states = vec![state().value().unwrap()];
    for pages in 1..=6 {
        let touched = tree.committed("bank", "touch", json!({"pages": 20 * pages}));
        assert_eq!(touched, 20 * pages);
        states.push(state().value().unwrap());
    }
    assert_eq!(states.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), 7);
    for (to, place, sequence) in [(2, 2, 7), (6, 6, 8), (0, 0, 9), (5, 5, 10)] {
        let reverted = tree.root.revert("bank", RevertTo::Commit(host::base::ids::Sequence(to)));
        assert_eq!(reverted.unwrap().1.0, sequence);
        for _ in 0..4 {
            let read = state();
            assert_eq!((read.value().unwrap(), read.sequence.0), (states[place].clone(), sequence));
        }
    }
    let never = |_: &[u8]| -> Result<_, Fault> { panic!("nothing is deployed") };
    tree.root.fork("bank", "copy", None, &never).unwrap();
    assert_eq!(tree.committed("copy", "state", json!({})), states[5]);
    assert!(tree.view("copy").readers.is_empty());
    let snapshot = tree.root.snapshot("bank", None).unwrap().1;
    let options = read_by(2, "third", "chaos", |_| {}).options;
    tree.root.restore(&snapshot, options, &|_| Ok(deployed("chaos"))).unwrap();
    assert!(tree.view("third").readers.is_empty());
    assert_eq!(tree.committed("third", "state", json!({})), states[5]);
}
