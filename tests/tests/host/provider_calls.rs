//! Calls of guests to resources, and what ends them.

use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use host::base::error::Fault;
use host::base::ids::ConnectionId;
use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use host::mechanisms::providers::directory::Directory;
use host::pure::manifest::Access;
use host::pure::request::{Answer, Outcome, Request};
use host::pure::resource::{Policy, Status};
use host::tree::{DaemonPlan, DaemonState, ResourcePlan, ResourceView};
use serde_json::{Value, json};
use tests::{Fake, Tree, deployed, plan, request, until};

const CACHE: &str = "bank/cache";

fn caller(name: &str, needs: &[&str], uses: &[&str]) -> DaemonPlan {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let plan = plan(name, &deployed("caller"), |options| {
        options.limits.deadline = Duration::from_secs(60);
        options.limits.fuel = u64::MAX / 2;
    });
    DaemonPlan { needs: names(needs), uses: names(uses), ..plan }
}

fn ask(tree: &Tree, daemon: &str, words: &[&str]) -> Answer {
    tree.call(daemon, "ask", json!({"name": "cache", "words": words}))
}

fn try_to_ask(tree: &Tree, daemon: &str, name: &str, words: &[&str]) -> Value {
    tree.committed(daemon, "try_to_ask", json!({"name": name, "words": words}))
}

fn cache(tree: &Tree) -> ResourceView {
    tree.root.resources().into_iter().find(|view| view.name == CACHE).unwrap()
}

/// The connections of all leases, when there are so many that have one.
fn connections(tree: &Tree, count: usize) -> Option<Vec<ConnectionId>> {
    let leases = cache(tree).leases;
    let connections: Vec<_> = leases.iter().filter_map(|lease| lease.connection).collect();
    (connections.len() == count).then_some(connections)
}

fn stale(answer: &Answer) -> (&str, &str) {
    let Outcome::Cancelled(stale) = &answer.outcome else { panic!("{answer:?}") };
    (&stale.resource, &stale.why)
}

fn state(tree: &Tree, daemon: &str) -> DaemonState {
    tree.view(daemon).report.state
}

#[test]
fn s0_07_a_guest_calls_its_resources_by_name_and_no_others() {
    let fake = Fake::shared(1);
    let plans = vec![caller("needs", &[CACHE], &[]), caller("uses", &[], &[CACHE])];
    let plans = plans.into_iter().chain([caller("none", &[], &[])]).collect();
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], None);
    assert_eq!(ask(&tree, "needs", &["ECHO", "hi"]).value(), Some(json!([1, "hi"])));
    assert_eq!(ask(&tree, "uses", &["ECHO", "ho"]).value(), Some(json!([1, "ho"])));
    assert_eq!(try_to_ask(&tree, "none", "cache", &["ECHO", "x"]), "no_such_resource");
    // Names are those of its own service, not paths to others'.
    for name in ["", "bank/cache", "other/cache", "cache/", "../cache", "CACHE", "cache\0"] {
        assert_eq!(try_to_ask(&tree, "needs", name, &["ECHO", "x"]), "no_such_resource");
    }
    assert_eq!(try_to_ask(&tree, "needs", "cache", &["NO"]), "call_refused");
    let look = |name: &str| tree.committed("needs", "look", json!({"name": name}));
    assert_eq!((look("cache"), look("gone")), (json!([true, 1]), Value::Null));
    let view = cache(&tree);
    assert!(view.leases.is_empty(), "every lease was given back");
    assert_eq!((view.needed_by, view.used_by), (vec!["needs".to_owned()], vec!["uses".to_owned()]));
    assert_eq!(fake.open_lines(), 1, "they shared one connection");
}

#[test]
fn s0_09_s0_10_a_dead_connection_ends_its_own_transactions_and_starts_their_daemon_once() {
    let fake = Fake::shared(1);
    let plans = vec![caller("a", &[CACHE], &[]), caller("b", &[CACHE], &[])];
    let plans = plans.into_iter().chain([caller("c", &[CACHE], &[])]).collect();
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], None);
    std::thread::scope(|scope| {
        let tree = &tree;
        let [a, b] = ["a", "b"].map(|daemon| scope.spawn(move || ask(tree, daemon, &["HANG"])));
        until("both hang", || connections(tree, 2).is_some());
        let shared = connections(tree, 2).unwrap();
        assert_eq!(shared[0], shared[1], "two leases, one connection");
        fake.kill_lines();
        for answer in [a.join().unwrap(), b.join().unwrap()] {
            let why = format!("connection {}: it was killed", shared[0]);
            assert_eq!(stale(&answer), (CACHE, why.as_str()));
        }
    });
    for daemon in ["a", "b", "c"] {
        until("ready", || state(&tree, daemon) == DaemonState::Ready);
        assert_eq!(ask(&tree, daemon, &["ECHO", "hi"]).value(), Some(json!([1, "hi"])));
    }
    let generations = ["a", "b", "c"].map(|daemon| tree.view(daemon).report.generation);
    assert_eq!(generations, [2, 2, 1], "once each, and who had no connection not at all");
    assert_eq!(cache(&tree).generation.0, 1, "the resource itself never was away");
    let report = tree.view("a").report;
    assert_eq!((report.cancelled, report.crashed, report.restarts), (1, 0, 0));
}

