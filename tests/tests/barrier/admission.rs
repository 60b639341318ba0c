//! Admission against a corpus of what strangers upload: each is refused with its code, fast, and
//! nothing panics.

use std::time::{Duration, Instant};

use host::pure::admission::{Caps, Refusal, World, admit};
use host::pure::barrier::{Options, rewrite};
use wasm_encoder::{Component, ComponentSectionId, Encode, RawSection};

fn admitted(bytes: &[u8], world: &World) -> Result<(), Refusal> {
    admit(bytes, &Caps::default(), world).map(drop)
}

fn check_bytes(bytes: &[u8], code: &str) -> Refusal {
    let refusal = admitted(bytes, &World::ANY).expect_err(code);
    assert_eq!(refusal.code(), code, "{refusal}");
    refusal
}

/// Refused with `code`, and the message names what it should.
fn check(component: &str, code: &str, names: &str) {
    let bytes = wat::parse_str(component).unwrap();
    let refusal = check_bytes(&bytes, code);
    let message = refusal.to_string();
    assert!(message.contains(names), "{message:?} doesn't name {names:?}");
}

/// A component of one core module.
fn check_module(fields: &str, code: &str, names: &str) {
    check(&format!("(component (core module {fields}))"), code, names);
}

/// A component with one core module, given as bytes.
fn component_of(module: &[u8]) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module });
    component.finish()
}

const SMALL: &str = r#"(component
  (core module $m
    (memory (export "memory") 1 2)
    (table 2 funcref)
    (global (mut i32) (i32.const 4))
    (func $f (export "f") (param i32 i32 i32 i32) (result i32)
      (i32.store offset=8 (local.get 0) (i32.const 1))
      (if (local.get 1) (then (global.set 0 (local.get 0))))
      (loop (i32.store8 (local.get 1) (local.get 0)) (br_if 0 (local.get 2)))
      local.get 3)
    (elem (i32.const 0) func $f)
    (data (i32.const 16) "abc"))
  (core instance $i (instantiate $m))
  (func (export "f") (param "s" (list u8)) (param "t" string) (result u32)
    (canon lift (core func $i "f") (memory $i "memory") (realloc (func $i "f")))))"#;

#[test]
fn other_kinds_of_files_are_told_apart() {
    for bytes in [&b""[..], b"\0", b"\0asm", b"\0asm\x0d\0\x02\0", b"MZ\x90\0", b"hello, world"] {
        check_bytes(bytes, "E_MODULE_INVALID");
    }
    check_bytes(b"\0asm\x01\0\0\0", "E_NOT_A_COMPONENT");
    check_bytes(b"\x7fELF\x02\x01\x01\0", "E_NOT_A_COMPONENT");
}

#[test]
fn no_truncation_and_no_flipped_bit_panics() {
    let bytes = wat::parse_str(SMALL).unwrap();
    admitted(&bytes, &World::ANY).unwrap();
    for len in 0..bytes.len() {
        // Cut between two sections it is whole again, only shorter.
        if let Err(refusal) = admitted(&bytes[..len], &World::ANY) {
            assert_eq!(refusal.code(), "E_MODULE_INVALID", "{len}: {refusal}");
        }
    }
    for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        let Ok(admitted) = admit(&flipped, &Caps::default(), &World::ANY) else { continue };
        // What is admitted must come out of the barrier valid, or be refused there.
        if let Err(error) = rewrite(&admitted, &Options::default()) {
            assert_ne!(error.code(), "E_HOST_BUG", "byte {at} bit {bit}: {error}");
        }
    }
}

