//! JSON at the edge, MessagePack inside: both read strictly.

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::base::limits::VALUE_DEPTH_MAX;

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

/// The bytes are not a MessagePack value that JSON can show.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// Bytes are missing.
    #[error("a value that is cut off")]
    CutOff,
    /// Not a MessagePack value, or one without a JSON form.
    #[error("a value without a JSON form")]
    Form,
    /// Nested too deep.
    #[error("a value nested deeper than {VALUE_DEPTH_MAX}")]
    TooDeep,
}

/// Shows one MessagePack value as JSON. Bytes become a list of numbers, NaN and infinities null.
///
/// # Errors
///
/// [`ValueError`] for bytes that are no value.
pub fn from_message_pack(bytes: &[u8]) -> Result<Value, ValueError> {
    let mut rest = bytes;
    let value = read_value(&mut rest, VALUE_DEPTH_MAX)?;
    if rest.is_empty() { Ok(value) } else { Err(ValueError::Form) }
}

/// Reads the next value off `bytes`.
pub(super) fn read_value(bytes: &mut &[u8], depth: usize) -> Result<Value, ValueError> {
    use rmp::Marker;
    use rmp::decode as d;
    if depth == 0 {
        return Err(ValueError::TooDeep);
    }
    let marker = Marker::from_u8(*bytes.first().ok_or(ValueError::CutOff)?);
    Ok(match marker {
        Marker::Null => {
            d::read_nil(bytes).map_err(|_| ValueError::CutOff)?;
            Value::Null
        }
        Marker::True | Marker::False => {
            Value::Bool(d::read_bool(bytes).map_err(|_| ValueError::CutOff)?)
        }
        Marker::U64 => Value::from(d::read_u64(bytes).map_err(|_| ValueError::CutOff)?),
        Marker::FixPos(_)
        | Marker::FixNeg(_)
        | Marker::U8
        | Marker::U16
        | Marker::U32
        | Marker::I8
        | Marker::I16
        | Marker::I32
        | Marker::I64 => {
            let value: i64 = d::read_int(bytes).map_err(|_| ValueError::CutOff)?;
            Value::from(value)
        }
        Marker::F32 => float(f64::from(d::read_f32(bytes).map_err(|_| ValueError::CutOff)?)),
        Marker::F64 => float(d::read_f64(bytes).map_err(|_| ValueError::CutOff)?),
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            let len = d::read_str_len(bytes).map_err(|_| ValueError::CutOff)?;
            let text = std::str::from_utf8(take(bytes, len)?).map_err(|_| ValueError::Form)?;
            Value::from(text)
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let len = d::read_bin_len(bytes).map_err(|_| ValueError::CutOff)?;
            Value::from(take(bytes, len)?)
        }
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
            let len = d::read_array_len(bytes).map_err(|_| ValueError::CutOff)?;
            // No capacity from `len`: a few bytes can announce billions of elements.
            let mut values = Vec::new();
            for _ in 0..len {
                values.push(read_value(bytes, depth - 1)?);
            }
            Value::Array(values)
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            let len = d::read_map_len(bytes).map_err(|_| ValueError::CutOff)?;
            let mut values = Map::new();
            for _ in 0..len {
                let name = match read_value(bytes, depth - 1)? {
                    Value::String(name) => name,
                    Value::Number(name) => name.to_string(),
                    _ => return Err(ValueError::Form),
                };
                values.insert(name, read_value(bytes, depth - 1)?);
            }
            Value::Object(values)
        }
        _ => return Err(ValueError::Form),
    })
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn take<'a>(bytes: &mut &'a [u8], len: u32) -> Result<&'a [u8], ValueError> {
    let len = usize::try_from(len).map_err(|_| ValueError::CutOff)?;
    let (taken, rest) = bytes.split_at_checked(len).ok_or(ValueError::CutOff)?;
    *bytes = rest;
    Ok(taken)
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
        assert_eq!(from_message_pack(&nan), Ok(Value::Null));
        let mut deep = vec![0x91; 10_000];
        deep.push(0xc0);
        assert_eq!(from_message_pack(&deep), Err(ValueError::TooDeep));
    }
}