#[test]
fn s0_02_the_death_of_a_resource_ends_a_call_that_waits() {
    let fake = Fake::shared(1);
    let plans = vec![caller("needs", &[CACHE], &[]), caller("uses", &[], &[CACHE])];
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], None);
    std::thread::scope(|scope| {
        let needs = scope.spawn(|| ask(&tree, "needs", &["HANG"]));
        let uses = scope.spawn(|| ask(&tree, "uses", &["HANG"]));
        until("both hang", || connections(&tree, 2).is_some());
        fake.kill();
        assert_eq!(stale(&needs.join().unwrap()), (CACHE, "it was killed"));
        assert_eq!(stale(&uses.join().unwrap()), (CACHE, "it was killed"));
    });
    assert_eq!(fake.open_lines(), 0);
    // Who can do without goes on, and is told so.
    until("back", || state(&tree, "uses") == DaemonState::Ready);
    assert_eq!(try_to_ask(&tree, "uses", "cache", &["ECHO", "x"]), "resource_unavailable");
    assert_eq!(state(&tree, "needs"), DaemonState::Waiting);
    fake.revive();
    until("ready", || state(&tree, "needs") == DaemonState::Ready);
    assert_eq!(ask(&tree, "needs", &["ECHO", "x"]).value(), Some(json!([1, "x"])));
    assert_eq!(ask(&tree, "uses", &["ECHO", "x"]).value(), Some(json!([2, "x"])));
    let generations = ["needs", "uses"].map(|daemon| tree.view(daemon).report.generation);
    assert_eq!(generations, [2, 2]);
}

#[test]
fn c13_a_peer_that_never_answers_is_a_clear_error_at_the_deadline() {
    let fake = Fake::shared(1);
    let plan = plan("caller", &deployed("caller"), |options| {
        options.limits.deadline = Duration::from_secs(2);
    });
    let plan = DaemonPlan { needs: vec![CACHE.to_owned()], ..plan };
    let tree = Tree::with_resources(vec![plan], vec![fake.plan(CACHE, &[])], None);
    let answer = ask(&tree, "caller", &["HANG"]);
    let Outcome::Crashed(crash) = &answer.outcome else { panic!("{answer:?}") };
    assert_eq!(crash.code.as_str(), "E_DEADLINE");
    assert_eq!(crash.message, "still waiting for resource `cache` at its deadline");
    assert_eq!(answer.attempts, 1, "what it asked for may have been done: it is not tried again");
    assert_eq!(ask(&tree, "caller", &["ECHO", "x"]).value(), Some(json!([1, "x"])));
    assert!(cache(&tree).leases.is_empty());
}

#[test]
fn s4_29_a_call_that_waits_is_cancelled_at_once_by_a_person_and_by_a_stop() {
    let fake = Fake::shared(1);
    let plans = vec![caller("caller", &[CACHE], &[])];
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], None);
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| ask(&tree, "caller", &["HANG"]));
        until("it hangs", || connections(&tree, 1).is_some());
        let (_daemon, stopped) = tree.root.kill(cache(&tree).leases[0].request).unwrap();
        assert_eq!(stopped.end, Some("E_CANCELLED"));
        assert_eq!(code(&hangs.join().unwrap()), "E_CANCELLED");
    });
    assert_eq!(ask(&tree, "caller", &["ECHO", "x"]).value(), Some(json!([1, "x"])));
}

/// A person kills what a daemon runs.
fn kill(tree: &Tree, daemon: &str) {
    let daemon = tree.view(daemon).id;
    let leases = cache(tree).leases;
    let lease = leases.iter().find(|lease| lease.daemon == daemon).unwrap();
    tree.root.kill(lease.request).unwrap();
}

