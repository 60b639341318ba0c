//! Threads of daemons that die of bugs of the host, and what the root does about it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use host::base::clock::{Clock, SystemClock};
use host::base::entropy::SeededEntropy;
use host::base::error::Code;
use host::base::stop::Reason;
use host::base::vitals::Vitals;
use host::mechanisms::sandbox::NoLog;
use host::pure::request::{Answer, Outcome};
use host::pure::supervision::Verdict;
use host::tree::{DaemonPlan, DaemonState, Root, RootOptions};
use serde_json::json;
use supervisor::policy::{Exhausted, Intensity, Policy, Restart};
use tests::{Holdings, Tree, deployed, in_own_process, plan, request, until};

use super::durable::store;

const MINUTE: Duration = Duration::from_secs(60);

fn policy(restarts: u32, exhausted: Exhausted) -> Policy {
    Policy::new(Restart::Permanent)
        .with_intensity(Intensity::new(restarts, MINUTE).unwrap())
        .with_backoff(None)
        .with_exhausted(exhausted)
}

fn counter(name: &str, policy: Policy) -> DaemonPlan {
    plan(name, &deployed("counter"), |options| options.restarts = policy)
}

#[test]
fn s4_14_a_daemon_whose_thread_dies_goes_on_with_its_state_and_its_sibling_does_not_notice() {
    let dir = tempfile::tempdir().unwrap();
    for durable in [false, true] {
        let plans = vec![counter("a", Policy::default()), counter("b", Policy::default())];
        let tree = if durable {
            Tree::durable(plans, store(dir.path()))
        } else {
            Tree::start_quietly(plans)
        };
        assert_eq!(tree.committed("a", "increment", json!({"by": 5})), 5);
        assert_eq!(tree.committed("b", "increment", json!({"by": 7})), 7);
        let (hash, sibling) = (tree.hash("a"), tree.view("b"));
        for death in 1..=3 {
            let before = tree.view("a").report;
            tree.root.let_thread_die("a", 0).unwrap();
            // It waits in the mailbox meanwhile.
            assert_eq!(tree.committed("a", "value", json!({})), 5);
            let view = tree.view("a");
            let (generation, sequence) = (view.report.generation, view.report.sequence);
            assert_eq!((generation, sequence), (before.generation + 1, before.sequence));
            assert_eq!((view.deaths, tree.hash("a")), (death, hash.clone()));
        }
        assert_eq!(tree.committed("a", "increment", json!({"by": 1})), 6);
        assert_eq!(tree.committed("b", "value", json!({})), 7);
        let now = tree.view("b");
        assert_eq!((now.report.generation, now.deaths), (sibling.report.generation, 0));
        let exits = tree.root.thread_exits();
        assert_eq!(exits.len(), 3);
        let named = exits.iter().all(|exit| exit.name == "a" && exit.node == tree.view("a").id);
        assert!(named && exits.iter().all(|exit| exit.panic == "it was asked to die"), "{exits:?}");
        assert!(matches!(exits[0].verdict, Verdict::RestartAt(_)) && exits[0].delay.is_zero());
        assert!(!exits[1].delay.is_zero(), "only the first restart comes at once");
    }
}

/// In the guest, in a function that it calls, and in the code around it.
#[test]
fn s1_11_a_trap_and_a_panic_are_events_with_their_texts_and_whoever_supervises_goes_on() {
    let chaos = plan("chaos", &deployed("chaos"), |options| options.retries_max = 0);
    let tree = Tree::start_quietly(vec![chaos]);
    let last_exit = || tree.view("chaos").report.last_exit.unwrap();
    let crash = |how: &str| {
        let answer = tree.call("chaos", "die", json!({"how": how}));
        let Outcome::Crashed(crash) = answer.outcome else { panic!("{answer:?}") };
        let exit = last_exit();
        assert_eq!((exit.code, exit.generation), (crash.code, crash.generation.0));
        assert!(exit.unix_nanos > 0);
        crash
    };
    for (how, code, text) in [
        ("panic", Code::Unreachable, "died on request"),
        ("out_of_bounds", Code::MemoryTrap, "out of bounds memory access"),
        ("divide_by_zero", Code::Arithmetic, "divide by zero"),
    ] {
        let crash = crash(how);
        assert_eq!(crash.code, code);
        assert!(crash.message.contains(text) && !crash.backtrace.is_empty(), "{crash:?}");
    }
    tree.root.panic_in_next_host_call("chaos").unwrap();
    let bug = crash("hostcall_storm");
    assert_eq!(bug.code, Code::HostBug);
    assert!(bug.message.contains("a panic that a test asked for"), "{bug:?}");
    let before = tree.view("chaos");
    assert_eq!((before.deaths, before.report.restarts), (0, 4), "none of them ended its thread");
    tree.root.let_thread_die("chaos", 0).unwrap();
    assert_eq!(tree.committed("chaos", "balances", json!({})), json!([1000, 1000]));
    let exits = tree.root.thread_exits();
    assert_eq!((exits.len(), exits[0].panic.as_str()), (1, "it was asked to die"));
    assert_eq!((last_exit().code, tree.view("chaos").deaths), (Code::HostBug, 1));
    assert_eq!(tree.view("chaos").id, before.id);
}

