//! The commands about states: the commits that are kept, copies, and the way back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::base::limits::{COMMITS_LISTED_MAX, SNAPSHOT_BYTES_MAX};
use crate::base::vitals::Vitals;
use crate::mechanisms::journal::{CommitLine, RanCode};
use crate::mechanisms::sandbox::{Guest, Sandbox};
use crate::pure::checkpoint::{Checkpoint, Facts, encode_snapshot_to};
use crate::shell::files::{Target, Unread};
use crate::shell::health::Health;
use crate::tree::{DaemonOptions, Depends, KeptCommits, Lent, RevertTo, Root};

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
    /// The file that each daemon was started with, by the daemon's name; copies have none.
    pub files: BTreeMap<String, PathBuf>,
    /// Where the state is, and whether there was none when the host started; none in memory only.
    pub data: Option<(PathBuf, bool)>,
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

    /// A place for a file that a client names.
    ///
    /// # Errors
    ///
    /// As [`Target::at`].
    pub(super) fn target(&self, path: &str) -> Result<Target, Fault> {
        Target::at(Path::new(path), self.data.as_ref().map(|(data, _)| data.as_path()))
    }

    /// Reads a file that a client names, when there is room for it; that is taken for as long as
    /// the second part lives.
    ///
    /// # Errors
    ///
    /// As [`Unread::open`] and [`Unread::read`]; `E_BUDGET`.
    pub(super) fn read(
        &self,
        path: &Path,
        most: usize,
        over: Code,
    ) -> Result<(Vec<u8>, Lent<'_>), Fault> {
        let file = Unread::open(path, most, over)?;
        let lent = self.root.lend(file.bytes())?;
        Ok((file.read()?, lent))
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

    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, Fault> {
        let texts = match self.fields.remove(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(texts)) => {
                texts.iter().map(|text| text.as_str().map(str::to_owned)).collect()
            }
            Some(_) => None,
        };
        texts.ok_or_else(|| self.wrong(name, "must be a list of texts"))
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
    let count = fields.number("last")?.unwrap_or(COMMITS_LISTED_MAX).min(COMMITS_LISTED_MAX);
    fields.done()?;
    let kept = served.root.commits(&daemon, count)?;
    Ok(commits_json(&daemon, &kept))
}

/// The commits of a daemon that are kept.
pub(super) fn commits_json(daemon: &str, kept: &KeptCommits) -> Value {
    let lines = kept.commits.iter().map(|line| commit_json(line, &kept.codes));
    json!({
        "daemon": daemon,
        "oldest": kept.oldest,
        "own": kept.own,
        "commits": lines.collect::<Vec<_>>(),
    })
}

/// A commit, with the contract's name where the code that made it is known.
fn commit_json(line: &CommitLine, codes: &[RanCode]) -> Value {
    let head = &line.head;
    let code = codes.iter().find(|code| code.digest == head.code);
    let contract =
        head.contract.and_then(|index| code?.contracts.get(usize::try_from(index).ok()?));
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
    // Before the state is copied.
    let target = served.target(&path)?;
    let lent = served.root.lend_for(&daemon, at)?;
    let (checkpoint, code) = served.root.checkpoint_with_code(&daemon, at)?;
    let answer = write_snapshot(&target, &checkpoint, &code);
    drop(lent);
    answer
}

/// Writes a snapshot's file, piece by piece, and answers what is in it.
pub(super) fn write_snapshot(
    target: &Target,
    checkpoint: &Checkpoint,
    code: &[u8],
) -> Result<Value, Fault> {
    let mut file_bytes = 0_u64;
    target.write(|file| {
        encode_snapshot_to(checkpoint, code, |piece| {
            file_bytes += piece.len() as u64;
            file.write_all(piece)
        })
    })?;
    let mut answer = checkpoint_json(&checkpoint.facts());
    if let Value::Object(fields) = &mut answer {
        fields.insert("path".to_owned(), json!(target.path()));
        fields.insert("file_bytes".to_owned(), json!(file_bytes));
    }
    Ok(answer)
}

/// What a copy is a copy of.
pub(super) fn checkpoint_json(checkpoint: &Facts) -> Value {
    json!({
        "daemon": checkpoint.daemon,
        "sequence": checkpoint.sequence,
        "time": time(checkpoint.unix_nanos),
        "memory_bytes": checkpoint.memory_bytes,
        "code": blake3::Hash::from_bytes(checkpoint.code).to_hex().as_str(),
        "hash": checkpoint.hash.to_hex().as_str(),
    })
}

pub(super) fn restore(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let path = fields.text("path")?;
    let read = || served.read(Path::new(&path), SNAPSHOT_BYTES_MAX, Code::Snapshot);
    if let Some(name) = fields.optional_text("into")? {
        fields.done()?;
        let (file, _lent) = read()?;
        let (facts, sequence) = served.root.restore_into(&name, &file)?;
        let from = checkpoint_json(&facts);
        return Ok(json!({ "restored": name, "from": from, "sequence": sequence }));
    }
    let name = fields.text("as")?;
    let budget = fields.number("budget_bytes")?;
    let depends = Depends { needs: fields.texts("needs")?, uses: fields.texts("uses")? };
    fields.done()?;
    let (file, _lent) = read()?;
    let budget = match budget {
        Some(budget) => usize::try_from(budget).unwrap_or(usize::MAX),
        None => crate::base::limits::BUDGET_DEFAULT_BYTES,
    };
    let options = DaemonOptions::new(name.clone(), budget);
    let deploy = |code: &[u8]| deploy_stored(&served.sandbox, code, budget);
    let checkpoint = served.root.restore_using(&file, options, &depends, &deploy)?;
    Ok(json!({ "restored": name, "from": checkpoint_json(&checkpoint.facts()) }))
}

pub(super) fn fork(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let (daemon, new) = (fields.text("daemon")?, fields.text("new")?);
    let at = fields.number("at")?.map(Sequence);
    fields.done()?;
    let budget = served.root.budget(&daemon)?;
    let deploy = |code: &[u8]| deploy_stored(&served.sandbox, code, budget);
    let checkpoint = served.root.fork(&daemon, &new, at, &deploy)?;
    Ok(json!({ "forked": new, "from": checkpoint_json(&checkpoint.facts()) }))
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

/// Makes a guest of code that the journal or a snapshot held, for a daemon of this budget.
///
/// # Errors
///
/// Why it can't be deployed.
pub fn deploy_stored(
    sandbox: &Sandbox,
    code: &[u8],
    budget_bytes: usize,
) -> Result<Arc<Guest>, Fault> {
    sandbox.deploy_within(code, budget_bytes).map_err(|error| Fault::from(&error))
}
