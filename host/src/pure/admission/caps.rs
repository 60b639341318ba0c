//! What a component may be at most, checked before anything is allocated or compiled for it.

use wasmparser::{
    ComponentInstance, ComponentType, ComponentTypeDeclaration, Instance, InstanceTypeDeclaration,
    Payload,
};

use super::Refusal;

/// Bounds on a component, each with its unit.
///
/// They bound the work and the memory of everything that comes after them: validation, the barrier,
/// the compiler. Real guests (Rust, C, and interpreters of Python and JavaScript compiled to
/// WebAssembly) stay below a quarter of each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caps {
    /// Bytes of the whole component. Interpreters with their library are about 40 MiB.
    pub component_bytes_max: u64,
    /// Bytes of all custom sections: names and debug information, which are dropped or only read
    /// for backtraces. A debug build of a large Rust program stays below it.
    pub custom_bytes_max: u64,
    /// Core modules. Toolchains make up to about ten: the program, adapters, shims.
    pub core_modules_max: u64,
    /// Entries of all component-level sections: types, instances, aliases, canonical functions; and
    /// what these consist of. Some take time by how many others there are, so that the time grows
    /// with the square of this.
    pub component_items_max: u64,
    /// Components nested in each other. Toolchains make one level.
    pub component_nesting_max: u64,
    /// Types of one core module.
    pub types_max: u64,
    /// Imports of one core module.
    pub imports_max: u64,
    /// Exports of one core module.
    pub exports_max: u64,
    /// Functions of one core module. The largest interpreters have some 30,000.
    pub functions_max: u64,
    /// Globals of one core module. The moved ones share one 64 KiB state area, 16 bytes each.
    pub globals_max: u64,
    /// Data and element segments of one core module, each.
    pub segments_max: u64,
    /// Bytes of one function's body. Compilers take more than linear time in it; the largest
    /// interpreter loops have some 200 KB.
    pub function_bytes_max: u64,
    /// Locals of one function, parameters included.
    pub locals_max: u64,
    /// Locals of all functions of one core module: a few bytes declare many.
    pub module_locals_max: u64,
    /// Blocks nested in each other. A `switch` with n cases is n nested blocks.
    pub nesting_max: u64,
    /// Blocks in one function: a compiler's time grows faster than their number.
    pub blocks_max: u64,
    /// Targets of all branch tables of one function.
    pub branch_targets_max: u64,
    /// Bytes of linear memory that a guest may ask for at its start. The write barrier needs the
    /// last page of the 4 GiB to stay free.
    pub memory_bytes_max: u64,
    /// Tables of the whole component.
    pub tables_max: u64,
    /// Elements of all tables of the component at its start.
    pub table_elements_max: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            component_bytes_max: 64 << 20,
            custom_bytes_max: 32 << 20,
            core_modules_max: 32,
            component_items_max: 50_000,
            component_nesting_max: 8,
            types_max: 10_000,
            imports_max: 5_000,
            exports_max: 20_000,
            functions_max: 200_000,
            globals_max: 4_000,
            segments_max: 50_000,
            function_bytes_max: 1 << 20,
            locals_max: 10_000,
            module_locals_max: 10_000_000,
            nesting_max: 2_000,
            blocks_max: 10_000,
            branch_targets_max: 50_000,
            memory_bytes_max: (4 << 30) - (64 << 10),
            tables_max: 16,
            table_elements_max: 100_000,
        }
    }
}

/// What the sections seen so far add up to, over the whole component.
#[derive(Debug, Default)]
pub(super) struct Totals {
    custom_bytes: u64,
    core_modules: u64,
    component_items: u64,
}

