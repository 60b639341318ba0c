//! What hostile bytes get: an error in words, in bounded stack and memory.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
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
fn duplicate_names_are_refused_but_in_maps() {
    let mut bytes = vec![0x82];
    for _ in 0..2 {
        bytes.extend(rmp_serde::to_vec("from").unwrap());
        bytes.extend(rmp_serde::to_vec("ann").unwrap());
    }
    assert_eq!(refuse(&bytes), "duplicate field `from`");
    // A map has no names of its own: it keeps what comes last.
    let twice = [0x82, 0xa1, b'a', 1, 0xa1, b'a', 2];
    let map = decode::<BTreeMap<String, u8>>(&twice);
    assert_eq!(map, Ok(BTreeMap::from([("a".to_owned(), 2)])));
}

#[test]
fn invalid_utf8_is_refused() {
    let error = refuse(&[0x92, 0xa2, 0xff, 0xfe, 0x01]);
    assert!(error.contains("UTF-8"), "{error}");
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

/// Every type of Rust's that serde knows, in each other.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Kind {
    Unit,
    One(Box<Everything>),
    Pair(u8, Option<Option<bool>>),
    Named { unit: Option<()>, text: Option<String> },
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Nothing;

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Wrapped(Option<Option<Nothing>>);

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Everything {
    signed: (i8, i16, i32, i64, i128),
    unsigned: (u8, u16, u32, u64, u128),
    text: (char, String),
    somes: Option<Option<Option<()>>>,
    wrapped: Option<Wrapped>,
    kinds: Vec<Kind>,
    numbers: BTreeMap<u64, String>,
    negative: HashMap<i32, Option<u8>>,
    yes_or_no: BTreeMap<bool, char>,
    letters: BTreeMap<char, ()>,
}

/// What JSON has no form for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Native {
    everything: Everything,
    wide: BTreeMap<u128, i128>,
    pairs: BTreeMap<(u8, bool), Vec<Option<Option<u8>>>>,
    maybe: BTreeMap<Option<u8>, Nothing>,
}

fn everything() -> impl Strategy<Value = Everything> {
    let leaf = (
        any::<(i8, i16, i32, i64, i128)>(),
        any::<(u8, u16, u32, u64, u128)>(),
        any::<(char, String)>(),
        any::<Option<Option<Option<()>>>>(),
        any::<Option<Option<Option<()>>>>(),
        any::<BTreeMap<u64, String>>(),
        any::<HashMap<i32, Option<u8>>>(),
        any::<BTreeMap<bool, char>>(),
        any::<BTreeMap<char, ()>>(),
    )
        .prop_map(|(signed, unsigned, text, somes, wrapped, a, b, c, d)| Everything {
            signed,
            unsigned,
            text,
            somes,
            wrapped: wrapped.map(|some| Wrapped(some.map(|some| some.map(|()| Nothing)))),
            kinds: Vec::new(),
            numbers: a,
            negative: b,
            yes_or_no: c,
            letters: d,
        });
    leaf.prop_recursive(3, 12, 3, |inner| {
        let kind = prop_oneof![
            Just(Kind::Unit),
            inner.clone().prop_map(|one| Kind::One(Box::new(one))),
            any::<(u8, Option<Option<bool>>)>().prop_map(|(a, b)| Kind::Pair(a, b)),
            any::<(Option<()>, Option<String>)>()
                .prop_map(|(unit, text)| Kind::Named { unit, text }),
        ];
        (inner, prop::collection::vec(kind, 0..4))
            .prop_map(|(one, kinds)| Everything { kinds, ..one })
    })
}

