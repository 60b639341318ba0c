//! Runs a component plain and rewritten, side by side over memories that the test can read. The
//! rewritten one is watched, and starts anew over its memories between two calls.

use host::pure::admission::{Caps, World, admit};
use host::pure::barrier::{self, Layout, MemoryRole, OVERRUN, Options};
use wasm_encoder::{CodeSection, Component as Encoder, ComponentSectionId, Function, Module};
use wasm_encoder::{RawSection, SectionId};
use wasmparser::{Parser, Payload};
use wasmtime::component::{Component, Instance, Linker, Val};
use wasmtime::{Config, Engine, OptLevel, RegallocAlgorithm, Store, Trap};

use super::mapping::Mappings;
use super::oracle::Verdict;
use super::watch::{note_offset, watched};

/// Fuel of a plain call, and how much more a watched one gets.
const FUEL: u64 = 200_000;
const FUEL_FACTOR: u64 = 60;

/// Memories that a component has at most: one of data, one for each module.
const MEMORIES_MAX: usize = 24;

/// The component with other core modules.
pub(super) fn replace_modules(
    component: &[u8],
    mut replace: impl FnMut(usize, &[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let mut replaced = Encoder::new();
    let (mut depth, mut modules) = (0, 0);
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.unwrap();
        let is_outermost = depth == 0;
        match &payload {
            Payload::ModuleSection { unchecked_range, .. } => {
                depth += 1;
                if is_outermost {
                    let data = replace(modules, &component[unchecked_range.clone()]);
                    modules += 1;
                    let id = ComponentSectionId::CoreModule.into();
                    replaced.section(&RawSection { id, data: &data });
                    continue;
                }
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= i32::from(depth > 0),
            _ => {}
        }
        if let Some((id, range)) = payload.as_section().filter(|_| is_outermost) {
            replaced.section(&RawSection { id, data: &component[range] });
        }
    }
    replaced.finish()
}

/// The module with other bodies for its first functions.
pub(super) fn replace_bodies(module: &[u8], bodies: &[Function]) -> Vec<u8> {
    let mut replaced = Module::new();
    let (mut code, mut left) = (CodeSection::new(), 0);
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::CodeSectionStart { count, .. } => left = count,
            Payload::CodeSectionEntry(body) => {
                match bodies.get(code.len() as usize) {
                    Some(body) => code.function(body),
                    None => code.raw(body.as_bytes()),
                };
                left -= 1;
                if left == 0 {
                    replaced.section(&code);
                }
            }
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    assert_ne!(id, u8::from(SectionId::Code));
                    replaced.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    replaced.finish()
}

/// An engine with memories of its own.
struct Side {
    engine: Engine,
    linker: Linker<()>,
    mappings: Mappings,
    fuel: u64,
}

/// A component on one side.
struct Running<'s> {
    side: &'s Side,
    component: Component,
    store: Store<()>,
    instance: Option<Instance>,
}

/// Both sides, for one component after another.
pub(super) struct Pair {
    plain: Side,
    marked: Side,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self { plain: Side::new(FUEL, 1), marked: Side::new(FUEL * FUEL_FACTOR, MEMORIES_MAX) }
    }

    /// Runs the component plain and rewritten.
    pub(super) fn compare(
        &self,
        component: &[u8],
        calls: &[(String, [u32; 2])],
        options: &Options,
    ) -> Verdict {
        let admitted = match admit(component, &Caps::default(), &World::ANY) {
            Ok(admitted) => admitted,
            Err(refusal) => return Verdict::Refused(refusal.code()),
        };
        let rewritten = match barrier::rewrite(&admitted, options) {
            Ok(rewritten) => rewritten,
            Err(error) => return Verdict::Different(error.to_string()),
        };
        let layout = rewritten.layout;
        let watched = replace_modules(&rewritten.component, |_, module| watched(module, &layout));
        match self.side_by_side(component, &watched, &layout, calls) {
            Ok(()) => Verdict::Same,
            Err(verdict) => verdict,
        }
    }

    fn side_by_side(
        &self,
        plain: &[u8],
        marked: &[u8],
        layout: &Layout,
        calls: &[(String, [u32; 2])],
    ) -> Result<(), Verdict> {
        let mut plain = Running::new(&self.plain, plain);
        let mut marked = Running::new(&self.marked, marked);
        let ends = (plain.start(), marked.start());
        let mut image = marked.changes_are_marked("instantiation", &[], layout)?;
        if !agree("instantiation", ends.0, ends.1)? {
            return Ok(());
        }
        for (position, (name, arguments)) in calls.iter().enumerate() {
            if position == calls.len() / 2 {
                marked.start_again(layout)?;
            }
            marked.clear_cards(layout, image.len());
            let ends = (plain.call(name, *arguments), marked.call(name, *arguments));
            image = marked.changes_are_marked(name, &image, layout)?;
            let goes_on = agree(name, ends.0, ends.1)?;
            if self.plain.mappings.bytes(0) != image {
                return Err(Verdict::Different(format!("{name} leaves another memory")));
            }
            if !goes_on {
                break;
            }
        }
        Ok(())
    }
}

