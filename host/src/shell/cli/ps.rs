//! `host ps`: the tree of the running host.

mod tree;
mod watch;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::bits::still_off;
use super::lineage::{short, text};
use super::stored::PlaceArgs;
use super::table::{Align, Table};
use super::{Output, print};
use crate::base::error::Code;
use crate::pure::size::show_bytes;
use crate::shell::exit;

#[derive(Args, Debug)]
pub(super) struct PsArgs {
    /// Print each node under its parent, with its last exit
    #[arg(long)]
    tree: bool,
    /// Print it again every TIME, until Ctrl-C
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        default_missing_value = "1s",
        value_parser = humantime::parse_duration,
        conflicts_with = "data"
    )]
    watch: Option<Duration>,
    /// How to print; JSON also has the hash of each daemon's committed state, unless it is watched
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    place: PlaceArgs,
}

impl PsArgs {
    /// True when only Ctrl-C or the host's end ends the command.
    pub(super) fn watches(&self) -> bool {
        self.watch.is_some()
    }
}

pub(super) fn ps(args: &PsArgs) -> u8 {
    if let Some(interval) = args.watch {
        return watch::watch(interval, || frame(args));
    }
    match frame(args) {
        Ok(frame) => print(&frame),
        Err(code) => return code,
    }
    exit::DONE
}

/// What is printed at once.
fn frame(args: &PsArgs) -> Result<String, u8> {
    let hash = args.output == Output::Json && args.watch.is_none();
    let answer = args.place.fetch(&json!({ "ps": { "hash": hash } }))?;
    Ok(match args.output {
        Output::Json => answer.to_string(),
        Output::Human if args.place.is_stored() => stored(&answer),
        Output::Human if args.tree => format!("{}{}", tree::tree(&answer), all_troubles(&answer)),
        Output::Human => list_all(&answer),
    })
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// What a daemon or a transaction does, and what of it is switched off.
fn state(node: &Value) -> String {
    let off = node.get("off").unwrap_or(&Value::Null);
    let is = |name: &str| off.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut words = vec![text(node, "state")];
    if let Some(micros) = node.get("running_us") {
        words = vec![format!("{} {micros} us", text(node, "state"))];
    }
    for (members, word) in [("instances", ""), ("readers", "readers ")] {
        let members = list(node, members);
        if !members.is_empty() {
            let busy = members.iter().filter(|one| text(one, "state") == "running").count();
            words.push(format!("{busy} of {} {word}busy", members.len()));
        }
    }
    for lease in list(node, "leases") {
        words.push(format!("lease {} of {}", text(lease, "lease"), text(lease, "resource")));
    }
    words.extend(is("paused").then(|| "paused".to_owned()));
    words.extend(is("disabled").then(|| "disabled".to_owned()));
    let partly = !is("disabled") && !list(off, "contracts").is_empty();
    words.extend(partly.then(|| "partly disabled".to_owned()));
    words.join(", ")
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
         {} written; {} records to fold, {} of tables",
        number("groups"),
        number("sync_p50_us"),
        number("sync_p99_us"),
        each(number("bytes")),
        each(number("written_bytes")),
        number("fold_debt_records"),
        bytes(journal, "tables_bytes"),
    )
}

fn upgradable(daemon: &Value) -> &'static str {
    match daemon.get("upgradable").and_then(|upgradable| upgradable.get("able")) {
        Some(Value::Bool(true)) => "yes",
        Some(Value::Bool(false)) => "no",
        _ => "-",
    }
}

fn list_all(answer: &Value) -> String {
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
    ])
    .sparing(&["PARENT", "KIND", "UPGRADABLE", "GENERATION", "RESTARTS"]);
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
    for daemon in list(answer, "daemons") {
        table.row(vec![
            text(daemon, "id"),
            text(daemon, "parent"),
            "daemon".to_owned(),
            text(daemon, "name"),
            state(daemon),
            text(daemon, "generation"),
            text(daemon, "sequence"),
            bytes(daemon, "memory_bytes"),
            bytes(daemon, "budget_bytes"),
            text(daemon, "restarts"),
            upgradable(daemon).to_owned(),
        ]);
    }
    for transaction in list(answer, "transactions") {
        table.row(vec![
            text(transaction, "id"),
            text(transaction, "parent"),
            "transaction".to_owned(),
            format!("{}/{}", text(transaction, "daemon"), text(transaction, "contract")),
            state(transaction),
            text(transaction, "generation"),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
        ]);
    }
    let mut shown = table.to_string();
    shown.push_str(&format!("\n{}{}", durability(root), all_troubles(answer)));
    shown
}