fn encoded_state<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_state(value, &mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_state_comes_back_as_it_was(
        everything in everything(),
        wide in any::<BTreeMap<u128, i128>>(),
        pairs in any::<BTreeMap<(u8, bool), Vec<Option<Option<u8>>>>>(),
        maybe in any::<std::collections::BTreeSet<Option<u8>>>(),
    ) {
        let maybe = maybe.into_iter().map(|key| (key, Nothing)).collect();
        let native = Native { everything, wide, pairs, maybe };
        let bytes = encoded_state(&native);
        prop_assert_eq!(check_shape(&bytes), Ok(()));
        prop_assert_eq!(decode::<Native>(&bytes), Ok(native));
        for end in [0, bytes.len() / 3, bytes.len() - 1] {
            let error = decode_from::<Native>(&bytes[..end]).unwrap_err();
            prop_assert!(error.to_string().ends_with(CUT_OFF));
        }
    }

    #[test]
    fn what_goes_out_is_what_json_has(mut value in everything()) {
        // The types that serde_json's own values don't have.
        (value.signed.4, value.unsigned.4) = (value.signed.3.into(), value.unsigned.3.into());
        for kind in &mut value.kinds {
            if let Kind::One(one) = kind {
                (one.signed.4, one.unsigned.4) = (0, 0);
                one.kinds.clear();
            }
        }
        let bytes = encode(&value).unwrap();
        let json = serde_json::to_value(&value).unwrap();
        prop_assert_eq!(decode::<serde_json::Value>(&bytes), Ok(json.clone()));
        let again: Everything = serde_json::from_value(json).unwrap();
        prop_assert_eq!(decode::<Everything>(&bytes), Ok(again));
    }

    #[test]
    fn what_another_encoder_wrote_is_read(
        text: String,
        numbers: Vec<i64>,
        large: u64,
        wide: (u128, i128),
    ) {
        let value = (text, numbers, large, wide, Some(7_u8), BTreeMap::from([(large, true)]));
        let bytes = rmp_serde::to_vec_named(&value).unwrap();
        prop_assert_eq!(decode(&bytes), Ok(value));
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes: Vec<u8>) {
        drop(decode::<Everything>(&bytes));
        drop(decode_from::<serde_json::Value>(bytes.as_slice()));
    }
}

#[test]
fn wide_numbers_are_text_and_text_is_read_as_a_number() {
    assert_eq!(decode::<String>(&encode(&u128::MAX).unwrap()).unwrap(), u128::MAX.to_string());
    assert_eq!(decode::<String>(&encode(&i128::MIN).unwrap()).unwrap(), i128::MIN.to_string());
    assert_eq!(encode(&u128::from(u64::MAX)).unwrap(), encode(&u64::MAX).unwrap());
    let text = |text: &str| encode(text).unwrap();
    assert_eq!(decode::<u64>(&text("18446744073709551615")), Ok(u64::MAX));
    assert_eq!(decode::<i128>(&text("-5")), Ok(-5));
    for odd in ["", "+5", " 5", "5.0", "0x5", "18446744073709551616", "five"] {
        assert!(decode::<u64>(&text(odd)).is_err(), "{odd:?}");
    }
    assert!(decode::<u8>(&text("256")).unwrap_err().contains("256"));
    assert_eq!(decode::<f64>(&text("-inf")), Ok(f64::NEG_INFINITY));
    assert!(decode::<f32>(&text("nan")).unwrap().is_nan());
    assert!(decode::<f64>(&encode(&f64::NAN).unwrap()).unwrap().is_nan());
}

#[test]
fn a_key_that_is_no_text_in_json_is_said_to_be_none() {
    let error = |key| encode(&BTreeMap::from([(key, 1)])).unwrap_err().to_string();
    assert!(error((Some(1), 2)).contains("keys"), "{}", error((Some(1), 2)));
    assert!(encode(&BTreeMap::from([(None::<u8>, 1)])).is_err());
    assert!(encode(&BTreeMap::from([(Some(5), 1)])).is_ok());
    // The name after it is not one, and neither is what a map has in it.
    let nested = BTreeMap::from([(1_u8, BTreeMap::from([(true, [Some(1)])]))]);
    let value: serde_json::Value = decode(&encode(&nested).unwrap()).unwrap();
    assert_eq!(value, serde_json::json!({"1": {"true": [1]}}));
}

