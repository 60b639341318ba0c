//! What daemons show each other.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use host::base::failpoint;
use host::base::ids::Sequence;
use host::base::limits::{NAME_BYTES_MAX, OUTPUT_BYTES_MAX};
use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use host::mechanisms::sandbox::NoLog;
use host::pure::request::Outcome;
use host::tree::{DaemonPlan, Replayed, RevertTo, replay};
use proptest::prelude::*;
use serde_json::{Value, json};
use tests::{
    BUMP, REAL, RUN, Tree, VALUE, deploy, deployed, hostile, in_own_process, plan, rebuilt,
    request, setting,
};

fn rates(name: &str) -> DaemonPlan {
    plan(name, &deployed("rates"), |_| ())
}

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, StoreOptions::default(), DirectoryId(8)).unwrap())
}

fn set(tree: &Tree, daemon: &str, rate: f64) -> String {
    tree.code(daemon, "set", json!({ "currency": "EUR", "rate": rate }))
}

/// What `till` sees of `daemon`: the rate, and the commit that it is of.
fn seen(tree: &Tree, daemon: &str) -> Option<(f64, u64)> {
    let args = json!({ "at": daemon, "currency": "EUR", "amount": 1.0 });
    match tree.call("till", "worth", args).outcome {
        Outcome::Committed(value) => {
            let sale: Value = host::pure::json::from_message_pack(&value).unwrap();
            Some((sale["value"].as_f64().unwrap(), sale["version"].as_u64().unwrap()))
        }
        Outcome::Rejected(rejection) if rejection.code == "unknown" => None,
        outcome => panic!("{outcome:?}"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8),
    /// Shows, and is rejected.
    Fail,
    Hide,
    Read,
    Crash,
    Revert(u64),
    Upgrade,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..9_u8).prop_map(Step::Set),
        1 => Just(Step::Fail),
        1 => Just(Step::Hide),
        1 => Just(Step::Read),
        1 => Just(Step::Crash),
        1 => (0..4_u64).prop_map(Step::Revert),
        1 => Just(Step::Upgrade),
        1 => Just(Step::Restart),
    ]
}

/// Whatever happens to a daemon, others see what its last commit shows, and nothing else.
fn follows(steps: &[Step], durable: bool) {
    let dir = tempfile::tempdir().unwrap();
    let codes = [deployed("rates"), deploy(&rebuilt("rates", 1)).unwrap()];
    let mut code = 0;
    let start = |code: usize| {
        let plans = vec![plan("rates", &codes[code], |_| ()), rates("till")];
        if durable { Tree::durable(plans, store(dir.path())) } else { Tree::start(plans) }
    };
    let mut tree = start(code);
    // What each commit shows, and from which one on they are of the code that runs.
    let (mut shown, mut first) = (vec![None], 0);
    for step in steps {
        let last = shown.last().copied().flatten();
        match step {
            Step::Set(rate) => {
                assert_eq!(set(&tree, "rates", f64::from(*rate)), "");
                shown.push(Some(f64::from(*rate)));
            }
            Step::Fail => assert_eq!(set(&tree, "rates", -1.0), "rate"),
            Step::Hide => {
                let _nothing = tree.committed("rates", "hide", json!({}));
                shown.push(None);
            }
            Step::Read => drop(tree.committed("rates", "sold", json!({}))),
            Step::Crash => {
                assert_eq!(set(&tree, "till", 9.0), "");
                let args = json!({ "at": "till", "currency": "EUR", "amount": f64::MAX });
                assert_eq!(tree.code("rates", "sell", args), "E_TRAP_UNREACHABLE");
            }
            Step::Revert(back) if durable => {
                let to = (shown.len() as u64 - 1).saturating_sub(*back).max(first);
                if tree.root.revert("rates", RevertTo::Commit(Sequence(to))).is_ok() {
                    shown.push(shown[usize::try_from(to).unwrap()]);
                }
            }
            Step::Revert(_) => {}
            Step::Upgrade => {
                code = 1 - code;
                let _upgraded = tree.root.upgrade("rates", codes[code].clone(), REAL).unwrap();
                first = shown.len() as u64;
                shown.push(last);
            }
            Step::Restart if durable => {
                drop(tree);
                tree = start(code);
            }
            Step::Restart => {}
        }
        let expected = shown.last().copied().flatten();
        let sequence = shown.len() as u64 - 1;
        assert_eq!(tree.view("rates").report.sequence, sequence, "{step:?}");
        let found = seen(&tree, "rates");
        assert_eq!(found.map(|(rate, _)| rate), expected, "{step:?} of {steps:?}");
        assert!(found.is_none_or(|(_, version)| version <= sequence), "{step:?}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(setting("OUTPUT_CASES", 12)).unwrap(),
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    })]

    #[test]
    fn s4_16_others_see_what_the_last_commit_shows(
        steps in proptest::collection::vec(step(), 1..25),
        durable: bool,
    ) {
        follows(&steps, durable);
    }
}

