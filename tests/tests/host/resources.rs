//! Resources that die and come back, and the daemons that need them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::supervision::DeadlyClock;
use host::base::clock::{Clock, SystemClock};
use host::base::entropy::SeededEntropy;
use host::base::error::{Code, Fault};
use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use host::mechanisms::providers::directory::Directory;
use host::mechanisms::providers::stateless::Stateless;
use host::mechanisms::sandbox::NoLog;
use host::pure::manifest::Access;
use host::pure::request::{Answer, Outcome, Request};
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonPlan, DaemonState, ResourcePlan, ResourceView, Root, RootOptions};
use serde_json::json;
use supervisor::Backoff;
use tests::{
    Fake, Holdings, REAL, Tree, deploy, deployed, in_own_process, plan, rebuilt, request, until,
};

const CACHE: &str = "bank/cache";

const MINUTE: Duration = Duration::from_secs(60);

fn needing(plan: DaemonPlan, needs: &[&str]) -> DaemonPlan {
    let needs = needs.iter().map(|&name| name.to_owned()).collect();
    DaemonPlan { needs, ..plan }
}

fn counter(name: &str, needs: &[&str]) -> DaemonPlan {
    needing(plan(name, &deployed("counter"), |_| {}), needs)
}

/// A daemon whose transactions spin until they are cancelled.
fn spinner(needs: &[&str]) -> DaemonPlan {
    let spinner = plan("spinner", &deployed("chaos"), |options| {
        options.limits.fuel = u64::MAX / 2;
        options.limits.deadline = MINUTE;
    });
    needing(spinner, needs)
}

fn resource(tree: &Tree, name: &str) -> ResourceView {
    tree.root.resources().into_iter().find(|view| view.name == name).unwrap()
}

fn is_up(tree: &Tree, name: &str) -> bool {
    resource(tree, name).status == Status::Available
}

fn state(tree: &Tree, daemon: &str) -> DaemonState {
    tree.view(daemon).report.state
}

fn generation(tree: &Tree, daemon: &str) -> u64 {
    tree.view(daemon).report.generation
}

fn waiting(daemon: &str, wait: Duration) -> Request {
    Request { wait: Some(wait), ..request(daemon, "increment", json!({"by": 1})) }
}

/// The machine's clock, and what it jumped ahead.
#[derive(Debug, Default)]
struct AheadClock(SystemClock, AtomicU64);

impl Clock for AheadClock {
    fn unix_nanos(&self) -> u64 {
        self.0.unix_nanos()
    }

    fn monotonic_nanos(&self) -> u64 {
        self.0.monotonic_nanos() + self.1.load(Ordering::Relaxed)
    }
}

/// An hour in which nothing was asked is not added to what a request waits.
#[test]
fn s0_01_a_request_waits_for_a_resource_as_long_as_it_says_however_long_the_host_is_up() {
    let (cache, clock) = (Fake::alive(), Arc::new(AheadClock::default()));
    let options = RootOptions {
        resources: vec![cache.plan(CACHE, &[])],
        ..RootOptions::new(usize::MAX, clock.clone(), Arc::new(SeededEntropy::new(7)))
    };
    let root = Root::start(vec![counter("bank", &[CACHE])], options).unwrap();
    let tree = Tree { root, lines: Arc::default() };
    until("up", || is_up(&tree, CACHE));
    assert_eq!(tree.committed("bank", "increment", json!({"by": 3})), 3);
    cache.kill();
    until("down", || !is_up(&tree, CACHE) && state(&tree, "bank") == DaemonState::Waiting);
    clock.1.store(3_600_000_000_000, Ordering::Relaxed);
    let (reply, answer) = channel();
    let asked = waiting("bank", Duration::from_millis(50));
    tree.root.submit(asked, Box::new(move |answer| drop(reply.send(answer))));
    let answer = answer.recv_timeout(MINUTE).unwrap();
    let Outcome::Rejected(rejection) = answer.outcome else { panic!("{answer:?}") };
    assert_eq!(rejection.code, "E_UNAVAILABLE");
}

