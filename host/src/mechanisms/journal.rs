//! The journal: the durable record of all daemons' commits.
//!
//! ```text
//!  daemon ---- record ----> Committer ---- group ----> Journal::append ----> one sync
//!         <-- CommitReceipt --            <-- Synced --
//! ```
//!
//! Invariants:
//!
//! * A [`CommitReceipt`] exists only for a commit at or below a position that a sync has confirmed.
//! * A daemon's records are a chain without gaps: each names the checksum of the one before.
//! * After a failed append nothing is appended until the journal was opened again and read.
//! * What was acknowledged is either loaded again, or loading fails and says so.
//! * Base images are read back and compared before the records that they replace are deleted.

mod appending;
mod backend;
mod base;
mod chain;
mod checkpoint;
mod codes;
mod committer;
mod compact;
mod crashes;
mod daemons;
mod directory;
mod fold;
mod hints;
mod load;
mod log;
mod moving;
mod opening;
mod options;
mod overlay;
mod setups;
mod store;
#[cfg(test)]
mod testing;
mod verify;
mod view;

use std::path::PathBuf;

use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::pure::keys::KeptAnswer;

pub use checkpoint::CommitLine;
pub use committer::{Committer, Metrics, OnSynced, Submission, SubmitError, Submitter};
pub use daemons::{DaemonRow, Origin};
pub use directory::{DirectoryId, MARKER};
pub use options::StoreOptions;
pub use setups::RanCode;
pub use store::{Store, catches_panics};
pub use verify::{DaemonReport, Nowhere, Report};

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// The commit survives the end of the process and of the machine: it was synced.
    #[default]
    Fsync,
    /// The commit survives the end of the process. After a power cut the store may be unreadable.
    Os,
}

impl Durability {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        }
    }
}

/// A daemon's id in its data directory; never given out twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DaemonKey(pub u64);

impl std::fmt::Display for DaemonKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What kind of failure; decides the error code and what to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// No space: free some, then open again. `E_STORE_FULL`
    Full,
    /// The machine refused to read, write or sync. `E_STORE_IO`
    Io,
    /// Bytes are not what was written, or acknowledged commits are missing. `E_STORE_CORRUPT`
    Corrupt,
    /// An earlier append failed; open again. `E_STORE_POISONED`
    Poisoned,
    /// Another format version. `E_FORMAT`
    Format,
    /// Another host uses the directory. `E_DATA_DIR_LOCKED`
    Locked,
    /// Not a data directory, another one's, or one whose state is gone. `E_DATA_DIR`
    Directory,
    /// Whoever called sent something that doesn't continue the chain. `E_HOST_BUG`
    Misuse,
    /// No such commit, or not any more. `E_NO_COMMIT`
    NoCommit,
    /// The images refused what was loaded: a budget that is too small. `E_BUDGET`
    Sink,
}

impl FaultKind {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Full => Code::StoreFull,
            Self::Io => Code::StoreIo,
            Self::Corrupt => Code::StoreCorrupt,
            Self::Poisoned => Code::StorePoisoned,
            Self::Format => Code::Format,
            Self::Locked => Code::DataDirLocked,
            Self::Directory => Code::DataDir,
            Self::Misuse => Code::HostBug,
            Self::NoCommit => Code::NoCommit,
            Self::Sink => Code::Budget,
        }
    }
}

/// A failure of the journal, with all that is known of its place.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}{}{}{what}", Place("", self.file.as_ref().map(|file| file.display())),
    Place("daemon ", self.whose()), Place("commit ", self.sequence))]
pub struct JournalFault {
    /// Its kind.
    pub kind: FaultKind,
    /// What happened.
    pub what: String,
    /// In which file.
    pub file: Option<PathBuf>,
    /// Of which daemon.
    pub daemon: Option<DaemonKey>,
    /// What people call it.
    pub name: Option<String>,
    /// At which commit.
    pub sequence: Option<Sequence>,
}

/// `word value: ` when there is a value.
struct Place<T>(&'static str, Option<T>);

impl<T: std::fmt::Display> std::fmt::Display for Place<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.1 {
            Some(value) => write!(f, "{}{value}: ", self.0),
            None => Ok(()),
        }
    }
}

impl From<&JournalFault> for Fault {
    fn from(fault: &JournalFault) -> Self {
        Self::new(fault.kind.code(), fault.to_string())
    }
}

impl JournalFault {
    /// The append was tried, so that its outcome is unknown until the journal is opened again.
    #[must_use]
    pub fn unknown(&self) -> bool {
        !matches!(self.kind, FaultKind::Poisoned | FaultKind::Misuse | FaultKind::Directory)
    }

    /// Nothing was attempted: the journal is closed, because the host stops.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(FaultKind::Poisoned, "the journal is closed")
    }

    pub(in crate::mechanisms) fn new(kind: FaultKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), file: None, daemon: None, name: None, sequence: None }
    }

    pub(in crate::mechanisms) fn no_commit(what: impl Into<String>) -> Self {
        Self::new(FaultKind::NoCommit, what)
    }

    pub(in crate::mechanisms) fn corrupt(what: impl Into<String>) -> Self {
        Self::new(FaultKind::Corrupt, what)
    }

    pub(in crate::mechanisms) fn of_daemon(mut self, daemon: DaemonKey) -> Self {
        self.daemon = self.daemon.or(Some(daemon));
        self
    }

    /// The daemon's name, or its number where it has none.
    fn whose(&self) -> Option<String> {
        let named = self.name.as_ref().map(|name| format!("`{name}`"));
        named.or_else(|| self.daemon.map(|daemon| daemon.to_string()))
    }

    pub(in crate::mechanisms) fn at(mut self, sequence: Sequence) -> Self {
        self.sequence = self.sequence.or(Some(sequence));
        self
    }

    pub(in crate::mechanisms) fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = self.file.or_else(|| Some(file.into()));
        self
    }
}

