//! U2: new code on a state that is there, or everything as it was.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use host::base::error::{Code, Fault};
use host::base::ids::Sequence;
use host::mechanisms::journal::{DirectoryId, Store, StoreOptions};
use host::mechanisms::memory::Images;
use host::mechanisms::sandbox::Guest;
use host::pure::contract::Meter;
use host::pure::policy::OnCrash;
use host::pure::record::Kind;
use host::pure::request::{Outcome, Request};
use host::tree::{DaemonState, RevertTo, Transacted, Upgradable};
use proptest::prelude::*;
use serde_json::{Value, json};
use tests::{
    BUMP, Hostile, REAL, REHEARSAL, RUN, Rig, RigOptions, Tree, VALUE, deploy, deployed, plan,
    request, setting,
};

use super::printing::with_wasi;

fn ledger(accounts: &[(&str, u64)]) -> Rig {
    let mut rig = Rig::of("ledger");
    for (account, amount) in accounts {
        rig.committed("deposit", json!({"account": account, "amount": amount}));
    }
    rig
}

/// All that must not change when an upgrade fails.
fn standing(rig: &mut Rig) -> (String, u64, u64, String) {
    let sequence = rig.daemon.sequence().0;
    let generation = rig.daemon.generation().0;
    let code = rig.daemon.guest().facts().digest.to_hex().to_string();
    (rig.hash(), sequence, generation, code)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(setting("PROPTEST_CASES", 48)).unwrap(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn u2_a_migrated_state_is_the_same_state(
        deposits in prop::collection::vec(("[a-z\u{e9}]{0,9}", 0..1_000_000_u64), 0..60),
        later in prop::collection::vec(("[a-z]{0,3}", 0..1000_u64), 0..10),
    ) {
        let mut model = std::collections::BTreeMap::<String, u64>::new();
        let deposits: Vec<_> = deposits.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        for (account, amount) in &deposits {
            *model.entry((*account).to_owned()).or_default() += amount;
        }
        let mut rig = ledger(&deposits);
        let before = standing(&mut rig);
        let rehearsed = rig.upgrade(&deployed("ledger-next"), true).unwrap();
        prop_assert_eq!(standing(&mut rig), before.clone());
        let upgraded = rig.upgrade(&deployed("ledger-next"), false).unwrap();
        prop_assert_eq!(rehearsed.value_bytes, upgraded.value_bytes);
        // What its old form has read is all that there was.
        prop_assert!(upgraded.loss.is_ok_and(|loss| loss.is_none()));
        prop_assert_eq!(rig.daemon.sequence().0, before.1 + 1);
        prop_assert_eq!(rig.daemon.generation().0, before.2 + 1);
        prop_assert_eq!(rig.committed("balances", json!({})), json!(model));
        for (account, amount) in later {
            *model.entry(account.clone()).or_default() += amount;
            rig.committed("deposit", json!({"account": account, "amount": amount}));
        }
        prop_assert_eq!(rig.committed("balances", json!({})), json!(model));
        prop_assert_eq!(rig.committed("total", json!({})), json!(model.values().sum::<u64>()));
    }
}

#[test]
fn u2_whatever_fails_in_the_new_code_leaves_the_old_one_as_it_was() {
    let cases = [
        ("m#reject", Code::UpgradeLoad, "load the state: refused: m#reject is not migrated"),
        ("m#panic", Code::UpgradeLoad, "load the state: E_TRAP_UNREACHABLE: m#panic can't be"),
        ("m#spin", Code::UpgradeLoad, "load the state: E_FUEL"),
        ("m#allocate", Code::UpgradeLoad, "load the state: E_OUT_OF_MEMORY: it asked for"),
        ("m#unsound", Code::UpgradeCheck, "check the state: unsound: m#unsound is not sound"),
        ("m#die-in-check", Code::UpgradeCheck, "check the state: E_TRAP_UNREACHABLE: m#die"),
        ("m#unsaved", Code::UpgradeSave, "the new code could not save the state: bad_state: "),
    ];
    for (account, code, words) in cases {
        let mut rig = ledger(&[("ann", 7), (account, 1), ("zoe", 2)]);
        let before = standing(&mut rig);
        for dry_run in [true, false] {
            let fault = rig.upgrade(&deployed("ledger-next"), dry_run).unwrap_err();
            assert_eq!(fault.code, code, "{account}: {fault}");
            assert!(fault.message.contains(words), "{account}: {fault}");
            assert_eq!(standing(&mut rig), before, "{account}");
        }
        assert_eq!(rig.committed("total", json!({})), 10);
        rig.committed("transfer", json!({"from": "ann", "to": "zoe", "amount": 7}));
        assert!(matches!(rig.daemon.try_save(), Upgradable::Yes { version: 1, .. }), "{account}");
    }
}

/// A counter whose code does `what` at one step.
fn counter(what: impl FnOnce(&mut Hostile)) -> Arc<Guest> {
    let mut guest = Hostile::default();
    what(&mut guest);
    deploy(&guest.build()).unwrap()
}

/// Another build of it, which has nothing wrong.
fn other_build() -> Arc<Guest> {
    counter(|guest| guest.items = "(func $other)".to_owned())
}

#[test]
fn u2_code_that_fails_to_save_runs_on_and_says_so() {
    let reject = "(return (call $refuse #1216 #3))";
    let failing = "(if (i32.and (i32.load #16) #1) (then";
    let cases = [
        (reject, false, "the running code could not save the state: run: run"),
        ("unreachable", true, "save the state: E_TRAP_UNREACHABLE"),
        ("(loop (br 0))", true, "save the state: E_FUEL"),
        ("(i32.store #5000 #1) (i32.store #0xfffffff0 #1)", true, "save the state: E_TRAP_MEMORY"),
        ("(drop (memory.grow #1)) unreachable", true, "save the state: E_TRAP_UNREACHABLE"),
        ("(call $handover-read #1 #96)", true, "save the state: E_HOSTCALL_UNSUPPORTED"),
        ("(loop (call $handover-write #0 #65536) (br 0))", true, "state: E_HOSTCALL_LIMIT"),
    ];
    for (what, crashes, words) in cases {
        let guest = counter(|guest| guest.save = format!("{failing} {what}))"));
        let mut rig = Rig::start(&guest, RigOptions::default());
        assert!(matches!(rig.daemon.try_save(), Upgradable::Yes { version: 1, value_bytes: 4 }));
        rig.committed(BUMP, json!({}));
        let (hash, sequence, generation, digest) = standing(&mut rig);
        let fault = rig.upgrade(&other_build(), false).unwrap_err();
        assert_eq!(fault.code, Code::UpgradeSave, "{what}: {fault}");
        assert!(fault.message.contains(words), "{what}: {fault}");
        // A crash costs an instance, and nothing else.
        let after = (hash, sequence, generation + u64::from(crashes), digest);
        assert_eq!(standing(&mut rig), after, "{what}");
        let Upgradable::No(reason) = rig.daemon.try_save() else { panic!("{what}") };
        assert!(reason.contains(words), "{what}: {reason}");
        assert_eq!(rig.daemon.gauges().report().upgradable, Upgradable::No(reason));
        assert_eq!(rig.committed(RUN, json!({})), 2, "{what}");
        assert!(matches!(rig.daemon.try_save(), Upgradable::Yes { .. }), "{what}: it can again");
        rig.upgrade(&other_build(), false).unwrap();
        assert_eq!(rig.committed(RUN, json!({})), 3, "{what}");
    }
}

#[test]
fn u2_a_save_leaves_no_trace_even_if_it_writes_and_grows() {
    let guest = counter(|guest| {
        guest.save =
            "(i32.store #16 #99) (drop (memory.grow #2)) (i32.store #140000 #1)".to_owned();
    });
    let mut rig = Rig::start(&guest, RigOptions::default());
    rig.committed(BUMP, json!({}));
    let hash = rig.hash();
    for _ in 0..3 {
        assert!(matches!(rig.daemon.try_save(), Upgradable::Yes { .. }));
        rig.assert_whole();
        assert_eq!(rig.hash(), hash);
    }
    assert_eq!(rig.committed(VALUE, json!({})), 1);
}

#[test]
fn handing_over_is_possible_in_save_and_load_only() {
    let write = "(call $handover-write #16 #4)";
    let read = "(call $handover-read #1 #96)";
    for call in [write, read] {
        let guest = counter(|guest| guest.run = call.to_owned());
        let mut rig = Rig::start(&guest, RigOptions::default());
        let crash = rig.crashes_with(RUN, json!({}), Code::HostcallUnsupported);
        assert!(crash.message.contains("and only then"), "{crash:?}");
        for (step, place) in [("load", 0), ("check", 1)] {
            let new = counter(|guest| {
                let places = [&mut guest.load, &mut guest.check];
                *places.into_iter().nth(place).unwrap() = call.to_owned();
            });
            let upgraded = rig.upgrade(&new, true);
            if step == "load" {
                upgraded.unwrap();
            } else {
                let message = upgraded.unwrap_err().message;
                assert!(
                    message.contains(&format!("{step} the state: E_HOSTCALL_UNS")),
                    "{message}"
                );
            }
        }
    }
}

#[test]
fn u2_handles_that_the_new_code_leaks_are_found() {
    let mut rig = Rig::start(&other_build(), RigOptions::default());
    let before = standing(&mut rig);
    let acquire = "(i32.store #24 (call $get-stdout))";
    let leak = "(drop (call $get-stdout))";
    let with = |load: &str, check: &str, save: &str| {
        let mut guest = with_wasi(acquire, "");
        (guest.load, guest.check, guest.save) =
            (load.to_owned(), check.to_owned(), save.to_owned());
        deploy(&guest.build()).unwrap()
    };
    for (guest, code) in [
        (with(leak, "", ""), Code::UpgradeLoad),
        (with("", leak, ""), Code::UpgradeCheck),
        (with("", "", leak), Code::UpgradeSave),
    ] {
        let fault = rig.upgrade(&guest, false).unwrap_err();
        assert_eq!(fault.code, code, "{fault}");
        assert!(fault.message.contains("E_HANDLE_LEAK"), "{fault}");
        assert_eq!(standing(&mut rig), before);
    }
    // One that holds what `prime` acquired, and no more, is primed again at each restart.
    rig.upgrade(&with("", "", ""), false).unwrap();
    assert_eq!(rig.committed(RUN, json!({})), 1);
}

#[test]
fn u2_what_cannot_be_an_upgrade_is_refused_before_anything_runs() {
    let mut rig = ledger(&[("ann", 7)]);
    let before = standing(&mut rig);
    let same = rig.upgrade(&deployed("ledger"), false).unwrap_err();
    assert_eq!(same.code, Code::UpgradeSame);
    let no_form = counter(|guest| guest.upgrade = None);
    assert_eq!(rig.upgrade(&no_form, false).unwrap_err().code, Code::UpgradeForm);
    let large = deployed("ledger-next");
    let small = Images::new(1 << 20, &large.shape()).unwrap();
    let memory = rig.daemon.upgrade(large, small, REAL).unwrap_err();
    assert_eq!(memory.code, Code::MemoryLimit, "{memory}");
    assert_eq!(standing(&mut rig), before);
    rig.upgrade(&deployed("ledger-next"), false).unwrap();
    let back = rig.upgrade(&deployed("ledger"), false).unwrap_err();
    assert_eq!(back.code, Code::UpgradeVersion, "{back}");
    let mut rig = Rig::start(&no_form, RigOptions::default());
    assert_eq!(rig.upgrade(&other_build(), false).unwrap_err().code, Code::UpgradeForm);
    let Upgradable::No(reason) = rig.daemon.try_save() else { panic!("it can be upgraded") };
    assert!(reason.contains("#[state]"), "{reason}");
    assert_eq!(rig.daemon.save_trial_wait(u64::MAX), None);
}

#[test]
fn an_upgrade_reports_what_callers_find_changed_and_keeps_their_keys() {
    let mut rig = ledger(&[("ann", 7)]);
    let mut bound = rig.bind("deposit", &json!({"account": "ann", "amount": 3}));
    bound.key = Some("k".into());
    let first = rig.transact(&bound);
    let old = rig.daemon.guest().clone();
    let upgraded = rig.upgrade(&deployed("ledger-next"), false).unwrap();
    assert_eq!((upgraded.from_version, upgraded.to_version), (1, 2));
    assert_eq!(upgraded.contracts.gone, ["transfer"]);
    assert_eq!(upgraded.contracts.added, ["uses", "balances"]);
    assert!(upgraded.contracts.changed.is_empty());
    // The contract has another place now, and the key stands for the same request.
    let place = |guest: &Guest| guest.contract("deposit").unwrap().index;
    assert_ne!(place(&old), place(rig.daemon.guest()));
    let rebound = rig.daemon.rebind(bound, &old).unwrap();
    // Nothing is started for it.
    assert_eq!(rig.transact(&rebound), Transacted { attempts: 0, ..first });
    assert_eq!(rig.committed("balance", json!({"account": "ann"})), 10);
    let transfer = tests::bind(&old, "transfer", &json!({"from": "a", "to": "b", "amount": 1}));
    assert_eq!(rig.daemon.rebind(transfer, &old).unwrap_err().code, Code::ContractUnknown);
}

#[test]
fn a_parked_daemon_runs_again_with_code_that_can_take_its_state_over() {
    let parking = counter(|guest| {
        guest.run = "(if (i32.gt_u (i32.load #16) #2) (then unreachable))".to_owned();
        guest.recover = "unreachable".to_owned();
        guest.hooks = 1;
    });
    let options = RigOptions { on_crash: OnCrash::Ask, ..RigOptions::default() };
    let mut rig = Rig::start(&parking, options);
    rig.committed(RUN, json!({}));
    rig.committed(RUN, json!({}));
    while rig.daemon.parked().is_none() {
        rig.crashed(RUN, json!({}));
    }
    let reason = rig.daemon.parked().cloned();
    let (hash, sequence, ..) = standing(&mut rig);
    let broken = counter(|guest| guest.load = "unreachable".to_owned());
    assert_eq!(rig.upgrade(&broken, false).unwrap_err().code, Code::UpgradeLoad);
    rig.upgrade(&other_build(), true).unwrap();
    assert_eq!((rig.daemon.parked().cloned(), rig.hash()), (reason.clone(), hash));
    assert_eq!(rig.daemon.gauges().report().parked, reason);
    assert_eq!(rig.daemon.gauges().report().state, DaemonState::Parked);
    let upgraded = rig.upgrade(&other_build(), false).unwrap();
    assert_eq!(upgraded.sequence.0, sequence + 1);
    assert_eq!(rig.daemon.gauges().report().state, DaemonState::Ready);
    assert_eq!(rig.daemon.gauges().report().parked, None);
    assert_eq!(rig.committed(RUN, json!({})), 3);
}

#[test]
fn new_code_is_told_its_generation_and_a_crash_after_it_restarts_the_new_code() {
    let told = counter(|guest| {
        guest.on_restore = "(i32.store8 #24 #1)".to_owned();
        guest.check = "(if (i32.eqz (i32.load8_u #24)) (then unreachable))".to_owned();
        guest.run = "(if (i32.and (i32.load #16) #1) (then unreachable))".to_owned();
        guest.hooks = 2;
    });
    let mut rig = Rig::start(&other_build(), RigOptions::default());
    rig.committed(BUMP, json!({}));
    rig.upgrade(&told, false).unwrap();
    rig.committed(BUMP, json!({}));
    rig.crashes_with(RUN, json!({}), Code::Unreachable);
    assert_eq!(rig.committed(VALUE, json!({})), 2);
    assert_eq!(rig.daemon.guest().facts().digest, told.facts().digest);
}

/// A ledger with so many accounts, and one more whose name says what goes wrong at its turn.
fn large_ledger(accounts: u64, last: &str) -> Rig {
    let options = RigOptions {
        budget_bytes: 256 << 20,
        verify: false,
        upgrade_fuel: 60_000_000_000,
        ..RigOptions::default()
    };
    let mut rig = Rig::start(&deployed("ledger"), options);
    let deposit = rig.daemon.guest().contract("deposit").unwrap().clone();
    let name = |number: u64| format!("{number:07}");
    let names = (0..accounts).map(name).chain((!last.is_empty()).then(|| last.to_owned()));
    for account in names {
        let args = json!({"account": account, "amount": 5});
        let arguments = deposit.bind(&args.into(), &mut Meter::free()).unwrap();
        let outcome = rig.daemon.transact(&tests::bound(deposit.index, &arguments)).outcome;
        assert!(matches!(outcome, Outcome::Committed(_)), "{account}: {outcome:?}");
    }
    rig
}

#[test]
fn u2_a_million_accounts_move() {
    let mut rig = large_ledger(1_000_000, "");
    let start = Instant::now();
    let upgraded = rig.upgrade(&deployed("ledger-next"), false).unwrap();
    eprintln!("a million accounts, {} bytes: {:?}", upgraded.value_bytes, start.elapsed());
    let start = Instant::now();
    assert!(matches!(rig.daemon.try_save(), Upgradable::Yes { version: 2, .. }));
    eprintln!("a trial of saving them: {:?}", start.elapsed());
    assert_eq!(rig.committed("balance", json!({"account": "0999999"})), 5);
    assert_eq!(rig.committed("total", json!({})), 5_000_000);
    assert!(upgraded.value_bytes > 9_000_000, "{upgraded:?}");
}

#[test]
fn u2_a_million_accounts_stay_when_one_fails_at_99_per_cent() {
    for (last, words) in
        [("0990000#panic", "0990000#panic can't be"), ("0990000#reject", "refused")]
    {
        let mut rig = large_ledger(1_000_000, last);
        let before = standing(&mut rig);
        let fault = rig.upgrade(&deployed("ledger-next"), false).unwrap_err();
        assert_eq!(fault.code, Code::UpgradeLoad);
        assert!(fault.message.contains(words), "{fault}");
        assert_eq!(standing(&mut rig), before);
        rig.committed("transfer", json!({"from": "0000000", "to": last, "amount": 5}));
        assert_eq!(rig.committed("total", json!({})), 5_000_005);
    }
}

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(dir, StoreOptions::default(), DirectoryId(7)).unwrap())
}

