//! Earlier states, copies and files of states: revert, fork, snapshot, restore.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::base::error::{Code, Fault};
use host::base::failpoint::{Action, Failure, Point, arm};
use host::base::ids::Sequence;
use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use host::mechanisms::sandbox::{Guest, Limits};
use host::pure::checkpoint::encode_snapshot;
use host::pure::kept_setup::KeptSetup;
use host::pure::policy::OnCrash;
use host::pure::record::Kind;
use host::pure::request::{Outcome, Request};
use host::pure::setting::parse_restarts;
use host::tree::{DaemonOptions, DaemonPlan, DaemonState, Depends, RevertTo};
use serde_json::{Value, json};
use tests::{
    Fake, Hostile, REAL, REHEARSAL, RUN, Tree, deployed, in_own_process, plan, request, sandbox,
};

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, StoreOptions::default(), DirectoryId(5)).unwrap())
}

fn ledger(name: &str) -> DaemonPlan {
    plan(name, &deployed("ledger"), |_| {})
}

fn durable(dir: &Path, plans: Vec<DaemonPlan>) -> Tree {
    Tree::durable(plans, store(dir))
}

fn deploy(code: &[u8]) -> Result<Arc<Guest>, Fault> {
    sandbox().deploy(code).map_err(|error| Fault::from(&error))
}

/// A whole state that no record holds: it is forked, restored, gone back to, upgraded and loaded.
fn large_state(mib: usize, options: StoreOptions) {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(Store::open(dir.path(), options, DirectoryId(5)).unwrap());
    let budget = (mib + mib / 8 + 4) << 20;
    let named = |name: &str| {
        plan(name, &deployed("chaos"), |its| {
            its.budget_bytes = budget;
            its.limits.fuel = 100 << 30;
            // The comparison of the images is not what is looked at.
            its.verify = mib < 100;
        })
    };
    let tree = Tree::durable(vec![named("chaos")], open());
    let mut held = 0;
    while held < mib {
        let some = (mib - held).min(64);
        held += some;
        assert_eq!(tree.committed("chaos", "hold", json!({"mib": some})), json!(held));
    }
    let (hash, at) = (tree.hash("chaos"), tree.view("chaos").report.sequence);
    tree.root.fork("chaos", "copy", None, &deploy).unwrap();
    assert_eq!(tree.hash("copy"), hash);
    let (_, snapshot) = tree.root.snapshot("chaos", None).unwrap();
    tree.root.remove("copy").unwrap();
    let its = DaemonOptions { name: "restored".to_owned(), ..named("restored").options };
    tree.root.restore(&snapshot, its, &deploy).unwrap();
    drop(snapshot);
    assert_eq!(tree.hash("restored"), hash);
    let size = tree.root.commits("restored", 1).unwrap().commits[0];
    assert!(size.changed_bytes >= (mib << 20) as u64, "{size:?}");
    // Everything changes, so that going back is a whole state as well.
    let same = tree.committed("chaos", "touch", json!({"pages": 3}));
    assert_eq!(same, json!(3));
    tree.root.revert("chaos", RevertTo::Commit(Sequence(at))).unwrap();
    assert_eq!(tree.hash("chaos"), hash);
    let revert = tree.root.revert("chaos", RevertTo::Commit(Sequence(0))).unwrap();
    assert_eq!(revert.0, Sequence(0));
    tree.root.revert("chaos", RevertTo::Commit(Sequence(at))).unwrap();
    assert_eq!(tree.hash("chaos"), hash, "back again");
    drop(tree);
    let store = open();
    assert!(store.verify().is_good(), "{:?}", store.verify());
    let restored = DaemonPlan { copied: true, ..named("restored") };
    let tree = Tree::durable(vec![named("chaos"), restored], store);
    assert_eq!(tree.hash("chaos"), hash);
    assert_eq!(tree.hash("restored"), hash);
    assert_eq!(tree.committed("restored", "hold", json!({"mib": 0})), json!(mib));
}

#[test]
fn c16_a_state_larger_than_any_record_is_copied_and_gone_back_to() {
    let usual = StoreOptions::default();
    large_state(6, StoreOptions { part_bytes: 64 << 10, ..usual });
    // With a log that takes no part.
    let (part_bytes, log_bytes) = (1 << 20, StoreOptions::LOG_BYTES_MIN);
    large_state(3, StoreOptions { part_bytes, log_bytes, ..usual });
}

#[test]
#[ignore = "takes gigabytes of memory"]
fn soak_c16_a_gibibyte_of_state_is_copied_and_gone_back_to() {
    large_state(1024, StoreOptions::default());
}

