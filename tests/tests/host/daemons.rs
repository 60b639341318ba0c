//! One daemon: policies after a crash, retries, keys, bugs of the host, raw arguments.

#![expect(unsafe_code, reason = "one test plays a hole in the write barrier")]

use host::base::error::Code;
use host::base::ids::RequestId;
use host::pure::policy::{HOST_BUGS_MAX, OnCrash, RECOVER_FAILURES_MAX};
use host::pure::request::{Outcome, Request};
use serde_json::{Value, json};
use tests::{BUMP, Hostile, RUN, Rig, RigOptions, VALUE, bound, deploy, deployed, hostile};

fn chaos(on_crash: OnCrash, parameters: Value) -> Rig {
    let options = RigOptions {
        on_crash,
        parameters,
        fuel: 2_000_000,
        retries_max: 0,
        ..RigOptions::default()
    };
    Rig::start(&deployed("chaos"), options)
}

/// Gives it something to lose, lets it die, and answers its state before, after, and at the start.
fn die(rig: &mut Rig) -> [Value; 3] {
    let start = rig.committed("state", json!({}));
    rig.committed("touch", json!({"pages": 2}));
    let before = rig.committed("state", json!({}));
    rig.crashes_with("die", json!({"how": "panic"}), Code::Unreachable);
    let after =
        if rig.daemon.parked().is_some() { Value::Null } else { rig.committed("state", json!({})) };
    [before, after, start]
}

#[test]
fn s4_04_after_a_crash_checkpoint_goes_on_with_the_last_commit() {
    let mut rig = chaos(OnCrash::Checkpoint, json!({}));
    let [before, after, _] = die(&mut rig);
    assert_eq!(before, after);
    assert_eq!((rig.daemon.sequence().0, rig.daemon.generation().0), (1, 2));
}

#[test]
fn s4_04_after_a_crash_zero_starts_over() {
    let mut rig = chaos(OnCrash::Zero, json!({}));
    let [before, after, start] = die(&mut rig);
    assert_eq!(after, start);
    assert_ne!(after, before);
    assert_eq!(rig.daemon.sequence().0, 2, "starting over is a commit of its own");
}

#[test]
fn s4_04_after_a_crash_ask_does_what_the_guest_says() {
    let mut rig = chaos(OnCrash::Ask, json!({"recovery": "resume"}));
    let [before, after, start] = die(&mut rig);
    assert!(
        after != before && after != start,
        "`recover` changed the state, and that was committed"
    );
    assert_eq!(rig.daemon.sequence().0, 2);

    let mut rig = chaos(OnCrash::Ask, json!({"recovery": "zero"}));
    let [_, after, start] = die(&mut rig);
    assert_eq!(after, start);

    let mut rig = chaos(OnCrash::Ask, json!({"recovery": "park"}));
    let hash_before = {
        rig.committed("touch", json!({"pages": 2}));
        rig.hash()
    };
    rig.crashes_with("die", json!({"how": "panic"}), Code::Unreachable);
    assert_eq!(rig.daemon.parked().unwrap().code, Code::Parked);
    assert_eq!(rig.rejected("state", json!({})).code, "E_PARKED");
    assert_eq!(rig.hash(), hash_before);
    rig.daemon.resume().unwrap();
    rig.committed("state", json!({}));
    assert_eq!(rig.hash(), hash_before, "resumed on the last commit");
}

