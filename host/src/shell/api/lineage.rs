//! The commands about states: the commits that are kept, copies, and the way back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::base::limits::{BUDGET_MAX_BYTES, MODULE_BYTES_MAX};
use crate::base::vitals::Vitals;
use crate::mechanisms::journal::CommitLine;
use crate::mechanisms::sandbox::{Guest, Sandbox};
use crate::pure::checkpoint::Checkpoint;
use crate::shell::health::Health;
use crate::tree::{DaemonOptions, RevertTo, Root};

/// Commits that one answer lists, at most.
const COMMITS_MAX: u64 = 10_000;

/// Bytes of a snapshot's file: the largest state, incompressible, with its code.
const SNAPSHOT_BYTES_MAX: u64 = 2 * BUDGET_MAX_BYTES as u64 + MODULE_BYTES_MAX as u64;

/// What the commands need of the host.
#[derive(Debug)]
pub struct Served {
    /// The daemons.
    pub root: Root,
    /// Makes guests of the code in journals and snapshots.
    pub sandbox: Sandbox,
    /// Where threads show that they turn, and the stop latch.
    pub vitals: Arc<Vitals>,
    /// What the watchdog saw.
    pub health: Arc<Health>,
    /// The service of each daemon that has one, by the daemon's name.
    pub services: BTreeMap<String, String>,
    /// Commands and requests that are being answered.
    pub attending: Arc<AtomicUsize>,
    /// True when no new clients are to be taken, because the host stops.
    pub closing: watch::Sender<bool>,
}

impl Served {
    /// How the host is, and the status that HTTP has for it.
    pub(in crate::shell) fn look(&self) -> (Value, u16) {
        self.health.look(&self.root, &self.vitals, &self.services)
    }
}

/// The fields of one command, each taken once.
pub(super) struct Fields {
    command: &'static str,
    fields: Map<String, Value>,
}

impl Fields {
    pub(super) fn new(command: &'static str, fields: Value) -> Result<Self, Fault> {
        match fields {
            Value::Object(fields) => Ok(Self { command, fields }),
            _ => Err(Fault::new(Code::Request, format!("`{command}` takes an object"))),
        }
    }

    fn wrong(&self, name: &str, what: &str) -> Fault {
        Fault::new(Code::Request, format!("`{}`: `{name}` {what}", self.command))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, Fault> {
        match self.fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(self.wrong(name, "must be a text")),
        }
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a text")),
        }
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Fault> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| self.wrong(name, "must be a whole number, not negative")),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Fault> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// Refuses what is left: a mistyped field must not pass in silence.
    pub(super) fn done(self) -> Result<(), Fault> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.wrong(name, "is not known")),
        }
    }
}

pub(super) fn commits(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.text("daemon")?;
    let count = fields.number("last")?.unwrap_or(COMMITS_MAX).min(COMMITS_MAX);
    fields.done()?;
    let kept = served.root.commits(&daemon, count)?;
    let guest = served.root.guest(&daemon)?;
    let lines = kept.commits.iter().map(|line| commit_json(line, &guest));
    Ok(json!({
        "daemon": daemon,
        "oldest": kept.oldest,
        "commits": lines.collect::<Vec<_>>(),
    }))
}

/// A commit, with names where the running code is the one that made it.
fn commit_json(line: &CommitLine, guest: &Guest) -> Value {
    let head = &line.head;
    let same_code = *guest.facts().digest.as_bytes() == head.code;
    let contract = head.contract.filter(|_| same_code).and_then(|index| {
        guest.contracts().get(usize::try_from(index).ok()?).map(|contract| &contract.name)
    });
    json!({
        "sequence": head.sequence,
        "time": time(head.unix_nanos),
        "kind": head.kind.as_str(),
        "request": (head.attempts > 0).then(|| head.request.to_string()),
        "contract": contract,
        "outcome": "committed",
        "attempts": head.attempts,
        "keyed": line.keyed,
        "reverted_to": head.reverted_to(),
        "cards_changed": line.cards,
        "bytes_changed": line.changed_bytes,
        "record_bytes": line.record_bytes,
        "memory_bytes": head.memory_bytes,
        "generation": head.generation,
        "code": blake3::Hash::from_bytes(head.code).to_hex().as_str(),
        "hash": line.hash.to_hex().as_str(),
    })
}

