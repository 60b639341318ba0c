//! JSON Schemas of arguments and results, made only when `describe` asks.

mod aliases;
mod closed;

use std::fmt::{self, Write};

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Number, Value};

/// What contracts take and answer.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument or an answer of a contract",
    label = "it has no form in JSON",
    note = "put `#[data]` before a struct or an enum of your own",
    note = "types of chrono, uuid, rust_decimal, url and bytes need the feature of guest-sdk of \
            that name"
)]
pub trait Data: JsonSchema {}

#[diagnostic::do_not_recommend]
impl<T: JsonSchema> Data for T {}

/// The schema of what a caller may send.
#[must_use]
pub fn argument_schema<T: Data>() -> String {
    let mut schema = schema::<T>(SchemaSettings::draft2020_12().for_deserialize());
    aliases::take_in(&mut schema);
    closed::close(&mut schema);
    text(&schema)
}

/// The schema of what a committed call answers.
#[must_use]
pub fn result_schema<T: Data>() -> String {
    let mut schema = schema::<T>(SchemaSettings::draft2020_12().for_serialize());
    aliases::leave_out(&mut schema);
    text(&schema)
}

fn schema<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let mut generator = settings.into_generator();
    // Not by `into_root_schema_for`, which would bring those tables in as well.
    let mut schema = T::json_schema(&mut generator);
    // Each schema stands alone, with the definitions it refers to.
    if !generator.definitions().is_empty() {
        schema.insert("$defs".to_owned(), generator.definitions().clone().into());
    }
    Edges.transform(&mut schema);
    schema.to_value()
}

fn text(schema: &Value) -> String {
    let mut text = String::new();
    let written = write_value(&mut text, schema);
    debug_assert!(written.is_ok(), "a String takes all that fits in memory");
    text
}

/// Says some things in a way that more readers of schemas understand.
///
/// * What the names in a map look like is said apart from what the values do, as `propertyNames`
///   and `additionalProperties`.
/// * Bytes are a list of numbers. That text stands for its own bytes is not said: whoever types
///   `[1,2]` means a list.
/// * A decimal is a text or an integer of 64 bits. schemars says that any number will do; one with
///   a fraction would come as a float, so it would be another one.
#[derive(Debug)]
struct Edges;

impl Transform for Edges {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let list_or_text = serde_json::json!(["array", "string"]);
        if schema.get("type") == Some(&list_or_text) && schema.get("items").is_some() {
            schema.insert("type".to_owned(), "array".into());
        }
        keep_decimals_exact(schema);
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return;
        }
        let Some(Value::Object(patterns)) = schema.get("patternProperties") else { return };
        let mut values = patterns.values();
        let Some(first) = values.next().cloned() else { return };
        if values.any(|value| *value != first) {
            return;
        }
        let mut patterns: Vec<Value> =
            patterns.keys().map(|pattern| serde_json::json!({ "pattern": pattern })).collect();
        schema.remove("patternProperties");
        schema.insert("additionalProperties".to_owned(), first);
        // Names that stand alone are among the properties, which have their own pattern.
        if let (None, 1, Some(names)) = (schema.get("properties"), patterns.len(), patterns.pop()) {
            schema.insert("propertyNames".to_owned(), names);
        }
    }
}

/// Takes floats out of what may stand for a decimal: the only texts with a pattern for which a
/// number is as good.
fn keep_decimals_exact(schema: &mut Schema) {
    if schema.get("pattern").is_none() {
        return;
    }
    let Some(Value::Array(types)) = schema.get_mut("type") else { return };
    if !types.iter().any(|name| name == "string") {
        return;
    }
    let Some(number) = types.iter_mut().find(|name| *name == "number") else { return };
    *number = "integer".into();
    schema.insert("minimum".to_owned(), i64::MIN.into());
    schema.insert("maximum".to_owned(), u64::MAX.into());
}

/// Writes JSON. serde_json does so too, but with 16 KiB of tables for numbers with a fraction,
/// which would be part of the data of even the smallest guest, and every restart puts that back.
fn write_value(text: &mut impl Write, value: &Value) -> fmt::Result {
    match value {
        Value::Null => text.write_str("null"),
        Value::Bool(value) => write!(text, "{value}"),
        Value::Number(value) => write_number(text, value),
        Value::String(value) => write_string(text, value),
        Value::Array(values) => {
            text.write_char('[')?;
            for (place, value) in values.iter().enumerate() {
                write_comma(text, place)?;
                write_value(text, value)?;
            }
            text.write_char(']')
        }
        Value::Object(entries) => {
            text.write_char('{')?;
            for (place, (name, value)) in entries.iter().enumerate() {
                write_comma(text, place)?;
                write_string(text, name)?;
                text.write_char(':')?;
                write_value(text, value)?;
            }
            text.write_char('}')
        }
    }
}

