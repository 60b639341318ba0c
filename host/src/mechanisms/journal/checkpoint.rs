//! Earlier states out of the journal: checkpoints, and the list of commits that can be had.

use super::fold::visit_records;
use super::load::read_base;
use super::store::Store;
use super::{DaemonKey, ImageSink, Journal, JournalFault, SinkError};
use crate::base::ids::{Generation, Sequence};
use crate::base::limits::{BUDGET_MAX_BYTES, CARD_SHIFT};
use crate::pure::checkpoint::Checkpoint;
use crate::pure::record::{Head, Record};

/// A commit in the list of those that are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommitLine {
    /// What the commit says about itself.
    pub head: Head,
    /// Checksum of its record: the link of the chain.
    pub hash: blake3::Hash,
    /// It answered a request with an idempotency key.
    pub keyed: bool,
    /// Cards that changed.
    pub cards: u64,
    /// Bytes that changed.
    pub changed_bytes: u64,
    /// Bytes of its record.
    pub record_bytes: u64,
}

impl CommitLine {
    fn of(record: &Record<'_>, record_bytes: usize) -> Self {
        let (mut cards, mut counted) = (0, 0);
        for (offset, bytes) in record.ranges() {
            let first = (offset >> CARD_SHIFT).max(counted);
            let end = (offset.saturating_add(bytes.len() as u64 - 1) >> CARD_SHIFT) + 1;
            cards += end.saturating_sub(first);
            counted = counted.max(end);
        }
        Self {
            head: record.head,
            hash: record.hash,
            keyed: record.keyed.is_some(),
            cards,
            changed_bytes: record.changed_bytes() as u64,
            record_bytes: record_bytes as u64,
        }
    }

    /// With what one of its parts brought.
    fn with_part(self, part: Self) -> Self {
        Self {
            cards: self.cards + part.cards,
            changed_bytes: self.changed_bytes + part.changed_bytes,
            record_bytes: self.record_bytes + part.record_bytes,
            ..self
        }
    }
}

/// Takes a state as plain bytes.
#[derive(Debug, Default)]
struct Bytes {
    memory: Vec<u8>,
    controls: Vec<Vec<u8>>,
}

impl ImageSink for Bytes {
    fn clear(&mut self) -> Result<(), SinkError> {
        *self = Self::default();
        Ok(())
    }

    fn resize(&mut self, memory_bytes: u64) -> Result<(), SinkError> {
        let bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        if bytes > BUDGET_MAX_BYTES {
            return Err(SinkError("a memory larger than any budget".to_owned()));
        }
        // As a state grows, its commits are loaded one after the other: no room for more.
        self.memory.reserve_exact(bytes.saturating_sub(self.memory.len()));
        self.memory.resize(bytes, 0);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let place = usize::try_from(offset).ok().and_then(|start| {
            let end = start.checked_add(bytes.len())?;
            self.memory.get_mut(start..end)
        });
        let place = place.ok_or_else(|| SinkError("a range outside the memory".to_owned()))?;
        place.copy_from_slice(bytes);
        Ok(())
    }

    fn control(&mut self, module: usize, state: &[u8]) -> Result<(), SinkError> {
        self.controls.resize(self.controls.len().max(module.saturating_add(1)), Vec::new());
        if let Some(control) = self.controls.get_mut(module) {
            control.clear();
            control.extend_from_slice(state);
        }
        Ok(())
    }
}

impl Store {
    /// The state of the daemon `name` at a commit that is still kept; at its last one without `at`.
    ///
    /// # Errors
    ///
    /// [`JournalFault`]; `Misuse` for a commit that is not kept, or that there is not.
    pub fn checkpoint(
        &self,
        name: &str,
        daemon: DaemonKey,
        at: Option<Sequence>,
    ) -> Result<Checkpoint, JournalFault> {
        self.checkpoint_with_hash(name, daemon, at).map(|(checkpoint, _)| checkpoint)
    }

    /// As [`Store::checkpoint`], with the hash of the commit's record.
    ///
    /// # Errors
    ///
    /// As [`Store::checkpoint`].
    pub fn checkpoint_with_hash(
        &self,
        name: &str,
        daemon: DaemonKey,
        at: Option<Sequence>,
    ) -> Result<(Checkpoint, blake3::Hash), JournalFault> {
        let mut bytes = Bytes::default();
        let loaded = self.load(daemon, at, &mut bytes)?;
        let loaded = loaded.ok_or_else(|| JournalFault::no_commit("it has no commit yet"))?;
        let checkpoint = Checkpoint {
            daemon: name.to_owned(),
            sequence: loaded.sequence,
            generation: Generation(loaded.generation),
            unix_nanos: loaded.unix_nanos,
            code: loaded.code,
            memory: bytes.memory,
            controls: bytes.controls,
        };
        Ok((checkpoint, loaded.hash))
    }

    /// The last `count` commits of a daemon that are kept as records, oldest first.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when a record is rotten.
    pub fn commits(&self, daemon: DaemonKey, count: u64) -> Result<Vec<CommitLine>, JournalFault> {
        self.reading(|store| {
            store.drain()?;
            store.read_commits(daemon, count)
        })
    }

    fn read_commits(&self, daemon: DaemonKey, count: u64) -> Result<Vec<CommitLine>, JournalFault> {
        let Some(last) = self.durable(daemon) else { return Ok(Vec::new()) };
        let first = last.next().0.saturating_sub(count);
        self.at_tables(|| {
            let read = self.begin_read()?;
            let mut lines = Vec::new();
            let mut parts = Vec::new();
            visit_records(&read, daemon, first, last.0, |_, record_bytes, record| {
                let line = CommitLine::of(record, record_bytes);
                if record.head.is_more() {
                    parts.push(line);
                } else {
                    lines.push(parts.drain(..).fold(line, CommitLine::with_part));
                }
                Ok(())
            })?;
            Ok(lines)
        })
        .map_err(|fault| self.named(fault.of_daemon(daemon)))
    }

    /// The oldest commit that can be loaded; `None` when there is no commit.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when the base image is rotten.
    pub fn oldest(&self, daemon: DaemonKey) -> Result<Option<Sequence>, JournalFault> {
        let first = self.durable(daemon).map(|_| Sequence(0));
        self.at_tables_reading(|read| {
            Ok(read_base(&read, daemon)?.map(|base| base.sequence).or(first))
        })
        .map_err(|fault| self.named(fault.of_daemon(daemon)))
    }

    /// Digest of the code that made a daemon's last commit.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when that can't be read.
    pub fn last_code(&self, daemon: DaemonKey) -> Result<Option<[u8; 32]>, JournalFault> {
        if let Some(last) = self.commits(daemon, 1)?.last() {
            return Ok(Some(last.head.code));
        }
        self.at_tables_reading(|read| Ok(read_base(&read, daemon)?.map(|base| base.code)))
            .map_err(|fault| self.named(fault.of_daemon(daemon)))
    }

    /// The code that made a daemon's last commit.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when it can't be read or is not kept, or when there is no commit.
    pub fn code_of_state(&self, name: &str, daemon: DaemonKey) -> Result<Vec<u8>, JournalFault> {
        let digest = self.last_code(daemon)?;
        let digest = digest
            .ok_or_else(|| JournalFault::no_commit(format!("daemon `{name}` has no commit yet")))?;
        self.code(digest)?.ok_or_else(|| {
            let digest = blake3::Hash::from_bytes(digest).to_hex();
            let what = format!("the code {digest} that made the state of `{name}` is not kept");
            JournalFault::corrupt(what)
        })
    }
}
