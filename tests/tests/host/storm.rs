//! Crashes from several sides at once: daemons that die in every way, cancelled requests, missed
//! deadlines, dying threads; next to a sibling that must not notice, and nothing is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::base::error::Code;
use host::base::ids::RequestId;
use host::tree::{DaemonPlan, DaemonState, DaemonView};
use serde_json::json;
use supervisor::policy::{Exhausted, Policy, Restart};
use tests::{Holdings, Tree, deployed, in_own_process, plan};

use super::chaos::{WAYS, assert_flat};

/// Daemons that die in turns in all ways.
const MORTALS: [&str; 2] = ["mortal-0", "mortal-1"];

/// Where the clients of each of them begin among the ways.
const FIRST: [usize; 2] = [0, 5];

const CLIENTS: u64 = FIRST.len() as u64;

/// So many crashes of a client come to one commit of it.
const CRASHES_PER_COMMIT: u64 = 16;

/// Fuel with which the endless ways end fast, and all others still come to their end.
const FUEL: u64 = 2_000_000;

const PAGES: u32 = 3;

#[test]
fn s4_11_s3_02_a_storm_of_two_thousand_crashes_leaves_nothing_and_its_sibling_alone() {
    in_own_process(
        "host::storm::s4_11_s3_02_a_storm_of_two_thousand_crashes_leaves_nothing_and_its_sibling_alone",
        || storm(2_000),
    );
}

#[test]
#[ignore = "soak"]
fn soak_s4_11_s3_02_a_storm_of_a_hundred_thousand_crashes_and_the_root_is_still_the_first() {
    in_own_process(
        "host::storm::soak_s4_11_s3_02_a_storm_of_a_hundred_thousand_crashes_and_the_root_is_still_the_first",
        || storm(100_000),
    );
}

fn chaos(name: &str, fuel: u64, deadline: Duration) -> DaemonPlan {
    plan(name, &deployed("chaos"), |options| {
        options.limits.fuel = fuel;
        options.limits.deadline = deadline;
        options.budget_bytes = 2 << 20;
        options.retries_max = 0;
    })
}

fn storm(crashes: u64) {
    let long = Duration::from_secs(600);
    let endless = Policy::new(Restart::Permanent)
        .with_intensity(None)
        .with_backoff(None)
        .with_exhausted(Exhausted::Park);
    let mut plans: Vec<_> = MORTALS.iter().map(|name| chaos(name, FUEL, long)).collect();
    plans.extend([
        chaos("late", u64::MAX / 2, Duration::from_millis(1)),
        chaos("cancelled", u64::MAX / 2, long),
        plan("threadless", &deployed("counter"), |options| options.restarts = endless),
        plan("sibling", &deployed("counter"), |_| {}),
        // It never crashes, and is given what the mortals commit.
        chaos("twin", FUEL, long),
    ]);
    let tree = Tree::start_quietly(plans);
    let (before, root) = (tree.root.daemons(), super::chaos::roots());
    let threads = Holdings::now().threads;
    let mut all = Done::default();
    // All threads have allocated by then, and no buffer grows any more.
    all.add(&blow(&tree, 1_000));
    let held_before = settled(threads);
    let done = blow(&tree, crashes);
    let held = settled(threads);
    all.add(&done);

    eprintln!("{done:?}, {held_before:?} -> {held:?}");
    assert!(done.of_mortals >= crashes, "{done:?}");
    let rare = [done.missed, done.cancelled, done.deaths, done.calm];
    assert!(rare.iter().all(|&count| count > 0), "{done:?}");
    assert_eq!(super::chaos::roots(), root, "the root is the first one's own thread");
    assert_flat(&held_before, &held);
    assert_eq!(held.threads, threads);
    assert_states(&tree, &all, &before);
}

/// What a storm came to.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    of_mortals: u64,
    missed: u64,
    cancelled: u64,
    deaths: u64,
    /// Answers of the sibling.
    calm: u64,
    /// Commits of each mortal daemon.
    commits: u64,
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.of_mortals += other.of_mortals;
        self.missed += other.missed;
        self.cancelled += other.cancelled;
        self.deaths += other.deaths;
        self.calm += other.calm;
        self.commits += other.commits;
    }
}

