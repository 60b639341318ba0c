//! `host kill`, `disable`, `enable`, `pause` and `resume`.

use clap::Args;
use serde_json::{Value, json};

use super::call::fetch;
use super::lineage::text;
use super::{Output, SocketArgs, print};
use crate::base::ids::RequestId;
use crate::pure::crash_report::parse_id;
use crate::shell::exit;

// Whom these commands ask, and how they show the answer: words for `--help` are those of a command.
#[derive(Args, Debug)]
struct Asking {
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
It ends within a tick and its longest host call, is rolled back, and its caller gets E_CANCELLED.
A request that waits for its turn has no id that anybody knows; `host pause` holds those.")]
pub(super) struct KillArgs {
    /// The transaction's id, from `host ps`
    #[arg(value_name = "ID", value_parser = transaction_id, allow_hyphen_values = true)]
    id: RequestId,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Debug)]
#[command(after_help = "\
New requests are refused with E_DISABLED, those that wait are held until `host enable`. It holds
until the host stops, through upgrades too.")]
pub(super) struct DisableArgs {
    /// A daemon, or one of its contracts
    #[arg(value_name = "DAEMON[/CONTRACT]")]
    target: String,
    /// Cancel the transaction that runs
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Debug)]
pub(super) struct EnableArgs {
    /// A daemon, or one of its contracts
    #[arg(value_name = "DAEMON[/CONTRACT]")]
    target: String,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Requests are taken, and held until `host resume`; over 1024 are refused. It holds until the host
stops.")]
pub(super) struct PauseArgs {
    /// The daemon's name
    daemon: String,
    /// Cancel the transaction that runs
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Debug)]
pub(super) struct ResumeArgs {
    /// The daemon's name
    daemon: String,
    #[command(flatten)]
    asking: Asking,
}

fn transaction_id(text: &str) -> Result<RequestId, String> {
    parse_id(text).ok_or_else(|| "an id has 1 to 16 hexadecimal digits".to_owned())
}

/// A daemon's name and that of a contract, if one is meant.
fn parts(target: &str) -> (&str, Option<&str>) {
    match target.split_once('/') {
        Some((daemon, contract)) => (daemon, Some(contract)),
        None => (target, None),
    }
}

pub(super) fn kill(args: &KillArgs) -> u8 {
    ask(&args.asking, &json!({ "kill": args.id.to_string() }), |answer| {
        let stopped = answer.get("stopped").unwrap_or(&Value::Null);
        stop_text(stopped, &text(answer, "daemon"))
    })
}

pub(super) fn disable(args: &DisableArgs) -> u8 {
    let (daemon, contract) = parts(&args.target);
    let asked = json!({ "daemon": daemon, "contract": contract, "cancel": args.cancel });
    ask(&args.asking, &json!({ "disable": asked }), |answer| {
        let first = format!("`{}` is disabled: new requests are refused", args.target);
        off_text(first, daemon, answer)
    })
}

pub(super) fn enable(args: &EnableArgs) -> u8 {
    let (daemon, contract) = parts(&args.target);
    let asked = json!({ "enable": { "daemon": daemon, "contract": contract } });
    ask(&args.asking, &asked, |answer| {
        on_text(format!("`{}` is enabled", args.target), daemon, answer)
    })
}

pub(super) fn pause(args: &PauseArgs) -> u8 {
    let asked = json!({ "pause": { "daemon": args.daemon, "cancel": args.cancel } });
    ask(&args.asking, &asked, |answer| {
        let first = format!("daemon `{}` is paused: requests wait", args.daemon);
        off_text(first, &args.daemon, answer)
    })
}

pub(super) fn resume(args: &ResumeArgs) -> u8 {
    ask(&args.asking, &json!({ "resume": args.daemon }), |answer| {
        let first = match answer.get("was_parked").and_then(Value::as_bool) {
            Some(true) => format!("daemon `{}` is running again on its last commit", args.daemon),
            _ => format!("daemon `{}` goes on", args.daemon),
        };
        on_text(first, &args.daemon, answer)
    })
}

/// Asks, prints, and fails when something that was to be stopped still runs.
fn ask(asking: &Asking, asked: &Value, show: impl FnOnce(&Value) -> String) -> u8 {
    let answer = match fetch(&asking.socket, asked) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    match asking.output {
        Output::Json => print(&answer.to_string()),
        Output::Human => print(&show(&answer)),
    }
    let ended = |stopped: &Value| stopped.get("end").is_some_and(|end| !end.is_null());
    if stopped(&answer).iter().all(ended) { exit::DONE } else { exit::FAILED }
}