fn durable(dir: &Path, guest: &str) -> Tree {
    Tree::durable(vec![plan("ledger", &deployed(guest), |_| {})], store(dir))
}

fn deposit(key: Option<&str>, amount: u64) -> Request {
    let request = request("ledger", "deposit", json!({"account": "ann", "amount": amount}));
    Request { key: key.map(str::to_owned), ..request }
}

#[test]
fn an_upgrade_is_durable_and_the_old_code_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), "ledger");
    let keyed = tree.root.call(deposit(Some("k"), 7)).unwrap();
    let before = tree.hash("ledger");
    tree.root.upgrade("ledger", deployed("ledger-next"), REHEARSAL).unwrap();
    assert_eq!(tree.hash("ledger"), before);
    let upgraded = tree.root.upgrade("ledger", deployed("ledger-next"), REAL).unwrap();
    assert_eq!(upgraded.sequence.0, 2);
    assert_eq!(tree.root.guest("ledger").unwrap().facts().digest, upgraded.to);
    let kept = tree.root.commits("ledger", 1).unwrap();
    assert_eq!(kept.commits[0].head.kind, Kind::Upgrade);
    assert_eq!(&kept.commits[0].head.code, upgraded.to.as_bytes());
    drop(tree.root.call(deposit(None, 1)).unwrap());
    let hash = tree.hash("ledger");
    drop(tree);
    let tree = durable(dir.path(), "ledger-next");
    assert_eq!(tree.hash("ledger"), hash);
    assert_eq!(tree.root.call(deposit(Some("k"), 7)).unwrap().sequence, keyed.sequence);
    assert_eq!(tree.committed("ledger", "uses", json!({"account": "ann"})), 1);
    drop(tree);
    let plans = vec![plan("ledger", &deployed("ledger"), |_| {})];
    let tree = Tree::durable(plans, store(dir.path()));
    assert_eq!(tree.view("ledger").report.parked.unwrap().code, Code::CodeChanged);
    assert_eq!(tree.code("ledger", "uses", json!({"account": "ann"})), "E_PARKED");
    let deploy = |code: &[u8]| deploy(code).map_err(|error| Fault::from(&error));
    assert!(tree.root.start_unstarted("ledger", &deploy).unwrap());
    assert!(!tree.root.start_unstarted("ledger", &deploy).unwrap());
    assert_eq!(tree.hash("ledger"), hash);
}

