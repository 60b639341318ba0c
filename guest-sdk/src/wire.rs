//! MessagePack, in and out.
//!
//! What comes in is the caller's and may be anything. [`check_shape`] walks over it first, without
//! recursion, so that no later step can meet a value that is cut off or nested without end:
//! decoders recurse, and a guest's stack is 1 MiB.

mod decode;
mod encode;
mod place;

use std::io::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::guest::CallError;
use crate::rejection::Rejection;

pub(crate) use decode::{Source, cut_off};
pub(crate) use encode::EncodeError;
pub(crate) use place::DecodeError;

use decode::Decoder;
use encode::{Encoder, Form};

/// How deep arrays and maps may be nested. One level costs a decoder less than 2 KiB of stack, so
/// that the deepest value takes a quarter of the 1 MiB that `wasm-ld` gives a guest by default.
const NESTING_MAX: usize = 128;

/// Decodes the arguments of a contract: an array in order, or a map by name.
///
/// # Errors
///
/// [`CallError::BadArguments`] for whatever is wrong with them, and where.
pub fn decode_arguments<T: DeserializeOwned>(
    contract: &str,
    names: &[&str],
    bytes: &[u8],
) -> Result<T, CallError> {
    let decoded = decode_whole(bytes);
    decoded.map_err(|error| CallError::BadArguments(error.in_arguments(contract, names)))
}

/// Decodes the parameters of a daemon. No bytes stand for no parameters.
///
/// # Errors
///
/// A rejection with the code `bad_parameters`.
pub fn decode_parameters<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Rejection> {
    const EMPTY_MAP: &[u8] = &[0x80];
    let bytes = if bytes.is_empty() { EMPTY_MAP } else { bytes };
    decode(bytes).map_err(|error| Rejection::new("bad_parameters", error))
}

/// Appends what a contract answers to `reply`.
///
/// # Errors
///
/// None; the signature is that of the place it is called from.
///
/// # Panics
///
/// When the value's own `Serialize` fails. That is the guest's bug, so the call crashes and is
/// undone.
#[expect(clippy::panic, reason = "a value that refuses to be serialized is a bug of the guest")]
pub fn encode_reply<T: Serialize>(value: &T, reply: &mut Vec<u8>) -> Result<(), CallError> {
    match value.serialize(&mut Encoder::new(reply, Form::Json)) {
        Ok(()) => Ok(()),
        Err(error) => panic!("the result cannot be serialized: {error}"),
    }
}

/// Encodes a value for the outside: structs as maps by name, and otherwise as JSON has it.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    value.serialize(&mut Encoder::new(&mut bytes, Form::Json))?;
    Ok(bytes)
}

/// Encodes a value for the guest's own later code.
pub(crate) fn encode_state<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut impl Write,
) -> Result<(), EncodeError> {
    value.serialize(&mut Encoder::new(bytes, Form::State))
}

/// Decodes exactly one value; the error is for people.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    decode_whole(bytes).map_err(|error| error.to_string())
}

fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    check_shape(bytes).map_err(DecodeError::new)?;
    decode_from(bytes)
}

/// Decodes one value from what a guest's older code wrote.
pub(crate) fn decode_from<T: DeserializeOwned>(bytes: impl Source) -> Result<T, DecodeError> {
    T::deserialize(&mut Decoder::new(bytes))
}

/// Checks that `bytes` are exactly one whole value, nested at most [`NESTING_MAX`] levels deep.
fn check_shape(bytes: &[u8]) -> Result<(), &'static str> {
    // Most arguments are one array or map of plain values: for those, counting is enough.
    let (contents, mut rest) = read_head(bytes)?;
    let count = match contents {
        Contents::Bytes(length) => return check_end(rest.get(length..).ok_or(CUT_OFF)?),
        Contents::Values(count) => count,
    };
    for _ in 0..count {
        let (contents, after) = read_head(rest)?;
        match contents {
            Contents::Bytes(length) => rest = after.get(length..).ok_or(CUT_OFF)?,
            Contents::Values(_) => return check_nested(bytes),
        }
    }
    check_end(rest)
}

fn check_end(rest: &[u8]) -> Result<(), &'static str> {
    if rest.is_empty() { Ok(()) } else { Err("bytes after the end of the value") }
}

