//! Crash reports, the same crash again, and crashes on purpose.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::base::clock::ManualClock;
use host::base::entropy::SeededEntropy;
use host::base::error::Code;
use host::base::ids::RequestId;
use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use host::mechanisms::sandbox::{Guest, Limits, NoLog, Sandbox, SandboxOptions};
use host::pure::crash_rate::BURST;
use host::pure::crash_report::{ARGUMENTS_BYTES_MAX, differences};
use host::pure::policy::OnCrash;
use host::pure::request::{Crash, Outcome, Request};
use host::tree::{
    DaemonOptions, DaemonPlan, Replayed, RevertTo, Root, RootOptions, replay, replay_materials,
};
use serde_json::{Value, json};
use tests::{BUMP, Hostile, Lines, RUN, Tree, VALUE, deploy, deployed, hostile, plan, request};

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, StoreOptions::default(), DirectoryId(5)).unwrap())
}

fn durable(dir: &Path, plans: Vec<DaemonPlan>) -> Tree {
    Tree::durable(plans, store(dir))
}

fn chaos(change: impl FnOnce(&mut DaemonOptions)) -> DaemonPlan {
    plan("chaos", &deployed("chaos"), |options| {
        options.limits.fuel = 5_000_000;
        change(options);
    })
}

fn crash(tree: &Tree, daemon: &str, contract: &str, args: Value) -> Crash {
    crashed(tree, request(daemon, contract, args))
}

fn crashed(tree: &Tree, request: Request) -> Crash {
    match tree.root.call(request).unwrap().outcome {
        Outcome::Crashed(crash) => *crash,
        outcome => panic!("{outcome:?}"),
    }
}

