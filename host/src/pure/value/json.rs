//! JSON text, read and written as a stream.
//!
//! Numbers are read by their own digits, so that none is rounded before anybody has asked what it
//! is for.

use std::borrow::Cow;
use std::io::Write;

use super::{Head, Items, Sink, Source, Whole, Wrong};
use crate::base::error::printable;
use crate::base::limits::{SHOWN_BYTES_MAX, VALUE_DEPTH_MAX};

/// A place in a JSON text.
#[derive(Clone, Copy, Debug)]
pub(in crate::pure) struct JsonText<'v> {
    text: &'v str,
    at: usize,
}

impl<'v> JsonText<'v> {
    pub(in crate::pure) fn new(text: &'v str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'v str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    #[cold]
    fn wrong(&self, wanted: &str) -> Wrong {
        let found = match self.rest().chars().next() {
            None => "the end of the text".to_owned(),
            Some(next) => format!("`{}`", printable(&next.to_string(), SHOWN_BYTES_MAX)),
        };
        Wrong::broken(format!("at byte {}: expected {wanted}, found {found}", self.at))
    }

    fn take(&mut self, byte: u8, wanted: &str) -> Result<(), Wrong> {
        if self.next() != Some(byte) {
            return Err(self.wrong(wanted));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &'static str, head: Head<'v>) -> Result<Head<'v>, Wrong> {
        if !self.rest().starts_with(word) {
            return Err(self.wrong("a value"));
        }
        self.at += word.len();
        Ok(head)
    }

    fn digits(&mut self) -> Result<(), Wrong> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return Err(self.wrong("a digit"));
        }
        self.at += count;
        Ok(())
    }

    fn number(&mut self) -> Result<Head<'v>, Wrong> {
        let start = self.at;
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let mut is_whole = true;
        if self.peek() == Some(b'.') {
            (is_whole, self.at) = (false, self.at + 1);
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            (is_whole, self.at) = (false, self.at + 1);
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if is_whole && text != "-0" {
            return Ok(Whole::parse(text).map_or(Head::Huge(text), Head::Integer));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Head::Float(number)),
            _ => {
                let shown = printable(text, SHOWN_BYTES_MAX);
                Err(Wrong::broken(format!("at byte {start}: no float reaches {shown}")))
            }
        }
    }

    /// Reads a string whose quote is next. Without escapes it is where it was.
    fn string(&mut self) -> Result<Cow<'v, str>, Wrong> {
        self.at += 1;
        let mut read = Cow::Borrowed("");
        loop {
            let run =
                self.rest().bytes().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20));
            let run = self.rest().get(..run.count()).unwrap_or_default();
            self.at += run.len();
            if read.is_empty() {
                read = Cow::Borrowed(run);
            } else {
                read.to_mut().push_str(run);
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(read);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let character = self.escape()?;
                    read.to_mut().push(character);
                }
                _ => return Err(self.wrong("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Wrong> {
        let Some(byte) = self.peek() else { return Err(self.wrong("an escaped character")) };
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.wrong("an escaped character")),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char, Wrong> {
        let place = *self;
        let first = self.hexadecimal()?;
        let code = match first {
            0xd800..0xdc00 if self.rest().starts_with("\\u") => {
                self.at += 2;
                let second = self.hexadecimal()?;
                let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                low.map_or(first, |low| 0x1_0000 + ((first - 0xd800) << 10) + low)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| place.wrong("a whole character"))
    }

    fn hexadecimal(&mut self) -> Result<u32, Wrong> {
        let digits =
            self.rest().get(..4).filter(|four| four.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| self.wrong("four hexadecimal digits"))?;
        self.at += 4;
        Ok(number)
    }

    /// The text of the next value, as it is.
    pub(in crate::pure) fn raw(&mut self) -> Result<&'v str, Wrong> {
        let _first = self.next();
        let start = self.at;
        self.skip(VALUE_DEPTH_MAX)?;
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }
}

