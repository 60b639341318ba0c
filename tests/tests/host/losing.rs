//! U2: what new code would drop or change of a state is named, and wants to be accepted.

use std::sync::Arc;

use host::base::error::Code;
use host::mechanisms::sandbox::Guest;
use host::pure::contract::Meter;
use host::pure::request::Outcome;
use host::pure::upgrade::Fate;
use host::tree::{Upgradable, UpgradeOptions};
use serde_json::{Value, json};
use tests::{Hostile, REAL, REHEARSAL, Rig, RigOptions, VALUE, deploy, deployed, rebuilt};

const ACCEPTED: UpgradeOptions = UpgradeOptions { dry_run: false, accept_loss: true };

/// True when the host or the guest refuses these arguments.
fn refuses(rig: &mut Rig, contract: &str, arguments: &Value) -> bool {
    let guest = rig.daemon.guest().clone();
    let contract = guest.contract(contract).unwrap();
    let bound = contract.bind(&arguments.clone().into(), &mut Meter::free());
    let Ok(bytes) = bound else { return true };
    match rig.transact(&tests::bound(contract.index, &bytes)).outcome {
        Outcome::Rejected(rejection) => rejection.code == "E_ARGS",
        outcome => panic!("{outcome:?}"),
    }
}

fn again(name: &str) -> Arc<Guest> {
    deploy(&rebuilt(name, 1)).unwrap()
}

#[test]
fn u2_what_new_code_would_drop_is_named_and_wants_to_be_accepted() {
    let mut rig = Rig::of("stock");
    for name in ["ann", "bob", "zoe"] {
        rig.committed("name", json!({"name": name}));
    }
    rig.committed("sell", json!({"sold": 16_777_217}));
    rig.committed("add", json!({"name": "pen", "price": 3, "label": "blue"}));
    let hash = rig.hash();
    let expected = "items.pen.label (1 value) would be lost; names (3 values) would be lost; \
                    sold (1 value) would change, first sold: 16777217 to 16777216";
    for options in [REHEARSAL, REAL] {
        let lost = rig.upgrade_as(&deployed("stock-next"), options).unwrap_err();
        assert_eq!((lost.code, lost.message.as_str()), (Code::UpgradeLoss, expected));
        assert_eq!((rig.hash(), rig.daemon.sequence().0), (hash.clone(), 5));
    }
    assert_eq!(rig.committed("names", json!({})), json!(["ann", "bob", "zoe"]));
    let rehearsal = UpgradeOptions { dry_run: true, ..ACCEPTED };
    let rehearsed = rig.upgrade_as(&deployed("stock-next"), rehearsal).unwrap();
    let loss = rehearsed.loss.unwrap();
    let fates: Vec<_> = loss.lines.iter().map(|line| (line.fate, line.values)).collect();
    assert_eq!(fates, [(Fate::Gone, 1), (Fate::Gone, 3), (Fate::Changed, 1)]);
    rig.upgrade_as(&deployed("stock-next"), ACCEPTED).unwrap();
    assert_eq!(rig.committed("titles", json!({})), json!([]));
    assert_eq!(rig.committed("total", json!({})), json!([0, 3]));
}

#[test]
fn u2_what_is_kept_in_other_words_needs_no_word() {
    let mut rig = Rig::of("stock");
    rig.committed("sell", json!({"sold": 16_777_216}));
    let upgraded = rig.upgrade_as(&deployed("stock-next"), REAL).unwrap();
    assert!(upgraded.loss.unwrap().is_none());
    assert_eq!(rig.committed("sold", json!({})), json!(16_777_216.0));
}

/// A guest whose whole state is `{"a": 1}`, as MessagePack.
fn keeper(version: u8, load: &str) -> Arc<Guest> {
    let state = i32::from_le_bytes(*b"\x81\xa1a\x01");
    let guest = Hostile {
        init: format!("(i32.store #16 #{state})"),
        upgrade: Some(version),
        load: load.to_owned(),
        ..Hostile::default()
    };
    deploy(&guest.build()).unwrap()
}