#[test]
fn s4_16_a_guest_that_shows_what_it_must_not_crashes_alone() {
    let most = OUTPUT_BYTES_MAX;
    let name = NAME_BYTES_MAX + 1;
    let cases = [
        ("(call $show #0xffffffff #1)".to_owned(), "E_OUTPUT_RANGE"),
        ("(call $show #131072 #1)".to_owned(), "E_OUTPUT_RANGE"),
        ("(call $show #131071 #2)".to_owned(), "E_OUTPUT_RANGE"),
        (format!("(drop (memory.grow #20)) (call $show #0 #{})", most + 1), "E_OUTPUT_RANGE"),
        ("(call $show #0 #0xffffffff)".to_owned(), "E_OUTPUT_RANGE"),
        (format!("(call $read-output #4096 #{name} #0 #1 #96)"), "E_HOSTCALL_ARGS"),
        ("(call $read-output #0xfffffff0 #64 #0 #1 #96)".to_owned(), "E_HOSTCALL_ARGS"),
        (
            "(loop (call $read-output #4096 #2 #0 #1 #96)
                (i32.store16 #4096 (i32.add (i32.load16_u #4096) #1)) (br 0))"
                .to_owned(),
            "E_HOSTCALL_LIMIT",
        ),
        // Whatever is written to what was read stays with who read it.
        (
            "(call $read-output #4096 #5 #0 #9 #96) (i32.store (i32.load #96) #0xffff)".to_owned(),
            "",
        ),
    ];
    for (what, code) in cases {
        let what = what.replace("#4096 #5", "#4097 #5");
        let run = format!("(i64.store #4097 (i64.const 0x7365746172)) {what}");
        let run = if code == "E_HOSTCALL_LIMIT" { what.clone() } else { run };
        let guest = deploy(&hostile(&run)).unwrap();
        let tree = Tree::start(vec![plan("bad", &guest, |_| ()), rates("rates"), rates("till")]);
        assert_eq!(set(&tree, "rates", 3.0), "");
        let _bumped = tree.committed("bad", BUMP, json!({}));
        assert_eq!(tree.code("bad", RUN, json!({})), code, "{what}");
        let expected = if code.is_empty() { 2 } else { 1 };
        assert_eq!(tree.committed("bad", VALUE, json!({})), json!(expected), "{what}");
        assert!(tree.root.output("bad").unwrap().is_none());
        assert_eq!(
            (seen(&tree, "rates"), tree.view("rates").report.generation),
            (Some((3.0, 1)), 1)
        );
    }
}

/// What an output of the largest size shows is what the guest's memory held at its commit.
#[test]
fn s4_16_the_largest_output_is_shown_whole() {
    let most = OUTPUT_BYTES_MAX;
    let run = format!(
        "(drop (memory.grow #20)) (memory.fill #131072 #7 #{most}) (call $show #131072 #{most})"
    );
    let guest = deploy(&hostile(&run)).unwrap();
    let tree = Tree::start(vec![plan("large", &guest, |_| ())]);
    let _run = tree.committed("large", RUN, json!({}));
    let shown = tree.root.output("large").unwrap().unwrap();
    assert!(shown.sequence.0 == 1 && shown.bytes.len() == most);
    assert!(shown.bytes.iter().all(|&byte| byte == 7));
    // A commit that doesn't touch it makes no version.
    let _bumped = tree.committed("large", BUMP, json!({}));
    assert_eq!(tree.root.output("large").unwrap().unwrap().sequence.0, 1);
}

#[test]
fn s4_16_a_copy_shows_its_own_and_a_daemon_that_is_removed_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::durable(vec![rates("rates"), rates("till")], store(dir.path()));
    assert_eq!(set(&tree, "rates", 2.0), "");
    let same = |_: &[u8]| panic!("the code is the same");
    tree.root.fork("rates", "copy", None, &same).unwrap();
    assert_eq!(seen(&tree, "copy").map(|(rate, _)| rate), Some(2.0));
    assert_eq!(set(&tree, "rates", 4.0), "");
    assert_eq!(seen(&tree, "copy").map(|(rate, _)| rate), Some(2.0));
    tree.root.remove("copy").unwrap();
    assert_eq!(seen(&tree, "copy"), None);
    assert_eq!(seen(&tree, "rates").map(|(rate, _)| rate), Some(4.0));
}

