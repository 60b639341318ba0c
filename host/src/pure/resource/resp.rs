//! Where answers of Redis begin and end, and how large they are: RESP 2, read below the decoder,
//! which takes memory as it is told to. An answer that is larger than is allowed goes on as an
//! error in its place, so that those behind it on a shared connection are not lost:
//!
//! ```text
//! server   *3 :1 $99999999 ...99,999,999 bytes... :3    :4
//! decoder  *3 :1 -TOOLARGE an answer has ..       $-1   :4
//! ```

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

/// What a server sent is not RESP 2, in this way. Nothing more can be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Garbage(pub String);

/// The code of the error in the place of an answer that is too large.
pub const TOO_LARGE: &str = "TOOLARGE";

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

/// Reads what a server sends, piece by piece, and keeps no more of it than the line that has begun.
#[derive(Debug)]
pub struct Scanner {
    allowance: Allowance,
    part: Part,
    /// The line that has begun: it goes on when it is whole, and allowed.
    line: Vec<u8>,
    /// Of the answer that has begun.
    bytes: u64,
    values: u64,
    /// Of each list that has begun, the outer first: values that are missing.
    open: Vec<u64>,
    /// Values of an answer that is too large that are still to be read, and go no further. It is
    /// none when the answer goes on.
    skipped: Option<u64>,
}

