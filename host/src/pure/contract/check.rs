//! Walks a MessagePack value along a shape, without copying it.

use std::collections::BTreeMap;

use rmp::Marker;
use serde_json::Value;

use super::shape::{Shape, Shapes};
use crate::base::error::printable;
use crate::base::limits::VALUE_DEPTH_MAX;

/// Steps that one check may take besides one per byte: unions of unions could take for ever.
const STEPS_MAX: usize = 1 << 20;

/// Characters of a value that a message shows.
const SHOWN_BYTES_MAX: usize = 60;

/// What is known of an object's properties when nothing is.
static NO_PROPERTIES: BTreeMap<String, Shape> = BTreeMap::new();

/// The value does not fit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckError {
    /// Where, like `.lines[3].amount`; empty at the top.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

impl std::error::Error for CheckError {}

impl std::fmt::Display for CheckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "at `{}`: {}", self.path, self.problem)
        }
    }
}

/// Checks that `bytes` is one MessagePack value that fits the shape, and nothing after it.
///
/// # Errors
///
/// [`CheckError`], the first thing that doesn't fit.
pub fn check(bytes: &[u8], shapes: &Shapes) -> Result<(), CheckError> {
    let mut walk = Walk { definitions: &shapes.definitions, steps: 0, depth: 0 };
    let mut reader = Reader { bytes };
    walk.value(&mut reader, &shapes.root)?;
    if reader.bytes.is_empty() { Ok(()) } else { Err(wrong("bytes after the value")) }
}

fn wrong(problem: impl Into<String>) -> CheckError {
    CheckError { path: String::new(), problem: problem.into() }
}

fn under(part: &str, mut error: CheckError) -> CheckError {
    error.path.insert_str(0, part);
    error
}

/// The head of one MessagePack value.
enum Head<'a> {
    Null,
    Boolean,
    Integer(i128),
    Float(f64),
    Text(&'a str),
    Bytes,
    Array(u32),
    Map(u32),
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CheckError> {
        let (taken, rest) =
            self.bytes.split_at_checked(count).ok_or_else(|| wrong("the value is cut off"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn unsigned(&mut self, count: usize) -> Result<u64, CheckError> {
        Ok(self.take(count)?.iter().fold(0, |all, &byte| (all << 8) | u64::from(byte)))
    }

    fn signed(&mut self, count: usize) -> Result<i128, CheckError> {
        let bits = u32::try_from(count * 8).unwrap_or(64);
        let value = i128::from(self.unsigned(count)?);
        Ok(if value >> (bits - 1) == 0 { value } else { value - (1_i128 << bits) })
    }

    fn len(&mut self, count: usize) -> Result<u32, CheckError> {
        Ok(u32::try_from(self.unsigned(count)?).unwrap_or(u32::MAX))
    }

    fn text(&mut self, len: u32) -> Result<Head<'a>, CheckError> {
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        std::str::from_utf8(bytes).map(Head::Text).map_err(|_| wrong("a string that is not UTF-8"))
    }

    fn blob(&mut self, len: u32) -> Result<Head<'a>, CheckError> {
        self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        Ok(Head::Bytes)
    }

    fn head(&mut self) -> Result<Head<'a>, CheckError> {
        let marker = self.take(1)?.first().copied().unwrap_or_default();
        Ok(match Marker::from_u8(marker) {
            Marker::Null => Head::Null,
            Marker::True => Head::Boolean,
            Marker::False => Head::Boolean,
            Marker::FixPos(value) => Head::Integer(i128::from(value)),
            Marker::FixNeg(value) => Head::Integer(i128::from(value)),
            Marker::U8 => Head::Integer(i128::from(self.unsigned(1)?)),
            Marker::U16 => Head::Integer(i128::from(self.unsigned(2)?)),
            Marker::U32 => Head::Integer(i128::from(self.unsigned(4)?)),
            Marker::U64 => Head::Integer(i128::from(self.unsigned(8)?)),
            Marker::I8 => Head::Integer(self.signed(1)?),
            Marker::I16 => Head::Integer(self.signed(2)?),
            Marker::I32 => Head::Integer(self.signed(4)?),
            Marker::I64 => Head::Integer(self.signed(8)?),
            Marker::F32 => {
                let bits = u32::try_from(self.unsigned(4)?).unwrap_or(0);
                Head::Float(f64::from(f32::from_bits(bits)))
            }
            Marker::F64 => Head::Float(f64::from_bits(self.unsigned(8)?)),
            Marker::FixStr(len) => self.text(u32::from(len))?,
            Marker::Str8 => self.len(1).and_then(|len| self.text(len))?,
            Marker::Str16 => self.len(2).and_then(|len| self.text(len))?,
            Marker::Str32 => self.len(4).and_then(|len| self.text(len))?,
            Marker::Bin8 => self.len(1).and_then(|len| self.blob(len))?,
            Marker::Bin16 => self.len(2).and_then(|len| self.blob(len))?,
            Marker::Bin32 => self.len(4).and_then(|len| self.blob(len))?,
            Marker::FixArray(len) => Head::Array(u32::from(len)),
            Marker::Array16 => Head::Array(self.len(2)?),
            Marker::Array32 => Head::Array(self.len(4)?),
            Marker::FixMap(len) => Head::Map(u32::from(len)),
            Marker::Map16 => Head::Map(self.len(2)?),
            Marker::Map32 => Head::Map(self.len(4)?),
            _ => return Err(wrong("a MessagePack extension, which has no JSON form")),
        })
    }
}

