//! Options that hold for all daemons or for one: `64MiB`, or `ledger=64MiB`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::base::error::{Code, Fault};
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

    /// The value for one daemon: its own, else what its manifest says, else that for all.
    pub(super) fn of(&self, daemon: &str, manifest: Option<T>) -> Option<T> {
        self.by_name.get(daemon).cloned().or(manifest).or_else(|| self.all.clone())
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

/// True for `NAME.KEY=VALUE`; a parameter of a service has no dot in its name.
pub(super) fn is_daemon_parameter(text: &str) -> bool {
    text.split('=').next().is_some_and(|place| place.contains('.'))
}

/// Parameters: `NAME.KEY=VALUE`, the value JSON or text.
pub(super) fn read_parameters(
    texts: &[String],
    daemons: &[String],
) -> Result<BTreeMap<String, Map<String, Value>>, Fault> {
    let mut parameters: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for text in texts {
        let wrong = || {
            let message = format!(
                "--param {text}: write DAEMON.KEY=VALUE, or NAME=VALUE for a service's parameter"
            );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::setting::parse_fuel;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_name_has_its_own_value_and_the_others_the_common_one() {
        let setting =
            Setting::read("fuel", &texts(&["5", "a=7"]), Code::Option, parse_fuel).unwrap();
        assert_eq!((setting.of("a", None), setting.of("b", None)), (Some(7), Some(5)));
        assert_eq!((setting.of("a", Some(1)), setting.of("b", Some(1))), (Some(7), Some(1)));
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
}
