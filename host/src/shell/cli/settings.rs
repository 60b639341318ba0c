//! Options that hold for all daemons or for one: `64MiB`, or `ledger=64MiB`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use supervisor::policy::{Exhausted, Intensity, Policy, Restart};

use crate::base::error::{Code, Fault};
use crate::base::limits::{DEADLINE_MAX, RESTARTS_WINDOW_MAX, RETRIES_MAX};
use crate::pure::json;

/// A value for all daemons, and other ones for some.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    all: Option<T>,
    by_name: BTreeMap<String, T>,
}

impl<T: Clone> Setting<T> {
    /// Reads the occurrences of one option, each `VALUE` or `NAME=VALUE`.
    pub(super) fn read(
        option: &str,
        texts: &[String],
        code: Code,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Self, Fault> {
        let mut setting = Self { all: None, by_name: BTreeMap::new() };
        for text in texts {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (Some(name), value),
                None => (None, text.as_str()),
            };
            let value = parse(value)
                .map_err(|error| Fault::new(code, format!("--{option} {text}: {error}")))?;
            let twice = match name {
                Some(name) => setting.by_name.insert(name.to_owned(), value).is_some(),
                None => setting.all.replace(value).is_some(),
            };
            if twice {
                let whom = name.map_or("all daemons".to_owned(), |name| format!("`{name}`"));
                let message = format!("--{option} is given twice for {whom}");
                return Err(Fault::new(Code::Option, message));
            }
        }
        Ok(setting)
    }

    /// The value for one daemon.
    pub(super) fn of(&self, daemon: &str) -> Option<T> {
        self.by_name.get(daemon).or(self.all.as_ref()).cloned()
    }

    /// Refuses names that no daemon has: a mistyped name must not pass in silence.
    pub(super) fn check_names(&self, option: &str, daemons: &[String]) -> Result<(), Fault> {
        check_names(option, self.by_name.keys(), daemons)
    }
}

fn check_names<'a>(
    option: &str,
    mut names: impl Iterator<Item = &'a String>,
    daemons: &[String],
) -> Result<(), Fault> {
    match names.find(|name| !daemons.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let known = daemons.join(", ");
            let message = format!("--{option} names `{name}`, but the daemons are {known}");
            Err(Fault::new(Code::Option, message))
        }
    }
}

/// Parameters: `NAME.KEY=VALUE`, the value JSON or text.
pub(super) fn read_parameters(
    texts: &[String],
    daemons: &[String],
) -> Result<BTreeMap<String, Map<String, Value>>, Fault> {
    let mut parameters: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for text in texts {
        let wrong = || {
            let message = format!("--param {text}: write DAEMON.KEY=VALUE");
            Fault::new(Code::Option, message)
        };
        let (place, value) = text.split_once('=').ok_or_else(wrong)?;
        let (daemon, key) = place.split_once('.').ok_or_else(wrong)?;
        if key.is_empty() {
            return Err(wrong());
        }
        let value = json::parse(value).unwrap_or_else(|_| Value::from(value));
        let values = parameters.entry(daemon.to_owned()).or_default();
        if values.insert(key.to_owned(), value).is_some() {
            return Err(Fault::new(Code::Option, format!("--param {place} is given twice")));
        }
    }
    check_names("param", parameters.keys(), daemons)?;
    Ok(parameters)
}

/// A time like `500ms`, `2s`, `1m`.
pub(super) fn parse_deadline(text: &str) -> Result<Duration, String> {
    parse_time(text, DEADLINE_MAX)
}

/// A time of at least a millisecond and at most `time_max`.
pub(super) fn parse_time(text: &str, time_max: Duration) -> Result<Duration, String> {
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
pub(super) fn parse_fuel(text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .ok()
        .filter(|&fuel| fuel > 0 && fuel <= u64::MAX / 2)
        .ok_or_else(|| format!("`{text}` is not an amount of fuel, like 1_000_000"))
}

/// A number of retries.
pub(super) fn parse_retries(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|&retries| retries <= RETRIES_MAX)
        .ok_or_else(|| format!("`{text}` is not a number of retries from 0 to {RETRIES_MAX}"))
}

/// How often a daemon's thread may die, and what then: `10/60s`, `3/1m,emergency`.
pub(super) fn parse_restarts(text: &str) -> Result<Policy, String> {
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

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_name_has_its_own_value_and_the_others_the_common_one() {
        let setting =
            Setting::read("fuel", &texts(&["5", "a=7"]), Code::Option, parse_fuel).unwrap();
        assert_eq!((setting.of("a"), setting.of("b")), (Some(7), Some(5)));
        assert!(setting.check_names("fuel", &texts(&["a", "b"])).is_ok());
        let unknown = setting.check_names("fuel", &texts(&["b"])).unwrap_err();
        assert!(unknown.message.contains("`a`"), "{unknown}");
        for bad in [&["x"][..], &["5", "6"], &["a=1", "a=2"], &["a="], &["0"]] {
            assert!(Setting::read("fuel", &texts(bad), Code::Option, parse_fuel).is_err());
        }
    }

    #[test]
    fn parameters_are_json_or_text() {
        let daemons = texts(&["chaos"]);
        let given = texts(&["chaos.refuse_init=true", "chaos.recovery=park", "chaos.a=b=c"]);
        let parameters = read_parameters(&given, &daemons).unwrap();
        assert_eq!(parameters["chaos"]["refuse_init"], true);
        assert_eq!(parameters["chaos"]["recovery"], "park");
        assert_eq!(parameters["chaos"]["a"], "b=c");
        for bad in ["x", "x=1", "chaos.=1", "other.k=1"] {
            assert!(read_parameters(&texts(&[bad]), &daemons).is_err(), "{bad}");
        }
    }

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
