//! Other names of fields and variants, which `serde(alias)` allows and schemas have no word for.
//!
//! `#[data]` notes them at the schema of the field or the variant. A caller may use any of them.

use std::mem;

use serde_json::{Map, Value, json};

const NOTE: &str = "x-aliases";

/// Each of them becomes a property, or an alternative, of its own. A field that has any is not
/// required by its own name: whether one of its names is there is found out when it is read.
pub(super) fn take_in(schema: &mut Value) {
    each_object(schema, &mut |fields| {
        let mut renamed = Vec::new();
        if let Some(Value::Object(properties)) = fields.get_mut("properties") {
            let mut more = Map::new();
            for (name, property) in properties.iter_mut() {
                let aliases = noted(property);
                if !aliases.is_empty() {
                    renamed.push(name.clone());
                }
                more.extend(aliases.into_iter().map(|alias| (alias, property.clone())));
            }
            properties.extend(more);
        }
        if let Some(Value::Array(required)) = fields.get_mut("required") {
            required.retain(|name| renamed.iter().all(|renamed| name != renamed.as_str()));
        }
        for name in ["anyOf", "oneOf"] {
            let Some(Value::Array(variants)) = fields.get_mut(name) else { continue };
            let more: Vec<Value> = variants.iter_mut().flat_map(by_other_names).collect();
            variants.extend(more);
        }
    });
}

fn noted(schema: &mut Value) -> Vec<String> {
    let note = schema.as_object_mut().and_then(|schema| schema.remove(NOTE));
    let aliases = note.as_ref().and_then(Value::as_array).into_iter().flatten();
    aliases.filter_map(|alias| alias.as_str().map(str::to_owned)).collect()
}

fn by_other_names(variant: &mut Value) -> Vec<Value> {
    let aliases = noted(variant);
    aliases.into_iter().filter_map(|alias| named(variant, alias)).collect()
}

/// The variant by another name, which is all that it is, or its tag, or its only field.
fn named(variant: &Value, name: String) -> Option<Value> {
    let mut other = variant.clone();
    let fields = other.as_object_mut()?;
    if let Some(own) = fields.get_mut("const") {
        *own = name.into();
        return Some(other);
    }
    let properties = fields.get_mut("properties")?.as_object_mut()?;
    if let Some(tag) = properties.values_mut().find_map(|property| property.get_mut("const")) {
        *tag = name.into();
        return Some(other);
    }
    let (_, inner) = mem::take(properties).into_iter().next()?;
    properties.insert(name.clone(), inner);
    fields.insert("required".to_owned(), json!([name]));
    Some(other)
}

/// What is answered has one name.
pub(super) fn leave_out(schema: &mut Value) {
    each_object(schema, &mut |fields| {
        fields.remove(NOTE);
    });
}

fn each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            change(fields);
            fields.values_mut().for_each(|inner| each_object(inner, change));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| each_object(inner, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_described_under_each_of_its_names_where_it_is_taken() {
        let noted = json!({"$defs": {"Line": {
            "properties": {
                "amount": {"type": "integer", "x-aliases": ["quantity", "count"]},
                "note": {"type": "string"},
            },
            "required": ["amount", "note"],
        }}});
        let line = |properties: Value, required: Value| {
            let line = json!({"properties": properties, "required": required});
            json!({"$defs": {"Line": line}})
        };
        let (number, text) = (json!({"type": "integer"}), json!({"type": "string"}));
        let mut taken = noted.clone();
        take_in(&mut taken);
        let all = json!({"amount": number, "quantity": number, "count": number, "note": text});
        assert_eq!(taken, line(all, json!(["note"])));
        let mut answered = noted;
        leave_out(&mut answered);
        let own = json!({"amount": number, "note": text});
        assert_eq!(answered, line(own, json!(["amount", "note"])));
    }

    #[test]
    fn a_variant_is_described_under_each_of_its_names() {
        let tagged = |tag: &str| json!({"properties": {"a": {}, "t": {"const": tag}}});
        let outer = |name: &str| json!({"properties": {name: {}}, "required": [name]});
        for variant in [json!({"const": "own"}), tagged("own"), outer("own")] {
            let mut noted = variant.clone();
            noted[NOTE] = json!(["one", "other"]);
            let mut schema = json!({"oneOf": [noted, {"type": "null"}]});
            take_in(&mut schema);
            let by = |name: &str| -> Value {
                serde_json::from_str(&variant.to_string().replace("own", name)).unwrap()
            };
            let all = json!([variant, {"type": "null"}, by("one"), by("other")]);
            assert_eq!(schema, json!({"oneOf": all}));
        }
    }
}
