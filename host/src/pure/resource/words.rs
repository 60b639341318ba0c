//! Commands as people write them in a manifest, in words as a shell's.

use std::iter::Peekable;
use std::str::Chars;

/// A word of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Word {
    /// The word itself.
    Text(String),
    /// What is in the file at this path.
    File(String),
}

/// Splits a command into its words, at spaces. `'..'` is taken as it is; in `".."` a backslash
/// stands before a quote or a backslash that is meant; elsewhere it stands before anything. A word
/// that begins with `@` is a file.
///
/// # Errors
///
/// What is wrong with it.
pub fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            break;
        }
        let is_file = rest.next_if_eq(&'@').is_some();
        let word = word(&mut rest)?;
        words.push(match is_file {
            true if word.is_empty() => return Err("`@` names no file".to_owned()),
            true => Word::File(word),
            false => Word::Text(word),
        });
    }
    if words.is_empty() { Err("there is no command".to_owned()) } else { Ok(words) }
}

fn word(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut word = String::new();
    while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
        match c {
            '\\' => word.push(rest.next().ok_or("a backslash at the end stands before nothing")?),
            '\'' | '"' => quoted(c, rest, &mut word)?,
            c => word.push(c),
        }
    }
    Ok(word)
}

fn quoted(quote: char, rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), String> {
    loop {
        match rest.next().ok_or_else(|| format!("a {quote} is not closed"))? {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => {
                let meant = rest.next_if(|c| matches!(c, '"' | '\\'));
                word.push(meant.unwrap_or('\\'));
            }
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(word: &str) -> Word {
        Word::Text(word.to_owned())
    }

    fn file(path: &str) -> Word {
        Word::File(path.to_owned())
    }

    #[test]
    fn commands_are_split_as_a_shell_does() {
        for (line, expected) in [
            ("PING", vec![text("PING")]),
            ("  SET  a\tb\n", vec![text("SET"), text("a"), text("b")]),
            ("SCRIPT LOAD @a/b.lua", vec![text("SCRIPT"), text("LOAD"), file("a/b.lua")]),
            ("@\"a b\".lua", vec![file("a b.lua")]),
            ("a '@b' \\@c d@e \"@f\"", ["a", "@b", "@c", "d@e", "@f"].map(text).to_vec()),
            ("'' \"\"", vec![text(""), text("")]),
            ("a'b c'\"d e\"f", vec![text("ab cd ef")]),
            ("'a\\' \"\\\"\\\\\\n'\" \\n\\ x", ["a\\", "\"\\\\n'", "n x"].map(text).to_vec()),
            ("EVAL \"return 'x'\" 0", ["EVAL", "return 'x'", "0"].map(text).to_vec()),
        ] {
            assert_eq!(words(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, expected) in [
            ("", "there is no command"),
            (" \t ", "there is no command"),
            ("GET 'a", "a ' is not closed"),
            ("GET \"a\\\"", "a \" is not closed"),
            ("GET a\\", "a backslash at the end stands before nothing"),
            ("SCRIPT LOAD @ x", "`@` names no file"),
            ("@''", "`@` names no file"),
        ] {
            assert_eq!(words(line), Err(expected.to_owned()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_words_can_be_quoted(any in proptest::collection::vec(".*", 1..5)) {
            let line: Vec<String> =
                any.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
            let expected: Vec<Word> = any.iter().map(|word| text(word)).collect();
            prop_assert_eq!(words(&line.join(" ")), Ok(expected));
        }

        #[test]
        fn nothing_panics(line in ".*") {
            let _checked = words(&line);
        }
    }
}
