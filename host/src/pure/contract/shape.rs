//! JSON Schemas, compiled to what can be checked fast.
//!
//! Every schema becomes a node: for each kind of value, what of that kind fits. A union is the
//! node of all its alternatives together, so that a value's kind finds its alternative, and only
//! arrays and objects ever have several. Objects are told apart by a tag where they have one.

mod compile;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::base::error::printable;
use crate::base::limits::{
    EXPECTED_BYTES_MAX, SCHEMA_ALTERNATIVES_MAX, SCHEMA_NODES_MAX, VALUE_DEPTH_MAX,
};
use crate::pure::value::Whole;

/// The schema can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SchemaError {
    /// Not JSON.
    #[error("the schema is not JSON: {0}")]
    Json(String),
    /// Over the limit.
    #[error("the schema has {bytes} bytes; {} is the most", crate::base::limits::SCHEMA_BYTES_MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Nested too deep.
    #[error("the schema is nested deeper than {VALUE_DEPTH_MAX}")]
    TooDeep,
    /// Too many schemas in it.
    #[error("the schema consists of more than {SCHEMA_NODES_MAX} schemas")]
    TooLarge,
    /// Unions of too many alternatives, all together.
    #[error("the schema's unions have more than {SCHEMA_ALTERNATIVES_MAX} alternatives")]
    TooWide,
    /// A keyword with a value of another type than JSON Schema gives it.
    #[error("the schema's `{0}` can't be used")]
    Keyword(&'static str),
    /// A reference that leads nowhere.
    #[error("the schema's reference `{0}` leads nowhere")]
    Reference(String),
}

/// The place of a node.
pub(super) type Id = u32;

/// Anything fits.
pub(super) const ANY: Id = 0;
/// Nothing does.
pub(super) const NEVER: Id = 1;

/// What a value must look like, kind by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// Everything fits, whatever the rest says.
    pub(super) any: bool,
    pub(super) null: bool,
    /// The booleans that fit.
    pub(super) booleans: Vec<bool>,
    /// Texts that fit.
    pub(super) names: BTreeSet<Box<str>>,
    /// Ranges of the numbers of characters of texts that fit, sorted and apart.
    pub(super) lengths: Vec<(u64, u64)>,
    /// Ranges of integers that fit, sorted and apart.
    pub(super) integers: Vec<(Whole, Whole)>,
    /// Ranges of floats that fit, and of integers as floats; sorted and apart.
    pub(super) numbers: Vec<(f64, f64)>,
    /// Lists that fit.
    pub(super) arrays: Vec<u32>,
    /// Objects that fit.
    pub(super) objects: Vec<u32>,
    /// What tells the objects apart, when there are several.
    pub(super) tag: Option<Tag>,
}

/// What tells objects apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tag {
    /// Their only name.
    Outer(BTreeMap<Box<str>, u32>),
    /// The text under this name.
    Inner(Box<str>, BTreeMap<Box<str>, u32>),
}

/// A list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ArrayShape {
    /// The first elements, one node each.
    pub(super) prefix: Vec<Id>,
    /// The elements after those.
    pub(super) items: Id,
    /// Fewest elements.
    pub(super) minimum: u64,
    /// Most elements.
    pub(super) maximum: u64,
}

/// Names and values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ObjectShape {
    properties: BTreeMap<Box<str>, Property>,
    /// Names that must be there.
    pub(super) required: usize,
    /// The values of other names.
    pub(super) additional: Id,
    /// Keys are integers, signed or not, with values of this node.
    pub(super) integer_keys: Option<(bool, Id)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Property {
    id: Id,
    /// Its number among those that must be there.
    required: Option<usize>,
}

impl Node {
    fn anything() -> Self {
        Self { any: true, ..Self::default() }
    }

    /// Nothing fits.
    pub(super) fn is_never(&self) -> bool {
        !self.any && !self.null && self.booleans.is_empty() && !self.has_texts() && {
            let numbers = self.integers.is_empty() && self.numbers.is_empty();
            numbers && self.arrays.is_empty() && self.objects.is_empty()
        }
    }

    fn has_texts(&self) -> bool {
        !self.names.is_empty() || !self.lengths.is_empty()
    }

