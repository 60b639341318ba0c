//! Sizes of memory as people write them.

/// The text is not a size of memory.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{text}` is not a size of memory: {reason}; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, like 64MiB"
)]
pub struct SizeError {
    text: String,
    reason: &'static str,
}

/// Reads bytes: `2048`, `64MiB`, `512MB`, `1.5GB`, `64M` (binary, as in `ulimit` and cgroups).
///
/// # Errors
///
/// [`SizeError`] says what is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<usize, SizeError> {
    let wrong = |reason| SizeError { text: text.to_owned(), reason };
    let trimmed = text.trim();
    let split = trimmed
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    if number.is_empty() {
        return Err(wrong(if trimmed.is_empty() { "it is empty" } else { "no number" }));
    }
    let unit_bytes: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong("unknown unit")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 9 {
        return Err(wrong("not a decimal number"));
    }
    let whole: u64 = whole.parse().map_err(|_| wrong("too large"))?;
    let bytes = whole.checked_mul(unit_bytes).ok_or_else(|| wrong("too large"))?;
    let mut part = 0_u64;
    if !fraction.is_empty() {
        if unit_bytes == 1 {
            return Err(wrong("a part of a byte"));
        }
        let digits: u64 = fraction.parse().map_err(|_| wrong("not a decimal number"))?;
        let scale = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or(0));
        // At most 10^9 x 2^30: fits 64 bits.
        part = digits * unit_bytes / scale;
    }
    let bytes = bytes.checked_add(part).ok_or_else(|| wrong("too large"))?;
    usize::try_from(bytes).map_err(|_| wrong("too large"))
}

/// Writes bytes for people, in binary units: `64 MiB`, `1.5 GiB`, `12 KiB`.
#[must_use]
pub fn show_bytes(bytes: usize) -> String {
    let units = [("GiB", 30_u32), ("MiB", 20), ("KiB", 10)];
    let Some(&(unit, shift)) = units.iter().find(|&&(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let hundredths = (bytes >> (shift - 10)).saturating_mul(100) / 1024;
    let (whole, part) = (hundredths / 100, hundredths % 100);
    match (part, part % 10) {
        (0, _) => format!("{whole} {unit}"),
        (_, 0) => format!("{whole}.{} {unit}", part / 10),
        _ => format!("{whole}.{part:02} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_30_sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("2048", Some(2048)),
            ("0", Some(0)),
            ("512MB", Some(512_000_000)),
            ("1.5GB", Some(1_500_000_000)),
            ("64MiB", Some(64 << 20)),
            ("64 mib", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("1.5KiB", Some(1536)),
            ("4g", Some(4 << 30)),
            ("", None),
            ("abcMB", None),
            ("-1", None),
            ("1.5", None),
            ("1..5GB", None),
            (".5GB", None),
            ("1e9", None),
            ("12XB", None),
            ("99999999999999999999", None),
            ("99999999999GiB", None),
            ("1.0000000001GB", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn an_error_shows_the_text_and_what_would_do() {
        let text = parse_bytes("abcMB").unwrap_err().to_string();
        assert!(text.contains("abcMB") && text.contains("64MiB"), "{text}");
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            (17 * 65_536, "1.06 MiB"),
            ((1 << 30) + (1 << 29), "1.5 GiB"),
        ] {
            assert_eq!(show_bytes(bytes), text);
        }
    }
}
