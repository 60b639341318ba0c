//! Readers of a daemon with a journal or with resources, and what is refused at readers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::base::clock::SystemClock;
use host::base::entropy::SeededEntropy;
use host::base::error::{Code, Fault};
use host::base::failpoint::{Action, Failure, Point, arm};
use host::base::limits::DAEMON_OVERHEAD_BYTES;
use host::mechanisms::memory::{Followed, Follower, Images};
use host::mechanisms::sandbox::NoLog;
use host::pure::request::{Answer, Outcome, Request};
use host::tree::{
    Daemon, DaemonOptions, DaemonPlan, DaemonState, LeaseView, Replayed, RevertTo, World, replay,
};
use serde_json::{Value, json};
use tests::{Fake, REAL, Tree, bind, deployed, in_own_process, limit_for, rebuilt, request, until};

use super::durable::store;
use super::readers::{Ends, MINUTE, Sending, balances, code, read_by, reader, reads, seen, valved};

const CACHE: &str = "bank/cache";

#[test]
fn d1_s0_17_the_answer_of_a_read_waits_for_the_commits_that_it_saw() {
    in_own_process(
        "host::reads_durable::d1_s0_17_the_answer_of_a_read_waits_for_the_commits_that_it_saw",
        || {
            let dir = tempfile::tempdir().unwrap();
            let plans = vec![read_by(2, "bank", "counter", |_| {})];
            let tree = Tree::durable(plans, store(dir.path()));
            let read = || request("bank", "value", json!({}));
            assert_eq!(tree.committed("bank", "increment", json!({"by": 1})), 1);
            assert_eq!(tree.root.call(read()).unwrap().value(), Some(json!(1)));
            let sent = Sending::new();
            arm(Failure { point: Point::BeforeSync, nth: 1, action: Action::Stall });
            sent.submit(&tree, request("bank", "increment", json!({"by": 1})));
            until("it has committed", || tree.view("bank").report.sequence == 2);
            for _ in 0..4 {
                sent.submit(&tree, read());
            }
            until("they have run", || reads(&tree).1 == 5);
            // The disk takes two seconds; whoever has seen the commit waits for it, behind it.
            let first = sent.next();
            assert_eq!((first.contract.as_str(), first.value()), ("increment", Some(json!(2))));
            for _ in 0..4 {
                let answer = sent.next();
                assert_eq!((answer.value(), answer.sequence.0), (Some(json!(2)), 2));
            }
            assert_eq!(reads(&tree), (0, 5));
        },
    );
}

#[test]
fn d1_s0_17_a_commit_is_published_by_who_hands_it_to_the_journal_and_not_before() {
    let guest = deployed("counter");
    let mut images = Images::new(4 << 20, &guest.shape()).unwrap();
    let mut follower = Follower::new(&images.share());
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SeededEntropy::new(7)));
    let (log, outputs) = (Arc::new(NoLog), Arc::default());
    let world = World { clock, entropy, log, outputs, hold: None };
    let options = DaemonOptions::new("counter", 4 << 20);
    let mut daemon = Daemon::start(guest.clone(), images, options, world).unwrap();
    let transacted = daemon.transact(&bind(&guest, "increment", &json!({"by": 1})));
    assert!(matches!(transacted.outcome, Outcome::Committed(_)));
    let mut images = Images::new(4 << 20, &guest.shape()).unwrap();
    let followed = images.follow(&mut follower, Duration::ZERO, true).unwrap();
    assert_eq!((followed, images.committed_size()), (Followed::Late, 0));
    drop(daemon);
    assert_eq!(images.follow(&mut follower, MINUTE, true), Ok(Followed::Over));
}

/// What was answered as of each commit; one commit has one value, whoever tells of it.
#[derive(Default)]
struct Told(Mutex<BTreeMap<u64, Value>>);

impl Told {
    fn note(&self, answer: &Answer) {
        if let Outcome::Committed(_) = answer.outcome {
            let (value, sequence) = (answer.value().unwrap(), answer.sequence.0);
            let mut told = self.0.lock().unwrap();
            let first = told.entry(sequence).or_insert_with(|| value.clone());
            assert_eq!(*first, value, "two states of commit {sequence}: {answer:?}");
        }
    }
}

