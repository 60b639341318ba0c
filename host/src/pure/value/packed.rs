//! MessagePack, read and written as a stream.
//!
//! Whole numbers of more than 64 bits are written as decimal text, as guests of the SDK have them.
//! They are read as the 16 bytes of a `bin`, too, which is what other Rust programs make of them.

use std::borrow::Cow;

use rmp::Marker;
use rmp::encode as e;

use super::json::{JsonWriter, too_deep};
use super::{Head, Items, Sink, Source, Whole, Wrong};
use crate::base::error::printable;
use crate::base::limits::{SHOWN_BYTES_MAX, VALUE_DEPTH_MAX};

/// A place in MessagePack bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::pure) struct Packed<'v> {
    bytes: &'v [u8],
    at: usize,
}

impl<'v> Packed<'v> {
    pub(in crate::pure) fn new(bytes: &'v [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Result<&'v [u8], Wrong> {
        let end = self.at.saturating_add(count);
        let taken = self.bytes.get(self.at..end).ok_or_else(cut_off)?;
        self.at = end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        <[u8; N]>::try_from(self.take(N)?).map_err(|_| cut_off())
    }

    fn u8(&mut self) -> Result<u32, Wrong> {
        self.number::<1>().map(|[byte]| u32::from(byte))
    }

    fn u16(&mut self) -> Result<u32, Wrong> {
        self.number().map(|bytes| u32::from(u16::from_be_bytes(bytes)))
    }

    fn u32(&mut self) -> Result<u32, Wrong> {
        self.number().map(u32::from_be_bytes)
    }

    fn text(&mut self, len: u32) -> Result<Head<'v>, Wrong> {
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        let text = std::str::from_utf8(bytes);
        text.map(|text| Head::Text(Cow::Borrowed(text)))
            .map_err(|_| Wrong::broken("a string that is not UTF-8"))
    }

    fn blob(&mut self, len: u32) -> Result<Head<'v>, Wrong> {
        self.take(usize::try_from(len).unwrap_or(usize::MAX)).map(Head::Bytes)
    }
}

fn cut_off() -> Wrong {
    Wrong::broken("the value is cut off")
}

fn signed(value: impl Into<i128>) -> Head<'static> {
    Head::Integer(Whole::from(value.into()))
}

impl<'v> Source<'v> for Packed<'v> {
    const IS_TEXT: bool = false;

    fn head(&mut self) -> Result<Head<'v>, Wrong> {
        let [marker] = self.number()?;
        Ok(match Marker::from_u8(marker) {
            Marker::Null => Head::Null,
            Marker::True => Head::Boolean(true),
            Marker::False => Head::Boolean(false),
            Marker::FixPos(value) => signed(value),
            Marker::FixNeg(value) => signed(value),
            Marker::U8 => signed(self.u8()?),
            Marker::U16 => signed(self.u16()?),
            Marker::U32 => signed(self.u32()?),
            Marker::U64 => signed(u64::from_be_bytes(self.number()?)),
            Marker::I8 => signed(i8::from_be_bytes(self.number()?)),
            Marker::I16 => signed(i16::from_be_bytes(self.number()?)),
            Marker::I32 => signed(i32::from_be_bytes(self.number()?)),
            Marker::I64 => signed(i64::from_be_bytes(self.number()?)),
            Marker::F32 => Head::Single(f32::from_be_bytes(self.number()?)),
            Marker::F64 => Head::Float(f64::from_be_bytes(self.number()?)),
            Marker::FixStr(len) => self.text(u32::from(len))?,
            Marker::Str8 => self.u8().and_then(|len| self.text(len))?,
            Marker::Str16 => self.u16().and_then(|len| self.text(len))?,
            Marker::Str32 => self.u32().and_then(|len| self.text(len))?,
            Marker::Bin8 => self.u8().and_then(|len| self.blob(len))?,
            Marker::Bin16 => self.u16().and_then(|len| self.blob(len))?,
            Marker::Bin32 => self.u32().and_then(|len| self.blob(len))?,
            Marker::FixArray(len) => Head::Array(Items::Counted(u32::from(len))),
            Marker::Array16 => Head::Array(Items::Counted(self.u16()?)),
            Marker::Array32 => Head::Array(Items::Counted(self.u32()?)),
            Marker::FixMap(len) => Head::Map(Items::Counted(u32::from(len))),
            Marker::Map16 => Head::Map(Items::Counted(self.u16()?)),
            Marker::Map32 => Head::Map(Items::Counted(self.u32()?)),
            _ => return Err(Wrong::broken("a MessagePack extension, which has no JSON form")),
        })
    }

    fn more(&mut self, items: &mut Items) -> Result<bool, Wrong> {
        let Items::Counted(left) = items else { return Ok(false) };
        let more = *left > 0;
        *left = left.saturating_sub(1);
        Ok(more)
    }

    fn key(&mut self) -> Result<Head<'v>, Wrong> {
        self.head()
    }

    fn skip(&mut self, depth: usize) -> Result<(), Wrong> {
        // How many values are still to come on each level.
        let mut open = [0_u64; VALUE_DEPTH_MAX];
        let mut level = 0;
        loop {
            let values = match self.head()? {
                Head::Array(Items::Counted(count)) => u64::from(count),
                Head::Map(Items::Counted(count)) => 2 * u64::from(count),
                _ => 0,
            };
            if values > 0 {
                let place = open.get_mut(level).filter(|_| level < depth);
                *place.ok_or_else(too_deep)? = values;
                level += 1;
                continue;
            }
            loop {
                let innermost = level.checked_sub(1).and_then(|last| open.get_mut(last));
                let Some(left) = innermost else { return Ok(()) };
                *left = left.saturating_sub(1);
                if *left > 0 {
                    break;
                }
                level -= 1;
            }
        }
    }

    fn end(&mut self) -> Result<(), Wrong> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(Wrong::broken("bytes after the value"))
        }
    }

    fn at(&self) -> usize {
        self.at
    }

    fn shown(&self) -> String {
        let mut near = *self;
        let mut shown = JsonWriter::new(SHOWN_BYTES_MAX);
        match transcribe(&mut near, &mut shown, VALUE_DEPTH_MAX) {
            Ok(()) => printable(&shown.into_text(), SHOWN_BYTES_MAX),
            Err(_) => "a value that can't be shown".to_owned(),
        }
    }
}