fn keyed(key: &str, amount: u64) -> Request {
    let request = request("ledger", "deposit", json!({"account": "ann", "amount": amount}));
    Request { key: Some(key.to_owned()), ..request }
}

fn balance(tree: &Tree, daemon: &str) -> Value {
    tree.committed(daemon, "balance", json!({"account": "ann"}))
}

fn deposit(tree: &Tree, daemon: &str, amount: u64) {
    drop(tree.committed(daemon, "deposit", json!({"account": "ann", "amount": amount})));
}

#[test]
fn a_revert_brings_an_earlier_commit_back_as_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![ledger("ledger")]);
    let mut hashes = vec![tree.hash("ledger")];
    for amount in 1..=20 {
        deposit(&tree, "ledger", amount);
        hashes.push(tree.hash("ledger"));
    }
    let (to, sequence) = tree.root.revert("ledger", RevertTo::Commit(Sequence(7))).unwrap();
    assert_eq!((to, sequence), (Sequence(7), Sequence(21)));
    assert_eq!(tree.hash("ledger"), hashes[7]);
    assert_eq!(balance(&tree, "ledger"), json!(28));
    deposit(&tree, "ledger", 100);
    let (to, _) = tree.root.revert("ledger", RevertTo::Last(2)).unwrap();
    assert_eq!(to, Sequence(20), "what the first revert undid is there to go back to");
    assert_eq!(tree.hash("ledger"), hashes[20]);
    let kept = tree.root.commits("ledger", 3).unwrap();
    let kinds: Vec<_> = kept.commits.iter().map(|line| line.head.kind).collect();
    assert_eq!(kinds, [Kind::Revert, Kind::Commit, Kind::Revert]);
    assert_eq!(kept.commits[2].head.reverted_to(), Some(Sequence(20)));
    assert_eq!(kept.oldest, Some(Sequence(0)));
    drop(tree);
    let tree = durable(dir.path(), vec![ledger("ledger")]);
    assert_eq!(tree.hash("ledger"), hashes[20]);
    deposit(&tree, "ledger", 1);
}

#[test]
fn a_revert_forgets_the_answers_of_what_it_undid() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![ledger("ledger")]);
    let first = tree.root.call(keyed("a", 1)).unwrap();
    drop(tree.root.call(keyed("b", 2)).unwrap());
    tree.root.revert("ledger", RevertTo::Commit(first.sequence)).unwrap();
    for _start in 0..2 {
        assert_eq!(tree.root.call(keyed("a", 1)).unwrap().sequence, first.sequence);
    }
    drop(tree);
    let tree = durable(dir.path(), vec![ledger("ledger")]);
    assert_eq!(tree.root.call(keyed("a", 1)).unwrap().sequence, first.sequence);
    let again = tree.root.call(keyed("b", 5)).unwrap();
    assert!(matches!(again.outcome, Outcome::Committed(_)), "{again:?}");
    assert_eq!(balance(&tree, "ledger"), json!(6));
}

#[test]
fn a_revert_runs_a_parked_daemon_again() {
    let dir = tempfile::tempdir().unwrap();
    let chaos = plan("chaos", &deployed("chaos"), |_| {});
    let tree = durable(dir.path(), vec![chaos]);
    let hash = tree.hash("chaos");
    drop(tree.committed("chaos", "touch", json!({"pages": 2})));
    while tree.view("chaos").report.state != DaemonState::Parked {
        tree.root.panic_in_next_host_call("chaos").unwrap();
        drop(tree.code("chaos", "print", json!({"text": "x"})));
    }
    tree.root.revert("chaos", RevertTo::Last(1)).unwrap();
    assert_eq!(tree.hash("chaos"), hash);
    assert_eq!(tree.view("chaos").report.state, DaemonState::Ready);
    assert!(tree.view("chaos").report.parked.is_none());
    drop(tree.committed("chaos", "touch", json!({"pages": 1})));
}

