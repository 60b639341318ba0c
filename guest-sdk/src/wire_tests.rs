//! What hostile bytes get: an error in words, in bounded stack and memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, expecting = "transfer(from, amount)")]
struct Arguments {
    from: String,
    amount: u64,
}

/// Recurses through a variant, where rmp-serde itself does not count the depth.
#[derive(Debug, Deserialize)]
enum Nested {
    Leaf,
    Inner(#[expect(dead_code, reason = "only its depth matters")] Box<Nested>),
}

fn refuse(bytes: &[u8]) -> String {
    decode::<Arguments>(bytes).unwrap_err()
}

#[test]
fn arguments_come_by_place_or_by_name() {
    let expected = Arguments { from: "ann".to_owned(), amount: 5 };
    let by_place = rmp_serde::to_vec(&("ann", 5)).unwrap();
    assert_eq!(decode::<Arguments>(&by_place).as_ref(), Ok(&expected));
    let by_name = rmp_serde::to_vec_named(&expected).unwrap();
    assert_eq!(decode::<Arguments>(&by_name).as_ref(), Ok(&expected));
    assert_eq!(encode(&expected).unwrap(), by_name);
}

#[test]
fn each_mistake_is_named() {
    let of = |json: serde_json::Value| refuse(&rmp_serde::to_vec(&json).unwrap());
    assert_eq!(of(serde_json::json!({"from": "ann"})), "missing field `amount`");
    assert!(
        of(serde_json::json!({"from": "ann", "amount": 1, "x": 1})).contains("unknown field `x`")
    );
    assert!(of(serde_json::json!({"from": "ann", "amount": -1})).contains("expected u64"));
    assert!(of(serde_json::json!({"from": "ann", "amount": 1e300})).contains("expected u64"));
    assert!(of(serde_json::json!(["ann"])).contains("transfer(from, amount)"));
    assert!(of(serde_json::json!(["ann", 1, 2])).contains("length"));
    assert!(of(serde_json::json!(7)).contains("transfer(from, amount)"));
}

#[test]
fn duplicate_names_are_refused() {
    let mut bytes = vec![0x82];
    for _ in 0..2 {
        bytes.extend(rmp_serde::to_vec("from").unwrap());
        bytes.extend(rmp_serde::to_vec("ann").unwrap());
    }
    assert_eq!(refuse(&bytes), "duplicate field `from`");
}

#[test]
fn invalid_utf8_is_refused() {
    let error = refuse(&[0x92, 0xa2, 0xff, 0xfe, 0x01]);
    assert!(error.contains("utf8"), "{error}");
}

#[test]
fn values_end_where_the_bytes_end() {
    assert_eq!(refuse(&[]), CUT_OFF);
    assert_eq!(refuse(&[0x92, 0xa3, b'a']), CUT_OFF);
    assert_eq!(refuse(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0x01]), CUT_OFF);
    assert_eq!(refuse(&[0xdf, 0xff, 0xff, 0xff, 0xff]), CUT_OFF);
    assert_eq!(refuse(&[0xdb, 0xff, 0xff, 0xff, 0xff]), CUT_OFF);
    assert_eq!(refuse(&[0xc9, 0xff, 0xff, 0xff, 0xff, 0x01]), CUT_OFF);
    assert_eq!(refuse(&[0xc1]), "not MessagePack");
    assert_eq!(refuse(&[0x01, 0x02]), "bytes after the end of the value");
}

#[test]
fn deep_nesting_is_refused_whatever_the_type() {
    let mut arrays = vec![0x91; 10_000];
    arrays.push(0xc0);
    assert_eq!(refuse(&arrays), "nested too deep");
    let mut variants: Vec<u8> = b"\x81\xa5Inner".repeat(10_000);
    variants.extend(b"\xa4Leaf");
    assert_eq!(decode::<Nested>(&variants).unwrap_err(), "nested too deep");
    let mut deepest: Vec<u8> = b"\x81\xa5Inner".repeat(NESTING_MAX);
    deepest.extend(b"\xa4Leaf");
    assert!(matches!(decode::<Nested>(&deepest), Ok(Nested::Inner(_))));
}

#[test]
fn every_kind_of_value_is_walked_over_whole() {
    let values = serde_json::json!([
        null, true, -1, -129, -40_000, -3_000_000_000_i64, 1, 200, 70_000, 5_000_000_000_u64, 1.5,
        "", "x".repeat(40), "x".repeat(300), "x".repeat(70_000), [], {}, [[], {}],
        vec![0; 20], vec![0; 70_000], {"a": {"b": [1, 2]}, "c": []},
        (0..20).map(|i| (i.to_string(), i)).collect::<BTreeMap<_, _>>(),
        (0..70_000).map(|i| (i.to_string(), i)).collect::<BTreeMap<_, _>>(),
    ]);
    let bytes = rmp_serde::to_vec(&values).unwrap();
    assert_eq!(check_shape(&bytes), Ok(()));
    assert_eq!(decode::<serde_json::Value>(&bytes), Ok(values));
    for (size, marker) in [1_u8, 2, 4, 8, 16].into_iter().zip(0xd4_u8..) {
        // Extensions of fixed sizes, then the same with their length in front.
        let fixed = [&[marker, 7][..], &vec![0; size.into()]].concat();
        assert_eq!(check_shape(&fixed), Ok(()));
        let sized = [&[0xc7, size, 7][..], &vec![0; size.into()]].concat();
        assert_eq!(check_shape(&sized), Ok(()));
    }
}

#[test]
fn no_bytes_stand_for_no_parameters() {
    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Parameters {
        limit: u64,
    }
    assert_eq!(decode_parameters::<Parameters>(&[]), Ok(Parameters::default()));
    let error = decode_parameters::<Parameters>(&[0x01]).unwrap_err();
    assert_eq!(error.code(), "bad_parameters");
}
