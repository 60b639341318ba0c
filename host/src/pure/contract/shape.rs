//! JSON Schemas, compiled to what can be checked fast.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::base::limits::VALUE_DEPTH_MAX;

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
    /// A keyword with a value of another type than JSON Schema gives it.
    #[error("the schema's `{0}` can't be used")]
    Keyword(&'static str),
    /// A reference that leads nowhere.
    #[error("the schema's reference `{0}` leads nowhere")]
    Reference(String),
}

/// What a value must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Anything.
    Any,
    /// Nothing at all (`false`).
    Never,
    /// Null.
    Null,
    /// True or false.
    Boolean,
    /// A whole number in a range.
    Integer {
        /// Smallest.
        minimum: i128,
        /// Largest.
        maximum: i128,
    },
    /// Any number in a range.
    Number {
        /// Smallest.
        minimum: f64,
        /// Largest.
        maximum: f64,
    },
    /// Text with a number of characters in a range.
    Text {
        /// Fewest characters.
        minimum: u64,
        /// Most characters.
        maximum: u64,
    },
    /// A list.
    Array {
        /// The first elements, one shape each.
        prefix: Vec<Shape>,
        /// The elements after those.
        items: Box<Shape>,
        /// Fewest elements.
        minimum: u64,
        /// Most elements.
        maximum: u64,
    },
    /// Names and values.
    Object {
        /// Known names.
        properties: BTreeMap<String, Shape>,
        /// Names that must be there, each once, sorted.
        required: Vec<String>,
        /// The values of other names.
        additional: Box<Shape>,
    },
    /// One of these values.
    OneOf(Vec<Value>),
    /// What one of these takes.
    Union(Vec<Shape>),
    /// A definition, by its place.
    Reference(usize),
}

/// A compiled schema: the shape and the definitions that it refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Shapes {
    pub(super) root: Shape,
    pub(super) definitions: Vec<Shape>,
}

impl Shapes {
    /// Compiles a schema.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] where a checked keyword is used wrongly.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let defs = schema.get("$defs").and_then(Value::as_object);
        let names: Vec<&String> = defs.map(|defs| defs.keys().collect()).unwrap_or_default();
        let compiler = Compiler { names: &names };
        let definitions = defs
            .into_iter()
            .flat_map(Map::values)
            .map(|definition| compiler.shape(definition, 0))
            .collect::<Result<_, _>>()?;
        Ok(Self { root: compiler.shape(schema, 0)?, definitions })
    }

    /// True when a plain text fits.
    #[must_use]
    pub fn takes_text(&self) -> bool {
        fn takes(shape: &Shape, definitions: &[Shape], depth: usize) -> bool {
            match shape {
                Shape::Text { .. } => true,
                Shape::OneOf(values) => values.iter().any(Value::is_string),
                Shape::Union(shapes) => {
                    depth < VALUE_DEPTH_MAX
                        && shapes.iter().any(|shape| takes(shape, definitions, depth + 1))
                }
                Shape::Reference(place) => {
                    depth < VALUE_DEPTH_MAX
                        && definitions.get(*place).is_some_and(|s| takes(s, definitions, depth + 1))
                }
                _ => false,
            }
        }
        takes(&self.root, &self.definitions, 0)
    }
}

struct Compiler<'a> {
    names: &'a [&'a String],
}

