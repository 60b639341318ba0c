//! Reads values that [`super::encode`] wrote, and those that came from outside.
//!
//! Decoding recurses, so it counts how deep it is. Where a number is expected its decimal digits as
//! text are as good: JSON has no other names, and few programs that write it have wide integers.

use std::any::type_name;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::encode::SOMES;
use super::place::{DecodeError, Name};
use super::{CUT_OFF, NESTING_MAX, TOO_DEEP};

type Result<T> = std::result::Result<T, DecodeError>;

/// Where bytes come from.
pub(crate) trait Source {
    /// The next bytes, exactly so many; `room` is for those that are not in one place.
    fn take<'s>(&'s mut self, length: usize, room: &'s mut Vec<u8>) -> Result<&'s [u8]>;
}

impl Source for &[u8] {
    fn take<'s>(&'s mut self, length: usize, _: &'s mut Vec<u8>) -> Result<&'s [u8]> {
        let (taken, rest) = self.split_at_checked(length).ok_or_else(cut_off)?;
        *self = rest;
        Ok(taken)
    }
}

#[cold]
pub(crate) fn cut_off() -> DecodeError {
    DecodeError::new(CUT_OFF)
}

/// What a value begins with; lengths are those of what follows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    Nil,
    /// So many `Some` around nothing.
    Somes(u8),
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Single(f32),
    Double(f64),
    Text(usize),
    Bytes(usize),
    List(usize),
    Map(usize),
}

/// Reads one value of `from`.
#[derive(Debug)]
pub(crate) struct Decoder<S> {
    from: S,
    room: Vec<u8>,
    /// A head that was looked at and belongs to what is read next.
    seen: Option<Head>,
    /// The name that was read last, for errors.
    name: Name,
    /// What is read next is the text of a name.
    reads_name: bool,
    depth: usize,
}

impl<S: Source> Decoder<S> {
    pub(crate) fn new(from: S) -> Self {
        let name = Name::new(Head::Nil);
        Self { from, room: Vec::new(), seen: None, name, reads_name: false, depth: 0 }
    }

    fn bytes(&mut self, length: usize) -> Result<&[u8]> {
        self.from.take(length, &mut self.room)
    }

    fn text(&mut self, length: usize) -> Result<&str> {
        let bytes = self.from.take(length, &mut self.room)?;
        if self.reads_name {
            self.reads_name = false;
            self.name.note(bytes);
        }
        std::str::from_utf8(bytes).map_err(|_| DecodeError::new("a string that is not UTF-8"))
    }

    fn number<const BYTES: usize>(&mut self) -> Result<[u8; BYTES]> {
        self.bytes(BYTES)?.try_into().map_err(|_| cut_off())
    }

    fn length<const BYTES: usize>(&mut self) -> Result<usize> {
        let digits = self.number::<BYTES>()?;
        Ok(digits.iter().fold(0, |number, &digit| number << 8 | usize::from(digit)))
    }

