//! Text of limited length, for places where allocating may be what just failed.

use std::fmt;

/// What is longer is cut.
const TEXT_BYTES_MAX: usize = 1024;

/// A text on the stack, or in a static.
pub(crate) struct Text {
    bytes: [u8; TEXT_BYTES_MAX],
    length: usize,
}

impl Text {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; TEXT_BYTES_MAX], length: 0 }
    }

    /// What was written, up to the first byte that is no text: cutting may have split a character.
    pub(crate) fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }

    /// Appends what is printed; after the end of a line, or of the room, it starts over. Hints of
    /// std's, which follow what is of interest, are left out.
    #[cfg(any(feature = "lean", test))]
    pub(crate) fn push_printed(&mut self, bytes: &[u8]) {
        if bytes.starts_with(b"note: ") {
            return;
        }
        let printed = self.bytes.get(..self.length).unwrap_or_default();
        if printed.ends_with(b"\n") || self.length == TEXT_BYTES_MAX {
            self.length = 0;
        }
        let _cut = bytes.iter().try_for_each(|&byte| self.push(byte));
    }

    fn push(&mut self, byte: u8) -> fmt::Result {
        *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
        self.length += 1;
        Ok(())
    }
}

impl fmt::Write for Text {
    /// Fails when the text is full, having taken what did fit.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().try_for_each(|byte| self.push(byte))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let mut text = Text::new();
        text.write_str(&"x".repeat(TEXT_BYTES_MAX - 1)).unwrap();
        assert!(text.write_str("\u{e9}").is_err());
        assert_eq!(text.as_str().len(), TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn only_the_last_printed_line_is_kept() {
        let mut text = Text::new();
        text.push_printed(b"first\n");
        for piece in ["memory allocation of ", "8", " bytes failed\n"] {
            text.push_printed(piece.as_bytes());
        }
        text.push_printed(b"note: run with `RUST_BACKTRACE=1`\n");
        assert_eq!(text.as_str(), "memory allocation of 8 bytes failed\n");
        text.push_printed(&[b'y'; TEXT_BYTES_MAX + 1]);
        text.push_printed(b"z");
        assert_eq!(text.as_str(), "z");
    }
}