#[test]
fn s0_01_a_request_whose_resource_is_down_is_refused_and_the_next_one_succeeds() {
    let cache = Fake::alive();
    let plans = vec![counter("bank", &[CACHE]), counter("alone", &[])];
    let tree = Tree::with_resources(plans, vec![cache.plan(CACHE, &[])], None);
    assert_eq!(tree.committed("bank", "increment", json!({"by": 3})), 3);
    cache.kill();
    until("waiting", || state(&tree, "bank") == DaemonState::Waiting);
    let refused = tree.call("bank", "value", json!({}));
    let Outcome::Rejected(rejection) = &refused.outcome else { panic!("{refused:?}") };
    assert_eq!(rejection.code, "E_UNAVAILABLE");
    let expected = "daemon `bank` needs resource `bank/cache`: it was killed";
    assert_eq!(rejection.message, expected);
    assert_eq!(tree.committed("alone", "increment", json!({"by": 1})), 1);
    cache.revive();
    until("back", || tree.code("bank", "value", json!({})).is_empty());
    assert_eq!(tree.committed("bank", "increment", json!({"by": 1})), 4);
    let report = tree.view("bank").report;
    assert_eq!((report.generation, report.resource_restarts), (2, 1));
    assert_eq!((report.crashed, report.restarts, report.cancelled), (0, 0, 0));
    assert_eq!(generation(&tree, "alone"), 1);
}

#[test]
fn s0_02_s0_10_exactly_the_transactions_with_a_lease_are_cancelled() {
    let (cache, other) = (Fake::alive(), Fake::alive());
    let resources = vec![cache.plan(CACHE, &[]), other.plan("bank/other", &[])];
    let plans = vec![spinner(&[CACHE, "bank/other"]), counter("bank", &[CACHE])];
    let tree = Tree::with_resources(plans, resources, None);
    std::thread::scope(|scope| {
        let spins = scope.spawn(|| tree.call("spinner", "die", json!({"how": "spin"})));
        until("a lease", || !resource(&tree, CACHE).leases.is_empty());
        let lease = resource(&tree, CACHE).leases[0].clone();
        assert_eq!(lease.daemon, tree.view("spinner").id);
        assert_eq!(resource(&tree, "bank/other").leases[0].request, lease.request);
        cache.kill();
        let answer = spins.join().unwrap();
        let Outcome::Cancelled(stale) = &answer.outcome else { panic!("{answer:?}") };
        assert_eq!((stale.resource.as_str(), stale.lease), (CACHE, lease.id));
        assert_eq!(answer.request, lease.request);
        let line = answer.to_json();
        assert_eq!(line["outcome"], "cancelled");
        assert_eq!(line["error"]["code"], "E_HANDLE_STALE");
        assert_eq!(line["error"]["lease"], lease.id.0);
    });
    // Also those of other resources are given back.
    assert!(tree.root.resources().iter().all(|resource| resource.leases.is_empty()));
    let report = tree.view("spinner").report;
    assert_eq!((report.crashed, report.restarts, report.cancelled), (0, 0, 1));
    cache.revive();
    until("ready", || state(&tree, "spinner") == DaemonState::Ready);
    until("ready", || state(&tree, "bank") == DaemonState::Ready);
    assert_eq!((generation(&tree, "spinner"), generation(&tree, "bank")), (2, 2));
    // What is not needed is not noticed.
    other.kill();
    until("waiting", || state(&tree, "spinner") == DaemonState::Waiting);
    assert_eq!(tree.committed("bank", "increment", json!({"by": 1})), 1);
    assert_eq!(generation(&tree, "bank"), 2);
}

/// How the requests of one daemon ended.
#[derive(Default)]
struct Seen {
    values: BTreeSet<u64>,
    others: BTreeMap<String, u64>,
}

fn load(tree: &Tree, daemon: &str, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !over.load(Ordering::Relaxed) {
        let answer = tree.call(daemon, "increment", json!({"by": 1}));
        match (answer.value(), &answer.outcome) {
            (Some(value), _) => {
                assert!(seen.values.insert(value.as_u64().unwrap()), "{value} twice");
            }
            (None, Outcome::Rejected(no)) => *seen.others.entry(no.code.clone()).or_default() += 1,
            (None, other) => *seen.others.entry(other.word().to_owned()).or_default() += 1,
        }
    }
    seen
}

