//! Places in a manifest's text, and complaints about them, without the secrets that stand there.

use std::fmt;
use std::ops::Range;

use crate::base::error::{Code, printable};
use crate::base::limits::{MANIFEST_EXCERPT_CHARS, MESSAGE_BYTES_MAX};

/// Bytes of a manifest's text.
pub type Span = Range<usize>;

/// A place in a text. Both numbers begin with 1; columns are characters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// A mistake in a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Complaint {
    /// What kind of mistake.
    pub code: Code,
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// The line, or the part of it around the place.
    excerpt: String,
    /// Characters of the excerpt before the place.
    indent: usize,
    /// Characters that the mistake spans.
    width: usize,
}

impl Complaint {
    /// What people get to see: file, place, message, and the line with the mistake marked.
    #[must_use]
    pub fn show(&self, file: &str) -> String {
        let number = self.place.line.to_string();
        let (gutter, indent) = (" ".repeat(number.len()), " ".repeat(self.indent));
        format!(
            "{file}:{}:{}: {}\n  {number} | {}\n  {gutter} | {indent}{}",
            self.place.line,
            self.place.column,
            self.message,
            self.excerpt.trim_end(),
            "^".repeat(self.width)
        )
    }
}

/// A manifest's text, and what of it nobody may see.
#[derive(Clone, Default)]
pub(super) struct Source {
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
    hidden: Vec<Span>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self { text: text.to_owned(), lines, hidden: Vec::new() }
    }

    /// Never shows these bytes.
    pub(super) fn hide(&mut self, span: Span) {
        self.hidden.push(span);
    }

    /// A complaint about the bytes `span`; those outside of the text count as its end.
    pub(super) fn complaint(&self, code: Code, span: &Span, message: &str) -> Complaint {
        let start = (0..=span.start.min(self.text.len()))
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0);
        let index = self.lines.partition_point(|&line| line <= start).saturating_sub(1);
        let line_start = self.lines.get(index).copied().unwrap_or(0);
        let line = self.text.get(line_start..).unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        let before = self.text.get(line_start..start).unwrap_or_default().chars().count();
        let shown = self.shown(line_start, line);
        // The part of the line around the place.
        let first = match shown.len() > MANIFEST_EXCERPT_CHARS {
            true => before.saturating_sub(MANIFEST_EXCERPT_CHARS / 2),
            false => 0,
        };
        let excerpt: String = shown.iter().skip(first).take(MANIFEST_EXCERPT_CHARS).collect();
        let indent = before - first;
        let room = excerpt.chars().count().saturating_sub(indent);
        let spanned = self.text.get(start..span.end).unwrap_or_default();
        let width = spanned.lines().next().unwrap_or_default().chars().count();
        Complaint {
            code,
            place: Place { line: index + 1, column: before + 1 },
            message: printable(message, MESSAGE_BYTES_MAX),
            excerpt,
            indent,
            width: width.min(room).max(1),
        }
    }

    /// The characters of a line, secrets as stars. One for one, so that columns stay.
    fn shown(&self, start: usize, line: &str) -> Vec<char> {
        let hidden = |at: usize| {
            let within = |span: &Span| span.contains(&(start + at));
            self.hidden.iter().any(within)
        };
        let credentials = credentials(line);
        let shown = line.char_indices().map(|(at, character)| {
            if hidden(at) || credentials.iter().any(|span| span.contains(&at)) {
                '*'
            } else if character.is_control() {
                ' '
            } else {
                character
            }
        });
        shown.collect()
    }
}

/// Where user and password of URLs stand in a text: between `://` and the last `@` of the word.
pub(super) fn credentials(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for (at, found) in text.match_indices("://") {
        let start = at + found.len();
        let rest = text.get(start..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || c == '"' || c == '\'');
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if let Some(length) = word.rfind('@') {
            spans.push(start..start + length);
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Span) -> String {
        Source::new(text).complaint(Code::Manifest, &span, "wrong").show("f")
    }

    #[test]
    fn a_complaint_shows_its_line_and_marks_the_place() {
        let text = "a = 1\nb\t= two\r\n\u{e9} = x\n";
        for (span, expected) in [
            (0..1, "f:1:1: wrong\n  1 | a = 1\n    | ^"),
            (4..40, "f:1:5: wrong\n  1 | a = 1\n    |     ^"),
            (10..13, "f:2:5: wrong\n  2 | b = two\n    |     ^^^"),
            (21..22, "f:3:6: wrong\n  3 | \u{e9} = x\n    |      ^"),
            // Between the two bytes of a character, and beyond the end.
            (16..17, "f:3:1: wrong\n  3 | \u{e9} = x\n    | ^"),
            (99..100, "f:4:1: wrong\n  4 | \n    | ^"),
        ] {
            assert_eq!(shown(text, span), expected);
        }
        assert_eq!(shown("", 0..0), "f:1:1: wrong\n  1 | \n    | ^");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let text = format!("{}here{}", "-".repeat(5000), "-".repeat(5000));
        let shown = shown(&text, 5000..5004);
        assert!(shown.starts_with("f:1:5001: wrong\n"), "{shown}");
        assert!(shown.len() < 3 * MANIFEST_EXCERPT_CHARS, "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let at = lines[1].find("here").unwrap();
        assert_eq!(&lines[2][at..], "^^^^", "{shown}");
    }

    #[test]
    fn secrets_are_stars() {
        let text = "u = 'redis://ann:p@ss@h:1/@'  x = \"hunter2\"";
        let mut source = Source::new(text);
        let at = text.find("hunter2").unwrap();
        source.hide(at..at + 7);
        let shown = source.complaint(Code::Manifest, &(0..1), "wrong").show("f");
        assert!(shown.contains("u = 'redis://*************@'  x = \"*******\""), "{shown}");
        assert!(credentials("http://h/x and y@z").is_empty());
    }
}
