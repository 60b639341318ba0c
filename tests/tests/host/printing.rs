//! Print, commit, crash, print: standard output works after every restart.

use host::base::error::Code;
use host::base::ids::RequestId;
use host::mechanisms::sandbox::Level;
use serde_json::json;
use tests::{BUMP, Hostile, RUN, Rig, RigOptions, VALUE, deploy, deployed};

#[test]
fn a_lean_guest_prints_after_every_restart() {
    let mut rig = Rig::of("chaos");
    for round in 1..=20_u64 {
        rig.committed("print", json!({"text": format!("hello {round}")}));
        let lines = rig.lines.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!((lines[0].level, lines[0].target.as_str()), (Level::Info, "stdout"));
        assert_eq!(lines[0].message, format!("hello {round}"));
        assert_eq!(lines[0].generation, round);
        rig.committed("touch", json!({"pages": 1}));
        rig.crashes_with("die", json!({"how": "print_then_panic"}), Code::Unreachable);
        let lines = rig.lines.take();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0].message, "about to panic");
        assert_eq!((lines[1].level, lines[1].target.as_str()), (Level::Warn, "stderr"));
    }
}

#[test]
fn s4_30_lines_carry_request_correlation_attempt_and_generation() {
    let options = RigOptions { retries_max: 1, ..RigOptions::default() };
    let mut rig = Rig::start(&deployed("chaos"), options);
    let mut bound = rig.bind("die", &json!({"how": "print_then_panic"}));
    bound.request = RequestId(0xabc);
    bound.correlation = Some("order-17".into());
    rig.transact(&bound);
    let lines = rig.lines.take();
    assert_eq!(lines.len(), 4, "two lines in each of two tries: {lines:?}");
    for (place, line) in lines.iter().enumerate() {
        let attempt = if place < 2 { 1 } else { 2 };
        assert_eq!(line.request, RequestId(0xabc));
        assert_eq!(line.correlation.as_deref(), Some("order-17"));
        assert_eq!((line.attempt, line.generation), (attempt, u64::from(attempt)));
    }
}

/// The interfaces of WASI that printing takes, and the functions lowered.
const WASI: &str = r#"
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (alias outer 1 $error (type $error0))
    (export "error" (type $error (eq $error0)))
    (type $stream-error0 (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error0)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output-stream)) (param "contents" (list u8))
        (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $output-stream0))
    (export "output-stream" (type $output-stream (eq $output-stream0)))
    (export "get-stdout" (func (result (own $output-stream))))))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $stream-write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $stream-drop (canon resource.drop $output-stream))"#;

const WASI_EXPORTS: &str = r#"
  (export "get-stdout" (func $get-stdout)) (export "write" (func $stream-write))
  (export "drop" (func $stream-drop))"#;

const WASI_IMPORTS: &str = r#"
  (import "extra" "get-stdout" (func $get-stdout (result i32)))
  (import "extra" "write" (func $stream-write (param i32 i32 i32 i32)))
  (import "extra" "drop" (func $stream-drop (param i32)))"#;