/// True when both went on; an error when they ended differently.
fn agree(
    name: &str,
    plain: Result<u32, Option<Trap>>,
    marked: Result<u32, Option<Trap>>,
) -> Result<bool, Verdict> {
    for end in [plain, marked] {
        if let Err(Some(Trap::OutOfFuel | Trap::StackOverflow)) = end {
            return Err(Verdict::Cut);
        }
    }
    if plain == marked {
        return Ok(plain.is_ok());
    }
    Err(Verdict::Different(format!("{name} ends with {plain:?} and {marked:?}")))
}

impl Side {
    fn new(fuel: u64, memories: usize) -> Self {
        let mappings = Mappings::new(memories);
        let mut config = Config::new();
        config.consume_fuel(true).wasm_multi_memory(true).cranelift_nan_canonicalization(true);
        config.wasm_relaxed_simd(false).memory_may_move(false).memory_init_cow(false);
        config.memory_reservation(4 << 30).with_host_memory(mappings.creator());
        // Components are many, and none runs for long.
        config.cranelift_opt_level(OptLevel::None);
        config.cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
        let engine = Engine::new(&config).unwrap();
        let mut linker = Linker::new(&engine);
        let mut api = linker.instance("host:test/api").unwrap();
        api.func_wrap("pair", |_, (n,): (u32,)| Ok(((number(n, 0), number(n, 1)),))).unwrap();
        api.func_new("wide", |_, _, arguments, results| {
            let Some(Val::U32(n)) = arguments.first() else { panic!("{arguments:?}") };
            results[0] = Val::Tuple((0..18).map(|at| Val::U64(number(*n, at))).collect());
            Ok(())
        })
        .unwrap();
        api.func_wrap("bytes", |_, (n,): (u32,)| Ok((vec![n as u8 | 1; n as usize % 64],)))
            .unwrap();
        Self { engine, linker, mappings, fuel }
    }
}

/// A number of which no byte is 0.
fn number(n: u32, at: u64) -> u64 {
    0x0101_0101_0101_0101 * ((u64::from(n) + at) % 250 + 1)
}

impl<'s> Running<'s> {
    fn new(side: &'s Side, component: &[u8]) -> Self {
        let component = Component::new(&side.engine, component).unwrap();
        side.mappings.reset();
        Self { side, component, store: Store::new(&side.engine, ()), instance: None }
    }

    fn start(&mut self) -> Result<u32, Option<Trap>> {
        self.side.mappings.rewind();
        self.store = Store::new(&self.side.engine, ());
        self.store.set_fuel(self.side.fuel).unwrap();
        let started = self.side.linker.instantiate(&mut self.store, &self.component);
        self.instance = Some(started.map_err(|error| error.downcast_ref::<Trap>().copied())?);
        Ok(0)
    }