/// What was stopped: one transaction by a kill, any number otherwise.
fn stopped(answer: &Value) -> &[Value] {
    match answer.get("stopped") {
        None => &[],
        Some(Value::Array(all)) => all,
        Some(one) => std::slice::from_ref(one),
    }
}

fn stop_text(stopped: &Value, daemon: &str) -> String {
    let millis = |name: &str| stopped.get(name).and_then(Value::as_f64).unwrap_or(0.0) / 1000.0;
    let (id, contract) = (text(stopped, "transaction"), text(stopped, "contract"));
    let (ran, took) = (millis("ran_us"), millis("took_us"));
    let what =
        format!("transaction {id}, `{contract}` of `{daemon}`, which had run for {ran:.1} ms");
    match stopped.get("end").and_then(Value::as_str) {
        Some(end) => format!("{what}, ended after {took:.1} ms: {end}"),
        None => format!("{what}, is cancelled and has not ended after {took:.1} ms"),
    }
}

fn off_text(first: String, daemon: &str, answer: &Value) -> String {
    let mut lines = vec![first];
    lines.extend(stopped(answer).iter().map(|stopped| stop_text(stopped, daemon)));
    let left = answer.get("left").and_then(Value::as_array).into_iter().flatten();
    lines.extend(
        left.filter_map(Value::as_str)
            .map(|left| format!("transaction {left} goes on; `host kill {left}` ends it")),
    );
    lines.join("\n")
}

fn on_text(first: String, daemon: &str, answer: &Value) -> String {
    let mut lines = vec![match answer.get("held").and_then(Value::as_u64) {
        None | Some(0) => first,
        Some(1) => format!("{first}; 1 request was held"),
        Some(held) => format!("{first}; {held} requests were held"),
    }];
    lines.extend(still_off(daemon, answer.get("off").unwrap_or(&Value::Null)));
    lines.join("\n")
}

/// What is switched off at a daemon, and how it is switched on again; a line each.
pub(super) fn still_off(daemon: &str, off: &Value) -> Vec<String> {
    let is = |name: &str| off.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut lines = Vec::new();
    if is("paused") {
        lines.push(format!("{daemon} is paused: host resume {daemon}"));
    }
    if is("disabled") {
        lines.push(format!("{daemon} is disabled: host enable {daemon}"));
    }
    let contracts = off.get("contracts").and_then(Value::as_array).into_iter().flatten();
    lines.extend(contracts.filter_map(Value::as_str).map(|contract| {
        format!("{daemon}/{contract} is disabled: host enable {daemon}/{contract}")
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_29_replies_say_what_was_stopped_what_goes_on_and_what_stays_off() {
        let stopped = |end: Value| {
            json!({
                "transaction": "7", "contract": "pay", "ran_us": 1500.0, "took_us": 2600.0,
                "end": end,
            })
        };
        let what = "transaction 7, `pay` of `bank`, which had run for 1.5 ms";
        for (answer, expected) in [
            (json!({ "stopped": [], "left": [] }), String::new()),
            (
                json!({ "stopped": [stopped(json!("E_CANCELLED")), stopped(Value::Null)] }),
                format!(
                    "\n{what}, ended after 2.6 ms: E_CANCELLED\n\
                     {what}, is cancelled and has not ended after 2.6 ms"
                ),
            ),
            (
                json!({ "stopped": [], "left": ["7", "8"] }),
                "\ntransaction 7 goes on; `host kill 7` ends it\n\
                 transaction 8 goes on; `host kill 8` ends it"
                    .to_owned(),
            ),
        ] {
            assert_eq!(off_text("off".to_owned(), "bank", &answer), format!("off{expected}"));
        }
        let off = json!({ "paused": true, "disabled": true, "contracts": ["pay"] });
        let answer = json!({ "held": 2, "off": off });
        assert_eq!(
            on_text("on".to_owned(), "bank", &answer),
            "on; 2 requests were held\nbank is paused: host resume bank\n\
             bank is disabled: host enable bank\nbank/pay is disabled: host enable bank/pay"
        );
        assert_eq!(parts("bank/pay"), ("bank", Some("pay")));
        assert_eq!(parts("bank"), ("bank", None));
    }
}
