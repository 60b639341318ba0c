//! What is meant by a command that there is not.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use super::Cli;
use crate::pure::manifest::meant;

/// Reads the command line, or says what is wrong with it and ends the process.
pub(super) fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| suggest(error).exit())
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
