//! Reads one core module: what it holds, and whether a memory image holds all of its state.

use std::ops::Range;

use wasmparser::{
    ElementKind, FunctionBody, GlobalType, MemoryType, Name, NameSectionReader, Operator, Payload,
    TableInit, TableType, TypeRef, ValType,
};

use super::caps::{byte_count, within};
use super::{Caps, Place, Refusal, printable};

/// Bytes of a WebAssembly page.
const PAGE_BYTES: u64 = 64 << 10;

/// What is known of one core module of an admitted component.
#[derive(Clone, Debug, Default)]
pub struct CoreModule {
    /// Its place among the component's core modules.
    pub index: u32,
    /// Its bytes in the component.
    pub range: Range<usize>,
    /// Its name from the name section, escaped.
    pub name: Option<String>,
    /// Functions that it defines.
    pub functions: u32,
    /// Bytes of their bodies.
    pub code_bytes: u64,
    /// Bytes of its data segments.
    pub data_bytes: u64,
    /// Bytes of its custom sections.
    pub custom_bytes: u64,
    /// The linear memory that it defines: minimum and maximum in bytes.
    pub memory: Option<MemoryBytes>,
    /// True when it imports its linear memory.
    pub imports_memory: bool,
    /// Tables that it defines.
    pub tables: u32,
    /// Elements of those tables at its start.
    pub table_elements: u64,
    /// Mutable globals that it defines.
    pub mutable_globals: u32,
    /// True when it has a start function.
    pub has_start: bool,
    /// True when its functions only pass their own parameters on, unchanged, to another function.
    /// Nothing that such a module does needs to be recorded by itself.
    pub(in crate::pure) only_forwards: bool,
}

/// Size of a linear memory in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MemoryBytes {
    /// At its start.
    pub minimum: u64,
    /// What it may grow to, if it says so.
    pub maximum: Option<u64>,
}

/// One core module while its sections go by.
#[derive(Debug)]
pub(super) struct ModuleReader<'c> {
    caps: &'c Caps,
    facts: CoreModule,
    /// Parameters of each function type.
    parameter_counts: Vec<u32>,
    /// Type of each function of the index space, imported ones first.
    function_types: Vec<u32>,
    imported_functions: u32,
    bodies_seen: u32,
    /// Locals of all functions so far.
    locals: u64,
    globals: Vec<GlobalType>,
    /// The function whose body was read last, and its bytes.
    body: Option<(u32, Range<usize>)>,
}

impl<'c> ModuleReader<'c> {
    pub(super) fn new(index: u32, range: Range<usize>, caps: &'c Caps) -> Self {
        let facts = CoreModule { index, range, only_forwards: true, ..CoreModule::default() };
        Self {
            caps,
            facts,
            parameter_counts: Vec::new(),
            function_types: Vec::new(),
            imported_functions: 0,
            bodies_seen: 0,
            locals: 0,
            globals: Vec::new(),
            body: None,
        }
    }

    pub(super) fn finish(self) -> CoreModule {
        self.facts
    }

    /// Adds module and function to the place of a refusal in this module.
    pub(super) fn complete(&self, place: &mut Place) {
        place.module = Some(self.facts.index);
        place.function = self.body.as_ref().and_then(|(function, range)| {
            let offset = usize::try_from(place.offset).ok()?;
            range.contains(&offset).then_some(*function)
        });
    }

    /// Offset of its first byte in the component.
    pub(super) fn start(&self) -> usize {
        self.facts.range.start
    }

