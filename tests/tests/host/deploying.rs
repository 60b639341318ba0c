//! Hostile files (H1 to H11 of the catalogue of faults): refused with a code, or harmless.

use std::time::{Duration, Instant};

use host::base::error::{Blame, Code, Fault};
use host::mechanisms::sandbox::{CompileLimits, CompileMode, Sandbox, SandboxOptions};
use host::pure::request::Outcome;
use serde_json::json;
use tests::{BUMP, Hostile, RUN, Rig, RigOptions, VALUE, deploy, guest, hostile, setting};

/// The code with which a file is refused; `None` when it is deployed.
fn refusal(bytes: &[u8]) -> Option<Fault> {
    deploy(bytes).err().map(|error| Fault::from(&error))
}

fn check(cases: &[(&str, Vec<u8>, Code)]) {
    let mut wrong = Vec::new();
    for (what, bytes, expected) in cases {
        let start = Instant::now();
        let refused = refusal(bytes);
        if refused.as_ref().map(|fault| fault.code) != Some(*expected) {
            wrong.push(format!("{what}: {refused:?}, not {expected}"));
        }
        let message = refused.map(|fault| fault.message).unwrap_or_default();
        assert!(message.len() < 2000, "{what}: a message of {} bytes", message.len());
        assert!(!message.contains(|c: char| c.is_control()), "{what}: {message:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: {:?}", start.elapsed());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A guest with something in its main core module.
fn with_items(items: &str) -> Vec<u8> {
    Hostile { items: items.to_owned(), ..Hostile::default() }.build()
}

fn with_memory(memory: &str) -> Vec<u8> {
    let memory = format!("(memory (export \"memory\") {memory})");
    Hostile { memory, ..Hostile::default() }.build()
}

fn with_component(component: &str) -> Vec<u8> {
    Hostile { component: component.to_owned(), ..Hostile::default() }.build()
}

#[test]
fn h1_a_file_cut_anywhere_is_refused() {
    let whole = hostile("");
    // What follows the last export is names, which nobody needs.
    let sections =
        wasmparser::Parser::new(0).parse_all(&whole).filter_map(|payload| match payload {
            Ok(wasmparser::Payload::ComponentExportSection(section)) => Some(section.range().end),
            _ => None,
        });
    for end in 0..sections.max().unwrap() {
        let refused = refusal(&whole[..end]).unwrap_or_else(|| panic!("cut at {end}, deployed"));
        // Cut between two sections, it is a component of another world.
        assert!(matches!(refused.code, Code::ModuleInvalid | Code::World), "{end}: {refused}");
    }
    let ledger = guest("ledger");
    for end in (0..ledger.len()).step_by(997) {
        let refused = refusal(&ledger[..end]).unwrap();
        assert!(matches!(refused.code, Code::ModuleInvalid | Code::World), "{end}: {refused}");
    }
}

#[test]
fn h1_h5_h12_files_that_are_no_component_are_refused() {
    let magic = b"\0asm\x0d\0\x01\0";
    let noise: Vec<u8> =
        (0..10_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    check(&[
        ("nothing", vec![], Code::ModuleInvalid),
        ("a byte", vec![0], Code::ModuleInvalid),
        ("half a magic number", b"\0as".to_vec(), Code::ModuleInvalid),
        ("nothing but the magic number", magic[..4].to_vec(), Code::ModuleInvalid),
        ("an empty component", magic.to_vec(), Code::World),
        ("another version", b"\0asm\x0e\0\x01\0".to_vec(), Code::ModuleInvalid),
        ("noise", noise, Code::ModuleInvalid),
        ("text", b"(component)".to_vec(), Code::ModuleInvalid),
        ("a core module", b"\0asm\x01\0\0\0".to_vec(), Code::NotAComponent),
        ("native code", b"\x7fELF\x02\x01\x01".to_vec(), Code::NotAComponent),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), Code::ModuleInvalid),
        ("zstd", b"\x28\xb5\x2f\xfd\x04\0".to_vec(), Code::ModuleInvalid),
    ]);
}

#[test]
fn h2_a_file_with_a_changed_byte_is_refused_or_harmless() {
    let whole = hostile("(i32.store #5000 #1)");
    let stride = usize::try_from(setting("BULKHEAD_FLIP_STRIDE", 5)).unwrap();
    let (mut refused, mut ran) = (0, 0);
    for place in (0..whole.len()).step_by(stride) {
        let mut changed = whole.clone();
        changed[place] ^= 1 << (place % 8);
        let Ok(guest) = deploy(&changed) else {
            refused += 1;
            continue;
        };
        let options = RigOptions { fuel: 1_000_000, ..RigOptions::default() };
        let Ok(mut rig) = Rig::try_start(&guest, options) else { continue };
        ran += 1;
        // The images are compared after each call: whatever it does, it is whole.
        for contract in guest.contracts() {
            let bound = tests::bound(contract.index, &[0x90]);
            let outcome = rig.transact(&bound).outcome;
            if let Outcome::Crashed(crash) = outcome {
                assert_ne!(crash.code.blame(), Blame::Host, "byte {place}: {crash:?}");
            }
        }
    }
    assert!(refused > 50 && ran > 50, "{refused} refused, {ran} ran");
}

#[test]
fn h3_files_larger_than_the_caps_are_refused_before_they_are_compiled() {
    let leb_4g: &[u8] = b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\x0f";
    let mut large = hostile("");
    large.extend(std::iter::repeat_n(0, (64 << 20) + 1));
    let types = "(type (func))".repeat(10_001);
    let functions = "(func)".repeat(200_001);
    check(&[
        ("100 MiB", large, Code::ModuleTooLarge),
        ("a section that claims 4 GiB", leb_4g.to_vec(), Code::ModuleInvalid),
        ("many types", with_items(&types), Code::ModuleTooLarge),
        ("many functions", with_items(&functions), Code::ModuleTooLarge),
        (
            "many component types",
            with_component(&"(type (list u8))".repeat(50_001)),
            Code::ModuleTooLarge,
        ),
        ("many globals", with_items(&"(global i32 #0)".repeat(4001)), Code::ModuleTooLarge),
        ("many segments", with_items(&"(data #5000 \"\")".repeat(50_001)), Code::ModuleTooLarge),
    ]);
}

#[test]
fn h4_functions_that_take_a_compiler_too_long_are_refused() {
    let blocks = |count: usize| format!("(func {} {})", "(block ".repeat(count), ")".repeat(count));
    let chained = format!("(func {})", "(block (br 0))".repeat(15_000));
    let br_table = format!("(func (br_table {} #0))", "0 ".repeat(60_000));
    check(&[
        (
            "a function of 1 MiB",
            with_items(&format!("(func {})", "(drop #1)".repeat(400_000))),
            Code::CompileLimit,
        ),
        (
            "50,000 locals",
            with_items(&format!("(func (local {}))", "i32 ".repeat(50_000))),
            Code::CompileLimit,
        ),
        ("chained blocks", with_items(&chained), Code::CompileLimit),
        ("nested blocks", with_items(&blocks(2_100)), Code::CompileLimit),
        ("a giant branch table", with_items(&br_table), Code::CompileLimit),
    ]);
}

#[test]
fn h4_what_the_caps_let_through_is_compiled_in_bounded_time() {
    // Just under each cap, all at once.
    let items = format!(
        "(func {} {}) (func {}) (func (local {}))",
        "(block ".repeat(1_000),
        ")".repeat(1_000),
        "(block (br_if 0 #1))".repeat(9_000),
        "i64 ".repeat(9_000),
    );
    let start = Instant::now();
    let deployed = with_child().deploy(&with_items(&items)).err().map(|error| Fault::from(&error));
    assert!(deployed.is_none_or(|fault| fault.code == Code::CompileLimit));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn h6_imports_that_the_host_does_not_offer_are_refused_by_name() {
    let clock =
        |export: &str| format!("(import \"bulkhead:guest/clock@0.1.1\" (instance {export}))");
    let instance = |name: &str| with_component(&format!("(import \"{name}\" (instance))"));
    check(&[
        ("unknown", instance("evil:pkg/iface@1.0.0"), Code::ImportUnknown),
        ("a function", with_component("(import \"run\" (func))"), Code::ImportUnknown),
        ("graph", instance("wasi:nn/graph@0.2.0"), Code::ImportUnknown),
        // Every guest of these tests imports it once.
        ("one name twice", instance("bulkhead:guest/clock@0.1.0"), Code::ModuleInvalid),
        (
            "a long name",
            instance(&format!("evil:{}/x@1.0.0", "a".repeat(5000))),
            Code::ImportUnknown,
        ),
        ("another version of ours", instance("bulkhead:guest/log@0.9.0"), Code::World),
        ("another version of WASI", instance("wasi:io/poll@0.3.0"), Code::World),
        (
            "an unknown function of ours",
            with_component(&clock("(export \"tomorrow\" (func (result u64)))")),
            Code::World,
        ),
        (
            "another type",
            with_component(&clock("(export \"now\" (func (result string)))")),
            Code::World,
        ),
    ]);
    let named = refusal(&instance("evil:pkg/iface@1.0.0")).unwrap();
    assert!(named.message.contains("evil:pkg/iface"), "{named}");
}

#[test]
fn h6_a_module_that_imports_one_name_twice_is_refused() {
    let imports = "(import \"host\" \"now\" (func (result i64)))".to_owned();
    let twice = Hostile { imports, ..Hostile::default() }.build();
    check(&[("one name twice", twice, Code::ModuleInvalid)]);
}

#[test]
fn h7_features_that_are_off_are_refused() {
    let feature = Code::ModuleFeature;
    let memory = |memory: &str| Hostile { memory: memory.to_owned(), ..Hostile::default() }.build();
    check(&[
        ("shared memory", memory("(memory (export \"memory\") 2 2 shared)"), feature),
        ("atomics", with_items("(func (drop (i32.atomic.load #0)))"), feature),
        ("64-bit table", with_items("(table i64 1 funcref)"), feature),
        ("garbage collection", with_items("(type (struct (field i32)))"), feature),
        ("exceptions", with_items("(tag)"), feature),
        ("tail calls", with_items("(func (return_call 0))"), feature),
        (
            "relaxed vectors",
            with_items(
                "(func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
            ),
            feature,
        ),
        ("stack switching", with_items("(type $f (func)) (type (cont $f))"), feature),
        ("function references", with_items("(type $f (func)) (func (param (ref $f)))"), feature),
        (
            "wide arithmetic",
            with_items("(func (drop (drop (i64.mul_wide_u (i64.const 0) (i64.const 0)))))"),
            feature,
        ),
        ("custom page sizes", memory("(memory (export \"memory\") 2 (pagesize 1))"), feature),
        ("64-bit memory", memory("(memory (export \"memory\") i64 2)"), feature),
    ]);
}

#[test]
fn h8_state_that_an_image_does_not_hold_is_refused() {
    let unsafe_to_restore = Code::SnapshotUnsafe;
    let table = "(table $t 4 funcref) (elem $e func $f) (func $f)";
    let operation = |code: &str| with_items(&format!("{table} (func {code})"));
    check(&[
        ("table.set", operation("(table.set $t #0 (ref.func $f))"), unsafe_to_restore),
        ("table.grow", operation("(drop (table.grow $t (ref.null func) #1))"), unsafe_to_restore),
        ("table.fill", operation("(table.fill $t #0 (ref.null func) #1)"), unsafe_to_restore),
        ("table.copy", operation("(table.copy $t $t #0 #0 #1)"), unsafe_to_restore),
        ("table.init", operation("(table.init $t $e #0 #0 #1)"), unsafe_to_restore),
        ("elem.drop", operation("(elem.drop $e)"), unsafe_to_restore),
        (
            "a global of references",
            with_items("(global (mut funcref) (ref.null func))"),
            unsafe_to_restore,
        ),
        ("two memories", with_items("(memory 1)"), Code::ModuleFeature),
    ]);
}

#[test]
fn h9_memories_and_tables_out_of_range_are_refused_before_anything_is_allocated() {
    check(&[
        ("all of 4 GiB", with_memory("65536"), Code::MemoryLimit),
        (
            "more than a maximum",
            {
                let bytes = with_memory("2 3");
                swap(bytes, &[1, 2, 3], &[1, 4, 3])
            },
            Code::MemoryLimit,
        ),
        ("ten million elements", with_items("(table 10000000 funcref)"), Code::TableLimit),
        ("many tables", with_items(&"(table 1 funcref)".repeat(17)), Code::TableLimit),
        (
            "more elements than in one table",
            with_items(&"(table 9000 funcref)".repeat(12)),
            Code::TableLimit,
        ),
    ]);
}

/// Replaces the only limits `from` (as flags, minimum, maximum) in a memory section.
fn swap(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let section: Vec<u8> = [&[5, 4, 1], from].concat();
    let place = bytes.windows(section.len()).position(|window| window == section).unwrap();
    bytes[place + 3..place + 3 + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn h9_a_memory_may_start_with_all_pages_but_the_last_one() {
    for pages in [65_278, 65_279, 65_280, 65_281, 65_499, 65_500, 65_534, 65_535] {
        let guest = deploy(&with_memory(&pages.to_string()));
        let guest = guest.unwrap_or_else(|error| panic!("{pages} pages: {error}"));
        assert_eq!(guest.facts().memory_minimum_bytes, pages << 16);
    }
    let refused = Fault::from(&deploy(&with_memory("65536")).unwrap_err());
    assert_eq!(refused.code, Code::MemoryLimit);
    let words = "starts with 65536 pages, and 65535 are the most";
    assert!(refused.message.contains(words), "{refused}");
}

#[test]
fn h9_a_memory_over_the_budget_is_refused_at_the_start() {
    let guest = deploy(&with_memory("64")).unwrap();
    let plan = tests::plan("large", &guest, |options| options.budget_bytes = 1 << 20);
    let refused = tests::Tree::try_start(vec![plan], usize::MAX).unwrap_err();
    let fault = Fault::from(&refused);
    assert_eq!(fault.code, Code::MemoryLimit);
    assert!(fault.message.contains("large") && fault.message.contains("4 MiB"), "{fault}");
}

#[test]
fn h9_a_memory_over_the_budget_is_refused_before_it_is_mapped() {
    // 2.6 GB, of which it touches nothing.
    let code = with_memory("40000");
    let refused = tests::sandbox().deploy_within(&code, 64 << 20).unwrap_err();
    assert_eq!(Fault::from(&refused).code, Code::MemoryLimit, "{refused}");
    // Whoever only looks at it maps it, and takes what is touched.
    tests::in_own_process(
        "host::deploying::h9_a_memory_over_the_budget_is_refused_before_it_is_mapped",
        || {
            let before = tests::Holdings::now().resident_bytes;
            drop(deploy(&with_memory("40000")).unwrap());
            let after = tests::Holdings::now().resident_bytes;
            assert!(after < before + (256 << 20), "{before} bytes before, {after} after");
        },
    );
}

#[test]
fn guests_composed_in_ways_that_the_barrier_cannot_follow_are_refused() {
    check(&[
        (
            "a module instantiated twice",
            with_component(
                "(core module $m) (core instance (instantiate $m))
                    (core instance (instantiate $m))",
            ),
            Code::ComponentNested,
        ),
        (
            "a nested component with a module",
            with_component("(component (core module))"),
            Code::ComponentNested,
        ),
        (
            "an imported module",
            with_component("(import \"m\" (core module))"),
            Code::ComponentNested,
        ),
    ]);
}

#[test]
fn descriptions_that_cannot_be_used_are_refused() {
    let schema = |schema: &str| Hostile { schema: schema.to_owned(), ..Hostile::default() }.build();
    let describe =
        |describe: &str| Hostile { describe: describe.to_owned(), ..Hostile::default() }.build();
    let name = |name: &str| Hostile { name: name.to_owned(), ..Hostile::default() }.build();
    let invalid = Code::ContractInvalid;
    check(&[
        ("no JSON", schema("{"), invalid),
        ("no schema", schema("7"), invalid),
        ("a type that is none", schema(r#"{"type": 7}"#), invalid),
        ("a reference to nothing", schema(r##"{"$ref": "#/$defs/x"}"##), invalid),
        ("a name that is none", name("a b"), invalid),
        ("a name with an escape", name("a\u{1b}b"), invalid),
        (
            "too many contracts",
            describe(
                "(i32.store #1028 #1000)
            (memory.fill #1056 #0 #60000)",
            ),
            invalid,
        ),
        ("a crash", describe("unreachable"), Code::Unreachable),
        ("a list outside", describe("(i32.store #1024 #-4)"), Code::World),
    ]);
}

#[test]
fn h10_start_functions_are_bounded_and_never_run_again() {
    let start = |body: &str| with_items(&format!("(start $start) (func $start {LOCALS} {body})"));
    let recursion = "(start $start) (func $start (call $start))";
    check(&[
        ("a trap", start("unreachable"), Code::Unreachable),
        ("recursion", with_items(recursion), Code::StackTrap),
    ]);
    // Growing to the maximum and writing are allowed: they make the first state, once.
    let runs_once = "(i32.store #16 (i32.add (i32.load #16) #40))
      (loop (br_if 0 (i32.ne (memory.grow #1) #-1)))";
    let guest = Hostile {
        items: format!("(start $start) (func $start {LOCALS} {runs_once})"),
        run: "unreachable".to_owned(),
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    for n in 1..=5 {
        rig.crashes_with(RUN, json!({}), Code::Unreachable);
        assert_eq!(rig.committed(BUMP, json!({})), 40 + n, "the start function ran again");
    }
    assert_eq!(rig.daemon.images().committed_size(), 4 << 20);
}

/// What the host answers a start function belongs to the first state. It isn't asked again.
#[test]
fn h10_a_start_function_that_calls_the_host_does_so_once() {
    let calls = "(call $request-id #5000) (i64.store #5008 (call $random))
      (i64.store #5016 (call $now)) (i32.store #16 (i32.add (i32.load #16) #40))";
    let guest = Hostile {
        items: format!("(start $start) (func $start {LOCALS} {calls})"),
        run: "unreachable".to_owned(),
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    let answers = rig.daemon.images().committed()[5000..5024].to_vec();
    assert_ne!(answers[8..16], [0; 8]);
    for n in 1..=5 {
        rig.crashes_with(RUN, json!({}), Code::Unreachable);
        assert_eq!(rig.committed(BUMP, json!({})), 40 + n, "the start function ran again");
        assert_eq!(rig.daemon.images().committed()[5000..5024], answers);
    }
}

#[test]
fn h10_endless_starts_and_inits_end_by_their_limits() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let items = "(start $start) (func $start (loop (br 0)))";
            let refused = refusal(&with_items(items)).unwrap();
            assert!(matches!(refused.code, Code::Deadline | Code::Fuel), "{refused}");
        });
        scope.spawn(|| {
            let guest = Hostile { init: "(loop (br 0))".to_owned(), ..Hostile::default() };
            let guest = deploy(&guest.build()).unwrap();
            let refused = Rig::try_start(&guest, RigOptions::default()).unwrap_err();
            assert_eq!(refused.code, Code::Init, "{refused}");
        });
    });
}

#[test]
fn inits_that_crash_or_refuse_are_reported_with_the_guests_words() {
    for (init, words) in [
        ("unreachable", "E_TRAP_UNREACHABLE"),
        ("(i32.store #-1 #1)", "E_TRAP_MEMORY"),
        ("(return (call $refuse #1220 #4))", "bump"),
    ] {
        let guest =
            deploy(&Hostile { init: init.to_owned(), ..Hostile::default() }.build()).unwrap();
        let refused = Rig::try_start(&guest, RigOptions::default()).unwrap_err();
        assert_eq!(refused.code, Code::Init);
        assert!(refused.message.contains(words), "{refused}");
    }
}

#[test]
fn h11_a_commit_wins_over_data_segments() {
    // A segment holds 7 at 5000; the guest makes it 107 and more, and dies now and then.
    let guest = Hostile {
        items: "(data #5000 \"\\07\")".to_owned(),
        run: "(if (i32.eq (i32.load8_u #5000) #10) (then
                (i32.store8 #5000 #99) unreachable))
              (i32.store8 #5000 (i32.add (i32.load8_u #5000) #1))
              (return (call $answer #5000 #1))"
            .to_owned(),
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    for value in 8..=10 {
        assert_eq!(rig.committed(RUN, json!({})), value);
    }
    for _ in 0..3 {
        rig.crashes_with(RUN, json!({}), Code::Unreachable);
        assert_eq!(rig.daemon.images().committed()[5000], 10);
        assert_eq!(rig.committed(VALUE, json!({})), 3);
    }
}

/// A sandbox that compiles in a process of its own, by the program `compiler` of this package.
fn with_child() -> Sandbox {
    let compile = CompileMode::Child(env!("CARGO_BIN_EXE_compiler").into());
    Sandbox::new(SandboxOptions { compile, ..SandboxOptions::default() }).unwrap()
}

#[test]
fn h4_guests_compiled_in_a_process_of_their_own_run_like_others() {
    let sandbox = with_child();
    let guest = sandbox.deploy(&guest("counter")).unwrap();
    let mut rig = Rig::start(&guest, RigOptions::default());
    assert_eq!(rig.committed("increment", json!({"by": 5})), 5);
    let refused = Fault::from(&sandbox.deploy(&hostile("")[..500]).unwrap_err());
    assert_eq!(refused.code, Code::ModuleInvalid);
}

#[test]
fn h4_a_compilers_process_that_dies_of_its_limits_takes_nothing_with_it() {
    // Stands for one that the kernel ended, as its limits on memory and time make it do.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("dying");
    std::fs::write(&program, "#!/bin/sh\nkill -9 $$\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&program, mode).unwrap();
    let compile = CompileMode::Child(program);
    let sandbox = Sandbox::new(SandboxOptions { compile, ..SandboxOptions::default() }).unwrap();
    let refused = Fault::from(&sandbox.deploy(&hostile("")).unwrap_err());
    assert_eq!(refused.code, Code::CompileLimit, "{refused}");
}

/// Functions that are each below every cap and take a compiler long: many locals are alive over
/// many joins.
fn bomb() -> Vec<u8> {
    let joins: String = (0..3_000)
        .map(|n| {
            format!("(block (br_if 0 (local.get {})) (local.set {} #{n}))", n % 999, n % 1_000)
        })
        .collect();
    let sum: String = (0..1_000).map(|n| format!("(drop (local.get {n}))")).collect();
    let function = format!(
        "(func (local {}) (loop {joins} (br_if 0 (local.get 7))) {sum})",
        "i32 ".repeat(1_000)
    );
    with_items(&function.repeat(12))
}

#[test]
fn h4_a_bomb_reaches_the_compilers_limits_and_nothing_else() {
    let bomb = bomb();
    let limited = |limits: CompileLimits| {
        let compile = CompileMode::Child(env!("CARGO_BIN_EXE_compiler").into());
        let options = SandboxOptions { compile, compile_limits: limits, ..Default::default() };
        let sandbox = Sandbox::new(options).unwrap();
        let start = Instant::now();
        let fault = Fault::from(&sandbox.deploy(&bomb).unwrap_err());
        assert_eq!(fault.code, Code::CompileLimit, "{fault}");
        // The limit is what ended it, and it did so at once.
        assert!(start.elapsed() < Duration::from_secs(50), "{:?}", start.elapsed());
        let guest = sandbox.deploy(&guest("counter")).unwrap();
        let mut rig = Rig::start(&guest, RigOptions::default());
        assert_eq!(rig.committed("increment", json!({"by": 5})), 5);
        fault.message
    };
    let whole = CompileLimits::default();
    let time = limited(CompileLimits { time: Duration::from_secs(5), ..whole });
    assert!(time.contains("longer than 5s"), "{time}");
    let memory = limited(CompileLimits { memory_bytes: 320 << 20, ..whole });
    assert!(memory.contains("320 MiB"), "{memory}");
}

#[test]
fn a_compiler_that_cannot_be_started_is_the_environments_fault() {
    let compile = CompileMode::Child("/nonexistent/host".into());
    let sandbox = Sandbox::new(SandboxOptions { compile, ..SandboxOptions::default() }).unwrap();
    let refused = Fault::from(&sandbox.deploy(&hostile("")).unwrap_err());
    assert_eq!(refused.code, Code::Engine);
    assert!(refused.message.contains("/nonexistent/host"), "{refused}");
}

const LOCALS: &str = "(local $i i32)";
