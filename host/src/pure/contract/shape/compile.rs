//! Makes nodes of a schema: first one per schema, then those of unions out of their alternatives.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{
    ANY, ArrayShape, Id, NEVER, Node, ObjectShape, Property, SchemaError, Shapes, Tag, at,
};
use crate::base::limits::{SCHEMA_ALTERNATIVES_MAX, SCHEMA_NODES_MAX, VALUE_DEPTH_MAX};
use crate::pure::value::Whole;

/// A node on its way.
enum Draft {
    Node(Node),
    /// All of what these are.
    Union(Vec<Id>),
}

struct Compiler<'a> {
    drafts: Vec<Draft>,
    arrays: Vec<ArrayShape>,
    objects: Vec<ObjectShape>,
    definitions: HashMap<&'a str, Id>,
    root: Id,
}

impl Shapes {
    /// Compiles a schema.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] where a checked keyword is used wrongly, or there is too much of it.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let mut compiler = Compiler {
            drafts: vec![Draft::Node(Node::anything()), Draft::Node(Node::default())],
            arrays: Vec::new(),
            objects: Vec::new(),
            definitions: HashMap::new(),
            root: NEVER,
        };
        let definitions = schema.get("$defs").and_then(Value::as_object);
        // Their places come first: they may refer to each other.
        for name in definitions.into_iter().flat_map(Map::keys) {
            let id = compiler.push(Draft::Union(Vec::new()))?;
            compiler.definitions.insert(name, id);
        }
        compiler.root = compiler.push(Draft::Union(Vec::new()))?;
        for (name, definition) in definitions.into_iter().flatten() {
            let id = compiler.schema(definition, 0)?;
            let place = compiler.definitions.get(name.as_str()).copied();
            compiler.set(place.unwrap_or(NEVER), id);
        }
        let root = compiler.schema(schema, 0)?;
        compiler.set(compiler.root, root);
        compiler.link()
    }
}

impl<'a> Compiler<'a> {
    fn push(&mut self, draft: Draft) -> Result<Id, SchemaError> {
        if self.drafts.len() >= SCHEMA_NODES_MAX {
            return Err(SchemaError::TooLarge);
        }
        self.drafts.push(draft);
        Ok(place(self.drafts.len()))
    }

    fn set(&mut self, id: Id, same_as: Id) {
        if let Some(draft) = self.drafts.get_mut(at(id)) {
            *draft = Draft::Union(vec![same_as]);
        }
    }

