//! The journal: a log in front of tables in redb.
//!
//! A group of records is durable when it is in the log. From there records are moved into the
//! tables in large batches; loading, folding and verifying move what is left first, so that they
//! see one journal.
//!
//! The tables may fail (no space, an input/output error) while the log goes on: they are opened
//! again until that works, and commits are refused, before they are applied, when the log is half
//! full. After a failed write of the log nothing is known of what was under way: the store is
//! poisoned, everything is opened again, and the daemons begin a new incarnation on what is there.
//!
//! redb's commits are one-phase (its default): data, checksums and the switch of the commit slot go
//! out with one sync, and a torn transaction is recognised by its checksums. Two phases would
//! double the latency of a commit for protection against forged XXH3 collisions; records carry
//! BLAKE3 and are chained, so a forgery would not load.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, StorageBackend, Table, TableDefinition};

use super::backend::{Files, Traffic};
use super::base::{BaseHead, seal, unseal};
use super::chain::Chain;
use super::daemons::DaemonRow;
use super::directory::{
    Access, Directory, DirectoryFiles, FORMAT, FORMAT_PARTS, MARKER, STATE, unwritable,
};
use super::fold::FoldJob;
use super::hints::{Hint, Hints};
use super::load::visit_parts;
use super::log::Log;
use super::moving::{Mark, put_mark, put_whole};
use super::options::StoreOptions;
use super::{
    DaemonKey, DirectoryId, Durability, Entry, FaultKind, FoldDebt, ImageSink, Journal,
    JournalFault, Loaded, Synced, Tended,
};
use crate::base::error::panic_text;
use crate::base::ids::Sequence;
use crate::pure::reader::Reader;
use crate::pure::record::{Frame, HASH_BYTES};

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const DAEMONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("daemons");
/// (daemon, sequence) -> record.
pub(super) const RECORDS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("records");
/// (daemon, sequence, number) -> part of a whole state that the record of that commit ends.
pub(super) const PARTS: TableDefinition<'_, (u64, u64, u64), &[u8]> = TableDefinition::new("parts");
/// daemon -> base head.
pub(super) const BASES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bases");
/// (daemon, chunk index, sequence of the base that brought it) -> chunk.
pub(super) const CHUNKS: TableDefinition<'_, (u64, u64, u64), &[u8]> =
    TableDefinition::new("chunks");
/// (daemon, sequence) -> answer of a folded record.
pub(super) const ANSWERS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("answers");
/// crash id -> report.
pub(super) const CRASHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("crashes");
/// digest -> code of a guest.
pub(super) const CODES: TableDefinition<'_, [u8; HASH_BYTES], &[u8]> =
    TableDefinition::new("codes");

const META_KEY: &str = "directory";

/// The end of a daemon's chain.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    pub(super) chain: Chain,
    /// There are parts in the tables that belong to no commit.
    pub(super) loose: bool,
    /// First record that is kept.
    pub(super) first: u64,
    /// The record after the last one in the tables; what follows is in the log.
    pub(super) moved: u64,
    /// Bytes of records in the tables.
    pub(super) bytes: u64,
    /// Digests of the codes that made what is kept, and perhaps some that are not needed any more.
    pub(super) codes: BTreeSet<[u8; HASH_BYTES]>,
    /// The journal was opened again, and nothing was appended since.
    pub(super) reopened: bool,
    /// Why nothing may be appended or folded.
    pub(super) bad: Option<JournalFault>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) names: BTreeMap<String, DaemonRow>,
    /// The highest id that was ever given out.
    pub(super) highest: u64,
    pub(super) tails: BTreeMap<DaemonKey, Tail>,
    /// Why a name that isn't there can't be trusted to be new.
    pub(super) names_bad: Option<JournalFault>,
    /// Acknowledged groups that the log did not hold.
    pub(super) damage: Option<JournalFault>,
    /// Why no host would write to the tables: see [`Store::open_to_read`].
    pub(super) rotten: Option<JournalFault>,
    /// Bytes of a group that was never acknowledged, dropped when the log was opened.
    pub(super) torn_bytes: u64,
    /// Why nothing is appended until everything is opened again.
    pub(super) poisoned: Option<JournalFault>,
    /// Why the tables have to be opened again; the log goes on.
    pub(super) broken: Option<JournalFault>,
}

