//! Writes values as MessagePack, in one of two forms that [`super::decode`] reads alike.

use std::fmt::{self, Display};
use std::io::{self, Write};

use rmp::encode as put;
use serde::ser::{self, Serialize};

use super::NESTING_MAX;

/// Which types a value may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// Those that JSON has, for the outside: the names in maps are text, also where they are
    /// numbers here, and `Some` is left out.
    Json,
    /// All that Rust has, for the guest's later code.
    State,
}

/// The type of the MessagePack extension for as many `Some` around nothing as its byte says. Plain
/// nil is `None`, so without it `Some(None)` and `Some(())` would be.
pub(crate) const SOMES: i8 = 0x53;

/// The value has no such form.
#[derive(Debug)]
pub(crate) struct EncodeError(String);

impl EncodeError {
    #[cold]
    fn new(message: &str) -> Self {
        Self(message.to_owned())
    }
}

impl Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EncodeError {}

impl ser::Error for EncodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<io::Error> for EncodeError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<put::ValueWriteError> for EncodeError {
    fn from(error: put::ValueWriteError) -> Self {
        Self(error.to_string())
    }
}

type Result<T> = std::result::Result<T, EncodeError>;

/// Writes one value to `to`.
#[derive(Debug)]
pub(crate) struct Encoder<'a, W> {
    to: &'a mut W,
    form: Form,
    /// How many lists and maps are open.
    depth: usize,
    /// How many `Some` are around what comes next.
    somes: u8,
    /// What comes next is the name of an entry, and has to be text.
    is_name: bool,
}

impl<'a, W: Write> Encoder<'a, W> {
    pub(crate) fn new(to: &'a mut W, form: Form) -> Self {
        Self { to, form, depth: 0, somes: 0, is_name: false }
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.somes = 0;
        self.is_name = false;
        Ok(put::write_str(self.to, text)?)
    }

    /// Writes what JSON writes without quotes, but for a name.
    fn plain(
        &mut self,
        value: impl Display,
        write: impl FnOnce(&mut W) -> Result<()>,
    ) -> Result<()> {
        if self.is_name {
            return self.text(&value.to_string());
        }
        self.somes = 0;
        write(self.to)
    }

    fn signed(&mut self, value: i64) -> Result<()> {
        self.plain(value, |to| Ok(put::write_sint(to, value).map(|_| ())?))
    }

    fn unsigned(&mut self, value: u64) -> Result<()> {
        self.plain(value, |to| Ok(put::write_uint(to, value).map(|_| ())?))
    }

    fn nil(&mut self) -> Result<()> {
        if self.is_name {
            return Err(no_name());
        }
        if self.somes == 0 || self.form == Form::Json {
            self.somes = 0;
            return Ok(put::write_nil(self.to)?);
        }
        let somes = std::mem::take(&mut self.somes);
        put::write_ext_meta(self.to, 1, SOMES)?;
        Ok(self.to.write_all(&[somes])?)
    }

    /// Begins a list or a map.
    fn open(&mut self) -> Result<()> {
        if self.is_name {
            return Err(no_name());
        }
        self.somes = 0;
        if self.depth == NESTING_MAX {
            return Err(EncodeError(format!("it is nested deeper than {NESTING_MAX} levels")));
        }
        self.depth += 1;
        Ok(())
    }

    fn list(&mut self, length: usize) -> Result<()> {
        self.open()?;
        put::write_array_len(self.to, counted(length)?)?;
        Ok(())
    }

    fn map(&mut self, length: usize) -> Result<()> {
        self.open()?;
        put::write_map_len(self.to, counted(length)?)?;
        Ok(())
    }

    /// Begins the one entry that stands for a variant with something in it.
    fn variant(&mut self, name: &str) -> Result<()> {
        self.map(1)?;
        self.text(name)
    }

    fn with_length(&mut self, length: Option<usize>, is_map: bool) -> Result<Parts<'_, 'a, W>> {
        let gathered = match length {
            Some(length) if is_map => self.map(length).map(|()| None)?,
            Some(length) => self.list(length).map(|()| None)?,
            None => self.open().map(|()| Some(Vec::new()))?,
        };
        let expected = length.unwrap_or_default();
        Ok(Parts { encoder: self, expected, count: 0, levels: 1, is_map, gathered })
    }
}

#[cold]
fn no_name() -> EncodeError {
    EncodeError::new("a map whose keys are no text, numbers or booleans has no form in JSON")
}

fn counted(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| EncodeError::new("it has too many elements"))
}

