//! Modules of wasm-smith: instructions of all kinds, addresses mostly out of bounds.

use arbitrary::Unstructured;
use host::pure::barrier::Options;
use wasm_smith::{Config, InstructionKind, InstructionKinds, Module};
use wasmtime::Val;

use super::generator::Dice;
use super::oracle::{Case, Verdict, compare, engine};
use super::seeds;

fn config() -> Config {
    Config {
        // Tables never change in a guest, so instructions that change them are not wanted here.
        allowed_instructions: InstructionKinds::new(&[
            InstructionKind::Numeric,
            InstructionKind::Vector,
            InstructionKind::Parametric,
            InstructionKind::Variable,
            InstructionKind::Memory,
            InstructionKind::Control,
        ]),
        allow_start_export: true,
        canonicalize_nans: false,
        exceptions_enabled: false,
        gc_enabled: false,
        max_data_segments: 3,
        max_imports: 0,
        max_memories: 1,
        max_tables: 1,
        max_table_elements: 1000,
        memory_max_size_required: true,
        min_funcs: 1,
        min_memories: 1,
        max_instructions: 300,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        memory64_enabled: false,
        shared_everything_threads_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    }
}

/// A module and calls of all its exported functions.
fn case(seed: u64) -> Option<(Vec<u8>, Case)> {
    let mut dice = Dice::new(seed);
    let bytes: Vec<u8> = (0..4096).map(|_| dice.roll(256) as u8).collect();
    let mut module = Module::new(config(), &mut Unstructured::new(&bytes)).ok()?;
    module.ensure_termination(2000).ok()?;
    Some((module.to_bytes(), Case::default())).map(|(wasm, case)| {
        let calls = exported_calls(&wasm, &mut dice);
        (wasm, Case { calls, ..case })
    })
}

fn exported_calls(wasm: &[u8], dice: &mut Dice) -> Vec<(String, Vec<Val>)> {
    let module = wasmtime::Module::new(&engine(), wasm).unwrap();
    let mut calls = Vec::new();
    for export in module.exports() {
        let Some(ty) = export.ty().func().cloned() else { continue };
        let arguments: Option<Vec<Val>> = ty
            .params()
            .map(|ty| {
                Some(match ty {
                    wasmtime::ValType::I32 => Val::I32(dice.roll(0x1_0000) as i32),
                    wasmtime::ValType::I64 => Val::I64(i64::from(dice.roll(1000))),
                    wasmtime::ValType::F32 => Val::F32(dice.roll(u32::MAX)),
                    wasmtime::ValType::F64 => Val::F64(u64::from(dice.roll(u32::MAX)) << 32),
                    wasmtime::ValType::V128 => Val::V128(0x0102_0304_u128.into()),
                    wasmtime::ValType::Ref(_) => return None,
                })
            })
            .collect();
        calls.extend(arguments.map(|arguments| (export.name().to_owned(), arguments)));
    }
    calls
}

#[test]
fn modules_of_wasm_smith_mark_what_they_change_and_compute_the_same() {
    let engine = engine();
    let (mut same, mut others) = (0, 0);
    for seed in 0..seeds(600) {
        let Some((wasm, case)) = case(seed) else { continue };
        match compare(&engine, &wasm, &case, &Options::default()) {
            Verdict::Same => same += 1,
            Verdict::Cut | Verdict::Refused(_) => others += 1,
            verdict => panic!("seed {seed}: {verdict:?}"),
        }
    }
    println!("{same} the same, {others} refused or cut short");
    assert!(same * 4 > others, "too few of the modules were compared: {same} of {}", same + others);
}