/// The report is on its way to the disk.
fn kept(tree: &Tree, daemon: &str, id: RequestId) {
    for _ in 0..1000 {
        let reports = tree.root.crashes(daemon, 1000).unwrap();
        if reports.iter().any(|report| report.id == id) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no report of {id}");
}

fn again(guest: &Arc<Guest>, tree: &Tree, crash: &Crash, fuel: Option<u64>) -> Replayed {
    let materials = tree.root.replay_materials(crash.report.unwrap()).unwrap();
    let limits = materials.limits();
    let limits = Limits { fuel: fuel.unwrap_or(limits.fuel), ..limits };
    replay(guest, &materials, &limits, Arc::new(NoLog)).unwrap()
}

/// Runs the crash again; it must be the same.
fn same_again(guest: &Arc<Guest>, tree: &Tree, daemon: &str, crash: &Crash) {
    kept(tree, daemon, crash.report.unwrap());
    match again(guest, tree, crash, None) {
        Replayed::Crashed { crash: second, .. } => {
            let differs = differences(crash, &second, true);
            assert!(differs.is_empty(), "{differs:?}: {crash:?} and {second:?}");
            assert_eq!(second.fuel_used, crash.fuel_used);
        }
        other => panic!("{crash:?}, and then {other:?}"),
    }
}

#[test]
fn d26_runs_whose_clock_stands_still_or_goes_back_give_no_id_twice_and_lose_no_report() {
    let scratch = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    // A machine without a battery begins in 1970 each time; the first run knew the time.
    for unix_nanos in [1_700_000_000_000_000_000, 0, 0, 1_699_000_000_000_000_000] {
        let entropy = Arc::new(SeededEntropy::new(unix_nanos));
        let options = RootOptions {
            journal: Some(store(scratch.path())),
            ..RootOptions::new(usize::MAX, Arc::new(ManualClock::at(unix_nanos)), entropy)
        };
        let root = Root::start(vec![chaos(|_| {})], options).unwrap();
        let tree = Tree { root, lines: Arc::default() };
        for _ in 0..3 {
            let touched = tree.call("chaos", "touch", json!({ "pages": 1 }));
            assert_eq!(touched.outcome.word(), "committed");
            let crash = crash(&tree, "chaos", "die", json!({ "how": "unreachable" }));
            ids.push(crash.report.unwrap());
            kept(&tree, "chaos", crash.report.unwrap());
        }
        let reports = tree.root.crashes("chaos", 1000).unwrap();
        let kept: Vec<RequestId> = reports.iter().map(|report| report.id).collect();
        assert_eq!(kept, ids);
    }
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

/// One whose answer is too large as JSON: whoever wants none of that gets it.
#[test]
fn an_answer_that_is_too_large_is_so_again() {
    // 12,000,000 characters, of which each takes six bytes in JSON.
    let run = "(memory.fill #1048576 #1 #12000000) (i32.store8 #1048571 #0xdb)
        (i32.store #1048572 #0x1bb700) (return (call $answer #1048571 #12000005))";
    let memory = "(memory (export \"memory\") 200)".to_owned();
    let guest = Hostile { memory, run: run.to_owned(), ..Hostile::default() }.build();
    let guest = deploy(&guest).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plan = plan("d", &guest, |options| {
        options.budget_bytes = 16 << 20;
        options.limits.deadline = Duration::from_secs(600);
    });
    let tree = durable(dir.path(), vec![plan]);
    let crash = crashed(&tree, request("d", RUN, json!({})).shown());
    assert_eq!(crash.code, Code::AnswerTooLarge, "{crash:?}");
    same_again(&guest, &tree, "d", &crash);
    assert_eq!(tree.call("d", RUN, json!({})).outcome.word(), "committed");
}

const WAYS: [&str; 12] = [
    "unreachable",
    "out_of_bounds",
    "divide_by_zero",
    "stack_overflow",
    "spin",
    "allocate",
    "grow",
    "panic",
    "print_then_panic",
    "half_moved",
    "leak_handle",
    "hostcall_storm",
];

/// Every way to die, on different states, from the first try and from the second, under every
/// policy: again the same code, message, fuel and cards.
#[test]
fn every_crash_is_the_same_when_it_is_run_again() {
    let guest = deployed("chaos");
    for (on_crash, retries, fuel) in [
        // Enough to use up all memory.
        (OnCrash::Checkpoint, 1, 100_000_000),
        (OnCrash::Zero, 1, 5_000_000),
        (OnCrash::Ask, 0, 5_000_000),
        (OnCrash::Ask, 2, 5_000_000),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let plan = chaos(|options| {
            options.on_crash = on_crash;
            options.retries_max = retries;
            options.limits.fuel = fuel;
            options.parameters = json!({ "recovery": "resume" });
        });
        let tree = durable(dir.path(), vec![plan]);
        for (number, how) in (0..).zip(WAYS) {
            if number % 3 == 0 {
                drop(tree.committed("chaos", "touch", json!({ "pages": number + 1 })));
            }
            let crash = crash(&tree, "chaos", "die", json!({ "how": how }));
            same_again(&guest, &tree, "chaos", &crash);
        }
    }
}

/// Guests that die of what they are told: time, random numbers, ids, the try, the generation.
#[test]
fn a_crash_that_depends_on_the_circumstances_is_repeated_with_them() {
    // Burns fuel by what the host answers, so that any other answer shows in the fuel. (The engine
    // books the fuel of a function when it calls or returns: hence the call before the trap.)
    let burn = |ask: &str| {
        format!(
            "(local.set $i (i32.add (i32.wrap_i64 (i64.and ({ask}) (i64.const 0xfff))) #1))
             (loop $again
               (local.set $i (i32.sub (local.get $i) #1))
               (br_if $again (local.get $i)))
             (drop (call $attempt)) unreachable"
        )
    };
    for ask in [
        "i64.shr_u (call $now) (i64.const 3)",
        "call $random",
        "i64.extend_i32_u (call $attempt)",
        "call $generation",
    ] {
        let guest = deploy(&hostile(&burn(ask))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tree = durable(dir.path(), vec![plan("hostile", &guest, |_| {})]);
        let mut fuels = BTreeSet::new();
        for _ in 0..6 {
            drop(tree.committed("hostile", BUMP, json!({})));
            let crash = crash(&tree, "hostile", RUN, json!({}));
            fuels.insert(crash.fuel_used);
            same_again(&guest, &tree, "hostile", &crash);
        }
        // Always the second try.
        assert_eq!(fuels.len() == 1, ask.contains("attempt"), "{ask}: {fuels:?}");
    }
}

#[test]
fn crashes_that_are_found_after_the_call_are_found_again() {
    // A result that fits no schema.
    let guest = Hostile {
        run: "(i32.store8 #512 #0xc1) (return (call $answer #512 #1))".to_owned(),
        ..Hostile::default()
    };
    let guest = deploy(&guest.build()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![plan("hostile", &guest, |_| {})]);
    let crash = crash(&tree, "hostile", RUN, json!({}));
    assert_eq!(crash.code, Code::ResultShape);
    same_again(&guest, &tree, "hostile", &crash);
}

#[test]
fn a_replay_goes_all_the_way_with_more_fuel_and_shows_all_frames() {
    let sum = "(local.set $i #100000)
        (loop $again
          (local.set $i (i32.sub (local.get $i) #1))
          (br_if $again (local.get $i)))";
    let guest = deploy(&hostile(sum)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plans =
        vec![plan("hostile", &guest, |options| options.limits.fuel = 10_000), chaos(|_| {})];
    let tree = durable(dir.path(), plans);
    let starved = crash(&tree, "hostile", RUN, json!({}));
    assert_eq!(starved.code, Code::Fuel);
    same_again(&guest, &tree, "hostile", &starved);
    let fed = again(&guest, &tree, &starved, Some(100_000_000));
    assert!(matches!(fed, Replayed::Returned(_)), "{fed:?}");
    assert_eq!(tree.committed("hostile", VALUE, json!({})), 0, "nothing was committed");
    let full = SandboxOptions { full_backtraces: true, ..SandboxOptions::default() };
    let deep = Sandbox::new(full).unwrap().deploy(&tests::guest("chaos")).unwrap();
    let crash = crash(&tree, "chaos", "die", json!({ "how": "stack_overflow" }));
    kept(&tree, "chaos", crash.report.unwrap());
    match again(&deep, &tree, &crash, None) {
        Replayed::Crashed { crash: second, offsets } => {
            assert!(differences(&crash, &second, true).is_empty(), "{:?}", second.message);
            assert!(second.backtrace.len() > 1000 && offsets.iter().flatten().count() > 1000);
            assert!(second.backtrace.last().unwrap().contains("call"));
        }
        other => panic!("{other:?}"),
    }
}

/// The sandbox that the guest was made in is gone by then.
#[test]
fn a_replay_with_much_fuel_ends_at_its_deadline() {
    let spin = hostile("(loop (br 0))");
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![plan("hostile", &deploy(&spin).unwrap(), |_| {})]);
    let crash = crash(&tree, "hostile", RUN, json!({}));
    kept(&tree, "hostile", crash.report.unwrap());
    let materials = tree.root.replay_materials(crash.report.unwrap()).unwrap();
    let guest = Sandbox::new(SandboxOptions::default()).unwrap().deploy(&spin).unwrap();
    let limits = Limits { fuel: 20_000_000_000, deadline: Duration::from_millis(50) };
    match replay(&guest, &materials, &limits, Arc::new(NoLog)).unwrap() {
        Replayed::Crashed { crash, .. } => assert_eq!(crash.code, Code::Deadline),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reports_survive_a_restart_and_name_what_can_be_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let guest = deployed("chaos");
    let tree = durable(dir.path(), vec![chaos(|_| {})]);
    let mut keyed = request("chaos", "die", json!({ "how": "panic" }));
    keyed.correlation = Some("outside".to_owned());
    keyed.key = Some("k".to_owned());
    let first = crashed(&tree, keyed);
    drop(tree.committed("chaos", "touch", json!({ "pages": 3 })));
    let second = crash(&tree, "chaos", "die", json!({ "how": "spin" }));
    assert!(first.report < second.report);
    drop(tree);
    let tree = durable(dir.path(), vec![chaos(|_| {})]);
    let reports = tree.root.crashes("chaos", 1000).unwrap();
    let ids: Vec<_> = reports.iter().map(|report| Some(report.id)).collect();
    assert_eq!(ids, [first.report, second.report], "the newest is the last");
    assert_eq!(tree.root.crashes("chaos", 1).unwrap()[0].crash, second);
    assert_eq!(reports[0].correlation.as_deref(), Some("outside"));
    assert_eq!((reports[0].sequence.0, reports[1].sequence.0), (0, 1));
    let third = crash(&tree, "chaos", "die", json!({ "how": "grow" }));
    assert!(second.report < third.report, "no id is given out twice");
    for crash in [&first, &second, &third] {
        same_again(&guest, &tree, "chaos", crash);
    }
    drop(tree);
    // Without a host, from the directory alone.
    let materials = replay_materials(&store(dir.path()), first.report.unwrap()).unwrap();
    assert_eq!(materials.code, tests::guest("chaos"));
    let replayed = replay(&guest, &materials, &materials.limits(), Arc::new(NoLog)).unwrap();
    assert!(matches!(replayed, Replayed::Crashed { .. }), "{replayed:?}");
}

#[test]
fn what_a_replay_says_and_logs_is_the_guests_own() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![chaos(|_| {})]);
    let crash = crash(&tree, "chaos", "die", json!({ "how": "print_then_panic" }));
    kept(&tree, "chaos", crash.report.unwrap());
    let materials = tree.root.replay_materials(crash.report.unwrap()).unwrap();
    let lines = Arc::new(Lines::default());
    let guest = deployed("chaos");
    drop(replay(&guest, &materials, &materials.limits(), lines.clone()).unwrap());
    let lines = lines.take();
    assert!(lines.iter().any(|line| line.message == "about to panic"), "{lines:?}");
    let (id, attempt) = (materials.report.id, crash.attempt);
    assert!(lines.iter().all(|line| (line.request, line.attempt) == (id, attempt)));
    let other = replay(&deployed("ledger"), &materials, &materials.limits(), Arc::new(NoLog));
    assert_eq!(other.unwrap_err().code, Code::CodeChanged);
}

#[test]
fn what_cannot_be_run_again_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { retain_commits: 2, ..StoreOptions::default() };
    let store = Arc::new(Store::open(dir.path(), options, DirectoryId(5)).unwrap());
    let tree = Tree::durable(vec![chaos(|_| {})], store);
    let code = |id: RequestId| tree.root.replay_materials(id).unwrap_err().code;
    assert_eq!(code(RequestId(99)), Code::NoCrash);
    let text = "x".repeat(ARGUMENTS_BYTES_MAX);
    let starved = tests::plan("small", &deployed("chaos"), |options| options.limits.fuel = 100);
    let memory_only = Tree::start_quietly(vec![starved]);
    let unreported = crash(&memory_only, "small", "echo", json!({ "text": "x" }));
    assert_eq!(unreported.report, None, "without a journal there is nothing to run again");
    let fault = memory_only.root.crashes("small", 1).unwrap_err();
    assert_eq!(fault.code, Code::MemoryOnly);
    let large = crash(&tree, "chaos", "echo", json!({ "text": text.repeat(60) }));
    kept(&tree, "chaos", large.report.unwrap());
    assert_eq!(code(large.report.unwrap()), Code::NoCrash);
    // The commit that it ran on is folded away.
    let early = crash(&tree, "chaos", "die", json!({ "how": "panic" }));
    kept(&tree, "chaos", early.report.unwrap());
    drop(tree.root.replay_materials(early.report.unwrap()).unwrap());
    for _ in 0..2000 {
        drop(tree.committed("chaos", "touch", json!({ "pages": 1 })));
        if tree.root.commits("chaos", 1).unwrap().oldest.is_some_and(|oldest| oldest.0 > 0) {
            break;
        }
    }
    assert_eq!(code(early.report.unwrap()), Code::NoCommit);
}

/// A commit that was never durable, and another one with its number: as after a power cut.
#[test]
fn a_report_is_not_run_on_another_commit_of_the_same_number() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(durable(before.path(), vec![chaos(|_| {})]));
    for entry in std::fs::read_dir(before.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, after.path().join(path.file_name().unwrap())).unwrap();
    }
    let lost = durable(before.path(), vec![chaos(|_| {})]);
    drop(lost.committed("chaos", "touch", json!({ "pages": 1 })));
    let crash = crash(&lost, "chaos", "die", json!({ "how": "panic" }));
    drop(lost);
    let id = crash.report.unwrap();
    let report = store(before.path()).crash(id).unwrap().unwrap();
    store(after.path()).put_crashes(&[(id, report)]).unwrap();
    let tree = durable(after.path(), vec![chaos(|_| {})]);
    drop(tree.committed("chaos", "touch", json!({ "pages": 2 })));
    let fault = tree.root.replay_materials(id).unwrap_err();
    assert_eq!(fault.code, Code::NoCommit, "{fault}");
    assert!(fault.message.contains("not the one"), "{fault}");
}

#[test]
fn a_report_of_a_copy_that_is_gone_is_not_run_on_another_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![chaos(|_| {})]);
    let deploy = |_: &[u8]| Ok(deployed("chaos"));
    drop(tree.root.fork("chaos", "copy", None, &deploy).unwrap());
    let gone = crash(&tree, "copy", "die", json!({ "how": "panic" }));
    kept(&tree, "copy", gone.report.unwrap());
    tree.root.remove("copy").unwrap();
    drop(tree.root.fork("chaos", "copy", None, &deploy).unwrap());
    let fault = tree.root.replay_materials(gone.report.unwrap()).unwrap_err();
    assert_eq!(fault.code, Code::NoCommit, "{fault}");
    assert!(fault.message.contains("removed"), "{fault}");
    assert!(tree.root.crashes("copy", 9).unwrap().is_empty());
}

/// Ten thousand crashes, all different: a burst of reports, and the rest is counted. The same crash
/// again and again: one.
#[test]
fn r6_a_storm_of_crashes_leaves_few_reports() {
    let dir = tempfile::tempdir().unwrap();
    let plans =
        vec![chaos(|options| options.retries_max = 0), plan("quiet", &deployed("chaos"), |_| {})];
    let tree = durable(dir.path(), plans);
    let repeats = tests::setting("BULKHEAD_STORM", 3000);
    let mut ids = BTreeSet::new();
    for _ in 0..repeats {
        ids.insert(crash(&tree, "chaos", "die", json!({ "how": "panic" })).report);
    }
    assert_eq!(ids.len(), 1);
    let report = tree.view("chaos").report.crash_reports;
    assert_eq!((report.made, report.repeated), (1, repeats - 1));
    for number in 0..repeats {
        // Different arguments; dies of its fuel.
        let text = format!("{number:>60000}");
        if number % 100 == 0 {
            drop(tree.code("chaos", "echo", json!({ "text": text })));
        }
        let how = WAYS[usize::try_from(number).unwrap() % 4];
        if number % 500 == 0 {
            drop(tree.committed("chaos", "touch", json!({ "pages": 1 })));
        }
        drop(crash(&tree, "chaos", "die", json!({ "how": how })));
    }
    let view = tree.view("chaos").report;
    let report = view.crash_reports;
    let total = report.made + report.repeated + report.left_out + report.dropped;
    assert_eq!(total, view.crashed, "each crash is counted once");
    // A slow machine may earn some more on the way.
    assert!(report.made <= u64::from(BURST) + 5, "{report:?}");
    // The storm takes nothing from others.
    let other = crash(&tree, "quiet", "die", json!({ "how": "panic" }));
    kept(&tree, "quiet", other.report.unwrap());
    assert!(tree.root.crashes("chaos", 1000).unwrap().len() as u64 <= report.made);
}

#[test]
fn a_simulated_crash_leaves_the_state_as_it_was() {
    for on_crash in [OnCrash::Checkpoint, OnCrash::Zero, OnCrash::Ask] {
        let dir = tempfile::tempdir().unwrap();
        let plan = chaos(|options| options.on_crash = on_crash);
        let tree =
            durable(dir.path(), vec![plan, tests::plan("ledger", &deployed("ledger"), |_| {})]);
        for daemon in ["chaos", "ledger"] {
            for round in 0..20 {
                let before = (tree.hash(daemon), tree.view(daemon).report);
                let simulated = tree.root.simulate_crash(daemon).unwrap();
                assert_eq!(simulated.hash.to_hex().as_str(), before.0);
                assert_ne!(simulated.ruined, simulated.hash);
                assert_eq!((simulated.trap, simulated.cards), (Code::Fuel, 64));
                let after = (tree.hash(daemon), tree.view(daemon).report);
                assert_eq!(after.0, before.0);
                assert_eq!(after.1.sequence, before.1.sequence);
                assert_eq!(after.1.generation, before.1.generation + 1);
                let unchanged = (after.1.crashed, after.1.restarts, after.1.crash_reports);
                assert_eq!(unchanged, (0, 0, before.1.crash_reports));
                match daemon {
                    "chaos" => drop(tree.committed(daemon, "touch", json!({ "pages": round }))),
                    _ => drop(tree.committed(
                        daemon,
                        "deposit",
                        json!({ "account": "ann", "amount": 1 }),
                    )),
                }
            }
        }
        assert_eq!(tree.committed("ledger", "total", json!({})), 20);
    }
}

#[test]
fn a_parked_daemon_is_not_crashed_and_a_guest_that_is_told_of_restarts_is_told() {
    let told = Hostile {
        on_restore: "(i32.store #24 (i32.add (i32.load #24) #1))".to_owned(),
        run: "(return (call $answer #24 #1))".to_owned(),
        hooks: 2,
        ..Hostile::default()
    };
    let guest = deploy(&told.build()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plans = vec![
        plan("told", &guest, |_| {}),
        chaos(|options| {
            options.on_crash = OnCrash::Ask;
            options.parameters = json!({ "recovery": "park" });
        }),
    ];
    let tree = durable(dir.path(), plans);
    let first = tree.root.simulate_crash("told").unwrap();
    let second = tree.root.simulate_crash("told").unwrap();
    assert_eq!(second.sequence.0, first.sequence.0 + 1, "what it did then is a commit");
    assert_ne!(second.hash, first.hash);
    assert_eq!(tree.committed("told", RUN, json!({})), 2);
    drop(crash(&tree, "chaos", "die", json!({ "how": "panic" })));
    assert_eq!(tree.root.simulate_crash("chaos").unwrap_err().code, Code::Parked);
    tree.root.revert("chaos", RevertTo::Last(0)).unwrap();
    assert_eq!(tree.root.simulate_crash("chaos").unwrap().trap, Code::Fuel);
}
