//! `host call`: asks a daemon of the running host; and how all commands ask.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Output, SocketArgs, eprint, print};
use crate::base::error::{Code, Fault};
use crate::pure::json;
use crate::shell::api::{Client, ClientError};
use crate::shell::exit;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  host call ledger deposit account=ann amount=100
  host call ledger transfer '{\"from\": \"ann\", \"to\": \"bob\", \"amount\": 5}'

A key=value is text where the contract takes text, else JSON (lists='[1, 2]').
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

/// Arguments of the command line.
#[derive(Debug, PartialEq)]
enum Arguments {
    /// One JSON object.
    Json(Value),
    /// Texts by name.
    Texts(Map<String, Value>),
}

fn read_arguments(arguments: &[String]) -> Result<Arguments, String> {
    if let [only] = arguments
        && only.trim_start().starts_with('{')
    {
        let value = json::parse(only).map_err(|error| format!("the JSON argument: {error}"))?;
        return Ok(Arguments::Json(value));
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
    Ok(Arguments::Texts(texts))
}

pub(super) fn call(args: &CallArgs) -> u8 {
    let mut request = json!({ "daemon": args.daemon, "contract": args.contract });
    if let Some(key) = &args.key {
        set(&mut request, "key", json!(key));
    }
    if let Some(correlation) = &args.correlation {
        set(&mut request, "correlation", json!(correlation));
    }
    if let Some(wait) = &args.wait {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        set(&mut request, "wait_ms", json!(millis));
    }
    let command = match read_arguments(&args.arguments) {
        Ok(Arguments::Json(value)) => {
            set(&mut request, "args", value);
            json!({ "call": request })
        }
        Ok(Arguments::Texts(texts)) => json!({ "call": request, "text": texts }),
        Err(message) => {
            eprint(&format!("error: {message}\n  see `host call --help`"));
            return exit::USAGE;
        }
    };
    match ask(&args.socket, &command) {
        Ok(answer) => show(args, &answer),
        Err(code) => code,
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(name.to_owned(), value);
    }
}

/// Asks the running host, or prints why it can't, and answers the exit code.
pub(super) fn ask(socket: &SocketArgs, command: &Value) -> Result<Value, u8> {
    let connected = Client::connect(&socket.path());
    connected.and_then(|mut client| client.ask(command)).map_err(|error| {
        eprint(&format!("error: {error}"));
        match error {
            ClientError::NoHost { .. } => exit::NO_HOST,
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

fn show(args: &CallArgs, answer: &Value) -> u8 {
    if let Some(error) = answer.get("outcome").is_none().then(|| answer.get("error")).flatten() {
        return print_error(error);
    }
    let outcome = answer.get("outcome").and_then(Value::as_str).unwrap_or("unknown");
    if args.output == Output::Json {
        print(&answer.to_string());
    } else if outcome == "committed" {
        match answer.get("value") {
            Some(Value::String(text)) => print(text),
            Some(value) => print(&value.to_string()),
            None => print("null"),
        }
    } else if let Some(error) = answer.get("error") {
        print_error(error);
    }
    match outcome {
        "committed" => exit::DONE,
        "rejected" | "cancelled" => exit::FAILED,
        "crashed" => exit::CRASHED,
        _ => exit::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Arguments, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        read_arguments(&arguments)
    }

    #[test]
    fn arguments_are_pairs_or_one_object() {
        let Ok(Arguments::Texts(texts)) = read(&["from=ann", "amount=5", "note=a=b"]) else {
            panic!("pairs")
        };
        assert_eq!(texts["note"], "a=b");
        assert_eq!(read(&[r#"{"a": 1}"#]), Ok(Arguments::Json(json!({"a": 1}))));
        for bad in [&["5"][..], &["=5"], &["a=1", "a=2"], &["{"], &[r#"{"a":1,"a":2}"#]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
