//! `host checkpoints`, `history`, `snapshot`, `restore`, `fork`, `revert`, `remove`: states of a
//! daemon's past and copies of them.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::call::fetch;
use super::options::parse_budget;
use super::stored::PlaceArgs;
use super::table::{Align, Table};
use super::{Output, SocketArgs, print, print_fault};
use crate::base::error::{Code, Fault};
use crate::pure::size::show_bytes;
use crate::shell::exit;

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// The daemon's name
    daemon: String,
    /// How many commits, the last ones
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: u64,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args, Debug)]
pub(super) struct SnapshotArgs {
    /// The daemon's name
    daemon: String,
    /// The file to write [default: DAEMON-SEQUENCE.snapshot in this directory, DAEMON-last.snapshot
    /// without --at]
    #[arg(short = 'o', long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The commit whose state is wanted [default: the last one]
    #[arg(long, value_name = "SEQUENCE")]
    at: Option<u64>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args, Debug)]
#[group(id = "whom", required = true, multiple = false, args = ["name", "into"])]
pub(super) struct RestoreArgs {
    /// A file that `host snapshot` wrote
    file: PathBuf,
    /// The name of the new daemon
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// A daemon that runs, and goes on with this state as a commit of its own, which `host revert`
    /// undoes. It must have the code that made the snapshot
    #[arg(long, value_name = "DAEMON", conflicts_with_all = ["budget", "needs", "uses"])]
    into: Option<String>,
    /// Most memory of its guest [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    budget: Option<String>,
    /// A resource of the running host that it can't do without; may be repeated
    #[arg(long, value_name = "RESOURCE")]
    needs: Vec<String>,
    /// A resource of the running host that it can do without; may be repeated
    #[arg(long, value_name = "RESOURCE")]
    uses: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Args, Debug)]
pub(super) struct ForkArgs {
    /// The daemon to copy
    daemon: String,
    /// The name of the new one
    new: String,
    /// The commit whose state is wanted [default: the last one]
    #[arg(long, value_name = "SEQUENCE")]
    at: Option<u64>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Args, Debug)]