impl Scanner {
    /// At the beginning of an answer.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            part: Part::Kind,
            line: Vec::new(),
            bytes: 0,
            values: 0,
            open: Vec::new(),
            skipped: None,
        }
    }

    /// True between answers.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.bytes == 0
    }

    /// Reads a piece, and appends what goes on to the decoder; says how many answers have ended in
    /// it. What is appended is at most the piece, a line, and 5 bytes for each of the values that
    /// are allowed.
    ///
    /// # Errors
    ///
    /// When nothing more must be read: [`Garbage`].
    pub fn read(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<u64, Garbage> {
        let mut ended = 0;
        while let Some((&first, after)) = piece.split_first() {
            let is_whole = match &mut self.part {
                Part::Kind => {
                    piece = after;
                    self.begin(first)?;
                    false
                }
                Part::Line { .. } => {
                    let end = piece.iter().position(|&byte| byte == b'\n');
                    let (line, after) = piece.split_at(end.map_or(piece.len(), |at| at + 1));
                    piece = after;
                    self.line(line, out);
                    if end.is_some() { self.end_of_line(out)? } else { false }
                }
                Part::String(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                    let (string, after) = piece.split_at(length);
                    piece = after;
                    *left = left.saturating_sub(length as u64);
                    if self.skipped.is_none() {
                        out.extend_from_slice(string);
                    }
                    *left == 0
                }
            };
            ended += u64::from(is_whole && self.end_of_value());
        }
        Ok(ended)
    }

    fn begin(&mut self, kind: u8) -> Result<(), Garbage> {
        if !b"+-:$*".contains(&kind) {
            let kind = kind.escape_ascii();
            return Err(Garbage(format!("no answer of Redis begins with `{kind}`")));
        }
        self.bytes = self.bytes.saturating_add(1);
        self.part = Part::Line { kind, length: 0, last: 0, digits: Vec::new() };
        self.line = vec![kind];
        Ok(())
    }

    /// Takes more of a line.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Part::Line { length, last, digits, .. } = &mut self.part else { return };
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let room = (DIGITS_MAX + 1).saturating_sub(digits.len());
        digits.extend(text.iter().take(room));
        *last = text.last().copied().unwrap_or(*last);
        *length = length.saturating_add(line.len() as u64);
        let is_long = *length > self.allowance.line_bytes;
        if is_long {
            self.exceed(self.allowance.line_bytes, "bytes in a line", out);
        }
        self.count(line.len() as u64, out);
        if self.skipped.is_none() {
            self.line.extend_from_slice(line);
        }
    }

    /// Counts bytes of an answer, also such that are only announced.
    fn count(&mut self, bytes: u64, out: &mut Vec<u8>) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.allowance.bytes {
            self.exceed(self.allowance.bytes, "bytes", out);
        }
    }

    /// From the value that has begun, nothing of this answer goes on: an error stands for it, and
    /// nothing for each of those that are missing.
    fn exceed(&mut self, most: u64, of_what: &str, out: &mut Vec<u8>) {
        if self.skipped.is_some() {
            return;
        }
        let around = self.open.split_last().map_or(0, |(last, around)| {
            // Each list that has begun counts among those of the one around it.
            let missing = |all: u64, list: &u64| all.saturating_add(list.saturating_sub(1));
            around.iter().fold(last.saturating_sub(1), missing)
        });
        out.extend(format!("-{TOO_LARGE} an answer has more than {most} {of_what}\r\n").bytes());
        (0..around).for_each(|_| out.extend_from_slice(b"$-1\r\n"));
        self.skipped = Some(around.saturating_add(1));
        self.open = Vec::new();
        self.line = Vec::new();
    }

    /// A line has ended; says whether a value has, too.
    fn end_of_line(&mut self, out: &mut Vec<u8>) -> Result<bool, Garbage> {
        let Part::Line { kind, last, digits, .. } = &self.part else { return Ok(false) };
        if *last != b'\r' {
            return Err(Garbage("a line of an answer has no end".to_owned()));
        }
        let (kind, number) = (*kind, number(digits));
        let is_text = matches!(kind, b'+' | b'-');
        let number = number.or(is_text.then_some(0));
        let number = number.ok_or_else(|| Garbage("an answer has no number".to_owned()))?;
        // A length below zero stands for nothing.
        let is_whole = match (kind, u64::try_from(number)) {
            (b'$', Ok(length)) => {
                let length = length.saturating_add(2);
                self.count(length, out);
                self.part = Part::String(length);
                false
            }
            (b'*', Ok(count)) if count > 0 => {
                self.begin_list(count, out);
                false
            }
            _ => true,
        };
        if self.skipped.is_none() {
            out.append(&mut self.line);
        }
        Ok(is_whole)
    }

    fn begin_list(&mut self, count: u64, out: &mut Vec<u8>) {
        self.values = self.values.saturating_add(count);
        if self.values > self.allowance.values {
            self.exceed(self.allowance.values, "values", out);
        } else if self.open.len() >= self.allowance.depth {
            self.exceed(self.allowance.depth as u64, "lists in each other", out);
        }
        match &mut self.skipped {
            // The list itself has been read.
            Some(left) => *left = left.saturating_sub(1).saturating_add(count),
            None => self.open.push(count),
        }
        self.part = Part::Kind;
    }

    /// A value has ended; says whether the whole answer has.
    fn end_of_value(&mut self) -> bool {
        self.part = Part::Kind;
        if let Some(left) = &mut self.skipped {
            *left = left.saturating_sub(1);
            if *left > 0 {
                return false;
            }
        }
        while let Some(missing) = self.open.last_mut() {
            *missing = missing.saturating_sub(1);
            if *missing > 0 {
                return false;
            }
            self.open.pop();
        }
        (self.bytes, self.values, self.skipped) = (0, 0, None);
        true
    }
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

    /// How many answers there are, and what goes on.
    fn read(bytes: &[u8]) -> Result<(u64, Vec<u8>), Garbage> {
        let mut out = Vec::new();
        let answers = Scanner::new(SMALL).read(bytes, &mut out)?;
        Ok((answers, out))
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
            assert_eq!(read(bytes), Ok((answers, bytes.to_vec())), "{}", bytes.escape_ascii());
        }
        let mut scanner = Scanner::new(SMALL);
        for (piece, between) in [("*2\r", false), ("\n:1\r\n", false), (":2\r\n", true)] {
            scanner.read(piece.as_bytes(), &mut Vec::new()).unwrap();
            assert_eq!(scanner.is_between(), between);
        }
    }

    /// What is announced is replaced before it comes.
    #[test]
    fn c5_an_error_stands_for_what_is_too_large_and_the_next_answer_is_whole() {
        let twenty = b"$20\r\n12345678901234567890\r\n";
        for (bytes, rest, before, expected, missing) in [
            (&b"$63\r\n"[..], &[b'x'; 65][..], &b""[..], "64 bytes", 0),
            (b"*9\r\n", &b":1\r\n".repeat(9), b"", "8 values", 0),
            (b"*5\r\n*4\r\n", &b":1\r\n".repeat(8), b"*5\r\n", "8 values", 4),
            (
                b"*2\r\n*3\r\n:1\r\n*4\r\n",
                b"*0\r\n*-1\r\n$-1\r\n*1\r\n:1\r\n$0\r\n\r\n+x\r\n",
                b"*2\r\n*3\r\n:1\r\n",
                "8 values",
                2,
            ),
            (
                b"*1\r\n*1\r\n*1\r\n*1\r\n",
                b"*1\r\n:1\r\n",
                b"*1\r\n*1\r\n*1\r\n",
                "3 lists in each other",
                0,
            ),
            (b"+1234567890123456789012345", b"6\r\n", b"", "24 bytes in a line", 0),
            (
                &[b"*4\r\n", &twenty[..], twenty, b"$20\r\n"].concat(),
                b"12345678901234567890\r\n-no\r\n",
                &[b"*4\r\n", &twenty[..], twenty].concat(),
                "64 bytes",
                1,
            ),
        ] {
            let shown = bytes.escape_ascii();
            let error = format!("-TOOLARGE an answer has more than {expected}\r\n");
            let instead = [before, error.as_bytes(), &b"$-1\r\n".repeat(missing)].concat();
            assert_eq!(read(bytes), Ok((0, instead.clone())), "{shown}");
            let all = [bytes, rest, b"+next\r\n"].concat();
            let (answers, out) = read(&all).unwrap();
            assert_eq!(answers, 2, "{shown}");
            assert_eq!(out, [&instead[..], b"+next\r\n"].concat(), "{shown}");
        }
        for endless in ["$9223372036854775807\r\n", "*9223372036854775807\r\n"] {
            let all = format!("{endless}{}", ":1\r\n".repeat(99));
            let (answers, out) = read(all.as_bytes()).unwrap();
            assert_eq!(answers, 0, "{endless}");
            assert!(out.starts_with(b"-TOOLARGE ") && out.len() < 64, "{}", out.escape_ascii());
        }
        // Each answer has the whole allowance.
        for (answer, times) in [
            (&b"$40\r\n1234567890123456789012345678901234567890\r\n"[..], 9),
            (b"*8\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n", 9),
        ] {
            let all = answer.repeat(times);
            assert_eq!(read(&all), Ok((times as u64, all)));
        }
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
            b"*9\r\n%1\r\n",
        ] {
            let wrong = read(bytes);
            assert!(wrong.is_err(), "{}: {wrong:?}", bytes.escape_ascii());
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

    /// What goes on of answers that come in pieces, and how many they are.
    fn in_pieces(allowance: Allowance, bytes: &[u8], cuts: &[usize]) -> (u64, Vec<u8>) {
        let (mut scanner, mut ended, mut cuts) = (Scanner::new(allowance), 0, cuts.iter().cycle());
        let (mut rest, mut out) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            ended += scanner.read(piece, &mut out).unwrap();
            rest = after;
        }
        assert!(scanner.is_between());
        (ended, out)
    }

    const LARGE: Allowance =
        Allowance { bytes: 1 << 20, values: 1 << 20, depth: 9, line_bytes: 99 };

    proptest! {
        #[test]
        fn c5_pieces_don_t_matter(
            answers in proptest::collection::vec(answer(), 1..6),
            cuts in proptest::collection::vec(1..9_usize, 1..400),
        ) {
            let bytes = answers.concat();
            let count = answers.len() as u64;
            prop_assert_eq!(in_pieces(LARGE, &bytes, &cuts), (count, bytes.clone()));
            // Each that is too large becomes one that is not, and the others stay as they are.
            let instead = answers.iter().map(|answer| in_pieces(SMALL, answer, &[answer.len()]).1);
            let instead: Vec<Vec<u8>> = instead.collect();
            prop_assert_eq!(in_pieces(SMALL, &bytes, &cuts), (count, instead.concat()));
            for (instead, answer) in instead.iter().zip(&answers) {
                prop_assert_eq!(in_pieces(LARGE, instead, &cuts).0, 1);
                let marked = instead.windows(10).any(|window| window == b"-TOOLARGE ");
                prop_assert!(marked || instead == answer);
                prop_assert!(instead.len() <= 64 + 60 + 5 * 8);
            }
        }

        #[test]
        fn c5_no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _checked = read(&bytes);
        }
    }
}
