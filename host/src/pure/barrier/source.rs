//! A core module taken apart into what the rewriting needs.

use wasmparser::{
    CompositeInnerType, CustomSectionReader, Data, ElementSectionReader, ExportSectionReader,
    FuncType, FunctionBody, Global, ImportSectionReader, KnownCustom, MemorySectionReader,
    NameSectionReader, Parser, Payload, SubType, TableSectionReader, TypeRef, TypeSectionReader,
    ValType,
};

use super::RewriteError;

/// One core module. Sections that are copied keep their readers; the others are read.
#[derive(Default)]
pub(super) struct Source<'a> {
    pub(super) type_section: Option<TypeSectionReader<'a>>,
    pub(super) imports: Option<ImportSectionReader<'a>>,
    pub(super) tables: Option<TableSectionReader<'a>>,
    pub(super) memories: Option<MemorySectionReader<'a>>,
    pub(super) exports: Option<ExportSectionReader<'a>>,
    pub(super) elements: Option<ElementSectionReader<'a>>,
    pub(super) start: Option<u32>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    pub(super) data: Vec<Data<'a>>,
    pub(super) names: Option<Names<'a>>,
    /// Its types; all are of functions, other kinds need features that are off.
    pub(super) sub_types: Vec<SubType>,
    /// Types of all functions, imported ones first.
    pub(super) functions: Vec<u32>,
    pub(super) imported_functions: u32,
    pub(super) imported_globals: u32,
    /// The globals that it defines.
    pub(super) globals: Vec<Global<'a>>,
    pub(super) imports_memory: bool,
    /// True when its tables may hold functions that came from other modules by another way than
    /// its imports of functions, which are wrapped.
    pub(super) has_foreign_functions: bool,
}

impl<'a> Source<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, RewriteError> {
        let mut source = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            source.section(payload?)?;
        }
        Ok(source)
    }

    fn section(&mut self, payload: Payload<'a>) -> Result<(), RewriteError> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    self.sub_types.extend(group?.into_types());
                }
                self.type_section = Some(section);
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    self.import(import?.ty);
                }
                self.imports = Some(section);
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => self.tables = Some(section),
            Payload::MemorySection(section) => self.memories = Some(section),
            Payload::GlobalSection(section) => {
                for global in section {
                    self.globals.push(global?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    self.has_foreign_functions |= export?.kind == wasmparser::ExternalKind::Table;
                }
                self.exports = Some(section);
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => self.elements = Some(section),
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            Payload::DataSection(section) => {
                for data in section {
                    self.data.push(data?);
                }
            }
            Payload::CustomSection(section) if section.name() == "name" => {
                self.names = Some(Names(section));
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, ty: TypeRef) {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.functions.push(ty);
                self.imported_functions += 1;
            }
            TypeRef::Global(global) => {
                self.imported_globals += 1;
                // Its elements may take their values from it.
                self.has_foreign_functions |= matches!(global.content_type, ValType::Ref(_));
            }
            TypeRef::Memory(_) => self.imports_memory = true,
            TypeRef::Table(_) => self.has_foreign_functions = true,
            TypeRef::Tag(_) => {}
        }
    }

    /// Type of a function type's index.
    pub(super) fn ty(&self, index: u32) -> Result<&FuncType, RewriteError> {
        match &item(&self.sub_types, index)?.composite_type.inner {
            CompositeInnerType::Func(ty) => Ok(ty),
            _ => Err(RewriteError::bug("a type that is not of a function")),
        }
    }

    /// Index of the type of a function.
    pub(super) fn function_type(&self, function: u32) -> Result<u32, RewriteError> {
        item(&self.functions, function).copied()
    }

    /// True when the last parameter may be the address of a result area.
    pub(super) fn may_take_result_area(&self, ty: u32) -> Result<bool, RewriteError> {
        Ok(self.ty(ty)?.params().last() == Some(&ValType::I32))
    }

    /// True when it has a data memory, its own or an imported one. Its index is 0.
    pub(super) fn has_memory(&self) -> bool {
        self.imports_memory || self.memories.is_some()
    }
}

/// The name section: read lazily, and broken ones are no mistake.
#[derive(Clone)]
pub(super) struct Names<'a>(CustomSectionReader<'a>);

impl<'a> Names<'a> {
    pub(super) fn as_bytes(&self) -> &'a [u8] {
        self.0.data()
    }

    pub(super) fn reader(&self) -> Option<NameSectionReader<'a>> {
        match self.0.as_known() {
            KnownCustom::Name(reader) => Some(reader),
            _ => None,
        }
    }
}

/// The item at an index that validation has found to be in bounds.
pub(super) fn item<T>(items: &[T], index: u32) -> Result<&T, RewriteError> {
    usize::try_from(index)
        .ok()
        .and_then(|index| items.get(index))
        .ok_or_else(|| RewriteError::bug("an index out of bounds"))
}

/// A count as an index of WebAssembly.
pub(super) fn index(count: usize) -> Result<u32, RewriteError> {
    u32::try_from(count).map_err(RewriteError::bug)
}