    fn head(&mut self) -> Result<Head> {
        if let Some(head) = self.seen.take() {
            return Ok(head);
        }
        let [marker] = self.number()?;
        Ok(match marker {
            0x00..=0x7f => Head::Unsigned(marker.into()),
            0x80..=0x8f => Head::Map((marker & 0x0f).into()),
            0x90..=0x9f => Head::List((marker & 0x0f).into()),
            0xa0..=0xbf => Head::Text((marker & 0x1f).into()),
            0xc0 => Head::Nil,
            0xc2 => Head::Boolean(false),
            0xc3 => Head::Boolean(true),
            0xc4 => Head::Bytes(self.length::<1>()?),
            0xc5 => Head::Bytes(self.length::<2>()?),
            0xc6 => Head::Bytes(self.length::<4>()?),
            0xca => Head::Single(f32::from_be_bytes(self.number()?)),
            0xcb => Head::Double(f64::from_be_bytes(self.number()?)),
            0xcc => Head::Unsigned(u8::from_be_bytes(self.number()?).into()),
            0xcd => Head::Unsigned(u16::from_be_bytes(self.number()?).into()),
            0xce => Head::Unsigned(u32::from_be_bytes(self.number()?).into()),
            0xcf => Head::Unsigned(u64::from_be_bytes(self.number()?)),
            0xd0 => Head::Signed(i8::from_be_bytes(self.number()?).into()),
            0xd1 => Head::Signed(i16::from_be_bytes(self.number()?).into()),
            0xd2 => Head::Signed(i32::from_be_bytes(self.number()?).into()),
            0xd3 => Head::Signed(i64::from_be_bytes(self.number()?)),
            0xd4 => match self.number()? {
                [kind, somes] if somes > 0 && i8::from_be_bytes([kind]) == SOMES => {
                    Head::Somes(somes)
                }
                _ => return Err(unknown()),
            },
            0xd9 => Head::Text(self.length::<1>()?),
            0xda => Head::Text(self.length::<2>()?),
            0xdb => Head::Text(self.length::<4>()?),
            0xdc => Head::List(self.length::<2>()?),
            0xdd => Head::List(self.length::<4>()?),
            0xde => Head::Map(self.length::<2>()?),
            0xdf => Head::Map(self.length::<4>()?),
            0xe0..=0xff => Head::Signed(i8::from_be_bytes([marker]).into()),
            0xc1 | 0xc7..=0xc9 | 0xd5..=0xd8 => return Err(unknown()),
        })
    }

    /// Reads the name of an entry, and notes it.
    fn name<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value> {
        let head = self.head()?;
        self.seen = Some(head);
        self.name = Name::new(head);
        self.reads_name = matches!(head, Head::Text(_));
        seed.deserialize(self)
    }

    /// Reads the value of the name that was read last.
    fn named<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let name = self.name;
        read(self).map_err(|error| error.under(&name))
    }

    /// Reads what is in a list or a map.
    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        if self.depth == NESTING_MAX {
            return Err(DecodeError::new(TOO_DEEP));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn value<'de, V: Visitor<'de>>(&mut self, head: Head, visitor: V) -> Result<V::Value> {
        match head {
            Head::Nil => visitor.visit_unit(),
            Head::Somes(somes) => self.some(somes, visitor),
            Head::Boolean(value) => visitor.visit_bool(value),
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Signed(value) => visitor.visit_i64(value),
            Head::Single(_) | Head::Double(_) if is_decimal::<V>() => Err(inexact()),
            Head::Single(value) => visitor.visit_f32(value),
            Head::Double(value) => visitor.visit_f64(value),
            Head::Text(length) => {
                let text = self.text(length)?;
                visitor.visit_str(text).map_err(|error: DecodeError| error.about(text))
            }
            Head::Bytes(length) => visitor.visit_bytes(self.bytes(length)?),
            Head::List(length) => self.inside(|decoder| {
                let mut rest = Rest { decoder, left: length, length };
                let value = visitor.visit_seq(&mut rest)?;
                rest.ended().map(|()| value)
            }),
            Head::Map(length) => self.inside(|decoder| {
                let mut rest = Rest { decoder, left: length, length };
                let value = visitor.visit_map(&mut rest)?;
                rest.ended().map(|()| value)
            }),
        }
    }

    /// Reads an integer, or its digits.
    fn integer<'de, V: Visitor<'de>>(&mut self, head: Head, visitor: V) -> Result<V::Value> {
        let Head::Text(length) = head else { return self.value(head, visitor) };
        let text = self.text(length)?;
        if text.starts_with('+') {
            visitor.visit_str(text)
        } else if let Ok(value) = text.parse() {
            visitor.visit_u64(value)
        } else if let Ok(value) = text.parse() {
            visitor.visit_i64(value)
        } else if let Ok(value) = text.parse() {
            visitor.visit_u128(value)
        } else if let Ok(value) = text.parse() {
            visitor.visit_i128(value)
        } else {
            visitor.visit_str(text)
        }
    }

    /// Reads the outermost of so many `Some` around nothing.
    fn some<'de, V: Visitor<'de>>(&mut self, somes: u8, visitor: V) -> Result<V::Value> {
        self.seen = Some(if somes > 1 { Head::Somes(somes - 1) } else { Head::Nil });
        visitor.visit_some(self)
    }
}