impl Totals {
    /// Refuses a section by what its header claims, before its items are read.
    pub(super) fn check(&mut self, payload: &Payload<'_>, caps: &Caps) -> Result<(), Refusal> {
        match payload {
            Payload::CustomSection(section) => {
                self.custom_bytes += byte_count(section.data().len());
                within("bytes of custom sections", self.custom_bytes, caps.custom_bytes_max)
            }
            Payload::ModuleSection { .. } => {
                self.core_modules += 1;
                within("core modules", self.core_modules, caps.core_modules_max)
            }
            Payload::TypeSection(section) => within("types", section.count(), caps.types_max),
            Payload::ImportSection(section) => within("imports", section.count(), caps.imports_max),
            Payload::ExportSection(section) => within("exports", section.count(), caps.exports_max),
            Payload::FunctionSection(section) => {
                within("functions", section.count(), caps.functions_max)
            }
            Payload::GlobalSection(section) => within("globals", section.count(), caps.globals_max),
            Payload::TableSection(section) => {
                if u64::from(section.count()) > caps.tables_max {
                    return Err(Refusal::TableLimit {
                        message: format!(
                            "{} tables, at most {} are allowed",
                            section.count(),
                            caps.tables_max
                        ),
                    });
                }
                Ok(())
            }
            Payload::ElementSection(section) => {
                within("element segments", section.count(), caps.segments_max)
            }
            Payload::DataSection(section) => {
                within("data segments", section.count(), caps.segments_max)
            }
            Payload::CodeSectionEntry(body) => {
                let bytes = byte_count(body.as_bytes().len());
                if bytes > caps.function_bytes_max {
                    return Err(Refusal::function_limit(
                        "bytes of code",
                        bytes,
                        caps.function_bytes_max,
                        body.range().start,
                    ));
                }
                Ok(())
            }
            other => self.check_component_section(other, caps),
        }
    }

    fn check_component_section(
        &mut self,
        payload: &Payload<'_>,
        caps: &Caps,
    ) -> Result<(), Refusal> {
        let count = match payload {
            Payload::InstanceSection(section) => section.count(),
            Payload::CoreTypeSection(section) => section.count(),
            Payload::ComponentInstanceSection(section) => section.count(),
            Payload::ComponentAliasSection(section) => section.count(),
            Payload::ComponentTypeSection(section) => section.count(),
            Payload::ComponentCanonicalSection(section) => section.count(),
            Payload::ComponentImportSection(section) => section.count(),
            Payload::ComponentExportSection(section) => section.count(),
            Payload::ComponentSection { .. } => 1,
            _ => return Ok(()),
        };
        self.items(count.into(), caps)?;
        // What they claim is in bounds: now what they consist of.
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    self.items(parts_of_core_instance(&instance?), caps)?;
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    self.items(parts_of_instance(&instance?), caps)?;
                }
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone() {
                    self.items(parts_of_type(&ty?), caps)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn items(&mut self, count: u64, caps: &Caps) -> Result<(), Refusal> {
        self.component_items = self.component_items.saturating_add(count);
        within("component-level items", self.component_items, caps.component_items_max)
    }
}

fn parts_of_core_instance(instance: &Instance<'_>) -> u64 {
    byte_count(match instance {
        Instance::Instantiate { args, .. } => args.len(),
        Instance::FromExports(exports) => exports.len(),
    })
}

fn parts_of_instance(instance: &ComponentInstance<'_>) -> u64 {
    byte_count(match instance {
        ComponentInstance::Instantiate { args, .. } => args.len(),
        ComponentInstance::FromExports(exports) => exports.len(),
    })
}

/// Declarations, with those of the types in them. The parser bounds how deep that goes.
fn parts_of_type(ty: &ComponentType<'_>) -> u64 {
    let nested = |ty: &ComponentType<'_>| parts_of_type(ty).saturating_add(1);
    match ty {
        ComponentType::Component(declarations) => declarations
            .iter()
            .map(|declaration| match declaration {
                ComponentTypeDeclaration::Type(ty) => nested(ty),
                _ => 1,
            })
            .fold(0, u64::saturating_add),
        ComponentType::Instance(declarations) => declarations
            .iter()
            .map(|declaration| match declaration {
                InstanceTypeDeclaration::Type(ty) => nested(ty),
                _ => 1,
            })
            .fold(0, u64::saturating_add),
        ComponentType::Defined(_) | ComponentType::Func(_) | ComponentType::Resource { .. } => 0,
    }
}

/// Refuses more than `limit` of `what`.
pub(super) fn within(what: &'static str, found: impl Into<u64>, limit: u64) -> Result<(), Refusal> {
    let found = found.into();
    if found > limit { Err(Refusal::TooLarge { what, found, limit }) } else { Ok(()) }
}

/// A length as the 64-bit number that limits are compared in.
pub(super) fn byte_count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
