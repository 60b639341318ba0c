//! Calls of guests to resources, and what ends them.

use std::time::Duration;

use host::base::ids::ConnectionId;
use host::pure::request::{Answer, Outcome};
use host::tree::{DaemonPlan, DaemonState, ResourceView};
use serde_json::{Value, json};
use tests::{Fake, Tree, deployed, plan, until};

const CACHE: &str = "bank/cache";

fn caller(name: &str, needs: &[&str], uses: &[&str]) -> DaemonPlan {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let plan = plan(name, &deployed("caller"), |options| {
        options.limits.deadline = Duration::from_secs(60);
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
    assert!(cache(&tree).leases.is_empty(), "every lease was given back");
    assert_eq!(fake.open_lines(), 1, "they shared one connection");
}

#[test]
fn s0_09_s0_10_a_dead_connection_ends_its_own_transactions_and_starts_their_daemon_once() {
    let fake = Fake::shared(1);
    let plans = vec![caller("a", &[CACHE], &[]), caller("b", &[CACHE], &[])];
    let plans = plans.into_iter().chain([caller("c", &[CACHE], &[])]).collect();
    let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], None);
    std::thread::scope(|scope| {
        let hang = |daemon: &'static str| {
            scope.spawn({
                let tree = &tree;
                move || ask(tree, daemon, &["HANG"])
            })
        };
        let (a, b) = (hang("a"), hang("b"));
        until("both hang", || connections(&tree, 2).is_some());
        let shared = connections(&tree, 2).unwrap();
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
fn r3_a_peer_that_never_answers_is_a_clear_error_at_the_deadline() {
    let fake = Fake::shared(1);
    let plan = plan("caller", &deployed("caller"), |options| {
        options.limits.deadline = Duration::from_millis(200);
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
        let hang = |daemon: &'static str| {
            scope.spawn({
                let tree = &tree;
                move || ask(tree, daemon, &["HANG"])
            })
        };
        let (a, b) = (hang("a"), hang("b"));
        until("both hang", || connections(&tree, 2).is_some());
        let both = connections(&tree, 2).unwrap();
        assert_ne!(both[0], both[1]);
        // The third one waits for a connection, and gets it when a transaction has ended.
        let third = scope.spawn(|| ask(&tree, "c", &["ECHO", "x"]));
        until("it has a lease", || cache(&tree).leases.len() == 3);
        assert_eq!(fake.open_lines(), 2);
        kill(&tree, "a");
        assert_eq!(third.join().unwrap().value(), Some(json!([1, "x"])));
        assert_eq!(code(&a.join().unwrap()), "E_CANCELLED");
        kill(&tree, "b");
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
