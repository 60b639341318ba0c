//! The log in front of the tables: a ring of blocks, written from end to end and around.
//!
//! ```text
//!             begin                 end
//!   ...........[ 17 ][ 18 ][ 19 ][ 20 ]..............   a lap ago
//!              in no table yet        next group
//! ```
//!
//! A group is one contiguous write and one sync; its position says where it is. All blocks were
//! written when the log was made, so that a sync has no metadata to write and an append can't run
//! out of space. What is between `begin` and `end` is moved into the tables in large batches; after
//! their durable commit, which also holds the new `begin`, the blocks are free again.
//!
//! Invariants:
//!
//! * A group is written after the one before it was synced: a group that is followed by another
//!   one was acknowledged, and only the last one may be torn.
//! * No write touches a block that holds a group between `begin` and `end`.
//! * A group that doesn't fit before the ring's end begins the next lap.

mod frame;
mod scan;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::backend::io_fault;
use super::{DirectoryId, Entry, JournalFault};
use crate::base::failpoint::{self, Point};

pub(super) use frame::{BLOCK_BYTES, Cursor};
pub(super) use scan::Scanned;

/// Name of the log's file.
pub(super) const LOG: &str = "log";

/// Bytes that are written at once when the log is made.
const FILL_BYTES: usize = 1 << 20;

/// The part of the ring that is in no table yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) begin: Cursor,
    /// Where the next group goes.
    pub(super) end: Cursor,
}

impl Span {
    /// Bytes that can't be overwritten.
    pub(super) fn used(&self) -> u64 {
        self.end.position.saturating_sub(self.begin.position)
    }
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    file: Arc<dyn StorageBackend>,
    id: DirectoryId,
    /// Bytes of the ring.
    ring: u64,
    span: Mutex<Span>,
    /// The frame that is being written.
    frame: Mutex<Vec<u8>>,
}

impl Log {
    /// A log over `file`, empty, that goes on at `begin`. Makes the file as long as the ring.
    ///
    /// # Errors
    ///
    /// The machine's; no space, above all.
    pub(super) fn new(
        file: Arc<dyn StorageBackend>,
        id: DirectoryId,
        ring: u64,
        begin: Cursor,
    ) -> Result<Self, JournalFault> {
        fill(file.as_ref(), ring).map_err(|error| io_fault(&error).in_file(LOG))?;
        let span = Mutex::new(Span { begin, end: begin });
        Ok(Self { file, id, ring, span, frame: Mutex::default() })
    }

    pub(super) fn span(&self) -> Span {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the ring.
    pub(super) fn ring(&self) -> u64 {
        self.ring
    }

    /// Everything before `begin` is in the tables: its blocks may be written again.
    pub(super) fn release(&self, begin: Cursor) {
        let mut span = self.lock();
        if begin.number > span.begin.number {
            span.begin = begin;
        }
    }

    /// The log is empty and goes on at `at`.
    pub(super) fn restart(&self, at: Cursor) {
        *self.lock() = Span { begin: at, end: at };
    }

    /// Whether a frame of these entries can ever be in this log; larger ones go past it.
    pub(super) fn takes(&self, entries: &[Entry<'_>]) -> bool {
        frame::frame_bytes(entries) <= self.ring / 4
    }

    /// Where a frame of so many bytes goes.
    fn place(&self, end: Cursor, bytes: u64) -> Cursor {
        let left = self.ring - end.position % self.ring;
        let position = if bytes <= left { end.position } else { end.position + left };
        Cursor { position, ..end }
    }

    /// Whether there is room for these entries now.
    pub(super) fn has_room(&self, entries: &[Entry<'_>]) -> bool {
        let (span, bytes) = (self.span(), frame::frame_bytes(entries));
        let at = self.place(span.end, bytes);
        at.position.saturating_add(bytes).saturating_sub(span.begin.position) <= self.ring
    }

    /// Writes one group and syncs it. There must be room.
    ///
    /// # Errors
    ///
    /// The machine's. The end of the log is then unknown.
    pub(super) fn append(&self, entries: &[Entry<'_>]) -> Result<(), JournalFault> {
        debug_assert!(self.takes(entries) && self.has_room(entries));
        let end = self.span().end;
        let bytes = frame::frame_bytes(entries);
        let at = self.place(end, bytes);
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = frame::encode(self.id, at, entries, &mut frame);
        let write = || {
            failpoint::pass(Point::BeforeAppend)?;
            self.write(at.position % self.ring, &frame)?;
            failpoint::pass(Point::BeforeSync)?;
            self.file.sync_data()?;
            failpoint::pass(Point::AfterSync)
        };
        write().map_err(|error| io_fault(&error).in_file(LOG))?;
        let position = at.position + bytes;
        self.lock().end = Cursor { number: at.number + 1, position, previous: hash };
        Ok(())
    }

    fn write(&self, offset: u64, frame: &[u8]) -> std::io::Result<()> {
        if failpoint::reached(Point::InsideWrite) {
            self.file.write(offset, frame.get(..frame.len() / 2).unwrap_or_default())?;
            return failpoint::act();
        }
        self.file.write(offset, frame)
    }
}

/// Makes the file as long as the ring, all of it written.
fn fill(file: &dyn StorageBackend, ring: u64) -> std::io::Result<()> {
    let mut length = file.len()?;
    if length >= ring {
        return Ok(());
    }
    file.set_len(ring)?;
    let zeros = vec![0; FILL_BYTES];
    while length < ring {
        let some = usize::try_from(ring - length).unwrap_or(FILL_BYTES).min(FILL_BYTES);
        file.write(length, zeros.get(..some).unwrap_or_default())?;
        length += some as u64;
    }
    file.sync_data()
}