#[test]
fn what_no_code_could_load_is_not_saved() {
    #[derive(Clone, Deserialize, Serialize)]
    struct Node {
        next: Option<Box<Node>>,
    }
    let list = |nodes: usize| {
        (1..nodes).fold(Node { next: None }, |node, _| Node { next: Some(Box::new(node)) })
    };
    let bytes = encoded_state(&list(NESTING_MAX));
    assert!(decode::<Node>(&bytes).is_ok());
    let error = encode_state(&list(NESTING_MAX + 1), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("deeper than 128"), "{error}");
    // Lists of unknown length count as others do.
    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        inner: Node,
    }
    assert!(encode_state(&Flat { inner: list(NESTING_MAX) }, &mut Vec::new()).is_ok());
    assert!(encode_state(&Flat { inner: list(NESTING_MAX + 1) }, &mut Vec::new()).is_err());
    let wrong = serde_json::Map::new();
    assert_eq!(encoded_state(&wrong), [0x80]);
}

#[test]
#[cfg(feature = "rust_decimal")]
fn a_decimal_is_exact_or_refused() {
    use rust_decimal::Decimal;
    let of = |value: serde_json::Value| decode::<Vec<Option<Decimal>>>(&encode(&value).unwrap());
    let exact = serde_json::json!(["1.10", "12345678901234567.89", "-0.5", 7, -7, u64::MAX, null]);
    let shown: Vec<_> = of(exact).unwrap().iter().flatten().map(Decimal::to_string).collect();
    let most = u64::MAX.to_string();
    assert_eq!(shown, ["1.10", "12345678901234567.89", "-0.5", "7", "-7", most.as_str()]);
    for float in [1.1, 5.0, 12_345_678_901_234_567.89] {
        let error = of(serde_json::json!(["1.10", float])).unwrap_err();
        assert!(error.contains("write it as text"), "{error}");
    }
    assert!(decode::<Decimal>(b"\xca\x3f\xc0\x00\x00").is_err(), "of 32 bits, too");
}

#[test]
fn an_error_says_where_it_is() {
    let refuse = |value: serde_json::Value| {
        decode::<Vec<BTreeMap<String, Kind>>>(&encode(&value).unwrap()).unwrap_err()
    };
    let at = |kind: serde_json::Value| refuse(serde_json::json!([{}, {"a": "Unit", "kind": kind}]));
    assert!(at(serde_json::json!("Uni")).starts_with("at `[1].kind`: unknown variant `Uni`"));
    let pair = at(serde_json::json!({"Pair": [300, null]}));
    assert!(pair.starts_with("at `[1].kind.Pair[0]`: invalid value: integer `300`"), "{pair}");
    let named = at(serde_json::json!({"Named": {"unit": null, "text": 7}}));
    assert!(named.starts_with("at `[1].kind.Named.text`: invalid type: integer `7`"), "{named}");
    // What comes after a map in it is not under its names.
    let after = at(serde_json::json!({"Pair": [1, {"x": 1}]}));
    assert!(after.starts_with("at `[1].kind.Pair[1]`: "), "{after}");
    let key = decode::<BTreeMap<i8, BTreeMap<bool, u8>>>(b"\x81\xfb\x81\xc3\xc0").unwrap_err();
    assert!(key.starts_with("at `.-5.true`: "), "{key}");
    let long = decode::<BTreeMap<String, u8>>(
        &encode(&BTreeMap::from([("\u{e9}".repeat(40), "x")])).unwrap(),
    );
    assert!(long.unwrap_err().starts_with(&format!("at `.{}..`: ", "\u{e9}".repeat(32))));
}

/// A type whose own words don't say what was there.
#[derive(Debug)]
struct Even;

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl serde::de::Visitor<'_> for Reader {
            type Value = Even;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an even text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Even, E> {
                if text.len().is_multiple_of(2) { Ok(Even) } else { Err(E::custom("it is odd")) }
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

#[test]
fn an_error_says_what_was_found() {
    let refuse = |text: &str| decode::<[Even; 1]>(&encode(&[text]).unwrap()).unwrap_err();
    assert_eq!(refuse("abc"), "at `[0]`: it is odd, found \"abc\"");
    let long = "\u{e9}".repeat(99) + "x";
    assert_eq!(refuse(&long), format!("at `[0]`: it is odd, found \"{}\"..", "\u{e9}".repeat(64)));
    assert_eq!(
        decode::<Even>(&[7]).unwrap_err(),
        "invalid type: integer `7`, expected an even text"
    );
}
