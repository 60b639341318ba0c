//! The journal on redb: one file, one write transaction and one sync per group.
//!
//! Commits are one-phase (redb's default): data, checksums and the switch of the commit slot go out
//! with one sync, and a torn transaction is recognised by its checksums. Two phases would double
//! the latency of a commit for protection against forged XXH3 collisions; records carry BLAKE3 and
//! are chained, so a forgery would not load.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, Database, ReadableDatabase, StorageBackend, TableDefinition};

use super::backend::{StoreFile, Traffic};
use super::base::{BaseHead, seal, unseal};
use super::daemons::DaemonRow;
use super::directory::{Directory, FORMAT, STATE};
use super::fold::FoldJob;
use super::hints::{Hint, Hints};
use super::{
    DaemonKey, DirectoryId, Durability, Entry, FaultKind, FoldDebt, ImageSink, Journal,
    JournalFault, Loaded, Synced,
};
use crate::base::ids::Sequence;
use crate::pure::reader::Reader;
use crate::pure::record::{Frame, HASH_BYTES};

/// Bytes of redb's cache by default: the upper levels of the tree and the pages of a group.
const CACHE_BYTES_DEFAULT: usize = 16 << 20;

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const DAEMONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("daemons");
/// (daemon, sequence) -> record.
pub(super) const RECORDS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("records");
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

/// How to open a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Bytes of redb's cache.
    pub cache_bytes: usize,
    /// Compare the checksums of every page before the first append, so that nothing is written
    /// into a tree that is rotten. Reads the whole file.
    pub check_pages: bool,
    /// Commits of each daemon that are kept as records, for history and reverting.
    pub retain_commits: u64,
    /// Bytes of records per daemon over which fewer are kept.
    pub retain_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            cache_bytes: CACHE_BYTES_DEFAULT,
            check_pages: true,
            retain_commits: super::fold::RETAIN_COMMITS,
            retain_bytes: super::fold::RETAIN_BYTES,
        }
    }
}

/// The end of a daemon's chain.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    /// `None` before the first commit.
    pub(super) last: Option<Hint>,
    /// First record that is kept.
    pub(super) first: u64,
    /// Bytes of records.
    pub(super) bytes: u64,
    /// Digests of the codes that made what is kept, and perhaps some that are not needed any more.
    pub(super) codes: BTreeSet<[u8; HASH_BYTES]>,
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
    pub(super) poisoned: Option<JournalFault>,
    pub(super) job: Option<FoldJob>,
}

