//! Leases at the moments that decide: a death while a guest returns, while they are given back, and
//! of the thread that holds them. A fail point holds each moment.

use std::time::Duration;

use host::base::failpoint;
use host::pure::request::Answer;
use host::tree::{DaemonPlan, DaemonState, ResourceView};
use serde_json::json;
use supervisor::policy::{Exhausted, Intensity, Policy, Restart};
use tests::{Fake, Tree, deployed, in_own_process, plan, until};

const CACHE: &str = "bank/cache";

fn caller(name: &str, restarts: u32) -> DaemonPlan {
    let plan = plan(name, &deployed("caller"), |options| {
        let most = Intensity::new(restarts, Duration::from_secs(60)).unwrap();
        let policy = Policy::new(Restart::Permanent).with_intensity(most).with_backoff(None);
        options.restarts = policy.with_exhausted(Exhausted::Park);
    });
    DaemonPlan { uses: vec![CACHE.to_owned()], ..plan }
}

fn ask(tree: &Tree, daemon: &str, text: &str) -> Answer {
    tree.call(daemon, "ask", json!({"name": "cache", "words": ["ECHO", text]}))
}

fn cache(tree: &Tree) -> ResourceView {
    tree.root.resources().into_iter().find(|view| view.name == CACHE).unwrap()
}

/// Asks, and does something while that stands still at the armed point.
fn meanwhile(tree: &Tree, fake: &Fake, failure: &str, act: impl FnOnce()) -> Answer {
    let asked = fake.asked();
    failpoint::arm(failure.parse().unwrap());
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| ask(tree, "a", "x"));
        until("it was asked", || fake.asked() > asked);
        // It has its answer soon, and stands still then for two seconds.
        std::thread::sleep(Duration::from_millis(500));
        assert!(!asks.is_finished());
        act();
        asks.join().unwrap()
    })
}

#[test]
fn s0_02_who_lost_a_lease_and_is_about_to_return_commits_nothing() {
    in_own_process(
        "host::leases::s0_02_who_lost_a_lease_and_is_about_to_return_commits_nothing",
        || {
            let fake = Fake::shared(1);
            let tree =
                Tree::with_resources(vec![caller("a", 9)], vec![fake.plan(CACHE, &[])], None);
            assert_eq!(ask(&tree, "a", "x").value(), Some(json!([1, "x"])));
            let answer = meanwhile(&tree, &fake, "guest-returned:1:stall", || fake.kill_lines());
            assert_eq!(answer.outcome.word(), "cancelled", "{answer:?}");
            until("ready", || tree.view("a").report.state == DaemonState::Ready);
            assert_eq!(ask(&tree, "a", "x").value(), Some(json!([2, "x"])), "it was undone");
            assert_eq!((fake.asked(), tree.view("a").report.generation), (3, 2));
        },
    );
}

#[test]
fn s0_10_who_has_given_its_leases_back_is_named_by_no_death() {
    in_own_process(
        "host::leases::s0_10_who_has_given_its_leases_back_is_named_by_no_death",
        || {
            let fake = Fake::shared(1);
            let tree =
                Tree::with_resources(vec![caller("a", 9)], vec![fake.plan(CACHE, &[])], None);
            assert_eq!(ask(&tree, "a", "x").value(), Some(json!([1, "x"])));
            let answer = meanwhile(&tree, &fake, "leases-given-back:1:stall", || {
                assert!(
                    cache(&tree).leases.is_empty(),
                    "before it is looked whether one had ended"
                );
                fake.kill_lines();
            });
            assert_eq!(answer.value(), Some(json!([2, "x"])), "{answer:?}");
            assert_eq!(ask(&tree, "a", "x").value(), Some(json!([3, "x"])));
            let report = tree.view("a").report;
            assert_eq!((report.generation, report.cancelled), (1, 0));
        },
    );
}

#[test]
fn s0_19_the_leases_of_a_thread_that_died_are_given_back() {
    in_own_process("host::leases::s0_19_the_leases_of_a_thread_that_died_are_given_back", || {
        let fake = Fake::exclusive(1);
        let plans = vec![caller("a", 0), caller("b", 0)];
        let tree = Tree::with_resources(plans, vec![fake.plan(CACHE, &[])], None);
        assert_eq!(ask(&tree, "a", "x").value(), Some(json!([1, "x"])));
        failpoint::arm("guest-returned:1:panic".parse().unwrap());
        let died = ask(&tree, "a", "x");
        assert_eq!(died.to_json()["error"]["code"], "E_HOST_BUG", "{died:?}");
        until("it is given up", || tree.view("a").report.state == DaemonState::Parked);
        until("given back", || cache(&tree).leases.is_empty());
        // The one connection that there is goes to the next.
        assert_eq!(ask(&tree, "b", "x").value(), Some(json!([1, "x"])));
    });
}