/// The same for any value, with a stack of its own.
#[inline(never)]
fn check_nested(bytes: &[u8]) -> Result<(), &'static str> {
    // How many values are still to come on each level, outermost first.
    let mut open = [0_usize; NESTING_MAX];
    let mut depth = 0;
    let mut rest = bytes;
    loop {
        let (contents, after) = read_head(rest)?;
        rest = after;
        match contents {
            Contents::Bytes(length) => rest = rest.get(length..).ok_or(CUT_OFF)?,
            Contents::Values(0) => {}
            // Each takes a byte at least, so a count can't promise more than there is.
            Contents::Values(count) if count > rest.len() => return Err(CUT_OFF),
            Contents::Values(count) => {
                *open.get_mut(depth).ok_or(TOO_DEEP)? = count;
                depth += 1;
                continue;
            }
        }
        // A value is complete, and with it perhaps the array or map that it was the last of.
        loop {
            let Some(level) = depth.checked_sub(1).and_then(|last| open.get_mut(last)) else {
                return check_end(rest);
            };
            *level -= 1;
            if *level > 0 {
                break;
            }
            depth -= 1;
        }
    }
}

const CUT_OFF: &str = "the value is cut off";
const TOO_DEEP: &str = "nested too deep";

/// What follows the head of a value.
enum Contents {
    Bytes(usize),
    Values(usize),
}

/// Reads the head of the value that `bytes` start with.
fn read_head(bytes: &[u8]) -> Result<(Contents, &[u8]), &'static str> {
    use Contents::{Bytes, Values};
    let (&marker, rest) = bytes.split_first().ok_or(CUT_OFF)?;
    Ok(match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (Bytes(0), rest),
        0x80..=0x8f => (Values(usize::from(marker & 0x0f) * 2), rest),
        0x90..=0x9f => (Values(usize::from(marker & 0x0f)), rest),
        0xa0..=0xbf => (Bytes(usize::from(marker & 0x1f)), rest),
        0xc1 => return Err("not MessagePack"),
        // Binary, extensions (their type is one byte more) and text, with a length in front.
        0xc4 | 0xd9 => sized(rest, 1, 0)?,
        0xc5 | 0xda => sized(rest, 2, 0)?,
        0xc6 | 0xdb => sized(rest, 4, 0)?,
        0xc7 => sized(rest, 1, 1)?,
        0xc8 => sized(rest, 2, 1)?,
        0xc9 => sized(rest, 4, 1)?,
        // Numbers, and extensions of a fixed size.
        0xcc | 0xd0 => (Bytes(1), rest),
        0xcd | 0xd1 | 0xd4 => (Bytes(2), rest),
        0xd5 => (Bytes(3), rest),
        0xca | 0xce | 0xd2 => (Bytes(4), rest),
        0xd6 => (Bytes(5), rest),
        0xcb | 0xcf | 0xd3 => (Bytes(8), rest),
        0xd7 => (Bytes(9), rest),
        0xd8 => (Bytes(17), rest),
        0xdc => counted(rest, 2, 1)?,
        0xdd => counted(rest, 4, 1)?,
        0xde => counted(rest, 2, 2)?,
        0xdf => counted(rest, 4, 2)?,
    })
}

/// Reads a length; `extra` bytes follow besides what it counts.
fn sized(bytes: &[u8], width: usize, extra: usize) -> Result<(Contents, &[u8]), &'static str> {
    let (length, rest) = read_number(bytes, width)?;
    Ok((Contents::Bytes(length.checked_add(extra).ok_or(CUT_OFF)?), rest))
}

/// Reads a count of entries with `values` values each.
fn counted(bytes: &[u8], width: usize, values: usize) -> Result<(Contents, &[u8]), &'static str> {
    let (count, rest) = read_number(bytes, width)?;
    Ok((Contents::Values(count.checked_mul(values).ok_or(CUT_OFF)?), rest))
}

/// Reads a big-endian number of `width` bytes, at most four, which a `usize` of 32 bits holds.
fn read_number(bytes: &[u8], width: usize) -> Result<(usize, &[u8]), &'static str> {
    let (digits, rest) = bytes.split_at_checked(width).ok_or(CUT_OFF)?;
    let number = digits.iter().fold(0, |number, &digit| number << 8 | usize::from(digit));
    Ok((number, rest))
}

#[cfg(test)]
mod tests;