#[test]
fn u2_a_newer_version_must_have_read_all_of_the_old_form() {
    let all = "(call $handover-write #16 #4)";
    let nothing = "(i32.store #5000 #0x80) (call $handover-write #5000 #1)";
    let mut rig = Rig::start(&keeper(1, ""), RigOptions::default());
    let lost = rig.upgrade_as(&keeper(2, nothing), REHEARSAL).unwrap_err();
    assert_eq!(
        (lost.code, lost.message.as_str()),
        (Code::UpgradeLoss, "a (1 value) would be lost")
    );
    assert!(rig.upgrade_as(&keeper(2, all), REHEARSAL).unwrap().loss.unwrap().is_none());
    // What it makes of it is its business: here it is something else.
    let other = format!("{all} (i32.store #16 #1)");
    assert!(rig.upgrade_as(&keeper(2, &other), REHEARSAL).unwrap().loss.unwrap().is_none());
    // Code of the same version has no such excuse.
    let changed = rig.upgrade_as(&keeper(1, "(i32.store8 #19 #2)"), REHEARSAL).unwrap_err();
    assert!(changed.message.contains("a (1 value) would change, first a: 1 to 2"), "{changed}");
    // One that doesn't say what it has read is believed, and that is said.
    let silent = rig.upgrade_as(&keeper(2, ""), REAL).unwrap();
    assert!(silent.loss.unwrap_err().contains("doesn't say"));
    assert_eq!(rig.committed(VALUE, json!({})), 0x81 & 0x7f);
}