#[group(id = "where", required = true, multiple = false, args = ["to", "last"])]
pub(super) struct RevertArgs {
    /// The daemon's name
    daemon: String,
    /// Back to the state of this commit
    #[arg(long, value_name = "SEQUENCE")]
    to: Option<u64>,
    /// Back by so many commits
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Args, Debug)]
pub(super) struct RemoveArgs {
    /// The daemon's name; one that was forked or restored, or that no file of the host has. With
    /// --data any
    daemon: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Asks, and prints what `show` makes of the answer, or the error.
pub(super) fn command(
    socket: &SocketArgs,
    asked: &Value,
    show: impl FnOnce(&Value) -> String,
) -> u8 {
    shown(fetch(socket, asked), show)
}

/// Prints an answer as it is, or what `show` makes of it for people.
fn told(output: Output, answer: Result<Value, u8>, show: impl FnOnce(&Value) -> String) -> u8 {
    shown(answer, |answer| match output {
        Output::Json => answer.to_string(),
        Output::Human => show(answer),
    })
}

fn shown(answer: Result<Value, u8>, show: impl FnOnce(&Value) -> String) -> u8 {
    match answer {
        Err(code) => code,
        Ok(answer) => {
            print(&show(&answer));
            exit::DONE
        }
    }
}

pub(super) fn checkpoints(args: &ListArgs) -> u8 {
    let asked = json!({ "commits": { "daemon": args.daemon, "last": args.last } });
    told(args.output, args.place.fetch(&asked), checkpoints_table)
}

fn checkpoints_table(answer: &Value) -> String {
    let columns = [
        ("SEQUENCE", Align::Right),
        ("TIME", Align::Left),
        ("KIND", Align::Left),
        ("SIZE", Align::Right),
        ("CODE", Align::Left),
        ("HASH", Align::Left),
    ];
    let rows = commits(answer).iter().map(|commit| {
        vec![
            text(commit, "sequence"),
            text(commit, "time"),
            kind(commit),
            bytes(commit, "memory_bytes"),
            short(commit, "code"),
            short(commit, "hash"),
        ]
    });
    format!("{}\n{}", table(&columns, rows), reach(answer))
}

/// Which commits can be had again, and how: only the code that made a state goes on with it.
fn reach(answer: &Value) -> String {
    let (oldest, own) = (text(answer, "oldest"), text(answer, "own"));
    if oldest == own {
        return format!(
            "any commit from {oldest} on can be reverted to, forked, saved and replayed on"
        );
    }
    format!(
        "any commit from {own} on can be reverted to; any from {oldest} on can be forked, saved and \
         replayed on: other code made those before {own}, and `host fork {} COPY --at N` starts a \
         copy on one with the code of then",
        text(answer, "daemon")
    )
}

/// Commits, and the crashes between them.
pub(super) fn history(args: &ListArgs) -> u8 {
    let whom = match args.place.open(false) {
        Ok(whom) => whom,
        Err(code) => return code,
    };
    let asked = json!({ "crashes": { "daemon": args.daemon, "last": args.last } });
    let crashes = match whom.fetch(&asked) {
        Ok(mut answer) => answer.get_mut("crashes").map(Value::take).unwrap_or_default(),
        Err(code) => return code,
    };
    let asked = json!({ "commits": { "daemon": args.daemon, "last": args.last } });
    shown(whom.fetch(&asked), |answer| match args.output {
        Output::Human => history_table(answer, &crashes),
        Output::Json => {
            let mut answer = answer.clone();
            if let Value::Object(fields) = &mut answer {
                fields.insert("crashes".to_owned(), crashes);
            }
            answer.to_string()
        }
    })
}

fn history_table(answer: &Value, crashes: &Value) -> String {
    let columns = [
        ("SEQUENCE", Align::Right),
        ("TIME", Align::Left),
        ("KIND", Align::Left),
        ("REQUEST", Align::Left),
        ("CONTRACT", Align::Left),
        ("OUTCOME", Align::Left),
        ("TRIES", Align::Right),
        ("CARDS", Align::Right),
        ("BYTES", Align::Right),
        ("RECORD", Align::Right),
    ];
    let number = |line: &Value| line.get("sequence").and_then(Value::as_u64).unwrap_or(0);
    let first = commits(answer).first().map_or(0, number);
    let mut rows: Vec<(u64, Vec<String>)> = Vec::new();
    for commit in commits(answer) {
        let cells = vec![
            text(commit, "sequence"),
            text(commit, "time"),
            kind(commit),
            text(commit, "request"),
            text(commit, "contract"),
            text(commit, "outcome"),
            text(commit, "attempts"),
            text(commit, "cards_changed"),
            text(commit, "bytes_changed"),
            text(commit, "record_bytes"),
        ];
        rows.push((number(commit), cells));
    }
    let crashes = crashes.as_array().map(Vec::as_slice).unwrap_or_default();
    let crashes = crashes.iter().filter(|crash| number(crash) >= first);
    for crash in crashes.clone() {
        rows.push((number(crash), crash_cells(crash)));
    }
    // Stable: the crashes on a commit stand behind it, oldest first.
    rows.sort_by_key(|(sequence, _)| *sequence);
    let mut shown = table(&columns, rows.into_iter().map(|(_, cells)| cells));
    if crashes.clone().next().is_some() {
        shown.push_str("\ncrashes; one is run again by `host replay REQUEST`:");
    }
    for crash in crashes {
        let error = crash.get("error").unwrap_or(&Value::Null);
        let (id, code) = (text(crash, "crash"), text(error, "code"));
        shown.push_str(&format!("\n  {id}  {code}: {}", text(error, "message")));
    }
    shown
}

/// A crash among commits: it has no number, and kept nothing.
fn crash_cells(crash: &Value) -> Vec<String> {
    let error = crash.get("error").unwrap_or(&Value::Null);
    let none = || "-".to_owned();
    vec![
        none(),
        text(crash, "time"),
        "crash".to_owned(),
        text(crash, "crash"),
        text(crash, "contract"),
        text(error, "code"),
        text(crash, "attempts"),
        text(error, "cards_changed"),
        none(),
        none(),
    ]
}

fn table(columns: &[(&str, Align)], rows: impl Iterator<Item = Vec<String>>) -> String {
    let spared = ["RECORD", "CARDS", "TRIES", "TIME", "HASH", "BYTES"];
    let mut table = Table::new(columns).sparing(&spared);
    rows.for_each(|row| table.row(row));
    table.to_string()
}

fn commits(answer: &Value) -> &[Value] {
    answer.get("commits").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

pub(super) fn bytes(value: &Value, name: &str) -> String {
    let bytes = value.get(name).and_then(Value::as_u64).unwrap_or(0);
    show_bytes(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// A hash, cut to what a person compares.
pub(super) fn short(value: &Value, name: &str) -> String {
    text(value, name).chars().take(12).collect()
}

fn kind(commit: &Value) -> String {
    match commit.get("reverted_to").and_then(Value::as_u64) {
        Some(to) => format!("revert to {to}"),
        None => text(commit, "kind"),
    }
}

/// The host may run in another directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, u8> {
    std::path::absolute(path).map_err(|error| {
        print_fault(&Fault::new(Code::File, format!("{}: {error}", path.display())));
        exit::FAILED
    })
}

pub(super) fn snapshot(args: &SnapshotArgs) -> u8 {
    let default = || {
        let at = args.at.map_or_else(|| "last".to_owned(), |at| at.to_string());
        PathBuf::from(format!("{}-{at}.snapshot", args.daemon))
    };
    let path = match absolute(&args.out.clone().unwrap_or_else(default)) {
        Ok(path) => path,
        Err(code) => return code,
    };
    let asked = json!({ "snapshot": { "daemon": args.daemon, "at": args.at, "path": path } });
    told(args.output, args.place.fetch(&asked), |answer| {
        format!(
            "commit {} of `{}`, {} of memory, state {}: {} in {}",
            text(answer, "sequence"),
            text(answer, "daemon"),
            bytes(answer, "memory_bytes"),
            short(answer, "hash"),
            bytes(answer, "file_bytes"),
            text(answer, "path")
        )
    })
}

pub(super) fn restore(args: &RestoreArgs) -> u8 {
    let path = match absolute(&args.file) {
        Ok(path) => path,
        Err(code) => return code,
    };
    let budget = match args.budget.as_deref().map(parse_budget).transpose() {
        Ok(budget) => budget,
        Err(error) => {
            print_fault(&Fault::new(Code::BudgetSize, format!("--budget: {error}")));
            return exit::USAGE;
        }
    };
    let fields = match &args.into {
        Some(into) => json!({ "path": path, "into": into }),
        None => json!({
            "path": path,
            "as": args.name,
            "budget_bytes": budget,
            "needs": args.needs,
            "uses": args.uses,
        }),
    };
    let answer = fetch(&args.socket, &json!({ "restore": fields }));
    told(args.output, answer, |answer| {
        let shown = running_on(&text(answer, "restored"), answer);
        match text(answer, "sequence").as_str() {
            "-" => shown,
            sequence => format!("{shown}; that is commit {sequence}"),
        }
    })
}

pub(super) fn fork(args: &ForkArgs) -> u8 {
    let asked = json!({ "fork": { "daemon": args.daemon, "new": args.new, "at": args.at } });
    told(args.output, fetch(&args.socket, &asked), |answer| running_on(&args.new, answer))
}

fn running_on(name: &str, answer: &Value) -> String {
    let from = answer.get("from").unwrap_or(&Value::Null);
    format!(
        "daemon `{name}` is running on commit {} of `{}`, state {}",
        text(from, "sequence"),
        text(from, "daemon"),
        short(from, "hash")
    )
}

pub(super) fn revert(args: &RevertArgs) -> u8 {
    let asked = match args.to {
        Some(to) => json!({ "revert": { "daemon": args.daemon, "to": to } }),
        None => json!({ "revert": { "daemon": args.daemon, "last": args.last } }),
    };
    told(args.output, fetch(&args.socket, &asked), |answer| {
        let (to, sequence) = (text(answer, "to"), text(answer, "sequence"));
        format!("daemon `{}` is back at the state of {to}; that is commit {sequence}", args.daemon)
    })
}

pub(super) fn remove(args: &RemoveArgs) -> u8 {
    told(args.output, args.place.change(&json!({ "remove": args.daemon })), |_| {
        format!("daemon `{}` and its state are gone", args.daemon)
    })
}
