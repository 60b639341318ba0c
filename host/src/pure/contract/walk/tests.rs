//! What fits, what doesn't, and what that costs.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Meter, Schema, show_any};
use super::*;
use crate::pure::value::Nowhere;
use crate::pure::value::json::JsonText;
use crate::pure::value::packed::{Packed, PackedWriter};

/// Takes a JSON text by its schema; answers the value as the guest would answer it.
fn take(schema: &Value, text: &str) -> Result<String, String> {
    let schema = Schema::parse(&schema.to_string()).unwrap();
    let mut packed = PackedWriter::default();
    let mut meter = Meter::free();
    meter.begin(text.len());
    let walked = walk(&schema.shapes, JsonText::new(text), &mut packed, &mut meter);
    walked.map_err(|wrong| super::super::CheckError::from(wrong).to_string())?;
    schema.check(packed.as_bytes(), &mut meter).map_err(|error| error.to_string())?;
    Ok(schema.show(packed.as_bytes(), 1 << 20, &mut meter).unwrap())
}

fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    let shown = take(schema, &value.to_string())?;
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), *value, "{schema}");
    Ok(())
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
        (json!({"lines": [{"amount": 3}, {"amount": 10}]}), "at `.lines[1].amount`: 10 is above"),
        (json!({"lines": [{}]}), "at `.lines[0]`: expected an object with amount: `amount` is"),
        (json!({"lines": 3}), "at `.lines`: expected an array, found 3"),
        (json!({"lines": [], "more": 1}), "`more` is not expected; there is lines"),
        (json!({}), "expected an object with lines"),
        (json!(null), "expected an object with lines, found null"),
    ] {
        let error = fits(&order, &value).unwrap_err();
        assert!(error.contains(expected), "{value}: {error}");
    }
}

#[test]
fn every_kind_of_shape_takes_its_values_and_refuses_others() {
    let pair = json!({"type": "array", "prefixItems": [{"type": "string"}], "items": false});
    for (schema, good, bad) in [
        (json!({"type": "integer"}), json!(-5), json!(1.5)),
        (json!({"type": "integer"}), json!(u64::MAX), json!("x")),
        (json!({"type": "integer", "format": "uint8"}), json!(255), json!(256)),
        (json!({"type": "integer", "format": "int64"}), json!(i64::MIN), json!(u64::MAX)),
        (json!({"type": "number", "maximum": 2.5}), json!(2), json!(3)),
        (json!({"type": "boolean"}), json!(true), json!(0)),
        (json!({"type": "null"}), json!(null), json!(false)),
        (json!({"type": "string", "minLength": 2}), json!("\u{e9}\u{e9}"), json!("a")),
        (json!({"type": ["integer", "null"]}), json!(null), json!("x")),
        (json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}), json!(1), json!([])),
        (json!({"const": "a"}), json!("a"), json!("b")),
        (json!({"enum": [1, "x", 2.5, true]}), json!("x"), json!(2)),
        (json!({"enum": [1, "x", 2.5, true]}), json!(2.5), json!(false)),
        (json!({"type": "array", "maxItems": 1}), json!([1]), json!([1, 2])),
        (json!({"type": "array", "minItems": 1}), json!([1]), json!([])),
        (pair, json!(["a"]), json!(["a", 1])),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"a": 1}),
            json!({"a": "x"}),
        ),
        (
            json!({"anyOf": [
                {"type": "array", "items": {"type": "integer"}},
                {"type": "array", "items": {"type": "string"}},
            ]}),
            json!(["a", "b"]),
            json!(["a", 1]),
        ),
    ] {
        assert_eq!(fits(&schema, &good), Ok(()), "{schema}");
        assert!(fits(&schema, &bad).is_err(), "{schema} took {bad}");
    }
    assert_eq!(fits(&json!(true), &json!({"any": [1, {"thing": null}]})), Ok(()));
}