impl Compiler<'_> {
    fn shape(&self, schema: &Value, depth: usize) -> Result<Shape, SchemaError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(SchemaError::TooDeep);
        }
        let keywords = match schema {
            Value::Bool(true) => return Ok(Shape::Any),
            Value::Bool(false) => return Ok(Shape::Never),
            Value::Object(keywords) => keywords,
            _ => return Err(SchemaError::Keyword("schema")),
        };
        if let Some(reference) = keywords.get("$ref") {
            return self.reference(reference);
        }
        if let Some(value) = keywords.get("const") {
            return Ok(Shape::OneOf(vec![value.clone()]));
        }
        if let Some(values) = keywords.get("enum") {
            let values = values.as_array().ok_or(SchemaError::Keyword("enum"))?;
            return Ok(Shape::OneOf(values.clone()));
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(shapes) = keywords.get(name) {
                return Ok(Shape::Union(self.shapes(shapes, name, depth)?));
            }
        }
        if let Some(shapes) = keywords.get("allOf") {
            let mut shapes = self.shapes(shapes, "allOf", depth)?;
            if shapes.len() == 1 {
                return shapes.pop().ok_or(SchemaError::Keyword("allOf"));
            }
            return Ok(Shape::Any);
        }
        match keywords.get("type") {
            None => Ok(Shape::Any),
            Some(Value::String(name)) => self.typed(name, keywords, depth),
            Some(Value::Array(names)) => {
                let typed = |name: &Value| {
                    let name = name.as_str().ok_or(SchemaError::Keyword("type"))?;
                    self.typed(name, keywords, depth)
                };
                Ok(Shape::Union(names.iter().map(typed).collect::<Result<_, _>>()?))
            }
            Some(_) => Err(SchemaError::Keyword("type")),
        }
    }

    fn shapes(
        &self,
        list: &Value,
        keyword: &'static str,
        depth: usize,
    ) -> Result<Vec<Shape>, SchemaError> {
        let list = list.as_array().ok_or(SchemaError::Keyword(keyword))?;
        list.iter().map(|schema| self.shape(schema, depth + 1)).collect()
    }

    fn reference(&self, reference: &Value) -> Result<Shape, SchemaError> {
        let text = reference.as_str().ok_or(SchemaError::Keyword("$ref"))?;
        let place = text
            .strip_prefix("#/$defs/")
            .and_then(|name| self.names.iter().position(|known| *known == name));
        place.map(Shape::Reference).ok_or_else(|| SchemaError::Reference(text.to_owned()))
    }

    fn typed(
        &self,
        name: &str,
        keywords: &Map<String, Value>,
        depth: usize,
    ) -> Result<Shape, SchemaError> {
        match name {
            "null" => Ok(Shape::Null),
            "boolean" => Ok(Shape::Boolean),
            "integer" => Ok(Shape::Integer {
                minimum: whole(keywords, "minimum")?.unwrap_or(i128::MIN),
                maximum: whole(keywords, "maximum")?.unwrap_or(i128::MAX),
            }),
            "number" => Ok(Shape::Number {
                minimum: real(keywords, "minimum")?.unwrap_or(f64::NEG_INFINITY),
                maximum: real(keywords, "maximum")?.unwrap_or(f64::INFINITY),
            }),
            "string" => Ok(Shape::Text {
                minimum: count(keywords, "minLength")?.unwrap_or(0),
                maximum: count(keywords, "maxLength")?.unwrap_or(u64::MAX),
            }),
            "array" => self.array(keywords, depth),
            "object" => self.object(keywords, depth),
            _ => Err(SchemaError::Keyword("type")),
        }
    }

    fn array(&self, keywords: &Map<String, Value>, depth: usize) -> Result<Shape, SchemaError> {
        let prefix = match keywords.get("prefixItems") {
            Some(list) => self.shapes(list, "prefixItems", depth)?,
            None => Vec::new(),
        };
        let items = match keywords.get("items") {
            Some(schema) => self.shape(schema, depth + 1)?,
            None => Shape::Any,
        };
        Ok(Shape::Array {
            prefix,
            items: Box::new(items),
            minimum: count(keywords, "minItems")?.unwrap_or(0),
            maximum: count(keywords, "maxItems")?.unwrap_or(u64::MAX),
        })
    }

    fn object(&self, keywords: &Map<String, Value>, depth: usize) -> Result<Shape, SchemaError> {
        let mut properties = BTreeMap::new();
        if let Some(listed) = keywords.get("properties") {
            let listed = listed.as_object().ok_or(SchemaError::Keyword("properties"))?;
            for (name, schema) in listed {
                properties.insert(name.clone(), self.shape(schema, depth + 1)?);
            }
        }
        let mut required = Vec::new();
        if let Some(listed) = keywords.get("required") {
            for name in listed.as_array().ok_or(SchemaError::Keyword("required"))? {
                required.push(name.as_str().ok_or(SchemaError::Keyword("required"))?.to_owned());
            }
        }
        required.sort();
        required.dedup();
        let additional = match keywords.get("additionalProperties") {
            Some(schema) => self.shape(schema, depth + 1)?,
            None => Shape::Any,
        };
        Ok(Shape::Object { properties, required, additional: Box::new(additional) })
    }
}

fn whole(keywords: &Map<String, Value>, name: &'static str) -> Result<Option<i128>, SchemaError> {
    let Some(value) = keywords.get(name) else { return Ok(None) };
    if let Some(unsigned) = value.as_u64() {
        return Ok(Some(i128::from(unsigned)));
    }
    if let Some(signed) = value.as_i64() {
        return Ok(Some(i128::from(signed)));
    }
    // Generators write the bounds of wide integers as floats; those are too coarse to check.
    if value.is_f64() { Ok(None) } else { Err(SchemaError::Keyword(name)) }
}

fn real(keywords: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, SchemaError> {
    keywords.get(name).map(|value| value.as_f64().ok_or(SchemaError::Keyword(name))).transpose()
}

fn count(keywords: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, SchemaError> {
    keywords.get(name).map(|value| value.as_u64().ok_or(SchemaError::Keyword(name))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn broken_schemas_are_refused_with_the_keyword() {
        for (schema, expected) in [
            (json!(3), "`schema`"),
            (json!({"type": "text"}), "`type`"),
            (json!({"type": 3}), "`type`"),
            (json!({"type": [3]}), "`type`"),
            (json!({"enum": 3}), "`enum`"),
            (json!({"anyOf": {}}), "`anyOf`"),
            (json!({"type": "object", "properties": []}), "`properties`"),
            (json!({"type": "object", "required": [3]}), "`required`"),
            (json!({"type": "string", "minLength": -1}), "`minLength`"),
            (json!({"type": "integer", "minimum": "a"}), "`minimum`"),
            (json!({"$ref": "#/$defs/none"}), "leads nowhere"),
            (json!({"$ref": "http://elsewhere/x"}), "leads nowhere"),
        ] {
            let error = Shapes::compile(&schema).unwrap_err().to_string();
            assert!(error.contains(expected), "{schema}: {error}");
        }
        let mut deep = json!({"type": "array"});
        for _ in 0..VALUE_DEPTH_MAX + 1 {
            deep = json!({"type": "array", "items": deep});
        }
        assert_eq!(Shapes::compile(&deep), Err(SchemaError::TooDeep));
    }

    #[test]
    fn text_is_taken_where_a_string_fits() {
        let takes = |schema| Shapes::compile(&schema).unwrap().takes_text();
        assert!(takes(json!({"type": "string"})));
        assert!(takes(json!({"type": ["string", "null"]})));
        assert!(takes(json!({"$ref": "#/$defs/a", "$defs": {"a": {"enum": ["x"]}}})));
        assert!(!takes(json!({"type": "integer"})));
        assert!(!takes(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})));
    }
}
