//! Hand-written modules: each kind of place where memory is written, at the edges.

use host::pure::barrier::{Options, Site, rewrite_module};
use wasmtime::Val;

use super::oracle::{Case, Verdict, compare, engine};

fn call(name: &str, arguments: &[i32]) -> (String, Vec<Val>) {
    (name.to_owned(), arguments.iter().map(|&argument| Val::I32(argument)).collect())
}

/// Holds with all optimisations and with none.
fn holds(wat: &str, case: &Case) {
    let wasm = wat::parse_str(wat).unwrap();
    let plain =
        Options { share_marks: false, unroll: false, trap_by_grow: false, ..Options::default() };
    for options in [Options { card_shift: 8, ..plain.clone() }, plain, Options::default()] {
        assert_eq!(compare(&engine(), &wasm, case, &options), Verdict::Same, "{options:?}");
    }
}

/// A barrier that forgets `site` is found out.
fn misses(wat: &str, case: &Case, site: Site) {
    let wasm = wat::parse_str(wat).unwrap();
    let options = Options { omit: Some(site), ..Options::default() };
    let verdict = compare(&engine(), &wasm, case, &options);
    assert!(matches!(verdict, Verdict::Unmarked(_)), "without {site:?}: {verdict:?}");
}

/// The text of each store instruction with a value for it.
const STORES: [(&str, &str, Site); 14] = [
    ("i32.store", "(i32.const -1)", Site::I32Store),
    ("i32.store8", "(i32.const -1)", Site::I32Store8),
    ("i32.store16", "(i32.const -1)", Site::I32Store16),
    ("i64.store", "(i64.const -1)", Site::I64Store),
    ("i64.store8", "(i64.const -1)", Site::I64Store8),
    ("i64.store16", "(i64.const -1)", Site::I64Store16),
    ("i64.store32", "(i64.const -1)", Site::I64Store32),
    ("f32.store", "(f32.const 1.5)", Site::F32Store),
    ("f64.store", "(f64.const 1.1)", Site::F64Store),
    ("v128.store", "(v128.const i32x4 -1 -1 -1 -1)", Site::V128Store),
    ("v128.store8_lane", "(v128.const i32x4 -1 -1 -1 -1)", Site::V128Store8Lane),
    ("v128.store16_lane", "(v128.const i32x4 -1 -1 -1 -1)", Site::V128Store16Lane),
    ("v128.store32_lane", "(v128.const i32x4 -1 -1 -1 -1)", Site::V128Store32Lane),
    ("v128.store64_lane", "(v128.const i32x4 -1 -1 -1 -1)", Site::V128Store64Lane),
];

