//! `host call`: asks a daemon of the running host; and how all commands ask.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Output, SocketArgs, eprint, failure, print, print_fault};
use crate::base::error::{Code, Fault};
use crate::pure::contract::Args;
use crate::pure::json;
use crate::pure::request::Request;
use crate::shell::api::{Client, ClientError};
use crate::shell::exit;
use crate::shell::place::{self, State};

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  host call ledger deposit account=ann amount=100
  host call ledger transfer '{\"from\": \"ann\", \"to\": \"bob\", \"amount\": 5}'

A key=value is text where the contract takes text, else JSON (lists='[1, 2]'); a variant of an enum
is its name (kind=Red).
Exit codes: 0 committed, 1 rejected, 2 wrong usage, 3 crashed, 4 unknown, 5 no host answers.")]
pub(super) struct CallArgs {
    /// The daemon's name
    daemon: String,
    /// The contract's name
    contract: String,
    /// Arguments as key=value, or one JSON object
    #[arg(value_name = "KEY=VALUE | JSON")]
    arguments: Vec<String>,
    /// Idempotency key: the same request with the same key has one effect
    #[arg(long)]
    key: Option<String>,
    /// Correlation id, shown in every log line that this call causes
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// How long to wait for resources that are down, like 2s [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// How to print: the value alone, or the whole outcome line
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Reads the arguments of the command line: one JSON object, or texts by name.
fn read_arguments(arguments: &[String]) -> Result<Args, String> {
    if let [only] = arguments
        && only.trim_start().starts_with('{')
    {
        json::check(only).map_err(|error| format!("the JSON argument: {error}"))?;
        // Outside of strings a line's end is a space, and inside of them there is none.
        return Ok(Args::json(only.replace(['\n', '\r'], " ")));
    }
    let mut texts = Map::new();
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=').filter(|(name, _)| !name.is_empty())
        else {
            return Err(format!("`{argument}` is neither key=value nor a JSON object"));
        };
        if texts.insert(name.to_owned(), Value::from(value)).is_some() {
            return Err(format!("`{name}` is given twice"));
        }
    }
    Ok(Args::texts(Value::Object(texts).to_string()))
}

pub(super) fn call(args: &CallArgs) -> u8 {
    let arguments = match read_arguments(&args.arguments) {
        Ok(arguments) => arguments,
        Err(message) => {
            print_fault(&Fault::new(Code::Args, format!("{message}; see `host call --help`")));
            return exit::USAGE;
        }
    };
    let request = Request {
        key: args.key.clone(),
        correlation: args.correlation.clone(),
        wait: args.wait,
        ..Request::new(&args.daemon, &args.contract, arguments)
    };
    let asked = tell(&args.socket, |client| client.ask_line(request.to_command()));
    match asked {
        Ok(answer) => show(args, &answer),
        Err(code) => code,
    }
}

/// Asks the running host, or prints why it can't, and answers the exit code.
pub(super) fn ask(socket: &SocketArgs, command: &Value) -> Result<Value, u8> {
    tell(socket, |client| client.ask(command))
}

fn tell<T>(
    socket: &SocketArgs,
    ask: impl FnOnce(&mut Client) -> Result<T, ClientError>,
) -> Result<T, u8> {
    let path = socket.path();
    let connected = Client::connect(&path);
    connected.and_then(|mut client| ask(&mut client)).map_err(|error| {
        let fault = Fault::from(&error);
        let why = match error {
            ClientError::NoHost { .. } => not_yet(&path),
            ClientError::Foreign(_) | ClientError::Lost => None,
        };
        print_fault(&match why {
            Some(why) => fault.saying(why),
            None => fault,
        });
        match error {
            ClientError::NoHost { .. } | ClientError::Foreign(_) => exit::NO_HOST,
            ClientError::Lost => exit::UNKNOWN,
        }
    })
}

/// Why a host that is there does not answer: its run file says that it starts, or stops.
fn not_yet(socket: &Path) -> Option<String> {
    let run = place::look(socket).ok().flatten()?;
    if !place::is_alive(socket, &run.process) {
        return None;
    }
    let (pid, path) = (run.process.pid, socket.display());
    match run.state {
        State::Starting | State::Binding => Some(format!(
            "the host on {path}, process {pid}, is still starting; ask again in a moment"
        )),
        State::Stopping => Some(format!("the host on {path}, process {pid}, is stopping")),
        State::Running | State::Ended => None,
    }
}

/// Asks the running host, or prints the error, its own or the connection's, and answers the exit
/// code.
pub(super) fn fetch(socket: &SocketArgs, command: &Value) -> Result<Value, u8> {
    let answer = ask(socket, command)?;
    match answer.get("error") {
        Some(error) => {
            failure::print_error(error);
            Err(code_of(error))
        }
        None => Ok(answer),
    }
}