#[test]
fn features_that_are_off_are_refused_by_name() {
    for (fields, feature) in [
        ("(memory 1 1 shared)", "threads"),
        ("(memory i64 1)", "memory64"),
        ("(table i64 1 funcref)", "memory64"),
        ("(memory 1) (memory 1)", "multi_memory"),
        ("(type (struct))", "gc"),
        ("(tag)", "exceptions"),
        ("(func (export \"f\") (return_call 0))", "tail_call"),
        ("(memory 1 (pagesize 1))", "custom_page_sizes"),
        (
            "(func (param v128) (drop (f32x4.relaxed_min (local.get 0) (local.get 0))))",
            "relaxed_simd",
        ),
        (
            "(func (drop (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))) drop)",
            "wide_arithmetic",
        ),
    ] {
        check_module(fields, "E_MODULE_FEATURE", feature);
    }
    check("(component (core func (canon backpressure.inc)))", "E_MODULE_FEATURE", "async");
    check("(component (type (stream u8)))", "E_MODULE_FEATURE", "async");
}

#[test]
fn state_that_images_do_not_hold_is_refused_with_its_place() {
    for (fields, what) in [
        ("(table 1 funcref) (func $f (table.set (i32.const 0) (ref.null func)))", "table.set"),
        (
            "(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))",
            "table.grow",
        ),
        (
            "(table 1 funcref) (func (table.fill (i32.const 0) (ref.null func) (i32.const 1)))",
            "table.fill",
        ),
        (
            "(table 1 funcref) (func (table.copy (i32.const 0) (i32.const 0) (i32.const 1)))",
            "table.copy",
        ),
        (
            "(table 1 funcref) (elem func) (func (table.init 0 (i32.const 0) (i32.const 0) (i32.const 0)))",
            "table.init",
        ),
        ("(elem func) (func (elem.drop 0))", "elem.drop"),
        ("(memory 1) (data \"x\") (func (data.drop 0))", "data.drop"),
        ("(global (mut funcref) (ref.null func))", "reference"),
        ("(import \"\" \"\" (global (mut i32)))", "imported mutable global"),
        ("(global (export \"g\") (mut i32) (i32.const 0))", "`g`"),
    ] {
        check_module(fields, "E_MODULE_SNAPSHOT_UNSAFE", what);
        check_module(fields, "E_MODULE_SNAPSHOT_UNSAFE", "core module 0");
    }
    let named = "(table 1 funcref) (func $harmless) (func $culprit (table.set (i32.const 0) (ref.null func)))";
    check_module(named, "E_MODULE_SNAPSHOT_UNSAFE", "function 1 `culprit`");
}

#[test]
fn memories_and_tables_out_of_bounds_are_refused() {
    check_module("(memory 65536)", "E_MEM_LIMIT", "65536 pages, and 65535");
    check_module("(memory 2 1)", "E_MEM_LIMIT", "minimum");
    check_module("(table 10000000 funcref)", "E_TABLE_LIMIT", "10000000");
    let tables = "(table 60000 funcref) (table 60000 funcref)";
    check_module(tables, "E_TABLE_LIMIT", "120000");
    check_module(&"(table 1 funcref)".repeat(17), "E_TABLE_LIMIT", "17");
    let two = "(component (core module (memory 1)) (core module (memory 1)))";
    check(two, "E_MEM_LIMIT", "2 are defined");
}

#[test]
fn functions_that_compilers_choke_on_are_refused() {
    let nested = format!("(func {} {})", "block ".repeat(2_001), "end ".repeat(2_001));
    check_module(&nested, "E_COMPILE_LIMIT", "nested blocks");
    let chained = format!("(func {})", "block end ".repeat(15_000));
    check_module(&chained, "E_COMPILE_LIMIT", "blocks in function 0");
    let locals = format!("(func (local {}))", "i64 ".repeat(10_001));
    check_module(&locals, "E_COMPILE_LIMIT", "locals");
    let table = format!("(func (br_table {} (i32.const 0)))", "0 ".repeat(50_002));
    check_module(&table, "E_COMPILE_LIMIT", "branch targets");
    let long = format!("(func {})", "nop ".repeat(1 << 20));
    check_module(&long, "E_COMPILE_LIMIT", "bytes of code");
}

