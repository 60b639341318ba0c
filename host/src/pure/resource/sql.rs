//! What the host has to know of SQL: how values that have no other form are written, and which
//! statement has no answer in rows.

use std::fmt::Write;

/// A number of any size, in a server's binary form, as the server writes it in text.
///
/// `None` for bytes that are no such number.
#[must_use]
pub fn numeric(bytes: &[u8]) -> Option<String> {
    let mut words = bytes.chunks_exact(2).map(|pair| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        _ => 0,
    });
    let (count, weight) = (words.next()?, words.next()?.cast_signed());
    let (sign, scale) = (words.next()?, usize::from(words.next()?));
    let digits: Vec<u16> = words.collect();
    let whole = bytes.len().is_multiple_of(2) && digits.len() == usize::from(count);
    if !whole || digits.iter().any(|digit| *digit > 9_999) {
        return None;
    }
    let minus = match sign {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    // Four decimal places a digit; the first one stands for 10000 to the power of `weight`.
    let digit = |power: i32| {
        let index = usize::try_from(i32::from(weight) - power).ok();
        index.and_then(|index| digits.get(index)).copied().unwrap_or(0)
    };
    let mut text = minus.to_owned();
    if weight < 0 {
        text.push('0');
    } else {
        text.push_str(&digit(weight.into()).to_string());
        for power in (0..i32::from(weight)).rev() {
            write!(text, "{:04}", digit(power)).ok()?;
        }
    }
    if scale > 0 {
        text.push('.');
        let end = text.len() + scale;
        for power in 1.. {
            write!(text, "{:04}", digit(-power)).ok()?;
            if text.len() >= end {
                break;
            }
        }
        text.truncate(end);
    }
    Some(text)
}

/// A day, counted from the first one of the year 2000, as ISO 8601 and a server write it.
#[must_use]
pub fn date(days: i32) -> String {
    match days {
        i32::MAX => return "infinity".to_owned(),
        i32::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    // Years that begin in March, in eras of 400: the leap day is the last one of a year.
    let days = i64::from(days) + 730_425;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    match year + era * 400 + i64::from(month <= 2) {
        year @ 1.. => format!("{year:04}-{month:02}-{day:02}"),
        // There is no year 0.
        before => format!("{:04}-{month:02}-{day:02} BC", 1 - before),
    }
}

/// Whether a statement is a `COPY`: its data would travel where answers do, outside of them.
#[must_use]
pub fn is_copy(statement: &str) -> bool {
    first_word(statement).eq_ignore_ascii_case("copy")
}

/// Whether a statement may commit before it is over: what it runs may have a `COMMIT` in it.
#[must_use]
pub fn commits(statement: &str) -> bool {
    ["call", "do"].iter().any(|word| first_word(statement).eq_ignore_ascii_case(word))
}

fn first_word(statement: &str) -> &str {
    let mut rest = statement;
    loop {
        rest =
            rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';' || c == '\x0b');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.trim_start_matches(|c| c != '\n' && c != '\r');
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment);
        } else {
            break;
        }
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c.is_ascii());
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}

/// What follows a comment whose beginning was read. Comments may be in comments.
fn after_comment(mut rest: &str) -> &str {
    let mut depth = 1;
    while depth > 0 {
        let Some(at) = rest.find(['/', '*']) else { return "" };
        let found = rest.get(at..).unwrap_or_default();
        let (change, length) = match found.get(..2) {
            Some("/*") => (1, 2),
            Some("*/") => (-1, 2),
            _ => (0, 1),
        };
        depth += change;
        rest = found.get(length..).unwrap_or_default();
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numbers_are_written_as_a_server_writes_them() {
        let minus_two = (-2_i16).cast_unsigned();
        let minus_one = (-1_i16).cast_unsigned();
        let table: &[(&[u16], &str)] = &[
            (&[0, 0, 0, 0], "0"),
            (&[0, 0, 0, 2], "0.00"),
            (&[1, 0, 0, 0, 7], "7"),
            (&[1, 1, 0, 0, 3], "30000"),
            (&[2, 1, 0x4000, 0, 1, 2], "-10002"),
            (&[2, 0, 0, 3, 1, 2500], "1.250"),
            (&[1, minus_one, 0, 4, 5], "0.0005"),
            (&[1, minus_two, 0, 6, 1200], "0.000012"),
            (&[1, minus_one, 0, 1, 5000], "0.5"),
            (&[0, 0, 0xC000, 0], "NaN"),
            (&[0, 0, 0xD000, 0], "Infinity"),
            (&[0, 0, 0xF000, 0], "-Infinity"),
        ];
        for (number, text) in table {
            assert_eq!(numeric(&words(number)).as_deref(), Some(*text));
        }
        let wrong: &[&[u16]] =
            &[&[], &[0, 0, 0], &[1, 0, 0, 0], &[1, 0, 0, 0, 10_000], &[0, 0, 1, 0]];
        for number in wrong {
            assert_eq!(numeric(&words(number)), None, "{number:?}");
        }
        assert_eq!(numeric(&[0; 9]), None);
    }

    #[test]
    fn days_are_written_as_a_server_writes_them() {
        let table = [
            (0, "2000-01-01"),
            (59, "2000-02-29"),
            (60, "2000-03-01"),
            (366, "2001-01-01"),
            (-1, "1999-12-31"),
            (-36_524, "1900-01-01"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (-2_451_545, "4714-11-24 BC"),
            (2_145_031_948, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ];
        for (days, text) in table {
            assert_eq!(date(days), text);
        }
    }

    #[test]
    fn a_copy_is_known_behind_comments_and_nothing_else_is_one() {
        let copies = [
            "COPY t FROM STDIN",
            "copy t to stdout",
            " \n;; Copy(select 1) to stdout",
            "-- a comment\ncopy t from stdin",
            "/* one /* in one */ -- */ copy t from stdin",
            "/***/copy t from stdin",
            "copy",
        ];
        for statement in copies {
            assert!(is_copy(statement), "{statement}");
        }
        let others = [
            "",
            "select copy",
            "copying",
            "copy_all()",
            "/* copy",
            "-- copy",
            "/*/copy",
            "c\u{f6}py",
        ];
        for statement in others {
            assert!(!is_copy(statement), "{statement}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_number_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(numeric(&bytes).is_none_or(|text| !text.is_empty()));
        }

        #[test]
        fn any_day_is_written_and_any_text_is_a_copy_or_not(days: i32, text in ".*") {
            prop_assert!(date(days).len() >= 8);
            prop_assert_eq!(is_copy(&text), is_copy(&format!(" ;{text}")));
        }

        #[test]
        fn a_comment_in_front_changes_nothing(comment in "[^*/]*", statement in "(copy|select) t") {
            let behind = format!("/*{comment}*/{statement}");
            prop_assert_eq!(is_copy(&behind), is_copy(&statement));
        }
    }
}