/// The daemons of a data directory that no host uses.
fn stored(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("OF A", Align::Left),
        ("STATE", Align::Left),
        ("SEQUENCE", Align::Right),
        ("TIME", Align::Left),
        ("MEMORY", Align::Right),
        ("BUDGET", Align::Right),
        ("CODE", Align::Left),
        ("NEEDS", Align::Left),
        ("USES", Align::Left),
    ])
    .sparing(&["BUDGET", "USES", "NEEDS", "CODE", "OF A"]);
    let mut damage = String::new();
    for daemon in list(answer, "daemons") {
        let names = |field: &str| {
            let names: Vec<&str> = list(daemon, field).iter().filter_map(Value::as_str).collect();
            if names.is_empty() { "-".to_owned() } else { names.join(", ") }
        };
        table.row(vec![
            text(daemon, "name"),
            text(daemon, "origin"),
            text(daemon, "state"),
            text(daemon, "sequence"),
            text(daemon, "time"),
            bytes(daemon, "memory_bytes"),
            bytes(daemon, "budget_bytes"),
            short(daemon, "code"),
            names("needs"),
            names("uses"),
        ]);
        if let Some(why) = daemon.get("damage") {
            let (code, message) = (text(why, "code"), text(why, "message"));
            damage.push_str(&format!("\n{}: {code}: {message}", text(daemon, "name")));
        }
    }
    format!("{table}{damage}")
}

fn all_troubles(answer: &Value) -> String {
    let daemons = list(answer, "daemons").iter();
    let stands = |daemon: &Value, name: &str| daemon.get(name).is_some_and(Value::is_object);
    let nodes = daemons.flat_map(|daemon| {
        // What all instances have is said once.
        let all = stands(daemon, "parked") || stands(daemon, "waits_for");
        let members = ["instances", "readers"].map(|members| list(daemon, members));
        [daemon].into_iter().chain(members.into_iter().flatten().filter(move |_| !all))
    });
    nodes.map(troubles).collect()
}

/// Why a daemon is parked, what of it is switched off, or why it can't be upgraded.
fn troubles(daemon: &Value) -> String {
    let (mut shown, name) = (String::new(), text(daemon, "name"));
    if let Some(reason) = daemon.get("parked").filter(|reason| !reason.is_null()) {
        let (code, message) = (text(reason, "code"), text(reason, "message"));
        shown.push_str(&format!("\n{name} is parked: {code}: {message}"));
        // What is to be done about a guest that parked itself is said below.
        if let Some(code) = code.parse::<Code>().ok().filter(|code| *code != Code::Parked) {
            shown.push_str(&format!("\n  blame: {}. {}", text(reason, "blame"), code.remedy()));
        }
        let daemon = name.split('/').next().unwrap_or(&name);
        shown.push_str(&format!(
            "\n  when it is repaired: host resume {daemon}, or host upgrade {daemon} GUEST.wasm"
        ));
    }
    if let Some(reason) = daemon.get("waits_for").filter(|reason| !reason.is_null()) {
        let message = text(reason, "message");
        shown.push_str(&format!("\n{name} waits: {message}; `host resources` shows more"));
    }
    for line in still_off(&name, daemon.get("off").unwrap_or(&Value::Null)) {
        shown.push_str(&format!("\n{line}"));
    }
    if let Some(held) = daemon.get("held").and_then(Value::as_u64).filter(|held| *held > 0) {
        shown.push_str(&format!("\n{name} holds {held} requests"));
    }
    if let Some(reason) = daemon.get("upgradable").and_then(|able| able.get("reason")) {
        let reason = reason.as_str().unwrap_or_default();
        shown.push_str(&format!("\n{name} can't be upgraded: {reason}"));
    }
    shown
}