impl<'e, 'a, W: Write> ser::Serializer for &'e mut Encoder<'a, W> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Parts<'e, 'a, W>;
    type SerializeTuple = Parts<'e, 'a, W>;
    type SerializeTupleStruct = Parts<'e, 'a, W>;
    type SerializeTupleVariant = Parts<'e, 'a, W>;
    type SerializeMap = Parts<'e, 'a, W>;
    type SerializeStruct = Parts<'e, 'a, W>;
    type SerializeStructVariant = Parts<'e, 'a, W>;

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.plain(value, |to| Ok(put::write_bool(to, value)?))
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.signed(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<()> {
        self.signed(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.signed(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<()> {
        self.signed(value)
    }

    fn serialize_i128(self, value: i128) -> Result<()> {
        match i64::try_from(value) {
            Ok(value) => self.signed(value),
            Err(_) => match u128::try_from(value) {
                Ok(value) => self.serialize_u128(value),
                Err(_) => self.text(&value.to_string()),
            },
        }
    }

    fn serialize_u8(self, value: u8) -> Result<()> {
        self.unsigned(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<()> {
        self.unsigned(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<()> {
        self.unsigned(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<()> {
        self.unsigned(value)
    }

    fn serialize_u128(self, value: u128) -> Result<()> {
        match u64::try_from(value) {
            Ok(value) => self.unsigned(value),
            Err(_) => self.text(&value.to_string()),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<()> {
        self.plain(value, |to| Ok(put::write_f32(to, value)?))
    }

    fn serialize_f64(self, value: f64) -> Result<()> {
        self.plain(value, |to| Ok(put::write_f64(to, value)?))
    }

    fn serialize_char(self, value: char) -> Result<()> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<()> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        if self.is_name && self.form == Form::Json {
            return Err(no_name());
        }
        self.somes = 0;
        Ok(put::write_bin(self.to, value)?)
    }

    fn serialize_none(self) -> Result<()> {
        self.nil()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        let somes = self.somes.checked_add(1);
        self.somes =
            somes.ok_or_else(|| EncodeError::new("there are too many `Some` around it"))?;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.nil()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<()> {
        self.nil()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Parts<'e, 'a, W>> {
        self.with_length(length, false)
    }

    fn serialize_tuple(self, length: usize) -> Result<Parts<'e, 'a, W>> {
        self.with_length(Some(length), false)
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Parts<'e, 'a, W>> {
        self.with_length(Some(length), false)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'e, 'a, W>> {
        self.variant(variant)?;
        Ok(Parts { levels: 2, ..self.with_length(Some(length), false)? })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Parts<'e, 'a, W>> {
        self.with_length(length, true)
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Parts<'e, 'a, W>> {
        self.with_length(Some(length), true)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'e, 'a, W>> {
        self.variant(variant)?;
        Ok(Parts { levels: 2, ..self.with_length(Some(length), true)? })
    }
}

/// An open list or map.
#[derive(Debug)]
pub(crate) struct Parts<'e, 'a, W> {
    encoder: &'e mut Encoder<'a, W>,
    /// The length that was written in front.
    expected: usize,
    count: usize,
    /// How many levels end with it: a variant is a map around it.
    levels: usize,
    is_map: bool,
    /// What was written, where the length was not known.
    gathered: Option<Vec<u8>>,
}

impl<W: Write> Parts<'_, '_, W> {
    fn value<T: Serialize + ?Sized>(&mut self, value: &T, is_name: bool) -> Result<()> {
        let Encoder { form, depth, .. } = *self.encoder;
        let is_name = is_name && form == Form::Json;
        match &mut self.gathered {
            None => {
                self.encoder.is_name = is_name;
                value.serialize(&mut *self.encoder)
            }
            Some(bytes) => {
                value.serialize(&mut Encoder { to: bytes, form, depth, somes: 0, is_name })
            }
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.count += 1;
        self.value(value, false)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
        self.count += 1;
        self.encoder.text(name)?;
        self.value(value, false)
    }

    fn close(self) -> Result<()> {
        match self.gathered {
            None if self.count == self.expected => {}
            None => return Err(EncodeError::new("it has another number of elements than it says")),
            Some(bytes) => {
                let (to, count) = (&mut *self.encoder.to, counted(self.count)?);
                if self.is_map {
                    put::write_map_len(to, count)?;
                } else {
                    put::write_array_len(to, count)?;
                }
                to.write_all(&bytes)?;
            }
        }
        self.encoder.depth -= self.levels;
        Ok(())
    }
}

macro_rules! parts {
    ($($compound:ident $add:ident)*) => {$(
        impl<W: Write> ser::$compound for Parts<'_, '_, W> {
            type Ok = ();
            type Error = EncodeError;

            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.element(value)
            }

            fn end(self) -> Result<()> {
                self.close()
            }
        }
    )*};
}

parts! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

impl<W: Write> ser::SerializeMap for Parts<'_, '_, W> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.count += 1;
        self.value(key, true)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.value(value, false)
    }

    fn end(self) -> Result<()> {
        self.close()
    }
}

macro_rules! fields {
    ($($compound:ident)*) => {$(
        impl<W: Write> ser::$compound for Parts<'_, '_, W> {
            type Ok = ();
            type Error = EncodeError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<()> {
                self.field(name, value)
            }

            fn end(self) -> Result<()> {
                self.close()
            }
        }
    )*};
}

fields! { SerializeStruct SerializeStructVariant }