fn flaps_under_load(journal: Option<Arc<Store>>) {
    const DEATHS: u64 = 8;
    let cache = Fake::alive();
    let plans = vec![
        counter("a", &[CACHE]),
        counter("b", &[CACHE]),
        counter("c", &[]),
        counter("d", &["bank/rock"]),
    ];
    let rock = Fake::alive();
    let resources = vec![cache.plan(CACHE, &["first", "second"]), rock.plan("bank/rock", &[])];
    let tree = Tree::with_resources(plans, resources, journal);
    let over = AtomicBool::new(false);
    let seen: Vec<Vec<Seen>> = std::thread::scope(|scope| {
        let (tree, over) = (&tree, &over);
        let clients = ["a", "b", "c", "d"]
            .map(|daemon| [0, 1].map(|_| scope.spawn(move || load(tree, daemon, over))));
        for death in 1..=DEATHS {
            cache.kill();
            until("down", || !is_up(tree, CACHE));
            until("waiting", || state(tree, "a") == DaemonState::Waiting);
            until("waiting", || state(tree, "b") == DaemonState::Waiting);
            assert_eq!(cache.jobs().len() as u64, 2 * death, "not while it is down");
            cache.revive();
            until("up", || is_up(tree, CACHE));
            for daemon in ["a", "b"] {
                until("started once", || generation(tree, daemon) == death + 1);
            }
        }
        over.store(true, Ordering::Relaxed);
        clients.map(|pair| pair.map(|client| client.join().unwrap()).into()).into()
    });
    for (daemon, seen) in ["a", "b", "c", "d"].into_iter().zip(seen) {
        let report = tree.view(daemon).report;
        // No answer is lost, and none was given to two: the values are one after the other.
        let values: BTreeSet<u64> = seen.iter().flat_map(|seen| seen.values.clone()).collect();
        assert!(values.iter().copied().eq(1..=report.committed), "{daemon}");
        let others: BTreeSet<&str> =
            seen.iter().flat_map(|seen| seen.others.keys().map(String::as_str)).collect();
        let dependent = ["a", "b"].contains(&daemon);
        if dependent {
            assert!(others.is_subset(&["E_UNAVAILABLE", "cancelled"].into()), "{others:?}");
        } else {
            assert_eq!(others, BTreeSet::new(), "{daemon}");
        }
        let generation = if dependent { DEATHS + 1 } else { 1 };
        assert_eq!((report.generation, report.crashed, report.restarts), (generation, 0, 0));
    }
    let jobs = cache.jobs();
    assert_eq!(jobs.len() as u64, 2 * (DEATHS + 1));
    assert!(jobs.chunks(2).all(|run| run == ["first", "second"]), "{jobs:?}");
    assert_eq!(resource(&tree, CACHE).generation.0, DEATHS + 1);
    assert!(resource(&tree, CACHE).leases.is_empty());
}

#[test]
fn s0_03_s0_12_each_dependent_starts_once_per_recovery_and_after_its_jobs() {
    flaps_under_load(None);
    let dir = tempfile::tempdir().unwrap();
    flaps_under_load(Some(store(dir.path())));
}

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, StoreOptions::default(), DirectoryId(9)).unwrap())
}

#[test]
fn s0_11_a_job_that_fails_keeps_its_resource_down() {
    let cache = Fake::alive();
    let resources = vec![cache.plan(CACHE, &["load"])];
    let tree = Tree::with_resources(vec![counter("bank", &[CACHE])], resources, None);
    assert_eq!(cache.jobs(), ["load"]);
    cache.fail_jobs(true);
    cache.kill();
    cache.revive();
    until(
        "said",
        || matches!(resource(&tree, CACHE).status, Status::Down { why, .. } if why.contains("it says no")),
    );
    assert_eq!(tree.code("bank", "value", json!({})), "E_UNAVAILABLE");
    cache.fail_jobs(false);
    until("back", || tree.code("bank", "value", json!({})).is_empty());
    assert_eq!((cache.jobs().len(), generation(&tree, "bank")), (2, 2));
}