/// All at once, until the mortals have crashed that often.
fn blow(tree: &Tree, crashes: u64) -> Done {
    let clients = MORTALS.len() as u64 * CLIENTS;
    let each = crashes.div_ceil(clients).next_multiple_of(CRASHES_PER_COMMIT);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let rare = |act: fn(&Tree)| {
            let over = &over;
            scope.spawn(move || {
                let mut times = 0;
                while times == 0 || !over.load(Ordering::Relaxed) {
                    act(tree);
                    times += 1;
                    std::thread::sleep(Duration::from_micros(200));
                }
                times
            })
        };
        let [missed, cancelled] = [rare(miss_a_deadline), rare(cancel)];
        let [deaths, calm] = [rare(lose_a_thread), rare(ask_the_sibling)];
        let mut mortals = Vec::new();
        for name in MORTALS {
            mortals.extend(FIRST.map(|first| scope.spawn(move || die(tree, name, first, each))));
        }
        mortals.into_iter().for_each(|client| client.join().unwrap());
        over.store(true, Ordering::Relaxed);
        Done {
            of_mortals: each * clients,
            missed: missed.join().unwrap(),
            cancelled: cancelled.join().unwrap(),
            deaths: deaths.join().unwrap(),
            calm: calm.join().unwrap(),
            commits: each / CRASHES_PER_COMMIT * CLIENTS,
        }
    })
}

/// Crashes in all ways in turns, and commits in between.
fn die(tree: &Tree, name: &str, first: usize, times: u64) {
    let ways = WAYS.iter().cycle().skip(first);
    for (time, &(way, code)) in (1..=times).zip(ways) {
        assert_eq!(tree.code(name, "die", json!({"how": way})), code.as_str(), "{name} {way}");
        if time.is_multiple_of(CRASHES_PER_COMMIT) {
            assert_eq!(tree.committed(name, "touch", json!({"pages": PAGES})), PAGES);
        }
    }
}

fn miss_a_deadline(tree: &Tree) {
    let code = tree.code("late", "die", json!({"how": "spin"}));
    assert_eq!(code, Code::Deadline.as_str());
}

fn cancel(tree: &Tree) {
    std::thread::scope(|scope| {
        let spins = scope.spawn(|| tree.code("cancelled", "die", json!({"how": "spin"})));
        while !spins.is_finished() {
            if let Some((request, _)) = tree.view("cancelled").report.running {
                // It may have ended since.
                drop(tree.root.kill(RequestId(request)));
            }
        }
        assert_eq!(spins.join().unwrap(), Code::Cancelled.as_str());
    });
}

fn lose_a_thread(tree: &Tree) {
    tree.root.let_thread_die("threadless", 0).unwrap();
    let _value = tree.committed("threadless", "increment", json!({"by": 1}));
}

fn ask_the_sibling(tree: &Tree) {
    let _value = tree.committed("sibling", "increment", json!({"by": 1}));
}

/// What every daemon has and counts: all that was committed, and nothing of what crashed.
fn assert_states(tree: &Tree, all: &Done, before: &[DaemonView]) {
    for _ in 0..all.commits {
        assert_eq!(tree.committed("twin", "touch", json!({"pages": PAGES})), PAGES);
    }
    let twin = tree.hash("twin");
    let crashed_each = all.of_mortals / MORTALS.len() as u64;
    for name in MORTALS {
        let report = tree.view(name).report;
        assert_eq!(tree.hash(name), twin, "{name}");
        let counts = (report.crashed, report.restarts, report.generation);
        assert_eq!(counts, (crashed_each, crashed_each, crashed_each + 1), "{name}");
        assert_eq!((report.committed, report.sequence), (all.commits, all.commits), "{name}");
    }
    for (name, crashed) in [("late", all.missed), ("cancelled", all.cancelled)] {
        let view = tree.view(name);
        assert_eq!((view.report.crashed, view.report.generation), (crashed, crashed + 1), "{name}");
        assert_eq!(tree.committed(name, "balances", json!({})), json!([1000, 1000]));
    }
    let threadless = tree.view("threadless");
    assert_eq!((threadless.deaths, threadless.report.sequence), (all.deaths, all.deaths));
    assert_eq!(tree.committed("threadless", "value", json!({})), all.deaths);
    assert_eq!(tree.committed("sibling", "value", json!({})), all.calm);
    for view in before.iter().filter(|view| ["sibling", "twin"].contains(&view.name.as_str())) {
        let now = tree.view(&view.name);
        let fate = |view: &DaemonView| {
            (
                view.id,
                view.deaths,
                view.report.generation,
                view.report.restarts,
                view.report.crashed,
            )
        };
        assert_eq!(fate(&now), fate(view));
    }
    assert!(tree.root.daemons().iter().all(|view| view.report.state == DaemonState::Ready));
}

/// What is held when there are that many threads again: one that was waited for has still to end.
fn settled(threads: usize) -> Holdings {
    for _ in 0..10_000 {
        let now = Holdings::now();
        if now.threads <= threads {
            return now;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Holdings::now()
}