#[test]
fn a_fork_goes_its_own_way_and_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![ledger("ledger")]);
    deposit(&tree, "ledger", 1);
    let early = tree.hash("ledger");
    deposit(&tree, "ledger", 2);
    let generation = tree.view("ledger").report.generation;
    let taken = tree.root.fork("ledger", "early", Some(Sequence(1)), &deploy).unwrap();
    assert_eq!(taken.hash().to_hex().to_string(), early);
    tree.root.fork("ledger", "late", None, &deploy).unwrap();
    assert_eq!(tree.hash("early"), early);
    assert_eq!(tree.hash("late"), tree.hash("ledger"));
    assert!(tree.view("late").report.generation > generation);
    deposit(&tree, "late", 10);
    assert_eq!(balance(&tree, "ledger"), json!(3));
    assert_eq!(balance(&tree, "late"), json!(13));
    let code = |new: &str| tree.root.fork("ledger", new, None, &deploy).unwrap_err().code;
    assert_eq!(code("late"), Code::DaemonExists);
    assert_eq!(code("a/b"), Code::Name);
    let far = tree.root.fork("ledger", "far", Some(Sequence(99)), &deploy).unwrap_err();
    assert_eq!(far.code, Code::NoCommit);
    assert_eq!(tree.root.remove("ledger").unwrap_err().code, Code::DaemonFile);
    tree.root.remove("early").unwrap();
    assert_eq!(tree.code("early", "total", json!({})), "E_DAEMON_UNKNOWN");
    drop(tree);
    let late = DaemonPlan { copied: true, ..ledger("late") };
    let tree = durable(dir.path(), vec![ledger("ledger"), late]);
    assert_eq!(balance(&tree, "late"), json!(13));
    tree.root.fork("late", "early", None, &deploy).unwrap();
    assert_eq!(balance(&tree, "early"), json!(13), "the name is free, its old state is gone");
    let kept = tree.root.commits("early", 9).unwrap();
    assert_eq!(kept.commits[0].head.kind, Kind::Restore);
}

#[test]
fn a_snapshot_is_restored_on_another_host() {
    let tree = Tree::start(vec![ledger("ledger")]);
    deposit(&tree, "ledger", 42);
    let (_, file) = tree.root.snapshot("ledger", None).unwrap();
    let hash = tree.hash("ledger");
    let options = |name: &str, budget: usize| DaemonOptions::new(name, budget);
    let restored = tree.root.restore(&file, options("copy", 4 << 20), &deploy).unwrap();
    assert_eq!((restored.daemon.as_str(), restored.sequence), ("ledger", Sequence(1)));
    assert_eq!(tree.hash("copy"), hash);
    let no_code = |_: &[u8]| -> Result<Arc<Guest>, Fault> { panic!("nothing to deploy") };
    let cut = tree.root.restore(&file[..file.len() - 1], options("x", 4 << 20), &no_code);
    assert_eq!(cut.unwrap_err().code, Code::Snapshot);
    let small = tree.root.restore(&file, options("small", 1 << 20), &deploy).unwrap_err();
    assert!(matches!(small.code, Code::Budget | Code::MemoryLimit), "{small}");
    assert_eq!(tree.code("small", "total", json!({})), "E_DAEMON_UNKNOWN");
    assert_eq!(tree.root.commits("ledger", 1).unwrap_err().code, Code::MemoryOnly);
    let revert = tree.root.revert("ledger", RevertTo::Last(1)).unwrap_err();
    assert_eq!(revert.code, Code::MemoryOnly);
    drop(tree);
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![ledger("other")]);
    tree.root.restore(&file, options("ledger", 4 << 20), &deploy).unwrap();
    assert_eq!(tree.hash("ledger"), hash);
    assert_eq!(balance(&tree, "ledger"), json!(42));
}

