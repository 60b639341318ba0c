//! Runs a core module plain and rewritten, side by side, and compares. The rewritten one is
//! watched.

use host::pure::barrier::{self, CONTROL_EXPORT, Layout, OVERRUN, Options, RewrittenModule};
use wasmtime::{Config, Engine, Instance, Linker, Memory, Module, Store, Trap, Val};

use super::watch::{note_offset, watched};

/// Fuel of a rewritten call, per unit of the plain one: the added instructions burn it, too.
const FUEL_FACTOR: u64 = 50;

/// One exported function with its arguments.
pub(super) type Call = (String, Vec<Val>);

/// What is called, and what the host is to the module.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Exports in the order in which to call them, with arguments.
    pub(super) calls: Vec<Call>,
    /// Exports whose results the host writes to, as it writes to the result of `realloc`.
    pub(super) reallocs: Vec<&'static str>,
    /// Bytes that the imported functions write at their last parameter.
    pub(super) result_area_bytes: u32,
    /// Fuel of a plain call. What it doesn't finish is not compared.
    pub(super) fuel: u64,
}

impl Default for Case {
    fn default() -> Self {
        Self { calls: Vec::new(), reallocs: Vec::new(), result_area_bytes: 0, fuel: 1_000_000 }
    }
}

/// What came of it.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Both did the same, and all changes were marked.
    Same,
    /// One ran out of fuel or stack: nothing to compare after that.
    Cut,
    /// The barrier doesn't take this module.
    Refused(&'static str),
    /// A byte changed without its card being marked, or was written before that.
    Unmarked(String),
    /// They did something different.
    Different(String),
}

/// An engine as guests get it, but for what only the host's own store has.
pub(super) fn engine() -> Engine {
    let mut config = Config::new();
    config.consume_fuel(true).wasm_multi_memory(true).cranelift_nan_canonicalization(true);
    config.wasm_relaxed_simd(false).memory_may_move(false).memory_init_cow(false);
    config.memory_reservation(4 << 30);
    Engine::new(&config).unwrap()
}

/// Runs `wasm` plain and rewritten.
pub(super) fn compare(engine: &Engine, wasm: &[u8], case: &Case, options: &Options) -> Verdict {
    let options = Options { export_control: true, ..options.clone() };
    let rewritten = barrier::rewrite_module(wasm, &case.reallocs, case.result_area_bytes, &options);
    let rewritten = match rewritten {
        Ok(rewritten) => rewritten,
        Err(barrier::RewriteError::Refused(refusal)) => return Verdict::Refused(refusal.code()),
        Err(bug) => return Verdict::Different(bug.to_string()),
    };
    compare_with(engine, wasm, &rewritten, case)
}

/// Runs `wasm` and what it was rewritten to.
pub(super) fn compare_with(
    engine: &Engine,
    wasm: &[u8],
    rewritten: &RewrittenModule,
    case: &Case,
) -> Verdict {
    match side_by_side(engine, wasm, rewritten, case) {
        Ok(()) => Verdict::Same,
        Err(verdict) => verdict,
    }
}

fn side_by_side(
    engine: &Engine,
    wasm: &[u8],
    rewritten: &RewrittenModule,
    case: &Case,
) -> Result<(), Verdict> {
    let layout = &rewritten.layout;
    let watched = watched(&rewritten.module, layout);
    let mut plain = Side::new(engine, wasm, case, case.fuel);
    let mut marked = Side::new(engine, &watched, case, case.fuel * FUEL_FACTOR);
    let started = (plain.start(), marked.start());
    marked.all_changes_are_marked("instantiation", layout)?;
    if !ends_agree("instantiation", started.0, started.1)? {
        return Ok(());
    }
    for (name, arguments) in &case.calls {
        marked.clear_cards(layout);
        let (results, ends) = (plain.call(name, arguments), marked.call(name, arguments));
        marked.all_changes_are_marked(name, layout)?;
        let [plain_end, marked_end] =
            [&results, &ends].map(|end| end.as_ref().map(drop).map_err(|end| *end));
        ends_agree(name, plain_end, marked_end)?;
        if results != ends {
            return Err(Verdict::Different(format!("{name} answers {results:?} and {ends:?}")));
        }
        // After a trap, too: core modules have no rule against being entered again.
        plain.same_memory_as(&marked, name)?;
    }
    Ok(())
}

/// How a call that has no results ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Trap(Trap),
    Other,
}

/// True when both went on; an error when they ended differently.
fn ends_agree(
    name: &str,
    plain: Result<(), End>,
    marked: Result<(), End>,
) -> Result<bool, Verdict> {
    for end in [plain, marked] {
        if let Err(End::Trap(Trap::OutOfFuel | Trap::StackOverflow)) = end {
            return Err(Verdict::Cut);
        }
    }
    if plain == marked {
        return Ok(plain.is_ok());
    }
    Err(Verdict::Different(format!("{name} ends with {plain:?} and {marked:?}")))
}

/// One of the two.
struct Side {
    store: Store<u32>,
    linker: Linker<u32>,
    module: Module,
    instance: Option<Instance>,
    fuel: u64,
    /// The data memory as of the last look.
    image: Vec<u8>,
    reallocs: Vec<&'static str>,
}

