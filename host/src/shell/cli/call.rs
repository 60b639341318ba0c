//! `host call`: asks a daemon of the running host; and how all commands ask.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Output, SocketArgs, eprint, print};
use crate::base::error::{Code, Fault};
use crate::pure::contract::Args;
use crate::pure::json;
use crate::pure::request::Request;
use crate::shell::api::{Client, ClientError};
use crate::shell::exit;

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
            eprint(&format!("error: {message}\n  see `host call --help`"));
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
    let connected = Client::connect(&socket.path());
    connected.and_then(|mut client| ask(&mut client)).map_err(|error| {
        eprint(&format!("error: {error}"));
        match error {
            ClientError::NoHost { .. } | ClientError::Foreign(_) => exit::NO_HOST,
            ClientError::Lost => exit::UNKNOWN,
        }
    })
}

/// Asks the running host, or prints the error, its own or the connection's, and answers the exit
/// code.
pub(super) fn fetch(socket: &SocketArgs, command: &Value) -> Result<Value, u8> {
    let answer = ask(socket, command)?;
    match answer.get("error") {
        Some(error) => Err(print_error(error)),
        None => Ok(answer),
    }
}

/// Prints an error line of the host. Its code is one of this program's, or newer.
pub(super) fn print_error(error: &Value) -> u8 {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let (code, message) = (text("code"), text("message"));
    match code.parse::<Code>() {
        Ok(code) => super::print_fault(&Fault::new(code, message)),
        Err(_) => eprint(&format!("error[{code}]: {message}\n  blame: {}", text("blame"))),
    }
    if let Some(frames) = error.get("backtrace").and_then(Value::as_array) {
        for frame in frames.iter().filter_map(Value::as_str) {
            eprint(&format!("  at {frame}"));
        }
    }
    if let Some(id) = error.get("crash").and_then(Value::as_str) {
        eprint(&format!("  run it again with `host replay {id}`"));
    }
    if code == Code::Request.as_str() { exit::USAGE } else { exit::FAILED }
}

/// Shows an answer as it came: whoever reads it wants the numbers that the guest wrote.
fn show(args: &CallArgs, answer: &str) -> u8 {
    let (mut outcome, mut value, mut error) = (None, "null", Value::Null);
    let (mut by_key, mut sequence) = (false, "0");
    let read = json::fields(answer, "an answer", |name, text| {
        match name {
            "outcome" => outcome = json::text(text),
            "value" => value = text,
            "by_key" => by_key = text == "true",
            "sequence" => sequence = text,
            "error" => error = serde_json::from_str(text).unwrap_or_default(),
            _ => {}
        }
        Ok(())
    });
    if let Err(fault) = read {
        super::print_fault(&fault);
        return exit::UNKNOWN;
    }
    let Some(outcome) = outcome else { return print_error(&error) };
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
    } else {
        print_error(&error);
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
    use super::*;

    fn read(arguments: &[&str]) -> Result<Args, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        read_arguments(&arguments)
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