struct Walk<'a> {
    definitions: &'a [Shape],
    steps: usize,
    depth: usize,
}

impl<'a> Walk<'a> {
    fn value(&mut self, reader: &mut Reader<'_>, shape: &'a Shape) -> Result<(), CheckError> {
        self.steps += 1;
        if self.steps > STEPS_MAX.saturating_add(reader.bytes.len()) {
            return Err(wrong("checking the value takes too many steps"));
        }
        if self.depth > VALUE_DEPTH_MAX {
            return Err(wrong(format!("the value is nested deeper than {VALUE_DEPTH_MAX}")));
        }
        self.depth += 1;
        let result = self.value_inside(reader, shape);
        self.depth -= 1;
        result
    }

    fn value_inside(
        &mut self,
        reader: &mut Reader<'_>,
        shape: &'a Shape,
    ) -> Result<(), CheckError> {
        match shape {
            Shape::Reference(place) => {
                let shape = self.definitions.get(*place);
                return self.value(reader, shape.ok_or_else(|| wrong("a lost reference"))?);
            }
            Shape::Union(shapes) => return self.union(reader, shapes),
            Shape::OneOf(values) => return one_of(reader, values),
            _ => {}
        }
        let start = *reader;
        match (shape, reader.head()?) {
            (Shape::Any, Head::Array(len)) => self.array(reader, len, &[], &Shape::Any),
            (Shape::Any, Head::Map(len)) => self.map(reader, len, &Shape::Any, &NO_PROPERTIES, &[]),
            (Shape::Any, _) | (Shape::Null, Head::Null) | (Shape::Boolean, Head::Boolean) => Ok(()),
            (Shape::Integer { minimum, maximum }, Head::Integer(value)) => {
                in_range(value, *minimum, *maximum)
            }
            (Shape::Number { minimum, maximum }, Head::Float(value)) => {
                in_range(value, *minimum, *maximum)
            }
            (Shape::Number { minimum, maximum }, Head::Integer(value)) =>
            {
                #[expect(clippy::cast_precision_loss, reason = "a bound of floats is a float")]
                in_range(value as f64, *minimum, *maximum)
            }
            (Shape::Text { minimum, maximum }, Head::Text(text)) => {
                if *minimum == 0 && *maximum == u64::MAX {
                    return Ok(());
                }
                count_in_range("characters", text.chars().count() as u64, *minimum, *maximum)
            }
            (Shape::Array { prefix, items, minimum, maximum }, Head::Array(len)) => {
                count_in_range("elements", u64::from(len), *minimum, *maximum)?;
                self.array(reader, len, prefix, items)
            }
            // Bytes are a list of numbers to JSON.
            (Shape::Array { .. }, Head::Bytes) => Ok(()),
            (Shape::Object { properties, required, additional }, Head::Map(len)) => {
                self.map(reader, len, additional, properties, required)
            }
            _ => Err(wrong(format!("expected {}, found {}", expected(shape), show(start)))),
        }
    }