fn code(answer: &Answer) -> String {
    answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_crash_after_a_call_is_not_tried_again_unless_the_service_says_so() {
    for retry_live in [false, true] {
        let fake = Fake::shared(1);
        let mut plan = caller("caller", &[CACHE], &[]);
        (plan.options.retries_max, plan.options.retry_live) = (1, retry_live);
        let tree = Tree::with_resources(vec![plan], vec![fake.plan(CACHE, &[])], None);
        let asks = json!({"name": "cache", "words": ["ECHO", "x"]});
        let answer = tree.call("caller", "ask_and_crash", asks);
        assert_eq!(answer.outcome.word(), "crashed");
        assert_eq!(fake.asked(), if retry_live { 2 } else { 1 });
    }
}

#[test]
fn an_exclusive_connection_serves_one_transaction_and_is_reset_before_the_next() {
    let fake = Fake::exclusive(2);
    let plans = ["a", "b", "c"].map(|name| caller(name, &[CACHE], &[])).into();
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], None);
    let ten = tree.committed("a", "ask_often", json!({"name": "cache", "times": 10}));
    assert_eq!(ten, Value::Null);
    until("reset", || fake.resets() == 1);
    assert_eq!(fake.open_lines(), 1, "ten calls of one transaction used one connection");
    std::thread::scope(|scope| {
        let tree = &tree;
        let [a, b] = ["a", "b"].map(|daemon| scope.spawn(move || ask(tree, daemon, &["HANG"])));
        until("both hang", || connections(tree, 2).is_some());
        let both = connections(tree, 2).unwrap();
        assert_ne!(both[0], both[1]);
        // The third one waits for a connection, and gets it when a transaction has ended.
        let third = scope.spawn(move || ask(tree, "c", &["ECHO", "x"]));
        until("it has a lease", || cache(tree).leases.len() == 3);
        assert_eq!(fake.open_lines(), 2);
        kill(tree, "a");
        assert_eq!(third.join().unwrap().value(), Some(json!([1, "x"])));
        assert_eq!(code(&a.join().unwrap()), "E_CANCELLED");
        kill(tree, "b");
        assert_eq!(code(&b.join().unwrap()), "E_CANCELLED");
    });
    assert!(cache(&tree).leases.is_empty());
    drop(tree);
    assert_eq!(fake.open_lines(), 0);
}

#[test]
fn s0_15_many_clients_of_one_daemon_get_their_own_answers() {
    let fake = Fake::shared(2);
    let plans = ["a", "b"].map(|name| caller(name, &[CACHE], &[])).into();
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], None);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let tree = &tree;
            scope.spawn(move || {
                let daemon = if client % 2 == 0 { "a" } else { "b" };
                for n in 0..200 {
                    let text = format!("{client}-{n}");
                    let answer = ask(tree, daemon, &["ECHO", &text]).value().unwrap();
                    assert_eq!(answer[1], text);
                }
            });
        }
    });
    let asked = ["a", "b"].map(|daemon| tree.committed(daemon, "asked", json!({})));
    assert_eq!(asked, [800, 800]);
    let generations = ["a", "b"].map(|daemon| tree.view(daemon).report.generation);
    assert_eq!(generations, [1, 1]);
    assert_eq!(fake.asked(), 1600);
}

#[test]
fn s0_03_a_connection_that_dies_with_its_resource_starts_its_daemon_once() {
    let fake = Fake::shared(1);
    let tree =
        Tree::with_resources(vec![caller("a", &[CACHE], &[])], vec![fake.plan(CACHE, &[])], None);
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| ask(&tree, "a", &["HANG"]));
        until("it hangs", || connections(&tree, 1).is_some());
        // First the connection is gone; that the resource is, the probe finds out.
        fake.go_silent();
        assert_eq!(stale(&hangs.join().unwrap()).0, CACHE);
    });
    until("down", || cache(&tree).status != Status::Available);
    assert_eq!(tree.view("a").report.generation, 1, "it was not started in between");
    fake.revive();
    until("ready", || state(&tree, "a") == DaemonState::Ready);
    assert_eq!(tree.view("a").report.generation, 2);
}

#[test]
fn s0_18_a_stale_handle_ends_the_transaction_and_the_daemon_answers_and_goes_on() {
    let fake = Fake::shared(1);
    let tree =
        Tree::with_resources(vec![caller("a", &[], &[CACHE])], vec![fake.plan(CACHE, &[])], None);
    let asks = |contract: &'static str, words: &'static str| {
        let arguments = match contract {
            "ask_often" => json!({"name": "cache", "times": 900_000}),
            _ => json!({"name": "cache", "words": [words]}),
        };
        tree.call("a", contract, arguments)
    };
    let mut answers = Vec::new();
    for contract in ["ask", "try_to_ask", "ask_often"] {
        std::thread::scope(|scope| {
            let runs = scope.spawn(|| asks(contract, "HANG"));
            until("it runs", || connections(&tree, 1).is_some());
            fake.kill_lines();
            answers.push(runs.join().unwrap());
        });
        until("clear", || try_to_ask(&tree, "a", "cache", &["ECHO", "x"]) == "x");
    }
    assert_eq!(answers[0].outcome.word(), "cancelled", "the guest says nothing of this one");
    let fallback = answers[1].value().unwrap();
    assert!(fallback.as_str().unwrap().starts_with("cache is gone: connection "), "{fallback}");
    assert_eq!(code(&answers[2]), "gone");
    // All three were undone.
    let report = tree.view("a").report;
    assert_eq!((report.cancelled, report.crashed, report.generation), (3, 0, 4));
}