/// Proof that one append was made durable; what receipts are made of.
#[derive(Debug)]
pub struct Synced {
    _only_from_a_sync: (),
}

impl Synced {
    /// Only an implementation of [`Journal::append`] may call this, after its sync.
    pub(in crate::mechanisms) fn after_sync() -> Self {
        Self { _only_from_a_sync: () }
    }
}

/// A commit is durable: from here on its answer may leave the host.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "whatever waited for this commit can go"]
pub struct CommitReceipt {
    daemon: DaemonKey,
    sequence: Sequence,
}

impl CommitReceipt {
    /// The daemon.
    #[must_use]
    pub fn daemon(&self) -> DaemonKey {
        self.daemon
    }

    /// The commit; all before it are durable too.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}

/// A record on its way into the journal.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Whose.
    pub daemon: DaemonKey,
    /// Which commit.
    pub sequence: Sequence,
    /// The record.
    pub record: &'a [u8],
}

/// Why images can't take what is loaded.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// Where a loaded state goes.
///
/// The state begins empty: no memory, no controls. Bytes that were never written are zero. What a
/// later commit replaces whole is not told: its controls may have another shape, of other code.
pub trait ImageSink {
    /// Makes everything zero: what follows is a whole state.
    ///
    /// # Errors
    ///
    /// [`SinkError`] ends the loading, here and in the other methods.
    fn clear(&mut self) -> Result<(), SinkError>;

    /// Sets the size of the guest's memory. Bytes beyond it are zero from now on.
    ///
    /// # Errors
    ///
    /// A size over the budget.
    fn resize(&mut self, memory_bytes: u64) -> Result<(), SinkError>;

    /// Writes into the guest's memory, inside its size.
    ///
    /// # Errors
    ///
    /// A range outside.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError>;

    /// Sets the state area of a control memory.
    ///
    /// # Errors
    ///
    /// Another shape.
    fn control(&mut self, module: usize, state: &[u8]) -> Result<(), SinkError>;

    /// An answer kept for an idempotency key, oldest first.
    fn answer(&mut self, key: &str, answer: KeptAnswer) {
        drop((key, answer));
    }

    /// The answers of `first` and later commits, among those told so far, are void.
    fn void_answers(&mut self, first: Sequence) {
        let _ = first;
    }
}

/// The end of what was loaded: where the next record continues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// The last commit.
    pub sequence: Sequence,
    /// Its record's checksum.
    pub hash: blake3::Hash,
    /// Digest of the guest's code.
    pub code: [u8; 32],
    /// Generation of the instance that made it; the next one must be larger.
    pub generation: u64,
    /// Time of the commit.
    pub unix_nanos: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Sequence of the base image: no earlier commit can be loaded.
    pub base: Option<Sequence>,
    /// Records applied after the base.
    pub records: u64,
    /// Bytes of those.
    pub record_bytes: u64,
}

/// What moving and folding have left to do, over all daemons.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FoldDebt {
    /// Records that could be moved into the tables or folded now.
    pub records: u64,
    /// Bytes of all records that are not folded.
    pub bytes: u64,
}

/// What is left to do beside appending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tended {
    /// More, at once.
    Busy,
    /// What failed was opened again. Whether it works now the next step shows.
    Opened,
    /// Something, if nothing is appended for a while.
    Waiting,
    /// Nothing, until the next append.
    Idle,
}

/// The durable record of commits.
pub trait Journal: Send + Sync + std::fmt::Debug {
    /// Makes `entries` durable, all or none, in order.
    ///
    /// # Errors
    ///
    /// [`JournalFault`]. Whether the entries are durable is then unknown, and every later append
    /// fails until the journal is opened again; but after [`FaultKind::Misuse`] none is.
    fn append(&self, entries: &[Entry<'_>]) -> Result<Synced, JournalFault>;

    /// The last commit of a daemon that is known to be durable.
    fn durable(&self, daemon: DaemonKey) -> Option<Sequence>;

    /// One bounded step of what has to be done beside appending: moving records from the log into
    /// the tables, folding, and opening again what has failed. Not for the thread that appends.
    ///
    /// # Errors
    ///
    /// [`JournalFault`]: try again later. A daemon that can't be folded is left alone until the
    /// journal is opened again, with all its records.
    fn tend(&self) -> Result<Tended, JournalFault>;

    /// Gives back space that isn't needed, when there is much; nothing else is to do when `idle`.
    /// May take long, in which only the tables wait. True when it did something.
    ///
    /// # Errors
    ///
    /// [`JournalFault`]: the tables have to be opened again.
    fn compact(&self, idle: bool) -> Result<bool, JournalFault>;

    /// Why a transaction that writes must be refused before it runs: its commit would be. Cheap.
    fn refusal(&self) -> Option<JournalFault>;

    /// Grows when the journal was opened again after a failed append. Until a daemon has loaded
    /// its state once more, its memory may hold commits that are gone.
    fn incarnation(&self) -> u64;

    /// Bytes of a whole state that one record should hold: see [`crate::pure::record::Part`].
    fn part_bytes(&self) -> usize;

    /// What moving and folding have left to do.
    fn fold_debt(&self) -> FoldDebt;

    /// Loads a daemon's state: its last commit, or an earlier one `at`. `None` for a daemon that
    /// has no commit.
    ///
    /// # Errors
    ///
    /// [`JournalFault`], for this daemon only.
    fn load(
        &self,
        daemon: DaemonKey,
        at: Option<Sequence>,
        sink: &mut dyn ImageSink,
    ) -> Result<Option<Loaded>, JournalFault>;
}
