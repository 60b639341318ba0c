//! Each function of WASI that a guest can call costs fuel and counts as a host call, like the
//! host's own; none of them reaches the machine.

use host::base::error::Code;
use host::base::limits::{HOSTCALL_FUEL, HOSTCALL_FUEL_PER_BYTE, HOSTCALLS_PER_TRANSACTION_MAX};
use host::pure::request::Outcome;
use tests::{Hostile, Rig, RigOptions, bound, deploy};

/// An interface's functions: its import, what it lowers, and for each function its core type, a
/// call of it, and the bytes that a call moves.
struct Interface {
    import: &'static str,
    lowered: &'static str,
    functions: &'static [(&'static str, &'static str, &'static str, u64)],
}

/// In the order in which types come from one into another. The handle of standard output is at 24,
/// that of standard input at 28; what a call answers is written at 4200.
const INTERFACES: &[Interface] = &[
    Interface {
        import: r#"(import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $pollable (sub resource)))
            (export "[method]pollable.ready"
              (func (param "self" (borrow $pollable)) (result bool)))
            (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
            (export "poll"
              (func (param "in" (list (borrow $pollable))) (result (list u32))))))
          (alias export $poll "pollable" (type $pollable))
          (core func $drop-pollable (canon resource.drop $pollable))"#,
        lowered: r#"
          (core func $ready (canon lower (func $poll "[method]pollable.ready")))
          (core func $block (canon lower (func $poll "[method]pollable.block")))
          (core func $poll-list (canon lower (func $poll "poll") (memory $memory)
            (realloc (func $realloc))))"#,
        functions: &[
            ("drop-pollable", "(param i32)", "", 0),
            ("ready", "(param i32) (result i32)", "(drop (call $ready (i32.load #32)))", 0),
            ("block", "(param i32)", "(call $block (i32.load #32))", 0),
            ("poll-list", "(param i32 i32 i32)", "(call $poll-list #32 #1 #4200)", 1),
        ],
    },
    Interface {
        import: r#"(import "wasi:io/error@0.2.0" (instance $errors
            (export "error" (type $error (sub resource)))))
          (alias export $errors "error" (type $error))
          (import "wasi:io/streams@0.2.0" (instance $streams
            (alias outer 1 $error (type $error0))
            (export "error" (type $error (eq $error0)))
            (alias outer 1 $pollable (type $pollable0))
            (export "pollable" (type $pollable (eq $pollable0)))
            (export "output-stream" (type $output (sub resource)))
            (export "input-stream" (type $input (sub resource)))
            (export "[method]output-stream.subscribe"
              (func (param "self" (borrow $output)) (result (own $pollable))))
            (export "[method]input-stream.subscribe"
              (func (param "self" (borrow $input)) (result (own $pollable))))
            (type $fault0 (variant (case "last-operation-failed" (own $error)) (case "closed")))
            (export "stream-error" (type $fault (eq $fault0)))
            (export "[method]output-stream.check-write"
              (func (param "self" (borrow $output)) (result (result u64 (error $fault)))))
            (export "[method]output-stream.write"
              (func (param "self" (borrow $output)) (param "contents" (list u8))
                (result (result (error $fault)))))
            (export "[method]output-stream.blocking-write-and-flush"
              (func (param "self" (borrow $output)) (param "contents" (list u8))
                (result (result (error $fault)))))
            (export "[method]output-stream.flush"
              (func (param "self" (borrow $output)) (result (result (error $fault)))))
            (export "[method]output-stream.blocking-flush"
              (func (param "self" (borrow $output)) (result (result (error $fault)))))
            (export "[method]output-stream.write-zeroes"
              (func (param "self" (borrow $output)) (param "len" u64)
                (result (result (error $fault)))))
            (export "[method]output-stream.blocking-write-zeroes-and-flush"
              (func (param "self" (borrow $output)) (param "len" u64)
                (result (result (error $fault)))))
            (export "[method]output-stream.splice"
              (func (param "self" (borrow $output)) (param "src" (borrow $input))
                (param "len" u64) (result (result u64 (error $fault)))))
            (export "[method]output-stream.blocking-splice"
              (func (param "self" (borrow $output)) (param "src" (borrow $input))
                (param "len" u64) (result (result u64 (error $fault)))))
            (export "[method]input-stream.read"
              (func (param "self" (borrow $input)) (param "len" u64)
                (result (result (list u8) (error $fault)))))
            (export "[method]input-stream.blocking-read"
              (func (param "self" (borrow $input)) (param "len" u64)
                (result (result (list u8) (error $fault)))))
            (export "[method]input-stream.skip"
              (func (param "self" (borrow $input)) (param "len" u64)
                (result (result u64 (error $fault)))))
            (export "[method]input-stream.blocking-skip"
              (func (param "self" (borrow $input)) (param "len" u64)
                (result (result u64 (error $fault)))))))
          (alias export $streams "output-stream" (type $output))
          (alias export $streams "input-stream" (type $input))
          (core func $drop-output (canon resource.drop $output))
          (core func $drop-input (canon resource.drop $input))"#,
        lowered: r#"
          (core func $wait-output
            (canon lower (func $streams "[method]output-stream.subscribe")))
          (core func $wait-input
            (canon lower (func $streams "[method]input-stream.subscribe")))
          (core func $check-write
            (canon lower (func $streams "[method]output-stream.check-write") (memory $memory)))
          (core func $stream-write
            (canon lower (func $streams "[method]output-stream.write") (memory $memory)))
          (core func $write-flush (canon lower
            (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
          (core func $flush
            (canon lower (func $streams "[method]output-stream.flush") (memory $memory)))
          (core func $wait-flush
            (canon lower (func $streams "[method]output-stream.blocking-flush") (memory $memory)))
          (core func $zeroes
            (canon lower (func $streams "[method]output-stream.write-zeroes") (memory $memory)))
          (core func $wait-zeroes (canon lower
            (func $streams "[method]output-stream.blocking-write-zeroes-and-flush")
            (memory $memory)))
          (core func $splice
            (canon lower (func $streams "[method]output-stream.splice") (memory $memory)))
          (core func $wait-splice
            (canon lower (func $streams "[method]output-stream.blocking-splice") (memory $memory)))
          (core func $read (canon lower (func $streams "[method]input-stream.read")
            (memory $memory) (realloc (func $realloc))))
          (core func $wait-read (canon lower (func $streams "[method]input-stream.blocking-read")
            (memory $memory) (realloc (func $realloc))))
          (core func $skip
            (canon lower (func $streams "[method]input-stream.skip") (memory $memory)))
          (core func $wait-skip
            (canon lower (func $streams "[method]input-stream.blocking-skip") (memory $memory)))"#,
        functions: &[
            ("drop-output", "(param i32)", "", 0),
            ("drop-input", "(param i32)", "", 0),
            (
                "wait-output",
                "(param i32) (result i32)",
                "(call $drop-pollable (call $wait-output (i32.load #24)))",
                0,
            ),
            (
                "wait-input",
                "(param i32) (result i32)",
                "(call $drop-pollable (call $wait-input (i32.load #28)))",
                0,
            ),
            ("check-write", "(param i32 i32)", "(call $check-write (i32.load #24) #4200)", 0),
            (
                "stream-write",
                "(param i32 i32 i32 i32)",
                "(call $stream-write (i32.load #24) #4300 #100 #4200)",
                100,
            ),
            (
                "write-flush",
                "(param i32 i32 i32 i32)",
                "(call $write-flush (i32.load #24) #4300 #100 #4200)",
                100,
            ),
            ("flush", "(param i32 i32)", "(call $flush (i32.load #24) #4200)", 0),
            ("wait-flush", "(param i32 i32)", "(call $wait-flush (i32.load #24) #4200)", 0),
            (
                "zeroes",
                "(param i32 i64 i32)",
                "(call $zeroes (i32.load #24) (i64.const 100) #4200)",
                100,
            ),
            (
                "wait-zeroes",
                "(param i32 i64 i32)",
                "(call $wait-zeroes (i32.load #24) (i64.const 100) #4200)",
                100,
            ),
            (
                "splice",
                "(param i32 i32 i64 i32)",
                "(call $splice (i32.load #24) (i32.load #28) (i64.const 9) #4200)",
                0,
            ),
            (
                "wait-splice",
                "(param i32 i32 i64 i32)",
                "(call $wait-splice (i32.load #24) (i32.load #28) (i64.const 9) #4200)",
                0,
            ),
            ("read", "(param i32 i64 i32)", "(call $read (i32.load #28) (i64.const 9) #4200)", 0),
            (
                "wait-read",
                "(param i32 i64 i32)",
                "(call $wait-read (i32.load #28) (i64.const 9) #4200)",
                0,
            ),
            ("skip", "(param i32 i64 i32)", "(call $skip (i32.load #28) (i64.const 9) #4200)", 0),
            (
                "wait-skip",
                "(param i32 i64 i32)",
                "(call $wait-skip (i32.load #28) (i64.const 9) #4200)",
                0,
            ),
        ],
    },
    Interface {
        import: r#"(import "wasi:cli/stdin@0.2.0" (instance $stdin
            (alias outer 1 $input (type $input0))
            (export "input-stream" (type $input (eq $input0)))
            (export "get-stdin" (func (result (own $input))))))
          (import "wasi:cli/stdout@0.2.0" (instance $stdout
            (alias outer 1 $output (type $output0))
            (export "output-stream" (type $output (eq $output0)))
            (export "get-stdout" (func (result (own $output))))))
          (import "wasi:cli/stderr@0.2.0" (instance $stderr
            (alias outer 1 $output (type $output0))
            (export "output-stream" (type $output (eq $output0)))
            (export "get-stderr" (func (result (own $output))))))
          (import "wasi:cli/environment@0.2.0" (instance $environment
            (export "get-environment" (func (result (list (tuple string string)))))
            (export "get-arguments" (func (result (list string))))
            (export "initial-cwd" (func (result (option string))))))
          (import "wasi:cli/terminal-input@0.2.0" (instance $terminal-in
            (export "terminal-input" (type (sub resource)))))
          (alias export $terminal-in "terminal-input" (type $terminal-input))
          (import "wasi:cli/terminal-output@0.2.0" (instance $terminal-out
            (export "terminal-output" (type (sub resource)))))
          (alias export $terminal-out "terminal-output" (type $terminal-output))
          (import "wasi:cli/terminal-stdin@0.2.0" (instance $terminal-stdin
            (alias outer 1 $terminal-input (type $t0))
            (export "terminal-input" (type $t (eq $t0)))
            (export "get-terminal-stdin" (func (result (option (own $t)))))))
          (import "wasi:cli/terminal-stdout@0.2.0" (instance $terminal-stdout
            (alias outer 1 $terminal-output (type $t0))
            (export "terminal-output" (type $t (eq $t0)))
            (export "get-terminal-stdout" (func (result (option (own $t)))))))
          (import "wasi:cli/terminal-stderr@0.2.0" (instance $terminal-stderr
            (alias outer 1 $terminal-output (type $t0))
            (export "terminal-output" (type $t (eq $t0)))
            (export "get-terminal-stderr" (func (result (option (own $t)))))))"#,
        lowered: r#"
          (core func $get-stdin (canon lower (func $stdin "get-stdin")))
          (core func $get-stdout (canon lower (func $stdout "get-stdout")))
          (core func $get-stderr (canon lower (func $stderr "get-stderr")))
          (core func $env (canon lower (func $environment "get-environment") (memory $memory)
            (realloc (func $realloc))))
          (core func $args (canon lower (func $environment "get-arguments") (memory $memory)
            (realloc (func $realloc))))
          (core func $cwd (canon lower (func $environment "initial-cwd") (memory $memory)
            (realloc (func $realloc))))
          (core func $tty-in (canon lower (func $terminal-stdin "get-terminal-stdin")
            (memory $memory)))
          (core func $tty-out (canon lower (func $terminal-stdout "get-terminal-stdout")
            (memory $memory)))
          (core func $tty-err (canon lower (func $terminal-stderr "get-terminal-stderr")
            (memory $memory)))"#,
        functions: &[
            ("get-stdin", "(result i32)", "(call $drop-input (call $get-stdin))", 0),
            ("get-stdout", "(result i32)", "(call $drop-output (call $get-stdout))", 0),
            ("get-stderr", "(result i32)", "(call $drop-output (call $get-stderr))", 0),
            ("env", "(param i32)", "(call $env #4200)", 0),
            ("args", "(param i32)", "(call $args #4200)", 0),
            ("cwd", "(param i32)", "(call $cwd #4200)", 0),
            ("tty-in", "(param i32)", "(call $tty-in #4200)", 0),
            ("tty-out", "(param i32)", "(call $tty-out #4200)", 0),
            ("tty-err", "(param i32)", "(call $tty-err #4200)", 0),
        ],
    },
    Interface {
        import: r#"(import "wasi:clocks/wall-clock@0.2.0" (instance $wall
            (type $datetime0 (record (field "seconds" u64) (field "nanoseconds" u32)))
            (export "datetime" (type $datetime (eq $datetime0)))
            (export "now" (func (result $datetime)))
            (export "resolution" (func (result $datetime)))))
          (import "wasi:clocks/monotonic-clock@0.2.0" (instance $monotonic
            (export "now" (func (result u64)))
            (export "resolution" (func (result u64)))))
          (import "wasi:random/random@0.2.0" (instance $secure
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))
            (export "get-random-u64" (func (result u64)))))
          (import "wasi:random/insecure@0.2.0" (instance $insecure
            (export "get-insecure-random-bytes" (func (param "len" u64) (result (list u8))))
            (export "get-insecure-random-u64" (func (result u64)))))
          (import "wasi:random/insecure-seed@0.2.0" (instance $seeds
            (export "insecure-seed" (func (result (tuple u64 u64))))))"#,
        lowered: r#"
          (core func $wall-now (canon lower (func $wall "now") (memory $memory)))
          (core func $wall-step (canon lower (func $wall "resolution") (memory $memory)))
          (core func $mono-now (canon lower (func $monotonic "now")))
          (core func $mono-step (canon lower (func $monotonic "resolution")))
          (core func $bytes (canon lower (func $secure "get-random-bytes") (memory $memory)
            (realloc (func $realloc))))
          (core func $number (canon lower (func $secure "get-random-u64")))
          (core func $weak-bytes (canon lower (func $insecure "get-insecure-random-bytes")
            (memory $memory) (realloc (func $realloc))))
          (core func $weak-number (canon lower (func $insecure "get-insecure-random-u64")))
          (core func $seed (canon lower (func $seeds "insecure-seed") (memory $memory)))"#,
        functions: &[
            ("wall-now", "(param i32)", "(call $wall-now #4200)", 0),
            ("wall-step", "(param i32)", "(call $wall-step #4200)", 0),
            ("mono-now", "(result i64)", "(drop (call $mono-now))", 0),
            ("mono-step", "(result i64)", "(drop (call $mono-step))", 0),
            ("bytes", "(param i64 i32)", "(call $bytes (i64.const 100) #4200)", 100),
            ("number", "(result i64)", "(drop (call $number))", 8),
            ("weak-bytes", "(param i64 i32)", "(call $weak-bytes (i64.const 100) #4200)", 100),
            ("weak-number", "(result i64)", "(drop (call $weak-number))", 8),
            ("seed", "(param i32)", "(call $seed #4200)", 16),
        ],
    },
    Interface {
        import: r#"(import "wasi:sockets/network@0.2.0" (instance $network
            (export "network" (type (sub resource)))
            (type $code0 (enum "unknown" "access-denied" "not-supported" "invalid-argument"
              "out-of-memory" "timeout" "concurrency-conflict" "not-in-progress" "would-block"
              "invalid-state" "new-socket-limit" "address-not-bindable" "address-in-use"
              "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted"
              "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
              "permanent-resolver-failure"))
            (export "error-code" (type $code (eq $code0)))
            (type $family0 (enum "ipv4" "ipv6"))
            (export "ip-address-family" (type $family (eq $family0)))))
          (alias export $network "network" (type $net))
          (alias export $network "error-code" (type $code))
          (alias export $network "ip-address-family" (type $family))
          (core func $drop-network (canon resource.drop $net))
          (import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
            (alias outer 1 $net (type $net0))
            (export "network" (type $net (eq $net0)))
            (export "instance-network" (func (result (own $net))))))
          (import "wasi:sockets/tcp@0.2.0" (instance $tcp
            (export "tcp-socket" (type (sub resource)))))
          (alias export $tcp "tcp-socket" (type $tcp-socket))
          (import "wasi:sockets/udp@0.2.0" (instance $udp
            (export "udp-socket" (type (sub resource)))))
          (alias export $udp "udp-socket" (type $udp-socket))
          (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create-tcp
            (alias outer 1 $tcp-socket (type $s0)) (export "tcp-socket" (type $s (eq $s0)))
            (alias outer 1 $code (type $c0)) (export "error-code" (type $c (eq $c0)))
            (alias outer 1 $family (type $f0)) (export "ip-address-family" (type $f (eq $f0)))
            (export "create-tcp-socket" (func (param "address-family" $f)
              (result (result (own $s) (error $c)))))))
          (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
            (alias outer 1 $udp-socket (type $s0)) (export "udp-socket" (type $s (eq $s0)))
            (alias outer 1 $code (type $c0)) (export "error-code" (type $c (eq $c0)))
            (alias outer 1 $family (type $f0)) (export "ip-address-family" (type $f (eq $f0)))
            (export "create-udp-socket" (func (param "address-family" $f)
              (result (result (own $s) (error $c)))))))
          (import "wasi:sockets/ip-name-lookup@0.2.0" (instance $lookup
            (alias outer 1 $net (type $n0)) (export "network" (type $n (eq $n0)))
            (alias outer 1 $code (type $c0)) (export "error-code" (type $c (eq $c0)))
            (export "resolve-address-stream" (type $r (sub resource)))
            (export "resolve-addresses" (func (param "network" (borrow $n))
              (param "name" string) (result (result (own $r) (error $c)))))))"#,
        lowered: r#"
          (core func $get-network (canon lower (func $instance-network "instance-network")))
          (core func $tcp-new
            (canon lower (func $create-tcp "create-tcp-socket") (memory $memory)))
          (core func $udp-new
            (canon lower (func $create-udp "create-udp-socket") (memory $memory)))
          (core func $resolve
            (canon lower (func $lookup "resolve-addresses") (memory $memory)))"#,
        functions: &[
            ("drop-network", "(param i32)", "", 0),
            ("get-network", "(result i32)", "(call $drop-network (call $get-network))", 0),
            ("tcp-new", "(param i32 i32)", "(call $tcp-new #0 #4200)", 0),
            ("udp-new", "(param i32 i32)", "(call $udp-new #1 #4200)", 0),
            (
                "resolve",
                "(param i32 i32 i32 i32)",
                "(local.set $j (call $get-network))
                 (call $resolve (local.get $j) #1220 #4 #4200)
                 (call $drop-network (local.get $j))",
                4,
            ),
        ],
    },
];

