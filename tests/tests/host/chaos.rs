//! Every way to die, again and again, next to a canary that must not notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use host::base::error::Code;
use host::pure::frames::readable;
use host::tree::DaemonState;
use serde_json::json;
use tests::{Holdings, Rig, RigOptions, Tree, deployed, in_own_process, plan, threads};

/// Every way of the guest `chaos`, and the code that its crash must have.
pub(crate) const WAYS: [(&str, Code); 12] = [
    ("unreachable", Code::Unreachable),
    ("out_of_bounds", Code::MemoryTrap),
    ("divide_by_zero", Code::Arithmetic),
    ("stack_overflow", Code::StackTrap),
    ("spin", Code::Fuel),
    ("allocate", Code::OutOfMemory),
    ("grow", Code::OutOfMemory),
    ("panic", Code::Unreachable),
    ("print_then_panic", Code::Unreachable),
    ("half_moved", Code::Unreachable),
    ("leak_handle", Code::HandleLeak),
    ("hostcall_storm", Code::Fuel),
];

/// Fuel with which the endless ways end fast, and all others still come to their end.
const FUEL: u64 = 2_000_000;
const BUDGET_BYTES: usize = 2 << 20;

#[test]
fn s4_02_s4_03_every_way_to_die_has_its_code_and_leaves_no_trace() {
    let options = RigOptions { fuel: FUEL, budget_bytes: BUDGET_BYTES, ..RigOptions::default() };
    let mut rig = Rig::start(&deployed("chaos"), options);
    rig.committed("touch", json!({"pages": 3}));
    let (state, hash) = (rig.committed("state", json!({})), rig.hash());
    for (way, code) in WAYS {
        let generation = rig.daemon.generation();
        let crash = rig.crashes_with("die", json!({"how": way}), code);
        assert_eq!(crash.generation, generation, "{way}");
        assert_eq!(rig.daemon.generation(), generation.next(), "{way}");
        assert!(crash.cards_changed > 0, "{way} changed nothing before it died");
        assert!(crash.fuel_used > 0 && !crash.message.is_empty(), "{crash:?}");
        assert_eq!(rig.committed("state", json!({})), state, "after {way}");
        assert_eq!(rig.committed("balances", json!({})), json!([1000, 1000]), "after {way}");
        assert_eq!(rig.hash(), hash, "after {way}");
        let traps = crash.code != Code::HandleLeak && crash.code != Code::Fuel;
        assert!(!traps || crash.backtrace.iter().all(|name| !name.is_empty()), "{crash:?}");
        // It begins in the guest's own code, whatever stood between that and the trap.
        let frames = readable(&crash.backtrace);
        assert!(!traps || frames[0].contains("chaos"), "{way}: {frames:?}");
        if code == Code::OutOfMemory {
            assert!(crash.message.contains("of its budget of 2 MiB"), "{crash:?}");
        }
    }
}

#[test]
fn s4_11_a_canary_does_not_notice_a_thousand_deaths_of_each_kind() {
    in_own_process(
        "host::chaos::s4_11_a_canary_does_not_notice_a_thousand_deaths_of_each_kind",
        || die_next_to_a_canary(tests::setting("BULKHEAD_CHAOS_DEATHS", 1000)),
    );
}

#[test]
#[ignore = "soak"]
fn soak_s4_11_a_hundred_thousand_deaths_and_the_root_is_still_the_first() {
    in_own_process(
        "host::chaos::soak_s4_11_a_hundred_thousand_deaths_and_the_root_is_still_the_first",
        || die_next_to_a_canary(100_000_u64.div_ceil(WAYS.len() as u64)),
    );
}

