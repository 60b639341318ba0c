//! A root that ends: nothing of it is left, whatever it did and whatever the wall clock does.

use std::sync::Arc;
use std::time::Duration;

use host::base::clock::JumpingClock;
use host::base::entropy::SeededEntropy;
use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use host::mechanisms::sandbox::NoLog;
use host::tree::{DaemonPlan, DaemonState, Root, RootOptions};
use serde_json::json;
use tests::{Holdings, Tree, deployed, in_own_process, plan, request};

/// Daemons that `die(spin)` keeps busy until they are cancelled, and one that counts.
fn plans(spinners: usize) -> Vec<DaemonPlan> {
    let spinner = |n| {
        plan(&format!("spinner-{n}"), &deployed("chaos"), |options| {
            options.limits.fuel = u64::MAX / 2;
            options.limits.deadline = Duration::from_secs(600);
        })
    };
    let counter = plan("counter", &deployed("counter"), |_| {});
    (0..spinners).map(spinner).chain([counter]).collect()
}

/// GiB of address space that this process has reserved: each instance takes four and more.
fn reserved_gib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    (pages * 4096) >> 30
}

fn children() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    lists.map(Result::unwrap_or_default).collect()
}

/// Starts daemons over a journal, some busy, and stops them in the way of `stop`.
fn live_and_stop(stop: impl FnOnce(&mut Root)) {
    let (dir, reserved) = (tempfile::tempdir().unwrap(), reserved_gib());
    let store = Store::open(dir.path(), StoreOptions::default(), DirectoryId(3)).unwrap();
    let mut tree = Tree::durable(plans(3), Arc::new(store));
    assert_eq!(tree.committed("counter", "increment", json!({"by": 1})), 1);
    assert!(reserved_gib() >= reserved + 4 * 4, "instances don't show");
    for n in 0..3 {
        let spin = request(&format!("spinner-{n}"), "die", json!({"how": "spin"}));
        tree.root.submit(spin, Box::new(drop));
    }
    while tree.root.daemons().iter().filter(|d| d.report.running.is_some()).count() < 3 {
        std::thread::yield_now();
    }
    stop(&mut tree.root);
    let states = tree.root.daemons().into_iter().map(|daemon| daemon.report.state);
    assert!(states.clone().all(|state| state == DaemonState::Stopped));
}

#[test]
fn s3_02_after_a_stop_there_is_no_instance_no_thread_and_no_process_left() {
    in_own_process(
        "host::stopping::s3_02_after_a_stop_there_is_no_instance_no_thread_and_no_process_left",
        || {
            let stop = |root: &mut Root| {
                root.refuse_requests();
                root.cancel_all();
                root.stop();
            };
            live_and_stop(stop);
            let (before, reserved) = (Holdings::now(), reserved_gib());
            for _ in 0..3 {
                live_and_stop(stop);
            }
            let after = Holdings::now();
            assert_eq!((after.threads, after.descriptors), (before.threads, before.descriptors));
            assert_eq!((reserved_gib(), children()), (reserved, String::new()));
        },
    );
}

#[test]
fn t1_whatever_the_wall_clock_does_deadlines_and_grace_are_those_of_the_steady_one() {
    let clock = Arc::new(JumpingClock::default());
    let mut options = RootOptions::new(usize::MAX, clock, Arc::new(SeededEntropy::new(7)));
    options.logs = Some(Box::new(|_name| Arc::new(NoLog)));
    let short = |name: &str, deadline| {
        plan(name, &deployed("chaos"), |options| {
            options.limits.fuel = u64::MAX / 2;
            options.limits.deadline = deadline;
            options.retries_max = 0;
        })
    };
    let plans = vec![
        short("late", Duration::from_millis(20)),
        short("patient", Duration::from_secs(600)),
        plan("counter", &deployed("counter"), |_| {}),
    ];
    let root = Root::start(plans, options).unwrap();
    let mut tree = Tree { root, lines: Arc::default() };
    for n in 1..=4 * JumpingClock::SECONDS.len() {
        assert_eq!(tree.committed("counter", "increment", json!({"by": 1})), n);
        let spin = json!({"how": "spin"});
        assert_eq!(tree.code("late", "die", spin), "E_DEADLINE");
    }
    // Ten years are not enough to end it; the end of the grace is.
    let (sender, outcome) = std::sync::mpsc::channel();
    let reply = Box::new(move |answer| drop(sender.send(answer)));
    tree.root.submit(request("patient", "die", json!({"how": "spin"})), reply);
    while tree.view("patient").report.running.is_none() {
        std::thread::yield_now();
    }
    for n in 0..JumpingClock::SECONDS.len() {
        let value = tree.committed("counter", "increment", json!({"by": 1}));
        assert_eq!(value, 4 * JumpingClock::SECONDS.len() + n + 1);
    }
    assert!(outcome.try_recv().is_err());
    tree.root.refuse_requests();
    tree.root.cancel_all();
    tree.root.stop();
    let answer = outcome.recv().unwrap();
    assert_eq!(answer.to_json()["error"]["code"], "E_CANCELLED");
}
