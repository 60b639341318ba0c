//! Any two values: what is the same in other words is no loss, and what is taken away is counted.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Nil,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

use Value::{Integer, List, Map, Nil, Text};

impl Value {
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Nil => rmp::encode::write_nil(bytes).unwrap(),
            Self::Boolean(value) => rmp::encode::write_bool(bytes, *value).unwrap(),
            Integer(value) => drop(rmp::encode::write_sint(bytes, *value).unwrap()),
            Self::Float(value) => rmp::encode::write_f64(bytes, *value).unwrap(),
            Text(text) => rmp::encode::write_str(bytes, text).unwrap(),
            Self::Bytes(blob) => rmp::encode::write_bin(bytes, blob).unwrap(),
            List(values) => {
                rmp::encode::write_array_len(bytes, values.len().try_into().unwrap()).unwrap();
                values.iter().for_each(|value| value.write(bytes));
            }
            Map(entries) => {
                rmp::encode::write_map_len(bytes, entries.len().try_into().unwrap()).unwrap();
                for (name, value) in entries {
                    rmp::encode::write_str(bytes, name).unwrap();
                    value.write(bytes);
                }
            }
        }
    }

    /// In pieces of that many bytes.
    fn pieces(&self, size: usize) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes.chunks(size).map(<[u8]>::to_vec).collect()
    }

    /// Scalars in it, nil aside.
    fn values(&self) -> u64 {
        match self {
            Nil => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            List(values) => values.iter().map(Self::values).sum(),
            Map(entries) => entries.iter().map(|(_, value)| value.values()).sum(),
            _ => 1,
        }
    }

    /// The same in other words: turned around, and numbers as floats where that is exact.
    fn otherwise(&self) -> Self {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "it was asked whether it is exact")]
            Integer(value) if value.unsigned_abs() < 1 << 53 => Self::Float(*value as f64),
            Self::Bytes(bytes) => List(bytes.iter().map(|&byte| Integer(byte.into())).collect()),
            List(values) => List(values.iter().rev().map(Self::otherwise).collect()),
            Map(entries) => {
                let entry = |(name, value): &(String, Self)| (name.clone(), value.otherwise());
                Map(entries.iter().rev().map(entry).collect())
            }
            other => other.clone(),
        }
    }

    /// Takes the entry or element at each third place away; answers how many values went.
    fn thinned(&mut self, count: &mut usize) -> u64 {
        let mut gone = 0;
        let mut stays = |value: &mut Self, count: &mut usize| {
            *count += 1;
            if count.is_multiple_of(3) {
                gone += value.values();
                return false;
            }
            true
        };
        let mut inside = 0;
        match self {
            List(values) => values.retain_mut(|value| stays(value, count)),
            Map(entries) => {
                entries.retain_mut(|(_, value)| stays(value, count));
                inside = entries.iter_mut().map(|(_, value)| value.thinned(count)).sum();
            }
            _ => {}
        }
        gone + inside
    }

    /// Adds an entry to each map and an element to each list.
    fn more(&mut self, count: &mut i64) {
        *count -= 1;
        match self {
            List(values) => {
                values.iter_mut().for_each(|value| value.more(count));
                if values.iter().all(|value| !matches!(value, List(_) | Map(_))) {
                    values.insert(0, Integer(*count));
                }
            }
            Map(entries) => {
                entries.iter_mut().for_each(|(_, value)| value.more(count));
                entries.insert(0, (format!("more{count}"), Integer(*count)));
            }
            _ => {}
        }
    }

    /// Makes each scalar another one than all others, so that nothing is mistaken for a new name.
    fn numbered(&mut self, count: &mut i64) {
        *count += 1;
        match self {
            Nil | List(_) | Map(_) => {}
            _ => *self = Integer(1000 + *count),
        }
        match self {
            List(values) => values.iter_mut().for_each(|value| value.numbered(count)),
            Map(entries) => entries.iter_mut().for_each(|(_, value)| value.numbered(count)),
            _ => {}
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Nil),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Integer),
        any::<f64>().prop_map(Value::Float),
        ".{0,40}".prop_map(Text),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 200, 20, |inner| {
        let map = prop::collection::btree_map("[a-z]{1,3}", inner.clone(), 0..20);
        prop_oneof![
            prop::collection::vec(inner, 0..20).prop_map(List),
            map.prop_map(|entries| Map(entries.into_iter().collect())),
        ]
    })
}

