//! How many bytes of a guest's memory the host writes for the result of an imported function.
//!
//! A result that doesn't fit one core value is stored at a pointer that the guest passes as the
//! last parameter. Size and alignment follow from the type by the rules of the canonical ABI.
//! Strings and lists are a pointer and a length in that area; their contents go where `realloc`
//! says, which is recorded there.

use std::collections::HashMap;

use wasmparser::PrimitiveValType;
use wasmparser::component_types::{
    ComponentDefinedType, ComponentDefinedTypeId, ComponentFuncTypeId, ComponentValType,
};
use wasmparser::types::TypesRef;

/// Types nested in each other. The recursion here is as deep.
const TYPE_NESTING_MAX: u32 = 100;

/// Size and alignment of a type in linear memory, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Extent {
    size: u64,
    align: u64,
}

/// Sizes of the types of one component.
#[derive(Debug, Default)]
pub(super) struct ResultAreas {
    known: HashMap<ComponentDefinedTypeId, Extent>,
}

impl ResultAreas {
    /// Bytes that the host stores at most for one result of `function`. `None` when its type is
    /// nested too deeply, or of a kind that needs a feature which is off.
    pub(super) fn bytes(
        &mut self,
        types: TypesRef<'_>,
        function: ComponentFuncTypeId,
    ) -> Option<u64> {
        let ty = types.get(function)?;
        match ty.result {
            Some(result) => Some(self.extent(types, result, 0)?.size),
            None => Some(0),
        }
    }

    fn extent(&mut self, types: TypesRef<'_>, ty: ComponentValType, depth: u32) -> Option<Extent> {
        let id = match ty {
            ComponentValType::Primitive(primitive) => return primitive_extent(primitive),
            ComponentValType::Type(id) => id,
        };
        if let Some(extent) = self.known.get(&id) {
            return Some(*extent);
        }
        if depth == TYPE_NESTING_MAX {
            return None;
        }
        let extent = self.defined_extent(types, types.get(id)?, depth + 1)?;
        self.known.insert(id, extent);
        Some(extent)
    }

    fn defined_extent(
        &mut self,
        types: TypesRef<'_>,
        ty: &ComponentDefinedType,
        depth: u32,
    ) -> Option<Extent> {
        match ty {
            ComponentDefinedType::Primitive(primitive) => primitive_extent(*primitive),
            ComponentDefinedType::Record(record) => {
                self.sequence(types, record.fields.values().copied(), depth)
            }
            ComponentDefinedType::Tuple(tuple) => {
                self.sequence(types, tuple.types.iter().copied(), depth)
            }
            ComponentDefinedType::Variant(variant) => {
                self.choice(types, variant.cases.values().map(|case| case.ty), depth)
            }
            ComponentDefinedType::Option { ty, .. } => {
                self.choice(types, [None, Some(*ty)].into_iter(), depth)
            }
            ComponentDefinedType::Result { ok, err, .. } => {
                self.choice(types, [*ok, *err].into_iter(), depth)
            }
            ComponentDefinedType::Enum(cases) => Some(discriminant(cases.len())),
            ComponentDefinedType::Flags(flags) => Some(flags_extent(flags.len())),
            ComponentDefinedType::List { .. } | ComponentDefinedType::Map { .. } => {
                Some(Extent { size: 8, align: 4 })
            }
            ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => {
                Some(Extent { size: 4, align: 4 })
            }
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                let element = self.extent(types, *element, depth)?;
                let size = element.size.saturating_mul(u64::from(*length));
                Some(Extent { size, align: element.align })
            }
            ComponentDefinedType::Future { .. } | ComponentDefinedType::Stream { .. } => None,
        }
    }

    fn sequence(
        &mut self,
        types: TypesRef<'_>,
        fields: impl Iterator<Item = ComponentValType>,
        depth: u32,
    ) -> Option<Extent> {
        let mut total = Extent { size: 0, align: 1 };
        for field in fields {
            let field = self.extent(types, field, depth)?;
            total.size = align_to(total.size, field.align).saturating_add(field.size);
            total.align = total.align.max(field.align);
        }
        Some(Extent { size: align_to(total.size, total.align), align: total.align })
    }

    fn choice(
        &mut self,
        types: TypesRef<'_>,
        cases: impl ExactSizeIterator<Item = Option<ComponentValType>>,
        depth: u32,
    ) -> Option<Extent> {
        let tag = discriminant(cases.len());
        let mut payload = Extent { size: 0, align: 1 };
        for case in cases.flatten() {
            let case = self.extent(types, case, depth)?;
            payload.size = payload.size.max(case.size);
            payload.align = payload.align.max(case.align);
        }
        let align = tag.align.max(payload.align);
        let size = align_to(tag.size, payload.align).saturating_add(payload.size);
        Some(Extent { size: align_to(size, align), align })
    }
}

fn primitive_extent(ty: PrimitiveValType) -> Option<Extent> {
    let (size, align) = match ty {
        PrimitiveValType::Bool | PrimitiveValType::S8 | PrimitiveValType::U8 => (1, 1),
        PrimitiveValType::S16 | PrimitiveValType::U16 => (2, 2),
        PrimitiveValType::S32
        | PrimitiveValType::U32
        | PrimitiveValType::F32
        | PrimitiveValType::Char => (4, 4),
        PrimitiveValType::S64 | PrimitiveValType::U64 | PrimitiveValType::F64 => (8, 8),
        PrimitiveValType::String => (8, 4),
        PrimitiveValType::ErrorContext => return None,
    };
    Some(Extent { size, align })
}

fn discriminant(cases: usize) -> Extent {
    let size = match cases {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    };
    Extent { size, align: size }
}

fn flags_extent(flags: usize) -> Extent {
    let words = u64::try_from(flags.div_ceil(32)).unwrap_or(u64::MAX);
    match flags {
        0 => Extent { size: 0, align: 1 },
        1..=8 => Extent { size: 1, align: 1 },
        9..=16 => Extent { size: 2, align: 2 },
        _ => Extent { size: words.saturating_mul(4), align: 4 },
    }
}

fn align_to(size: u64, align: u64) -> u64 {
    size.checked_next_multiple_of(align).unwrap_or(u64::MAX)
}