fn write_comma(text: &mut impl Write, place: usize) -> fmt::Result {
    if place == 0 { Ok(()) } else { text.write_char(',') }
}

fn write_number(text: &mut impl Write, number: &Number) -> fmt::Result {
    if let Some(number) = number.as_u64() {
        write!(text, "{number}")
    } else if let Some(number) = number.as_i64() {
        write!(text, "{number}")
    } else {
        // `Debug` writes exponents where `Display` would write hundreds of zeros.
        write!(text, "{:?}", number.as_f64().unwrap_or_default())
    }
}

fn write_string(text: &mut impl Write, string: &str) -> fmt::Result {
    text.write_char('"')?;
    for character in string.chars() {
        match character {
            '"' => text.write_str("\\\"")?,
            '\\' => text.write_str("\\\\")?,
            '\n' => text.write_str("\\n")?,
            control if control < ' ' => write!(text, "\\u{:04x}", u32::from(control))?,
            other => text.write_char(other)?,
        }
    }
    text.write_char('"')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_json_text() {
        let schema: Value = serde_json::from_str(&argument_schema::<Option<u64>>()).unwrap();
        assert_eq!(schema["type"], json!(["integer", "null"]));
        assert!(schema.get("$schema").is_none());
    }

    #[test]
    fn a_schema_brings_its_definitions() {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema matters")]
        struct Tree {
            leaf: Option<Leaf>,
            branches: Vec<Tree>,
        }
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema matters")]
        enum Leaf {
            Green,
            Brown { age: f64 },
        }
        let schema: Value = serde_json::from_str(&argument_schema::<Tree>()).unwrap();
        assert_eq!(schema["properties"]["branches"]["items"], json!({"$ref": "#/$defs/Tree"}));
        assert_eq!(schema["$defs"]["Tree"]["type"], "object");
        assert!(schema["$defs"]["Leaf"]["oneOf"].is_array(), "{schema}");
    }

    #[test]
    fn a_map_takes_the_names_that_its_keys_have() {
        use std::collections::BTreeMap;
        #[derive(JsonSchema, Eq, Ord, PartialEq, PartialOrd)]
        struct Id(u64);
        let schema =
            |text: String| -> Value { serde_json::from_str(&text).expect("a schema is JSON") };
        for map in [
            argument_schema::<BTreeMap<u64, bool>>(),
            result_schema::<BTreeMap<u64, bool>>(),
            result_schema::<BTreeMap<u128, bool>>(),
            argument_schema::<BTreeMap<Id, bool>>(),
        ] {
            let map = schema(map);
            assert_eq!(map["additionalProperties"], json!({"type": "boolean"}), "{map}");
            assert_eq!(map["propertyNames"], json!({"pattern": "^\\d+$"}), "{map}");
        }
        let signed = schema(result_schema::<Vec<BTreeMap<i8, String>>>());
        assert_eq!(signed["items"]["propertyNames"], json!({"pattern": "^-?\\d+$"}), "{signed}");
        for map in [result_schema::<BTreeMap<bool, u8>>(), result_schema::<BTreeMap<char, u8>>()] {
            let map = schema(map);
            assert_eq!(map["additionalProperties"]["type"], "integer", "{map}");
        }
    }

    #[test]
    #[cfg(feature = "bytes")]
    fn bytes_are_a_list_of_numbers() {
        for schema in [argument_schema::<bytes::Bytes>(), result_schema::<bytes::Bytes>()] {
            let schema: Value = serde_json::from_str(&schema).unwrap();
            assert_eq!(
                (&schema["type"], &schema["items"]["maximum"]),
                (&json!("array"), &json!(255))
            );
        }
    }

    #[test]
    #[cfg(feature = "rust_decimal")]
    fn a_decimal_is_a_text_or_an_integer() {
        use rust_decimal::Decimal;
        let schema = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
        let one = schema(argument_schema::<Decimal>());
        assert_eq!(one["type"], json!(["string", "integer"]));
        assert_eq!((&one["minimum"], &one["maximum"]), (&json!(i64::MIN), &json!(u64::MAX)));
        let list = schema(argument_schema::<Vec<Option<Decimal>>>());
        assert_eq!(list["items"]["type"], json!(["string", "integer", "null"]));
        assert_eq!(schema(result_schema::<Decimal>())["type"], "string");
        assert_eq!(schema(argument_schema::<f64>())["type"], "number");
    }

    #[test]
    fn every_value_is_written_so_that_it_is_read_as_the_same() {
        let value = json!({
            "numbers": [0, -7, u64::MAX, i64::MIN, 0.1, -2.5e300, 1e-9, 3.0],
            "text": ["", "a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}\u{e9}\u{1f600}"],
            "others": [null, true, false, [], {}, {"": {"a": 1, "b": 2}}],
        });
        let mut text = String::new();
        write_value(&mut text, &value).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
