//! Moving records from the log into the tables, in batches, while appends go on.

use std::collections::BTreeMap;

use redb::{Table, WriteTransaction};

use super::backend::{Which, io_fault};
use super::base::{seal, unseal};
use super::directory::FORMAT_PARTS;
use super::log::{Cursor, Log};
use super::store::{META, PARTS, RECORDS, Store, edge, fault, lock, put_identity};
use super::{DaemonKey, Entry, FaultKind, JournalFault, Tended};
use crate::base::failpoint::{self, Point};
use crate::pure::reader::Reader;
use crate::pure::record::{Frame, HASH_BYTES, Part};

const MARK_KEY: &str = "log";

/// There when each daemon has a place among the acknowledgements.
const WHOLE_KEY: &str = "acked";

/// Bytes of log that one transaction of the tables moves.
const MOVE_BYTES_MAX: u64 = 8 << 20;

/// What the tables know of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mark {
    /// Bytes of the ring.
    pub(super) ring: u64,
    /// The first group that is not in the tables.
    pub(super) begin: Cursor,
}

impl Mark {
    /// The mark of a log that was never written.
    pub(super) fn first(ring: u64) -> Self {
        let previous = blake3::Hash::from_bytes([0; HASH_BYTES]);
        Self { ring, begin: Cursor { number: 1, position: 0, previous } }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for number in [self.ring, self.begin.number, self.begin.position] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(self.begin.previous.as_bytes());
        seal(&body)
    }

    fn decode(sealed: &[u8]) -> Option<Self> {
        let mut body = Reader(unseal(sealed)?);
        let ring = body.u64()?;
        let (number, position, previous) = (body.u64()?, body.u64()?, body.hash()?);
        let possible = ring > 0 && ring.is_multiple_of(super::log::BLOCK_BYTES);
        possible.then_some(Self { ring, begin: Cursor { number, position, previous } })
    }
}

/// What a batch brought per daemon: the record after its last one, and bytes.
type Moved = BTreeMap<DaemonKey, (u64, u64)>;

/// Where records are moved to.
struct Tables<'a> {
    records: Table<'a, (u64, u64), &'static [u8]>,
    parts: Table<'a, (u64, u64, u64), &'static [u8]>,
    meta: Table<'a, &'static str, &'static [u8]>,
}

impl<'a> Tables<'a> {
    fn open(write: &'a WriteTransaction) -> Result<Self, JournalFault> {
        let open = |error: redb::TableError| fault(&error.into());
        Ok(Self {
            records: write.open_table(RECORDS).map_err(open)?,
            parts: write.open_table(PARTS).map_err(open)?,
            meta: write.open_table(META).map_err(open)?,
        })
    }
}

pub(super) fn put_mark(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    mark: Mark,
) -> Result<(), JournalFault> {
    meta.insert(MARK_KEY, mark.encode().as_slice()).map_err(|error| fault(&error.into()))?;
    Ok(())
}

/// Notes that each daemon has a place among the acknowledgements.
pub(super) fn put_whole(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
) -> Result<(), JournalFault> {
    meta.insert(WHOLE_KEY, seal(&[]).as_slice()).map_err(|error| fault(&error.into()))?;
    Ok(())
}

impl Store {
    pub(super) fn says_whole(&self) -> Result<bool, JournalFault> {
        let read = self.begin_read()?;
        let meta = read.open_table(META).map_err(|error| fault(&error.into()))?;
        Ok(meta.get(WHOLE_KEY).map_err(|error| fault(&error.into()))?.is_some())
    }

    pub(super) fn read_mark(&self) -> Result<Mark, JournalFault> {
        let read = self.begin_read()?;
        let meta = read.open_table(META).map_err(|error| fault(&error.into()))?;
        let mark = meta.get(MARK_KEY).map_err(|error| fault(&error.into()))?;
        mark.and_then(|mark| Mark::decode(mark.value()))
            .ok_or_else(|| JournalFault::corrupt("where the log begins is rotten"))
    }

    /// Uses the tables: a panic over rotten bytes becomes an error, and an error of the machine
    /// makes them be opened again.
    pub(super) fn at_tables<T>(
        &self,
        work: impl FnOnce() -> Result<T, JournalFault>,
    ) -> Result<T, JournalFault> {
        let open = self.gate.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(broken) = &self.lock().broken {
            return Err(broken.clone());
        }
        let done = edge(work);
        drop(open);
        if let Err(fault) = &done
            && matches!(fault.kind, FaultKind::Io | FaultKind::Full | FaultKind::Poisoned)
        {
            let mut inner = self.lock();
            inner.broken.get_or_insert_with(|| fault.clone().in_file(&self.path));
            self.show_refusal(&inner);
        }
        done
    }

    /// Reads the tables, or what the disk holds of them.
    pub(super) fn at_tables_reading<T>(
        &self,
        mut read: impl FnMut(redb::ReadTransaction) -> Result<T, JournalFault>,
    ) -> Result<T, JournalFault> {
        self.reading(|store| store.at_tables(|| read(store.begin_read()?)))
    }