    fn union(&mut self, reader: &mut Reader<'_>, shapes: &'a [Shape]) -> Result<(), CheckError> {
        let start = *reader;
        let mut closest: Option<CheckError> = None;
        for shape in shapes {
            *reader = start;
            match self.value(reader, shape) {
                Ok(()) => return Ok(()),
                // The alternative that got deepest into the value is most likely the one meant.
                Err(error) => {
                    if closest.as_ref().is_none_or(|best| error.path.len() > best.path.len()) {
                        closest = Some(error);
                    }
                }
            }
        }
        match closest {
            Some(error) if !error.path.is_empty() || shapes.len() == 1 => Err(error),
            _ => {
                let names: Vec<&str> = shapes.iter().map(expected).collect();
                Err(wrong(format!("expected {}, found {}", names.join(" or "), show(start))))
            }
        }
    }

    fn array(
        &mut self,
        reader: &mut Reader<'_>,
        len: u32,
        prefix: &'a [Shape],
        items: &'a Shape,
    ) -> Result<(), CheckError> {
        for index in 0..len {
            let place = usize::try_from(index).unwrap_or(usize::MAX);
            let shape = prefix.get(place).unwrap_or(items);
            self.value(reader, shape).map_err(|error| under(&format!("[{index}]"), error))?;
        }
        Ok(())
    }

    fn map(
        &mut self,
        reader: &mut Reader<'_>,
        len: u32,
        additional: &'a Shape,
        properties: &'a BTreeMap<String, Shape>,
        required: &[String],
    ) -> Result<(), CheckError> {
        let mut found = 0;
        for _ in 0..len {
            let Head::Text(name) = reader.head()? else {
                return Err(wrong("an object's name that is not a string"));
            };
            if required.binary_search_by(|known| known.as_str().cmp(name)).is_ok() {
                found += 1;
            }
            let shape = properties.get(name).unwrap_or(additional);
            if matches!(shape, Shape::Never) {
                return Err(wrong(format!("`{}` is not expected", printable(name, 64))));
            }
            self.value(reader, shape)
                .map_err(|error| under(&format!(".{}", printable(name, 64)), error))?;
        }
        if found == required.len() {
            return Ok(());
        }
        Err(wrong(format!("expected an object with {}", required.join(", "))))
    }
}

fn one_of(reader: &mut Reader<'_>, values: &[Value]) -> Result<(), CheckError> {
    let start = *reader;
    // Constants are short: numbers and names.
    let found = super::super::json::read_value(&mut reader.bytes, VALUE_DEPTH_MAX)
        .map_err(|error| wrong(error.to_string()))?;
    if values.contains(&found) {
        return Ok(());
    }
    let names: Vec<String> = values.iter().map(Value::to_string).collect();
    let names = printable(&names.join(", "), 200);
    Err(wrong(format!("expected one of {names}, found {}", show(start))))
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    value: T,
    minimum: T,
    maximum: T,
) -> Result<(), CheckError> {
    if value < minimum {
        Err(wrong(format!("{value} is below the minimum {minimum}")))
    } else if value > maximum {
        Err(wrong(format!("{value} is above the maximum {maximum}")))
    } else {
        Ok(())
    }
}

fn count_in_range(what: &str, count: u64, minimum: u64, maximum: u64) -> Result<(), CheckError> {
    in_range(count, minimum, maximum)
        .map_err(|error| wrong(format!("the number of {what}: {}", error.problem)))
}

fn expected(shape: &Shape) -> &'static str {
    match shape {
        Shape::Any => "anything",
        Shape::Never => "nothing",
        Shape::Null => "null",
        Shape::Boolean => "a boolean",
        Shape::Integer { .. } => "an integer",
        Shape::Number { .. } => "a number",
        Shape::Text { .. } => "a string",
        Shape::Array { .. } => "an array",
        Shape::Object { .. } => "an object",
        Shape::OneOf(_) => "a constant",
        Shape::Union(_) | Shape::Reference(_) => "another form",
    }
}