#[test]
fn d7_s0_17_what_a_failed_journal_lost_was_read_by_nobody() {
    const FAILURES: u64 = 25;
    in_own_process(
        "host::reads_durable::d7_s0_17_what_a_failed_journal_lost_was_read_by_nobody",
        || {
            let dir = tempfile::tempdir().unwrap();
            let plans = vec![read_by(2, "bank", "counter", |options| options.verify = false)];
            let tree = Tree::durable(plans, store(dir.path()));
            let (told, enough) = (Told::default(), AtomicBool::new(false));
            let lost = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while !enough.load(Ordering::SeqCst) {
                            told.note(&tree.call("bank", "value", json!({})));
                        }
                    });
                }
                let _ends = Ends(&enough);
                for by in 1..=FAILURES {
                    arm(Failure { point: Point::BeforeAppend, nth: 3, action: Action::Error });
                    until("it has failed, and goes on", || {
                        // Never the same amount twice, so that each commit has a value of its own.
                        let lost = 1 + lost.fetch_add(1, Ordering::SeqCst);
                        let args = json!({"by": 1000 * lost + by});
                        let answer = tree.call("bank", "increment", args);
                        told.note(&answer);
                        !matches!(answer.outcome, Outcome::Committed(_))
                    });
                    until("it commits again", || {
                        let answer = tree.call("bank", "increment", json!({"by": by}));
                        told.note(&answer);
                        matches!(answer.outcome, Outcome::Committed(_))
                    });
                    until("readers read again", || {
                        let before = reads(&tree).1;
                        told.note(&tree.call("bank", "value", json!({})));
                        reads(&tree).1 > before
                    });
                }
            });
            let last = tree.call("bank", "value", json!({}));
            told.note(&last);
            drop(tree);
            let plans = vec![read_by(2, "bank", "counter", |_| {})];
            let tree = Tree::durable(plans, store(dir.path()));
            assert_eq!(tree.call("bank", "value", json!({})).value(), last.value());
        },
    );
}

#[test]
fn d7_s0_17_a_read_of_a_commit_that_is_gone_is_refused_when_another_one_has_its_number() {
    in_own_process(
        "host::reads_durable::d7_s0_17_a_read_of_a_commit_that_is_gone_is_refused_when_another_one_has_its_number",
        || {
            let dir = tempfile::tempdir().unwrap();
            let plans = vec![read_by(2, "bank", "chaos", |_| {})];
            let (tree, valve) = valved(plans, Some(store(dir.path())));
            let touch = || request("bank", "touch", json!({"pages": 1}));
            for _ in 0..10 {
                let sent = Sending::new();
                assert_eq!(tree.committed("bank", "touch", json!({"pages": 1})), 1);
                let lost = tree.view("bank").report.sequence + 1;
                arm(Failure { point: Point::BeforeAppend, nth: 1, action: Action::Error });
                sent.submit(&tree, touch());
                until("it has committed", || tree.view("bank").report.sequence == lost);
                // Most times this is before the journal is there again, and the daemon has noticed.
                valve.turn(false);
                sent.wait_at(&tree, &valve, 2);
                assert!(matches!(sent.next().outcome, Outcome::Unknown(_)));
                until("it commits again", || {
                    let answer = tree.root.call(touch()).unwrap();
                    answer.value().is_some() && answer.sequence.0 >= lost
                });
                valve.turn(true);
                for answer in [sent.next(), sent.next()] {
                    let before = answer.sequence.0 < lost;
                    assert!(before || code(&answer) == "E_STORE_POISONED", "{lost}: {answer:?}");
                }
            }
        },
    );
}

#[test]
fn s0_17_a_read_that_crashes_can_be_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let small = |options: &mut DaemonOptions| options.limits.fuel = 1_500_000;
    let tree = Tree::durable(vec![read_by(2, "bank", "chaos", small)], store(dir.path()));
    for mib in 1..=2 {
        assert_eq!(tree.committed("bank", "hold", json!({"mib": 1})), mib);
    }
    let crashed = tree.call("bank", "state", json!({}));
    let Outcome::Crashed(crash) = &crashed.outcome else { panic!("{crashed:?}") };
    assert_eq!((crash.code, reads(&tree).0), (Code::Fuel, 0));
    let id = crash.report.unwrap();
    until("it is written", || tree.root.crash(id).is_ok());
    let report = tree.root.crash(id).unwrap();
    assert_eq!((report.daemon.as_str(), report.sequence.0), ("bank", 2));
    assert_eq!(tree.root.crashes("bank", 9).unwrap().len(), 1);
    let materials = tree.root.replay_materials(id).unwrap();
    let guest = deployed("chaos");
    match replay(&guest, &materials, &materials.limits(), Arc::new(NoLog)).unwrap() {
        Replayed::Crashed { crash: second, .. } => assert_eq!(second.fuel_used, crash.fuel_used),
        other => panic!("{crash:?}, and then {other:?}"),
    }
}