/// A crash that depends on what another daemon showed is run again with what it showed then.
#[test]
fn s4_16_a_crash_is_run_again_with_what_it_had_seen() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::durable(vec![rates("rates"), rates("till")], store(dir.path()));
    assert_eq!(set(&tree, "rates", 10.0), "");
    let args = json!({ "at": "rates", "currency": "EUR", "amount": 1e308 });
    let Outcome::Crashed(crash) = tree.call("till", "sell", args).outcome else {
        panic!("it must not fit")
    };
    assert_eq!(set(&tree, "rates", 1.0), "");
    let id = crash.report.unwrap();
    let materials = (0..1000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        tree.root.replay_materials(id).ok()
    });
    let mut materials = materials.expect("a report");
    let (guest, limits) = (deployed("rates"), materials.limits());
    let again = replay(&guest, &materials, &limits, Arc::new(NoLog)).unwrap();
    assert!(matches!(&again, Replayed::Crashed { crash: second, .. }
        if second.message == crash.message && second.fuel_used == crash.fuel_used));
    // It does depend on it.
    materials.seen.clear();
    let other = replay(&guest, &materials, &limits, Arc::new(NoLog)).unwrap();
    assert!(matches!(other, Replayed::Rejected(_)), "{other:?}");
}

/// What is not durable is not seen: a reader must not know of a commit that a crash may undo.
#[test]
fn s4_16_nothing_is_shown_before_it_is_durable() {
    in_own_process("host::outputs::s4_16_nothing_is_shown_before_it_is_durable", || {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::durable(vec![rates("rates"), rates("till")], store(dir.path()));
        assert_eq!(set(&tree, "rates", 2.0), "");
        failpoint::arm("before-sync:1:stall".parse().unwrap());
        let (answered, answer) = sync_channel(1);
        let args = json!({ "currency": "EUR", "rate": 5.0 });
        let reply = move |answer| answered.send(answer).unwrap();
        tree.root.submit(request("rates", "set", args), Box::new(reply));
        while tree.view("rates").report.sequence < 2 {
            std::thread::yield_now();
        }
        // In memory it is committed.
        assert_eq!(seen(&tree, "rates"), Some((2.0, 1)));
        assert!(answer.try_recv().is_err(), "the sync stalls for two seconds");
        assert!(matches!(answer.recv().unwrap().outcome, Outcome::Committed(_)));
        assert_eq!(seen(&tree, "rates"), Some((5.0, 2)));
    });
}