#[test]
fn s0_13_a_contract_names_the_resources_that_it_needs() {
    let guest = deployed("limits");
    let take = guest.contract("take").unwrap();
    assert_eq!((take.needs.as_slice(), guest.hooks().on_stale), (&["cache".to_owned()][..], true));
    let limits = |uses: &[&str]| DaemonPlan {
        uses: uses.iter().map(|&name| name.to_owned()).collect(),
        ..plan("limits", &guest, |_| {})
    };
    let fake = Fake::shared(1);
    let tree = Tree::with_resources(vec![limits(&[CACHE])], vec![fake.plan(CACHE, &[])], None);
    let arguments = json!({"user": "ann", "limit": 9, "seconds": 60});
    let (needed_by, used_by) = (cache(&tree).needed_by, cache(&tree).used_by);
    assert!(
        needed_by.is_empty() && used_by == ["limits"],
        "a contract of it needs it: {used_by:?}"
    );
    let taken = tree.committed("limits", "take", arguments.clone());
    assert_eq!(taken, json!({"left": 8, "shared": true}));
    fake.kill();
    until("down", || cache(&tree).status != Status::Available);
    assert_eq!(tree.code("limits", "take", arguments.clone()), "E_UNAVAILABLE");
    let anyway = tree.committed("limits", "take_anyway", arguments.clone());
    assert_eq!(anyway, json!({"left": 8, "shared": false}));
    assert_eq!(state(&tree, "limits"), DaemonState::Ready, "the daemon itself can do without");
    // One that may wait is served when it is back.
    std::thread::scope(|scope| {
        let wait = Some(Duration::from_secs(60));
        let waits = Request { wait, ..request("limits", "take", arguments.clone()) };
        let waits = scope.spawn(|| tree.root.call(waits).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        fake.revive();
        assert_eq!(waits.join().unwrap().outcome.word(), "committed");
    });
    assert_eq!(tree.view("limits").report.generation, 1);
    // A service that doesn't give it what it needs is not started.
    for (plan, words) in [
        (limits(&[]), "[resources.cache]\nprovider"),
        (limits(&["bank/other"]), "contract `take` needs resource `cache`"),
    ] {
        let other = Fake::shared(1);
        let error = Tree::try_with_resources(vec![plan], vec![other.plan("bank/other", &[])]);
        let fault = Fault::from(&error.unwrap_err());
        assert_eq!(fault.code.as_str(), "E_RESOURCE_UNKNOWN");
        assert!(fault.message.contains(words), "{fault}");
    }
}

#[test]
fn s0_22_the_shutdown_hook_is_the_last_transaction() {
    let scratch = tempfile::tempdir().unwrap();
    let open = || {
        let options = StoreOptions::default();
        Arc::new(Store::open(scratch.path(), options, DirectoryId(9)).unwrap())
    };
    let fake = Fake::shared(1);
    for ended in [0, 1] {
        let plans = vec![caller("a", &[CACHE], &[])];
        let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], Some(open()));
        assert_eq!(tree.committed("a", "ended", json!({})), ended);
        // As a stop does: nobody is served any more, then the daemons end.
        tree.root.refuse_requests();
        until("over", || tree.root.daemons_left().is_empty());
        tree.root.close_journal();
    }
    assert_eq!(fake.asked(), 2, "it could still call its resources");
    let plans = vec![caller("a", &[CACHE], &[])];
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], Some(open()));
    assert_eq!(tree.committed("a", "ended", json!({})), 2, "each was durable");
}