/// Whether what is made of a value is a `rust_decimal::Decimal`. Its own code takes a float, and so
/// digits that nobody wrote.
fn is_decimal<V>() -> bool {
    type_name::<V>().starts_with("rust_decimal::")
}

#[cold]
fn inexact() -> DecodeError {
    DecodeError::new(
        "a number with a fraction comes as a float, which a decimal is not made of: write it as \
         text, like \"1.10\"",
    )
}

#[cold]
fn unknown() -> DecodeError {
    DecodeError::new("a value of MessagePack that means nothing here")
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            let head = self.head()?;
            self.integer(head, visitor)
        }
    )*};
}

/// Other encoders write these as sixteen bytes.
macro_rules! wide_integers {
    ($($method:ident $type:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.head()? {
                Head::Bytes(16) => visitor.$visit($type::from_be_bytes(self.number()?)),
                head => self.integer(head, visitor),
            }
        }
    )*};
}

macro_rules! floats {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.head()? {
                Head::Text(length) => {
                    let text = self.text(length)?;
                    match text.parse() {
                        Ok(value) if !is_decimal::<V>() => visitor.visit_f64(value),
                        _ => visitor.visit_str(text),
                    }
                }
                head => self.value(head, visitor),
            }
        }
    )*};
}

impl<'de, S: Source> Deserializer<'de> for &mut Decoder<S> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let head = self.head()?;
        self.value(head, visitor)
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    wide_integers! { deserialize_i128 i128 visit_i128 deserialize_u128 u128 visit_u128 }

    floats! { deserialize_f32 deserialize_f64 }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.head()? {
            Head::Text(length) => match self.text(length)? {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                other => visitor.visit_str(other),
            },
            head => self.value(head, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.head()? {
            Head::Nil => visitor.visit_none(),
            Head::Somes(somes) => self.some(somes, visitor),
            head => {
                self.seen = Some(head);
                visitor.visit_some(self)
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.head()? {
            Head::Text(length) => visitor.visit_enum(self.text(length)?.into_deserializer()),
            Head::Map(1) => self.inside(|decoder| visitor.visit_enum(Variant { decoder })),
            Head::Map(length) => {
                let message = "a variant is a name, or one name with its value";
                Err(de::Error::invalid_length(length, &message))
            }
            head => self.value(head, visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

/// What is left of a list or a map.
struct Rest<'d, S> {
    decoder: &'d mut Decoder<S>,
    left: usize,
    length: usize,
}

impl<S> Rest<'_, S> {
    fn next(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        Some(())
    }

    fn ended(&self) -> Result<()> {
        let Self { left, length, .. } = self;
        if *left == 0 {
            return Ok(());
        }
        let fits = length - left;
        Err(DecodeError::showing(format!("the length is {length}, where {fits} are expected")))
    }
}

impl<'de, S: Source> SeqAccess<'de> for Rest<'_, S> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.next().is_none() {
            return Ok(None);
        }
        let place = self.length - self.left - 1;
        seed.deserialize(&mut *self.decoder).map(Some).map_err(|error| error.at(place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de, S: Source> MapAccess<'de> for Rest<'_, S> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        self.next().map(|()| self.decoder.name(seed)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        self.decoder.named(|decoder| seed.deserialize(decoder))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant with something in it.
struct Variant<'d, S> {
    decoder: &'d mut Decoder<S>,
}

impl<'de, S: Source> EnumAccess<'de> for Variant<'_, S> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        Ok((self.decoder.name(seed)?, self))
    }
}

impl<'de, S: Source> VariantAccess<'de> for Variant<'_, S> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<()> {
        match self.decoder.head()? {
            Head::Nil => Ok(()),
            _ => Err(de::Error::invalid_type(Unexpected::NewtypeVariant, &"unit variant")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        self.decoder.named(|decoder| seed.deserialize(decoder))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value> {
        self.decoder.named(|decoder| decoder.deserialize_any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.decoder.named(|decoder| decoder.deserialize_any(visitor))
    }
}