#[test]
fn what_a_host_forks_is_billed() {
    let plans = vec![ledger("ledger")];
    let tree = Tree::try_start(plans, 40 << 20).unwrap();
    let mut forked = 0;
    let fault = loop {
        match tree.root.fork("ledger", &format!("fork-{forked}"), None, &deploy) {
            Ok(_) => forked += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.code, Code::Budget);
    assert!(forked > 0 && fault.message.contains(&format!("fork-{forked}")), "{fault}");
    tree.root.remove("fork-0").unwrap();
    tree.root.fork("ledger", "again", None, &deploy).unwrap();
}

#[test]
fn a_forged_snapshot_whose_memory_is_not_of_whole_pages_is_refused() {
    let tree = Tree::start(vec![ledger("ledger")]);
    for more in [1, 4096, 65_535] {
        let (mut checkpoint, code) = tree.root.checkpoint_with_code("ledger", None).unwrap();
        checkpoint.memory.resize(checkpoint.memory.len() + more, 0);
        let snapshot = encode_snapshot(&checkpoint, &code);
        let options = DaemonOptions::new("copy", 4 << 20);
        let restored = tree.root.restore(&snapshot, options, &deploy).map(drop);
        assert_eq!(restored.unwrap_err().code, Code::Snapshot, "{more}");
        let into = tree.root.restore_into("ledger", &snapshot).map(drop);
        assert_eq!(into.unwrap_err().code, Code::Snapshot, "{more}");
    }
}

/// A copy that is about to start, and one of a state that is about to be made, don't get the same
/// memory.
#[test]
fn what_starts_is_billed_before_it_runs() {
    let limit = 40 << 20;
    let tree = Tree::try_start(vec![ledger("ledger")], limit).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let total = tree.root.bill().total_bytes();
                assert!(total <= limit, "{total}");
                let _lent = tree.root.lend(limit - total);
            }
        });
        for _ in 0..200 {
            match tree.root.fork("ledger", "copy", None, &deploy) {
                Ok(_) => {
                    let total = tree.root.bill().total_bytes();
                    tree.root.remove("copy").unwrap();
                    assert!(total <= limit, "{total}");
                }
                Err(fault) => assert_eq!(fault.code, Code::Budget, "{fault}"),
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    let bill = tree.root.bill();
    assert_eq!((bill.lines.len(), bill.lent_bytes), (1, 0));
}

#[test]
fn a_copy_is_removed_though_the_journal_fails_once() {
    in_own_process("host::lineage::a_copy_is_removed_though_the_journal_fails_once", || {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::durable(vec![ledger("ledger")], store(dir.path()));
        tree.root.fork("ledger", "copy", None, &deploy).unwrap();
        deposit(&tree, "copy", 1);
        arm(Failure { point: Point::DuringMove, nth: 1, action: Action::Error });
        tree.root.remove("copy").unwrap();
        assert_eq!(
            tree.root.fork("copy", "x", None, &deploy).unwrap_err().code,
            Code::DaemonUnknown
        );
        drop(tree);
        assert!(!store(dir.path()).has_state("copy"));
    });
}

#[test]
fn d12_i22_no_copy_and_no_restored_state_draws_the_same_random_numbers_again() {
    // `run` leaves a random number in the memory: equal hashes would be equal numbers.
    let dice = Hostile {
        run: "(i64.store #4096 (call $random))".to_owned(),
        on_restore: "(i64.store #4104 (call $generation))".to_owned(),
        hooks: 2,
        ..Hostile::default()
    };
    let guest = tests::deploy(&dice.build()).unwrap();
    let deploy = |_: &[u8]| Ok(guest.clone());
    let dir = tempfile::tempdir().unwrap();
    let plans = || vec![plan("dice", &guest, |_| {})];
    let mut tree = durable(dir.path(), plans());
    let mut seen = std::collections::BTreeSet::new();
    let mut throw = |tree: &Tree, daemon: &str| {
        drop(tree.committed(daemon, RUN, json!({})));
        let memory = tree.root.checkpoint(daemon, None).unwrap().memory;
        assert!(seen.insert(memory[4096..4104].to_vec()), "drawn before");
        let told = u64::from_le_bytes(memory[4104..4112].try_into().unwrap());
        let generation = tree.view(daemon).report.generation;
        assert!(told == generation || generation == 1, "told of {told}, is {generation}");
    };
    for round in 0..3 {
        throw(&tree, "dice");
        tree.root.revert("dice", RevertTo::Last(1)).unwrap();
        throw(&tree, "dice");
        let copy = format!("copy-{round}");
        tree.root.fork("dice", &copy, None, &deploy).unwrap();
        throw(&tree, "dice");
        throw(&tree, &copy);
        tree.root.remove(&copy).unwrap();
        drop(tree);
        // The same seed for the host each time: the generation alone makes the difference.
        tree = durable(dir.path(), plans());
    }
}

#[test]
fn a_copy_keeps_how_it_is_run_and_what_it_depends_on() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = (Fake::alive(), store(dir.path()));
    let source = plan("ledger", &deployed("ledger"), |options| {
        options.limits = Limits { fuel: 12_345_678, deadline: Duration::from_millis(1500) };
        (options.retries_max, options.retry_live) = (3, true);
        options.on_crash = OnCrash::Zero;
        options.restarts = parse_restarts("7/90s,emergency").unwrap();
        options.share = "0.25".parse().unwrap();
        options.parameters = json!({"a": [1, "b"]});
    });
    let options = source.options.clone();
    let source = DaemonPlan { uses: vec!["bank/cache".to_owned()], ..source };
    let resources = vec![cache.plan("bank/cache", &[])];
    let tree = Tree::with_resources(vec![source], resources, Some(store.clone()));
    tree.root.fork("ledger", "trial", None, &deploy).unwrap();
    let (_, file) = tree.root.snapshot("ledger", None).unwrap();
    let depends = Depends { needs: vec!["cache".to_owned()], uses: Vec::new() };
    let unknown = Depends { needs: vec!["cash".to_owned()], uses: Vec::new() };
    let restored = DaemonOptions::new("old", 4 << 20);
    let refused = tree.root.restore_using(&file, restored.clone(), &unknown, &deploy);
    assert_eq!(refused.unwrap_err().code, Code::ResourceUnknown);
    tree.root.restore_using(&file, restored.clone(), &depends, &deploy).unwrap();
    let kept = |name: &str| {
        let row = store.find_daemon(name).unwrap();
        KeptSetup::decode(&store.setup(row.key).unwrap().unwrap()).unwrap()
    };
    let trial = kept("trial");
    assert_eq!((trial.needs.len(), &trial.uses[..]), (0, &["bank/cache".to_owned()][..]));
    let same = DaemonOptions { name: "trial".to_owned(), ..options };
    let made = DaemonOptions::new("trial", same.budget_bytes).with_kept(&trial);
    assert_eq!(format!("{made:?}"), format!("{:?}", DaemonOptions { verify: false, ..same }));
    assert_eq!(kept("old").needs, ["bank/cache"]);
    let view = |name: &str| {
        let resource = tree.root.resources().into_iter().find(|one| one.name == "bank/cache");
        let resource = resource.unwrap();
        (resource.needed_by.contains(&name.to_owned()), resource.used_by.contains(&name.to_owned()))
    };
    assert_eq!(
        [view("ledger"), view("trial"), view("old")],
        [(false, true), (false, true), (true, false)]
    );
    tree.root.remove("trial").unwrap();
    assert_eq!(store.find_daemon("trial"), None);
}

