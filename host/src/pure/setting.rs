//! Values of options and of manifests as people write them.

use std::time::Duration;

use supervisor::policy::{Exhausted, Intensity, Policy, Restart};

use crate::base::limits::{DEADLINE_MAX, RESTARTS_WINDOW_MAX, RETRIES_MAX};

/// True for what a daemon, a service, a resource or a parameter may be called.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A time like `500ms`, `2s`, `1m`.
///
/// # Errors
///
/// What the text should be.
pub fn parse_deadline(text: &str) -> Result<Duration, String> {
    parse_time(text, DEADLINE_MAX)
}

/// A time of at least a millisecond and at most `time_max`.
///
/// # Errors
///
/// What the text should be.
pub fn parse_time(text: &str, time_max: Duration) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time between 1ms and {time_max:?}, like 500ms");
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => number,
        "s" => number.checked_mul(1000).ok_or_else(wrong)?,
        "m" | "min" => number.checked_mul(60_000).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    let time = Duration::from_millis(millis);
    if time.is_zero() || time > time_max {
        return Err(wrong());
    }
    Ok(time)
}

/// Fuel: a positive number, `_` allowed between digits.
///
/// # Errors
///
/// What the text should be.
pub fn parse_fuel(text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .ok()
        .filter(|&fuel| fuel > 0 && fuel <= u64::MAX / 2)
        .ok_or_else(|| format!("`{text}` is not an amount of fuel, like 1_000_000"))
}

/// A number of retries.
///
/// # Errors
///
/// What the text should be.
pub fn parse_retries(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|&retries| retries <= RETRIES_MAX)
        .ok_or_else(|| format!("`{text}` is not a number of retries from 0 to {RETRIES_MAX}"))
}

/// How often a daemon's thread may die, and what then: `10/60s`, `3/1m,emergency`.
///
/// # Errors
///
/// What the text should be.
pub fn parse_restarts(text: &str) -> Result<Policy, String> {
    let wrong = |why: &str| format!("`{text}` is not like 10/60s or 10/60s,emergency{why}");
    let (often, then) = text.split_once(',').unwrap_or((text, "park"));
    let (number, window) = often.split_once('/').ok_or_else(|| wrong(""))?;
    let exhausted = match then {
        "park" => Exhausted::Park,
        "emergency" => Exhausted::Emergency,
        _ => return Err(wrong("; in the end it is `park` or `emergency`")),
    };
    let number = number.parse().map_err(|_| wrong(""))?;
    let window =
        parse_time(window, RESTARTS_WINDOW_MAX).map_err(|why| wrong(&format!("; {why}")))?;
    let intensity = Intensity::new(number, window).map_err(|error| wrong(&format!("; {error}")))?;
    let policy = Policy::new(Restart::Permanent);
    Ok(policy.with_intensity(intensity).with_exhausted(exhausted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_and_retries_have_ranges() {
        assert_eq!(parse_deadline("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_deadline("2s"), Ok(Duration::from_secs(2)));
        for bad in ["", "5", "0ms", "2h", "-1s", "999999999s", "99999999999999999999m"] {
            assert!(parse_deadline(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_retries("0"), Ok(0));
        assert!(parse_retries("11").is_err());
    }

    #[test]
    fn restarts_have_a_number_a_window_and_an_end() {
        for (text, number, seconds, end) in [
            ("10/60s", 10, 60, Exhausted::Park),
            ("0/1m,park", 0, 60, Exhausted::Park),
            ("3/5s,emergency", 3, 5, Exhausted::Emergency),
        ] {
            let policy = parse_restarts(text).unwrap();
            let intensity = policy.intensity().unwrap();
            assert_eq!((intensity.restarts_max(), policy.exhausted()), (number, end), "{text}");
            assert_eq!(intensity.window(), Duration::from_secs(seconds), "{text}");
        }
        for bad in ["", "10", "x/1s", "1/", "1/0s", "1/1s,", "1/1s,retry", "9999/1s", "1/9999m"] {
            assert!(parse_restarts(bad).is_err(), "{bad}");
        }
    }
}