    /// NaN fits where there is no limit on either side.
    pub(super) fn takes_float(&self, number: f64) -> bool {
        let all = (f64::NEG_INFINITY, f64::INFINITY);
        match number.is_nan() {
            true => self.numbers.contains(&all),
            false => contains(&self.numbers, number),
        }
    }

    /// Numbers may be texts, and are no floats.
    pub(super) fn is_decimal(&self) -> bool {
        !self.lengths.is_empty() && !self.integers.is_empty() && self.numbers.is_empty()
    }

    /// A text of this length fits.
    pub(super) fn takes_length(&self, text: &str) -> bool {
        match self.lengths.as_slice() {
            [] => false,
            [(0, u64::MAX)] => true,
            lengths => contains(lengths, text.chars().count() as u64),
        }
    }

    /// The integer that these bytes stand for, where integers fit.
    pub(super) fn wide_integer(&self, bytes: &[u8]) -> Option<Whole> {
        let (low, _) = self.integers.first()?;
        Whole::of_bytes(bytes, *low < Whole::ZERO)
    }

    /// How a text of the command line is read: as it is, unless it is meant as JSON.
    pub(super) fn takes_text(&self, text: &str) -> bool {
        if self.names.contains(text) {
            return true;
        }
        let is_nested = text.starts_with(['{', '[']);
        let nests = !self.arrays.is_empty() || !self.objects.is_empty();
        if is_nested && nests { false } else { !self.lengths.is_empty() }
    }
}

/// Whether a value is in one of sorted ranges.
pub(super) fn contains<T: PartialOrd + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(low, _)| *low <= value);
    let range = after.checked_sub(1).and_then(|place| ranges.get(place));
    range.is_some_and(|(_, high)| value <= *high)
}

static ANY_ARRAY: ArrayShape =
    ArrayShape { prefix: Vec::new(), items: ANY, minimum: 0, maximum: u64::MAX };
static ANY_OBJECT: LazyLock<ObjectShape> = LazyLock::new(ObjectShape::lenient);

impl ArrayShape {
    /// Any list.
    pub(super) fn any() -> &'static Self {
        &ANY_ARRAY
    }
}

impl ObjectShape {
    /// Any object.
    pub(super) fn any() -> &'static Self {
        &ANY_OBJECT
    }

    fn lenient() -> Self {
        let (properties, integer_keys) = (BTreeMap::new(), None);
        Self { properties, required: 0, additional: ANY, integer_keys }
    }

    /// What the value of a known name must be, and its number among those that must be there.
    pub(super) fn property(&self, name: &str) -> Option<(Id, Option<usize>)> {
        self.properties.get(name).map(|property| (property.id, property.required))
    }

    /// The names that must be there, in the order of their numbers.
    pub(super) fn required_names(&self) -> impl Iterator<Item = &str> {
        let required = self.properties.iter().filter(|(_, property)| property.required.is_some());
        required.map(|(name, _)| name.as_ref())
    }

    /// Which names there are, for people.
    pub(super) fn known(&self) -> String {
        if self.properties.is_empty() {
            return String::new();
        }
        let names: Vec<&str> = self.properties.keys().map(AsRef::as_ref).collect();
        let names = printable(&names.join(", "), EXPECTED_BYTES_MAX);
        format!("; there is {names}")
    }
}

/// A compiled schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Shapes {
    nodes: Vec<Node>,
    arrays: Vec<ArrayShape>,
    objects: Vec<ObjectShape>,
    root: Id,
}

impl Shapes {
    /// The schema that everything fits.
    #[must_use]
    pub fn anything() -> Self {
        let nodes = vec![Node::anything(), Node::default()];
        Self { nodes, arrays: Vec::new(), objects: Vec::new(), root: ANY }
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    /// What the whole value must look like.
    pub(super) fn root_node(&self) -> &Node {
        self.node(self.root)
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        static NOTHING: LazyLock<Node> = LazyLock::new(Node::default);
        self.nodes.get(at(id)).unwrap_or(&NOTHING)
    }

    pub(super) fn array(&self, place: u32) -> &ArrayShape {
        self.arrays.get(at(place)).unwrap_or(&ANY_ARRAY)
    }

    pub(super) fn object(&self, place: u32) -> &ObjectShape {
        self.objects.get(at(place)).unwrap_or(&ANY_OBJECT)
    }
}

fn at(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
