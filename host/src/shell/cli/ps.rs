//! `host ps`: the tree of the running host.

use clap::Args;
use serde_json::{Value, json};

use super::call::fetch;
use super::lineage::text;
use super::table::{Align, Table};
use super::{Output, SocketArgs, print};
use crate::pure::size::show_bytes;
use crate::shell::exit;

#[derive(Args, Debug)]
pub(super) struct PsArgs {
    /// How to print; JSON also has the hash of each daemon's committed state
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn ps(args: &PsArgs) -> u8 {
    let hash = args.output == Output::Json;
    let answer = match fetch(&args.socket, &json!({ "ps": { "hash": hash } })) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    match args.output {
        Output::Json => print(&answer.to_string()),
        Output::Human => print(&tree(&answer)),
    }
    exit::DONE
}

fn bytes(value: &Value, name: &str) -> String {
    let bytes = value.get(name).and_then(Value::as_u64);
    bytes.map_or_else(|| "-".to_owned(), |b| show_bytes(usize::try_from(b).unwrap_or(usize::MAX)))
}

/// What an acknowledgement means, and what that costs.
fn durability(root: &Value) -> String {
    let meaning = text(root, "durability");
    let Some(journal) = root.get("journal").filter(|journal| !journal.is_null()) else {
        return format!("durability {meaning}: a commit lives as long as this process");
    };
    let number = |name: &str| journal.get(name).and_then(Value::as_u64).unwrap_or(0);
    let commits = number("records");
    let each = |bytes: u64| bytes.checked_div(commits).unwrap_or(0);
    format!(
        "durability {meaning}: {commits} commits in {} syncs, p50 {} us, p99 {} us; {} bytes per commit, \
         {} written; {} records to fold",
        number("groups"),
        number("sync_p50_us"),
        number("sync_p99_us"),
        each(number("bytes")),
        each(number("written_bytes")),
        number("fold_debt_records"),
    )
}

fn upgradable(daemon: &Value) -> &'static str {
    match daemon.get("upgradable").and_then(|upgradable| upgradable.get("able")) {
        Some(Value::Bool(true)) => "yes",
        Some(Value::Bool(false)) => "no",
        _ => "-",
    }
}

fn tree(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("PARENT", Align::Left),
        ("KIND", Align::Left),
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("GENERATION", Align::Right),
        ("SEQUENCE", Align::Right),
        ("MEMORY", Align::Right),
        ("BUDGET", Align::Right),
        ("RESTARTS", Align::Right),
        ("UPGRADABLE", Align::Left),
    ]);
    let root = answer.get("root").unwrap_or(&Value::Null);
    table.row(vec![
        text(root, "id"),
        "-".to_owned(),
        "root".to_owned(),
        format!("pid {}", text(root, "pid")),
        text(root, "state"),
        text(root, "generation"),
        "-".to_owned(),
        bytes(root, "reserved_bytes"),
        bytes(root, "limit_bytes"),
        "0".to_owned(),
        "-".to_owned(),
    ]);
    let list = |name: &str| answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    for daemon in list("daemons") {
        table.row(vec![
            text(&daemon, "id"),
            text(&daemon, "parent"),
            "daemon".to_owned(),
            text(&daemon, "name"),
            text(&daemon, "state"),
            text(&daemon, "generation"),
            text(&daemon, "sequence"),
            bytes(&daemon, "memory_bytes"),
            bytes(&daemon, "budget_bytes"),
            text(&daemon, "restarts"),
            upgradable(&daemon).to_owned(),
        ]);
    }
    for transaction in list("transactions") {
        table.row(vec![
            text(&transaction, "id"),
            text(&transaction, "parent"),
            "transaction".to_owned(),
            text(&transaction, "daemon"),
            format!("{} {} us", text(&transaction, "state"), text(&transaction, "running_us")),
            text(&transaction, "generation"),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
        ]);
    }
    let mut shown = table.to_string();
    shown.push_str(&format!("\n{}", durability(root)));
    list("daemons").iter().for_each(|daemon| shown.push_str(&troubles(daemon)));
    shown
}

/// Why a daemon is parked, or can't be upgraded.
fn troubles(daemon: &Value) -> String {
    let (mut shown, name) = (String::new(), text(daemon, "name"));
    if let Some(reason) = daemon.get("parked").filter(|reason| !reason.is_null()) {
        let (code, message) = (text(reason, "code"), text(reason, "message"));
        shown.push_str(&format!("\n{name} is parked: {code}: {message}"));
        shown.push_str(&format!(
            "\n  when it is repaired: host resume {name}, or host upgrade {name} GUEST.wasm"
        ));
    }
    if let Some(reason) = daemon.get("upgradable").and_then(|able| able.get("reason")) {
        let reason = reason.as_str().unwrap_or_default();
        shown.push_str(&format!("\n{name} can't be upgraded: {reason}"));
    }
    shown
}