/// The exit code for an error that a host answered.
fn code_of(error: &Value) -> u8 {
    let is_form = error.get("code").is_some_and(|code| code == Code::Request.as_str());
    if is_form { exit::USAGE } else { exit::FAILED }
}

/// True for a "no" of the guest, which has any code that the guest likes: one of the host's, too.
/// The host's own "no" comes before the guest has run, or says that somebody else is to blame; but
/// arguments that don't fit are refused by both, and mean the same.
fn is_guests(outcome: &str, attempts: &str, error: &Value) -> bool {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let ran = outcome == "rejected" && attempts != "0";
    ran && text("blame") == "caller" && text("code") != Code::Args.as_str()
}

/// Shows an answer as it came: whoever reads it wants the numbers that the guest wrote.
fn show(args: &CallArgs, answer: &str) -> u8 {
    let (mut outcome, mut value, mut error) = (None, "null", Value::Null);
    let (mut by_key, mut sequence, mut attempts) = (false, "0", "0");
    let read = json::fields(answer, "an answer", |name, text| {
        match name {
            "outcome" => outcome = json::text(text),
            "value" => value = text,
            "by_key" => by_key = text == "true",
            "sequence" => sequence = text,
            "attempts" => attempts = text,
            "error" => error = serde_json::from_str(text).unwrap_or_default(),
            _ => {}
        }
        Ok(())
    });
    if let Err(fault) = read {
        print_fault(&fault);
        return exit::UNKNOWN;
    }
    let Some(outcome) = outcome else {
        failure::print_error(&error);
        return code_of(&error);
    };
    if args.output == Output::Json {
        print(answer.trim_end());
    } else if outcome == "committed" {
        match json::text(value) {
            Some(text) => print(&text),
            None => print(value),
        }
        if by_key {
            eprint(&format!("answered by its key: commit {sequence}, nothing was done again"));
        }
    } else if is_guests(&outcome, attempts, &error) {
        eprint(&failure::words(&error));
    } else {
        failure::tell_error(&error);
    }
    match outcome.as_ref() {
        "committed" => exit::DONE,
        "rejected" | "cancelled" => exit::FAILED,
        "crashed" => exit::CRASHED,
        _ => exit::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Args, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        read_arguments(&arguments)
    }

    #[test]
    fn a_no_of_the_guest_is_shown_in_its_own_words_whatever_its_code() {
        for (outcome, attempts, code, blame, guests) in [
            ("rejected", "1", "E_STORE_POISONED", "caller", true),
            ("rejected", "1", "", "caller", true),
            // Refused between two tries, and before the first one.
            ("rejected", "1", "E_STORE_POISONED", "environment", false),
            ("rejected", "0", "E_CONTRACT_UNKNOWN", "caller", false),
            ("rejected", "1", "E_ARGS", "caller", false),
            ("crashed", "1", "E_FUEL", "guest", false),
        ] {
            let found = is_guests(outcome, attempts, &json!({ "code": code, "blame": blame }));
            assert_eq!(found, guests, "{outcome} {attempts} {code} {blame}");
        }
        for (code, shown) in [
            ("overdraft", "error[overdraft]: no\n  blame: caller"),
            ("E_STORE_POISONED", "error[E_STORE_POISONED]: no\n  blame: caller"),
            ("", "error: no\n  blame: caller"),
        ] {
            let error = json!({ "code": code, "blame": "caller", "message": "no" });
            assert_eq!(failure::words(&error), shown);
        }
    }

    #[test]
    fn a_host_that_starts_or_stops_is_said_to() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/host.sock");
        assert_eq!(not_yet(&socket), None);
        let mut place = place::Place::claim(&socket).unwrap();
        assert!(not_yet(&socket).unwrap().contains("is still starting; ask again"));
        place.bind(|path| std::os::unix::net::UnixListener::bind(path)).unwrap();
        assert_eq!(not_yet(&socket), None);
        place.note_stopping("as it is tested");
        assert!(not_yet(&socket).unwrap().contains("is stopping"));
        place.leave(0);
        assert_eq!(not_yet(&socket), None);
    }

    #[test]
    fn arguments_are_pairs_or_one_object() {
        let texts = r#"{"amount":"5","from":"ann","note":"a=b"}"#;
        assert_eq!(read(&["from=ann", "amount=5", "note=a=b"]), Ok(Args::texts(texts)));
        let huge = "{\"a\": 18446744073709551616,\n\"b\": 1}";
        assert_eq!(read(&[huge]), Ok(Args::json(huge.replace('\n', " "))));
        for bad in [&["5"][..], &["=5"], &["a=1", "a=2"], &["{"], &[r#"{"a":1} 2"#]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
