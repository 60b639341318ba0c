//! JSON at the edge, MessagePack inside: both read strictly.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::contract::{self, CheckError, Meter};
use super::value::json::JsonText;
use super::value::{Head, Source as _, Wrong};
use crate::base::error::{Code, Fault, printable};
use crate::base::limits::{ANSWER_BYTES_MAX, SHOWN_BYTES_MAX, VALUE_DEPTH_MAX};

/// Reads one JSON text. Unlike `serde_json::from_str` it refuses names given twice, and nesting
/// deeper than [`VALUE_DEPTH_MAX`].
///
/// # Errors
///
/// The position and what is wrong there.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth >= VALUE_DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {VALUE_DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.deeper()?)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.deeper()?)?;
            if values.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format!("`{name}` is given twice")));
            }
        }
        Ok(Value::Object(values))
    }
}

/// Reads over one JSON object, field by field; `field` gets each name and the text of its value.
///
/// # Errors
///
/// `E_REQUEST` for what is not `what`, a JSON object, and that of `field`.
pub fn fields<'v>(
    text: &'v str,
    what: &str,
    mut field: impl FnMut(&str, &'v str) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let wrong = |wrong: Wrong| Fault::new(Code::Request, CheckError::from(wrong).to_string());
    let mut source = JsonText::new(text);
    let Head::Map(mut items) = source.head().map_err(wrong)? else {
        return Err(Fault::new(Code::Request, format!("{what} is a JSON object")));
    };
    let mut seen = BTreeSet::new();
    while source.more(&mut items).map_err(wrong)? {
        let Head::Text(name) = source.key().map_err(wrong)? else { continue };
        field(&name, source.raw().map_err(wrong)?)?;
        if !seen.insert(name.clone()) {
            let name = printable(&name, SHOWN_BYTES_MAX);
            return Err(Fault::new(Code::Request, format!("`{name}` is given twice")));
        }
    }
    source.end().map_err(wrong)
}

/// Checks that a text is one JSON value. Names given twice are not found.
///
/// # Errors
///
/// The position and what is wrong there.
pub fn check(text: &str) -> Result<(), CheckError> {
    let mut source = JsonText::new(text);
    source.raw()?;
    Ok(source.end()?)
}

/// What a JSON string says; none of another value.
#[must_use]
pub fn text(value: &str) -> Option<Cow<'_, str>> {
    match JsonText::new(value).head() {
        Ok(Head::Text(text)) => Some(text),
        _ => None,
    }
}

/// Makes a JSON value of one MessagePack value, as [`contract::show_any`] shows it.
///
/// # Errors
///
/// [`CheckError`] for bytes that are no value.
pub fn from_message_pack(bytes: &[u8]) -> Result<Value, CheckError> {
    let text = contract::show_any(bytes, ANSWER_BYTES_MAX, &mut Meter::free())?;
    serde_json::from_str(&text).map_err(|error| {
        let (path, problem) = (String::new(), error.to_string());
        CheckError::Unfit { path, problem }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn c8_doubled_names_and_deep_nesting_are_refused() {
        assert_eq!(
            parse(r#"{"a": {"b": [1, null, "x", 2.5]}}"#).unwrap(),
            json!({"a": {"b": [1, null, "x", 2.5]}})
        );
        assert!(parse(r#"{"a": 1, "a": 2}"#).unwrap_err().to_string().contains("twice"));
        assert!(parse(r#"{"a": {"b": 1, "b": 1}}"#).is_err());
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(parse(&deep).is_err());
        assert!(parse("1 2").is_err());
        assert!(parse("1e999").is_err());
        assert!(parse("\"\u{0}\"").is_err());
    }

    #[test]
    fn message_pack_comes_back_as_json() {
        for value in [
            json!(null),
            json!(true),
            json!(-3),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1.5),
            json!("x"),
            json!([1, [2]]),
            json!({"a": {"b": []}}),
            json!(70_000),
            json!(-70_000),
        ] {
            let bytes = rmp_serde::to_vec(&value).unwrap();
            assert_eq!(from_message_pack(&bytes), Ok(value));
            for end in 0..bytes.len() {
                assert!(from_message_pack(&bytes[..end]).is_err());
            }
        }
        assert_eq!(from_message_pack(&[0xc4, 2, 1, 2]), Ok(json!([1, 2])));
        let nan = rmp_serde::to_vec(&f64::NAN).unwrap();
        assert_eq!(from_message_pack(&nan), Ok(json!("nan")));
        let mut deep = vec![0x91; 10_000];
        deep.push(0xc0);
        assert!(from_message_pack(&deep).unwrap_err().to_string().contains("deeper"));
    }
}
