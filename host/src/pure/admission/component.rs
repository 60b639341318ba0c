//! The walk over a component's sections.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{
    ComponentTypeRef, Encoding, FuncToValidate, FuncValidatorAllocations, FunctionBody,
    KnownCustom, Name, Parser, Payload, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use super::caps::{Totals, byte_count, within};
use super::module::ModuleReader;
use super::wiring::WiringReader;
use super::{Caps, CoreModule, FEATURES, MemoryBytes, Place, Refusal, Wiring, World, printable};

/// Features whose absence the validator reports like any other mistake.
const FEATURES_TO_TRY: [(&str, WasmFeatures); 1] = [("multi_memory", WasmFeatures::MULTI_MEMORY)];

/// What each file of WebAssembly begins with.
pub const MAGIC: &[u8] = b"\0asm";

/// A component that was admitted, with what `host inspect` shows of it.
#[derive(Clone, Debug)]
pub struct Admitted<'a> {
    /// The component itself.
    pub bytes: &'a [u8],
    /// What it imports.
    pub imports: Vec<ImportedInterface>,
    /// Names of what it exports, escaped.
    pub exports: Vec<String>,
    /// Its core modules, in their order.
    pub modules: Vec<CoreModule>,
    /// Its linear memory; the default is none.
    pub memory: MemoryBytes,
    /// Its tables.
    pub tables: u64,
    /// Elements of all its tables at the start.
    pub table_elements: u64,
    /// Bytes of all data segments.
    pub data_bytes: u64,
    /// Bytes of all custom sections.
    pub custom_bytes: u64,
    /// Steps that finding out about the wiring took, besides reading each section: never more than
    /// there are bytes.
    pub steps: usize,
    pub(in crate::pure) wiring: Wiring,
}

/// One interface that a component imports.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ImportedInterface {
    /// Its name with version, escaped.
    pub name: String,
    /// Names of its functions, escaped.
    pub functions: Vec<String>,
}

/// Admits the component `bytes`, or says why not.
///
/// # Errors
///
/// The first [`Refusal`] in the order of the bytes.
pub fn admit<'a>(bytes: &'a [u8], caps: &Caps, world: &World) -> Result<Admitted<'a>, Refusal> {
    check_kind(bytes)?;
    within("bytes", byte_count(bytes.len()), caps.component_bytes_max)?;
    if !bytes.starts_with(MAGIC) {
        let message = "it does not begin with the four bytes that mark WebAssembly".to_owned();
        return Err(Refusal::Invalid { place: Place::at(0), message });
    }
    let mut reader = ComponentReader::new(caps, world, Levels::default());
    match reader.read(bytes).and_then(|()| reader.finish(bytes)) {
        Ok(admitted) => Ok(admitted),
        Err(refusal) => Err(reader.explain(refusal, bytes)),
    }
}

/// Examines one core module alone, as if it were the first of a component.
pub(in crate::pure) fn admit_module(bytes: &[u8], caps: &Caps) -> Result<CoreModule, Refusal> {
    within("bytes", byte_count(bytes.len()), caps.component_bytes_max)?;
    let module = ModuleReader::new(0, 0..bytes.len(), caps);
    let mut reader =
        ComponentReader::new(caps, &World::ANY, Levels { module: Some(module), nested: 0 });
    reader.read(bytes).map_err(|refusal| reader.explain(refusal, bytes))?;
    let invalid = Refusal::Invalid { place: Place::at(0), message: String::from("no module") };
    reader.modules.pop().ok_or(invalid)
}

/// Validates a component or module under the given features.
pub(in crate::pure) fn validate(bytes: &[u8], features: WasmFeatures) -> Result<(), Refusal> {
    Validator::new_with_features(features).validate_all(bytes)?;
    Ok(())
}

/// Names the kinds of files that people upload by mistake.
fn check_kind(bytes: &[u8]) -> Result<(), Refusal> {
    let found = if Parser::is_core_wasm(bytes) {
        "a core WebAssembly module"
    } else if bytes.starts_with(b"\x7fELF") {
        "an ELF file, perhaps precompiled code"
    } else {
        return Ok(());
    };
    Err(Refusal::NotAComponent { found })
}

/// What encloses the section at hand.
#[derive(Debug, Default)]
struct Levels<'c> {
    /// The core module, if it is in one.
    module: Option<ModuleReader<'c>>,
    /// Components around it, not counting the outermost.
    nested: u64,
}