#[test]
fn r9_a_daemon_that_dies_as_soon_as_it_begins_starves_nobody_and_ends_as_its_policy_says() {
    let plans = vec![
        counter("storm", policy(100, Exhausted::Park)),
        counter("lucky", policy(100, Exhausted::Park)),
        counter("sibling", policy(0, Exhausted::Park)),
    ];
    let tree = Tree::start_quietly(plans);
    assert_eq!(tree.committed("storm", "increment", json!({"by": 3})), 3);
    tree.root.let_thread_die("lucky", 99).unwrap();
    tree.root.let_thread_die("storm", 1000).unwrap();
    let mut calls = 0_u64;
    while tree.view("storm").report.state != DaemonState::Parked {
        calls += 1;
        assert_eq!(tree.committed("sibling", "increment", json!({"by": 1})), calls);
    }
    assert!(calls > 0, "the sibling never had its turn");
    assert_eq!(tree.view("storm").deaths, 101, "a hundred restarts and no more");
    until("up again", || tree.view("lucky").deaths == 100);
    assert_eq!(tree.committed("lucky", "value", json!({})), 0);
    assert_eq!(tree.view("lucky").report.generation, 2, "only one got as far as an instance");
    // Parked: refused at once, until a person resumes it.
    assert_eq!(tree.code("storm", "value", json!({})), "E_PARKED");
    let parked = tree.view("storm").report.parked.unwrap();
    assert_eq!(parked.code, Code::Restarts, "{parked}");
    let exits = tree.root.thread_exits();
    let last = exits.iter().rfind(|exit| exit.name == "storm").unwrap();
    assert_eq!(last.verdict, Verdict::Park);
    // All that is left of the storm dies, too.
    while tree.root.resume("storm").is_err() {
        until("parked again", || tree.view("storm").report.state == DaemonState::Parked);
    }
    assert_eq!(tree.committed("storm", "value", json!({})), 3);
    let sibling = tree.view("sibling");
    assert_eq!((sibling.report.generation, sibling.deaths), (1, 0));
}

fn root_with(plans: Vec<DaemonPlan>, clock: Arc<dyn Clock>, vitals: &Arc<Vitals>) -> Root {
    let mut options = RootOptions::new(usize::MAX, clock, Arc::new(SeededEntropy::new(7)));
    options.logs = Some(Box::new(|_name| Arc::new(NoLog)));
    options.vitals = vitals.clone();
    Root::start(plans, options).unwrap()
}

#[test]
fn r9_s3_04_a_policy_that_ends_in_an_emergency_sets_the_latch_and_nothing_is_started_again() {
    let vitals = Arc::new(Vitals::default());
    let plans =
        vec![counter("a", policy(2, Exhausted::Emergency)), counter("b", Policy::default())];
    let mut root = root_with(plans, Arc::new(SystemClock::new()), &vitals);
    root.let_thread_die("a", 100).unwrap();
    until("an emergency", || vitals.stop().is_set());
    assert_eq!(vitals.stop().reason(), Some(Reason::Emergency(Code::Restarts)));
    let text = vitals.stop().text().unwrap();
    assert!(text.contains("`a`") && text.contains("3 times") && text.contains("asked to die"));
    // The others end in order: a death now is none that is mended.
    root.let_thread_die("b", 0).unwrap();
    until("over", || root.thread_exits().last().unwrap().verdict == Verdict::Over);
    root.stop();
    assert!(root.daemons_left().is_empty());
}