impl Side {
    fn new(engine: &Engine, wasm: &[u8], case: &Case, fuel: u64) -> Self {
        let module = Module::new(engine, wasm).unwrap();
        let mut linker = Linker::new(engine);
        let bytes = case.result_area_bytes;
        linker
            .func_wrap(
                "host",
                "answer",
                move |mut caller: wasmtime::Caller<'_, u32>, seed: i32, area: i32| {
                    let memory =
                        caller.get_export("memory").and_then(wasmtime::Extern::into_memory);
                    let contents: Vec<u8> =
                        (0..bytes).map(|byte| seed as u8 ^ byte as u8 | 1).collect();
                    memory.unwrap().write(&mut caller, area as u32 as usize, &contents)?;
                    wasmtime::Result::Ok(())
                },
            )
            .unwrap();
        let mut store = Store::new(engine, 0);
        let ty = wasmtime::GlobalType::new(wasmtime::ValType::I32, wasmtime::Mutability::Const);
        let base = wasmtime::Global::new(&mut store, ty, Val::I32(4000)).unwrap();
        linker.define(&store, "host", "base", base).unwrap();
        let reallocs = case.reallocs.clone();
        Self { store, linker, module, instance: None, fuel, image: Vec::new(), reallocs }
    }

    fn start(&mut self) -> Result<(), End> {
        self.store.set_fuel(self.fuel).unwrap();
        match self.linker.instantiate(&mut self.store, &self.module) {
            Ok(instance) => {
                self.instance = Some(instance);
                Ok(())
            }
            Err(error) => Err(end(&error)),
        }
    }

    /// Calls an export; one that counts as `realloc` gets its block written, as the host does.
    fn call(&mut self, name: &str, arguments: &[Val]) -> Result<Vec<String>, End> {
        self.store.set_fuel(self.fuel).unwrap();
        let function = self.instance.unwrap().get_func(&mut self.store, name).unwrap();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let called = function.call(&mut self.store, arguments, &mut results);
        called.map_err(|error| end(&error))?;
        if self.reallocs.contains(&name) {
            let (at, bytes) = (results[0].unwrap_i32() as u32 as usize, arguments[3].unwrap_i32());
            let contents = vec![0xa5; bytes as u32 as usize];
            let memory = self.memory("memory").unwrap();
            // The host checks bounds before it writes.
            let _in_bounds = memory.write(&mut self.store, at, &contents);
        }
        Ok(results.iter().map(bits).collect())
    }

    fn memory(&mut self, name: &str) -> Option<Memory> {
        self.instance?.get_memory(&mut self.store, name)
    }

    fn clear_cards(&mut self, layout: &Layout) {
        if let Some(control) = self.memory(CONTROL_EXPORT) {
            control.data_mut(&mut self.store)[..layout.state_offset as usize].fill(0);
        }
    }

    fn all_changes_are_marked(&mut self, name: &str, layout: &Layout) -> Result<(), Verdict> {
        let before = std::mem::take(&mut self.image);
        let Some(memory) = self.memory("memory") else { return Ok(()) };
        let now = memory.data(&self.store).to_vec();
        let control = self.memory(CONTROL_EXPORT).unwrap();
        let cards = control.data(&self.store);
        let note = u64::from_le_bytes(cards[note_offset(layout)..][..8].try_into().unwrap());
        if let Some(address) = note.checked_sub(1) {
            return Err(Verdict::Unmarked(format!("{name} is about to write {address:#x}")));
        }
        let marked = |address: usize| cards[address >> layout.card_shift] != 0;
        let mut hole = None;
        for (at, chunk) in now.chunks(1024).enumerate() {
            let at = at * 1024;
            let old = before.get(at..at + chunk.len());
            if old.map_or_else(|| chunk.iter().all(|byte| *byte == 0), |old| old == chunk) {
                continue;
            }
            hole = (at..at + chunk.len()).find(|&address| {
                let changed = now[address] != before.get(address).copied().unwrap_or(0);
                changed && !marked(address) && !marked(address.saturating_sub(OVERRUN as usize))
            });
            if hole.is_some() {
                break;
            }
        }
        self.image = now;
        match hole {
            None => Ok(()),
            Some(address) => Err(Verdict::Unmarked(format!("{name} changed {address:#x}"))),
        }
    }

    fn same_memory_as(&mut self, other: &Self, name: &str) -> Result<(), Verdict> {
        let Some(memory) = self.memory("memory") else { return Ok(()) };
        if memory.data(&self.store) == other.image {
            return Ok(());
        }
        Err(Verdict::Different(format!("{name} leaves another memory")))
    }
}

fn end(error: &wasmtime::Error) -> End {
    error.downcast_ref::<Trap>().map_or(End::Other, |trap| End::Trap(*trap))
}

fn bits(value: &Val) -> String {
    match value {
        Val::F32(bits) => format!("f32 {bits:#x}"),
        Val::F64(bits) => format!("f64 {bits:#x}"),
        Val::I32(_) | Val::I64(_) | Val::V128(_) => format!("{value:?}"),
        _ => String::from("reference"),
    }
}