impl<'v> Source<'v> for JsonText<'v> {
    const IS_TEXT: bool = true;

    fn head(&mut self) -> Result<Head<'v>, Wrong> {
        match self.next() {
            Some(b'n') => self.word("null", Head::Null),
            Some(b't') => self.word("true", Head::Boolean(true)),
            Some(b'f') => self.word("false", Head::Boolean(false)),
            Some(b'"') => self.string().map(Head::Text),
            Some(b'[') => {
                self.at += 1;
                Ok(Head::Array(Items::Until(b']', true)))
            }
            Some(b'{') => {
                self.at += 1;
                Ok(Head::Map(Items::Until(b'}', true)))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.wrong("a value")),
        }
    }

    fn more(&mut self, items: &mut Items) -> Result<bool, Wrong> {
        let Items::Until(close, is_first) = items else { return Ok(false) };
        let next = self.next();
        if next == Some(*close) {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::take(is_first) {
            let wanted = if *close == b']' { "`,` or `]`" } else { "`,` or `}`" };
            self.take(b',', wanted)?;
            if self.next() == Some(*close) {
                return Err(self.wrong("a value"));
            }
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<Head<'v>, Wrong> {
        if self.next() != Some(b'"') {
            return Err(self.wrong("a name in quotes"));
        }
        let key = self.string()?;
        self.take(b':', "`:`")?;
        Ok(Head::Text(key))
    }

    fn skip(&mut self, depth: usize) -> Result<(), Wrong> {
        let mut open: [Option<Items>; VALUE_DEPTH_MAX] = [None; VALUE_DEPTH_MAX];
        let mut level = 0;
        loop {
            if let Head::Array(items) | Head::Map(items) = self.head()? {
                let place = open.get_mut(level).filter(|_| level < depth);
                *place.ok_or_else(too_deep)? = Some(items);
                level += 1;
            }
            loop {
                let innermost = level.checked_sub(1).and_then(|last| open.get_mut(last));
                let Some(Some(items)) = innermost else { return Ok(()) };
                let is_map = matches!(items, Items::Until(b'}', _));
                if self.more(items)? {
                    if is_map {
                        self.key()?;
                    }
                    break;
                }
                level -= 1;
            }
        }
    }

    fn end(&mut self) -> Result<(), Wrong> {
        match self.next() {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end of the text")),
        }
    }

    fn at(&self) -> usize {
        self.at
    }

    fn shown(&self) -> String {
        let mut near = *self;
        let _first = near.next();
        let rest = near.rest();
        // Enough to see whether the value is short; a cut one is no value.
        let window = (0..=SHOWN_BYTES_MAX + 1).rev().find_map(|end| rest.get(..end));
        let mut window = JsonText::new(window.unwrap_or_default());
        match window.skip(VALUE_DEPTH_MAX) {
            Ok(()) => printable(window.text.get(..window.at).unwrap_or_default(), SHOWN_BYTES_MAX),
            Err(_) => printable(window.text, SHOWN_BYTES_MAX),
        }
    }
}

pub(in crate::pure) fn too_deep() -> Wrong {
    Wrong::broken(format!("the value is nested deeper than {VALUE_DEPTH_MAX}"))
}

/// JSON text that grows, up to so many bytes.
#[derive(Debug)]
pub(in crate::pure) struct JsonWriter {
    text: Vec<u8>,
    bytes_max: usize,
}

impl JsonWriter {
    pub(in crate::pure) fn new(bytes_max: usize) -> Self {
        Self { text: Vec::with_capacity(64.min(bytes_max)), bytes_max }
    }

    /// The text; of what was written beyond its limit there is only a part.
    pub(in crate::pure) fn into_text(self) -> String {
        // Only the limit may have cut a character.
        String::from_utf8(self.text)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Takes one byte more than may be, which is how it knows.
    fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes_max.saturating_add(1).saturating_sub(self.text.len());
        self.text.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn print(&mut self, value: std::fmt::Arguments<'_>) {
        // Numbers, which have some dozen bytes; a vector takes all.
        drop(self.text.write_fmt(value));
    }

    fn string(&mut self, value: &str) {
        self.push(b"\"");
        let mut rest = value;
        while let Some(run) = rest.bytes().position(is_special) {
            let (plain, special) = rest.split_at(run);
            self.push(plain.as_bytes());
            let mut characters = special.chars();
            match characters.next() {
                Some('"') => self.push(b"\\\""),
                Some('\\') => self.push(b"\\\\"),
                Some('\n') => self.push(b"\\n"),
                Some('\r') => self.push(b"\\r"),
                Some('\t') => self.push(b"\\t"),
                Some(other) if is_plain(other) => {
                    self.push(other.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(other) => self.print(format_args!("\\u{:04x}", u32::from(other))),
                None => {}
            }
            rest = characters.as_str();
        }
        self.push(rest.as_bytes());
        self.push(b"\"");
    }
}

impl Sink for JsonWriter {
    type Mark = usize;

    fn null(&mut self) {
        self.push(b"null");
    }

    fn boolean(&mut self, value: bool) {
        self.push(if value { b"true" } else { b"false" });
    }

    fn integer(&mut self, value: Whole) {
        self.print(format_args!("{value}"));
    }

    fn float(&mut self, value: f64) {
        match unsayable(value) {
            Some(word) => self.string(word),
            None => self.print(format_args!("{value:?}")),
        }
    }

    fn single(&mut self, value: f32) {
        match unsayable(f64::from(value)) {
            Some(word) => self.string(word),
            None => self.print(format_args!("{value:?}")),
        }
    }

    fn text(&mut self, value: &str) {
        self.string(value);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.push(b"[");
        for (place, byte) in value.iter().enumerate() {
            if self.is_full() {
                return;
            }
            let comma = if place == 0 { "" } else { "," };
            self.print(format_args!("{comma}{byte}"));
        }
        self.push(b"]");
    }

    fn begin(&mut self, is_map: bool) -> usize {
        self.push(if is_map { b"{" } else { b"[" });
        self.text.len()
    }

    fn separate(&mut self, is_first: bool) {
        if !is_first {
            self.push(b",");
        }
    }

    fn key(&mut self, key: &Head<'_>) {
        match key {
            Head::Text(name) => self.string(name),
            Head::Integer(number) => self.print(format_args!("\"{number}\"")),
            Head::Boolean(value) => self.print(format_args!("\"{value}\"")),
            // Nothing else is taken for a key.
            _ => self.string(""),
        }
    }

    fn keyed(&mut self) {
        self.push(b":");
    }

    fn end(&mut self, _begun: usize, is_map: bool, _count: u32) -> Result<(), Wrong> {
        self.push(if is_map { b"}" } else { b"]" });
        Ok(())
    }

    fn mark(&self) -> usize {
        self.text.len()
    }

    fn back(&mut self, mark: usize) {
        self.text.truncate(mark);
    }

    fn is_full(&self) -> bool {
        self.text.len() > self.bytes_max
    }
}

/// The first byte of a character that is escaped, or may be.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f | 0xc2 | 0xd8 | 0xe2)
}

/// Neither controls a terminal nor turns the direction of a text.
fn is_plain(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !character.is_control() && !turns
}

/// The word for a float that JSON has no number for.
fn unsayable(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("nan")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "inf" } else { "-inf" })
    } else {
        None
    }
}

/// The float that such a word stands for.
pub(in crate::pure) fn said(word: &str) -> Option<f64> {
    match word {
        "nan" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}
