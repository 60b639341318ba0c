//! How a component wires its core modules to each other and to the host.
//!
//! The write barrier lives inside the core modules, so it has to know where the host reaches into
//! them: which exports are named as `realloc` (the host writes to what they return), which exports
//! the host enters, and how large the results are that the host stores for the functions that the
//! component imports.

use std::collections::{BTreeSet, HashMap};

use wasmparser::types::TypesRef;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentOuterAliasKind, ComponentType,
    ExternalKind, Instance, Payload,
};

use super::canonical::ResultAreas;
use super::{CoreModule, Refusal};

/// What the write barrier must know of the wiring.
#[derive(Clone, Debug, Default)]
pub(in crate::pure) struct Wiring {
    /// Indices of the core modules in the order in which they are instantiated.
    pub(in crate::pure) instantiated: Vec<u32>,
    /// For each core module, in their order, what the host does with it.
    pub(in crate::pure) uses: Vec<ModuleUse>,
    /// Bytes of the largest result that the host stores for an imported function.
    pub(in crate::pure) result_area_bytes: u32,
}

/// What the host does with one core module.
#[derive(Clone, Debug, Default)]
pub(in crate::pure) struct ModuleUse {
    /// True when the host calls one of its exports.
    pub(in crate::pure) entered: bool,
    /// Names of the exports whose results the host writes to.
    pub(in crate::pure) reallocs: BTreeSet<String>,
}

/// Where a core function of the component comes from. That is found out once, when it gets its
/// index: what it is made of is older than itself.
#[derive(Clone, Copy, Debug)]
enum CoreFunction {
    /// The host: a lowered or built-in function.
    Host,
    /// An export of a core module, whose name is at this place among the names.
    Export { module: u32, name: usize },
}

/// What a core instance is made of.
#[derive(Clone, Debug)]
enum CoreInstance {
    Module(u32),
    /// Functions by name; other kinds of items don't matter here.
    Functions(HashMap<String, CoreFunction>),
}

/// Collects the wiring while the component's sections go by.
#[derive(Debug, Default)]
pub(super) struct WiringReader {
    functions: Vec<CoreFunction>,
    /// Names of exports of modules.
    names: Vec<String>,
    instances: Vec<CoreInstance>,
    /// Functions that the host enters, with the offset where that is said.
    entries: Vec<(u32, usize)>,
    /// Functions that an option names as `realloc`, likewise.
    reallocs: Vec<(u32, usize)>,
    areas: ResultAreas,
    result_area_bytes: u64,
    /// Names and functions that were looked at.
    pub(super) steps: usize,
}

