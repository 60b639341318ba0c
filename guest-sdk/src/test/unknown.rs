//! Fields that a value has and its schema has not: the host refuses them, so a test does.

use serde_json::Value;

/// A field, and where it was found.
struct Found<'v> {
    path: String,
    name: &'v str,
}

/// Which one there is, in the words of the host.
pub(super) fn unknown(schema: &str, value: &Value) -> Option<String> {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    look(&schema, &schema, value).map(|Found { path, name }| match path.as_str() {
        "" => format!("`{name}` is not expected"),
        path => format!("at `{path}`: `{name}` is not expected"),
    })
}

impl Found<'_> {
    fn under(self, part: impl std::fmt::Display) -> Self {
        Self { path: format!("{part}{}", self.path), ..self }
    }
}

fn look<'v>(root: &Value, schema: &Value, value: &'v Value) -> Option<Found<'v>> {
    let referred = target(root, schema).and_then(|target| look(root, target, value));
    let whole = list(schema, "allOf").iter().find_map(|part| look(root, part, value));
    if let Some(found) = referred.or(whole) {
        return Some(found);
    }
    for name in ["anyOf", "oneOf"] {
        let like = list(schema, name).iter().filter(|one| may_be(root, one, value));
        let found: Vec<_> = like.map(|one| look(root, one, value)).collect();
        if found.iter().all(Option::is_some) {
            let Some(last) = found.into_iter().flatten().next_back() else { continue };
            return Some(last);
        }
    }
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if let Some(property) = schema.get("properties").and_then(|all| all.get(name)) {
                return look(root, property, value).map(|found| found.under(format!(".{name}")));
            }
            match schema.get("additionalProperties") {
                Some(Value::Bool(false)) if schema.get("patternProperties").is_none() => {
                    Some(Found { path: String::new(), name })
                }
                Some(values) => {
                    look(root, values, value).map(|found| found.under(format!(".{name}")))
                }
                None => None,
            }
        }),
        Value::Array(values) => {
            let prefix = list(schema, "prefixItems");
            values.iter().enumerate().find_map(|(place, value)| {
                let schema = prefix.get(place).or_else(|| schema.get("items"))?;
                look(root, schema, value).map(|found| found.under(format!("[{place}]")))
            })
        }
        _ => None,
    }
}

fn target<'s>(root: &'s Value, schema: &Value) -> Option<&'s Value> {
    root.pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)
}

fn list<'s>(schema: &'s Value, name: &str) -> &'s [Value] {
    schema.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a value could be meant as this alternative: by its type, constants and required fields.
fn may_be(root: &Value, schema: &Value, value: &Value) -> bool {
    let is_type = |name: &str| match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(_) => matches!(name, "number" | "integer"),
        // Digits stand for wide numbers.
        Value::String(_) => matches!(name, "string" | "number" | "integer"),
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
    };
    let fits_type = match schema.get("type") {
        Some(Value::String(name)) => is_type(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is_type),
        _ => true,
    };
    let has_all = list(schema, "required").iter().filter_map(Value::as_str).all(|name| {
        value.get(name).is_some_and(|value| {
            let property = schema.get("properties").and_then(|all| all.get(name));
            property.is_none_or(|property| may_be(root, property, value))
        })
    });
    fits_type
        && has_all
        && schema.get("const").is_none_or(|constant| constant == value)
        && (schema.get("enum").is_none() || list(schema, "enum").contains(value))
        && target(root, schema).is_none_or(|target| may_be(root, target, value))
}