struct ComponentReader<'c> {
    caps: &'c Caps,
    world: &'c World,
    validator: Validator,
    allocations: FuncValidatorAllocations,
    totals: Totals,
    levels: Levels<'c>,
    wiring: WiringReader,
    modules: Vec<CoreModule>,
    imports: Vec<ImportedInterface>,
    /// Functions of these.
    functions: u64,
    exports: Vec<String>,
    custom_bytes: u64,
}

impl<'c> ComponentReader<'c> {
    fn new(caps: &'c Caps, world: &'c World, levels: Levels<'c>) -> Self {
        Self {
            caps,
            world,
            validator: Validator::new_with_features(FEATURES),
            allocations: FuncValidatorAllocations::default(),
            totals: Totals::default(),
            levels,
            wiring: WiringReader::default(),
            modules: Vec::new(),
            imports: Vec::new(),
            functions: 0,
            exports: Vec::new(),
            custom_bytes: 0,
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut parser = Parser::new(0);
        parser.set_features(FEATURES);
        for payload in parser.parse_all(bytes) {
            let payload = payload?;
            self.totals.check(&payload, self.caps)?;
            if let Some(module) = &self.levels.module {
                module.before_validation(&payload)?;
            }
            match self.validator.payload(&payload)? {
                ValidPayload::Func(function, body) => self.body(function, &body)?,
                _ => self.section(&payload)?,
            }
        }
        Ok(())
    }

    fn body(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(), Refusal> {
        let Some(module) = &mut self.levels.module else { return Ok(()) };
        let mut facts = module.begin_body(body)?;
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        let mut reader = body.get_binary_reader();
        reader.set_features(FEATURES);
        validator.read_locals(&mut reader)?;
        let mut operators = wasmparser::OperatorsReader::new(reader);
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            module.operator(&mut facts, &operator, offset)?;
            validator.op(offset, &operator)?;
        }
        operators.finish()?;
        module.finish_body(&facts);
        self.allocations = validator.into_allocations();
        Ok(())
    }

    fn section(&mut self, payload: &Payload<'_>) -> Result<(), Refusal> {
        if let Payload::CustomSection(section) = payload {
            self.custom_bytes += byte_count(section.data().len());
        }
        if let Some(module) = &mut self.levels.module {
            if let Payload::End(_) = payload {
                let module = self.levels.module.take().map(ModuleReader::finish);
                self.modules.extend(module);
                return Ok(());
            }
            return module.after_validation(payload);
        }
        if let Payload::Version { encoding: Encoding::Module, .. } = payload {
            return Err(Refusal::NotAComponent { found: "a core WebAssembly module" });
        }
        if self.levels.nested > 0 { self.nested(payload) } else { self.outermost(payload) }
    }

    fn outermost(&mut self, payload: &Payload<'_>) -> Result<(), Refusal> {
        match payload {
            Payload::ModuleSection { unchecked_range, .. } => {
                let index = u32::try_from(self.modules.len()).unwrap_or(u32::MAX);
                let module = ModuleReader::new(index, unchecked_range.clone(), self.caps);
                self.levels.module = Some(module);
            }
            Payload::ComponentSection { .. } => self.levels.nested = 1,
            Payload::ComponentImportSection(section) => {
                for item in section.clone().into_iter_with_offsets() {
                    let (offset, import) = item?;
                    if let ComponentTypeRef::Module(_) = import.ty {
                        return Err(Refusal::nested("a core module is imported", offset));
                    }
                    self.world.check_import(&import)?;
                    // The rest are the world's own types: names for types of these interfaces.
                    if let ComponentTypeRef::Instance(_) = import.ty
                        && let Some(types) = self.validator.types(0)
                    {
                        let interface = imported_interface(types, import.name.name);
                        // Interfaces of one type list its functions again and again.
                        self.functions += byte_count(interface.functions.len());
                        let limit = self.caps.component_items_max;
                        within("imported functions", self.functions, limit)?;
                        self.imports.push(interface);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.exports.push(printable(export?.name.name));
                }
            }
            Payload::ComponentStartSection { range, .. } => {
                return Err(Refusal::nested("the component has a start function", range.start));
            }
            other => {
                if let Some(types) = self.validator.types(0) {
                    self.wiring.section(other, types)?;
                }
            }
        }
        Ok(())
    }

    /// A nested component may rename and re-export, but hold no core code.
    fn nested(&mut self, payload: &Payload<'_>) -> Result<(), Refusal> {
        let (what, range): (_, Range<usize>) = match payload {
            Payload::ComponentSection { .. } => {
                self.levels.nested += 1;
                let limit = self.caps.component_nesting_max;
                within("nested components", self.levels.nested, limit)?;
                return Ok(());
            }
            Payload::End(_) => {
                self.levels.nested -= 1;
                return Ok(());
            }
            Payload::ModuleSection { unchecked_range, .. } => {
                ("a nested component holds a core module", unchecked_range.clone())
            }
            Payload::InstanceSection(section) => {
                ("a nested component instantiates a core module", section.range())
            }
            Payload::ComponentCanonicalSection(section) => {
                ("a nested component lifts or lowers a function", section.range())
            }
            Payload::ComponentStartSection { range, .. } => {
                ("a nested component has a start function", range.clone())
            }
            _ => return Ok(()),
        };
        Err(Refusal::nested(what, range.start))
    }

    fn finish<'a>(&mut self, bytes: &'a [u8]) -> Result<Admitted<'a>, Refusal> {
        self.world.check_exports(&self.exports)?;
        let wiring = std::mem::take(&mut self.wiring);
        let steps = wiring.steps;
        let wiring = wiring.finish(&self.modules)?;
        let mut admitted = Admitted {
            bytes,
            imports: std::mem::take(&mut self.imports),
            exports: std::mem::take(&mut self.exports),
            modules: std::mem::take(&mut self.modules),
            memory: MemoryBytes::default(),
            tables: 0,
            table_elements: 0,
            data_bytes: 0,
            custom_bytes: self.custom_bytes,
            steps,
            wiring,
        };
        let mut memories = 0_u32;
        for module in &admitted.modules {
            if let Some(memory) = module.memory {
                memories += 1;
                admitted.memory = memory;
            }
            admitted.tables += u64::from(module.tables);
            admitted.table_elements = admitted.table_elements.saturating_add(module.table_elements);
            admitted.data_bytes += module.data_bytes;
        }
        if memories > 1 {
            let message = format!("{memories} are defined, one can be restored; link into one");
            return Err(Refusal::MemoryLimit { message });
        }
        check_tables(&admitted, self.caps)?;
        Ok(admitted)
    }