    fn node(&mut self, node: Node) -> Result<Id, SchemaError> {
        self.push(Draft::Node(node))
    }

    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<Id, SchemaError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(SchemaError::TooDeep);
        }
        let keywords = match schema {
            Value::Bool(true) => return Ok(ANY),
            Value::Bool(false) => return Ok(NEVER),
            Value::Object(keywords) => keywords,
            _ => return Err(SchemaError::Keyword("schema")),
        };
        if let Some(reference) = keywords.get("$ref") {
            let id = self.reference(reference)?;
            if !keywords.contains_key("properties") {
                return Ok(id);
            }
        }
        if let Some(value) = keywords.get("const") {
            return self.constants(std::slice::from_ref(value));
        }
        if let Some(values) = keywords.get("enum") {
            return self.constants(values.as_array().ok_or(SchemaError::Keyword("enum"))?);
        }
        if let Some(whole) = self.combined(keywords, depth)? {
            return Ok(whole);
        }
        match keywords.get("type") {
            None => Ok(ANY),
            Some(Value::String(name)) => self.typed(name, keywords, depth),
            Some(Value::Array(names)) => {
                let mut ids = Vec::new();
                for (place, name) in names.iter().enumerate() {
                    // Each reads all that the schema says besides, so none may stand there twice.
                    let first = names.iter().position(|other| other == name) == Some(place);
                    let name = name.as_str().filter(|_| first);
                    let name = name.ok_or(SchemaError::Keyword("type"))?;
                    ids.push(self.typed(name, keywords, depth)?);
                }
                self.push(Draft::Union(ids))
            }
            Some(_) => Err(SchemaError::Keyword("type")),
        }
    }

    /// A schema of others. One that says more besides is checked in its properties alone: whether
    /// a value fits all of it at once its guest finds out.
    fn combined(
        &mut self,
        keywords: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Option<Id>, SchemaError> {
        let mut all = keywords.contains_key("$ref").then_some(None);
        for name in ["anyOf", "oneOf", "allOf"] {
            let Some(list) = keywords.get(name) else { continue };
            let list = self.schemas(list, name, depth)?;
            let several = all.is_some() || (name == "allOf" && list.len() != 1);
            all = Some(if several { None } else { Some(list) });
        }
        let is_object = keywords.contains_key("properties");
        match all {
            None if !keywords.contains_key("unevaluatedProperties") || !is_object => Ok(None),
            Some(Some(list)) if !is_object => self.push(Draft::Union(list)).map(Some),
            _ if is_object => {
                let id = self.object(keywords, depth)?;
                if let Some(object) = self.objects.last_mut() {
                    (object.additional, object.integer_keys) = (ANY, None);
                }
                Ok(Some(id))
            }
            _ => Ok(Some(ANY)),
        }
    }

    fn schemas(
        &mut self,
        list: &'a Value,
        keyword: &'static str,
        depth: usize,
    ) -> Result<Vec<Id>, SchemaError> {
        let list = list.as_array().ok_or(SchemaError::Keyword(keyword))?;
        list.iter().map(|schema| self.schema(schema, depth + 1)).collect()
    }

    fn reference(&self, reference: &Value) -> Result<Id, SchemaError> {
        let text = reference.as_str().ok_or(SchemaError::Keyword("$ref"))?;
        if text == "#" {
            return Ok(self.root);
        }
        let name = text.strip_prefix("#/$defs/");
        let id = name.and_then(|name| self.definitions.get(name).copied());
        id.ok_or_else(|| SchemaError::Reference(text.to_owned()))
    }

    /// Constants; of arrays and objects only that they are some.
    fn constants(&mut self, values: &[Value]) -> Result<Id, SchemaError> {
        let mut node = Node::default();
        for value in values {
            match value {
                Value::Null => node.null = true,
                Value::Bool(value) => node.booleans.push(*value),
                Value::String(text) => {
                    node.names.insert(text.as_str().into());
                }
                Value::Array(_) => node.arrays.push(self.add_array(ArrayShape::any().clone())),
                Value::Object(_) => node.objects.push(self.add_object(ObjectShape::lenient())),
                Value::Number(_) => match whole(value) {
                    Some(number) => node.integers.push((number, number)),
                    None => {
                        let number = value.as_f64().ok_or(SchemaError::Keyword("enum"))?;
                        node.numbers.push((number, number));
                    }
                },
            }
        }
        node.tidy();
        self.node(node)
    }

    fn add_array(&mut self, shape: ArrayShape) -> u32 {
        self.arrays.push(shape);
        place(self.arrays.len())
    }

    fn add_object(&mut self, shape: ObjectShape) -> u32 {
        self.objects.push(shape);
        place(self.objects.len())
    }

    fn typed(
        &mut self,
        name: &str,
        keywords: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Id, SchemaError> {
        let node = Node::default();
        let node = match name {
            "null" => Node { null: true, ..node },
            "boolean" => Node { booleans: vec![false, true], ..node },
            "integer" => Node { integers: vec![integers(keywords)?], ..node },
            "number" => {
                let low = real(keywords, "minimum")?.unwrap_or(f64::NEG_INFINITY);
                let high = real(keywords, "maximum")?.unwrap_or(f64::INFINITY);
                Node { numbers: vec![(low, high)], ..node }
            }
            "string" => {
                let low = count(keywords, "minLength")?.unwrap_or(0);
                let high = count(keywords, "maxLength")?.unwrap_or(u64::MAX);
                Node { lengths: vec![(low, high)], ..node }
            }
            "array" => Node { arrays: vec![self.array(keywords, depth)?], ..node },
            "object" => return self.object(keywords, depth),
            _ => return Err(SchemaError::Keyword("type")),
        };
        self.node(node)
    }

    fn array(
        &mut self,
        keywords: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<u32, SchemaError> {
        let prefix = match keywords.get("prefixItems") {
            Some(list) => self.schemas(list, "prefixItems", depth)?,
            None => Vec::new(),
        };
        let items = match keywords.get("items") {
            Some(schema) => self.schema(schema, depth + 1)?,
            None => ANY,
        };
        let minimum = count(keywords, "minItems")?.unwrap_or(0);
        let maximum = count(keywords, "maxItems")?.unwrap_or(u64::MAX);
        Ok(self.add_array(ArrayShape { prefix, items, minimum, maximum }))
    }

    fn object(
        &mut self,
        keywords: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Id, SchemaError> {
        let mut additional = match keywords.get("additionalProperties") {
            Some(schema) => self.schema(schema, depth + 1)?,
            None => ANY,
        };
        let mut integer_keys = None;
        let names = keywords.get("propertyNames").and_then(|names| names.get("pattern"));
        if let Some(is_signed) = names.and_then(Value::as_str).and_then(integer_pattern) {
            integer_keys = Some((is_signed, additional));
            additional = NEVER;
        }
        let patterns = keywords
            .get("patternProperties")
            .map(|patterns| patterns.as_object().ok_or(SchemaError::Keyword("patternProperties")));
        for (pattern, schema) in patterns.transpose()?.into_iter().flatten() {
            let id = self.schema(schema, depth + 1)?;
            match integer_pattern(pattern) {
                Some(is_signed) => integer_keys = Some((is_signed, id)),
                // Which names a pattern takes the guest finds out.
                None if additional == ANY => {}
                None => additional = self.push(Draft::Union(vec![additional, id]))?,
            }
        }
        let mut properties = BTreeMap::new();
        if let Some(listed) = keywords.get("properties") {
            let listed = listed.as_object().ok_or(SchemaError::Keyword("properties"))?;
            for (name, schema) in listed {
                let id = self.schema(schema, depth + 1)?;
                properties.insert(name.as_str().into(), Property { id, required: None });
            }
        }
        if let Some(listed) = keywords.get("required") {
            for name in listed.as_array().ok_or(SchemaError::Keyword("required"))? {
                let name = name.as_str().ok_or(SchemaError::Keyword("required"))?;
                let other = || Property { id: additional, required: None };
                properties.entry(name.into()).or_insert_with(other).required = Some(0);
            }
        }
        let places = properties.values_mut().filter_map(|property| property.required.as_mut());
        let required = places.enumerate().map(|(number, place)| *place = number).count();
        let object = ObjectShape { properties, required, additional, integer_keys };
        let object = self.add_object(object);
        self.node(Node { objects: vec![object], ..Node::default() })
    }

    /// Makes each union one node, and finds what tells objects apart.
    fn link(self) -> Result<Shapes, SchemaError> {
        let mut alternatives = 0;
        let mut nodes = Vec::with_capacity(self.drafts.len());
        for (number, draft) in self.drafts.iter().enumerate() {
            nodes.push(match draft {
                Draft::Node(node) => node.clone(),
                Draft::Union(_) => self.merge(number, &mut alternatives)?,
            });
        }
        let root = self.root;
        let mut shapes = Shapes { nodes, arrays: self.arrays, objects: self.objects, root };
        let mut room = SCHEMA_ALTERNATIVES_MAX;
        let tags = shapes.nodes.iter().map(|node| shapes.tag(node, &mut room));
        let tags: Vec<Option<Tag>> = tags.collect();
        for (node, tag) in shapes.nodes.iter_mut().zip(tags) {
            node.tag = tag;
        }
        Ok(shapes)
    }

    /// All that a union leads to. One that leads back to itself adds nothing.
    fn merge(&self, union: usize, alternatives: &mut usize) -> Result<Node, SchemaError> {
        let mut merged = Node::default();
        let mut seen = std::collections::HashSet::new();
        let mut open = vec![union];
        while let Some(number) = open.pop() {
            *alternatives += 1;
            if *alternatives > SCHEMA_ALTERNATIVES_MAX {
                return Err(SchemaError::TooWide);
            }
            if !seen.insert(number) {
                continue;
            }
            match self.drafts.get(number) {
                Some(Draft::Union(ids)) => open.extend(ids.iter().rev().map(|id| at(*id))),
                Some(Draft::Node(node)) => {
                    *alternatives += node.weight();
                    merged.add(node);
                }
                None => {}
            }
        }
        merged.tidy();
        Ok(merged)
    }
}

impl Node {
    /// One of some texts fits, and nothing else.
    fn has_only_names(&self) -> bool {
        let others = self.any || self.null || !self.booleans.is_empty();
        let numbers = !self.integers.is_empty() || !self.numbers.is_empty();
        let nests = !self.arrays.is_empty() || !self.objects.is_empty();
        !self.names.is_empty() && self.lengths.is_empty() && !others && !numbers && !nests
    }

    /// How much of it there is to copy.
    fn weight(&self) -> usize {
        let nested = self.arrays.len() + self.objects.len();
        let numbers = self.integers.len() + self.numbers.len();
        let names: usize = self.names.iter().map(|name| weight(name)).sum();
        names + self.lengths.len() + numbers + nested
    }

    fn add(&mut self, other: &Self) {
        self.any |= other.any;
        self.null |= other.null;
        self.booleans.extend(&other.booleans);
        self.names.extend(other.names.iter().cloned());
        self.lengths.extend(&other.lengths);
        self.integers.extend(&other.integers);
        self.numbers.extend(&other.numbers);
        self.arrays.extend(&other.arrays);
        self.objects.extend(&other.objects);
    }

    fn tidy(&mut self) {
        self.booleans.sort_unstable();
        self.booleans.dedup();
        join(&mut self.lengths, |one, other| one.cmp(other));
        join(&mut self.integers, |one, other| one.cmp(other));
        join(&mut self.numbers, f64::total_cmp);
        // In order, the first of each.
        let mut seen = std::collections::HashSet::new();
        self.arrays.retain(|place| seen.insert(*place));
        seen.clear();
        self.objects.retain(|place| seen.insert(*place));
    }
}

impl Shapes {
    /// What tells the objects of a node apart, if something does, and there is room for it.
    fn tag(&self, node: &Node, room: &mut usize) -> Option<Tag> {
        if node.any || node.objects.len() < 2 {
            return None;
        }
        self.outer(node, room).or_else(|| self.inner(node, room))
    }

    fn outer(&self, node: &Node, room: &mut usize) -> Option<Tag> {
        let mut by = BTreeMap::new();
        for place in &node.objects {
            let object = self.object(*place);
            let (name, property) = object.properties.first_key_value()?;
            *room = room.checked_sub(weight(name))?;
            let is_only = object.properties.len() == 1 && object.integer_keys.is_none();
            let is_closed = self.node(object.additional).is_never();
            let is_tag = is_only && is_closed && property.required.is_some();
            if !is_tag || by.insert(name.clone(), *place).is_some() {
                return None;
            }
        }
        Some(Tag::Outer(by))
    }

    fn inner(&self, node: &Node, room: &mut usize) -> Option<Tag> {
        let first = self.object(*node.objects.first()?);
        for tag in first.properties.keys() {
            if *room == 0 {
                break;
            }
            if let Some(found) = self.inner_by(node, tag, room) {
                return Some(found);
            }
        }
        None
    }

    fn inner_by(&self, node: &Node, tag: &str, room: &mut usize) -> Option<Tag> {
        let mut by = BTreeMap::new();
        for place in &node.objects {
            *room = room.checked_sub(1)?;
            let property = self.object(*place).properties.get(tag)?;
            let constant = self.node(property.id);
            if property.required.is_none() || !constant.has_only_names() {
                return None;
            }
            *room = room.checked_sub(constant.weight())?;
            for name in &constant.names {
                if by.insert(name.clone(), *place).is_some() {
                    return None;
                }
            }
        }
        Some(Tag::Inner(tag.into(), by))
    }
}

/// How much of a name there is to copy: a long one counts as several.
fn weight(name: &str) -> usize {
    1 + name.len() / 32
}

/// Sorts ranges, and joins those that overlap.
fn join<T: Copy + PartialOrd>(
    ranges: &mut Vec<(T, T)>,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) {
    ranges.retain(|(low, high)| low <= high);
    ranges.sort_by(|one, other| order(&one.0, &other.0));
    ranges.dedup_by(|next, last| {
        let overlaps = next.0 <= last.1;
        if overlaps && next.1 > last.1 {
            last.1 = next.1;
        }
        overlaps
    });
}

/// Whether a pattern of names is that of integers, and whether these are signed.
fn integer_pattern(pattern: &str) -> Option<bool> {
    match pattern {
        r"^\d+$" | "^[0-9]+$" => Some(false),
        r"^-?\d+$" | "^-?[0-9]+$" => Some(true),
        _ => None,
    }
}

/// The place of what was pushed last.
fn place(len: usize) -> u32 {
    u32::try_from(len.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// The range of an integer: its bounds, inside of those of its format.
fn integers(keywords: &Map<String, Value>) -> Result<(Whole, Whole), SchemaError> {
    let format = keywords.get("format").and_then(Value::as_str);
    let (low, high) = match format.unwrap_or_default() {
        "int8" => signed(i8::MIN, i8::MAX),
        "int16" => signed(i16::MIN, i16::MAX),
        // A guest's words have 32 bits.
        "int32" | "int" => signed(i32::MIN, i32::MAX),
        "int64" => signed(i64::MIN, i64::MAX),
        "int128" => signed(i128::MIN, i128::MAX),
        "uint8" => signed(0, u8::MAX),
        "uint16" => signed(0, u16::MAX),
        "uint32" | "uint" => signed(0, u32::MAX),
        "uint64" => signed(0, u64::MAX),
        "uint128" => (Whole::ZERO, Whole::MAX),
        _ => (Whole::MIN, Whole::MAX),
    };
    let bound = |name| match keywords.get(name) {
        None => Ok(None),
        // Generators write the bounds of wide integers as floats; those are too coarse to check.
        Some(value) if value.is_f64() => Ok(None),
        Some(value) => whole(value).map(Some).ok_or(SchemaError::Keyword(name)),
    };
    let minimum = bound("minimum")?.map_or(low, |minimum| minimum.max(low));
    let maximum = bound("maximum")?.map_or(high, |maximum| maximum.min(high));
    Ok((minimum, maximum))
}

fn signed(low: impl Into<i128>, high: impl Into<i128>) -> (Whole, Whole) {
    (Whole::from(low.into()), Whole::from(high.into()))
}

fn whole(value: &Value) -> Option<Whole> {
    let signed = || value.as_i64().map(|number| Whole::from(i128::from(number)));
    value.as_u64().map(Whole::from).or_else(signed)
}

fn real(keywords: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, SchemaError> {
    keywords.get(name).map(|value| value.as_f64().ok_or(SchemaError::Keyword(name))).transpose()
}

fn count(keywords: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, SchemaError> {
    keywords.get(name).map(|value| value.as_u64().ok_or(SchemaError::Keyword(name))).transpose()
}