impl Inner {
    /// A daemon has committed something, or may have.
    pub(super) fn has_state(&self, daemon: DaemonKey) -> bool {
        let tail = self.tails.get(&daemon);
        tail.is_some_and(|tail| tail.chain.last.is_some() || tail.bad.is_some())
    }
}

/// The journal in a data directory.
pub struct Store {
    // Order of drop: the database before the files, with the lock of their directory.
    /// `None` while it is being opened again.
    pub(super) database: Mutex<Option<Arc<Database>>>,
    /// The file of the tables.
    pub(super) state: Mutex<Option<Arc<dyn StorageBackend>>>,
    /// Bytes of that file after it was compacted the last time.
    pub(super) compacted: AtomicU64,
    log: Mutex<Option<Arc<Log>>>,
    hints: Mutex<Option<Arc<Hints>>>,
    pub(super) inner: Mutex<Inner>,
    pub(super) job: Mutex<Option<FoldJob>>,
    /// Held by whoever appends.
    pub(super) appending: Mutex<()>,
    /// Held by whoever moves records into the tables.
    pub(super) moving: Mutex<()>,
    /// Held by whoever changes the list of daemons or codes.
    pub(super) listing: Mutex<()>,
    /// Read by whoever uses the tables, written by whoever opens them again.
    pub(super) gate: RwLock<()>,
    /// What the disk holds, only to be read, while this one is poisoned.
    pub(super) view: Mutex<Option<Arc<Self>>>,
    /// Commits have to be refused: see [`Journal::refusal`].
    pub(super) refusing: AtomicBool,
    pub(super) incarnation: AtomicU64,
    /// Number of the log's end when it was looked at last.
    pub(super) seen: AtomicU64,
    pub(super) options: StoreOptions,
    traffic: Arc<Traffic>,
    pub(super) id: DirectoryId,
    pub(super) path: PathBuf,
    pub(super) files: Box<dyn Files>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close_database();
    }
}

impl Store {
    /// Opens the data directory at `path`, or makes a new one with the id `new_id`.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] with the path: a directory that another host uses, that isn't ours, whose
    /// state is gone, of another format, or that the machine can't read or write.
    pub fn open(
        path: &Path,
        options: StoreOptions,
        new_id: DirectoryId,
    ) -> Result<Self, JournalFault> {
        match Self::open_for(path, options, new_id, Access::Write) {
            Err(fault) if unwritable(path, &fault) => {
                let Ok(store) = Self::open_for(path, options, new_id, Access::Read) else {
                    return Err(fault);
                };
                tracing::error!(%fault, "the data directory can only be read; trying again");
                store.files.write_from_now_on();
                drop(store.poison(&mut store.lock(), fault));
                Ok(store)
            }
            done => done,
        }
    }

    /// Opens a data directory that is there, on which no host runs, and changes nothing of it. What
    /// is appended all the same is gone with the process. Tables with rotten pages, which no host
    /// would write to, are opened too: what is intact can be read.
    ///
    /// # Errors
    ///
    /// As [`Store::open`]; `Directory` when there is none.
    pub fn open_to_read(path: &Path, options: StoreOptions) -> Result<Self, JournalFault> {
        let open = |options| Self::open_for(path, options, DirectoryId(0), Access::Read);
        match open(options) {
            Err(rotten) if rotten.kind == FaultKind::Corrupt && options.check_pages => {
                let unchecked = StoreOptions { check_pages: false, ..options };
                let store = open(unchecked).map_err(|_| rotten.clone())?;
                store.lock().rotten = Some(rotten);
                Ok(store)
            }
            done => done,
        }
    }

    fn open_for(
        path: &Path,
        options: StoreOptions,
        new_id: DirectoryId,
        access: Access,
    ) -> Result<Self, JournalFault> {
        let directory = Directory::lock(path, access)?;
        let traffic = Arc::<Traffic>::default();
        let (state, id) = (directory.file(STATE), directory.marker());
        let durability = options.durability;
        let reads = AtomicBool::new(access == Access::Read);
        let files = DirectoryFiles { directory, durability, traffic: traffic.clone(), reads };
        let mut store = Self::from_files(Box::new(files), options, id, new_id, traffic)
            .map_err(|fault| fault.in_file(&state))?;
        if id.is_none() {
            store.files.finish(store.id)?;
        }
        store.path = state;
        Ok(store)
    }