    /// Checks a section before the validator sees it, so that the message is about the limit.
    pub(super) fn before_validation(&self, payload: &Payload<'_>) -> Result<(), Refusal> {
        match payload {
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    self.check_memory(&memory?)?;
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    check_table(&table?.ty, self.caps)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes in a section that the validator has accepted.
    pub(super) fn after_validation(&mut self, payload: &Payload<'_>) -> Result<(), Refusal> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    for ty in group?.into_types() {
                        let count = match &ty.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(f) => f.params().len(),
                            _ => 0,
                        };
                        self.parameter_counts.push(u32::try_from(count).unwrap_or(u32::MAX));
                    }
                }
            }
            Payload::ImportSection(section) => {
                let offset = section.range().start;
                for import in section.clone().into_imports() {
                    self.import(import?.ty, offset)?;
                }
            }
            Payload::FunctionSection(section) => {
                self.facts.functions = section.count();
                for ty in section.clone() {
                    self.function_types.push(ty?);
                }
            }
            Payload::GlobalSection(section) => {
                for item in section.clone().into_iter_with_offsets() {
                    let (offset, global) = item?;
                    self.global(global.ty, offset)?;
                }
            }
            Payload::ExportSection(section) => {
                for item in section.clone().into_iter_with_offsets() {
                    let (offset, export) = item?;
                    self.export(&export, offset)?;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    self.facts.memory = Some(memory_bytes(&memory?));
                }
            }
            other => self.after_validation_of_rest(other)?,
        }
        Ok(())
    }

    fn after_validation_of_rest(&mut self, payload: &Payload<'_>) -> Result<(), Refusal> {
        match payload {
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let table = table?;
                    if matches!(table.init, TableInit::Expr(_)) {
                        return Err(Refusal::snapshot_unsafe(
                            "a table with an initial value",
                            section.range().start,
                        ));
                    }
                    self.facts.tables += 1;
                    self.facts.table_elements =
                        self.facts.table_elements.saturating_add(table.ty.initial);
                }
            }
            Payload::StartSection { .. } => self.facts.has_start = true,
            Payload::DataSection(section) => {
                for segment in section.clone() {
                    self.facts.data_bytes += byte_count(segment?.data.len());
                }
            }
            Payload::ElementSection(section) => {
                for segment in section.clone() {
                    // Reading it is all: the kinds that are left need no state of their own.
                    match segment?.kind {
                        ElementKind::Active { .. }
                        | ElementKind::Passive
                        | ElementKind::Declared => {}
                    }
                }
            }
            Payload::CustomSection(section) => {
                self.facts.custom_bytes += byte_count(section.data().len());
                if let wasmparser::KnownCustom::Name(names) = section.as_known() {
                    self.facts.name = module_name(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, ty: TypeRef, offset: usize) -> Result<(), Refusal> {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.function_types.push(ty);
                self.imported_functions += 1;
            }
            TypeRef::Global(global) => {
                if global.mutable {
                    return Err(Refusal::snapshot_unsafe("an imported mutable global", offset));
                }
                self.globals.push(global);
            }
            TypeRef::Memory(_) => self.facts.imports_memory = true,
            // A tag needs the exceptions proposal, which the validator has refused.
            TypeRef::Table(_) | TypeRef::Tag(_) => {}
        }
        Ok(())
    }

    fn global(&mut self, ty: GlobalType, offset: usize) -> Result<(), Refusal> {
        if ty.mutable {
            self.facts.mutable_globals += 1;
            if matches!(ty.content_type, ValType::Ref(_)) {
                return Err(Refusal::snapshot_unsafe("a mutable reference in a global", offset));
            }
        }
        self.globals.push(ty);
        Ok(())
    }

    fn export(&self, export: &wasmparser::Export<'_>, offset: usize) -> Result<(), Refusal> {
        if export.kind != wasmparser::ExternalKind::Global {
            return Ok(());
        }
        let global = usize::try_from(export.index).ok().and_then(|index| self.globals.get(index));
        if global.is_some_and(|global| global.mutable) {
            let what = format!("the exported mutable global `{}`", printable(export.name));
            return Err(Refusal::snapshot_unsafe(what, offset));
        }
        Ok(())
    }

    fn check_memory(&self, memory: &MemoryType) -> Result<(), Refusal> {
        let limit = self.caps.memory_bytes_max;
        let bytes = memory_bytes(memory);
        if bytes.minimum > limit {
            let (pages, most) = (bytes.minimum / PAGE_BYTES, limit / PAGE_BYTES);
            let message = format!(
                "starts with {pages} pages, and {most} are the most: the write barrier needs the \
                 rest; link the guest with a smaller initial memory"
            );
            return Err(Refusal::MemoryLimit { message });
        }
        if bytes.maximum.is_some_and(|maximum| maximum < bytes.minimum) {
            let message = String::from("its minimum is more than its maximum; correct the file");
            return Err(Refusal::MemoryLimit { message });
        }
        Ok(())
    }

    /// Takes in one function body that the validator accepts operator by operator.
    pub(super) fn begin_body(&mut self, body: &FunctionBody<'_>) -> Result<BodyReader, Refusal> {
        let function = self.imported_functions.saturating_add(self.bodies_seen);
        self.bodies_seen += 1;
        self.body = Some((function, body.range()));
        self.facts.code_bytes += byte_count(body.as_bytes().len());
        let ty = self.function_type(function);
        let parameters =
            ty.and_then(|ty| self.parameter_counts.get(usize::try_from(ty).ok()?).copied());
        let mut locals = u64::from(parameters.unwrap_or(0));
        for group in body.get_locals_reader()? {
            locals = locals.saturating_add(u64::from(group?.0));
        }
        let offset = body.range().start;
        limit_function("locals", locals, self.caps.locals_max, offset)?;
        self.locals = self.locals.saturating_add(locals);
        within("locals of one module", self.locals, self.caps.module_locals_max)?;
        Ok(BodyReader {
            ty: ty.unwrap_or(u32::MAX),
            parameters: parameters.unwrap_or(0),
            step: 0,
            calls: false,
            forwards: true,
            depth: 0,
            blocks: 0,
            branch_targets: 0,
        })
    }

    pub(super) fn finish_body(&mut self, body: &BodyReader) {
        self.facts.only_forwards &= body.forwards || !body.calls;
    }

    fn function_type(&self, function: u32) -> Option<u32> {
        self.function_types.get(usize::try_from(function).ok()?).copied()
    }

    /// Checks one operator before the validator sees it.
    pub(super) fn operator(
        &self,
        body: &mut BodyReader,
        operator: &Operator<'_>,
        offset: usize,
    ) -> Result<(), Refusal> {
        body.follow(operator, |function| self.function_type(function));
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                body.depth += 1;
                body.blocks += 1;
                limit_function("nested blocks", body.depth, self.caps.nesting_max, offset)?;
                limit_function("blocks", body.blocks, self.caps.blocks_max, offset)?;
            }
            Operator::End => body.depth = body.depth.saturating_sub(1),
            Operator::BrTable { targets } => {
                body.branch_targets += u64::from(targets.len());
                let limit = self.caps.branch_targets_max;
                limit_function("branch targets", body.branch_targets, limit, offset)?;
            }
            other => {
                if let Some(name) = state_outside_memory(other) {
                    return Err(Refusal::snapshot_unsafe(name, offset));
                }
            }
        }
        Ok(())
    }
}