/// Daemons that are started one after the other are so at each recovery, and one that can't start
/// yet keeps nobody waiting.
#[test]
fn s0_03_a_recovery_starts_daemons_in_order_of_dependency() {
    const LOG: &str = "bank/log";
    const BOOKS: &str = "bank/books";
    let [cache, log, books] = [1, 4, 1].map(Fake::shared);
    let daemon =
        |name: &str, needs: &[&str], layer: usize| DaemonPlan { layer, ..caller(name, needs, &[]) };
    // In an order of names that is none of theirs.
    let plans = vec![
        daemon("a", &[CACHE, LOG], 2),
        daemon("b", &[CACHE, LOG], 0),
        daemon("c", &[CACHE, LOG, BOOKS], 1),
        daemon("d", &[CACHE, LOG], 1),
        DaemonPlan { layer: 3, ..caller("e", &[LOG], &[CACHE]) },
    ];
    let resources = vec![cache.plan(CACHE, &[]), log.plan(LOG, &[]), books.plan(BOOKS, &[])];
    let tree = Tree::with_resources(plans, resources, None);
    for name in ["a", "b", "c", "d"] {
        let _value = tree.committed(name, "be", json!({"name": name}));
    }
    let all = |state_of: DaemonState, names: &[&str]| {
        until("all of them", || names.iter().all(|name| state(&tree, name) == state_of));
    };
    for round in 0..6 {
        let without_books = round % 2 == 1;
        let seen = log.heard().len();
        cache.kill();
        all(DaemonState::Waiting, &["a", "b", "c", "d"]);
        if without_books {
            books.kill();
            until("down", || {
                tree.root
                    .resources()
                    .iter()
                    .any(|view| view.name == BOOKS && view.status != Status::Available)
            });
        }
        cache.revive();
        all(DaemonState::Ready, &["a", "b", "d"]);
        if without_books {
            assert_eq!(log.heard()[seen..], ["b", "b.", "d", "d.", "a", "a."]);
            books.revive();
            all(DaemonState::Ready, &["c"]);
            assert_eq!(log.heard()[seen + 6..], ["c", "c."]);
        } else {
            all(DaemonState::Ready, &["c"]);
            let heard = log.heard()[seen..].to_vec();
            assert_eq!(heard[..2], ["b", "b."], "{heard:?}");
            assert_eq!(heard[6..], ["a", "a."], "{heard:?}");
        }
    }
    let generations = ["a", "b", "c", "d", "e"].map(|name| tree.view(name).report.generation);
    assert_eq!(generations, [7, 7, 7, 7, 1]);
}

#[test]
fn what_is_appended_stays_in_its_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let (inside, outside) = (scratch.path().join("reports"), scratch.path().join("secret"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::create_dir(inside.join("sub")).unwrap();
    std::fs::write(&outside, "").unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
    std::os::unix::fs::symlink("sub", inside.join("fine")).unwrap();
    let fifo = Command::new("mkfifo").arg(inside.join("pipe")).status().unwrap();
    assert!(fifo.success());
    // Somebody reads it, and would be told of each who opens it.
    let mut options = std::fs::File::options();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let reader = options.open(inside.join("pipe")).unwrap();
    let reports = |access| ResourcePlan {
        name: "bank/reports".to_owned(),
        provider: Arc::new(Directory::new(inside.clone(), access)),
        jobs: Vec::new(),
        policy: Policy::default(),
    };
    let start = |access| {
        let plans = vec![caller("a", &["bank/reports"], &[])];
        Tree::with_resources(plans, vec![reports(access)], None)
    };
    let tree = start(Access::Append);
    let append = |tree: &Tree, path: &str| {
        let asks = json!({"name": "reports", "path": path, "line": "x"});
        tree.call("a", "append", asks)
    };
    for path in ["a.log", "sub/b.log", "fine/b.log", "./a.log"] {
        assert_eq!(append(&tree, path).outcome.word(), "committed", "{path}");
    }
    assert_eq!(std::fs::read_to_string(inside.join("a.log")).unwrap(), "x\nx\n");
    assert_eq!(std::fs::read_to_string(inside.join("sub/b.log")).unwrap(), "x\nx\n");
    let absolute = outside.to_str().unwrap();
    let escapes = ["../secret", "sub/../../secret", "link", "up/secret", absolute, "/etc/passwd"];
    let others = ["", ".", "sub", "pipe", "gone/c.log", "a\0b", "a.log/x", &"x".repeat(5000)];
    for path in escapes.into_iter().chain(others) {
        let refused = append(&tree, path);
        assert_eq!(code(&refused), "call_refused", "{path}: {refused:?}");
    }
    let flags = rustix::event::PollFlags::IN;
    let mut seen = [rustix::event::PollFd::new(&reader, flags)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let told = rustix::event::poll(&mut seen, Some(&now)).unwrap();
    assert_eq!(told, 0, "the pipe was opened: {:?}", seen[0].revents());
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "");
    drop(tree);
    let tree = start(Access::Read);
    assert_eq!(code(&append(&tree, "a.log")), "call_denied");
}
