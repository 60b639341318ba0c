//! How a command says that it failed: for people on standard error, and for programs, which asked
//! for JSON, as an object on standard output too.

use std::sync::OnceLock;

use clap::ArgMatches;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Output, eprint, log, print};
use crate::base::error::{Blame, Code, Fault};
use crate::pure::request::fault_json;

/// Set when answers are JSON.
static JSON: OnceLock<()> = OnceLock::new();

/// Notes how the command that was given prints its answers, and its failures as they.
pub(super) fn note_output(matches: &ArgMatches) {
    let mut matches = matches;
    // What a host prints there is its greeting, and answers.
    if matches.subcommand_name() == Some("run") {
        return;
    }
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    // Some commands have no such option.
    if let Ok(Some(Output::Json)) = matches.try_get_one::<Output>("output") {
        answers_are_json();
    }
}

/// Notes that answers are JSON.
pub(super) fn answers_are_json() {
    JSON.set(()).ok();
}

/// True for the words of a command that wants JSON, whatever else is wrong with them.
pub(super) fn want_json(words: &[String]) -> bool {
    let words = words.split(|word| word == "--").next().unwrap_or_default();
    words.iter().any(|word| word == "--output=json")
        || words.windows(2).any(|pair| pair == ["--output", "json"])
}

/// Tells of the error that a command ends with, or a part of a host.
pub(in crate::shell) fn print_fault(fault: &Fault) {
    print_json(&fault_json(fault));
    tell_fault(fault);
}

/// The same for what the answer on standard output says already: its code, who is to blame, what
/// happened, and where to read on.
pub(super) fn tell_fault(fault: &Fault) {
    if log::logs_fault(fault) {
        return;
    }
    let code = fault.code;
    eprint(&format!(
        "error[{code}]: {}\n  blame: {}; `host explain {code}` says what to do",
        fault.message, fault.blame
    ));
}

/// Tells of an error that a host answered. Its code is one of this program's, or newer.
pub(super) fn print_error(error: &Value) {
    print_json(error);
    tell_error(error);
}

/// The same for what the answer on standard output says already.
pub(super) fn tell_error(error: &Value) {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let (code, message) = (text("code"), text("message"));
    match code.parse::<Code>() {
        Ok(code) => {
            let blame = error.get("blame").and_then(|blame| Blame::deserialize(blame).ok());
            tell_fault(&Fault::new(code, message).blamed_on(blame.unwrap_or(code.blame())));
        }
        Err(_) => eprint(&words(error)),
    }
    if let Some(frames) = error.get("backtrace").and_then(Value::as_array) {
        for frame in frames.iter().filter_map(Value::as_str) {
            eprint(&format!("  at {frame}"));
        }
    }
    if let Some(id) = error.get("crash").and_then(Value::as_str) {
        eprint(&format!("  run it again with `host replay {id}`"));
    }
}

/// An error in the words of whoever made it: nothing that this program knows of its code is true of
/// it.
pub(super) fn words(error: &Value) -> String {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let (code, message, blame) = (text("code"), text("message"), text("blame"));
    let code = if code.is_empty() { String::new() } else { format!("[{code}]") };
    format!("error{code}: {message}\n  blame: {blame}")
}

/// An error for programs, as `host call` has it, with what to do about it.
fn print_json(error: &Value) {
    if JSON.get().is_none() {
        return;
    }
    print(&json!({ "error": with_remedy(error.clone()) }).to_string());
}

/// The same with what to do about it.
pub(super) fn with_remedy(mut error: Value) -> Value {
    let code = error.get("code").and_then(Value::as_str).and_then(|code| code.parse::<Code>().ok());
    if let (Some(code), Value::Object(fields)) = (code, &mut error) {
        fields.insert("remedy".to_owned(), code.remedy().into());
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_wanted_by_the_option_alone() {
        let wants = |text: &str| want_json(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(wants("host ps --nonsense --output json") && wants("host --output=json"));
        assert!(!wants("host ps --output human json") && !wants("host call -- --output json"));
    }
}
