//! Where answers of Redis begin and end, and how large they are: RESP 2, read below the decoder,
//! which takes memory as it is told to.

/// What one answer may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// Bytes as they are sent.
    pub bytes: u64,
    /// Values, lists and what is in them.
    pub values: u64,
    /// Lists in each other.
    pub depth: usize,
    /// Bytes of a line: a status, an error, a number.
    pub line_bytes: u64,
}

/// Why nothing more can be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// An answer is larger than is allowed, in this way.
    TooLarge(String),
    /// This is not RESP 2.
    Garbage(String),
}

/// Digits of a length: more are none.
const DIGITS_MAX: usize = 20;

/// What comes next.
#[derive(Clone, Debug)]
enum Part {
    /// The first byte of a value.
    Kind,
    /// A line of that kind: its length so far, its last byte, its first ones.
    Line { kind: u8, length: u64, last: u8, digits: Vec<u8> },
    /// So many bytes of a string, with the end of its line.
    String(u64),
}

/// Reads what a server sends, piece by piece, and keeps none of it.
#[derive(Debug)]
pub struct Scanner {
    allowance: Allowance,
    part: Part,
    /// Of the answer that has begun.
    bytes: u64,
    values: u64,
    /// Of each list that has begun, the outer first: values that are missing.
    open: Vec<u64>,
}