    /// Opens a data directory that is there already.
    ///
    /// # Errors
    ///
    /// As [`Store::open`]; `Directory` when there is none.
    pub fn open_existing(path: &Path, options: StoreOptions) -> Result<Self, JournalFault> {
        if !path.join(MARKER).is_file() && !path.join(STATE).is_file() {
            let what = "no data directory is here";
            return Err(JournalFault::new(FaultKind::Directory, what).in_file(path));
        }
        Self::open(path, options, DirectoryId(0))
    }

    /// Opens a store over any storage: how tests cut its power.
    pub(super) fn from_files(
        files: Box<dyn Files>,
        options: StoreOptions,
        expected: Option<DirectoryId>,
        new_id: DirectoryId,
        traffic: Arc<Traffic>,
    ) -> Result<Self, JournalFault> {
        let mut store = Self {
            database: Mutex::default(),
            state: Mutex::default(),
            compacted: AtomicU64::default(),
            log: Mutex::default(),
            hints: Mutex::default(),
            inner: Mutex::default(),
            job: Mutex::default(),
            appending: Mutex::default(),
            moving: Mutex::default(),
            listing: Mutex::default(),
            gate: RwLock::default(),
            view: Mutex::default(),
            refusing: AtomicBool::default(),
            incarnation: AtomicU64::new(1),
            seen: AtomicU64::default(),
            options,
            traffic,
            id: expected.unwrap_or(new_id),
            path: PathBuf::new(),
            files,
        };
        store.id = store.open_all(expected, false)?;
        Ok(store)
    }

    pub(super) fn create_tables(&self, id: DirectoryId) -> Result<(), JournalFault> {
        edge(|| {
            let write = self.begin_write()?;
            {
                let open = |error: redb::TableError| fault(&error.into());
                let mut meta = write.open_table(META).map_err(open)?;
                put_identity(&mut meta, FORMAT, id)?;
                put_mark(&mut meta, Mark::first(self.options.ring()))?;
                put_whole(&mut meta)?;
                write.open_table(DAEMONS).map_err(open)?;
                write.open_table(RECORDS).map_err(open)?;
                write.open_table(PARTS).map_err(open)?;
                write.open_table(BASES).map_err(open)?;
                write.open_table(CHUNKS).map_err(open)?;
                write.open_table(ANSWERS).map_err(open)?;
                write.open_table(CRASHES).map_err(open)?;
                write.open_table(CODES).map_err(open)?;
            }
            write.commit().map_err(|error| fault(&error.into()))
        })
    }

    /// Checks format and id; returns the id.
    pub(super) fn read_identity(
        &self,
        expected: Option<DirectoryId>,
    ) -> Result<DirectoryId, JournalFault> {
        let read = self.begin_read()?;
        let meta = read.open_table(META).map_err(|error| fault(&error.into()))?;
        let value = meta.get(META_KEY).map_err(|error| fault(&error.into()))?;
        let value = value.ok_or_else(|| JournalFault::corrupt("the store has no identity"))?;
        let mut body = Reader(
            unseal(value.value()).ok_or_else(|| JournalFault::corrupt("the identity is rotten"))?,
        );
        let format = body.u32().unwrap_or(0);
        if !(FORMAT..=FORMAT_PARTS).contains(&format) {
            let what = format!("format {format}; this host reads {FORMAT} to {FORMAT_PARTS}");
            return Err(JournalFault::new(FaultKind::Format, what));
        }
        let id = DirectoryId(body.array().map_or(0, u128::from_le_bytes));
        if expected.is_some_and(|expected| expected != id) {
            let what = format!("the store is of directory {id}, not of {}", self.id);
            return Err(JournalFault::new(FaultKind::Directory, what));
        }
        Ok(id)
    }

    /// Finds the ends of all chains in the tables.
    pub(super) fn read_inner(&self) -> Result<Inner, JournalFault> {
        let read = self.begin_read()?;
        let mut inner = Inner::default();
        self.read_daemons(&read, &mut inner)?;
        for daemon in inner.names.values().map(|row| row.key) {
            let tail = edge(|| Self::read_tail(&read, daemon))
                .unwrap_or_else(|bad| Tail { bad: Some(bad.of_daemon(daemon)), ..Tail::default() });
            inner.tails.insert(daemon, tail);
        }
        Ok(inner)
    }

