//! Functions that are too large to be followed to their end: whatever the barrier has given up on
//! is marked.

use std::collections::HashSet;

use host::base::limits::BARRIER_FLOW_STEPS_MAX;
use host::pure::barrier::{Options, rewrite_module};
use wasmtime::Val;

use super::generated::calls;
use super::generator;
use super::oracle::{Case, Verdict, compare, compare_with, engine};
use super::seeds;

/// A function that takes more steps than any is followed for: each of its branches compares all of
/// its locals. `before` is what is known by then, `after` comes when nothing is known any more.
fn large(before: &str, after: &str) -> String {
    const LOCALS: usize = 9_000;
    let branches = BARRIER_FLOW_STEPS_MAX / LOCALS + 10;
    format!(
        "(module (memory (export \"memory\") 4)
           (func $far (result i32) (i32.const 200000))
           (func (export \"f\") (param $p i32) (local $q i32) (local {})
             (block $out {before} {} {after})))",
        "i32 ".repeat(LOCALS),
        "(br_if $out (i32.const 0)) ".repeat(branches),
    )
}

#[test]
fn what_a_function_does_after_it_is_given_up_is_marked() {
    for (before, after) in [
        // Operands that lie under those of the store.
        ("(i32.const 8) (i32.const 7)", "(i32.store (call $far) (i32.const -1)) drop drop"),
        (
            "(i32.const 8) (i32.const 7) (i32.const 9)",
            "(memory.fill (call $far) (i32.const 1) (i32.const 9)) drop drop drop",
        ),
        // Marks, and locals that held the address.
        (
            "(i32.store (local.get $p) (i32.const 1))",
            "(local.set $p (call $far)) (i32.store (local.get $p) (i32.const 2))",
        ),
        (
            "(local.set $q (i32.const 16)) (local.get $q) (i32.const 7)",
            "(local.set $q (call $far)) (i32.store (local.get $q) (i32.const 3)) drop drop",
        ),
        ("", "(i32.store offset=300 (local.get $p) (i32.const 4))"),
    ] {
        let wasm = wat::parse_str(large(before, after)).unwrap();
        let calls = [64, 70_000].map(|at| ("f".to_owned(), vec![Val::I32(at)])).to_vec();
        let case = Case { calls, ..Case::default() };
        let options = Options { card_shift: 8, ..Options::default() };
        let verdict = compare(&engine(), &wasm, &case, &options);
        assert_eq!(verdict, Verdict::Same, "{before} ... {after}");
    }
}

/// Steps of modules whose limits are all tried: small ones show little, large ones take long.
const TRIED_MIN: usize = 300;
const TRIED_MAX: usize = 3_000;

/// Wherever the barrier gives up, what comes after is marked: with each limit from none on, until
/// all functions are followed to their ends.
#[test]
fn generated_modules_are_marked_whatever_the_limit_of_steps() {
    let engine = engine();
    let (mut programs, mut forms) = (0, 0);
    let wanted = seeds(1000).div_ceil(250);
    for seed in 0.. {
        let wasm = generator::module(seed);
        let case = Case { calls: calls(seed), ..Case::default() };
        let rewritten = |flow_steps_max| {
            let options = Options { card_shift: 8, export_control: true, ..Options::default() };
            let options = Options { flow_steps_max, ..options };
            rewrite_module(&wasm, &[], 0, &options).unwrap()
        };
        let followed = rewritten(BARRIER_FLOW_STEPS_MAX);
        let is_followed = |steps| rewritten(steps).module == followed.module;
        if is_followed(TRIED_MIN) || !is_followed(TRIED_MAX) {
            continue;
        }
        let mut seen = HashSet::new();
        for limit in 0..=TRIED_MAX {
            let rewritten = rewritten(limit);
            let is_followed = rewritten.module == followed.module;
            if seen.insert(rewritten.module.clone()) {
                let verdict = compare_with(&engine, &wasm, &rewritten, &case);
                assert!(
                    matches!(verdict, Verdict::Same | Verdict::Cut),
                    "seed {seed}, {limit} steps: {verdict:?}"
                );
            }
            if is_followed {
                break;
            }
        }
        programs += 1;
        forms += seen.len();
        if programs == wanted {
            break;
        }
    }
    println!("{forms} forms of {programs} modules");
    assert!(forms as u64 > 5 * wanted, "the limit makes no difference: {forms} forms");
}
