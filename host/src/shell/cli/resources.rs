//! `host resources` and `host resource down|up`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::call::fetch;
use super::lineage::text;
use super::table::{Align, Table};
use super::{Output, SocketArgs, print};
use crate::shell::exit;

#[derive(Args, Debug)]
#[command(after_help = "\
States: available; down, with the reason; held, by `host resource down`. GENERATION grows with each
recovery, LEASES are transactions that run with it, FLAPS are deaths soon after a recovery: each
doubles the time that the next recovery has to last before daemons are started again.")]
pub(super) struct ResourcesArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Args, Debug)]
pub(super) struct ResourceArgs {
    #[command(subcommand)]
    switch: Switch,
}

#[derive(Debug, Subcommand)]
enum Switch {
    /// Take a resource down and hold it there: what needs it is cancelled and waits
    Down(SwitchArgs),
    /// Let go of it: it comes back as after any death
    Up(SwitchArgs),
}

#[derive(Args, Debug)]
struct SwitchArgs {
    /// The resource: SERVICE/NAME, or NAME when no other service has one of that name
    name: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn resources(args: &ResourcesArgs) -> u8 {
    let answer = match fetch(&args.socket, &json!({ "resources": {} })) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    print(&match args.output {
        Output::Json => answer.to_string(),
        Output::Human => table(&answer),
    });
    exit::DONE
}

pub(super) fn switch(args: &ResourceArgs) -> u8 {
    let (args, down) = match &args.switch {
        Switch::Down(args) => (args, true),
        Switch::Up(args) => (args, false),
    };
    let asked = json!({ "resource": { "name": args.name, "down": down } });
    let answer = match fetch(&args.socket, &asked) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let name = text(&answer, "resource");
    print(&match (args.output, down) {
        (Output::Json, _) => answer.to_string(),
        (Output::Human, true) => {
            format!("resource `{name}` goes down, and stays so until `host resource up {name}`")
        }
        (Output::Human, false) => format!("resource `{name}` may come back: `host resources`"),
    });
    exit::DONE
}

/// What is counted of effects.
const COUNTS: [&str; 5] = ["waiting", "done", "failed", "unknown", "lost"];

fn some(effects: &Value) -> bool {
    COUNTS.iter().any(|&count| effects.get(count).and_then(Value::as_u64).is_some_and(|n| n > 0))
}

fn table(answer: &Value) -> String {
    let list = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let resources = list(answer, "resources");
    if resources.is_empty() {
        return "no daemon of this host depends on a resource".to_owned();
    }
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("KIND", Align::Left),
        ("STATE", Align::Left),
        ("FOR", Align::Left),
        ("GENERATION", Align::Right),
        ("FLAPS", Align::Right),
        ("LEASES", Align::Right),
        ("NEEDED BY", Align::Left),
        ("USED BY", Align::Left),
        ("PLACE", Align::Left),
    ])
    .sparing(&["FLAPS", "GENERATION", "PLACE", "LEASES", "KIND"]);
    let mut reasons = String::new();
    for resource in &resources {
        let millis = resource.get("since_ms").and_then(Value::as_u64).unwrap_or_default();
        let age = Duration::from_secs(millis / 1000);
        let names = |key: &str| {
            let names = list(resource, key);
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            if names.is_empty() { "-".to_owned() } else { names.join(", ") }
        };
        table.row(vec![
            text(resource, "name"),
            text(resource, "kind"),
            text(resource, "state"),
            humantime::format_duration(age).to_string(),
            text(resource, "generation"),
            text(resource, "flaps"),
            list(resource, "leases").len().to_string(),
            names("needed_by"),
            names("used_by"),
            text(resource, "place"),
        ]);
        for lease in list(resource, "leases") {
            let (id, daemon) = (text(&lease, "lease"), text(&lease, "daemon"));
            let request = text(&lease, "request");
            reasons.push_str(&format!("\nlease {id}: request {request} of `{daemon}`"));
        }
        if let Some(effects) = resource.get("effects").filter(|effects| some(effects)) {
            let counts = COUNTS.map(|count| format!("{count} {}", text(effects, count)));
            let counts = counts.join(", ");
            reasons.push_str(&format!("\neffects for {}: {counts}", text(resource, "name")));
        }
        if let Some(why) = resource.get("why").and_then(Value::as_str) {
            reasons.push_str(&format!("\n{}: {why}", text(resource, "name")));
        }
    }
    format!("{table}{reasons}")
}