/// Prints "alive!" and a line break through the stream whose handle is at 24.
const PRINT: &str = r#"
  (i64.store #4096 (i64.const 0x0a216576696c61))
  (call $stream-write (i32.load #24) #4096 #7 #4112)
  (if (i32.load8_u #4112) (then unreachable))"#;

/// Takes standard output and keeps its handle at 24.
const ACQUIRE: &str = "(i32.store #24 (call $get-stdout))";

/// A guest that uses WASI's streams itself.
pub(crate) fn with_wasi(prime: &str, run: &str) -> Hostile {
    Hostile {
        component: WASI.to_owned(),
        extra: WASI_EXPORTS.to_owned(),
        imports: WASI_IMPORTS.to_owned(),
        prime: prime.to_owned(),
        run: run.to_owned(),
        ..Hostile::default()
    }
}

#[test]
fn a_guest_that_holds_a_stream_prints_after_every_restart() {
    // Every third call crashes after it has printed and changed something.
    let run = format!("{PRINT} (if (i32.eqz (i32.rem_u (i32.load #16) #3)) (then unreachable))");
    let guest = deploy(&with_wasi(ACQUIRE, &run).build()).unwrap();
    let mut rig = Rig::start(&guest, RigOptions::default());
    for round in 0..20_u64 {
        for _ in 0..2 {
            rig.committed(RUN, json!({}));
            assert_eq!(rig.lines.texts(), ["alive!"], "round {round}");
        }
        let hash = rig.hash();
        rig.crashes_with(RUN, json!({}), Code::Unreachable);
        assert_eq!(rig.lines.texts(), ["alive!"], "what was printed before a crash is kept");
        assert_eq!(rig.daemon.generation().0, round + 2);
        assert_eq!(rig.hash(), hash);
        rig.committed(BUMP, json!({}));
        assert_eq!(rig.committed(VALUE, json!({})), (3 * (round + 1)) & 127);
    }
}

#[test]
fn c9_a_guest_that_gives_its_stream_away_is_rolled_back() {
    let cases = [
        ("dropped", "(call $stream-drop (i32.load #24))", Code::HandleLeak),
        ("leaked", "(drop (call $get-stdout))", Code::HandleLeak),
        ("leaked until the table is full", "(loop (drop (call $get-stdout)) (br 0))", Code::Handle),
        (
            "dropped twice",
            "(call $stream-drop (i32.load #24)) (call $stream-drop (i32.load #24))",
            Code::Handle,
        ),
        (
            "used after it was dropped",
            "(call $stream-drop (i32.load #24))
             (call $stream-write (i32.load #24) #0 #1 #4112)",
            Code::Handle,
        ),
        ("forged: 0", "(call $stream-drop #0)", Code::Handle),
        ("forged: -1", "(call $stream-drop #-1)", Code::Handle),
        ("forged: 7", "(call $stream-drop #7)", Code::Handle),
    ];
    for (what, run, code) in cases {
        let guest = deploy(&with_wasi(ACQUIRE, run).build()).unwrap();
        let mut rig = Rig::start(&guest, RigOptions::default());
        let hash = rig.hash();
        for _ in 0..3 {
            let crash = rig.crashed(RUN, json!({}));
            assert_eq!(crash.code, code, "{what}: {crash:?}");
            assert_eq!(rig.hash(), hash, "{what}");
        }
        assert_eq!(rig.committed(BUMP, json!({})), 1, "{what}");
    }
}

#[test]
fn a_stream_replaced_by_another_one_counts_as_the_same() {
    // As many handles as after `prime`: that is what is promised, and checked.
    let run = "(call $stream-drop (i32.load #24)) (i32.store #24 (call $get-stdout))";
    let guest = deploy(&with_wasi(ACQUIRE, &format!("{run} {PRINT}")).build()).unwrap();
    let mut rig = Rig::start(&guest, RigOptions::default());
    assert_eq!(rig.committed(RUN, json!({})), 1);
    assert_eq!(rig.committed(RUN, json!({})), 2);
    assert_eq!(rig.lines.texts(), ["alive!", "alive!"]);
}

#[test]
fn a_prime_that_acquires_more_each_time_parks_its_daemon() {
    // It counts its own runs in the entropy it draws: the host gives other numbers per generation.
    let prime = format!(
        "{ACQUIRE} (if (i64.gt_u (call $generation) (i64.const 1))
           (then (drop (call $get-stdout))))"
    );
    let guest = deploy(&with_wasi(&prime, "unreachable").build()).unwrap();
    let mut rig = Rig::start(&guest, RigOptions::default());
    let hash = rig.hash();
    rig.crashes_with(RUN, json!({}), Code::Unreachable);
    let reason = rig.daemon.parked().unwrap();
    assert_eq!(reason.code, Code::HandleLeak, "{reason}");
    assert_eq!(rig.rejected(BUMP, json!({})).code, "E_PARKED");
    assert_eq!(rig.hash(), hash, "the last commit is intact");
}

/// Functions of WASI that wait or end the program, lowered.
const UNSUPPORTED: &str = r#"
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $monotonic
    (alias outer 1 $pollable (type $pollable0))
    (export "pollable" (type $pollable (eq $pollable0)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (core func $sleep (canon lower (func $monotonic "subscribe-duration")))
  (core func $exit (canon lower (func $exit "exit")))"#;

#[test]
fn waiting_and_leaving_are_not_possible_in_a_transaction() {
    for run in ["(drop (call $sleep (i64.const 1000)))", "(call $exit #0)", "(call $exit #1)"] {
        let guest = Hostile {
            component: UNSUPPORTED.to_owned(),
            extra: "(export \"sleep\" (func $sleep)) (export \"exit\" (func $exit))".to_owned(),
            imports: "(import \"extra\" \"sleep\" (func $sleep (param i64) (result i32)))
                (import \"extra\" \"exit\" (func $exit (param i32)))"
                .to_owned(),
            run: run.to_owned(),
            ..Hostile::default()
        };
        let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
        rig.crashes_with(RUN, json!({}), Code::HostcallUnsupported);
        assert_eq!(rig.committed(BUMP, json!({})), 1);
    }
}

#[test]
fn a_guest_that_asks_for_its_directories_in_a_call_is_told_what_it_lacks() {
    let guest = Hostile {
        component: r#"
          (import "wasi:filesystem/types@0.2.0" (instance $files
            (export "descriptor" (type (sub resource)))))
          (alias export $files "descriptor" (type $descriptor))
          (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
            (alias outer 1 $descriptor (type $descriptor0))
            (export "descriptor" (type $descriptor (eq $descriptor0)))
            (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
          (core func $directories (canon lower (func $preopens "get-directories")
            (memory $memory) (realloc (func $realloc))))"#
            .to_owned(),
        extra: "(export \"directories\" (func $directories))".to_owned(),
        imports: "(import \"extra\" \"directories\" (func $directories (param i32)))".to_owned(),
        run: "(call $directories #4200)".to_owned(),
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    let crash = rig.crashes_with(RUN, json!({}), Code::HandleLeak);
    assert!(crash.message.contains("`#[guest(files)]`"), "{crash:?}");
}