impl WiringReader {
    /// Takes in a section of the outermost component that the validator has accepted.
    pub(super) fn section(
        &mut self,
        payload: &Payload<'_>,
        types: TypesRef<'_>,
    ) -> Result<(), Refusal> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    self.instance(&instance?);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for item in section.clone().into_iter_with_offsets() {
                    let (offset, alias) = item?;
                    self.alias(&alias, offset)?;
                }
            }
            Payload::ComponentTypeSection(section) => {
                for item in section.clone().into_iter_with_offsets() {
                    let (offset, ty) = item?;
                    // Its handles would be in a table that no image holds.
                    if let ComponentType::Resource { .. } = ty {
                        let what = "a resource type of the guest's own";
                        return Err(Refusal::snapshot_unsafe(what, offset));
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for item in section.clone().into_iter_with_offsets() {
                    let (offset, function) = item?;
                    self.steps += 1;
                    self.canonical(&function, offset, types)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn instance(&mut self, instance: &Instance<'_>) {
        let instance = match instance {
            Instance::Instantiate { module_index, .. } => CoreInstance::Module(*module_index),
            Instance::FromExports(exports) => {
                self.steps += exports.len();
                let functions = exports.iter().filter(|export| export.kind == ExternalKind::Func);
                let known = functions.filter_map(|export| {
                    let function = item(&self.functions, export.index)?;
                    Some((export.name.to_owned(), *function))
                });
                CoreInstance::Functions(known.collect())
            }
        };
        self.instances.push(instance);
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>, offset: usize) -> Result<(), Refusal> {
        match alias {
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Func,
                instance_index,
                name,
            } => {
                self.steps += 1;
                let function = match item(&self.instances, *instance_index) {
                    Some(CoreInstance::Module(module)) => {
                        self.names.push((*name).to_owned());
                        CoreFunction::Export { module: *module, name: self.names.len() - 1 }
                    }
                    Some(CoreInstance::Functions(functions)) => {
                        functions.get(*name).copied().unwrap_or(CoreFunction::Host)
                    }
                    None => CoreFunction::Host,
                };
                self.functions.push(function);
                Ok(())
            }
            ComponentAlias::InstanceExport {
                kind: wasmparser::ComponentExternalKind::Module,
                ..
            }
            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => {
                Err(Refusal::nested("a core module is taken from another component", offset))
            }
            _ => Ok(()),
        }
    }

    fn canonical(
        &mut self,
        function: &CanonicalFunction,
        offset: usize,
        types: TypesRef<'_>,
    ) -> Result<(), Refusal> {
        match function {
            CanonicalFunction::Lift { core_func_index, options, .. } => {
                self.entries.push((*core_func_index, offset));
                self.options(options, offset)
            }
            CanonicalFunction::Lower { func_index, options } => {
                let ty = types.component_function_at(*func_index);
                let bytes = self.areas.bytes(types, ty).ok_or_else(|| Refusal::Feature {
                    feature: String::from("result type"),
                    message: String::from("a result that is nested too deeply or asynchronous"),
                    place: super::Place::at(offset),
                })?;
                self.result_area_bytes = self.result_area_bytes.max(bytes);
                self.functions.push(CoreFunction::Host);
                self.options(options, offset)
            }
            CanonicalFunction::ResourceDrop { .. } => {
                self.functions.push(CoreFunction::Host);
                Ok(())
            }
            // Only for a resource type of its own, which it can't have.
            CanonicalFunction::ResourceNew { .. } | CanonicalFunction::ResourceRep { .. } => {
                Err(Refusal::snapshot_unsafe("a handle of the guest's own making", offset))
            }
            // The validator refuses what is left, because it belongs to features that are off.
            // Should it learn to accept one, then the barrier has to learn what it writes first.
            _ => Err(Refusal::Feature {
                feature: String::from("cm_async"),
                message: String::from("a built-in function of the asynchronous canonical ABI"),
                place: super::Place::at(offset),
            }),
        }
    }

    fn options(&mut self, options: &[CanonicalOption], offset: usize) -> Result<(), Refusal> {
        for option in options {
            match option {
                CanonicalOption::UTF8
                | CanonicalOption::UTF16
                | CanonicalOption::CompactUTF16
                | CanonicalOption::Memory(_) => {}
                CanonicalOption::Realloc(function) => self.reallocs.push((*function, offset)),
                CanonicalOption::PostReturn(function) => self.entries.push((*function, offset)),
                CanonicalOption::Async
                | CanonicalOption::Callback(_)
                | CanonicalOption::CoreType(_)
                | CanonicalOption::Gc => {
                    return Err(Refusal::Feature {
                        feature: String::from("cm_async"),
                        message: String::from("an option of the asynchronous or GC canonical ABI"),
                        place: super::Place::at(offset),
                    });
                }
            }
        }
        Ok(())
    }

    /// Resolves what was collected, once all modules are known.
    pub(super) fn finish(self, modules: &[CoreModule]) -> Result<Wiring, Refusal> {
        let mut wiring = Wiring {
            uses: vec![ModuleUse::default(); modules.len()],
            result_area_bytes: u32::try_from(self.result_area_bytes).unwrap_or(u32::MAX),
            ..Wiring::default()
        };
        for instance in &self.instances {
            let CoreInstance::Module(module) = instance else { continue };
            if wiring.instantiated.contains(module) {
                return Err(Refusal::nested("a core module is instantiated twice", 0));
            }
            wiring.instantiated.push(*module);
        }
        for &(function, offset) in &self.entries {
            let (module, _) = self.resolve(function, offset)?;
            if let Some(usage) = wiring.usage(module) {
                usage.entered = true;
            }
        }
        for &(function, offset) in &self.reallocs {
            let (module, name) = self.resolve(function, offset)?;
            if let Some(usage) = wiring.usage(module) {
                usage.entered = true;
                usage.reallocs.insert(name.to_owned());
            }
        }
        Ok(wiring)
    }

    /// Finds the module and the name of its export behind a core function.
    fn resolve(&self, function: u32, offset: usize) -> Result<(u32, &str), Refusal> {
        match item(&self.functions, function) {
            Some(CoreFunction::Export { module, name }) => {
                Ok((*module, self.names.get(*name).map_or("", String::as_str)))
            }
            Some(CoreFunction::Host) | None => {
                Err(Refusal::nested("the host is told to call a core function of its own", offset))
            }
        }
    }
}

impl Wiring {
    fn usage(&mut self, module: u32) -> Option<&mut ModuleUse> {
        self.uses.get_mut(usize::try_from(module).ok()?)
    }
}

fn item<T>(items: &[T], index: u32) -> Option<&T> {
    items.get(usize::try_from(index).ok()?)
}