/// The exact value, and what may stand there: numbers are shown by their own digits.
#[test]
fn errors_show_what_was_found_and_what_may_stand_there() {
    let word = |format: &str| json!({"type": "integer", "format": format});
    let shape = json!({"oneOf": [
        {"type": "string", "enum": ["Point", "Line"]},
        {"type": "object", "properties": {"Circle": {"type": "number"}}, "required": ["Circle"],
         "additionalProperties": false},
        {"type": "object", "properties": {"Box": {"$ref": "#/$defs/box"}}, "required": ["Box"],
         "additionalProperties": false},
    ], "$defs": {"box": {"type": "object", "properties": {"w": word("uint8"), "h": word("uint8")},
                         "required": ["w", "h"], "additionalProperties": false}}});
    let kind = |name: &str, more: Value| {
        json!({"type": "object", "properties": {"kind": {"const": name}, "x": more},
               "required": ["kind", "x"]})
    };
    let tagged = json!({"oneOf": [kind("a", word("int8")), kind("b", json!({"type": "string"}))]});
    let untagged = json!({"anyOf": [
        {"type": "object", "properties": {"a": word("int8")}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"type": "object",
            "properties": {"c": word("int8")}, "required": ["c"]}}, "required": ["b"]},
    ]});
    for (schema, text, expected) in [
        (
            word("uint64"),
            "18446744073709551616",
            "18446744073709551616 is above the maximum 18446744073709551615",
        ),
        (word("uint64"), "-1", "-1 is below the minimum 0"),
        (word("uint64"), "1e3", "expected an integer from 0 to 18446744073709551615, found 1e3"),
        (word("uint128"), "340282366920938463463374607431768211456", "768211456 is above the max"),
        (word("int64"), "\"x\"", "found \"x\""),
        (
            shape.clone(),
            "\"Dot\"",
            "one of \"Line\", \"Point\" or {\"Box\": ..} or {\"Circle\": ..}",
        ),
        (shape.clone(), "{\"Dot\": 1}", "`Dot` is not expected: expected one of \"Line\""),
        (
            shape.clone(),
            "{\"Box\": {\"w\": 1}}",
            "at `.Box`: expected an object with h, w: `h` is missing",
        ),
        (
            shape.clone(),
            "{\"Box\": {\"w\": 1, \"h\": 300}}",
            "at `.Box.h`: 300 is above the maximum 255",
        ),
        (
            shape,
            "{\"Box\": {\"w\": 1, \"h\": 1, \"d\": 1}}",
            "at `.Box`: `d` is not expected; there is h, w",
        ),
        (
            tagged.clone(),
            "{\"x\": 1, \"kind\": \"c\"}",
            "expected one of \"a\", \"b\" for `kind`, found \"c\"",
        ),
        (tagged.clone(), "{\"x\": 1, \"kind\": \"b\"}", "at `.x`: expected a string, found 1"),
        (tagged, "{\"x\": 1}", "`kind` is missing"),
        (untagged, "{\"b\": {\"c\": 1000}}", "at `.b.c`: 1000 is above the maximum 127"),
        (
            json!({"type": "string", "minLength": 1, "maxLength": 1}),
            "\"ab\"",
            "2 characters, where 1 may be",
        ),
        (json!({"type": "number"}), "1e999", "no float reaches 1e999"),
        (json!({}), "36893488147419103232", "found 36893488147419103232"),
    ] {
        let error = take(&schema, text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// A decimal, as the SDK describes it: texts and integers are exact, floats are not.
#[test]
fn a_number_that_would_be_rounded_is_to_be_text() {
    let decimal = json!({"type": ["string", "integer", "null"], "pattern": "^-?\\d+$",
                         "minimum": i64::MIN, "maximum": u64::MAX});
    for text in ["\"1.10\"", "\"12345678901234567.89\"", "7", "-7", "18446744073709551615", "null"]
    {
        assert_eq!(take(&decimal, text).as_deref(), Ok(text));
    }
    let list = json!({"type": "array", "items": decimal});
    for (text, expected) in [
        ("[1.10]", "1.10; write it as text, \"1.10\": a JSON number is a float"),
        ("[12345678901234567.89]", "write it as text, \"12345678901234567.89\": a JSON number"),
        ("[5.0]", "write it as text, \"5.0\": a JSON number is a float"),
        ("[18446744073709551616]", "616; write it as text, \"18446744073709551616\""),
    ] {
        let error = take(&list, text).unwrap_err();
        assert!(error.starts_with("at `[0]`: expected a string or an integer"), "{error}");
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(take(&list, "[true]").unwrap_err().ends_with("or null, found true"));
}

/// What schemas say in several places at once is checked in its properties; the guest sees more.
#[test]
fn combined_schemas_take_what_any_part_allows() {
    let inner = json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "required": ["a"], "additionalProperties": false});
    let variant = |name: &str| {
        json!({"type": "object", "$ref": "#/$defs/inner",
            "properties": {"kind": {"type": "string", "const": name}}, "required": ["kind"]})
    };
    let tagged = json!({"oneOf": [variant("x"), variant("y")], "$defs": {"inner": inner}});
    assert_eq!(fits(&tagged, &json!({"a": 1, "kind": "y"})), Ok(()));
    assert!(fits(&tagged, &json!({"a": 1, "kind": "z"})).unwrap_err().contains("found \"z\""));
    let flattened = json!({"type": "object", "properties": {"id": {"type": "integer"}},
        "required": ["id"], "oneOf": [variant("x"), variant("y")], "$defs": {"inner": inner}});
    assert_eq!(fits(&flattened, &json!({"id": 1, "a": 1, "kind": "y"})), Ok(()));
    assert!(fits(&flattened, &json!({"a": 1, "kind": "y"})).unwrap_err().contains("`id` is"));
}

/// Types at the edge of JSON: they come back as they went in.
#[test]
fn values_that_json_has_no_number_for_go_both_ways() {
    let keys = |pattern: &str| {
        json!({"type": "object", "patternProperties": {pattern: {"type": "integer"}},
               "additionalProperties": false})
    };
    let integer = |format: &str| json!({"type": "integer", "format": format});
    let number = json!({"type": "number", "format": "double"});
    for (schema, text, expected) in [
        (
            keys(r"^\d+$"),
            r#"{"5": 1, "18446744073709551615": 2}"#,
            r#"{"5":1,"18446744073709551615":2}"#,
        ),
        (keys(r"^-?\d+$"), r#"{"-5": 1}"#, r#"{"-5":1}"#),
        (
            keys(r"^\d+$"),
            r#"{"340282366920938463463374607431768211455": 1}"#,
            r#"{"340282366920938463463374607431768211455":1}"#,
        ),
        (
            integer("uint128"),
            "340282366920938463463374607431768211455",
            "340282366920938463463374607431768211455",
        ),
        (
            integer("int128"),
            "-170141183460469231731687303715884105728",
            "-170141183460469231731687303715884105728",
        ),
        (integer("uint64"), "\"18446744073709551615\"", "18446744073709551615"),
        (integer("int8"), "\"-7\"", "-7"),
        (number.clone(), "\"nan\"", "\"nan\""),
        (number.clone(), "\"-inf\"", "\"-inf\""),
        (number.clone(), "\"inf\"", "\"inf\""),
        (number.clone(), "-0.0", "-0.0"),
        (number.clone(), "1e300", "1e300"),
        (number, "123456789012345678901234567890123456789012", "1.2345678901234568e41"),
        (
            json!({"anyOf": [integer("uint128"), {"type": "null"}]}),
            "18446744073709551616",
            "18446744073709551616",
        ),
        (json!({"type": "array", "items": integer("uint8")}), "[1,255]", "[1,255]"),
    ] {
        assert_eq!(take(&schema, text).as_deref(), Ok(expected), "{schema}");
    }
    for (schema, text) in [
        (keys(r"^\d+$"), r#"{"-5": 1}"#),
        (keys(r"^\d+$"), r#"{"x": 1}"#),
        (keys(r"^\d+$"), r#"{"5": 1, "05": 2}"#),
        (integer("uint64"), "\"1e3\""),
        (json!({"type": "number", "minimum": 0}), "\"nan\""),
        (json!({"type": "string"}), "1"),
    ] {
        assert!(take(&schema, text).is_err(), "{schema} took {text}");
    }
}

/// As other Rust programs write wide integers, and the SDK keys; and what terminals may not see.
#[test]
fn results_of_other_writers_are_shown_alike() {
    let integer = |format: &str| json!({"type": "integer", "format": format});
    let wide = Schema::parse(&json!({"type": "array", "items": integer("uint128")}).to_string());
    let bytes = rmp_serde::to_vec(&[u128::MAX, 7]).unwrap();
    let shown = wide.unwrap().show(&bytes, 100, &mut Meter::free()).unwrap();
    assert_eq!(shown, "[340282366920938463463374607431768211455,7]");
    let names = json!({"type": "object", "propertyNames": {"pattern": r"^\d+$"},
        "additionalProperties": {"type": "boolean"}});
    assert_eq!(take(&names, "{\"7\": true}").as_deref(), Ok("{\"7\":true}"));
    assert!(take(&names, "{\"x\": true}").is_err());
    let bytes = rmp_serde::to_vec(&json!({"7": true})).unwrap();
    let names = Schema::parse(&names.to_string()).unwrap();
    assert_eq!(names.show(&bytes, 100, &mut Meter::free()).as_deref(), Ok("{\"7\":true}"));
    let single = rmp_serde::to_vec(&0.1_f32).unwrap();
    assert_eq!(show_any(&single, 100, &mut Meter::free()).as_deref(), Ok("0.1"));
    let text = rmp_serde::to_vec("\u{9b}2J\u{7f}\u{202e}\u{e9}\u{2603}\u{1}").unwrap();
    let shown = show_any(&text, 100, &mut Meter::free()).unwrap();
    assert_eq!(shown, "\"\\u009b2J\\u007f\\u202e\u{e9}\u{2603}\\u0001\"");
}

#[test]
fn hostile_bytes_are_errors_and_end() {
    let any = Schema::parse("true").unwrap();
    let check = |bytes: &[u8]| any.check(bytes, &mut Meter::free()).map_err(|e| e.to_string());
    // Cut off at every length, a huge announced length, an extension, bad text, deep nesting.
    let good = rmp_serde::to_vec(&json!({"a": [1, "x", 2.5, {"b": null}]})).unwrap();
    assert_eq!(check(&good), Ok(()));
    for end in 0..good.len() {
        assert!(check(&good[..end]).is_err());
    }
    assert!(check(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    assert!(check(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'x']).is_err());
    assert!(check(&[0xd4, 1, 2]).is_err());
    assert!(check(&[0xa1, 0xff]).is_err());
    assert!(check(&[0x81, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 1]).is_err(), "a float is no key");
    assert!(check(&[0xc0, 0xc0]).unwrap_err().contains("after"));
    let mut deep = vec![0x91; 10_000];
    deep.push(0xc0);
    assert!(check(&deep).unwrap_err().contains("deeper"));
    // A union that is itself twice, and nothing else.
    let schema = json!({
        "$ref": "#/$defs/a",
        "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}},
    });
    assert!(take(&schema, "null").unwrap_err().contains("expected nothing"));
}

/// Schemas as wide as may be, values that visit all of that: the steps grow with the bytes alone.
#[test]
fn steps_are_bounded_by_the_bytes_whatever_the_schema() {
    let mut nulls = vec![json!({"type": "null"}); 3900];
    nulls.push(json!({}));
    let merged = json!({ "anyOf": nulls });
    let lists: Vec<Value> =
        (0..1000).map(|number| json!({"type": "array", "items": {"const": number}})).collect();
    // Each level doubles what is tried, where nothing tells the alternatives apart.
    let tree = json!({
        "$ref": "#/$defs/t",
        "$defs": {"t": {"anyOf": [
            {"type": "array", "items": {"$ref": "#/$defs/t"}, "maxItems": 1},
            {"type": "array", "items": {"$ref": "#/$defs/t"}, "maxItems": 2},
        ]}},
    });
    let objects: Vec<Value> = (0..500)
        .map(|number| {
            json!({"type": "object", "properties": {"a": {"type": "integer"}},
            "required": ["a", format!("r{number}")]})
        })
        .collect();
    let numbers = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    let entries = |count: usize| format!("[{}]", vec!["{\"a\":1}"; count].join(","));
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let list_of = |items: Value| json!({ "type": "array", "items": items });
    for (schema, text, fits) in [
        (list_of(merged.clone()), numbers(200_000), Some(true)),
        (merged, numbers(200_000), Some(true)),
        (list_of(json!({ "anyOf": lists })), format!("[{}]", numbers(100_000)), None),
        (list_of(json!({ "anyOf": objects })), entries(50_000), Some(false)),
        (tree, deep(60), Some(false)),
    ] {
        let schema = Schema::parse(&schema.to_string()).unwrap();
        let spent = std::cell::Cell::new(0);
        let mut ask = |fuel| {
            spent.set(spent.get() + fuel);
            None
        };
        let mut meter = Meter::new(&mut ask);
        meter.begin(text.len());
        let mut packed = PackedWriter::default();
        let walked = walk(&schema.shapes, JsonText::new(&text), &mut packed, &mut meter);
        if let Some(fits) = fits {
            assert_eq!(walked.is_ok(), fits, "{walked:?}");
        }
        let most = crate::base::limits::VALUE_STEPS_PER_BYTE * text.len() as u64;
        let most = most.max(crate::base::limits::VALUE_STEPS_MIN);
        let fuel = crate::base::limits::VALUE_FUEL_PER_STEP * 2 * most;
        assert!(meter.spent() <= fuel, "{} of {fuel}", meter.spent());
        assert!(spent.get() <= meter.spent());
    }
}

#[test]
fn whoever_pays_ends_it() {
    let numbers = format!("[{}]", vec!["1"; 100_000].join(","));
    let bytes = rmp_serde::to_vec(&vec![1; 100_000]).unwrap();
    let schema = Schema::parse("{}").unwrap();
    for code in [Code::Fuel, Code::Deadline, Code::Cancelled] {
        let mut asked = 0;
        let mut ask = |_fuel| {
            asked += 1;
            (asked == 3).then_some(code)
        };
        let mut meter = Meter::new(&mut ask);
        meter.begin(numbers.len());
        let mut packed = PackedWriter::default();
        let walked = walk(&schema.shapes, JsonText::new(&numbers), &mut packed, &mut meter);
        assert_eq!(walked, Err(Wrong::Ended(code)));
        assert_eq!(asked, 3);
        let mut ask = |_fuel| Some(code);
        let ended = schema.check(&bytes, &mut Meter::new(&mut ask));
        assert_eq!(ended, Err(super::super::CheckError::Ended(code)));
    }
    let large = schema.show(&bytes, 1000, &mut Meter::free());
    assert_eq!(large, Err(super::super::CheckError::Ended(Code::AnswerTooLarge)));
}

/// JSON that is not deeper than a value may be, with texts and numbers of all sorts.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[\\PC\"\\\\\n\u{1}\u{1f600}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map("[a-d\"\u{e9}]{0,3}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The same bytes as serde makes of the same value, and back again; pretty or not.
    #[test]
    fn any_value_goes_both_ways_as_serde_has_it(value in values()) {
        let schema = Schema::parse("{}").unwrap();
        let expected = rmp_serde::to_vec(&value).unwrap();
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let mut packed = PackedWriter::default();
            let mut meter = Meter::free();
            meter.begin(text.len());
            walk(&schema.shapes, JsonText::new(&text), &mut packed, &mut meter).unwrap();
            prop_assert_eq!(packed.as_bytes(), &expected[..]);
        }
        let shown = schema.show(&expected, 1 << 20, &mut Meter::free()).unwrap();
        let mut again = PackedWriter::default();
        let mut meter = Meter::free();
        meter.begin(shown.len());
        walk(&schema.shapes, JsonText::new(&shown), &mut again, &mut meter).unwrap();
        prop_assert_eq!(again.as_bytes(), &expected[..]);
    }

    /// A text is JSON here exactly when it is to serde.
    #[test]
    fn a_text_is_json_when_it_is_to_serde(
        value in values(),
        at in 0_usize..200,
        with in "\\PC|[\\[\\]{}:,\"\\\\0-9eE.+-]",
    ) {
        let mut text = value.to_string();
        let place = text.char_indices().map(|(place, _)| place).nth(at).unwrap_or(text.len());
        text.insert_str(place, &with);
        let ours = crate::pure::json::check(&text).is_ok();
        let theirs = serde_json::from_str::<Value>(&text).is_ok();
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    /// Bytes that are anything are an error or a value, and walking over them ends.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let anything = Shapes::anything();
        let mut meter = Meter::free();
        meter.begin(bytes.len());
        let walked = walk(&anything, Packed::new(&bytes), &mut Nowhere, &mut meter);
        let mut skipped = Packed::new(&bytes);
        let skips = skipped.skip(VALUE_DEPTH_MAX).and_then(|()| skipped.end());
        // Keys that are no names are found by reading alone.
        prop_assert!(walked.is_err() || skips.is_ok());
    }
}