    /// A new instance over the memories of the last one: it writes nothing, not even a mark.
    fn start_again(&mut self, layout: &Layout) -> Result<(), Verdict> {
        let image = self.data(layout).to_vec();
        let states = self.states(layout);
        self.clear_cards(layout, image.len());
        self.start().map_err(|end| Verdict::Different(format!("starts again with {end:?}")))?;
        if self.data(layout) != image || self.states(layout) != states {
            return Err(Verdict::Different(String::from("starting again writes")));
        }
        self.changes_are_marked("starting again", &image, layout).map(drop)
    }

    fn call(&mut self, name: &str, arguments: [u32; 2]) -> Result<u32, Option<Trap>> {
        self.store.set_fuel(self.side.fuel).unwrap();
        let function = self.instance.unwrap().get_func(&mut self.store, name).unwrap();
        let mut results = vec![Val::U32(0); function.ty(&self.store).results().len()];
        let called = function.call(&mut self.store, &arguments.map(Val::U32), &mut results);
        called.map_err(|error| error.downcast_ref::<Trap>().copied())?;
        match results[..] {
            [Val::U32(result)] => Ok(result),
            _ => Ok(0),
        }
    }

    fn data(&self, layout: &Layout) -> &'s [u8] {
        let memory = layout.memories.iter().position(|role| *role == MemoryRole::Data);
        self.side.mappings.bytes(memory.unwrap())
    }

    fn controls(&self, layout: &Layout) -> Vec<usize> {
        let is_control = |role: &MemoryRole| matches!(role, MemoryRole::Control { .. });
        let roles = layout.memories.iter().enumerate();
        roles.filter(|(_, role)| is_control(role)).map(|(position, _)| position).collect()
    }

    fn states(&self, layout: &Layout) -> Vec<Vec<u8>> {
        let from = layout.state_offset as usize;
        let controls = self.controls(layout).into_iter();
        controls.map(|memory| self.side.mappings.bytes(memory)[from..].to_vec()).collect()
    }

    /// Clears the cards of a data memory of this size. Marks beyond it mean nothing.
    fn clear_cards(&self, layout: &Layout, bytes: usize) {
        for memory in self.controls(layout) {
            self.side.mappings.zero(memory, (bytes >> layout.card_shift) + 1);
        }
    }

    /// The data memory, if all that differs from `before` is marked in one of the modules.
    fn changes_are_marked(
        &self,
        name: &str,
        before: &[u8],
        layout: &Layout,
    ) -> Result<Vec<u8>, Verdict> {
        let mappings = &self.side.mappings;
        let controls = self.controls(layout);
        for memory in &controls {
            // It isn't there yet when the instantiation failed.
            let Some(note) = mappings.bytes(*memory).get(note_offset(layout)..) else { continue };
            let note = u64::from_le_bytes(note[..8].try_into().unwrap());
            if let Some(address) = note.checked_sub(1) {
                return Err(Verdict::Unmarked(format!(
                    "{name} is about to write {address:#x} in {:?}",
                    layout.memories[*memory]
                )));
            }
        }
        let now = self.data(layout);
        let marked = |address: usize| {
            let card = address >> layout.card_shift;
            controls
                .iter()
                .any(|memory| mappings.bytes(*memory).get(card).is_some_and(|card| *card != 0))
        };
        for (at, chunk) in now.chunks(1024).enumerate() {
            let at = at * 1024;
            let old = before.get(at..at + chunk.len());
            if old.map_or_else(|| chunk.iter().all(|byte| *byte == 0), |old| old == chunk) {
                continue;
            }
            let hole = (at..at + chunk.len()).find(|&address| {
                let changed = now[address] != before.get(address).copied().unwrap_or(0);
                changed && !marked(address) && !marked(address.saturating_sub(OVERRUN as usize))
            });
            if let Some(address) = hole {
                return Err(Verdict::Unmarked(format!("{name} changed {address:#x}")));
            }
        }
        Ok(now.to_vec())
    }
}
