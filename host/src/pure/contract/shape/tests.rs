use serde_json::{Value, json};

use super::*;

#[test]
fn broken_schemas_are_refused_with_the_keyword() {
    for (schema, expected) in [
        (json!(3), "`schema`"),
        (json!({"type": "text"}), "`type`"),
        (json!({"type": 3}), "`type`"),
        (json!({"type": [3]}), "`type`"),
        (json!({"type": ["null", "null"]}), "`type`"),
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

/// All that a schema was compiled to: each of it took a step to copy.
fn held(shapes: &Shapes) -> usize {
    let names = |names: &mut dyn Iterator<Item = &Box<str>>| -> usize {
        names.map(|name| 1 + name.len() / 32).sum()
    };
    let node = |node: &Node| {
        let tags = match &node.tag {
            None => 0,
            Some(Tag::Outer(by) | Tag::Inner(_, by)) => names(&mut by.keys()),
        };
        let numbers = node.integers.len() + node.numbers.len() + node.lengths.len();
        1 + tags + names(&mut node.names.iter()) + numbers + node.arrays.len() + node.objects.len()
    };
    let nodes: usize = shapes.nodes.iter().map(node).sum();
    let arrays: usize = shapes.arrays.iter().map(|array| 1 + array.prefix.len()).sum();
    let object = |object: &ObjectShape| 1 + names(&mut object.properties.keys());
    nodes + arrays + shapes.objects.iter().map(object).sum::<usize>()
}

/// What grows with the square of a schema's bytes is refused before it is large.
#[test]
fn work_for_nested_lists_and_objects_is_linear_or_refused() {
    // One definition that stands in many unions.
    let unions = |all: Value, unions: usize| {
        let again = vec![json!({"anyOf": [{"$ref": "#/$defs/all"}]}); unions];
        json!({"$defs": {"all": all}, "type": "array", "prefixItems": again})
    };
    let objects = |count: usize| {
        let one = |number| {
            json!({"type": "object", "properties": {format!("p{number}"): true},
                   "required": [format!("p{number}")], "additionalProperties": false})
        };
        json!({"anyOf": (0..count).map(one).collect::<Value>()})
    };
    let nested = |count: usize| {
        let list = |inner: Value, _| json!({"type": ["array", "object"], "items": inner});
        (0..count).fold(json!({"additionalProperties": true}), list)
    };
    let properties = |count: usize| (0..count).map(|n| (format!("p{n}"), json!(true)));
    let families: [(&str, &dyn Fn(usize) -> Value); 8] = [
        ("lists", &|n| unions(json!({"enum": vec![json!([]); n]}), n)),
        ("objects", &|n| unions(json!({"enum": vec![json!({"a": [{}]}); n]}), n)),
        ("objects with tags", &|n| unions(objects(n), n)),
        ("a long name", &|n| unions(json!({"enum": ["x".repeat(8 * n)]}), n)),
        ("elements", &|n| json!({"type": vec!["array"; n], "prefixItems": vec![true; n]})),
        ("properties", &|n| {
            let properties: serde_json::Map<_, _> = properties(n).collect();
            json!({"type": vec!["object"; n], "properties": properties})
        }),
        ("other names", &|n| {
            let properties: serde_json::Map<_, _> = properties(n).collect();
            json!({"type": ["array", "object"], "items": {"properties": properties},
                   "patternProperties": properties})
        }),
        ("depth", &|n| nested(n.min(VALUE_DEPTH_MAX))),
    ];
    for (what, family) in families {
        for size in [10, 20, 40, 80, 160, 320, 640, 1280, 2560] {
            let schema = family(size);
            let linear = schema.to_string().len() + 2 * SCHEMA_ALTERNATIVES_MAX;
            if let Ok(shapes) = Shapes::compile(&schema) {
                let held = held(&shapes);
                assert!(held <= linear, "{what}, {size}: {held} of {linear}");
            }
        }
    }
    // Those that people write are none of these.
    assert!(Shapes::compile(&unions(objects(80), 80)).is_ok());
    assert_eq!(Shapes::compile(&unions(objects(320), 320)), Err(SchemaError::TooWide));
    let twice = json!({"type": ["object", "object"]});
    assert_eq!(Shapes::compile(&twice), Err(SchemaError::Keyword("type")));
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