#[test]
fn wiring_that_the_barrier_cannot_follow_is_refused() {
    let twice = "(component (core module $m) (core instance (instantiate $m)) (core instance (instantiate $m)))";
    check(twice, "E_COMPONENT_NESTED", "twice");
    check("(component (component (core module)))", "E_COMPONENT_NESTED", "nested component");
    check("(component (import \"m\" (core module)))", "E_COMPONENT_NESTED", "imported");
    let host_to_host = "(component
        (import \"f\" (func $f))
        (core func $g (canon lower (func $f)))
        (func (export \"g\") (canon lift (core func $g))))";
    check(host_to_host, "E_COMPONENT_NESTED", "of its own");
}

#[test]
fn handles_that_a_guest_makes_itself_are_refused() {
    // They would be in a table of the engine's, which no image holds.
    for component in [
        "(component (type $r (resource (rep i32))))",
        "(component (type $r (resource (rep i32))) (core func (canon resource.new $r)))",
        "(component (type $r (resource (rep i32))) (core func (canon resource.rep $r)))",
    ] {
        check(component, "E_MODULE_SNAPSHOT_UNSAFE", "of the guest's own");
    }
    // Those of the host are known to it.
    let imported = "(component
        (import \"t:t/t\" (instance $i (export \"r\" (type (sub resource)))))
        (alias export $i \"r\" (type $r))
        (core func (canon resource.drop $r)))";
    assert_eq!(admitted(&wat::parse_str(imported).unwrap(), &World::ANY), Ok(()));
}

/// A function that goes through `levels` instances of `names` names each, the last of which it has,
/// and is lifted `names` times.
fn chained(names: usize, levels: usize) -> Vec<u8> {
    let mut text = String::from(
        "(component (core module $m (func (export \"f\"))) (core instance $i0 (instantiate $m))
         (alias core export $i0 \"f\" (core func $f0)) (type $t (func))",
    );
    for level in 1..=levels {
        text.push_str(&format!("(core instance $i{level} "));
        for name in 0..names {
            text.push_str(&format!("(export \"n{name:06}\" (func $f{}))", level - 1));
        }
        let last = names - 1;
        text.push_str(&format!(
            ") (alias core export $i{level} \"n{last:06}\" (core func $f{level}))"
        ));
    }
    let lift = format!("(func (type $t) (canon lift (core func $f{levels})))");
    text.push_str(&lift.repeat(names));
    text.push(')');
    wat::parse_str(text).unwrap()
}

#[test]
fn h3_admission_takes_steps_in_proportion_to_the_file() {
    for levels in [1, 4, 16] {
        for names in [1, 10, 100, 1_000] {
            let bytes = chained(names, levels);
            let admitted = admit(&bytes, &Caps::default(), &World::ANY).unwrap();
            assert!(admitted.steps <= bytes.len(), "{names} x {levels}: {}", admitted.steps);
        }
    }
    // What instances and types consist of counts: their number alone says nothing.
    check_bytes(&chained(10_000, 6), "E_MODULE_TOO_LARGE");
    let declared = "(type (list u8))".repeat(50_001);
    let declared = format!("(component (type (instance {declared})))");
    check_bytes(&wat::parse_str(declared).unwrap(), "E_MODULE_TOO_LARGE");
    let nested = format!("(type (instance {}))", "(type (list u8))".repeat(30_000));
    let nested = format!("(component (type (component {nested} {nested})))");
    check_bytes(&wat::parse_str(nested).unwrap(), "E_MODULE_TOO_LARGE");
}

#[test]
fn the_world_is_checked() {
    let check = |component: &str, code: &str, names: &str| {
        let bytes = wat::parse_str(component).unwrap();
        let refusal = admitted(&bytes, &World::GUEST).unwrap_err();
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(refusal.to_string().contains(names), "{refusal}");
    };
    check("(component)", "E_WORLD", "`describe`");
    check(
        "(component (import \"evil:thing/api@0.1.0\" (instance)))",
        "E_IMPORT_UNKNOWN",
        "evil:thing/api",
    );
    check(
        "(component (import \"bulkhead:guest/other@0.1.0\" (instance)))",
        "E_IMPORT_UNKNOWN",
        "other",
    );
    check("(component (import \"bulkhead:guest/log@0.2.0\" (instance)))", "E_WORLD", "0.1.");
    check("(component (import \"wasi:io/streams@0.3.0\" (instance)))", "E_WORLD", "0.2.");
    check("(component (import \"bare\" (func)))", "E_IMPORT_UNKNOWN", "bare");
    let long = format!("(component (import \"a{}:b/c@0.1.0\" (instance)))", "a".repeat(5000));
    check(&long, "E_IMPORT_UNKNOWN", "aaa...");
    let fine = "(component (import \"wasi:io/streams@0.2.6\" (instance)))";
    check(fine, "E_WORLD", "`describe`");
}

#[test]
fn h14_names_of_strangers_cannot_reach_a_terminal() {
    let name = "\\1b[31mred\\0aline";
    let fields = format!(
        "(func (@name \"{name}\") (export \"f\")) (global (export \"{name}\") (mut i32) (i32.const 0))"
    );
    let bytes = wat::parse_str(format!("(component (core module {fields}))")).unwrap();
    let message = check_bytes(&bytes, "E_MODULE_SNAPSHOT_UNSAFE").to_string();
    assert!(message.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{message:?}");
}

/// A core module with one section that claims `count` items of one byte and holds as many.
fn bomb(section: u8, item: &[u8], count: u32) -> Vec<u8> {
    let mut contents = Vec::new();
    count.encode(&mut contents);
    contents.extend(item.repeat(count as usize));
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.push(section);
    contents.encode(&mut module);
    component_of(&module)
}

#[test]
fn bombs_are_refused_before_they_are_read() {
    let started = Instant::now();
    for (section, item) in [
        (1, &b"\x60\0\0"[..]),
        (2, b"\0\0\0\0"),
        (3, b"\0"),
        (6, b"\x7f\0\x41\0\x0b"),
        (7, b"\0\0\0"),
        (9, b"\x01\0\0"),
        (11, b"\x01\0"),
    ] {
        check_bytes(&bomb(section, item, 1_000_000), "E_MODULE_TOO_LARGE");
    }
    // A claim of 4 Gi items with nothing behind it.
    let mut claim = b"\0asm\x01\0\0\0\x01\x05".to_vec();
    u32::MAX.encode(&mut claim);
    check_bytes(&component_of(&claim), "E_MODULE_TOO_LARGE");
    let names = vec![b'x'; 33 << 20];
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let mut custom = b"\x01n".to_vec();
    custom.extend(names);
    module.push(0);
    custom.encode(&mut module);
    check_bytes(&component_of(&module), "E_MODULE_TOO_LARGE");
    let huge = vec![0; (64 << 20) + 1];
    check_bytes(&huge, "E_MODULE_TOO_LARGE");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// Types that contain each other twice are exponentially large when written out, not when measured.
#[test]
fn a_result_type_of_shared_parts_is_measured_once() {
    let mut types = String::from("(type $t0 (tuple u64 u64))");
    for level in 1..16 {
        types += &format!("(type $t{level} (tuple $t{} $t{}))", level - 1, level - 1);
    }
    let component = format!(
        "(component {types} (import \"f\" (func $f (result $t15)))
           (core module $m (memory (export \"m\") 1)) (core instance $i (instantiate $m))
           (core func (canon lower (func $f) (memory $i \"m\"))))"
    );
    let bytes = wat::parse_str(component).unwrap();
    let started = Instant::now();
    admitted(&bytes, &World::ANY).unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
}