impl Scanner {
    /// At the beginning of an answer.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, part: Part::Kind, bytes: 0, values: 0, open: Vec::new() }
    }

    /// True between answers.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.bytes == 0
    }

    /// Reads a piece; says how many answers have ended in it.
    ///
    /// # Errors
    ///
    /// When nothing more must be read: [`Wrong`].
    pub fn read(&mut self, mut piece: &[u8]) -> Result<u64, Wrong> {
        let mut ended = 0;
        while let Some((&first, after)) = piece.split_first() {
            let is_whole = match &mut self.part {
                Part::Kind => {
                    piece = after;
                    self.bytes = self.bytes.saturating_add(1);
                    self.begin(first)?;
                    false
                }
                Part::Line { length, last, digits, .. } => {
                    let end = piece.iter().position(|&byte| byte == b'\n');
                    let (line, after) = piece.split_at(end.map_or(piece.len(), |at| at + 1));
                    piece = after;
                    let text = end.map_or(line, |at| line.get(..at).unwrap_or_default());
                    let room = (DIGITS_MAX + 1).saturating_sub(digits.len());
                    digits.extend(text.iter().take(room));
                    *last = text.last().copied().unwrap_or(*last);
                    *length = length.saturating_add(line.len() as u64);
                    if *length > self.allowance.line_bytes {
                        return Err(too_large(self.allowance.line_bytes, "bytes in a line"));
                    }
                    self.count(line.len() as u64)?;
                    if end.is_some() { self.end_of_line()? } else { false }
                }
                Part::String(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                    piece = piece.get(length..).unwrap_or_default();
                    *left = left.saturating_sub(length as u64);
                    *left == 0
                }
            };
            ended += u64::from(is_whole && self.end_of_value());
        }
        Ok(ended)
    }

    fn begin(&mut self, kind: u8) -> Result<(), Wrong> {
        if !b"+-:$*".contains(&kind) {
            let kind = kind.escape_ascii();
            return Err(Wrong::Garbage(format!("no answer of Redis begins with `{kind}`")));
        }
        self.part = Part::Line { kind, length: 0, last: 0, digits: Vec::new() };
        Ok(())
    }

    /// Counts bytes of an answer, also such that are only announced.
    fn count(&mut self, bytes: u64) -> Result<(), Wrong> {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.bytes > self.allowance.bytes {
            true => Err(too_large(self.allowance.bytes, "bytes")),
            false => Ok(()),
        }
    }

    /// A line has ended; says whether a value has, too.
    fn end_of_line(&mut self) -> Result<bool, Wrong> {
        let Part::Line { kind, last, digits, .. } = &self.part else { return Ok(false) };
        if *last != b'\r' {
            return Err(Wrong::Garbage("a line of an answer has no end".to_owned()));
        }
        let (kind, number) = (*kind, number(digits));
        if matches!(kind, b'+' | b'-') {
            return Ok(true);
        }
        let number = number.ok_or_else(|| Wrong::Garbage("an answer has no number".to_owned()))?;
        // A length below zero stands for nothing.
        match (kind, u64::try_from(number)) {
            (b'$', Ok(length)) => {
                let length = length.saturating_add(2);
                self.count(length)?;
                self.part = Part::String(length);
                Ok(false)
            }
            (b'*', Ok(count)) if count > 0 => {
                self.values = self.values.saturating_add(count);
                if self.values > self.allowance.values {
                    return Err(too_large(self.allowance.values, "values"));
                }
                if self.open.len() >= self.allowance.depth {
                    return Err(too_large(self.allowance.depth as u64, "lists in each other"));
                }
                self.open.push(count);
                self.part = Part::Kind;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// A value has ended; says whether the whole answer has.
    fn end_of_value(&mut self) -> bool {
        self.part = Part::Kind;
        while let Some(missing) = self.open.last_mut() {
            *missing = missing.saturating_sub(1);
            if *missing > 0 {
                return false;
            }
            self.open.pop();
        }
        (self.bytes, self.values) = (0, 0);
        true
    }
}

fn too_large(most: u64, of_what: &str) -> Wrong {
    Wrong::TooLarge(format!("an answer has more than {most} {of_what}"))
}

/// The number of a line whose end is still on it.
fn number(line: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(line.strip_suffix(b"\r")?).ok()?;
    // The decoder takes more than is sent by any server: spaces, a plus.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Allowance = Allowance { bytes: 64, values: 8, depth: 3, line_bytes: 24 };

    fn read(bytes: &[u8]) -> Result<u64, Wrong> {
        Scanner::new(SMALL).read(bytes)
    }

    #[test]
    fn c5_answers_are_counted_when_they_are_whole() {
        for (bytes, answers) in [
            (&b""[..], 0),
            (b"+OK\r\n", 1),
            (b"+\r\n-ERR no\r\n:-12\r\n", 3),
            (b"$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n", 4),
            (b"$4\r\n\r\n\r\n\r\n", 1),
            (b"*2\r\n*1\r\n$1\r\na\r\n*0\r\n+x\r\n", 2),
            (b"*1\r\n*1\r\n*1\r\n:5\r\n", 1),
            (b"*2\r\n:1\r\n", 0),
            (b"+a\rb\r\n", 1),
        ] {
            assert_eq!(read(bytes), Ok(answers), "{}", bytes.escape_ascii());
        }
        let mut scanner = Scanner::new(SMALL);
        for (piece, between) in [("*2\r", false), ("\n:1\r\n", false), (":2\r\n", true)] {
            scanner.read(piece.as_bytes()).unwrap();
            assert_eq!(scanner.is_between(), between);
        }
    }

    #[test]
    fn c5_what_is_announced_is_refused_before_it_comes() {
        for (bytes, expected) in [
            (&b"$1073741824\r\n"[..], "64 bytes"),
            (b"$9223372036854775807\r\n", "64 bytes"),
            (b"*9\r\n", "8 values"),
            (b"*9223372036854775807\r\n", "8 values"),
            (b"*5\r\n*4\r\n", "8 values"),
            (b"*1\r\n*1\r\n*1\r\n*1\r\n", "3 lists in each other"),
            (b"+1234567890123456789012345", "24 bytes in a line"),
            (
                b"*4\r\n$20\r\n12345678901234567890\r\n$20\r\n12345678901234567890\r\n$20\r\n",
                "64 bytes",
            ),
        ] {
            let wrong = Wrong::TooLarge(format!("an answer has more than {expected}"));
            assert_eq!(read(bytes), Err(wrong), "{}", bytes.escape_ascii());
        }
        // Each answer has the whole allowance.
        assert_eq!(read(&b"$40\r\n1234567890123456789012345678901234567890\r\n".repeat(9)), Ok(9));
        assert_eq!(
            read(&b"*8\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n".repeat(9)),
            Ok(9)
        );
    }

    #[test]
    fn c5_garbage_is_refused_where_it_begins() {
        for bytes in [
            &b"HTTP/1.1 400\r\n"[..],
            b"+OK\r\n\r\n",
            b"+OK\n",
            b"\n",
            b"%1\r\n",
            b"$x\r\n",
            b"$\r\n",
            b"*+1\r\n",
            b"*1 \r\n",
            b":123456789012345678901\r\n",
            b"$1\r\nabc\r\n",
        ] {
            let wrong = read(bytes);
            assert!(matches!(wrong, Err(Wrong::Garbage(_))), "{}: {wrong:?}", bytes.escape_ascii());
        }
    }

    /// An answer, and how it is sent.
    fn answer() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            "[ -~]{0,9}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            Just(b"$-1\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
                [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
            }),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            proptest::collection::vec(inner, 0..4).prop_map(|items| {
                [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
            })
        })
    }

    proptest! {
        #[test]
        fn c5_pieces_don_t_matter(
            answers in proptest::collection::vec(answer(), 1..6),
            cuts in proptest::collection::vec(1..9_usize, 1..400),
        ) {
            let large = Allowance { bytes: 1 << 20, values: 1 << 20, depth: 9, line_bytes: 99 };
            let (mut scanner, mut ended, mut cuts) = (Scanner::new(large), 0, cuts.iter().cycle());
            let bytes = answers.concat();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                ended += scanner.read(piece).unwrap();
                rest = after;
            }
            prop_assert_eq!(ended, answers.len() as u64);
            prop_assert!(scanner.is_between());
        }

        #[test]
        fn c5_no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _checked = read(&bytes);
        }
    }
}