fn found(old: &Value, new: &Value) -> Loss {
    compare(&old.pieces(7), &new.pieces(5), &|| true).unwrap()
}

fn said(old: &Value, new: &Value) -> String {
    found(old, new).to_string()
}

fn map(entries: &[(&str, Value)]) -> Value {
    Map(entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn texts(texts: &[&str]) -> Value {
    List(texts.iter().map(|text| Text((*text).to_owned())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_in_other_words_is_no_loss(value in value(), size in 1..50_usize) {
        let other = value.otherwise().pieces(size);
        let loss = compare(&value.pieces(16_384), &other, &|| true).unwrap();
        prop_assert_eq!(loss, Loss::default());
    }

    #[test]
    fn what_is_new_is_no_loss(mut value in value()) {
        value.numbered(&mut 0);
        let mut more = value.clone();
        more.more(&mut 0);
        let loss = found(&value, &more);
        prop_assert!(loss.is_none(), "{loss}");
    }

    #[test]
    fn what_is_taken_away_is_counted(mut value in value()) {
        value.numbered(&mut 0);
        let mut thin = value.clone();
        let gone = thin.thinned(&mut 0);
        let loss = found(&value, &thin);
        let all = loss.lines.iter().map(|line| line.values).sum::<u64>() + loss.elsewhere;
        prop_assert_eq!(all, gone, "{:?}", loss);
        prop_assert!(loss.lines.iter().all(|line| line.fate == Fate::Gone), "{loss:?}");
    }

    #[test]
    fn any_bytes_are_compared_or_refused(old: Vec<u8>, new: Vec<u8>) {
        drop(compare(std::slice::from_ref(&old), &[new], &|| true));
        // One side that is sound makes the other one be walked.
        let sound = map(&[("a", texts(&["b"]))]).pieces(1);
        drop(compare(&sound, std::slice::from_ref(&old), &|| true));
        drop(compare(&[old], &sound, &|| true));
    }
}

#[test]
fn a_field_that_is_gone_is_named_with_its_values() {
    let names = texts(&["ann", "bob", "zoe"]);
    let old = map(&[("names", names.clone()), ("total", Integer(7))]);
    let new = map(&[("titles", List(Vec::new())), ("total", Integer(7))]);
    assert_eq!(said(&old, &new), "names (3 values) would be lost");
    // Nothing was in it.
    let empty = map(&[("names", List(Vec::new())), ("note", Nil), ("total", Integer(7))]);
    assert!(found(&empty, &new).is_none());
    // All that it had stands under another name.
    let renamed = map(&[("titles", names), ("total", Integer(7))]);
    let loss = found(&old, &renamed);
    assert!(loss.is_none());
    assert_eq!(loss.renamed, [("names".to_owned(), "titles".to_owned())]);
}

#[test]
fn a_number_that_is_another_one_is_said_with_both() {
    let prices = |numbers: &[f64]| {
        map(&[("prices", List(numbers.iter().map(|number| Value::Float(*number)).collect()))])
    };
    let old = map(&[("prices", List(vec![Integer(1), Integer(16_777_217), Integer(3)]))]);
    assert!(found(&old, &prices(&[1.0, 16_777_217.0, 3.0])).is_none());
    let expected = "prices[] (1 value) would change, first prices[1]: 16777217 to 16777216";
    assert_eq!(said(&old, &prices(&[1.0, 16_777_216.0, 3.0])), expected);
    let none = map(&[("prices", Nil)]);
    assert_eq!(said(&old, &none), "prices (3 values) would be lost");
    assert_eq!(
        said(&Integer(5), &Text("5".to_owned())),
        "the state (1 value) would change, first : 5 to \"5\""
    );
}

#[test]
fn a_field_of_many_is_one_line() {
    let account = |note: bool| {
        let note = note.then(|| ("note".to_owned(), Text("x".to_owned())));
        Map([("left".to_owned(), Integer(7))].into_iter().chain(note).collect())
    };
    for (count, note) in [(3, false), (50, true), (5000, false)] {
        let accounts = |note| {
            let entry = |number: i64| (format!("a{number}"), account(note));
            map(&[("accounts", Map((0..count).map(entry).collect()))])
        };
        let loss = found(&accounts(true), &accounts(note));
        assert_eq!(loss.is_none(), note);
        if count > 3 && !note {
            assert_eq!(loss.to_string(), format!("accounts.*.note ({count} values) would be lost"));
        }
        let list = |note| List((0..count).map(|_| account(note)).collect());
        let said = said(&list(true), &list(false));
        assert_eq!(said, format!("[].note ({count} values) would be lost"));
    }
}

#[test]
fn what_is_lost_at_many_places_is_cut_and_counted() {
    let entry = |number: i64| (format!("field{number}"), Integer(number));
    let all = |count| Map((0..count).map(entry).collect());
    let loss = found(&all(50), &Map(Vec::new()));
    assert_eq!(loss.lines.len(), 50);
    let shown = loss.to_string();
    assert!(shown.ends_with("so would 30 values elsewhere"), "{shown}");
    // More names than a struct has are those of data.
    let many = found(&all(500), &Map(Vec::new()));
    assert_eq!(many.to_string(), "* (500 values) would be lost");
    assert_eq!(many.lines[0].first, "field0");
}

#[test]
fn what_cannot_be_compared_says_why() {
    let deep = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    let compare = |old: &[u8], new: &[u8]| compare(&[old.to_vec()], &[new.to_vec()], &|| true);
    assert!(compare(&deep(100), &deep(100)).is_ok());
    assert_eq!(compare(&deep(100_000), &deep(100_000)), Err(Incomparable::TooDeep));
    assert_eq!(compare(&[0xc1], &[0x01]), Err(Incomparable::NoMessagePack));
    assert_eq!(compare(&[0x01, 0x02], &[0x01, 0x02]), Err(Incomparable::MoreThanOne));
    assert_eq!(compare(&[0xdd, 0xff, 0xff, 0xff, 0xff], &[0x90]), Err(Incomparable::CutOff));
    assert_eq!(compare(&[], &[]), Err(Incomparable::CutOff));
}

#[test]
fn lists_in_lists_end_in_bounded_steps_and_anybody_can_end_it() {
    // Each level is another one than its counterpart, so each is looked at for itself.
    let nested = |last: i64| {
        let inner = List((0..20_000).chain([last]).map(Integer).collect());
        (0..100).fold(inner, |inner, _| List(vec![inner]))
    };
    let (old, new) = (nested(-1).pieces(16_384), nested(-2).pieces(16_384));
    assert_eq!(compare(&old, &new, &|| true), Err(Incomparable::TooLong));
    assert_eq!(compare(&old, &new, &|| false), Err(Incomparable::Cancelled));
}

#[test]
fn maps_and_lists_that_are_too_large_for_an_index_are_compared_by_what_they_say() {
    let entry = |number: i64| (number.to_string(), Integer(number));
    let count = i64::try_from(LOSS_INDEX_MAX).unwrap() + 1;
    let entries: Vec<_> = (0..count).map(entry).collect();
    let turned: Vec<_> = (0..count).rev().map(entry).collect();
    let less: Vec<_> = (1..count).rev().map(entry).chain([("x".to_owned(), Nil)]).collect();
    let old = Map(entries);
    assert!(found(&old, &Map(turned)).is_none());
    assert!(!found(&old, &Map(less)).is_none());
    let list = |last: i64| List((0..count).chain([last]).map(Integer).collect());
    assert!(found(&list(1), &list(1)).is_none());
    assert_eq!(found(&list(1), &list(2)).lines[0].values, 1);
}