#[test]
fn s0_02_s0_17_readers_wait_for_the_resources_of_their_daemon() {
    let cache = Fake::alive();
    let needing =
        || DaemonPlan { needs: vec![CACHE.to_owned()], ..read_by(2, "bank", "chaos", |_| {}) };
    let tree = Tree::with_resources(vec![needing()], vec![cache.plan(CACHE, &[])], None);
    let generations = || {
        let view = tree.view("bank");
        let readers = view.readers.iter().map(|reader| reader.report.generation);
        [view.report.generation].into_iter().chain(readers).collect::<Vec<_>>()
    };
    until("all have begun", || generations() == [1, 1, 1]);
    assert_eq!(tree.root.resources()[0].needed_by, ["bank"]);
    for recovery in 1..=3 {
        assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
        cache.kill();
        until("it is down", || tree.code("bank", "balances", json!({})) == "E_UNAVAILABLE");
        let sent = Sending::new();
        for wait in [MINUTE, Duration::from_millis(20), MINUTE] {
            sent.submit(&tree, Request { wait: Some(wait), ..balances() });
        }
        let late = sent.next();
        assert_eq!(code(&late), "E_UNAVAILABLE");
        until("all wait", || {
            let view = tree.view("bank");
            let mut states = view.nodes().map(|node| node.report.state);
            states.all(|state| state == DaemonState::Waiting)
        });
        cache.revive();
        assert_eq!(sent.take(2), seen([("balances", "", 2)]));
        until("all are started, once", || generations() == [recovery + 1; 3]);
    }
    let leases: Vec<LeaseView> = tree.root.resources().remove(0).leases;
    assert!(leases.is_empty(), "{leases:?}");
    // At the start there is no state to read before it is there.
    let cache = Fake::default();
    let tree = Tree::with_resources(vec![needing()], vec![cache.plan(CACHE, &[])], None);
    assert_eq!(tree.code("bank", "balances", json!({})), "E_UNAVAILABLE");
    cache.revive();
    let patient = Request { wait: Some(MINUTE), ..balances() };
    assert_eq!(tree.root.call(patient).unwrap().value(), Some(json!([1000, 1000])));
    until("readers read", || {
        assert_eq!(tree.committed("bank", "balances", json!({})), json!([1000, 1000]));
        reads(&tree).1 > 0
    });
}

#[test]
fn s4_22_s0_17_each_reader_is_on_the_bill() {
    let each = 2 * (4 << 20) + DAEMON_OVERHEAD_BYTES;
    let plans = || vec![read_by(2, "bank", "chaos", |_| {})];
    let refused = Tree::try_start(plans(), limit_for(3 * each) - 1).unwrap_err();
    let refused = Fault::from(&refused);
    assert_eq!(refused.code, Code::Budget);
    for word in ["  bank ", "  bank/reader-0 ", "  bank/reader-1 ", "sum"] {
        assert!(refused.message.contains(word), "{word} is not in {}", refused.message);
    }
    let tree = Tree::try_start(plans(), limit_for(3 * each)).unwrap();
    let bill = tree.root.bill();
    assert_eq!(bill.total_bytes(), 3 * each + bill.traffic_bytes);
    let names = tree.view("bank").readers.into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names, ["bank/reader-0", "bank/reader-1"]);
    // An upgrade needs as much again, for as long as both codes are there.
    let guest = || tests::deploy(&rebuilt("chaos", 1)).unwrap();
    assert_eq!(tree.root.upgrade("bank", guest(), REAL).unwrap_err().code, Code::Budget);
    drop(tree);
    let tree = Tree::try_start(plans(), limit_for(6 * each)).unwrap();
    assert!(tree.root.upgrade("bank", guest(), REAL).is_ok());
    let bill = tree.root.bill();
    assert_eq!(bill.total_bytes(), 3 * each + bill.traffic_bytes);
}

#[test]
fn what_a_reader_has_not_got_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, _valve) = valved(vec![read_by(2, "bank", "chaos", |_| {})], Some(store(dir.path())));
    assert_eq!(tree.committed("bank", "touch", json!({"pages": 1})), 1);
    let (root, name) = (&tree.root, "bank/reader-1");
    let never = |_: &[u8]| -> Result<_, Fault> { panic!("nothing is deployed") };
    for (what, refused) in [
        ("commits", root.commits(name, 1).map(drop)),
        ("snapshot", root.snapshot(name, None).map(drop)),
        ("fork", root.fork(name, "copy", None, &never).map(drop)),
        ("revert", root.revert(name, RevertTo::Last(1)).map(drop)),
        ("upgrade", root.upgrade(name, deployed("counter"), REAL).map(drop)),
        ("crashes", root.crashes(name, 1).map(drop)),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, Code::Stateless, "{what}");
        assert!(refused.message.contains("is a reader of daemon `bank`"), "{refused}");
    }
    for refused in [root.pause(name, false).map(drop), root.cancel(name)] {
        assert_eq!(refused.unwrap_err().code, Code::DaemonUnknown);
    }
    assert_eq!(root.remove(name).unwrap_err().code, Code::DaemonFile);
    assert!(root.simulate_crash(name).is_ok(), "a drill has an instance");
    assert!(root.simulate_thread_death(name).is_ok());
    until("it is there", || reader(&tree, 1).report.state == DaemonState::Ready);
    let unknown =
        tree.call("bang", "balances", json!({})).to_json()["error"]["message"].to_string();
    assert!(unknown.contains("there are bank\""), "{unknown}");
    drop(tree);
    let names = store(dir.path()).daemons().into_iter().map(|(name, _)| name);
    assert_eq!(names.collect::<Vec<_>>(), ["bank"]);
}