    /// Moves one batch of the groups before number `until`; false when there is none.
    pub(super) fn move_groups(&self, until: u64) -> Result<bool, JournalFault> {
        let _moving = lock(&self.moving);
        // Read under that lock: after a failure it is another log.
        let log = self.log()?;
        let span = log.span();
        let end = span.end.number.min(until);
        let most = span.begin.position.saturating_add(MOVE_BYTES_MAX);
        let more = |at: Cursor| at.number < end && at.position < most;
        if !more(span.begin) {
            return Ok(false);
        }
        // What is moved into a file that was deleted is nowhere.
        self.files.still_there(Which::State)?;
        let (begin, moved) = self.at_tables(|| {
            self.write_groups(&log, Some(span.begin), &mut |at| more(at).then_some(at), |at| at)
        })?;
        self.note_moved(&moved);
        log.release(begin);
        self.show_refusal(&self.lock());
        Ok(true)
    }

    /// Moves all groups that are there now.
    pub(super) fn drain(&self) -> Result<(), JournalFault> {
        let end = self.log()?.span().end.number;
        while self.move_groups(end)? {}
        Ok(())
    }

    /// Writes groups and the log's new beginning into the tables, in one transaction. `next` says
    /// which group follows, given where the one before ended; `begin` where the log begins then.
    pub(super) fn write_groups(
        &self,
        log: &Log,
        first: Option<Cursor>,
        next: &mut dyn FnMut(Cursor) -> Option<Cursor>,
        begin: impl FnOnce(Cursor) -> Cursor,
    ) -> Result<(Cursor, Moved), JournalFault> {
        let write = self.begin_write()?;
        let (mut moved, mut buffer) = (Moved::new(), Vec::new());
        let mut end = log.span().begin;
        {
            let mut tables = Tables::open(&write)?;
            let mut group = first;
            while let Some(at) = group {
                let read = log.read(at, &mut buffer, &mut |record| {
                    self.insert_record(&mut tables, record, &mut moved)
                })?;
                let gone = || JournalFault::corrupt("a group is gone").in_file(super::log::LOG);
                end = read.ok_or_else(gone)?;
                group = next(end);
            }
            end = begin(end);
            put_mark(&mut tables.meta, Mark { ring: log.ring(), begin: end })?;
        }
        failpoint::pass(Point::DuringMove).map_err(|error| io_fault(&error))?;
        write.commit().map_err(|error| fault(&error.into()))?;
        Ok((end, moved))
    }

    /// Writes a group that no log takes.
    pub(super) fn insert_large(&self, entries: &[Entry<'_>]) -> Result<(), JournalFault> {
        let moved = self.at_tables(|| {
            let write = self.begin_write()?;
            let mut moved = Moved::new();
            {
                let mut tables = Tables::open(&write)?;
                for entry in entries {
                    self.insert_record(&mut tables, entry.record, &mut moved)?;
                }
            }
            write.commit().map_err(|error| fault(&error.into()))?;
            Ok(moved)
        })?;
        self.note_moved(&moved);
        Ok(())
    }

    fn note_moved(&self, moved: &Moved) {
        let mut inner = self.lock();
        for (daemon, (next, bytes)) in moved {
            if let Some(tail) = inner.tails.get_mut(daemon) {
                tail.moved = tail.moved.max(*next);
                tail.bytes += bytes;
            }
        }
    }

    /// See [`super::Journal::tend`].
    pub(super) fn tend_once(&self) -> Result<Tended, JournalFault> {
        if let Err(gone) =
            Which::ALL.into_iter().try_for_each(|which| self.files.still_there(which))
        {
            let mut inner = self.lock();
            inner.broken.get_or_insert_with(|| gone.clone());
            self.show_refusal(&inner);
            return Err(gone);
        }
        let failed = {
            let inner = self.lock();
            inner.poisoned.is_some() || inner.broken.is_some()
        };
        if failed {
            self.open_again()?;
            return Ok(Tended::Opened);
        }
        let log = self.log()?;
        let span = log.span();
        let seen = self.seen.swap(span.end.number, std::sync::atomic::Ordering::Relaxed);
        let quiet = seen == span.end.number;
        if span.used() > 0 && (quiet || span.used() > log.ring() / 4) {
            self.move_groups(u64::MAX)?;
            return Ok(Tended::Busy);
        }
        if self.fold()? {
            return Ok(Tended::Busy);
        }
        Ok(if span.used() > 0 { Tended::Waiting } else { Tended::Idle })
    }

    fn insert_record(
        &self,
        tables: &mut Tables<'_>,
        record: &[u8],
        moved: &mut Moved,
    ) -> Result<(), JournalFault> {
        let head =
            Frame::of(record).map_err(|error| JournalFault::corrupt(error.to_string()))?.head;
        let (next, bytes) = moved.entry(DaemonKey(head.daemon)).or_default();
        *bytes += record.len() as u64;
        if let Part::More(number) = head.part {
            // One that was begun before, and not brought to its end, is replaced.
            let key = (head.daemon, head.sequence.0, number);
            tables.parts.insert(key, record).map_err(|error| fault(&error.into()))?;
            return put_identity(&mut tables.meta, FORMAT_PARTS, self.id);
        }
        let key = (head.daemon, head.sequence.0);
        let old = tables.records.insert(key, record).map_err(|error| fault(&error.into()))?;
        if old.is_some_and(|old| old.value() != record) {
            let what = "another record is in the place of this one";
            let fault = JournalFault::corrupt(what).of_daemon(DaemonKey(head.daemon));
            return Err(fault.at(head.sequence));
        }
        *next = head.sequence.next().0;
        Ok(())
    }
}