#[test]
fn requests_that_wait_at_a_daemon_without_a_thread_are_refused_when_the_root_stops() {
    let vitals = Arc::new(Vitals::default());
    let slow = policy(5, Exhausted::Park)
        .with_backoff(supervisor::policy::Backoff::new(MINUTE, 1, MINUTE, 0).unwrap());
    let mut root = root_with(vec![counter("a", slow)], Arc::new(SystemClock::new()), &vitals);
    root.let_thread_die("a", 1).unwrap();
    until("restarting", || root.daemons()[0].report.state == DaemonState::Restarting);
    let (reply, answers) = channel::<Answer>();
    for _ in 0..3 {
        let reply = reply.clone();
        let answer = Box::new(move |answer| reply.send(answer).unwrap());
        root.submit(request("a", "increment", json!({"by": 1})), answer);
    }
    root.stop();
    let codes = answers.try_iter().map(|answer| answer.to_json()["error"]["code"].to_string());
    assert_eq!(codes.collect::<Vec<_>>(), vec!["\"E_STOPPING\""; 3]);
}

/// A clock that lets the thread of a daemon die when it is read for the nth time.
#[derive(Debug, Default)]
pub(crate) struct DeadlyClock {
    real: SystemClock,
    left: AtomicU64,
}

impl DeadlyClock {
    /// From now on; never with 0.
    pub(crate) fn die_at(&self, nth: u64) {
        self.left.store(nth, Ordering::SeqCst);
    }

    fn tick(&self) {
        let daemon = std::thread::current().name().is_some_and(|name| name.starts_with("daemon-"));
        let last = |left: u64| left.checked_sub(1);
        if daemon && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, last) == Ok(1) {
            std::panic::resume_unwind(Box::new("the clock stands still"));
        }
    }
}

impl Clock for DeadlyClock {
    fn monotonic_nanos(&self) -> u64 {
        self.tick();
        self.real.monotonic_nanos()
    }

    fn unix_nanos(&self) -> u64 {
        self.tick();
        self.real.unix_nanos()
    }
}

/// Wherever the thread dies: each request is answered once, truthfully, and the state is the one
/// from before it or from after it.
#[test]
fn c14_s4_14_a_thread_may_die_at_any_reading_of_the_clock_and_no_answer_lies() {
    let (mut seen, mut died) = (BTreeSet::new(), 0);
    for nth in 1..40 {
        for contract in ["increment", "value"] {
            let clock = Arc::new(DeadlyClock::default());
            let plans = vec![counter("a", policy(5, Exhausted::Park))];
            let root = root_with(plans, clock.clone(), &Arc::default());
            let ask = |contract: &str| {
                let args = if contract == "value" { json!({}) } else { json!({"by": 1}) };
                root.call(request("a", contract, args)).unwrap()
            };
            assert_eq!(ask("increment").value(), Some(json!(1)));
            clock.die_at(nth);
            let answer = ask(contract);
            clock.die_at(0);
            let now = ask("value").value();
            let one = Some(json!(1));
            let two = Some(json!(2));
            let may = match (&answer.outcome, contract) {
                (Outcome::Committed(_), "increment") => now == two,
                (Outcome::Unknown(_), "increment") => now == one || now == two,
                _ => now == one,
            };
            assert!(may, "{contract}, death {nth}: {answer:?}, then {now:?}");
            died += root.daemons()[0].deaths;
            seen.insert(answer.outcome.word());
        }
    }
    eprintln!("{died} deaths: {seen:?}");
    assert!(died > 4 && seen.contains("crashed") && seen.contains("committed"), "{died} {seen:?}");
}

#[test]
fn s3_02_s4_11_a_thousand_deaths_leave_no_thread_descriptor_or_memory() {
    in_own_process(
        "host::supervision::s3_02_s4_11_a_thousand_deaths_leave_no_thread_descriptor_or_memory",
        || {
            let endless = policy(0, Exhausted::Park).with_intensity(None);
            let tree = Tree::start_quietly(vec![counter("a", endless)]);
            let die = |times: u64| {
                let goal = tree.view("a").deaths + times;
                for _ in 0..times {
                    tree.root.let_thread_die("a", 0).unwrap();
                    assert_eq!(tree.committed("a", "value", json!({})), 0);
                }
                assert_eq!(tree.view("a").deaths, goal);
            };
            // The last thread that died tells of it before it has ended.
            let threads = Holdings::now().threads;
            let holdings = || {
                until("the dead have ended", || Holdings::now().threads == threads);
                Holdings::now()
            };
            die(100);
            let before = holdings();
            die(1000);
            let after = holdings();
            assert_eq!((after.threads, after.descriptors), (before.threads, before.descriptors));
            let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
            assert!(grown < 4 << 20, "{grown} bytes more: {before:?} {after:?}");
        },
    );
}
