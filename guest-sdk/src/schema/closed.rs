//! Objects without other fields than their own.
//!
//! serde passes over fields that a type doesn't have, so a caller would never hear of a name that
//! is misspelled, unless the type says `deny_unknown_fields`. What stands in arguments may have no
//! other fields anyway: the schema says so, and the host goes by it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Where several schemas describe one object.
const PARTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// Says of each object that is described by its properties alone that there are no others. One of
/// several parts of an object, as `flatten` and tags make them, stays as it is.
pub(super) fn close(schema: &mut Value) {
    let mut open = BTreeSet::new();
    find_parts(schema, &mut open);
    loop {
        let known = open.clone();
        let definition = |name: &String| schema.get("$defs").and_then(|all| all.get(name));
        known.iter().filter_map(definition).for_each(|part| references(part, &mut open));
        if open.len() == known.len() {
            break;
        }
    }
    close_in(schema, false, &open);
}

/// Whether a schema is one of several that describe the same object.
fn is_combined(schema: &Map<String, Value>) -> bool {
    let several = |list: &Value| list.as_array().is_some_and(|list| list.len() > 1);
    let parts = schema.contains_key("$ref") || PARTS.iter().any(|name| schema.contains_key(*name));
    (parts && schema.contains_key("properties")) || schema.get("allOf").is_some_and(several)
}

/// Notes the definitions that are parts of objects which have others.
fn find_parts(schema: &Value, open: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if is_combined(fields) {
                references(schema, open);
            }
            fields.values().for_each(|inner| find_parts(inner, open));
        }
        Value::Array(list) => list.iter().for_each(|inner| find_parts(inner, open)),
        _ => {}
    }
}

/// Notes the definitions that a value of this schema may be one of.
fn references(schema: &Value, open: &mut BTreeSet<String>) {
    let reference = schema.get("$ref").and_then(Value::as_str);
    open.extend(reference.and_then(|text| text.strip_prefix("#/$defs/")).map(str::to_owned));
    let lists = PARTS.iter().filter_map(|name| schema.get(*name)?.as_array());
    lists.flatten().for_each(|part| references(part, open));
}

fn close_in(schema: &mut Value, is_part: bool, open: &BTreeSet<String>) {
    let Value::Object(fields) = schema else { return };
    let is_part = is_part || is_combined(fields);
    let says = |name: &str| fields.contains_key(name);
    let is_open = !says("additionalProperties") && !says("unevaluatedProperties");
    if !is_part && is_open && says("properties") && !says("patternProperties") {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for (name, inner) in fields.iter_mut() {
        match (name.as_str(), inner) {
            ("$defs", Value::Object(all)) => {
                all.iter_mut().for_each(|(name, one)| close_in(one, open.contains(name), open));
            }
            ("properties" | "patternProperties", Value::Object(all)) => {
                all.values_mut().for_each(|one| close_in(one, false, open));
            }
            ("prefixItems", Value::Array(all)) => {
                all.iter_mut().for_each(|one| close_in(one, false, open));
            }
            ("items" | "additionalProperties", inner) => close_in(inner, false, open),
            (name, Value::Array(all)) if PARTS.contains(&name) => {
                all.iter_mut().for_each(|one| close_in(one, is_part, open));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemars::JsonSchema;
    use serde_json::Value;

    use crate::schema::{argument_schema, result_schema};

    /// Which of these fields an object may have besides its own, in the order of the text.
    fn closed<T: JsonSchema>() -> (usize, usize) {
        let schema = argument_schema::<T>();
        let value: Value = serde_json::from_str(&schema).unwrap();
        assert!(value.is_object());
        let count = |text: &str| schema.matches(text).count();
        (count("\"additionalProperties\":false"), count("\"properties\""))
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema matters")]
    struct Inner {
        a: u8,
    }

    #[test]
    fn objects_are_closed_wherever_they_stand() {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema matters")]
        enum Kind {
            Red,
            Custom { wide: u8 },
            One(Inner),
        }
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema matters")]
        struct Outer {
            list: Vec<Option<Inner>>,
            pair: (Inner, u8),
            map: BTreeMap<String, Inner>,
            kind: Kind,
        }
        let (closed, all) = closed::<Outer>();
        assert_eq!(closed, all);
        assert!(closed >= 5, "{closed}");
        assert!(
            !result_schema::<Outer>()
                .contains("\"additionalProperties\":false,\"properties\":{\"a\"")
        );
    }

    #[test]
    fn parts_of_objects_stay_open() {
        #[derive(JsonSchema)]
        #[serde(tag = "kind")]
        #[expect(dead_code, reason = "only its schema matters")]
        enum Tagged {
            One(Inner),
            Other { b: u8 },
        }
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema matters")]
        struct Flat {
            id: u8,
            #[serde(flatten)]
            rest: Tagged,
        }
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema matters")]
        struct Rest {
            id: u8,
            #[serde(flatten)]
            rest: BTreeMap<String, u8>,
        }
        let inner = |schema: String| {
            let schema: Value = serde_json::from_str(&schema).unwrap();
            schema.pointer("/$defs/Inner/additionalProperties").cloned()
        };
        assert_eq!(inner(argument_schema::<Tagged>()), None);
        assert_eq!(inner(argument_schema::<Flat>()), None);
        assert_eq!(inner(argument_schema::<Vec<Inner>>()), Some(Value::Bool(false)));
        assert_eq!(closed::<Rest>().0, 0);
    }
}
