//! Hostile calls (faults C1 to C9): whatever guest code does, its daemon goes on.
//!
//! Each case is the body of a call. It has changed the state before it does its worst; afterwards
//! the state must be the last commit, and the next call must work.

use std::time::{Duration, Instant};

use host::base::error::Code;
use host::pure::request::Outcome;
use serde_json::json;
use tests::{BUMP, Hostile, RUN, Rig, RigOptions, VALUE, deploy, hostile};

/// Runs a hostile body three times, between calls that must work, and answers its code.
fn provoke(what: &str, guest: &Hostile, options: &RigOptions) -> Option<Code> {
    let guest = deploy(&guest.build()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut rig = Rig::start(&guest, options.clone());
    let mut code = None;
    for round in 1..=3_u64 {
        let hash = rig.hash();
        let outcome = rig.call(RUN, json!({}));
        code = match outcome {
            Outcome::Crashed(crash) => {
                assert_eq!(rig.hash(), hash, "{what}");
                assert!(crash.backtrace.len() <= 64, "{what}: {crash:?}");
                Some(crash.code)
            }
            Outcome::Committed(_) => None,
            outcome => panic!("{what}: {outcome:?}"),
        };
        let ran = if code.is_none() { round } else { 0 };
        assert_eq!(rig.committed(BUMP, json!({})), round + ran, "{what}");
        assert_eq!(rig.committed(VALUE, json!({})), round + ran, "{what}");
    }
    code
}

fn check(cases: &[(&str, &str, Option<Code>)]) {
    check_with(&Hostile::default(), &RigOptions::default(), cases);
}

fn check_with(guest: &Hostile, options: &RigOptions, cases: &[(&str, &str, Option<Code>)]) {
    let mut wrong = Vec::new();
    for &(what, run, expected) in cases {
        let guest = Hostile { run: run.to_owned(), ..guest.clone() };
        let start = Instant::now();
        let code = provoke(what, &guest, options);
        if code != expected {
            wrong.push(format!("{what}: {code:?}, not {expected:?}"));
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_guest_written_by_hand_runs() {
    check(&[("nothing wrong", "", None)]);
}

#[test]
fn c1_endless_loops_end_by_fuel() {
    check(&[
        ("a loop", "(loop (br 0))", Some(Code::Fuel)),
        (
            "a loop that writes",
            "(loop (i32.store #5000 (i32.add (i32.load #5000) #1)) (br 0))",
            Some(Code::Fuel),
        ),
        ("loops in loops", "(loop (loop (br_if 1 #1) (br 0)) (br 0))", Some(Code::Fuel)),
    ]);
}

#[test]
fn c1_s2_23_an_endless_loop_with_much_fuel_ends_at_its_deadline() {
    let deadline = Duration::from_millis(100);
    let options = RigOptions { fuel: u64::MAX / 2, deadline, ..RigOptions::default() };
    let guest = deploy(&hostile("(loop (br 0))")).unwrap();
    let mut rig = Rig::start(&guest, options);
    let start = Instant::now();
    rig.crashes_with(RUN, json!({}), Code::Deadline);
    let took = start.elapsed();
    assert!(took >= deadline, "{took:?} is before the deadline");
    assert!(took < deadline * 5, "{took:?} is long after the deadline");
    assert_eq!(rig.committed(BUMP, json!({})), 1);
}

#[test]
fn c2_recursion_without_end_is_a_trap_of_its_own() {
    let locals = "(local i64 i64 i64 i64) ".repeat(400);
    let items = format!(
        "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) #1))
         (func $wide (param i32) {locals} (local.set 5 (i64.extend_i32_u (local.get 0)))
           (call $wide (i32.wrap_i64 (local.get 5))))
         (func $host (call $write #0 #0 #0 #0 #0)
           (call $host) (call $host))
         (table 1 funcref) (elem #0 $indirect)
         (func $indirect (call_indirect #0) (call $indirect))"
    );
    let guest = Hostile { items, ..Hostile::default() };
    let fuel = 1_000_000_000;
    check_with(
        &guest,
        &RigOptions { fuel, ..RigOptions::default() },
        &[
            ("deep", "(drop (call $deep #0))", Some(Code::StackTrap)),
            ("with large frames", "(call $wide #1)", Some(Code::StackTrap)),
            ("with host calls", "(call $host)", Some(Code::StackTrap)),
            ("through a table", "(call $indirect)", Some(Code::StackTrap)),
        ],
    );
}

#[test]
fn s4_03_each_trap_of_a_guest_has_its_code() {
    let items = "(table 2 funcref) (type $t (func (param i64))) (elem #0 $f) (func $f)";
    let guest = Hostile { items: items.to_owned(), ..Hostile::default() };
    let load = "(drop (i32.load #-1))";
    check_with(
        &guest,
        &RigOptions::default(),
        &[
            ("unreachable", "unreachable", Some(Code::Unreachable)),
            ("division by zero", "(drop (i32.div_u #1 (local.get $i)))", Some(Code::Arithmetic)),
            ("overflow", "(drop (i32.div_s #0x80000000 #-1))", Some(Code::Arithmetic)),
            ("bad float", "(drop (i32.trunc_f32_s (f32.const nan)))", Some(Code::Arithmetic)),
            ("load", load, Some(Code::MemoryTrap)),
            ("store", "(i64.store #-8 (i64.const 1))", Some(Code::MemoryTrap)),
            ("store at the end", "(i32.store8 #131072 #1)", Some(Code::MemoryTrap)),
            ("store across the end", "(i64.store #131065 (i64.const 1))", Some(Code::MemoryTrap)),
            (
                "store inside the budget",
                "(i64.store #0x100000 (i64.const 1))",
                Some(Code::MemoryTrap),
            ),
            (
                "store with an offset",
                "(i32.store offset=0xffffffff #-1 #1)",
                Some(Code::MemoryTrap),
            ),
            ("null function", "(call_indirect #1)", Some(Code::IndirectCall)),
            ("no function", "(call_indirect #2)", Some(Code::IndirectCall)),
            ("other type", "(call_indirect (type $t) (i64.const 1) #0)", Some(Code::IndirectCall)),
        ],
    );
}

#[test]
fn c4_bulk_operations_are_bounded_and_trap_like_stores() {
    let options = RigOptions { fuel: 20_000_000, budget_bytes: 1 << 20, ..RigOptions::default() };
    check_with(
        &Hostile::default(),
        &options,
        &[
            ("fill all", "(loop (memory.fill #0x10000 #7 #0x10000) (br 0))", Some(Code::Fuel)),
            ("copy all", "(loop (memory.copy #0x10000 #0x10008 #0xfff0) (br 0))", Some(Code::Fuel)),
            ("fill too much", "(memory.fill #0 #7 #-1)", Some(Code::Fuel)),
            ("fill over the end", "(memory.fill #0x1ffff #7 #2)", Some(Code::MemoryTrap)),
            ("copy from outside", "(memory.copy #0 #0x1ffff #2)", Some(Code::MemoryTrap)),
            ("copy to outside", "(memory.copy #0x1ffff #0 #2)", Some(Code::MemoryTrap)),
            ("fill nothing at the end", "(memory.fill #0x20000 #7 #0)", None),
            ("fill nothing outside", "(memory.fill #0x20001 #7 #0)", Some(Code::MemoryTrap)),
        ],
    );
}

#[test]
fn c4_s2_30_s4_22_growth_over_the_budget_fails_in_the_guest_alone() {
    // A refusal takes longer than its fuel would.
    let options = RigOptions { budget_bytes: 1 << 20, fuel: 10_000_000, ..RigOptions::default() };
    let grow = "(loop (br_if 0 (i32.ne (memory.grow #1) #-1)))";
    let full = "(if (i32.ne (memory.size) #16) (then unreachable))";
    check_with(
        &Hostile::default(),
        &options,
        &[
            ("by -1", "(if (i32.ne (memory.grow #-1) #-1) (then unreachable))", None),
            ("by 64 GiB", "(if (i32.ne (memory.grow #0x100000) #-1) (then unreachable))", None),
            ("page by page", &format!("{grow} {full}"), None),
            ("then trap", &format!("{grow} {full} unreachable"), Some(Code::OutOfMemory)),
            ("for ever", "(loop (drop (memory.grow #1)) (br 0))", Some(Code::Fuel)),
        ],
    );
}

#[test]
fn c4_regrown_pages_are_zero_after_a_roll_back() {
    // Grows by a page, finds it zero or traps as `unreachable`, soils it, and divides by zero.
    let run = "(local.set $i (i32.shl (memory.grow #1) #16))
      (local.set $j #0)
      (loop
        (local.set $l (i64.load (i32.add (local.get $i) (local.get $j))))
        (if (i64.ne (local.get $l) (i64.const 0)) (then unreachable))
        (i64.store (i32.add (local.get $i) (local.get $j)) (i64.const -1))
        (br_if 0 (i32.lt_u (local.tee $j (i32.add (local.get $j) #8)) #0x10000)))
      (drop (i32.div_u #1 (local.get $n)))";
    check(&[("regrown", run, Some(Code::Arithmetic))]);
}

#[test]
fn c5_host_calls_check_pointers_lengths_and_values() {
    let write =
        |level: &str, at: &str, len: &str| format!("(call $write #{level} #0 #0 #{at} #{len})");
    let args = Some(Code::HostcallArgs);
    let cases = [
        ("pointer and length overflow", write("2", "-1", "2"), args),
        ("the longest length", write("2", "0", "-1"), args),
        ("beyond the last byte", write("2", "131071", "2"), args),
        ("the last byte", write("2", "131071", "1"), None),
        ("nothing at the end", write("2", "131072", "0"), None),
        ("not UTF-8", format!("(i32.store #5000 #0xffc0) {}", write("2", "5000", "2")), args),
        ("no such level", write("9", "0", "0"), args),
        ("overlapping buffers", "(call $write #1 #1226 #4 #1227 #4)".to_owned(), None),
        ("bytes outside", "(call $print #0 #131000 #500)".to_owned(), args),
        ("no such stream", "(call $print #2 #0 #0)".to_owned(), args),
        ("last words outside", "(call $panicked #-4 #5)".to_owned(), args),
        ("result outside", "(call $request-id #-8)".to_owned(), args),
        ("result across the end", "(call $request-id #131068)".to_owned(), args),
        ("result unaligned", "(call $request-id #5001)".to_owned(), args),
        ("result at the end", "(call $request-id #131064)".to_owned(), None),
    ];
    let cases: Vec<_> =
        cases.iter().map(|(what, run, code)| (*what, run.as_str(), *code)).collect();
    check(&cases);
}

#[test]
fn c5_what_the_guest_returns_is_checked_too() {
    let answer = |at: &str, len: &str| format!("(return (call $answer #{at} #{len}))");
    let args = Some(Code::HostcallArgs);
    let cases = [
        ("outside", answer("-1", "2"), args),
        ("too long", answer("0", "-1"), args),
        ("result area outside", "(return #-4)".to_owned(), args),
        ("result area unaligned", "(return #65)".to_owned(), args),
        ("no such case", "(i32.store #64 #7) (return #64)".to_owned(), args),
        ("nothing", answer("512", "0"), Some(Code::ResultShape)),
        (
            "no MessagePack",
            "(i32.store8 #512 #0xc1) (return (call $answer #512 #1))".to_owned(),
            Some(Code::ResultShape),
        ),
        (
            "an array that is not whole",
            "(i32.store8 #512 #0xdd) (return (call $answer #512 #1))".to_owned(),
            Some(Code::ResultShape),
        ),
    ];
    let cases: Vec<_> =
        cases.iter().map(|(what, run, code)| (*what, run.as_str(), *code)).collect();
    check(&cases);
}

#[test]
fn s0_13_a_result_of_another_shape_fails_the_transaction() {
    let run = "(i32.store8 #512 #0xc0) (return (call $answer #512 #1))";
    let schema = r#"{"type": "integer", "maximum": 100}"#.to_owned();
    let guest = Hostile { schema, ..Hostile::default() };
    check_with(
        &guest,
        &RigOptions::default(),
        &[("null for an integer", run, Some(Code::ResultShape)), ("an integer", "", None)],
    );
}

#[test]
fn c6_storms_and_huge_transfers_end_by_their_limits() {
    let huge = "(drop (memory.grow #320))";
    let options = RigOptions { fuel: 400_000_000, budget_bytes: 32 << 20, ..RigOptions::default() };
    let limit = Some(Code::HostcallLimit);
    check_with(
        &Hostile::default(),
        &options,
        &[
            ("a storm with fuel for it", "(loop (drop (call $now)) (br 0))", limit),
            ("a huge list", &format!("{huge} (call $print #0 #0 #20000000)"), limit),
            ("a huge text", &format!("{huge} (call $panicked #0x30000 #20000000)"), limit),
            ("a huge reply", &format!("{huge} (return (call $answer #0 #20000000))"), limit),
        ],
    );
    let little = RigOptions { fuel: 1_000_000, ..options };
    check_with(
        &Hostile::default(),
        &little,
        &[
            ("a storm", "(loop (drop (call $random)) (br 0))", Some(Code::Fuel)),
            (
                "a storm of text",
                "(loop (call $write #0 #0 #0 #0x2000 #0xe000) (br 0))",
                Some(Code::Fuel),
            ),
            (
                "lists whose bytes cost more than there is",
                &format!("{huge} (call $print #0 #0 #15000000)"),
                Some(Code::Fuel),
            ),
        ],
    );
}

#[test]
fn c7_a_guest_that_calls_out_while_it_is_being_written_to_traps() {
    let guest = Hostile {
        realloc: "(if (i32.eq (i32.load #16) #5) (then (drop (call $now))))".to_owned(),
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    for _ in 0..5 {
        rig.committed(BUMP, json!({}));
    }
    let hash = rig.hash();
    rig.crashes_with(BUMP, json!({}), Code::OtherTrap);
    assert_eq!(rig.hash(), hash);
}

#[test]
fn a_guests_own_rejection_is_an_answer_and_undoes_its_changes() {
    let run = "(memory.fill #0x10000 #1 #0x10000)
      (return (call $reject #1220 #4))";
    let mut rig = Rig::start(&deploy(&hostile(run)).unwrap(), RigOptions::default());
    let hash = rig.hash();
    let rejection = rig.rejected(RUN, json!({}));
    assert_eq!((rejection.code.as_str(), rejection.message.as_str()), ("bump", "bump"));
    assert_eq!((rig.hash(), rig.daemon.generation().0), (hash, 1), "no restart");
    assert_eq!(rig.committed(BUMP, json!({})), 1);
}
