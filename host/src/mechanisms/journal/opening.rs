//! Opening: what a stop, a crash or a failure left behind becomes one journal again.
//!
//! ```text
//!  tables -> where the log begins -> scan the log -> move what it holds -> ends of all chains
//! ```
//!
//! Nothing is changed before the tables' commit that ends the move; a recovery that is cut short is
//! done again from the start.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use redb::{Builder, Database};

use super::backend::{Shared, Which, io_fault};
use super::hints::Hints;
use super::log::{Cursor, LOG, Log, Scanned};
use super::moving::{Mark, put_mark, put_whole};
use super::store::{Inner, META, PARTS, Store, edge, fault, lock};
use super::{DirectoryId, FaultKind, JournalFault};
use crate::base::failpoint::{self, Point};

fn recovery_point() -> Result<(), JournalFault> {
    failpoint::pass(Point::DuringRecovery).map_err(|error| io_fault(&error))
}

impl Store {
    /// Opens all files; returns the id of the directory, which is `expected` if that is known.
    /// Opening `again`, after a failure, begins a new incarnation.
    pub(super) fn open_all(
        &self,
        expected: Option<DirectoryId>,
        again: bool,
    ) -> Result<DirectoryId, JournalFault> {
        let new = self.open_database(expected.is_some(), again)?;
        self.set_hints(Hints::new(self.files.open(Which::Acked, again)?)?);
        if new {
            self.hints()?.begin(self.id)?;
            self.create_tables(self.id)?;
        }
        let id = edge(|| self.read_identity(expected))?;
        let whole = edge(|| self.says_whole())?;
        if whole {
            self.hints()?.expect_whole(id)?;
        }
        self.compacted.store(edge(|| self.read_compacted())?, Ordering::Relaxed);
        let mark = edge(|| self.read_mark())?;
        // The log is small, and a host that ran before may have seen a sync fail.
        let file = self.files.open(Which::Log, true)?;
        let mut log = Log::new(file.clone(), id, mark.ring, mark.begin)?;
        let scanned = self.recover(&log)?;
        let ring = self.options.ring();
        if log.ring() != ring {
            let mark = Mark { ring, begin: Cursor { position: 0, ..log.span().begin } };
            edge(|| self.write_mark(mark))?;
            log = Log::new(file, id, ring, mark.begin)?;
        }
        let mut inner = edge(|| self.read_inner())?;
        edge(|| self.drop_loose(&mut inner))?;
        self.compare_with_hints(&mut inner)?;
        if !whole {
            self.hints()?.adopt(id, inner.highest)?;
            edge(|| self.write_whole())?;
        }
        if !again {
            edge(|| self.drop_unborn(&mut inner))?;
        }
        (inner.damage, inner.torn_bytes) = (scanned.damage, scanned.torn_bytes);
        self.set_log(log);
        if again {
            inner.tails.values_mut().for_each(|tail| tail.reopened = true);
            // Before anything is taken again: no daemon may go on without knowing.
            self.incarnation.fetch_add(1, Ordering::AcqRel);
        }
        *self.lock() = inner;
        Ok(id)
    }