#[test]
fn the_state_and_the_code_from_before_an_upgrade_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let tree = durable(dir.path(), "ledger");
    drop(tree.root.call(deposit(None, 7)).unwrap());
    let before = tree.hash("ledger");
    let upgraded = tree.root.upgrade("ledger", deployed("ledger-next"), REAL).unwrap();
    drop(tree);
    let tree = durable(dir.path(), "ledger-next");
    let last = Sequence(upgraded.sequence.0 - 1);
    let other_code = tree.root.revert("ledger", RevertTo::Commit(last)).unwrap_err();
    assert_eq!(other_code.code, Code::CodeChanged);
    let deploy = |code: &[u8]| deploy(code).map_err(|error| Fault::from(&error));
    tree.root.fork("ledger", "before", Some(last), &deploy).unwrap();
    assert_eq!(tree.hash("before"), before);
    let transfer = json!({"from": "ann", "to": "bob", "amount": 2});
    let receipt = tree.committed("before", "transfer", transfer);
    assert_eq!(receipt, json!({"from_balance": 5, "to_balance": 2}));
}

#[test]
fn requests_that_wait_for_an_upgrade_go_on_with_the_new_code() {
    let tree = Arc::new(Tree::start_quietly(vec![plan("ledger", &deployed("ledger"), |_| {})]));
    let stop = Arc::new(AtomicBool::new(false));
    let call = || {
        let (tree, stop) = (tree.clone(), stop.clone());
        move || {
            let (mut deposited, mut gone) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let answer = tree.root.call(deposit(None, 1)).unwrap();
                assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
                deposited += 1;
                let transfer = json!({"from": "ann", "to": "ann", "amount": 0});
                match tree.code("ledger", "transfer", transfer).as_str() {
                    "" => assert_eq!(gone, 0, "it was there again"),
                    "E_CONTRACT_UNKNOWN" => gone += 1,
                    code => panic!("{code}"),
                }
            }
            (deposited, gone)
        }
    };
    let callers = [(); 4].map(|()| std::thread::spawn(call()));
    let two_hundred_more = || {
        let enough = tree.view("ledger").report.committed + 200;
        while tree.view("ledger").report.committed < enough
            && !callers.iter().any(JoinHandle::is_finished)
        {
            std::thread::yield_now();
        }
    };
    two_hundred_more();
    tree.root.upgrade("ledger", deployed("ledger-next"), REAL).unwrap();
    two_hundred_more();
    stop.store(true, Ordering::Relaxed);
    let ended = callers.map(|caller| caller.join().unwrap());
    assert!(ended.iter().all(|(_, gone)| *gone > 0), "{ended:?}");
    let deposited: u64 = ended.iter().map(|(deposited, _)| deposited).sum();
    assert_eq!(tree.committed("ledger", "total", json!({})), Value::from(deposited));
}

