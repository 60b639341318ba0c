//! Generated modules, with every combination of optimisations.

use host::pure::barrier::{Options, Site};
use wasmtime::Val;

use super::generator::{self, Dice, FUNCTIONS};
use super::oracle::{Call, Case, Verdict, compare, engine};
use super::seeds;

pub(super) fn calls(seed: u64) -> Vec<Call> {
    let mut dice = Dice::new(!seed);
    let mut calls = Vec::new();
    for _ in 0..2 {
        for function in 0..FUNCTIONS {
            let mut argument = || match dice.roll(6) {
                0 => Val::I32(0x1_fff0 + dice.roll(16) as i32),
                1 => Val::I32(-(dice.roll(64) as i32)),
                _ => Val::I32(dice.roll(0x2_0000) as i32),
            };
            calls.push((format!("f{function}"), vec![argument(), argument()]));
        }
    }
    calls
}

fn options(seed: u64) -> Options {
    Options {
        card_shift: [8, 8, 8, 9, 12, 16][(seed % 6) as usize],
        trap_by_grow: seed.is_multiple_of(2),
        share_marks: !seed.is_multiple_of(5),
        unroll: !seed.is_multiple_of(7),
        ..Options::default()
    }
}

#[test]
fn generated_modules_mark_what_they_change_and_compute_the_same() {
    let engine = engine();
    let (mut same, mut cut) = (0, 0);
    for seed in 0..seeds(1000) {
        let wasm = generator::module(seed);
        let case = Case { calls: calls(seed), ..Case::default() };
        match compare(&engine, &wasm, &case, &options(seed)) {
            Verdict::Same => same += 1,
            Verdict::Cut => cut += 1,
            verdict => panic!("seed {seed}: {verdict:?}\n{}", print(&wasm)),
        }
    }
    println!("{same} the same, {cut} cut short");
    assert!(same > cut, "{cut} of {} comparisons were cut short", same + cut);
}

/// The generator with the kinds of stores that it makes, against a barrier that forgets one.
#[test]
fn each_forgotten_kind_of_store_is_found_in_generated_modules() {
    let engine = engine();
    let elsewhere = [Site::ActiveSegment, Site::Realloc, Site::ResultArea];
    for site in Site::ALL.into_iter().filter(|site| !elsewhere.contains(site)) {
        let found = (0..400).any(|seed| {
            let case = Case { calls: calls(seed), ..Case::default() };
            let options = Options { card_shift: 8, omit: Some(site), ..Options::default() };
            let verdict = compare(&engine, &generator::module(seed), &case, &options);
            matches!(verdict, Verdict::Unmarked(_))
        });
        assert!(found, "the barrier forgets {site:?} and nobody notices");
    }
}

#[test]
fn rewriting_is_deterministic() {
    for seed in 0..20 {
        let wasm = generator::module(seed);
        let rewrite =
            || host::pure::barrier::rewrite_module(&wasm, &[], 8, &options(seed)).unwrap();
        let (first, second) = (rewrite(), rewrite());
        assert_eq!(first.module, second.module);
        assert_eq!(first.layout, second.layout);
    }
}

/// The module as bytes of text, to be pasted into a file and printed with any tool.
fn print(wasm: &[u8]) -> String {
    wasm.iter().map(|byte| format!("{byte:02x}")).collect()
}
