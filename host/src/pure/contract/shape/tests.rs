use serde_json::{Value, json};

use super::*;

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
        (json!({"type": "object", "patternProperties": 3}), "`patternProperties`"),
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

/// Whatever a schema within its limit of bytes says, what it is compiled to is bounded.
#[test]
fn wide_schemas_are_bounded() {
    let many = |count: usize, item: fn(usize) -> Value| (0..count).map(item).collect::<Value>();
    let nulls = many(SCHEMA_NODES_MAX, |_| json!({"type": "null"}));
    assert_eq!(Shapes::compile(&json!({ "anyOf": nulls })), Err(SchemaError::TooLarge));
    // Each union leads to all others: their alternatives are the square of its length.
    let name = |number: usize| format!("d{number}");
    let all: Vec<Value> =
        (0..400).map(|n| json!({ "$ref": format!("#/$defs/{}", name(n)) })).collect();
    let definitions: serde_json::Map<String, Value> =
        (0..400).map(|number| (name(number), json!({ "anyOf": all }))).collect();
    let square = json!({ "$defs": definitions, "$ref": "#/$defs/d0" });
    assert_eq!(Shapes::compile(&square), Err(SchemaError::TooWide));
    // A name in many unions, each with a copy.
    let names = many(2000, |number| json!(format!("n{number}")));
    let again = many(1000, |_| json!({"anyOf": [{"$ref": "#/$defs/names"}]}));
    let copies = json!({ "$defs": { "names": { "enum": names } }, "prefixItems": again });
    let copies =
        json!({ "type": "array", "prefixItems": copies["prefixItems"], "$defs": copies["$defs"] });
    assert_eq!(Shapes::compile(&copies), Err(SchemaError::TooWide));
}

#[test]
fn objects_are_told_apart_by_what_their_schemas_say() {
    let tag = |schema: Value| Shapes::compile(&schema).unwrap().root_node().tag.clone();
    let variant = |name: &str| {
        json!({"type": "object", "properties": {name: {"type": "integer"}}, "required": [name],
               "additionalProperties": false})
    };
    let Some(Tag::Outer(by)) = tag(json!({"oneOf": [variant("A"), variant("B")]})) else {
        panic!("a tag")
    };
    assert_eq!(by.keys().map(AsRef::as_ref).collect::<Vec<&str>>(), ["A", "B"]);
    let tagged = |name: &str| {
        json!({"type": "object", "properties": {"kind": {"type": "string", "const": name}},
               "required": ["kind"]})
    };
    let Some(Tag::Inner(name, by)) = tag(json!({"oneOf": [tagged("A"), tagged("B")]})) else {
        panic!("a tag")
    };
    assert_eq!((name.as_ref(), by.len()), ("kind", 2));
    for untagged in [
        json!({"oneOf": [variant("A"), variant("A")]}),
        json!({"oneOf": [variant("A"), tagged("B")]}),
        json!({"oneOf": [tagged("A"), tagged("A")]}),
        json!({"anyOf": [variant("A"), variant("B"), true]}),
    ] {
        assert_eq!(tag(untagged.clone()), None, "{untagged}");
    }
}

#[test]
fn texts_of_the_command_line_stay_text_where_they_are_meant_so() {
    let takes =
        |schema: Value, text: &str| Shapes::compile(&schema).unwrap().root_node().takes_text(text);
    assert!(takes(json!({"type": "string"}), "[1]"));
    assert!(takes(json!({"type": ["string", "null"]}), "null"));
    assert!(takes(json!({"$ref": "#/$defs/a", "$defs": {"a": {"enum": ["x"]}}}), "x"));
    assert!(!takes(json!({"$ref": "#/$defs/a", "$defs": {"a": {"enum": ["x"]}}}), "y"));
    assert!(!takes(json!({"type": "integer"}), "5"));
    assert!(!takes(json!({"type": ["string", "array"]}), "[1]"));
    assert!(!takes(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), "x"));
}