/// The journal on redb.
pub struct Store {
    // Order of drop: the database before the lock of its directory.
    /// `None` only while it is dropped.
    database: Option<Database>,
    pub(super) hints: Hints,
    pub(super) inner: Mutex<Inner>,
    pub(super) options: StoreOptions,
    traffic: Arc<Traffic>,
    id: DirectoryId,
    path: PathBuf,
    _directory: Option<Directory>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // redb may find rot when it closes, and panic. What is synced is synced.
        let database = self.database.take();
        if let Err(fault) = edge(|| {
            drop(database);
            Ok(())
        }) {
            tracing::error!(%fault, "the store did not close");
        }
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
        let directory = Directory::lock(path)?;
        let traffic = Arc::<Traffic>::default();
        let state = directory.file(STATE);
        let open = |file| StoreFile::new(file, options.durability, traffic.clone());
        let file = open(directory.open_state()?)?;
        let hints = StoreFile::new(directory.open_acked()?, options.durability, Arc::default())?;
        let id = directory.marker();
        let mut store =
            Self::from_backends(Box::new(file), Box::new(hints), options, id, new_id, traffic)
                .map_err(|fault| fault.in_file(&state))?;
        if id.is_none() {
            store.hints.sync()?;
            directory.finish(store.id)?;
        }
        store.path = state;
        store._directory = Some(directory);
        Ok(store)
    }

    /// Opens a store over any storage: how tests cut its power.
    pub(super) fn from_backends(
        state: Box<dyn StorageBackend>,
        acked: Box<dyn StorageBackend>,
        options: StoreOptions,
        expected: Option<DirectoryId>,
        new_id: DirectoryId,
        traffic: Arc<Traffic>,
    ) -> Result<Self, JournalFault> {
        let empty = state.len().map_err(|error| super::backend::io_fault(&error))? == 0;
        if empty && expected.is_some() {
            return Err(JournalFault::new(FaultKind::Directory, "the store is empty: put it back"));
        }
        let database = edge(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(options.cache_bytes);
            let mut database =
                builder.create_with_backend(Boxed(state)).map_err(|error| fault(&error.into()))?;
            if options.check_pages && !empty {
                let whole = database.check_integrity().map_err(|error| fault(&error.into()))?;
                if !whole {
                    tracing::warn!("the store was repaired; acknowledged commits are checked next");
                }
            }
            Ok(database)
        })?;
        let hints = Hints::new(acked);
        let mut store = Self {
            database: Some(database),
            hints,
            inner: Mutex::default(),
            options,
            traffic,
            id: expected.unwrap_or(new_id),
            path: PathBuf::new(),
            _directory: None,
        };
        if expected.is_none() && empty {
            store.create_tables(new_id)?;
        }
        edge(|| store.read_meta(expected))?;
        Ok(store)
    }

    fn create_tables(&self, id: DirectoryId) -> Result<(), JournalFault> {
        edge(|| {
            let write = self.begin_write()?;
            {
                let open = |error: redb::TableError| fault(&error.into());
                let mut meta = write.open_table(META).map_err(open)?;
                let mut body = FORMAT.to_le_bytes().to_vec();
                body.extend_from_slice(&id.0.to_le_bytes());
                meta.insert(META_KEY, seal(&body).as_slice()).map_err(|e| fault(&e.into()))?;
                write.open_table(DAEMONS).map_err(open)?;
                write.open_table(RECORDS).map_err(open)?;
                write.open_table(BASES).map_err(open)?;
                write.open_table(CHUNKS).map_err(open)?;
                write.open_table(ANSWERS).map_err(open)?;
                write.open_table(CRASHES).map_err(open)?;
                write.open_table(CODES).map_err(open)?;
            }
            write.commit().map_err(|error| fault(&error.into()))
        })
    }

    /// Checks format and id, and finds the ends of all chains.
    fn read_meta(&mut self, expected: Option<DirectoryId>) -> Result<(), JournalFault> {
        let read = self.begin_read()?;
        let meta = read.open_table(META).map_err(|error| fault(&error.into()))?;
        let value = meta.get(META_KEY).map_err(|error| fault(&error.into()))?;
        let value = value.ok_or_else(|| JournalFault::corrupt("the store has no identity"))?;
        let mut body = Reader(
            unseal(value.value()).ok_or_else(|| JournalFault::corrupt("the identity is rotten"))?,
        );
        let format = body.u32().unwrap_or(0);
        if format != FORMAT {
            let what = format!("format {format}; this host reads format {FORMAT}");
            return Err(JournalFault::new(FaultKind::Format, what));
        }
        let id = DirectoryId(body.array().map_or(0, u128::from_le_bytes));
        if expected.is_some_and(|expected| expected != id) {
            let what = format!("the store is of directory {id}, not of {}", self.id);
            return Err(JournalFault::new(FaultKind::Directory, what));
        }
        self.id = id;
        let mut inner = Inner::default();
        self.read_daemons(&read, &mut inner)?;
        for daemon in inner.names.values().map(|row| row.key) {
            let tail = edge(|| self.read_tail(&read, daemon)).unwrap_or_else(|bad| {
                let bad = Some(bad.of_daemon(daemon));
                Tail { bad, ..Tail::default() }
            });
            inner.tails.insert(daemon, tail);
        }
        *self.lock() = inner;
        Ok(())
    }

    fn read_tail(
        &self,
        read: &redb::ReadTransaction,
        daemon: DaemonKey,
    ) -> Result<Tail, JournalFault> {
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
        self.compare_with_hint(daemon, last)?;
        let first = base.map_or(0, |base| base.sequence.next().0);
        Ok(Tail { last, first, bytes, codes, bad: None })
    }

    /// A chain that ends before what was acknowledged has lost commits.
    pub(super) fn compare_with_hint(
        &self,
        daemon: DaemonKey,
        last: Option<Hint>,
    ) -> Result<(), JournalFault> {
        let Some(hint) = self.hints.read(daemon)? else { return Ok(()) };
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

    pub(super) fn begin_read(&self) -> Result<redb::ReadTransaction, JournalFault> {
        let database = self.database.as_ref().ok_or_else(closed)?;
        database.begin_read().map_err(|error| fault(&error.into()))
    }

    pub(super) fn begin_write(&self) -> Result<redb::WriteTransaction, JournalFault> {
        let database = self.database.as_ref().ok_or_else(closed)?;
        database.begin_write().map_err(|error| fault(&error.into()))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Bytes written to the file and syncs since it was opened.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.traffic.written_bytes), load(&self.traffic.syncs))
    }

    pub(super) fn poison(&self, inner: &mut Inner, fault: JournalFault) -> JournalFault {
        let fault = fault.in_file(&self.path);
        let what = format!("an earlier write failed ({fault}); the store must be opened again");
        inner.poisoned = Some(JournalFault::new(FaultKind::Poisoned, what));
        fault
    }

    /// Each entry must continue its daemon's chain.
    fn check_entries(inner: &Inner, entries: &[Entry<'_>]) -> Result<Tails, JournalFault> {
        let mut tails = Tails::new();
        for entry in entries {
            let misuse = |what: &str| {
                let fault = JournalFault::new(FaultKind::Misuse, what);
                fault.of_daemon(entry.daemon).at(entry.sequence)
            };
            let tail = inner.tails.get(&entry.daemon).ok_or_else(|| misuse("no such daemon"))?;
            if let Some(bad) = &tail.bad {
                return Err(bad.clone());
            }
            let frame = Frame::of(entry.record).map_err(|error| misuse(&error.to_string()))?;
            let last = tails.get(&entry.daemon).map(|(last, _)| *last).or(tail.last);
            let (next, previous) = match last {
                Some(last) => (last.sequence.next(), last.hash),
                None => (Sequence(0), blake3::Hash::from_bytes([0; HASH_BYTES])),
            };
            let continues = frame.head.daemon == entry.daemon.0
                && frame.head.sequence == entry.sequence
                && frame.head.sequence == next
                && frame.head.previous == previous
                && (last.is_some() || frame.head.whole);
            if !continues {
                return Err(misuse("the record does not continue the chain"));
            }
            let hint = Hint { sequence: entry.sequence, hash: frame.hash };
            tails.insert(entry.daemon, (hint, frame.head.code));
        }
        Ok(tails)
    }

    fn write_records(&self, entries: &[Entry<'_>]) -> Result<(), JournalFault> {
        let write = self.begin_write()?;
        {
            let mut records = write.open_table(RECORDS).map_err(|error| fault(&error.into()))?;
            for entry in entries {
                let key = (entry.daemon.0, entry.sequence.0);
                let old = records.insert(key, entry.record).map_err(|e| fault(&e.into()))?;
                if old.is_some() {
                    let what = "a record is in the place of the next one";
                    return Err(JournalFault::corrupt(what).of_daemon(entry.daemon));
                }
            }
        }
        write.commit().map_err(|error| fault(&error.into()))
    }
}

type Tails = BTreeMap<DaemonKey, (Hint, [u8; HASH_BYTES])>;

impl Journal for Store {
    fn append(&self, entries: &[Entry<'_>]) -> Result<Synced, JournalFault> {
        let mut inner = self.lock();
        if let Some(poisoned) = &inner.poisoned {
            return Err(poisoned.clone());
        }
        let tails = Self::check_entries(&inner, entries)?;
        let written = edge(|| {
            self.write_records(entries)?;
            tails.iter().try_for_each(|(&daemon, &(hint, _))| self.hints.write(daemon, hint))
        });
        if let Err(fault) = written {
            return Err(self.poison(&mut inner, fault));
        }
        for (daemon, (hint, code)) in tails {
            if let Some(tail) = inner.tails.get_mut(&daemon) {
                tail.last = Some(hint);
                tail.codes.insert(code);
            }
        }
        for entry in entries {
            if let Some(tail) = inner.tails.get_mut(&entry.daemon) {
                tail.bytes += entry.record.len() as u64;
            }
        }
        Ok(Synced::after_sync())
    }

    fn durable(&self, daemon: DaemonKey) -> Option<Sequence> {
        self.lock().tails.get(&daemon)?.last.map(|last| last.sequence)
    }

    fn fold_step(&self) -> Result<bool, JournalFault> {
        self.fold()
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
        edge(|| self.load_state(daemon, at, sink))
            .map_err(|fault| fault.of_daemon(daemon).in_file(&self.path))
    }
}

/// A boxed backend is a backend.
#[derive(Debug)]
struct Boxed(Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.0.close()
    }
}

fn closed() -> JournalFault {
    JournalFault::new(FaultKind::Poisoned, "the store is closed")
}

/// Runs something that calls redb: a panic over rotten bytes becomes an error.
pub(super) fn edge<T>(work: impl FnOnce() -> Result<T, JournalFault>) -> Result<T, JournalFault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(JournalFault::corrupt(format!("reading or writing the store panicked: {text}")))
    })
}

/// What an error of redb means.
pub(super) fn fault(error: &redb::Error) -> JournalFault {
    match error {
        redb::Error::Io(error) => super::backend::io_fault(error),
        redb::Error::Corrupted(what) => JournalFault::corrupt(what.clone()),
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