/// Writes the next value as it is, until the sink is full.
fn transcribe(source: &mut Packed<'_>, sink: &mut JsonWriter, depth: usize) -> Result<(), Wrong> {
    if sink.is_full() {
        return Ok(());
    }
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    let head = source.head()?;
    let is_map = matches!(head, Head::Map(_));
    let mut items = match head {
        Head::Array(items) | Head::Map(items) => items,
        head => {
            write(&head, sink);
            return Ok(());
        }
    };
    let begun = sink.begin(is_map);
    let mut is_first = true;
    while !sink.is_full() && source.more(&mut items)? {
        sink.separate(std::mem::take(&mut is_first));
        if is_map {
            let key = source.key()?;
            sink.key(&key);
            sink.keyed();
        }
        transcribe(source, sink, depth)?;
    }
    sink.end(begun, is_map, 0)
}

/// Writes a value that holds no others.
pub(in crate::pure) fn write(head: &Head<'_>, sink: &mut impl Sink) {
    match head {
        Head::Null | Head::Array(_) | Head::Map(_) => sink.null(),
        Head::Boolean(value) => sink.boolean(*value),
        Head::Integer(value) => sink.integer(*value),
        Head::Huge(digits) => sink.text(digits),
        Head::Float(value) => sink.float(*value),
        Head::Single(value) => sink.single(*value),
        Head::Text(value) => sink.text(value),
        Head::Bytes(value) => sink.bytes(value),
    }
}

/// MessagePack that grows. Maps are sorted by their keys, so that equal values are equal bytes.
#[derive(Debug, Default)]
pub(in crate::pure) struct PackedWriter {
    bytes: Vec<u8>,
    /// Of the maps that are open, innermost last: where keys and their values begin.
    entries: Vec<Entry>,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: usize,
    value: usize,
}

