//! What is meant by a command that there is not.

use std::io::{self, Write};
use std::process::exit;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};

use super::Cli;
use super::failure::{answers_are_json, note_output, print_fault, want_json};
use crate::base::error::{Code, Fault};
use crate::pure::manifest::meant;
use crate::shell::exit::UNWRITTEN;

/// Reads the command line, or says what is wrong with it and ends the process.
pub(super) fn parse() -> Cli {
    let words: Vec<String> = std::env::args_os().map(|w| w.to_string_lossy().into()).collect();
    let read = Cli::command().try_get_matches().and_then(|matches| {
        note_output(&matches);
        Cli::from_arg_matches(&matches)
    });
    read.unwrap_or_else(|error| {
        let error = suggest(error);
        if error.use_stderr() && want_json(&words) {
            answers_are_json();
            print_fault(&Fault::new(Code::Option, first_words(&error)));
            exit(error.exit_code());
        }
        let written = error.print().and_then(|()| io::stdout().flush());
        let lost = written.is_err_and(|why| why.kind() != io::ErrorKind::BrokenPipe);
        // Help that nobody could get.
        exit(if lost { i32::from(UNWRITTEN) } else { error.exit_code() })
    })
}

/// What is wrong, without the usage that stands below it for people.
fn first_words(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\nUsage:").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Replaces the suggestions: a name is near another one by its letters, not by its first ones, and
/// commands that are hidden are none.
fn suggest(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let command = Cli::command();
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    let names = shown.flat_map(|one| [one.get_name()].into_iter().chain(one.get_all_aliases()));
    match meant(name, &names.collect::<Vec<_>>()).map(|meant| own_name(&command, meant)) {
        Some(meant) => {
            let meant = ContextValue::Strings(vec![meant]);
            error.insert(ContextKind::SuggestedSubcommand, meant);
        }
        None => {
            error.remove(ContextKind::SuggestedSubcommand);
        }
    }
    error
}

/// The name of a command that may be known by another one, too.
fn own_name(command: &Command, name: &str) -> String {
    command.find_subcommand(name).map_or(name, Command::get_name).to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_mistyped_command_is_told_the_nearest_one_that_is_shown() {
        for (typed, expected) in [
            ("lst", Some("'ps'")),
            ("list", Some("'ps'")),
            ("ls", Some("'ps'")),
            ("stpo", Some("'stop'")),
            ("histroy", Some("'history'")),
            ("compile-gust", None),
            ("xyzzy", None),
        ] {
            let text = match Cli::try_parse_from(["host", typed]) {
                Err(error) => suggest(error).to_string(),
                Ok(_) => {
                    assert_eq!(expected, Some("'ps'"), "{typed}");
                    continue;
                }
            };
            let tip = text.lines().find(|line| line.contains("tip"));
            assert!(!text.contains("compile-guest"), "{text}");
            match expected {
                Some(meant) => assert!(tip.is_some_and(|tip| tip.contains(meant)), "{text}"),
                None => assert_eq!(tip, None, "{text}"),
            }
        }
    }
}