/// RFC 3339, in UTC.
pub(super) fn time(unix_nanos: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_nanos(unix_nanos)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_micros(time).to_string()
}

pub(super) fn snapshot(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.text("daemon")?;
    let at = fields.number("at")?.map(Sequence);
    let path = fields.text("path")?;
    fields.done()?;
    let (checkpoint, file) = served.root.snapshot(&daemon, at)?;
    write_whole(Path::new(&path), &file)?;
    let mut answer = checkpoint_json(&checkpoint);
    if let Value::Object(fields) = &mut answer {
        fields.insert("path".to_owned(), json!(path));
        fields.insert("file_bytes".to_owned(), json!(file.len()));
    }
    Ok(answer)
}

/// What a copy is a copy of.
fn checkpoint_json(checkpoint: &Checkpoint) -> Value {
    json!({
        "daemon": checkpoint.daemon,
        "sequence": checkpoint.sequence,
        "time": time(checkpoint.unix_nanos),
        "memory_bytes": checkpoint.memory.len(),
        "code": blake3::Hash::from_bytes(checkpoint.code).to_hex().as_str(),
        "hash": checkpoint.hash().to_hex().as_str(),
    })
}

pub(super) fn restore(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let path = fields.text("path")?;
    let name = fields.text("as")?;
    let budget = fields.number("budget_bytes")?;
    fields.done()?;
    let file = read_whole(Path::new(&path))?;
    let budget = match budget {
        Some(budget) => usize::try_from(budget).unwrap_or(usize::MAX),
        None => crate::base::limits::BUDGET_DEFAULT_BYTES,
    };
    let options = DaemonOptions::new(name.clone(), budget);
    let checkpoint =
        served.root.restore(&file, options, &|code| deploy_stored(&served.sandbox, code))?;
    Ok(json!({ "restored": name, "from": checkpoint_json(&checkpoint) }))
}

pub(super) fn fork(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let (daemon, new) = (fields.text("daemon")?, fields.text("new")?);
    let at = fields.number("at")?.map(Sequence);
    fields.done()?;
    let deploy = |code: &[u8]| deploy_stored(&served.sandbox, code);
    let checkpoint = served.root.fork(&daemon, &new, at, &deploy)?;
    Ok(json!({ "forked": new, "from": checkpoint_json(&checkpoint) }))
}

pub(super) fn revert(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.text("daemon")?;
    let to = match (fields.number("to")?, fields.number("last")?) {
        (Some(to), None) => RevertTo::Commit(Sequence(to)),
        (None, Some(last)) => RevertTo::Last(last),
        _ => return Err(fields.wrong("to", "or `last` must be there, not both")),
    };
    fields.done()?;
    let (to, sequence) = served.root.revert(&daemon, to)?;
    Ok(json!({ "reverted": daemon, "to": to, "sequence": sequence }))
}

/// Makes a guest of code that the journal or a snapshot held.
///
/// # Errors
///
/// Why it can't be deployed.
pub fn deploy_stored(sandbox: &Sandbox, code: &[u8]) -> Result<std::sync::Arc<Guest>, Fault> {
    sandbox.deploy(code).map_err(|error| Fault::from(&error))
}

fn read_whole(path: &Path) -> Result<Vec<u8>, Fault> {
    let failed = |error: std::io::Error| file_fault(path, &error);
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > SNAPSHOT_BYTES_MAX {
        let message = format!("{}: too large for a snapshot", path.display());
        return Err(Fault::new(Code::Snapshot, message));
    }
    fs::read(path).map_err(failed)
}

/// Writes a file so that its name is never seen with half of its content.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let failed = |error: std::io::Error| file_fault(path, &error);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = Path::new(&temporary);
    // A snapshot is as private as the state in it, and its file another one than any that is there.
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let written = is_gone(fs::remove_file(temporary))
        .and_then(|()| options.open(temporary))
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(temporary, path));
    if written.is_err() {
        // It may never have been made; the first error says what matters.
        drop(fs::remove_file(temporary));
    }
    written.map_err(failed)
}

fn is_gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn file_fault(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Code::File, format!("{}: {error}", path.display()))
}