#[test]
fn a_snapshot_is_restored_into_a_daemon_as_a_commit_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![ledger("ledger"), ledger("other")]);
    deposit(&tree, "other", 42);
    let (taken, file) = tree.root.snapshot("other", None).unwrap();
    drop(tree.root.call(keyed("k", 1)).unwrap());
    let before = tree.hash("ledger");
    let (facts, sequence) = tree.root.restore_into("ledger", &file).unwrap();
    assert_eq!((facts.hash, sequence), (taken.hash(), Sequence(2)));
    assert_eq!(tree.hash("ledger"), tree.hash("other"));
    let again = tree.root.call(keyed("k", 1)).unwrap();
    assert_eq!(again.sequence, Sequence(3), "the answers of the old state are forgotten");
    let kept = tree.root.commits("ledger", 9).unwrap();
    let kinds: Vec<_> = kept.commits.iter().map(|line| line.head.kind).collect();
    assert_eq!(kinds, [Kind::Init, Kind::Commit, Kind::Restore, Kind::Commit]);
    let hash = tree.hash("ledger");
    drop(tree);
    let tree = durable(dir.path(), vec![ledger("ledger"), ledger("other")]);
    assert_eq!(tree.hash("ledger"), hash);
    tree.root.revert("ledger", RevertTo::Commit(Sequence(1))).unwrap();
    assert_eq!(tree.hash("ledger"), before);
    for (name, file, code) in
        [("nobody", &file[..], Code::DaemonUnknown), ("ledger", &file[1..], Code::Snapshot)]
    {
        assert_eq!(tree.root.restore_into(name, file).unwrap_err().code, code, "{name}");
    }
    let chaos = Tree::start(vec![plan("chaos", &deployed("chaos"), |_| {})]);
    let other_code = chaos.root.restore_into("chaos", &file).unwrap_err();
    assert_eq!(other_code.code, Code::CodeChanged, "{other_code}");
    drop(chaos.committed("chaos", "touch", json!({"pages": 1})));
}

#[test]
fn commits_of_every_code_that_ran_have_the_names_of_their_contracts() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), vec![ledger("ledger")]);
    deposit(&tree, "ledger", 1);
    tree.root.upgrade("ledger", deployed("ledger-next"), REHEARSAL).unwrap();
    let codes = |tree: &Tree| {
        let kept = tree.root.commits("ledger", 9).unwrap();
        kept.codes.iter().map(|code| code.digest).collect::<Vec<_>>()
    };
    assert_eq!(codes(&tree).len(), 1, "a rehearsal is no run");
    tree.root.upgrade("ledger", deployed("ledger-next"), REAL).unwrap();
    deposit(&tree, "ledger", 2);
    let both =
        [deployed("ledger"), deployed("ledger-next")].map(|guest| *guest.facts().digest.as_bytes());
    assert_eq!(codes(&tree), both);
    for line in tree.root.commits("ledger", 9).unwrap().commits {
        let kept = tree.root.commits("ledger", 9).unwrap();
        let code = kept.codes.iter().find(|code| code.digest == line.head.code).unwrap();
        let name = line.head.contract.map(|index| code.contracts[index as usize].as_str());
        assert_eq!(name, (line.head.kind == Kind::Commit).then_some("deposit"), "{line:?}");
    }
}