fn why_not(rig: &mut Rig) -> String {
    match rig.daemon.try_save() {
        Upgradable::No(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn u2_upgradable_is_what_can_be_loaded_again() {
    let mut rig = Rig::of("stock");
    rig.committed("link", json!({"count": 127}));
    assert!(matches!(rig.daemon.try_save(), Upgradable::Yes { .. }));
    let hash = rig.hash();
    rig.committed("link", json!({"count": 130}));
    let deep = why_not(&mut rig);
    assert!(deep.contains("nested deeper than 128 levels"), "{deep}");
    rig.committed("link", json!({"count": 127}));
    rig.committed("widen", json!({"wide": 7}));
    let wide = why_not(&mut rig);
    assert!(wide.contains("saves what it can't load again itself: bad_state"), "{wide}");
    let refused = rig.upgrade_as(&again("stock"), REAL).unwrap_err();
    assert_eq!(refused.code, Code::UpgradeLoad, "{refused}");
    rig.committed("widen", json!({}));
    rig.upgrade_as(&again("stock"), REAL).unwrap();
    assert_ne!(rig.hash(), hash);
    // New code whose state nothing could take over any more is not gone over to.
    let trap = "(if (i32.eq (i32.load #16) #7) (then unreachable)) (i32.store #16 #7)";
    let mut rig = Rig::start(&keeper(1, ""), RigOptions::default());
    let last = rig.upgrade_as(&keeper(1, trap), ACCEPTED).unwrap_err();
    assert_eq!(last.code, Code::UpgradeSave, "{last}");
    assert!(last.message.contains("the new code saves what it can't load again"), "{last}");
}

#[test]
fn a_trial_of_loading_leaves_no_trace() {
    let mut rig = Rig::of("stock");
    for number in 0..50 {
        let label = "x".repeat(1000);
        rig.committed("add", json!({"name": number.to_string(), "price": number, "label": label}));
        let (hash, sequence) = (rig.hash(), rig.daemon.sequence());
        assert!(matches!(rig.daemon.try_save(), Upgradable::Yes { .. }));
        rig.assert_whole();
        assert_eq!((rig.hash(), rig.daemon.sequence()), (hash, sequence));
    }
}

/// An integer, however it is written.
fn digits(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn known() -> Value {
    json!({
        "at": "2026-11-30T21:13:39.250Z",
        "day": "2026-11-30",
        "lasts": {"secs": 3, "nanos": 500_000_000},
        "id": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "price": "19.90",
        "page": "https://example.com/a?b=c",
        "address": "2001:db8::1",
        "peer": "127.0.0.1:6379",
        "blob": [1, 2, 255],
        "raw": [0, 128],
    })
}

#[test]
fn types_that_guests_use_most_are_taken_answered_and_kept() {
    let mut rig = Rig::of("values");
    assert_eq!(rig.committed("keep", known()), known());
    let tomorrow = rig.committed("tomorrow", json!({"at": "2024-02-28T23:00:00+02:00"}));
    assert_eq!(tomorrow, "2024-02-29T21:00:00Z");
    let mut other = known();
    other["id"] = "00000000-0000-0000-0000-000000000001".into();
    other["price"] = json!(3);
    other["address"] = "10.0.0.1".into();
    assert_eq!(rig.committed("keep", other.clone())["price"], "3");
    other["price"] = "3".into();
    for (argument, wrong) in [
        ("at", json!("yesterday")),
        ("id", json!("67e55044")),
        ("price", json!("cheap")),
        ("price", json!(3.5)),
        ("page", json!("example")),
        ("peer", json!("localhost")),
        ("blob", json!([256])),
    ] {
        let mut arguments = known();
        arguments[argument] = wrong;
        assert!(refuses(&mut rig, "keep", &arguments), "{argument}");
    }
    let upgraded = rig.upgrade_as(&again("values"), REAL).unwrap();
    assert!(upgraded.loss.unwrap().is_none());
    let kept = rig.committed("known", json!({}));
    assert_eq!(kept[known()["id"].as_str().unwrap()], known());
    assert_eq!(kept[other["id"].as_str().unwrap()], other);
}

#[test]
fn types_that_json_has_not_are_taken_answered_and_kept() {
    let mut rig = Rig::of("values");
    let odd = json!({
        "wide": "340282366920938463463374607431768211455",
        "low": "-170141183460469231731687303715884105728",
        "float": 0.1,
        "single": 0.25,
        "by_number": {"0": "zero", "18446744073709551615": "most"},
        "by_sign": {"-128": true, "127": false},
        "by_truth": {"true": 1},
        "by_letter": {"\u{e9}": null},
        "by_id": {"67e55044-10b1-426f-9247-bb680e5fe0c8": 7},
    });
    rig.committed("swap", json!({"odd": odd}));
    let kept = |rig: &mut Rig| {
        let mut kept = rig.committed("odd", json!({}));
        for wide in ["wide", "low"] {
            kept[wide] = digits(&kept[wide]).into();
        }
        kept
    };
    assert_eq!(kept(&mut rig), odd);
    rig.committed("keep_nothing", json!({}));
    rig.upgrade_as(&again("values"), REAL).unwrap();
    assert_eq!(kept(&mut rig), odd);
    assert_eq!(rig.committed("nothings", json!({})), json!([0, 1, 2, 3]));
    assert_eq!(rig.committed("twice", json!({"wide": 21})), 42);
    let wide = rig.committed("twice", json!({"wide": u64::MAX}));
    assert_eq!(digits(&wide), "36893488147419103230");
    let mut wrong = odd;
    wrong["by_number"] = json!({"five": "5"});
    assert!(refuses(&mut rig, "swap", &json!({"odd": wrong})));
}

#[test]
fn arithmetic_that_overflows_is_a_crash_as_in_a_test() {
    let mut rig = Rig::of("values");
    rig.committed("deposit", json!({"amount": 5}));
    let crash = rig.crashes_with("withdraw", json!({"amount": 6}), Code::Unreachable);
    assert!(crash.message.contains("attempt to subtract with overflow"), "{crash:?}");
    rig.crashes_with("deposit", json!({"amount": u64::MAX}), Code::Unreachable);
    assert_eq!(rig.committed("withdraw", json!({"amount": 5})), 0);
}
