//! Fields that nobody has are refused by the host, and by the harness in the words of the host.

use guest_sdk::test::{Harness, Outcome as Told};
use host::pure::contract::Args;
use host::pure::request::{Outcome, Request};
use serde_json::{Value, json};
use tests::{Tree, deployed, plan};
use values::Values;

/// The value with one field more, for each place where it has any.
fn spoiled(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    let mut within = |key: &dyn Fn(&mut Value) -> &mut Value, inner: &Value| {
        for spoiled in spoiled(inner) {
            let mut whole = value.clone();
            *key(&mut whole) = spoiled;
            all.push(whole);
        }
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| within(&|whole| &mut whole[name], inner));
            let mut more = fields.clone();
            more.insert("zz".to_owned(), json!(1));
            all.push(more.into());
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, inner)| within(&|whole| &mut whole[at], inner));
        }
        _ => {}
    }
    all
}

#[test]
fn a_field_that_nobody_has_is_refused_wherever_it_stands() {
    let tree = Tree::start(vec![plan("values", &deployed("values"), |_| {})]);
    let mut harness = Harness::<Values>::new(json!({}));
    let lines = json!([
        {"amount": 1, "kind": "Red"},
        {"count": 255, "note": "n", "kind": {"Pair": [-1, true]}},
        {"amount": 0, "kind": {"Shade": 7}, "shape": {"type": "Square", "edge": 2.5}},
        {"amount": 0, "kind": {"Custom": {"wide": 1, "label": "x"}}, "shape": null},
    ]);
    let odd = json!({
        "wide": 1, "low": -1, "float": 0.5, "single": 0.25, "by_number": {"0": "zero"},
        "by_sign": {"-128": true}, "by_truth": {"true": 1}, "by_letter": {"x": null}, "by_id": {},
    });
    let mut count = 0;
    for (contract, name, value) in [("lines", "lines", lines), ("swap", "odd", odd)] {
        let mut call = |value: &Value| {
            let args = json!({ name: value });
            let answer = tree.root.call(Request::new("values", contract, Args::from(args.clone())));
            (answer.unwrap().outcome, harness.call(contract, args))
        };
        let (by_host, by_harness) = call(&value);
        assert!(matches!(by_host, Outcome::Committed(_)), "{by_host:?}");
        assert!(matches!(by_harness, Told::Committed(_)), "{by_harness:?}");
        for spoiled in spoiled(&value) {
            let (Outcome::Rejected(by_host), Told::BadArguments(by_harness)) = call(&spoiled)
            else {
                panic!("{spoiled}")
            };
            assert_eq!(by_host.code, "E_ARGS");
            // A key of a map is no field: each has its own words for one that is wrong.
            if contract == "lines" {
                let said = &by_host.message;
                assert!(said.starts_with(&by_harness), "{said}\n{by_harness}");
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}
