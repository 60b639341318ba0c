//! What is wrong with a value, and where in it.

use std::fmt::{self, Display, Write as _};

use serde::de::{self, Expected, Unexpected};

use super::decode::Head;

/// Bytes of a name that an error shows; arguments have no longer ones. What is longer is cut.
const NAME_BYTES_MAX: usize = 64;

/// Characters of a text that an error shows.
const SHOWN_CHARS_MAX: usize = 64;

/// The bytes are no such value; for people.
#[derive(Debug)]
pub(crate) struct DecodeError {
    /// From the inside out, in the order in which an error passes them.
    path: Vec<Step>,
    message: String,
    /// The message says what was found.
    shows: bool,
}

/// A part of a path.
#[derive(Clone, Debug)]
enum Step {
    Name(String),
    Element(usize),
}

impl DecodeError {
    #[cold]
    pub(crate) fn new(message: &str) -> Self {
        Self::showing(message.to_owned())
    }

    #[cold]
    pub(super) fn showing(message: String) -> Self {
        Self { path: Vec::new(), message, shows: true }
    }

    /// It is about the value of this name.
    #[cold]
    pub(super) fn under(mut self, name: &Name) -> Self {
        self.path.push(Step::Name(name.to_string()));
        self
    }

    /// It is about this element of a list.
    #[cold]
    pub(super) fn at(mut self, element: usize) -> Self {
        self.path.push(Step::Element(element));
        self
    }

    /// It is about this text, in case that the type's own words don't say so.
    #[cold]
    pub(super) fn about(mut self, text: &str) -> Self {
        if !self.shows {
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            let more = if shown.len() < text.len() { ".." } else { "" };
            // Writing to a String can't fail.
            let _written = write!(self.message, ", found {shown:?}{more}");
            self.shows = true;
        }
        self
    }

    /// The error in the words of the host, which refuses most arguments itself.
    #[cold]
    pub(super) fn in_arguments(mut self, contract: &str, names: &[&str]) -> String {
        let argument = match self.path.pop() {
            None => return format!("`{contract}`: {self}"),
            Some(Step::Name(name)) => name,
            Some(Step::Element(place)) => match names.get(place) {
                Some(name) => (*name).to_owned(),
                None => place.to_string(),
            },
        };
        format!("`{contract}`: argument `{argument}`: {self}")
    }

    /// The error in the words of the host where it compares states.
    #[cold]
    pub(crate) fn in_state(&self) -> String {
        let path = self.path();
        match path.strip_prefix('.').unwrap_or(&path) {
            "" => self.message.clone(),
            path => format!("{path}: {}", self.message),
        }
    }

    fn path(&self) -> String {
        let step = |step: &Step| match step {
            Step::Name(name) => format!(".{name}"),
            Step::Element(place) => format!("[{place}]"),
        };
        self.path.iter().rev().map(step).collect()
    }
}

impl Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path().as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "at `{path}`: {}", self.message),
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self { shows: false, ..Self::showing(message.to_string()) }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::showing(format!("invalid type: {found}, expected {expected}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::showing(format!("invalid value: {found}, expected {expected}"))
    }

    fn unknown_variant(name: &str, expected: &'static [&'static str]) -> Self {
        let expected = Names(expected);
        Self::showing(format!("unknown variant `{name}`, expected {expected}"))
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        let expected = Names(expected);
        Self::showing(format!("unknown field `{name}`, expected {expected}"))
    }
}

/// Names of which one is expected.
struct Names(&'static [&'static str]);

impl Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => return f.write_str("none"),
            [only] => return write!(f, "`{only}`"),
            [one, other] => return write!(f, "`{one}` or `{other}`"),
            _ => f.write_str("one of ")?,
        }
        for (place, name) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}`{name}`")?;
        }
        Ok(())
    }
}

/// The name of an entry that is being read. On the stack: noting it allocates nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    head: Head,
    text: [u8; NAME_BYTES_MAX],
}

impl Name {
    pub(super) const fn new(head: Head) -> Self {
        Self { head, text: [0; NAME_BYTES_MAX] }
    }

    /// Keeps as much of it as is shown.
    pub(super) fn note(&mut self, text: &[u8]) {
        let places = self.text.iter_mut().zip(text);
        places.for_each(|(place, byte)| *place = *byte);
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.head {
            Head::Text(length) => {
                let text = self.text.get(..length).unwrap_or(&self.text);
                let text = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                let more = if text.len() < length { ".." } else { "" };
                write!(f, "{text}{more}")
            }
            Head::Unsigned(value) => write!(f, "{value}"),
            Head::Signed(value) => write!(f, "{value}"),
            Head::Boolean(value) => write!(f, "{value}"),
            _ => f.write_str("(a key)"),
        }
    }
}