    fn read_tail(read: &redb::ReadTransaction, daemon: DaemonKey) -> Result<Tail, JournalFault> {
        let bases = read.open_table(BASES).map_err(|error| fault(&error.into()))?;
        let base = bases.get(daemon.0).map_err(|error| fault(&error.into()))?;
        let base = base.map(|base| BaseHead::decode(base.value())).transpose()?;
        let records = read.open_table(RECORDS).map_err(|error| fault(&error.into()))?;
        let range = (daemon.0, 0)..=(daemon.0, u64::MAX);
        let (mut last, mut bytes) =
            (base.as_ref().map(|base| Hint { sequence: base.sequence, hash: base.hash }), 0);
        let mut codes: BTreeSet<_> = base.as_ref().map(|base| base.code).into_iter().collect();
        for entry in records.range(range).map_err(|error| fault(&error.into()))? {
            let (key, record) = entry.map_err(|error| fault(&error.into()))?;
            let (sequence, record) = (Sequence(key.value().1), record.value());
            let hash = record.last_chunk::<HASH_BYTES>().copied().unwrap_or_default();
            last = Some(Hint { sequence, hash: blake3::Hash::from_bytes(hash) });
            codes.extend(Frame::of(record).map(|frame| frame.head.code));
            bytes += record.len() as u64;
        }
        let first = base.map_or(0, |base| base.sequence.next().0);
        let moved = last.map_or(0, |last| last.sequence.next().0);
        let mut loose = false;
        visit_parts(read, (daemon.0, 0, 0)..=(daemon.0, u64::MAX, u64::MAX), |sequence, part| {
            bytes += part.len() as u64;
            loose |= last.is_none_or(|last| last.sequence < sequence);
            Ok(ControlFlow::Continue(()))
        })?;
        let chain = Chain::at(last);
        Ok(Tail { chain, loose, first, moved, bytes, codes, reopened: false, bad: None })
    }

    /// A chain that ends before what was acknowledged has lost commits.
    pub(super) fn compare_with_hint(
        hint: Option<Hint>,
        last: Option<Hint>,
    ) -> Result<(), JournalFault> {
        let Some(hint) = hint else { return Ok(()) };
        let found = last.map_or_else(|| "none".to_owned(), |last| last.sequence.to_string());
        if last.is_none_or(|last| last.sequence < hint.sequence) {
            let acked = hint.sequence;
            let what = format!("commit {acked} was acknowledged; the last one found is {found}");
            return Err(JournalFault::corrupt(what).at(hint.sequence));
        }
        if last.is_some_and(|last| last.sequence == hint.sequence && last.hash != hint.hash) {
            return Err(JournalFault::corrupt("not the acknowledged record").at(hint.sequence));
        }
        Ok(())
    }

    fn database(&self) -> Result<Arc<Database>, JournalFault> {
        lock(&self.database).clone().ok_or_else(closed)
    }

    pub(super) fn set_database(&self, database: Database) {
        *lock(&self.database) = Some(Arc::new(database));
    }

    /// redb may find rot when it closes, and panic. What is synced is synced.
    pub(super) fn close_database(&self) {
        let database = lock(&self.database).take();
        if let Err(fault) = edge(|| {
            drop(database);
            Ok(())
        }) {
            tracing::error!(%fault, "the store did not close");
        }
    }

    pub(super) fn log(&self) -> Result<Arc<Log>, JournalFault> {
        lock(&self.log).clone().ok_or_else(closed)
    }

    pub(super) fn set_log(&self, log: Log) {
        *lock(&self.log) = Some(Arc::new(log));
    }

    pub(super) fn hints(&self) -> Result<Arc<Hints>, JournalFault> {
        lock(&self.hints).clone().ok_or_else(closed)
    }

    pub(super) fn set_hints(&self, hints: Hints) {
        *lock(&self.hints) = Some(Arc::new(hints));
    }

    pub(super) fn begin_read(&self) -> Result<redb::ReadTransaction, JournalFault> {
        self.database()?.begin_read().map_err(|error| fault(&error.into()))
    }

