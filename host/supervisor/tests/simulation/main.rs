//! A tree of ten components on a simulated clock: seeded starts, ends, reports, panics, deaf ears
//! and failing hooks, under seeded policies, watched by an oracle of what must never happen.
//!
//! `BULKHEAD_SEEDS` says how many seeds are tried. A failure prints its trace and its seed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]
#![expect(clippy::indexing_slicing, reason = "a test that can't go on has failed")]

mod clock;
mod component;
mod oracle;
mod random;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clock::{SeededChance, SimulatedClock};
use component::{Actor, GRACE};
use oracle::{Oracle, Rule};
use random::Random;
use supervisor::clock::Clock;
use supervisor::{
    Backoff, Child, End, Escalation, Exhausted, Group, Intensity, Policy, Restart, State, Strategy,
    Supervisor,
};

/// Seeds that are tried when nothing else is said: some seconds.
const SEEDS: u64 = 2_000;
const SECOND: u64 = 1_000_000_000;

/// Groups with their strategies and children; a child that is a group comes before it.
const GROUPS: [(&str, Strategy, &[&str]); 4] = [
    ("root/store", Strategy::OneForAll, &["table0", "table1", "table2"]),
    ("root/api/inner", Strategy::RestForOne, &["a0", "a1", "a2"]),
    ("root/api", Strategy::OneForOne, &["w0", "w1", "inner", "w2"]),
    ("root", Strategy::RestForOne, &["log", "store", "api", "last"]),
];

fn policy(random: &mut Random) -> Policy {
    let restart = match random.below(6) {
        0 => Restart::Temporary,
        1 | 2 => Restart::Transient,
        _ => Restart::Permanent,
    };
    let exhausted = match random.below(20) {
        0 => Exhausted::Emergency,
        1..8 => Exhausted::Park,
        _ => Exhausted::Escalate,
    };
    let restarts_max = u32::try_from(random.below(8)).unwrap();
    let window = Duration::from_millis(1 + random.below(60_000));
    let initial = Duration::from_millis(1 + random.below(300));
    let backoff = Backoff::new(initial, 2, initial * 20, 50).unwrap();
    Policy::new(restart)
        .with_intensity(Intensity::new(restarts_max, window).unwrap())
        .with_backoff((random.below(4) > 0).then_some(backoff))
        .with_stable_after(Duration::from_secs(random.below(30)))
        .unwrap()
        .with_exhausted(exhausted)
}

/// How one seed went.
#[derive(Debug, Eq, PartialEq)]
struct Run {
    trace: String,
    wrong: Vec<String>,
    counts: HashMap<&'static str, u64>,
    ended: String,
}

fn run(seed: u64) -> Run {
    let clock = SimulatedClock::default();
    let mut random = Random::new(seed);
    let mut policies: HashMap<String, Policy> = HashMap::new();
    let mut rules = HashMap::new();
    for (group, strategy, names) in GROUPS {
        let siblings: Vec<String> = names.iter().map(|name| format!("{group}/{name}")).collect();
        for path in &siblings {
            let policy = policy(&mut random);
            policies.insert(path.clone(), policy);
            let intensity = policy.intensity().unwrap();
            let siblings = siblings.clone();
            rules.insert(path.clone(), Rule { strategy, siblings, intensity });
        }
    }
    let root = policy(&mut random);
    let intensity = root.intensity().unwrap();
    let siblings = vec!["root".to_owned()];
    rules.insert("root".into(), Rule { strategy: Strategy::OneForOne, siblings, intensity });

    let oracle = Oracle::new(clock.clone(), rules);
    let mut built: HashMap<String, Group> = HashMap::new();
    for (path, strategy, names) in GROUPS {
        let mut group = Group::new(strategy);
        for name in names {
            let path = format!("{path}/{name}");
            let child = match built.remove(&path) {
                Some(group) => Child::group(*name, group),
                None => Child::new(*name, actor(seed, &clock, &oracle)).grace(GRACE),
            };
            group = group.with(child.policy(policies[&path])).unwrap();
        }
        built.insert(path.to_owned(), group);
    }
    let supervisor = Supervisor::group(built.remove("root").unwrap())
        .policy(root)
        .observer(Arc::clone(&oracle) as _)
        .clock(Arc::new(clock.clone()))
        .chance(Arc::new(SeededChance(Mutex::new(random.clone()))));
    let ended = drive(supervisor, &clock, random);
    let (trace, wrong, counts) = oracle.finish();
    Run { trace, wrong, counts, ended }
}

fn actor(seed: u64, clock: &SimulatedClock, oracle: &Arc<Oracle>) -> Actor {
    Actor { seed, clock: clock.clone(), oracle: Arc::clone(oracle) }
}

/// Runs the tree until it ends or is stopped at a random moment; resumes what parks, sometimes.
fn drive(supervisor: Supervisor, clock: &SimulatedClock, mut random: Random) -> String {
    let moves = clock.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_park(move || moves.move_on())
        .build()
        .unwrap();
    let ended = runtime.block_on(async {
        let supervised = supervisor.spawn().await.unwrap();
        let stop_nanos = clock.now_nanos() + random.below(120 * SECOND);
        loop {
            let next_nanos = (clock.now_nanos() + random.below(10 * SECOND)).min(stop_nanos);
            tokio::select! {
                biased;
                result = supervised.ended() => break result,
                () = clock.sleep_until(next_nanos) => {}
            }
            if clock.now_nanos() >= stop_nanos {
                break supervised.stop().await;
            }
            let parked = |node: &supervisor::Node| node.state == State::Parked;
            for node in supervised.nodes().into_iter().filter(parked) {
                assert!(random.below(2) == 0 || supervised.resume(&node.path));
            }
        }
    });
    // Let the last tasks be dropped.
    runtime.block_on(tokio::task::yield_now());
    let left = runtime.metrics().num_alive_tasks();
    assert_eq!(left, 0, "tasks are left");
    match ended {
        Ok(End::Completed) => "completed".into(),
        Ok(End::Failed) => "failed".into(),
        Ok(End::Stopped) => "stopped".into(),
        Err(Escalation::Exhausted { .. }) => "exhausted".into(),
        Err(Escalation::Hook { .. }) => "hook".into(),
        Err(Escalation::Emergency { .. }) => "emergency".into(),
        Err(escalation @ (Escalation::Stuck { .. } | Escalation::Lost { .. })) => {
            panic!("nothing blocks or is lost here: {escalation}")
        }
    }
}

fn seeds() -> u64 {
    std::env::var("BULKHEAD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn s1_06_s1_10_s1_13_r9_t1_no_seed_breaks_what_must_hold() {
    let mut ends: HashMap<String, u64> = HashMap::new();
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for seed in 0..seeds() {
        let run = run(seed);
        if !run.wrong.is_empty() {
            panic!("{}\nseed {seed}: {}", run.trace, run.wrong.join("\n"));
        }
        *ends.entry(run.ended).or_default() += 1;
        for (what, count) in run.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{ends:?} {counts:?}");
    // The seeds reach everything that this is about.
    for end in ["completed", "failed", "stopped", "exhausted", "emergency"] {
        assert!(ends.contains_key(end) || seeds() < SEEDS, "no seed ends {end}: {ends:?}");
    }
    for what in ["restarted", "aborted", "parked", "hook failed", "acked"] {
        assert!(counts.contains_key(what) || seeds() < SEEDS, "nothing is {what}: {counts:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..50 {
        let (first, second) = (run(seed), run(seed));
        assert!(first.trace.lines().count() > 5, "{}", first.trace);
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(run(0).trace, run(1).trace);
}