    /// Adds to a refusal in which module and function it was, and which feature would have helped.
    fn explain(&self, refusal: Refusal, bytes: &[u8]) -> Refusal {
        let refusal = name_feature(refusal, bytes);
        let Some(module) = &self.levels.module else { return refusal };
        refusal.with_place(|place| {
            module.complete(place);
            place.function_name =
                place.function.and_then(|function| function_name(bytes, module.start(), function));
        })
    }
}

/// The validator doesn't always say that a feature is missing. Then trying tells.
fn name_feature(refusal: Refusal, bytes: &[u8]) -> Refusal {
    let Refusal::Invalid { place, message } = refusal else { return refusal };
    for (name, feature) in FEATURES_TO_TRY {
        if validate(bytes, FEATURES.union(feature)).is_ok() {
            return Refusal::Feature { feature: name.to_owned(), message, place };
        }
    }
    Refusal::Invalid { place, message }
}

fn check_tables(admitted: &Admitted<'_>, caps: &Caps) -> Result<(), Refusal> {
    let message = if admitted.tables > caps.tables_max {
        format!("{} in all, at most {} are allowed", admitted.tables, caps.tables_max)
    } else if admitted.table_elements > caps.table_elements_max {
        format!(
            "they start with {} elements, at most {} are allowed",
            admitted.table_elements, caps.table_elements_max
        )
    } else {
        return Ok(());
    };
    Err(Refusal::TableLimit { message })
}

fn imported_interface(types: TypesRef<'_>, name: &str) -> ImportedInterface {
    let mut functions = Vec::new();
    if let Some(item) = types.component_item_for_import(name)
        && let ComponentEntityType::Instance(instance) = item.ty
        && let Some(instance) = types.get(instance)
    {
        for (name, item) in &instance.exports {
            if let ComponentEntityType::Func(_) = item.ty {
                functions.push(printable(name));
            }
        }
    }
    ImportedInterface { name: printable(name), functions }
}

/// Reads a function's name from the module that starts at `start`. Only for messages: whatever is
/// broken in the names is passed over.
fn function_name(bytes: &[u8], start: usize, function: u32) -> Option<String> {
    for payload in Parser::new(0).parse_all(bytes.get(start..)?) {
        let section = match payload.ok()? {
            Payload::CustomSection(section) => section,
            Payload::End(_) => return None,
            _ => continue,
        };
        let KnownCustom::Name(subsections) = section.as_known() else { continue };
        for subsection in subsections {
            let Name::Function(functions) = subsection.ok()? else { continue };
            for naming in functions {
                let naming = naming.ok()?;
                if naming.index == function {
                    return Some(printable(naming.name));
                }
            }
        }
    }
    None
}