/// It notes what it is told, and answers that when it has been told twice.
#[test]
fn s4_04_recover_is_told_which_crash_of_which_instance_it_was() {
    let text = |what: usize| format!("(local.get {}) (local.get {})", 2 * what, 2 * what + 1);
    let (code, message, contract) = (text(0), text(1), text(2));
    let recover = format!(
        "(call $write #2 {code} {message}) (call $write #2 {contract} {contract})
         (i32.store #4192 (i32.add (i32.load #4192) #1))
         (i32.store8 #4200 #0x93) (i32.store8 #4201 (local.get 6))
         (i32.store8 #4202 (i32.wrap_i64 (local.get 7))) (i32.store8 #4203 #0xcf)
         (local.set $l (local.get 8)) (local.set $i #8)
         (loop $more
           (i32.store8 (i32.add #4203 (local.get $i)) (i32.wrap_i64 (local.get $l)))
           (local.set $l (i64.shr_u (local.get $l) (i64.const 8)))
           (br_if $more (local.tee $i (i32.sub (local.get $i) #1))))"
    );
    let run = "(if (i32.eq (i32.load #4192) #2) (then (return (call $answer #4200 #12))))
        (call $panicked #1226 #5) unreachable";
    let guest = Hostile { recover, run: run.to_owned(), hooks: 1, ..Hostile::default() };
    let options = RigOptions { on_crash: OnCrash::Ask, retries_max: 1, ..RigOptions::default() };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), options);
    let crash = rig.crashes_with(RUN, json!({}), Code::Unreachable);
    assert!(crash.message.contains("value"), "its last words: {crash:?}");
    assert_eq!((crash.attempt, crash.generation.0), (2, 2));
    let told = rig.lines.take().into_iter().filter(|line| line.target != "panic");
    let told: Vec<[String; 2]> = told.map(|line| [line.target, line.message]).collect();
    let expected = [["E_TRAP_UNREACHABLE", crash.message.as_str()], [RUN, RUN]];
    assert_eq!(told, [expected, expected].concat(), "at each crash");
    assert_eq!(rig.committed(RUN, json!({})), json!([2, 2, crash.fuel_used]));
}

#[test]
fn s4_04_a_guest_that_dies_in_recover_falls_back_and_is_parked_at_last() {
    for parameters in [
        json!({"die_in_recover": "panic"}),
        json!({"die_in_recover": "stack_overflow"}),
        json!({"die_in_recover": "half_moved"}),
        json!({"die_in_recover": "leak_handle"}),
        json!({"refuse_recover": true}),
    ] {
        let mut rig = chaos(OnCrash::Ask, parameters.clone());
        rig.committed("touch", json!({"pages": 2}));
        let hash = rig.hash();
        for failure in 1..=RECOVER_FAILURES_MAX {
            assert!(rig.daemon.parked().is_none(), "{parameters}: parked after {failure}");
            rig.crashes_with("die", json!({"how": "unreachable"}), Code::Unreachable);
            assert_eq!(rig.hash(), hash, "{parameters}");
        }
        let reason = rig.daemon.parked().unwrap();
        assert_eq!(reason.code, Code::Parked, "{parameters}: {reason}");
        rig.daemon.resume().unwrap();
        rig.committed("touch", json!({"pages": 1}));
        // A commit shows that it is well: it has all its chances again.
        rig.crashes_with("die", json!({"how": "unreachable"}), Code::Unreachable);
        assert!(rig.daemon.parked().is_none());
    }
}

#[test]
fn on_restore_is_told_and_committed_and_its_failures_count() {
    let guest = Hostile {
        on_restore: "(i32.store #24 (i32.add (i32.load #24) #1))".to_owned(),
        run: "(if (i32.eqz (i32.and (i32.load #16) #1)) (then unreachable))
              (return (call $answer #24 #1))"
            .to_owned(),
        hooks: 2,
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    assert_eq!(rig.committed(RUN, json!({})), 0);
    rig.crashes_with(RUN, json!({}), Code::Unreachable);
    rig.committed(BUMP, json!({}));
    assert_eq!(rig.committed(RUN, json!({})), 1);

    let guest = Hostile {
        on_restore: "unreachable".to_owned(),
        run: "unreachable".to_owned(),
        hooks: 2,
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    let hash = rig.hash();
    for _ in 1..RECOVER_FAILURES_MAX {
        rig.crashes_with(RUN, json!({}), Code::Unreachable);
        assert!(rig.daemon.parked().is_none());
    }
    rig.crashes_with(RUN, json!({}), Code::Unreachable);
    assert_eq!(rig.daemon.parked().unwrap().code, Code::Parked);
    assert_eq!(rig.hash(), hash);
}

#[test]
fn s4_18_a_crashed_transaction_is_tried_again_and_poison_is_called_so() {
    let options = RigOptions { retries_max: 5, ..RigOptions::default() };
    let mut rig = Rig::start(&deployed("chaos"), options);
    let bound = rig.bind("die", &json!({"how": "panic"}));
    let transacted = rig.transact(&bound);
    let Outcome::Crashed(crash) = transacted.outcome else { panic!("{transacted:?}") };
    assert_eq!((transacted.attempts, crash.attempt, crash.poison), (2, 2, true));
    assert_eq!(rig.daemon.gauges().report().crashed, 1, "one request, however many tries");
    assert_eq!(rig.daemon.gauges().report().restarts, 2);

    // A guest that dies in its first try only: the second one commits.
    let once = "(if (i32.eq (call $attempt) #1) (then unreachable))";
    let options = RigOptions { retries_max: 1, ..RigOptions::default() };
    let mut rig = Rig::start(&deploy(&hostile(once)).unwrap(), options);
    let bound = rig.bind(RUN, &json!({}));
    let transacted = rig.transact(&bound);
    assert!(matches!(transacted.outcome, Outcome::Committed(_)), "{transacted:?}");
    assert_eq!((transacted.attempts, transacted.sequence.0), (2, 1));
    assert_eq!(rig.committed(VALUE, json!({})), 1, "it happened once");

    // One that dies in another way each time is tried to the end of its budget.
    let differently = "(if (i32.and (call $attempt) #1) (then unreachable))
        (drop (i32.div_u #1 (local.get $i)))";
    let options = RigOptions { retries_max: 3, ..RigOptions::default() };
    let mut rig = Rig::start(&deploy(&hostile(differently)).unwrap(), options);
    let bound = rig.bind(RUN, &json!({}));
    let transacted = rig.transact(&bound);
    let Outcome::Crashed(crash) = transacted.outcome else { panic!("{transacted:?}") };
    assert_eq!((transacted.attempts, crash.code, crash.poison), (4, Code::Arithmetic, false));
}

#[test]
fn s4_01_a_rejection_restarts_nothing_and_counts_no_crash() {
    let mut rig = Rig::of("ledger");
    let hash = rig.hash();
    let rejection = rig.rejected("transfer", json!({"from": "a", "to": "b", "amount": 1}));
    assert_eq!(rejection.code, "unknown_account");
    let report = rig.daemon.gauges().report();
    assert_eq!((report.rejected, report.crashed, report.restarts), (1, 0, 0));
    assert_eq!((rig.daemon.generation().0, rig.hash()), (1, hash));
}

#[test]
fn s4_19_reads_leave_no_trace_even_if_the_guest_lies() {
    // `value` claims to read only; this guest's writes and grows.
    let guest = Hostile {
        items: "(func $lie (if (i32.eqz #0) (then (nop))))".to_owned(),
        realloc: "(i32.store #6000 (i32.add (i32.load #6000) #1))
                  (drop (memory.grow #1))"
            .to_owned(),
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    let (hash, size) = (rig.hash(), rig.daemon.images().committed_size());
    for _ in 0..10 {
        assert_eq!(rig.committed(VALUE, json!({})), 0);
        assert_eq!(rig.hash(), hash);
        assert_eq!(rig.daemon.images().live_size(), size);
    }
    assert_eq!(rig.daemon.sequence().0, 0);
    rig.committed(BUMP, json!({}));
    assert!(rig.daemon.images().committed_size() > size);
}

#[test]
fn keys_give_the_first_answer_again_and_conflict_with_another_request() {
    let mut rig = Rig::of("counter");
    let mut keyed = |by: u64, key: &str| {
        let mut bound = rig.bind("increment", &json!({"by": by}));
        bound.key = Some(key.into());
        let transacted = rig.transact(&bound);
        (transacted.outcome, transacted.sequence.0)
    };
    let first = keyed(1, "k");
    assert_eq!(keyed(2, "other").1, 2);
    assert_eq!(keyed(1, "k"), first);
    let Outcome::Rejected(conflict) = keyed(3, "k").0 else { panic!("it was accepted") };
    assert_eq!(conflict.code, "E_KEY_CONFLICT");
    assert_eq!(rig.committed("value", json!({})), 3);
}

#[test]
fn c14_a_panic_of_the_host_crashes_the_transaction_and_the_second_parks() {
    let mut rig =
        Rig::start(&deploy(&hostile("(drop (call $now))")).unwrap(), RigOptions::default());
    rig.committed(RUN, json!({}));
    let hash = rig.hash();
    for bug in 1..=HOST_BUGS_MAX {
        assert!(rig.daemon.parked().is_none());
        rig.daemon.panic_in_next_host_call();
        let crash = rig.crashes_with(RUN, json!({}), Code::HostBug);
        assert!(crash.message.contains("a panic that a test asked for"), "{crash:?}");
        assert_eq!(rig.hash(), hash);
        assert_eq!(rig.daemon.generation().0, u64::from(bug.min(HOST_BUGS_MAX - 1)) + 1);
    }
    assert_eq!(rig.daemon.parked().unwrap().code, Code::HostBug);
    rig.daemon.resume().unwrap();
    assert_eq!(rig.committed(RUN, json!({})), 2);
    // A commit in between, and it is not the second in a row.
    for _ in 0..3 {
        rig.daemon.panic_in_next_host_call();
        rig.crashes_with(RUN, json!({}), Code::HostBug);
        rig.committed(BUMP, json!({}));
    }
}

#[test]
fn a_hole_in_the_barrier_is_found_and_parks_the_daemon() {
    let mut rig = Rig::of("counter");
    rig.committed("increment", json!({"by": 1}));
    let hash = rig.hash();
    // Deep in the stack's unused part, where no card of this guest is ever marked.
    let address = rig.daemon.images().live_slot().base().as_ptr();
    // SAFETY: inside the live image, and no guest code runs.
    unsafe { address.add(4096).write(!address.add(4096).read()) };
    let bound = rig.bind("increment", &json!({"by": 1}));
    let outcome = rig.daemon.transact(&bound).outcome;
    assert!(
        matches!(&outcome, Outcome::Crashed(crash) if crash.code == Code::Barrier),
        "{outcome:?}"
    );
    assert_eq!(rig.daemon.parked().unwrap().code, Code::Barrier);
    assert_eq!(rig.hash(), hash, "the last commit is intact");
    rig.daemon.resume().unwrap();
    assert_eq!(rig.committed("increment", json!({"by": 1})), 2);
}

#[test]
fn c8_raw_arguments_that_nothing_has_checked_are_harmless() {
    let mut rig =
        Rig::start(&deployed("ledger"), RigOptions { fuel: 50_000_000, ..RigOptions::default() });
    rig.committed("deposit", json!({"account": "ann", "amount": 1}));
    let hash = rig.hash();
    let deep = |opening: u8| vec![opening; 100_000];
    let mut raw: Vec<Vec<u8>> = vec![
        vec![],
        vec![0xc1],
        vec![0xc0],
        vec![0x90],
        vec![0x93],
        vec![0x92, 0xa1],
        deep(0x91),
        deep(0x81),
        deep(0xdc),
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        vec![0xdf, 0xff, 0xff, 0xff, 0xff],
        vec![0xdb, 0xff, 0xff, 0xff, 0xff],
        vec![0x92, 0xdb, 0x7f, 0xff, 0xff, 0xff, b'a'],
        vec![0x92, 0xa2, 0xff, 0xfe, 0x01],
        vec![0x92, 0xa1, b'a', 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
        vec![0x92, 0xa1, b'a', 0xff],
    ];
    raw.extend((0..=255).map(|byte| vec![0x92, byte, byte, byte]));
    for arguments in raw {
        for contract in [0, 1, u32::MAX] {
            let outcome = rig.transact(&bound(contract, &arguments)).outcome;
            let harmless = match &outcome {
                Outcome::Rejected(rejection) => rejection.code == "E_ARGS",
                Outcome::Crashed(crash) => {
                    crash.code == Code::StackTrap || crash.code == Code::Unreachable
                }
                _ => false,
            };
            let start = &arguments[..arguments.len().min(8)];
            assert!(harmless, "{start:x?}: {outcome:?}");
            assert_eq!(rig.hash(), hash);
        }
    }
    assert_eq!(rig.committed("total", json!({})), 1);
}

#[test]
fn c8_request_lines_that_are_none_are_refused() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let lines = [
        "",
        "null",
        "[]",
        "{",
        "\u{0}",
        "{\"daemon\": 1}",
        r#"{"daemon": "a", "contract": "b", "x": 1}"#,
        r#"{"daemon": "a", "daemon": "b", "contract": "c"}"#,
        &deep,
        &format!(r#"{{"daemon": "a", "contract": "b", "args": {deep}}}"#),
        &format!(r#"{{"daemon": "{}", "contract": "b"}}"#, "a".repeat(300)),
    ];
    for line in lines {
        assert_eq!(Request::parse(line).unwrap_err().code, Code::Request, "{line:.40}");
    }
}

#[test]
fn a_cancelled_transaction_says_so() {
    let mut rig = Rig::start(
        &deployed("chaos"),
        RigOptions { fuel: u64::MAX / 2, retries_max: 3, ..RigOptions::default() },
    );
    rig.daemon.cancel().request(RequestId(9));
    let mut bound = rig.bind("die", &json!({"how": "spin"}));
    bound.request = RequestId(9);
    let transacted = rig.transact(&bound);
    assert_eq!(transacted.attempts, 1);
    assert!(
        matches!(&transacted.outcome, Outcome::Crashed(crash) if crash.code == Code::Cancelled)
    );
}