#[test]
fn s0_01_a_request_may_wait_for_its_resource() {
    let cache = Fake::alive();
    let resources = vec![cache.plan(CACHE, &[])];
    let tree = Tree::with_resources(vec![counter("bank", &[CACHE])], resources, None);
    cache.kill();
    until("waiting", || state(&tree, "bank") == DaemonState::Waiting);
    let late = tree.root.call(waiting("bank", Duration::from_millis(20))).unwrap();
    assert!(matches!(&late.outcome, Outcome::Rejected(no) if no.code == "E_UNAVAILABLE"));
    std::thread::scope(|scope| {
        let waits = [0, 1].map(|_| scope.spawn(|| tree.root.call(waiting("bank", MINUTE))));
        until("held", || tree.view("bank").held == 2);
        assert_eq!(tree.code("bank", "value", json!({})), "E_UNAVAILABLE", "it doesn't wait");
        cache.revive();
        let values: BTreeSet<_> =
            waits.map(|wait| wait.join().unwrap().unwrap().value().unwrap().as_u64()).into();
        assert_eq!(values, [Some(1), Some(2)].into());
    });
    assert_eq!(generation(&tree, "bank"), 2);
}

#[test]
fn whoever_waits_for_a_resource_is_served_when_it_returns() {
    const REQUESTS: usize = 500;
    const ROUNDS: usize = 6;
    let cache = Fake::alive();
    let resources = vec![cache.plan(CACHE, &[])];
    let tree = Tree::with_resources(vec![counter("bank", &[CACHE])], resources, None);
    let (sender, answers) = channel();
    let submit = || {
        let sender = sender.clone();
        let reply = Box::new(move |answer: Answer| sender.send(answer).unwrap());
        tree.root.submit(waiting("bank", MINUTE), reply);
    };
    for round in 1..=ROUNDS {
        cache.kill();
        // Some come while the daemon still runs, some while it waits, some while it starts.
        for index in 0..REQUESTS {
            submit();
            if index == REQUESTS / 10 {
                until("waiting", || state(&tree, "bank") == DaemonState::Waiting);
                cache.revive();
            }
            if index > REQUESTS / 10 {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        let mut left = REQUESTS;
        while left > 0 {
            let answer = answers.recv_timeout(MINUTE).unwrap();
            match answer.outcome {
                Outcome::Committed(_) => left -= 1,
                // It ran when the resource died.
                Outcome::Cancelled(_) => submit(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(tree.committed("bank", "value", json!({})), round * REQUESTS);
    }
}

#[test]
fn a_daemon_whose_resource_is_down_at_the_start_waits_for_it_with_its_state_or_without() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Fake::default();
    let start = |journal: Arc<Store>| {
        let plans = vec![counter("bank", &[CACHE]), counter("alone", &[])];
        Tree::with_resources(plans, vec![cache.plan(CACHE, &[])], Some(journal))
    };
    let tree = start(store(dir.path()));
    assert_eq!(state(&tree, "bank"), DaemonState::Waiting);
    assert_eq!(tree.committed("alone", "increment", json!({"by": 1})), 1);
    assert_eq!(tree.code("bank", "value", json!({})), "E_UNAVAILABLE");
    let refused =
        |outcome: Result<(), Fault>| assert_eq!(outcome.unwrap_err().code, Code::Unavailable);
    refused(tree.root.resume("bank").map(drop));
    refused(tree.root.checkpoint("bank", None).map(drop));
    refused(tree.root.simulate_crash("bank").map(drop));
    refused(tree.root.upgrade("bank", deploy(&rebuilt("counter", 1)).unwrap(), REAL).map(drop));
    cache.revive();
    until("born", || state(&tree, "bank") == DaemonState::Ready);
    assert_eq!(tree.committed("bank", "increment", json!({"by": 5})), 5);
    drop(tree);
    cache.kill();
    let tree = start(store(dir.path()));
    assert_eq!(tree.committed("alone", "value", json!({})), 1);
    assert_eq!(state(&tree, "bank"), DaemonState::Waiting);
    cache.revive();
    until("ready", || state(&tree, "bank") == DaemonState::Ready);
    assert_eq!(tree.committed("bank", "increment", json!({"by": 1})), 6);
    assert_eq!(
        generation(&tree, "bank"),
        3,
        "one before, one at this start, one when it was there"
    );
}

#[test]
fn a_daemon_that_waited_for_its_first_start_and_whose_guest_refuses_it_is_parked() {
    let cache = Fake::default();
    let refusing = plan("refusing", &deployed("chaos"), |options| {
        options.parameters = json!({"refuse_init": true});
    });
    let plans = vec![needing(refusing, &[CACHE]), counter("alone", &[])];
    let tree = Tree::with_resources(plans, vec![cache.plan(CACHE, &[])], None);
    assert_eq!(state(&tree, "refusing"), DaemonState::Waiting);
    cache.revive();
    until("parked", || state(&tree, "refusing") == DaemonState::Parked);
    assert_eq!(tree.view("refusing").report.parked.unwrap().code, Code::Init);
    assert_eq!(tree.root.resume("refusing").unwrap_err().code, Code::Init);
    assert_eq!(tree.code("refusing", "state", json!({})), "E_PARKED");
    assert_eq!(tree.committed("alone", "increment", json!({"by": 1})), 1);
}

#[test]
fn s0_20_the_states_of_a_daemon_follow_its_resource_in_order() {
    use DaemonState::{Ready, Restarting, Starting, Stopped, Waiting};
    let cache = Fake::alive();
    let plans = vec![counter("bank", &[CACHE]), counter("alone", &[])];
    let tree = Tree::with_resources(plans, vec![cache.plan(CACHE, &[])], None);
    let states = |daemon: &str| tree.view(daemon).states;
    for _ in 0..2 {
        assert_eq!(tree.call("bank", "increment", json!({"by": 3})).outcome.word(), "committed");
        let seen = states("bank").len();
        cache.kill();
        until("waiting", || state(&tree, "bank") == Waiting);
        cache.revive();
        until("ready", || states("bank").len() == seen + 3);
    }
    tree.root.refuse_requests();
    until("over", || tree.root.daemons_left().is_empty());
    let recovery = [Waiting, Restarting, Ready];
    let expected = [&[Starting, Ready][..], &recovery, &recovery, &[Stopped]].concat();
    assert_eq!(states("bank"), expected);
    assert_eq!(states("alone"), [Starting, Ready, Stopped]);
}

#[test]
fn s0_06_a_drill_takes_a_resource_down_and_lets_go_of_it() {
    let cache = Fake::alive();
    let resources = vec![cache.plan(CACHE, &[])];
    let tree = Tree::with_resources(vec![counter("bank", &[CACHE])], resources, None);
    assert_eq!(tree.root.switch_resource("cache", true).unwrap(), CACHE);
    until("held", || matches!(resource(&tree, CACHE).status, Status::Held { .. }));
    until("waiting", || state(&tree, "bank") == DaemonState::Waiting);
    until("closed", || cache.open() == 0);
    // Being there is not enough.
    cache.revive();
    assert_eq!(tree.code("bank", "value", json!({})), "E_UNAVAILABLE");
    tree.root.switch_resource(CACHE, false).unwrap();
    until("ready", || state(&tree, "bank") == DaemonState::Ready);
    assert_eq!(generation(&tree, "bank"), 2);
    let unknown = tree.root.switch_resource("cash", true).unwrap_err();
    assert_eq!(unknown.code, Code::ResourceUnknown, "{unknown}");
}

#[test]
fn a_drill_of_what_is_a_part_of_the_host_is_refused() {
    for kind in ["clock", "entropy", "config"] {
        let name = format!("bank/{kind}");
        let plan = ResourcePlan {
            name: name.clone(),
            provider: Arc::new(Stateless::new(kind)),
            jobs: Vec::new(),
            policy: Policy::new(Backoff::default(), Duration::ZERO),
        };
        let tree = Tree::with_resources(vec![counter("bank", &[&name])], vec![plan], None);
        for down in [true, false] {
            let refused = tree.root.switch_resource(kind, down).unwrap_err();
            assert_eq!(refused.code, Code::ResourceFixed, "{refused}");
        }
        drop(tree.committed("bank", "increment", json!({"by": 1})));
    }
}

#[test]
fn s0_19_the_end_of_a_host_leaves_no_lease_task_or_connection() {
    in_own_process(
        "host::resources::s0_19_the_end_of_a_host_leaves_no_lease_task_or_connection",
        || {
            let start = || {
                let cache = Fake::alive();
                let resources = vec![cache.plan(CACHE, &["job"])];
                let plans = vec![spinner(&[CACHE]), counter("bank", &[CACHE])];
                (Tree::with_resources(plans, resources, None), cache)
            };
            drop(start());
            let before = Holdings::now();
            for _ in 0..5 {
                let (tree, cache) = start();
                std::thread::scope(|scope| {
                    let spins = scope.spawn(|| tree.call("spinner", "die", json!({"how": "spin"})));
                    until("a lease", || !resource(&tree, CACHE).leases.is_empty());
                    tree.root.cancel_all();
                    let answer = spins.join().unwrap();
                    assert!(matches!(answer.outcome, Outcome::Crashed(_)), "{answer:?}");
                });
                assert_eq!(cache.open(), 1);
                assert!(resource(&tree, CACHE).leases.is_empty());
                drop(tree);
                assert_eq!(cache.open(), 0);
            }
            let after = Holdings::now();
            assert_eq!((after.threads, after.descriptors), (before.threads, before.descriptors));
        },
    );
}

/// Wherever it dies, and whatever of its leases was taken or given back.
#[test]
fn s0_19_a_thread_that_dies_in_a_transaction_leaves_no_lease() {
    let mut deaths = 0;
    for nth in 1..20 {
        let (cache, clock) = (Fake::alive(), Arc::new(DeadlyClock::default()));
        let options = RootOptions {
            logs: Some(Box::new(|_name| Arc::new(NoLog))),
            resources: vec![cache.plan(CACHE, &[])],
            ..RootOptions::new(usize::MAX, clock.clone(), Arc::new(SeededEntropy::new(7)))
        };
        let root = Root::start(vec![counter("bank", &[CACHE])], options).unwrap();
        let tree = Tree { root, lines: Arc::default() };
        assert_eq!(tree.committed("bank", "increment", json!({"by": 1})), 1);
        clock.die_at(nth);
        let _may_be_unknown = tree.call("bank", "increment", json!({"by": 1}));
        clock.die_at(0);
        until("mended", || state(&tree, "bank") == DaemonState::Ready);
        assert_eq!(resource(&tree, CACHE).leases, [], "death {nth}");
        assert_eq!(tree.code("bank", "value", json!({})), "");
        // What comes after it has leases of its own.
        cache.kill();
        until("waiting", || state(&tree, "bank") == DaemonState::Waiting);
        assert_eq!(tree.code("bank", "value", json!({})), "E_UNAVAILABLE");
        cache.revive();
        until("back", || tree.code("bank", "increment", json!({"by": 1})).is_empty());
        deaths += tree.view("bank").deaths;
    }
    assert!(deaths > 2, "{deaths}");
}

#[test]
fn a_directory_dies_with_its_path_and_another_one_of_its_name_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("reports"), dir.path().join("aside"));
    std::fs::create_dir(&path).unwrap();
    let millisecond = Duration::from_millis(1);
    let resources = vec![ResourcePlan {
        name: "bank/reports".to_owned(),
        provider: Arc::new(Directory::new(path.clone(), Access::Append)),
        jobs: Vec::new(),
        policy: Policy::new(Backoff::new(millisecond, 1, millisecond, 0).unwrap(), millisecond),
    }];
    let tree = Tree::with_resources(vec![counter("bank", &["reports"])], resources, None);
    assert_eq!(tree.committed("bank", "increment", json!({"by": 1})), 1);
    std::fs::rename(&path, &aside).unwrap();
    until("waiting", || state(&tree, "bank") == DaemonState::Waiting);
    let why = tree.view("bank").report.parked.unwrap();
    assert!(why.message.contains("bank/reports"), "{why}");
    std::fs::write(&path, "a file").unwrap();
    until("said", || {
        let status = resource(&tree, "bank/reports").status;
        matches!(status, Status::Down { why, .. } if why.contains("Not a directory"))
    });
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    until("back", || state(&tree, "bank") == DaemonState::Ready);
    // Nobody looks in between.
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    until("another", || generation(&tree, "bank") == 3);
    until("back", || state(&tree, "bank") == DaemonState::Ready);
    assert_eq!(tree.committed("bank", "value", json!({})), 1);
}
