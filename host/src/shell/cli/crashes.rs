//! `host crashes`: what crashed, of all daemons or of one; and one crash with all that is known of
//! it.

use clap::Args;
use serde_json::{Value, json};

use super::lineage::text;
use super::stored::PlaceArgs;
use super::table::{Align, Table};
use super::{Output, print};
use crate::shell::exit;

#[derive(Args, Debug)]
#[command(after_help = "\
Reports are written down behind the answers, at most 1000 are kept, and of a storm not all: `host
ps --output json` counts those that were left out. `host replay CRASH-ID` runs one again.
Deaths of the host's own threads are listed below: each is a bug of the host, please report it.")]
pub(super) struct CrashesArgs {
    /// A daemon, or a crash: 16 hexadecimal digits [default: all daemons]
    #[arg(value_name = "DAEMON | CRASH-ID")]
    of: Option<String>,
    /// How many crashes, the last ones
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: u64,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Ids are always written with all their digits, so that a name is hardly ever taken for one.
fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn crashes(args: &CrashesArgs) -> u8 {
    let one = args.of.as_deref().filter(|of| is_id(of));
    let asked = match one {
        Some(id) => json!({ "crash": id }),
        None => json!({ "crashes": { "daemon": args.of, "last": args.last } }),
    };
    let answer = match args.place.fetch(&asked) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    print(&match (args.output, one) {
        (Output::Json, _) => answer.to_string(),
        (Output::Human, Some(_)) => whole(answer.get("crash").unwrap_or(&Value::Null)),
        (Output::Human, None) => table(&answer),
    });
    exit::DONE
}

fn table(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("CRASH", Align::Left),
        ("TIME", Align::Left),
        ("DAEMON", Align::Left),
        ("GENERATION", Align::Right),
        ("CONTRACT", Align::Left),
        ("CODE", Align::Left),
        ("MESSAGE", Align::Left),
    ])
    .sparing(&["GENERATION", "TIME"]);
    let crashes = answer.get("crashes").and_then(Value::as_array).into_iter().flatten();
    for crash in crashes {
        let error = crash.get("error").unwrap_or(&Value::Null);
        table.row(vec![
            text(crash, "crash"),
            text(crash, "time"),
            text(crash, "daemon"),
            text(error, "generation"),
            text(crash, "contract"),
            text(error, "code"),
            text(error, "message"),
        ]);
    }
    for death in answer.get("thread_deaths").and_then(Value::as_array).into_iter().flatten() {
        table.row(vec![
            "-".to_owned(),
            text(death, "time"),
            text(death, "name"),
            "-".to_owned(),
            format!("thread {}", text(death, "death")),
            text(death, "code"),
            format!("{}: {}", text(death, "panic"), then(death)),
        ]);
    }
    let mut shown = table.to_string();
    if answer.get("kept") == Some(&Value::Bool(false)) {
        shown.push_str("\nwithout a data directory crashed requests are not written down");
    }
    shown
}

/// What was done about a death.
fn then(death: &Value) -> String {
    match (text(death, "then").as_str(), death.get("delay_ms").and_then(Value::as_u64)) {
        ("restarted", Some(0)) => "restarted at once".to_owned(),
        ("restarted", Some(millis)) => format!("restarted after {millis} ms"),
        (then, _) => then.to_owned(),
    }
}

/// Every field of a report, a line each, and the backtrace.
fn whole(crash: &Value) -> String {
    let error = crash.get("error").unwrap_or(&Value::Null);
    let mut lines = vec![format!("{}: {}", text(error, "code"), text(error, "message"))];
    let frames = error.get("backtrace").and_then(Value::as_array).into_iter().flatten();
    lines.extend(frames.filter_map(Value::as_str).map(|frame| format!("  at {frame}")));
    let shown = ["code", "message", "backtrace", "crash"];
    let error = error.as_object().into_iter().flatten();
    let error = error.filter(|(name, _)| !shown.contains(&name.as_str()));
    let fields = crash.as_object().into_iter().flatten().filter(|(name, _)| *name != "error");
    let mut fields: Vec<(&String, &Value)> = fields.chain(error).collect();
    fields.sort_by_key(|(name, _)| *name);
    for (name, value) in fields {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.push(format!("{name}: {value}"));
    }
    lines.push(format!("run it again: host replay {}", text(crash, "crash")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_all_its_digits_and_anything_else_is_a_name() {
        for (text, id) in [
            ("19a5f3c2b0800012", true),
            ("feed", false),
            ("ledger", false),
            ("19a5f3c2b08000123", false),
            ("19a5f3c2b080001g", false),
        ] {
            assert_eq!(is_id(text), id, "{text}");
        }
    }
}