/// A guest that calls the function of its arguments' first byte as often as the second one says,
/// 16 times over.
fn guest() -> (Hostile, Vec<(&'static str, u64)>) {
    let all = INTERFACES.iter().flat_map(|interface| interface.functions);
    let names: Vec<_> = all.clone().map(|(name, ..)| *name).collect();
    let callable: Vec<_> = all.clone().filter(|(_, _, call, _)| !call.is_empty()).collect();
    let calls = callable.iter().enumerate().map(|(index, (_, _, call, _))| {
        format!("(if (i32.eq (i32.load8_u (local.get 1)) #{index}) (then {call}))")
    });
    let join = |parts: Vec<String>| parts.join("\n");
    let imports = INTERFACES.iter().map(|interface| interface.import.to_owned());
    let lowered = INTERFACES.iter().map(|interface| interface.lowered.to_owned());
    let guest = Hostile {
        component: join(imports.chain(lowered).collect()),
        extra: join(
            names.iter().map(|name| format!("(export \"{name}\" (func ${name}))")).collect(),
        ),
        imports: join(
            all.map(|(name, ty, ..)| format!("(import \"extra\" \"{name}\" (func ${name} {ty}))"))
                .collect(),
        ),
        prime: "(i32.store #24 (call $get-stdout)) (i32.store #28 (call $get-stdin))
                (i32.store #32 (call $wait-output (i32.load #24)))"
            .to_owned(),
        // What was read goes into the heap behind the arguments, and is never looked at again.
        run: format!(
            "(local.set $n (i32.shl (i32.load8_u offset=1 (local.get 1)) #4))
             (local.set $i #70000)
             (loop (if (local.get $n) (then
               (i32.store #8 (local.get $i)) {}
               (local.set $n (i32.sub (local.get $n) #1)) (br 1))))
             (i32.store #8 #65536)",
            join(calls.collect())
        ),
        ..Hostile::default()
    };
    (guest, callable.iter().map(|(name, _, _, bytes)| (*name, *bytes)).collect())
}

#[test]
fn c6_each_function_of_wasi_costs_fuel_for_the_call_and_for_what_it_moves() {
    let (guest, functions) = guest();
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    let mut fuel_of = |index: usize, times: u8| {
        let before = rig.daemon.gauges().report().fuel;
        let script = [u8::try_from(index).unwrap(), times];
        let outcome = rig.transact(&bound(0, &script)).outcome;
        assert!(matches!(outcome, Outcome::Committed(_)), "{index}: {outcome:?}");
        rig.daemon.gauges().report().fuel - before
    };
    let mut each = |index: usize| (fuel_of(index, 11) - fuel_of(index, 1)) / 160;
    // What the guest itself takes to call none of them.
    let around = each(usize::from(u8::MAX));
    let cost = |index: usize| each(index).saturating_sub(around);
    let costs: Vec<(&str, u64, u64)> = functions
        .iter()
        .zip((0..).map(cost))
        .map(|((name, bytes), cost)| (*name, HOSTCALL_FUEL + bytes * HOSTCALL_FUEL_PER_BYTE, cost))
        .collect();
    let cheap: Vec<_> = costs.iter().filter(|(_, least, cost)| cost < least).collect();
    assert!(cheap.is_empty(), "{cheap:?} of {costs:?}");
}

#[test]
fn c6_a_storm_of_any_function_of_wasi_ends_by_its_fuel_or_by_its_number() {
    let (mut guest, functions) = guest();
    // As often as it likes.
    guest.run = guest.run.replace("(local.set $n (i32.sub (local.get $n) #1))", "");
    let guest = deploy(&guest.build()).unwrap();
    for (index, (name, _)) in functions.iter().enumerate() {
        let options = RigOptions { fuel: 10_000_000, ..RigOptions::default() };
        let mut rig = Rig::start(&guest, options);
        let script = [u8::try_from(index).unwrap(), 1];
        let Outcome::Crashed(crash) = rig.transact(&bound(0, &script)).outcome else {
            panic!("{name} ended")
        };
        assert_eq!(crash.code, Code::Fuel, "{name}: {crash:?}");
    }
    const { assert!(HOSTCALLS_PER_TRANSACTION_MAX as u64 * HOSTCALL_FUEL > 10_000_000) };
}

#[test]
fn c6_writing_more_zeroes_than_memory_holds_is_refused_before_they_are_made() {
    let (mut guest, functions) = guest();
    guest.run = guest.run.replace("(i64.const 100)", "(i64.const -1)");
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    for name in ["zeroes", "wait-zeroes", "bytes", "weak-bytes"] {
        let index = functions.iter().position(|(its, _)| *its == name).unwrap();
        let script = [u8::try_from(index).unwrap(), 1];
        let Outcome::Crashed(crash) = rig.transact(&bound(0, &script)).outcome else {
            panic!("{name} ended")
        };
        assert!(matches!(crash.code, Code::HostcallLimit | Code::Fuel), "{name}: {crash:?}");
    }
}
