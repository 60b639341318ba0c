//! Values as they travel: JSON text outside, MessagePack inside.
//!
//! A [`Source`] is read head by head and a [`Sink`] is written in the same order, so that whatever
//! goes from one form to the other goes in one pass, and no tree of it is ever made. What recurses
//! counts how deep: `contract::walk`, and what shows a value that doesn't fit.

pub(super) mod json;
pub(super) mod packed;

use std::borrow::Cow;
use std::fmt;

use crate::base::error::Code;

/// A whole number of up to 128 bits, signed or unsigned.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Whole {
    /// Below zero.
    Negative(i128),
    /// Zero and above.
    Positive(u128),
}

impl Whole {
    /// The smallest.
    pub(super) const MIN: Self = Self::Negative(i128::MIN);
    /// The largest.
    pub(super) const MAX: Self = Self::Positive(u128::MAX);
    /// Zero.
    pub(super) const ZERO: Self = Self::Positive(0);

    /// Reads decimal digits, with a minus sign or without; none where it is something else, or has
    /// more than 128 bits.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        match digits.len() == text.len() {
            true => digits.parse().ok().map(Self::Positive),
            false => text.parse().ok().map(|number: i128| Self::from(number)),
        }
    }

    /// A number that MessagePack has as 16 bytes; none where it is something else.
    #[must_use]
    pub(super) fn of_bytes(bytes: &[u8], is_signed: bool) -> Option<Self> {
        let bytes = <[u8; 16]>::try_from(bytes).ok()?;
        Some(match is_signed {
            true => Self::from(i128::from_be_bytes(bytes)),
            false => Self::Positive(u128::from_be_bytes(bytes)),
        })
    }

    /// The nearest float.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the nearest is asked for")]
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Self::Negative(number) => number as f64,
            Self::Positive(number) => number as f64,
        }
    }

    /// Fits the integers that every MessagePack reader knows.
    #[must_use]
    pub(super) fn has_64_bits(self) -> bool {
        match self {
            Self::Negative(number) => i64::try_from(number).is_ok(),
            Self::Positive(number) => u64::try_from(number).is_ok(),
        }
    }
}

impl From<i128> for Whole {
    fn from(number: i128) -> Self {
        u128::try_from(number).map_or(Self::Negative(number), Self::Positive)
    }
}

impl From<u64> for Whole {
    fn from(number: u64) -> Self {
        Self::Positive(u128::from(number))
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative(number) => number.fmt(f),
            Self::Positive(number) => number.fmt(f),
        }
    }
}

/// The head of one value; of an array or a map its contents follow.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Head<'v> {
    Null,
    Boolean(bool),
    Integer(Whole),
    /// A whole number of more than 128 bits.
    Huge(&'v str),
    Float(f64),
    /// A float of 32 bits, whose shortest digits are others.
    Single(f32),
    Text(Cow<'v, str>),
    Bytes(&'v [u8]),
    Array(Items),
    Map(Items),
}

/// What is left of an open array or map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Items {
    /// So many elements, or entries.
    Counted(u32),
    /// Up to this closing bracket; whether there was one before.
    Until(u8, bool),
}

/// A value can't be read, doesn't fit, or was not read to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wrong {
    /// One of several alternatives doesn't fit: nobody is told why.
    Quiet,
    /// It is not one value of its form.
    Broken(String),
    /// It doesn't fit.
    Unfit {
        /// Where, like `.lines[3].amount`; empty at the top.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Reading it was ended.
    Ended(Code),
}

impl Wrong {
    pub(super) fn broken(problem: impl Into<String>) -> Self {
        Self::Broken(problem.into())
    }

    /// The same, inside of something.
    pub(super) fn under(mut self, part: impl FnOnce() -> String) -> Self {
        if let Self::Unfit { path, .. } = &mut self {
            path.insert_str(0, &part());
        }
        self
    }
}

/// Where a value is read from. A copy of it is a place to come back to.
pub(super) trait Source<'v>: Copy {
    /// Some texts stand for floats that it has no number for.
    const IS_TEXT: bool;

    /// Reads the next head.
    fn head(&mut self) -> Result<Head<'v>, Wrong>;

    /// Whether one more element or entry follows; closes the array or map when none does.
    fn more(&mut self, items: &mut Items) -> Result<bool, Wrong>;

    /// Reads the key of an entry.
    fn key(&mut self) -> Result<Head<'v>, Wrong>;

    /// Reads over the next value, which may be nested `depth` deep.
    fn skip(&mut self, depth: usize) -> Result<(), Wrong>;

    /// Nothing is left.
    fn end(&mut self) -> Result<(), Wrong>;

    /// Bytes that were read.
    fn at(&self) -> usize;

    /// The value that follows, for people, cut where it is long.
    fn shown(&self) -> String;
}

/// Where a value is written to.
pub(super) trait Sink {
    /// A place to go back to.
    type Mark: Copy;

    fn null(&mut self);
    fn boolean(&mut self, value: bool);
    fn integer(&mut self, value: Whole);
    fn float(&mut self, value: f64);
    fn single(&mut self, value: f32);
    fn text(&mut self, value: &str);
    fn bytes(&mut self, value: &[u8]);

    /// Begins an array or a map.
    fn begin(&mut self, is_map: bool) -> Self::Mark;
    /// Before each element, and before each key; `is_first` when none was there.
    fn separate(&mut self, is_first: bool);
    fn key(&mut self, key: &Head<'_>);
    /// After each key.
    fn keyed(&mut self);
    /// Ends an array or a map with so many elements or entries.
    fn end(&mut self, begun: Self::Mark, is_map: bool, count: u32) -> Result<(), Wrong>;

    fn mark(&self) -> Self::Mark;
    fn back(&mut self, mark: Self::Mark);
    /// More was written than may be.
    fn is_full(&self) -> bool {
        false
    }
}

/// Takes everything, and keeps nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nowhere;

impl Sink for Nowhere {
    type Mark = ();

    fn null(&mut self) {}
    fn boolean(&mut self, _value: bool) {}
    fn integer(&mut self, _value: Whole) {}
    fn float(&mut self, _value: f64) {}
    fn single(&mut self, _value: f32) {}
    fn text(&mut self, _value: &str) {}
    fn bytes(&mut self, _value: &[u8]) {}
    fn begin(&mut self, _is_map: bool) {}
    fn separate(&mut self, _is_first: bool) {}
    fn key(&mut self, _key: &Head<'_>) {}
    fn keyed(&mut self) {}
    fn end(&mut self, _begun: (), _is_map: bool, _count: u32) -> Result<(), Wrong> {
        Ok(())
    }
    fn mark(&self) {}
    fn back(&mut self, _mark: ()) {}
}
