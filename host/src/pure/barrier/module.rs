//! Puts a rewritten core module together.

use std::borrow::Cow;
use std::collections::HashMap;

use wasm_encoder::reencode::{Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, DataCountSection, DataSection, ElementSection,
    ExportKind, ExportSection, FunctionSection, GlobalSection, GlobalType, ImportSection,
    MemorySection, MemoryType, Module, StartSection, TableSection, TypeSection, ValType,
};
use wasmparser::{DataKind, ExternalKind};

use super::body;
use super::helpers::{guarded_start, import_wrapper, mark_range, realloc_wrapper};
use super::plan::{Common, Plan};
use super::source::{Source, index};
use super::{CONTROL_EXPORT, DATA_PAGES_MAX, RewriteError};
use crate::pure::admission::ModuleUse;

/// Rewrites a core module. Returns its bytes and the used bytes of its state area.
pub(super) fn rewrite(
    bytes: &[u8],
    usage: &ModuleUse,
    common: Common<'_>,
) -> Result<(Vec<u8>, u32), RewriteError> {
    let source = Source::read(bytes)?;
    let plan = Plan::new(&source, usage, common)?;
    let mut module = Module::new();
    definitions(&mut module, &source, &plan)?;
    module.section(&StartSection { function_index: plan.start });
    if let Some(elements) = &source.elements {
        let mut section = ElementSection::new();
        (&plan).parse_element_section(&mut section, elements.clone())?;
        module.section(&section);
    }
    let segments = index(source.data.len())? + u32::from(plan.empty_segment.is_some());
    module.section(&DataCountSection { count: segments });
    module.section(&code(&source, &plan)?);
    module.section(&data(&source, &plan));
    if let Some(names) = &source.names {
        // Names are only for people: a broken section stays as it is.
        match names.reader().and_then(|reader| (&plan).custom_name_section(reader).ok()) {
            Some(names) => module.section(&names),
            None => {
                let data = Cow::Borrowed(names.as_bytes());
                module.section(&CustomSection { name: "name".into(), data })
            }
        };
    }
    Ok((module.finish(), plan.state_bytes))
}