/// One function body while its operators go by.
#[derive(Debug)]
pub(super) struct BodyReader {
    ty: u32,
    parameters: u32,
    step: u32,
    calls: bool,
    forwards: bool,
    depth: u64,
    blocks: u64,
    branch_targets: u64,
}

impl BodyReader {
    /// Follows the one shape that counts as forwarding: every parameter in order, perhaps a
    /// constant table index, a call of the same type, the end.
    fn follow(&mut self, operator: &Operator<'_>, type_of: impl Fn(u32) -> Option<u32>) {
        let after_parameters = self.step.checked_sub(self.parameters);
        let expected = match (operator, after_parameters) {
            (Operator::LocalGet { local_index }, None) => *local_index == self.step,
            (Operator::I32Const { .. }, Some(0)) => true,
            (Operator::CallIndirect { type_index, .. }, Some(1)) => *type_index == self.ty,
            (Operator::Call { function_index }, Some(0)) => {
                self.step += 1;
                type_of(*function_index) == Some(self.ty)
            }
            (Operator::End, Some(2)) => true,
            _ => false,
        };
        self.calls |= matches!(operator, Operator::Call { .. } | Operator::CallIndirect { .. });
        self.forwards &= expected;
        self.step = self.step.saturating_add(1);
    }
}

/// Names the operators that change state which no memory image holds.
fn state_outside_memory(operator: &Operator<'_>) -> Option<&'static str> {
    match operator {
        Operator::TableSet { .. } => Some("table.set"),
        Operator::TableGrow { .. } => Some("table.grow"),
        Operator::TableFill { .. } => Some("table.fill"),
        Operator::TableCopy { .. } => Some("table.copy"),
        Operator::TableInit { .. } => Some("table.init"),
        Operator::ElemDrop { .. } => Some("elem.drop"),
        Operator::DataDrop { .. } => Some("data.drop"),
        _ => None,
    }
}

fn limit_function(
    what: &'static str,
    found: u64,
    limit: u64,
    offset: usize,
) -> Result<(), Refusal> {
    if found > limit {
        return Err(Refusal::function_limit(what, found, limit, offset));
    }
    Ok(())
}

fn check_table(table: &TableType, caps: &Caps) -> Result<(), Refusal> {
    let limit = caps.table_elements_max;
    if table.initial > limit {
        let message =
            format!("one starts with {} elements, at most {limit} are allowed", table.initial);
        return Err(Refusal::TableLimit { message });
    }
    Ok(())
}

fn memory_bytes(memory: &MemoryType) -> MemoryBytes {
    MemoryBytes {
        minimum: memory.initial.saturating_mul(PAGE_BYTES),
        maximum: memory.maximum.map(|pages| pages.saturating_mul(PAGE_BYTES)),
    }
}

/// The module's own name. A broken name section is no reason to refuse: it is only for people.
fn module_name(names: NameSectionReader<'_>) -> Option<String> {
    for name in names {
        if let Name::Module { name, .. } = name.ok()? {
            return Some(printable(name));
        }
    }
    None
}