    pub(super) fn begin_write(&self) -> Result<redb::WriteTransaction, JournalFault> {
        self.database()?.begin_write().map_err(|error| fault(&error.into()))
    }

    /// Refuses changes of a journal that is poisoned: what can only be read is changed in memory
    /// alone, and would be there again.
    pub(super) fn check_writable(&self) -> Result<(), JournalFault> {
        self.lock().poisoned.clone().map_or(Ok(()), Err)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// The directory's id.
    #[must_use]
    pub fn id(&self) -> DirectoryId {
        self.id
    }

    /// What an acknowledgement means.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.options.durability
    }

    /// Bytes written to all files, and syncs of them, since the store was opened.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.traffic.written_bytes), load(&self.traffic.syncs))
    }
}

impl Journal for Store {
    fn append(&self, entries: &[Entry<'_>]) -> Result<Synced, JournalFault> {
        self.append_group(entries)
    }

    fn durable(&self, daemon: DaemonKey) -> Option<Sequence> {
        self.lock().tails.get(&daemon)?.chain.last.map(|last| last.sequence)
    }

    fn tend(&self) -> Result<Tended, JournalFault> {
        self.tend_once()
    }

    fn compact(&self, idle: bool) -> Result<bool, JournalFault> {
        self.compact_tables(idle)
    }

    fn refusal(&self) -> Option<JournalFault> {
        if !self.refusing.load(Ordering::Acquire) {
            return None;
        }
        let inner = self.lock();
        inner.poisoned.clone().or_else(|| inner.broken.clone())
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    fn part_bytes(&self) -> usize {
        self.options.part_bytes
    }

    fn fold_debt(&self) -> FoldDebt {
        self.debt()
    }

    fn load(
        &self,
        daemon: DaemonKey,
        at: Option<Sequence>,
        sink: &mut dyn ImageSink,
    ) -> Result<Option<Loaded>, JournalFault> {
        self.load_all(daemon, at, sink).map_err(|fault| {
            // A commit that there is not is no fault of a file.
            let is_asked = fault.kind == FaultKind::NoCommit;
            let fault = self.named(fault.of_daemon(daemon));
            if is_asked { fault } else { fault.in_file(&self.path) }
        })
    }
}

/// Says which format the tables have, and whose they are.
pub(super) fn put_identity(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    format: u32,
    id: DirectoryId,
) -> Result<(), JournalFault> {
    let mut body = format.to_le_bytes().to_vec();
    body.extend_from_slice(&id.0.to_le_bytes());
    meta.insert(META_KEY, seal(&body).as_slice()).map_err(|error| fault(&error.into()))?;
    Ok(())
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn closed() -> JournalFault {
    JournalFault::new(FaultKind::Poisoned, "the store is closed")
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// True while a panic of this thread would become an error of the journal: nothing for a terminal.
#[must_use]
pub fn catches_panics() -> bool {
    CATCHING.get()
}

/// Runs something that calls redb: a panic over rotten bytes becomes an error.
pub(super) fn edge<T>(work: impl FnOnce() -> Result<T, JournalFault>) -> Result<T, JournalFault> {
    let outer = CATCHING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    done.unwrap_or_else(|panic| {
        let text = panic_text(panic.as_ref());
        Err(JournalFault::corrupt(format!("reading or writing the store panicked: {text}")))
    })
}

/// What an error of redb means.
pub(super) fn fault(error: &redb::Error) -> JournalFault {
    match error {
        redb::Error::Io(error) => super::backend::io_fault(error),
        redb::Error::Corrupted(what) => {
            tracing::debug!(what, "redb");
            JournalFault::corrupt(
                "the tables are damaged: `host verify` says which daemons are whole, `host snapshot \
                 DAEMON --data DIR` takes each of them out, and `host restore` starts it in a new \
                 directory",
            )
        }
        redb::Error::UpgradeRequired(version) => {
            JournalFault::new(FaultKind::Format, format!("file format {version} of redb"))
        }
        redb::Error::DatabaseAlreadyOpen => {
            JournalFault::new(FaultKind::Locked, "another process has the store open")
        }
        redb::Error::PreviousIo => JournalFault::new(FaultKind::Poisoned, error.to_string()),
        redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_) => JournalFault::corrupt(error.to_string()),
        _ => JournalFault::new(FaultKind::Io, error.to_string()),
    }
}
