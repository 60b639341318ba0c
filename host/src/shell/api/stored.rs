//! The commands that a data directory answers while no host uses it: the same questions, the same
//! answers.

use std::path::Path;

use serde_json::{Value, json};

use super::crashes::{crash_json, read_id};
use super::lineage::{Fields, commits_json, time, write_snapshot};
use super::output::output_json;
use crate::base::error::{Code, Fault, printable};
use crate::base::ids::Sequence;
use crate::base::limits::{COMMITS_LISTED_MAX, CRASH_REPORTS_MAX};
use crate::mechanisms::journal::{DaemonRow, Journal, Nowhere, Origin, Store};
use crate::pure::kept_setup::KeptSetup;
use crate::pure::request::fault_json;
use crate::pure::setting::is_name;
use crate::shell::files::Target;
use crate::tree::{KeptCommits, crash_of, last_crashes};

type Answering = fn(&Store, Fields) -> Result<Value, Fault>;

/// The commands that need no running host.
const STORED: &[(&str, Answering)] = &[
    ("ps", |store, _options| Ok(ps(store))),
    ("commits", commits),
    ("crashes", crashes),
    ("snapshot", snapshot),
    ("output", output),
    ("rename", rename),
];

/// Answers one command.
///
/// # Errors
///
/// `E_DAEMON_UNKNOWN`, `E_NO_COMMIT`, `E_NO_CRASH`, `E_FILE`, and the journal's.
pub fn answer_stored(store: &Store, asked: &Value) -> Result<Value, Fault> {
    if let Some(name) = asked.get("remove").and_then(Value::as_str) {
        row(store, name)?;
        store.remove_daemon(name).map_err(|fault| Fault::from(&fault))?;
        return Ok(json!({ "removed": name }));
    }
    if let Some(id) = asked.get("crash").and_then(Value::as_str) {
        return Ok(json!({ "crash": crash_json(&crash_of(store, read_id(id)?)?) }));
    }
    let found = STORED.iter().find_map(|(name, answer)| Some((*name, answer, asked.get(*name)?)));
    let Some((name, answer, fields)) = found else {
        let message = "this needs a running host: start one with `host run`";
        return Err(Fault::new(Code::Request, message));
    };
    answer(store, Fields::new(name, fields.clone())?)
}

fn row(store: &Store, name: &str) -> Result<DaemonRow, Fault> {
    store.find_daemon(name).ok_or_else(|| {
        let names: Vec<String> = store.daemons().into_iter().map(|(name, _)| name).collect();
        let known = printable(&names.join(", "), 300);
        let message =
            format!("no daemon `{}` has state here; there are {known}", printable(name, 64));
        Fault::new(Code::DaemonUnknown, message)
    })
}

fn ps(store: &Store) -> Value {
    let daemons: Vec<Value> =
        store.daemons().iter().map(|(name, row)| daemon_json(store, name, *row)).collect();
    json!({ "stored": true, "daemons": daemons })
}

/// A daemon that does not run.
fn daemon_json(store: &Store, name: &str, row: DaemonRow) -> Value {
    let setup = store.setup(row.key).ok().flatten();
    let setup = setup.and_then(|bytes| KeptSetup::decode(&bytes));
    let mut daemon = json!({
        "kind": "daemon",
        "name": name,
        "origin": match row.origin {
            Origin::Init => "file",
            Origin::Copy => "copy",
        },
        "budget_bytes": row.budget_bytes,
        "needs": setup.as_ref().map(|setup| &setup.needs),
        "uses": setup.as_ref().map(|setup| &setup.uses),
    });
    let more = match store.load(row.key, None, &mut Nowhere) {
        Ok(Some(loaded)) => json!({
            "state": "stopped",
            "sequence": loaded.sequence,
            "generation": loaded.generation,
            "time": time(loaded.unix_nanos),
            "memory_bytes": loaded.memory_bytes,
            "code": blake3::Hash::from_bytes(loaded.code).to_hex().as_str(),
        }),
        Ok(None) => json!({ "state": "empty" }),
        Err(fault) => json!({ "state": "damaged", "damage": fault_json(&Fault::from(&fault)) }),
    };
    if let (Some(daemon), Value::Object(more)) = (daemon.as_object_mut(), more) {
        daemon.extend(more);
    }
    daemon
}

fn commits(store: &Store, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.text("daemon")?;
    let count = fields.number("last")?.unwrap_or(COMMITS_LISTED_MAX).min(COMMITS_LISTED_MAX);
    fields.done()?;
    let kept = KeptCommits::of(store, row(store, &daemon)?.key, count)?;
    Ok(commits_json(&daemon, &kept))
}

fn crashes(store: &Store, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.optional_text("daemon")?;
    let count = fields.number("last")?.unwrap_or(CRASH_REPORTS_MAX).min(CRASH_REPORTS_MAX);
    fields.done()?;
    let key = daemon.as_deref().map(|name| row(store, name)).transpose()?.map(|row| row.key.0);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let reports =
        last_crashes(store, count, |report| key.is_none_or(|key| report.daemon_key == key))?;
    let crashes: Vec<Value> = reports.iter().map(crash_json).collect();
    Ok(json!({ "daemon": daemon, "kept": true, "crashes": crashes, "thread_deaths": [] }))
}

fn snapshot(store: &Store, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.text("daemon")?;
    let at = fields.number("at")?.map(Sequence);
    let path = fields.text("path")?;
    fields.done()?;
    let target = target(&path)?;
    let row = row(store, &daemon)?;
    let fault = |fault| Fault::from(&fault);
    let checkpoint = store.checkpoint(&daemon, row.key, at).map_err(fault)?;
    let code = store.code(checkpoint.code).map_err(fault)?.ok_or_else(|| {
        let digest = blake3::Hash::from_bytes(checkpoint.code).to_hex();
        Fault::new(Code::NoCommit, format!("the code {digest} that made it is not kept"))
    })?;
    write_snapshot(&target, &checkpoint, &code)
}

/// A place for a file. The data directory is known by its marker: without one it is not opened.
fn target(path: &str) -> Result<Target, Fault> {
    Target::at(Path::new(path), None)
}

fn output(store: &Store, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.text("daemon")?;
    let path = fields.optional_text("path")?;
    fields.done()?;
    let target = path.as_deref().map(target).transpose()?;
    let row = row(store, &daemon)?;
    let checkpoint =
        store.checkpoint(&daemon, row.key, None).map_err(|fault| Fault::from(&fault))?;
    let shown = checkpoint.output().and_then(|range| checkpoint.memory.get(range));
    output_json(&daemon, shown.map(|bytes| (checkpoint.sequence, bytes)), target.as_ref())
}

fn rename(store: &Store, mut fields: Fields) -> Result<Value, Fault> {
    let (daemon, new) = (fields.text("daemon")?, fields.text("new")?);
    fields.done()?;
    if !is_name(&new) {
        let new = printable(&new, 64);
        let message = format!("`{new}` is not a daemon's name: 1 to 64 of a-z, 0-9, - and _");
        return Err(Fault::new(Code::Name, message));
    }
    row(store, &daemon)?;
    if store.find_daemon(&new).is_some() {
        let message = format!("there is a daemon `{new}` already");
        return Err(Fault::new(Code::DaemonExists, message));
    }
    store.rename_daemon(&daemon, &new).map_err(|fault| Fault::from(&fault))?;
    Ok(json!({ "renamed": daemon, "new": new }))
}