    /// Opens the tables; true when there are none yet.
    fn open_database(&self, expected: bool, distrust: bool) -> Result<bool, JournalFault> {
        let state = self.files.open(Which::State, distrust)?;
        let empty = state.len().map_err(|error| io_fault(&error))? == 0;
        if empty && expected {
            return Err(JournalFault::new(FaultKind::Directory, "the store is empty: put it back"));
        }
        *lock(&self.state) = Some(state.clone());
        let database = edge(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(self.options.cache_bytes);
            let mut database: Database =
                builder.create_with_backend(Shared(state)).map_err(|error| fault(&error.into()))?;
            if self.options.check_pages && !empty {
                let whole = database.check_integrity().map_err(|error| fault(&error.into()))?;
                if !whole {
                    // One that is opened again after a failure always is.
                    if distrust {
                        tracing::debug!("the store was repaired");
                    } else {
                        let next = "acknowledged commits are checked next";
                        tracing::warn!("the store was repaired; {next}");
                    }
                }
            }
            Ok(database)
        })?;
        self.set_database(database);
        Ok(empty && !expected)
    }

    /// Deletes the parts of states that were not brought to their end.
    fn drop_loose(&self, inner: &mut Inner) -> Result<(), JournalFault> {
        if inner.tails.values().all(|tail| !tail.loose || tail.bad.is_some()) {
            return Ok(());
        }
        let write = self.begin_write()?;
        {
            let mut parts = write.open_table(PARTS).map_err(|error| fault(&error.into()))?;
            for (daemon, tail) in &mut inner.tails {
                let next = tail.chain.last.map_or(0, |last| last.sequence.next().0);
                let after = (daemon.0, next, 0)..=(daemon.0, u64::MAX, u64::MAX);
                if tail.bad.is_none() {
                    parts
                        .retain_in(after, |_, part| {
                            tail.bytes = tail.bytes.saturating_sub(part.len() as u64);
                            false
                        })
                        .map_err(|error| fault(&error.into()))?;
                }
            }
        }
        write.commit().map_err(|error| fault(&error.into()))
    }

    /// Moves what the log holds into the tables.
    fn recover(&self, log: &Log) -> Result<Scanned, JournalFault> {
        recovery_point()?;
        let begin = log.span().begin;
        let scanned = log.scan(begin)?;
        if scanned.groups.is_empty() && scanned.end == begin {
            return Ok(scanned);
        }
        recovery_point()?;
        let mut groups = scanned.groups.iter().copied();
        let first = groups.next();
        edge(|| self.write_groups(log, first, &mut |_| groups.next(), |_| scanned.end))?;
        recovery_point()?;
        log.restart(scanned.end);
        tracing::debug!(groups = scanned.groups.len(), "groups were read from the log");
        if scanned.torn_bytes > 0 && !self.files.are_written() {
            let bytes = scanned.torn_bytes;
            tracing::warn!(bytes, "dropped a last group that was cut short, never acknowledged");
        }
        if let Some(damage) = &scanned.damage {
            tracing::error!(%damage, "the log is damaged");
        }
        Ok(scanned)
    }

    fn write_mark(&self, mark: Mark) -> Result<(), JournalFault> {
        let write = self.begin_write()?;
        {
            let mut meta = write.open_table(META).map_err(|error| fault(&error.into()))?;
            put_mark(&mut meta, mark)?;
        }
        write.commit().map_err(|error| fault(&error.into()))
    }

    fn write_whole(&self) -> Result<(), JournalFault> {
        let write = self.begin_write()?;
        put_whole(&mut write.open_table(META).map_err(|error| fault(&error.into()))?)?;
        write.commit().map_err(|error| fault(&error.into()))
    }

    fn compare_with_hints(&self, inner: &mut Inner) -> Result<(), JournalFault> {
        let hints = self.hints()?;
        for (&daemon, tail) in &mut inner.tails {
            let compared = hints.read(daemon).and_then(|hint| {
                Self::compare_with_hint(hint, tail.chain.last).map_err(|bad| bad.of_daemon(daemon))
            });
            tail.bad = tail.bad.take().or(compared.err());
        }
        Ok(())
    }

    /// After a failed append: nothing more, until everything was opened again.
    pub(super) fn poison(&self, inner: &mut Inner, fault: JournalFault) -> JournalFault {
        let fault = fault.in_file(&self.path);
        let what = format!("an earlier write failed ({fault}); the journal is being opened again");
        inner.poisoned = Some(JournalFault::new(FaultKind::Poisoned, what));
        self.show_refusal(inner);
        fault
    }

    /// Commits are refused when they would be lost, and while what is under way still fits.
    pub(super) fn show_refusal(&self, inner: &Inner) {
        let full = || self.log().is_ok_and(|log| log.span().used() > log.ring() / 2);
        let refusing = inner.poisoned.is_some() || (inner.broken.is_some() && full());
        self.refusing.store(refusing, Ordering::Release);
    }

    /// Opens again what has failed.
    pub(super) fn open_again(&self) -> Result<(), JournalFault> {
        let poisoned = self.lock().poisoned.is_some();
        let _appending = poisoned.then(|| lock(&self.appending));
        let _moving = lock(&self.moving);
        *lock(&self.job) = None;
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.close_database();
        if poisoned {
            self.open_all(Some(self.id), true)?;
        } else {
            self.open_tables_again()?;
        }
        *lock(&self.view) = None;
        self.show_refusal(&self.lock());
        tracing::debug!("the journal was opened again");
        Ok(())
    }

    /// The log went on meanwhile: its ends stay.
    fn open_tables_again(&self) -> Result<(), JournalFault> {
        self.open_database(true, true)?;
        edge(|| self.read_identity(Some(self.id)))?;
        let mark = edge(|| self.read_mark())?;
        let log = self.log()?;
        if mark.begin.number < log.span().begin.number {
            let what = "the tables lack records that were moved into them";
            return Err(JournalFault::corrupt(what).in_file(LOG));
        }
        let found = edge(|| self.read_inner())?;
        let mut inner = self.lock();
        for (daemon, mut tail) in found.tails {
            if let Some(old) = inner.tails.get(&daemon) {
                let found = tail.chain.last.map(|last| last.sequence);
                if old.chain.last.map(|last| last.sequence) >= found {
                    tail.chain = old.chain;
                }
                tail.reopened = old.reopened;
                tail.codes.extend(&old.codes);
                tail.bad = tail.bad.or_else(|| old.bad.clone());
            }
            inner.tails.insert(daemon, tail);
        }
        inner.names = found.names;
        inner.names_bad = found.names_bad;
        inner.highest = inner.highest.max(found.highest);
        inner.broken = None;
        log.release(mark.begin);
        Ok(())
    }
}