#[test]
fn an_upgrade_without_room_for_both_codes_is_refused_with_the_bill() {
    let plans = vec![plan("ledger", &deployed("ledger"), |_| {})];
    let tree = Tree::try_start(plans, 20 << 20).unwrap();
    let refused = tree.root.upgrade("ledger", deployed("ledger-next"), REHEARSAL).unwrap_err();
    assert_eq!(refused.code, Code::Budget);
    assert!(refused.message.contains("ledger, new code"), "{refused}");
    drop(tree.committed("ledger", "deposit", json!({"account": "ann", "amount": 1})));
}

#[test]
fn a_daemon_tries_its_save_by_itself() {
    let broken = counter(|guest| guest.save = "unreachable".to_owned());
    let no_form = counter(|guest| guest.upgrade = None);
    let tree = Tree::start_quietly(vec![
        plan("sound", &deployed("ledger"), |_| {}),
        plan("broken", &broken, |_| {}),
        plan("no_form", &no_form, |_| {}),
    ]);
    let wait_for = |daemon: &str| loop {
        match tree.view(daemon).report.upgradable {
            Upgradable::Unknown => std::thread::yield_now(),
            known => return known,
        }
    };
    assert!(matches!(wait_for("sound"), Upgradable::Yes { version: 1, .. }));
    assert!(matches!(wait_for("broken"), Upgradable::No(reason) if reason.contains("E_TRAP")));
    assert!(matches!(wait_for("no_form"), Upgradable::No(reason) if reason.contains("#[state]")));
    drop(tree.committed("broken", BUMP, json!({})));
}
