//! A MessagePack value in pieces, read without copying it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::loss::Incomparable;

/// What a value begins with; lengths are those of what follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Head {
    Nil,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(usize),
    Bytes(usize),
    /// What it means is the guest's business.
    Extension(usize),
    List(usize),
    Map(usize),
}

impl Head {
    /// The number, where a float that is one is the same as an integer.
    pub(super) fn number(self) -> Option<Number> {
        match self {
            Self::Integer(value) => Some(Number::Whole(value)),
            Self::Float(value) if value.is_nan() => Some(Number::Other(f64::NAN.to_bits())),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < WHOLE_BELOW =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "it was asked whether it fits")]
                Some(Number::Whole(value as i128))
            }
            Self::Float(value) => Some(Number::Other(value.to_bits())),
            _ => None,
        }
    }

    /// True for what stands for no value at all.
    pub(super) fn is_empty(self) -> bool {
        matches!(self, Self::Nil | Self::List(0) | Self::Map(0))
    }
}

/// Floats below this that have no fraction are integers of 128 bits.
const WHOLE_BELOW: f64 = 1e38;

/// A number, however it was written.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Number {
    Whole(i128),
    /// The bits of a float.
    Other(u64),
}

/// A place in a value.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pieces: &'a [Vec<u8>],
    piece: usize,
    at: usize,
}

impl std::fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "piece {}, byte {}", self.piece, self.at)
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(pieces: &'a [Vec<u8>]) -> Self {
        Self { pieces, piece: 0, at: 0 }
    }

    /// The same place without the value that it is in.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.piece, self.at)
    }

    pub(super) fn go_to(&self, (piece, at): (usize, usize)) -> Self {
        Self { piece, at, ..*self }
    }

    pub(super) fn is_at_end(&self) -> bool {
        let rest = self.pieces.iter().skip(self.piece).map(Vec::len);
        rest.fold(0_usize, usize::saturating_add) <= self.at
    }

    /// The next bytes that are in one place, at most `max`; none at the end.
    fn chunk(&mut self, max: usize) -> &'a [u8] {
        while let Some(piece) = self.pieces.get(self.piece) {
            let rest = piece.get(self.at..).unwrap_or_default();
            if !rest.is_empty() {
                let taken = rest.get(..max.min(rest.len())).unwrap_or_default();
                self.at += taken.len();
                return taken;
            }
            (self.piece, self.at) = (self.piece + 1, 0);
        }
        &[]
    }

    /// Gives the next bytes to `each`, in as many parts as they lie in.
    pub(super) fn bytes(
        &mut self,
        mut count: usize,
        mut each: impl FnMut(&'a [u8]),
    ) -> Result<(), Incomparable> {
        while count > 0 {
            let chunk = self.chunk(count);
            if chunk.is_empty() {
                return Err(Incomparable::CutOff);
            }
            count -= chunk.len();
            each(chunk);
        }
        Ok(())
    }

    fn number(&mut self, count: usize) -> Result<u64, Incomparable> {
        let mut number = 0;
        self.bytes(count, |bytes| {
            number = bytes.iter().fold(number, |number, &byte| number << 8 | u64::from(byte));
        })?;
        Ok(number)
    }

    fn signed(&mut self, count: usize) -> Result<Head, Incomparable> {
        let unused = 64_usize.saturating_sub(8 * count);
        let number = (self.number(count)? << unused).cast_signed() >> unused;
        Ok(Head::Integer(number.into()))
    }

    fn length(&mut self, count: usize) -> Result<usize, Incomparable> {
        usize::try_from(self.number(count)?).map_err(|_| Incomparable::CutOff)
    }

    pub(super) fn head(&mut self) -> Result<Head, Incomparable> {
        let marker = u8::try_from(self.number(1)?).unwrap_or_default();
        let small = |mask: u8| usize::from(marker & mask);
        Ok(match marker {
            0x00..=0x7f => Head::Integer(marker.into()),
            0x80..=0x8f => Head::Map(small(0x0f)),
            0x90..=0x9f => Head::List(small(0x0f)),
            0xa0..=0xbf => Head::Text(small(0x1f)),
            0xc0 => Head::Nil,
            0xc1 => return Err(Incomparable::NoMessagePack),
            0xc2 => Head::Boolean(false),
            0xc3 => Head::Boolean(true),
            0xc4 => Head::Bytes(self.length(1)?),
            0xc5 => Head::Bytes(self.length(2)?),
            0xc6 => Head::Bytes(self.length(4)?),
            // The type of an extension is one byte more.
            0xc7 => Head::Extension(self.length(1)?.saturating_add(1)),
            0xc8 => Head::Extension(self.length(2)?.saturating_add(1)),
            0xc9 => Head::Extension(self.length(4)?.saturating_add(1)),
            0xca => {
                let bits = u32::try_from(self.number(4)?).unwrap_or_default();
                Head::Float(f32::from_bits(bits).into())
            }
            0xcb => Head::Float(f64::from_bits(self.number(8)?)),
            0xcc => Head::Integer(self.number(1)?.into()),
            0xcd => Head::Integer(self.number(2)?.into()),
            0xce => Head::Integer(self.number(4)?.into()),
            0xcf => Head::Integer(self.number(8)?.into()),
            0xd0 => self.signed(1)?,
            0xd1 => self.signed(2)?,
            0xd2 => self.signed(4)?,
            0xd3 => self.signed(8)?,
            0xd4..=0xd8 => Head::Extension((1 << (marker - 0xd4)) + 1),
            0xd9 => Head::Text(self.length(1)?),
            0xda => Head::Text(self.length(2)?),
            0xdb => Head::Text(self.length(4)?),
            0xdc => Head::List(self.length(2)?),
            0xdd => Head::List(self.length(4)?),
            0xde => Head::Map(self.length(2)?),
            0xdf => Head::Map(self.length(4)?),
            0xe0..=0xff => Head::Integer(i8::from_be_bytes([marker]).into()),
        })
    }
}

/// What a value says, whatever order its maps and lists have, as a number; and how many scalars
/// say it, nil aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Digest {
    pub(super) hash: u64,
    pub(super) values: u64,
}

/// A hash of some numbers, for `kind` of a value.
pub(super) fn mix(kind: u8, numbers: impl IntoIterator<Item = u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(kind);
    numbers.into_iter().for_each(|number| hasher.write_u64(number));
    hasher.finish()
}

/// Hash of a scalar that stands in no bytes of its own.
pub(super) fn scalar_hash(head: Head) -> u64 {
    let mut hasher = DefaultHasher::new();
    match head {
        Head::Boolean(value) => (1_u8, value).hash(&mut hasher),
        other => (2_u8, other.number()).hash(&mut hasher),
    }
    hasher.finish()
}

/// Hash of a list or a map of so many parts, whatever their order.
pub(super) fn sum_hash(kind: u8, count: usize, sum: u64) -> u64 {
    mix(kind, [count as u64, sum])
}

/// Kinds of values for [`mix`].
pub(super) const LIST: u8 = 3;
/// A map.
pub(super) const MAP: u8 = 4;
/// An entry of a map.
pub(super) const ENTRY: u8 = 5;
/// Text.
pub(super) const TEXT: u8 = 6;
/// An extension.
pub(super) const EXTENSION: u8 = 7;
