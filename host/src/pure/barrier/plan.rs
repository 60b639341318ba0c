//! What is added to a core module, and under which indices.
//!
//! All additions go to the ends of their index spaces, so that the guest's own indices, and with
//! them its names, stay as they are.

use std::collections::BTreeMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{Instruction, MemArg};
use wasmparser::{DataKind, ExternalKind, Name, ValType};

use super::source::{Source, index, item};
use super::{Options, PAGE_BYTES, RewriteError, Site};
use crate::pure::admission::{ModuleUse, Place, Refusal};
use crate::pure::output;

/// Offset in the state area of the word that says whether the guarded start has run.
const STARTED_SLOT: u32 = 0;

/// Offset in the state area of the first moved global. What is before it is the host's.
const GLOBALS_SLOT: u32 = 16;

const _: () = assert!(4 <= output::SLOT.start && output::SLOT.end <= GLOBALS_SLOT as usize);

/// Bytes of the slot of a moved global: a vector fits, and every slot is aligned for it.
const SLOT_BYTES: u32 = 16;

/// Values that hold for all modules of a component.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common<'o> {
    pub(super) options: &'o Options,
    pub(super) control_pages: u64,
    pub(super) result_area_bytes: u32,
}

impl Common<'_> {
    /// Offset of the state area, after the cards.
    pub(super) fn state_offset(&self) -> u64 {
        1 << (32 - self.options.card_shift)
    }
}

/// The additions to one module.
#[derive(Debug)]
pub(super) struct Plan<'o> {
    pub(super) common: Common<'o>,
    /// Index of the control memory.
    pub(super) control: u32,
    /// True when memory 0 is the data memory.
    pub(super) has_memory: bool,
    /// Type `(i32, i32) -> ()`.
    pub(super) range_type: u32,
    /// Type `() -> ()`.
    pub(super) start_type: u32,
    /// Function that marks a range.
    pub(super) mark_range: u32,
    /// The guarded start.
    pub(super) start: u32,
    /// For an imported function that may store a result: the wrapper that marks first.
    pub(super) imports: BTreeMap<u32, u32>,
    /// Exports whose results the host writes to: name, wrapper, function inside.
    pub(super) reallocs: Vec<ReallocWrapper>,
    /// For each global of the index space: where it went, if it was moved.
    pub(super) globals: Vec<Option<MovedGlobal>>,
    /// Used bytes of the state area.
    pub(super) state_bytes: u32,
    /// Data segments that were active.
    active_segments: Vec<bool>,
    /// An empty segment that stands for the active ones, which count as dropped.
    pub(super) empty_segment: Option<u32>,
}

/// A wrapper around an exported `realloc`.
#[derive(Debug)]
pub(super) struct ReallocWrapper {
    pub(super) name: String,
    pub(super) wrapper: u32,
    pub(super) inner: u32,
}

/// A mutable global that lives in the state area.
#[derive(Clone, Copy, Debug)]
pub(super) struct MovedGlobal {
    pub(super) ty: ValType,
    /// Offset in the control memory.
    offset: u64,
}

impl<'o> Plan<'o> {
    pub(super) fn new(
        source: &Source<'_>,
        usage: &ModuleUse,
        common: Common<'o>,
    ) -> Result<Self, RewriteError> {
        let types = index(source.sub_types.len())?;
        let functions = index(source.functions.len())?;
        let active_segments: Vec<bool> = source
            .data
            .iter()
            .map(|segment| matches!(segment.kind, DataKind::Active { .. }))
            .collect();
        let empty_segment = if active_segments.contains(&true) {
            Some(index(active_segments.len())?)
        } else {
            None
        };
        let (globals, state_bytes) = move_globals(source, common.state_offset())?;
        let mut plan = Self {
            common,
            control: u32::from(source.has_memory()),
            has_memory: source.has_memory(),
            range_type: types,
            start_type: types + 1,
            mark_range: functions,
            start: functions + 1,
            imports: BTreeMap::new(),
            reallocs: Vec::new(),
            globals,
            state_bytes,
            active_segments,
            empty_segment,
        };
        plan.wrap(source, usage, functions + 2)?;
        Ok(plan)
    }

    fn wrap(
        &mut self,
        source: &Source<'_>,
        usage: &ModuleUse,
        first: u32,
    ) -> Result<(), RewriteError> {
        let mut next = first;
        if self.common.result_area_bytes > 0 {
            for import in 0..source.imported_functions {
                if source.may_take_result_area(source.function_type(import)?)? {
                    self.imports.insert(import, next);
                    next += 1;
                }
            }
        }
        let Some(exports) = &source.exports else { return Ok(()) };
        for export in exports.clone() {
            let export = export?;
            if export.kind == ExternalKind::Func && usage.reallocs.contains(export.name) {
                let inner = self.function(export.index);
                let name = export.name.to_owned();
                self.reallocs.push(ReallocWrapper { name, wrapper: next, inner });
                next += 1;
            }
        }
        Ok(())
    }