impl PackedWriter {
    pub(in crate::pure) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::pure) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts the head of an array or map with so many entries in front of what was written since
    /// the place that was left for it.
    fn head_at(&mut self, place: usize, is_map: bool, count: u32) {
        let mut head = Vec::new();
        if let (Ok(few @ 0..16), Some(byte)) = (u8::try_from(count), self.bytes.get_mut(place)) {
            let marker = if is_map { Marker::FixMap(few) } else { Marker::FixArray(few) };
            *byte = marker.to_u8();
            return;
        }
        // Writing to memory can't fail.
        let _marker = if is_map {
            e::write_map_len(&mut head, count)
        } else {
            e::write_array_len(&mut head, count)
        };
        self.bytes.splice(place..=place, head);
    }

    /// What a key is sorted by.
    fn key_of(&self, entry: Entry) -> &[u8] {
        let key = self.bytes.get(entry.key..entry.value).unwrap_or_default();
        match Packed::new(key).head() {
            Ok(Head::Text(Cow::Borrowed(text))) => text.as_bytes(),
            _ => key,
        }
    }

    /// Sorts the entries of a map, which begin after `place`.
    fn sort(&mut self, place: usize, first: usize) -> Result<(), Wrong> {
        let entries = self.entries.split_off(first);
        let is_sorted = |pair: &[Entry]| match pair {
            [one, next] => self.key_of(*one) < self.key_of(*next),
            _ => true,
        };
        if entries.windows(2).all(is_sorted) {
            return Ok(());
        }
        let ends = entries.iter().skip(1).map(|next| next.key).chain([self.bytes.len()]);
        let mut whole: Vec<(Entry, usize)> = entries.iter().copied().zip(ends).collect();
        whole.sort_by(|(one, _), (other, _)| self.key_of(*one).cmp(self.key_of(*other)));
        for pair in whole.windows(2) {
            let [(one, _), (next, _)] = pair else { continue };
            if self.key_of(*one) == self.key_of(*next) {
                let key = JsonKey(self.bytes.get(one.key..one.value).unwrap_or_default());
                return Err(Wrong::broken(format!("`{key}` is given twice")));
            }
        }
        self.scratch.clear();
        for (entry, end) in &whole {
            self.scratch.extend_from_slice(self.bytes.get(entry.key..*end).unwrap_or_default());
        }
        self.bytes.truncate(place + 1);
        self.bytes.extend_from_slice(&self.scratch);
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
        Ok(())
    }
}

/// A buffer that once held more is not kept.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;

struct JsonKey<'a>(&'a [u8]);

impl std::fmt::Display for JsonKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Packed::new(self.0).head() {
            Ok(Head::Text(text)) => f.write_str(&printable(&text, SHOWN_BYTES_MAX)),
            Ok(Head::Integer(number)) => number.fmt(f),
            _ => f.write_str("a key"),
        }
    }
}

// Writing to memory can't fail, so the markers that rmp answers say nothing.
impl Sink for PackedWriter {
    type Mark = (usize, usize);

    fn null(&mut self) {
        self.bytes.push(Marker::Null.to_u8());
    }

    fn boolean(&mut self, value: bool) {
        self.bytes.push(if value { Marker::True } else { Marker::False }.to_u8());
    }

    fn integer(&mut self, value: Whole) {
        match value {
            Whole::Positive(number) => match u64::try_from(number) {
                Ok(number) => drop(e::write_uint(&mut self.bytes, number)),
                Err(_) => self.text(&number.to_string()),
            },
            Whole::Negative(number) => match i64::try_from(number) {
                Ok(number) => drop(e::write_sint(&mut self.bytes, number)),
                Err(_) => self.text(&number.to_string()),
            },
        }
    }

    fn float(&mut self, value: f64) {
        drop(e::write_f64(&mut self.bytes, value));
    }

    fn single(&mut self, value: f32) {
        drop(e::write_f32(&mut self.bytes, value));
    }

    fn text(&mut self, value: &str) {
        drop(e::write_str(&mut self.bytes, value));
    }

    fn bytes(&mut self, value: &[u8]) {
        drop(e::write_bin(&mut self.bytes, value));
    }

    fn begin(&mut self, _is_map: bool) -> Self::Mark {
        self.bytes.push(0);
        (self.bytes.len() - 1, self.entries.len())
    }

    fn separate(&mut self, _is_first: bool) {}

    fn key(&mut self, key: &Head<'_>) {
        self.entries.push(Entry { key: self.bytes.len(), value: 0 });
        write(key, self);
    }

    fn keyed(&mut self) {
        let value = self.bytes.len();
        if let Some(entry) = self.entries.last_mut() {
            entry.value = value;
        }
    }

    fn end(&mut self, (place, first): Self::Mark, is_map: bool, count: u32) -> Result<(), Wrong> {
        if is_map {
            self.sort(place, first)?;
        }
        self.head_at(place, is_map, count);
        Ok(())
    }

    fn mark(&self) -> Self::Mark {
        (self.bytes.len(), self.entries.len())
    }

    fn back(&mut self, (bytes, entries): Self::Mark) {
        self.bytes.truncate(bytes);
        self.entries.truncate(entries);
    }
}