/// The sections before the code.
fn definitions(
    module: &mut Module,
    source: &Source<'_>,
    plan: &Plan<'_>,
) -> Result<(), RewriteError> {
    let mut reencoder = plan;
    let mut types = TypeSection::new();
    if let Some(section) = &source.type_section {
        reencoder.parse_type_section(&mut types, section.clone())?;
    }
    types.ty().function([ValType::I32, ValType::I32], []);
    types.ty().function([], []);
    module.section(&types);
    if let Some(section) = &source.imports {
        let mut imports = ImportSection::new();
        reencoder.parse_import_section(&mut imports, section.clone())?;
        module.section(&imports);
    }
    module.section(&functions(source, plan)?);
    if let Some(section) = &source.tables {
        let mut tables = TableSection::new();
        reencoder.parse_table_section(&mut tables, section.clone())?;
        module.section(&tables);
    }
    let mut memories = MemorySection::new();
    if let Some(section) = &source.memories {
        for memory in section.clone() {
            let mut memory = reencoder.memory_type(memory?)?;
            let maximum = memory.maximum.unwrap_or(DATA_PAGES_MAX);
            memory.maximum = Some(maximum.min(DATA_PAGES_MAX));
            memories.memory(memory);
        }
    }
    memories.memory(MemoryType {
        minimum: plan.common.control_pages,
        maximum: Some(plan.common.control_pages),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    module.section(&memories);
    module.section(&globals(source, plan)?);
    module.section(&exports(source, plan)?);
    Ok(())
}

/// The types of the guest's functions and of the added ones, in the order of [`code`].
fn functions(source: &Source<'_>, plan: &Plan<'_>) -> Result<FunctionSection, RewriteError> {
    let mut functions = FunctionSection::new();
    let imported = usize::try_from(source.imported_functions).map_err(RewriteError::bug)?;
    for &ty in source.functions.iter().skip(imported) {
        functions.function(ty);
    }
    functions.function(plan.range_type);
    functions.function(plan.start_type);
    for &import in plan.imports.keys() {
        functions.function(source.function_type(import)?);
    }
    // The wrapped one may itself be a wrapper, of an import: then its type is the import's.
    let wrapped: HashMap<u32, u32> =
        plan.imports.iter().map(|(import, wrapper)| (*wrapper, *import)).collect();
    for realloc in &plan.reallocs {
        let inner = wrapped.get(&realloc.inner).copied().unwrap_or(realloc.inner);
        functions.function(source.function_type(inner)?);
    }
    Ok(functions)
}

fn code(source: &Source<'_>, plan: &Plan<'_>) -> Result<CodeSection, RewriteError> {
    let mut code = CodeSection::new();
    for (position, body) in source.bodies.iter().enumerate() {
        let function = source.imported_functions + index(position)?;
        code.function(&body::rewrite(source, plan, function, body)?);
    }
    code.function(&mark_range(plan));
    code.function(&guarded_start(plan, source)?);
    for &import in plan.imports.keys() {
        code.function(&import_wrapper(plan, source, import)?);
    }
    for realloc in &plan.reallocs {
        code.function(&realloc_wrapper(plan, realloc));
    }
    Ok(code)
}

/// Immutable globals stay. Moved ones leave a constant behind, which nothing reads, so that the
/// indices of the others stay as they are.
fn globals(source: &Source<'_>, plan: &Plan<'_>) -> Result<GlobalSection, RewriteError> {
    let mut reencoder = plan;
    let mut globals = GlobalSection::new();
    for global in &source.globals {
        if !global.ty.mutable {
            utils::parse_global(&mut reencoder, &mut globals, global.clone())?;
            continue;
        }
        let val_type = reencoder.val_type(global.ty.content_type)?;
        let zero = match val_type {
            ValType::I64 => ConstExpr::i64_const(0),
            ValType::F32 => ConstExpr::f32_const(0.0.into()),
            ValType::F64 => ConstExpr::f64_const(0.0.into()),
            ValType::V128 => ConstExpr::v128_const(0),
            ValType::I32 | ValType::Ref(_) => ConstExpr::i32_const(0),
        };
        globals.global(GlobalType { val_type, mutable: false, shared: false }, &zero);
    }
    Ok(globals)
}

fn exports(source: &Source<'_>, plan: &Plan<'_>) -> Result<ExportSection, RewriteError> {
    let mut reencoder = plan;
    let mut exports = ExportSection::new();
    let wrappers: HashMap<&str, u32> =
        plan.reallocs.iter().map(|realloc| (realloc.name.as_str(), realloc.wrapper)).collect();
    if let Some(section) = &source.exports {
        for export in section.clone() {
            let export = export?;
            match wrappers.get(export.name) {
                Some(wrapper) if export.kind == ExternalKind::Func => {
                    exports.export(export.name, ExportKind::Func, *wrapper);
                }
                _ => utils::parse_export(&mut reencoder, &mut exports, export)?,
            }
        }
    }
    if plan.common.options.export_control {
        exports.export(CONTROL_EXPORT, ExportKind::Memory, plan.control);
    }
    Ok(exports)
}

/// All segments are passive: the guarded start writes those that were active.
fn data(source: &Source<'_>, plan: &Plan<'_>) -> DataSection {
    let mut section = DataSection::new();
    for data in &source.data {
        match data.kind {
            DataKind::Active { .. } | DataKind::Passive => {
                section.passive(data.data.iter().copied());
            }
        }
    }
    if plan.empty_segment.is_some() {
        section.passive([]);
    }
    section
}

/// Copies a module that needs no barrier, without the custom sections that nothing reads.
pub(super) fn strip(bytes: &[u8]) -> Result<Vec<u8>, RewriteError> {
    let mut module = Module::new();
    let mut code = None;
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let wasmparser::Payload::CustomSection(section) = &payload
            && section.name() != "name"
        {
            continue;
        }
        let Some((id, range)) = payload.as_section() else { continue };
        // The code section shows up as a whole and then again body by body.
        if code.as_ref().is_some_and(|code: &std::ops::Range<usize>| code.contains(&range.start)) {
            continue;
        }
        if let wasmparser::Payload::CodeSectionStart { range, .. } = &payload {
            code = Some(range.clone());
        }
        let data = bytes.get(range).ok_or_else(|| RewriteError::bug("a section out of bounds"))?;
        module.section(&wasm_encoder::RawSection { id, data });
    }
    Ok(module.finish())
}