#[test]
fn every_store_is_marked_at_every_kind_of_address() {
    let addresses =
        [0, 1, 4088, 4091, 4095, 4096, 65_520, 65_535, 65_536, -1, -8, 131_064, 131_072];
    for (store, value, site) in STORES {
        let lane = if store.ends_with("lane") { "0" } else { "" };
        for offset in ["", "offset=7", "offset=125", "offset=4093", "offset=0xfffffff8"] {
            let wat = format!(
                "(module (memory (export \"memory\") 2 3)
                   (func (export \"f\") (param i32)
                     ({store} {offset} {lane} (local.get 0) {value}))
                   (func (export \"g\") (param i32)
                     ({store} {offset} {lane} (i32.add (local.get 0) (i32.const -4)) {value})))"
            );
            let calls = addresses.iter().flat_map(|&at| [call("f", &[at]), call("g", &[at])]);
            let case = Case { calls: calls.collect(), ..Case::default() };
            holds(&wat, &case);
            if offset == "offset=7" {
                misses(&wat, &case, site);
            }
        }
    }
}

#[test]
fn bulk_operations_are_marked_as_far_as_memory_goes() {
    let wat = "(module (memory (export \"memory\") 2 4)
        (data \"0123456789abcdef0123456789abcdef\")
        (func (export \"fill\") (param i32 i32)
          (memory.fill (local.get 0) (i32.const 7) (local.get 1)))
        (func (export \"copy\") (param i32 i32 i32)
          (memory.copy (local.get 0) (local.get 1) (local.get 2)))
        (func (export \"init\") (param i32 i32)
          (memory.init 0 (local.get 0) (i32.const 0) (local.get 1)))
        (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0))))";
    let mut calls = Vec::new();
    for at in [0, 4095, 4096 - 128, 65_535, 131_071, 131_072, 131_073, -1] {
        for len in [0, 1, 32, 127, 128, 129, 130, 4096, 65_536, 131_072, -1] {
            calls.push(call("fill", &[at, len]));
            calls.push(call("init", &[at, len]));
            calls.push(call("copy", &[at, 3, len]));
        }
    }
    calls.push(call("grow", &[1]));
    calls.push(call("fill", &[131_072, 65_536]));
    // A range is paid for before it is found to be out of bounds.
    let case = Case { calls, fuel: 1 << 40, ..Case::default() };
    holds(wat, &case);
    for site in [Site::MemoryFill, Site::MemoryCopy, Site::MemoryInit] {
        misses(wat, &case, site);
    }
}

#[test]
fn start_segments_and_globals_come_out_as_without_the_barrier() {
    let wat = "(module
        (import \"host\" \"base\" (global $f i32))
        (memory (export \"memory\") 1)
        (global $a (mut i32) (i32.const 5))
        (global $b (mut i64) (i64.const -9))
        (global $c (mut f32) (f32.const 1.5))
        (global $d (mut f64) (f64.const 2.5))
        (global $e (mut v128) (v128.const i64x2 1 2))
        (global $g (mut i32) (i32.add (global.get $f) (i32.const 1)))
        (data (i32.const 4090) \"over two cards\")
        (data (global.get $f) \"first\")
        (data (i32.const 4002) \"later\")
        (data (i32.const 65536) \"\")
        (func $start
          (i32.store (i32.const 60000) (i32.load (i32.const 4000)))
          (global.set $a (i32.add (global.get $a) (i32.const 1))))
        (start $start)
        (func (export \"globals\") (result i32 i64 f32 f64 v128 i32)
          (global.set $b (i64.add (global.get $b) (i64.const 1)))
          (global.set $c (f32.add (global.get $c) (f32.const 1)))
          (global.set $d (f64.add (global.get $d) (f64.const 1)))
          (global.set $e (i64x2.add (global.get $e) (global.get $e)))
          (global.set $a (i32.add (global.get $a) (global.get $g)))
          global.get $a global.get $b global.get $c global.get $d global.get $e global.get $g)
        (func (export \"init\") (param i32) (memory.init 0 (i32.const 0) (i32.const 0) (local.get 0))))";
    let calls = vec![
        call("globals", &[]),
        call("globals", &[]),
        // An active segment counts as dropped: no bytes are left to copy.
        call("init", &[0]),
        call("init", &[1]),
    ];
    let case = Case { calls, ..Case::default() };
    holds(wat, &case);
    misses(wat, &case, Site::ActiveSegment);
}

#[test]
fn a_segment_out_of_bounds_or_a_trapping_start_still_fails_to_instantiate() {
    for wat in [
        "(module (memory (export \"memory\") 1) (data (i32.const 65530) \"0123456789\"))",
        "(module (memory (export \"memory\") 1) (data (i32.const 65537) \"\"))",
        "(module (memory (export \"memory\") 1) (data (i32.const 1) \"written\")
           (func $start unreachable) (start $start))",
    ] {
        holds(wat, &Case::default());
    }
}

#[test]
fn what_the_host_writes_is_marked_before_it_does() {
    let wat = "(module
        (import \"host\" \"answer\" (func $answer (param i32 i32)))
        (memory (export \"memory\") 2)
        (table (export \"table\") 4 funcref)
        (elem (i32.const 0) func $answer $direct)
        (type $t (func (param i32 i32)))
        (func $direct (export \"direct\") (param i32 i32) (call $answer (local.get 0) (local.get 1)))
        (func (export \"indirect\") (param i32 i32)
          (call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 0)))
        (global $next (mut i32) (i32.const 5000))
        (func (export \"realloc\") (param i32 i32 i32 i32) (result i32)
          (global.get $next)
          (global.set $next (i32.add (global.get $next) (local.get 3)))))";
    let mut calls = Vec::new();
    for area in [0, 4090, 65_530, 131_072 - 200, 131_071, -4] {
        for name in ["direct", "indirect"] {
            calls.push(call(name, &[area, area]));
        }
    }
    for bytes in [0, 1, 100, 4096, 20_000, 80_000, 300_000] {
        calls.push(call("realloc", &[0, 0, 1, bytes]));
    }
    for result_area_bytes in [8, 128, 200, 5000] {
        let calls = calls.clone();
        let case = Case { calls, reallocs: vec!["realloc"], result_area_bytes, ..Case::default() };
        holds(wat, &case);
        misses(wat, &case, Site::Realloc);
        misses(wat, &case, Site::ResultArea);
    }
}

/// Where memory ends is where 2^32 is never far: sharing a mark must not reach around.
#[test]
fn shared_marks_do_not_wrap_around() {
    let wat = "(module (memory (export \"memory\") 2)
        (func (export \"up\") (param i32)
          (i32.store8 (local.get 0) (i32.const 1))
          (i32.store8 (i32.add (local.get 0) (i32.const 100)) (i32.const 2))
          (i32.store8 (i32.add (local.get 0) (i32.const 120)) (i32.const 3))
          (i32.store8 (i32.add (local.get 0) (i32.const 200)) (i32.const 4)))
        (func (export \"down\") (param i32)
          (i32.store8 (i32.sub (local.get 0) (i32.const 16)) (i32.const 5))
          (i32.store8 (local.get 0) (i32.const 6)))
        (func (export \"arms\") (param i32 i32)
          (block
            (br_if 0 (local.get 1))
            (i32.store8 (local.get 0) (i32.const 7)))
          (i32.store8 offset=1 (local.get 0) (i32.const 8))
          (if (local.get 1) (then (i32.store8 offset=300 (local.get 0) (i32.const 9))) (else nop))
          (i32.store8 offset=310 (local.get 0) (i32.const 10))))";
    let mut calls = Vec::new();
    for at in [0, 8, 15, 16, 4000, 4090, 131_070, -1, -8, -100, -16] {
        calls.extend([call("up", &[at]), call("down", &[at])]);
        calls.extend([call("arms", &[at, 0]), call("arms", &[at, 1])]);
    }
    holds(wat, &Case { calls, ..Case::default() });
}

#[test]
fn a_full_four_gigabyte_memory_is_refused_and_a_large_one_lowered() {
    let wasm = wat::parse_str("(module (memory 65536))").unwrap();
    let refused = rewrite_module(&wasm, &[], 0, &Options::default()).unwrap_err();
    assert_eq!(refused.code(), "E_MEM_LIMIT");
    let wasm = wat::parse_str("(module (memory (export \"memory\") 1 65536))").unwrap();
    let rewritten = rewrite_module(&wasm, &[], 0, &Options::default()).unwrap();
    let module = wasmtime::Module::new(&engine(), rewritten.module).unwrap();
    let maximum = module.exports().find_map(|export| export.ty().memory()?.maximum());
    assert_eq!(maximum, Some(65535));
}