fn die_next_to_a_canary(deaths_each: u64) {
    let chaos = plan("chaos", &deployed("chaos"), |options| {
        options.limits.fuel = FUEL;
        options.budget_bytes = BUDGET_BYTES;
        options.retries_max = 0;
    });
    let tree = Tree::start_quietly(vec![chaos, plan("canary", &deployed("ledger"), |_| {})]);
    let deposited = tree.committed("canary", "deposit", json!({"account": "ann", "amount": 7}));
    assert_eq!(deposited, 7);
    let _touched = tree.committed("chaos", "touch", json!({"pages": 3}));
    let before = (tree.hash("canary"), tree.hash("chaos"));
    let (answers, slowest_idle) =
        ask_canary(&tree, Duration::from_millis(200), &AtomicBool::new(false));
    assert!(answers > 0);

    let root = roots();
    die(&tree, 30);
    let held_before = Holdings::now();
    let ended = AtomicBool::new(false);
    let (answers, slowest) = std::thread::scope(|scope| {
        let canary = scope.spawn(|| ask_canary(&tree, Duration::MAX, &ended));
        for (way, took) in die(&tree, deaths_each) {
            eprintln!("{deaths_each} x {way}: {took:?} each");
        }
        ended.store(true, Ordering::Relaxed);
        canary.join().unwrap()
    });
    let held = Holdings::now();

    eprintln!("canary: {answers} answers, slowest {slowest:?} (idle {slowest_idle:?}); {held:?}");
    let canary = tree.view("canary").report;
    assert_eq!((tree.hash("canary"), tree.hash("chaos")), before);
    assert_eq!((canary.generation, canary.restarts, canary.crashed), (1, 0, 0));
    assert_eq!((canary.committed, canary.sequence), (1, 1));
    assert!(answers > deaths_each, "the canary answered {answers} times");
    assert!(slowest < Duration::from_secs(1), "the canary took {slowest:?}");
    assert_eq!(roots(), root, "the root is the first one's own thread");
    let chaos = tree.view("chaos").report;
    let deaths = (deaths_each + 30) * WAYS.len() as u64;
    assert_eq!((chaos.crashed, chaos.restarts, chaos.generation), (deaths, deaths, deaths + 1));
    assert_eq!(chaos.state, DaemonState::Ready);
    assert_flat(&held_before, &held);
}

/// The one thread of the one root of this process: another one would have another number.
pub(crate) fn roots() -> u64 {
    let roots = threads("root");
    assert_eq!(roots.len(), 1, "{roots:?}");
    roots[0]
}

/// Asks the canary for its balance until told to stop; answers how often, and the slowest answer.
fn ask_canary(tree: &Tree, time: Duration, ended: &AtomicBool) -> (u64, Duration) {
    let (start, mut answers, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while !ended.load(Ordering::Relaxed) && start.elapsed() < time {
        let asked = Instant::now();
        assert_eq!(tree.committed("canary", "balance", json!({"account": "ann"})), 7);
        slowest = slowest.max(asked.elapsed());
        answers += 1;
        // Half of a processor is enough for asking.
        std::thread::sleep(Duration::from_micros(100));
    }
    (answers, slowest)
}

/// Lets `chaos` die; answers how long each way took.
fn die(tree: &Tree, times: u64) -> Vec<(&'static str, Duration)> {
    let state = tree.committed("chaos", "state", json!({}));
    let times32 = u32::try_from(times).unwrap();
    let die = |&(way, code): &(&'static str, Code)| {
        let start = Instant::now();
        for _ in 0..times {
            let crashed = tree.code("chaos", "die", json!({"how": way}));
            assert_eq!(crashed, code.as_str(), "{way}");
        }
        assert_eq!(tree.committed("chaos", "state", json!({})), state, "after {way}");
        (way, start.elapsed() / times32)
    };
    WAYS.iter().map(die).collect()
}

/// Nothing was left behind, but for what an allocator keeps for itself.
pub(crate) fn assert_flat(before: &Holdings, after: &Holdings) {
    let slack = 8 << 20;
    assert!(after.resident_bytes < before.resident_bytes + slack, "{before:?} -> {after:?}");
    // The thread that asks the canary is gone by now, but may not have been reaped.
    assert!(after.threads <= before.threads + 1, "{before:?} -> {after:?}");
    assert_eq!(after.descriptors, before.descriptors);
    assert!(after.mappings <= before.mappings + 10, "{before:?} -> {after:?}");
}

#[test]
fn s4_07_s4_17_the_daemons_thread_is_not_the_callers() {
    // Guest code that spins keeps its daemon busy, and nobody else: the root answers meanwhile.
    let spinner = plan("spinner", &deployed("chaos"), |options| {
        options.limits.fuel = u64::MAX / 2;
        options.limits.deadline = Duration::from_millis(300);
        options.retries_max = 0;
    });
    let tree = Tree::start_quietly(vec![spinner, plan("other", &deployed("counter"), |_| {})]);
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let spin = scope.spawn(|| tree.code("spinner", "die", json!({"how": "spin"})));
        while !spin.is_finished() {
            let value = tree.committed("other", "increment", json!({"by": 1}));
            assert_eq!(value, answered.fetch_add(1, Ordering::Relaxed) + 1);
            let _views = tree.root.daemons();
        }
        assert_eq!(spin.join().unwrap(), "E_DEADLINE");
    });
    assert!(answered.load(Ordering::Relaxed) > 10);
}