fn show(reader: Reader<'_>) -> String {
    let mut bytes = reader.bytes;
    match super::super::json::read_value(&mut bytes, VALUE_DEPTH_MAX) {
        Ok(value) => printable(&value.to_string(), SHOWN_BYTES_MAX),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(schema: &Value, value: &Value) -> Result<(), String> {
        let bytes = rmp_serde::to_vec(value).unwrap();
        check(&bytes, &Shapes::compile(schema).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn s0_13_values_that_fit_pass_and_others_are_named() {
        let order = json!({
            "type": "object",
            "properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}},
            "required": ["lines"],
            "additionalProperties": false,
            "$defs": {"line": {
                "type": "object",
                "properties": {"amount": {"type": "integer", "minimum": 1, "maximum": 9}},
                "required": ["amount"],
            }},
        });
        assert_eq!(fits(&order, &json!({"lines": [{"amount": 3, "x": 1}]})), Ok(()));
        for (value, expected) in [
            (
                json!({"lines": [{"amount": 3}, {"amount": 10}]}),
                "at `.lines[1].amount`: 10 is above",
            ),
            (json!({"lines": [{}]}), "at `.lines[0]`: expected an object with amount"),
            (json!({"lines": 3}), "at `.lines`: expected an array, found 3"),
            (json!({"lines": [], "more": 1}), "`more` is not expected"),
            (json!({}), "expected an object with lines"),
            (json!(null), "expected an object, found null"),
        ] {
            let error = fits(&order, &value).unwrap_err();
            assert!(error.contains(expected), "{value}: {error}");
        }
    }

    #[test]
    fn every_kind_of_shape_takes_its_values_and_refuses_others() {
        for (schema, good, bad) in [
            (json!({"type": "integer"}), json!(-5), json!(1.5)),
            (json!({"type": "integer"}), json!(u64::MAX), json!("5")),
            (json!({"type": "number", "maximum": 2.5}), json!(2), json!(3)),
            (json!({"type": "boolean"}), json!(true), json!(0)),
            (json!({"type": "null"}), json!(null), json!(false)),
            (json!({"type": "string", "minLength": 2}), json!("\u{e9}\u{e9}"), json!("a")),
            (json!({"type": ["integer", "null"]}), json!(null), json!("x")),
            (json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}), json!(1), json!([])),
            (json!({"const": "a"}), json!("a"), json!("b")),
            (json!({"enum": [1, "x"]}), json!("x"), json!(2)),
            (json!({"type": "array", "maxItems": 1}), json!([1]), json!([1, 2])),
            (
                json!({"type": "array", "prefixItems": [{"type": "string"}], "items": false}),
                json!(["a"]),
                json!(["a", 1]),
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "integer"}}),
                json!({"a": 1}),
                json!({"a": "1"}),
            ),
            (json!(true), json!({"any": [1, {"thing": null}]}), json!(null)),
        ] {
            assert_eq!(fits(&schema, &good), Ok(()), "{schema}");
            if schema != json!(true) {
                assert!(fits(&schema, &bad).is_err(), "{schema} took {bad}");
            }
        }
    }

    #[test]
    fn hostile_bytes_are_errors_and_end() {
        let any = Shapes::compile(&json!(true)).unwrap();
        // Cut off at every length, a huge announced length, an extension, bad text, deep nesting.
        let good = rmp_serde::to_vec(&json!({"a": [1, "x", 2.5, {"b": null}]})).unwrap();
        for end in 0..good.len() {
            assert!(check(&good[..end], &any).is_err());
        }
        assert!(check(&[0xdd, 0xff, 0xff, 0xff, 0xff], &any).is_err());
        assert!(check(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'x'], &any).is_err());
        assert!(check(&[0xd4, 1, 2], &any).is_err());
        assert!(check(&[0xa1, 0xff], &any).is_err());
        assert!(check(&[0xc0, 0xc0], &any).unwrap_err().problem.contains("after"));
        let mut deep = vec![0x91; 10_000];
        deep.push(0xc0);
        assert!(check(&deep, &any).unwrap_err().problem.contains("deeper"));
        // A union that calls itself twice would take 2^64 steps.
        let schema = json!({
            "$ref": "#/$defs/a",
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}},
        });
        assert!(check(&[0xc0], &Shapes::compile(&schema).unwrap()).is_err());
    }
}