    /// The function to use wherever the guest names `function`.
    pub(super) fn function(&self, function: u32) -> u32 {
        self.imports.get(&function).copied().unwrap_or(function)
    }

    /// The data segment to use where the guest's code names `segment`.
    pub(super) fn segment(&self, segment: u32) -> u32 {
        let active = usize::try_from(segment)
            .is_ok_and(|segment| self.active_segments.get(segment) == Some(&true));
        if active { self.empty_segment.unwrap_or(segment) } else { segment }
    }

    /// Where a global went, if it was moved.
    pub(super) fn moved(&self, global: u32) -> Result<Option<MovedGlobal>, RewriteError> {
        item(&self.globals, global).copied()
    }

    /// True when this kind of site gets its mark.
    pub(super) fn marks(&self, site: Site) -> bool {
        self.common.options.omit != Some(site)
    }

    /// Address in the control memory of the word that says whether the guarded start has run.
    pub(super) fn started(&self) -> MemArg {
        MemArg {
            offset: self.common.state_offset() + u64::from(STARTED_SLOT),
            align: 2,
            memory_index: self.control,
        }
    }

    /// The instruction that reads a moved global, with the address 0 on the stack.
    pub(super) fn load(&self, global: MovedGlobal) -> Instruction<'static> {
        let arg = |align| MemArg { offset: global.offset, align, memory_index: self.control };
        match global.ty {
            ValType::I64 => Instruction::I64Load(arg(3)),
            ValType::F32 => Instruction::F32Load(arg(2)),
            ValType::F64 => Instruction::F64Load(arg(3)),
            ValType::V128 => Instruction::V128Load(arg(4)),
            // References are not moved: admission refuses mutable ones.
            ValType::I32 | ValType::Ref(_) => Instruction::I32Load(arg(2)),
        }
    }

    /// The instruction that writes a moved global, with the address 0 and the value on the stack.
    pub(super) fn store(&self, global: MovedGlobal) -> Instruction<'static> {
        let arg = |align| MemArg { offset: global.offset, align, memory_index: self.control };
        match global.ty {
            ValType::I64 => Instruction::I64Store(arg(3)),
            ValType::F32 => Instruction::F32Store(arg(2)),
            ValType::F64 => Instruction::F64Store(arg(3)),
            ValType::V128 => Instruction::V128Store(arg(4)),
            ValType::I32 | ValType::Ref(_) => Instruction::I32Store(arg(2)),
        }
    }
}

/// Gives each mutable global a slot in the state area.
fn move_globals(
    source: &Source<'_>,
    state_offset: u64,
) -> Result<(Vec<Option<MovedGlobal>>, u32), RewriteError> {
    let mut next = GLOBALS_SLOT;
    // Imported globals are immutable, or the module isn't admitted.
    let mut globals: Vec<Option<MovedGlobal>> = vec![None; usize_of(source.imported_globals)?];
    for global in &source.globals {
        if !global.ty.mutable {
            globals.push(None);
            continue;
        }
        let offset = state_offset + u64::from(next);
        globals.push(Some(MovedGlobal { ty: global.ty.content_type, offset }));
        next += SLOT_BYTES;
        if u64::from(next) > PAGE_BYTES {
            let what = String::from("more mutable globals than the state area holds");
            return Err(Refusal::SnapshotUnsafe { what, place: Place::at(0) }.into());
        }
    }
    Ok((globals, next))
}

fn usize_of(count: u32) -> Result<usize, RewriteError> {
    usize::try_from(count).map_err(RewriteError::bug)
}

/// Copies the guest's definitions with the indices that the plan replaces.
impl Reencode for &Plan<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error> {
        Ok(self.function(function))
    }

    fn data_index(&mut self, segment: u32) -> Result<u32, reencode::Error> {
        Ok(self.segment(segment))
    }

    /// Names the added functions, too: they show up in backtraces.
    fn parse_custom_name_subsection(
        &mut self,
        names: &mut wasm_encoder::NameSection,
        subsection: Name<'_>,
    ) -> Result<(), reencode::Error> {
        let Name::Function(functions) = subsection else {
            return utils::parse_custom_name_subsection(self, names, subsection);
        };
        // Every name belongs to the function that it named: wrappers have names of their own.
        let mut functions = utils::name_map(functions, Ok)?;
        functions.append(self.mark_range, "barrier::mark_range");
        functions.append(self.start, "barrier::start");
        for &wrapper in self.imports.values() {
            functions.append(wrapper, "barrier::import");
        }
        for realloc in &self.reallocs {
            functions.append(realloc.wrapper, "barrier::realloc");
        }
        names.functions(&functions);
        Ok(())
    }
}
