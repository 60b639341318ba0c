//! The highest acknowledged commit of each daemon, beside the store.
//!
//! A last group of the log that doesn't add up may be torn, or rotten; and redb drops its newest
//! transaction when that one's checksums don't match. So after each sync, and before the
//! acknowledgements, the position is written here; a journal that ends before it has lost
//! something. The file is not synced with each group: after a power cut it may be behind, never
//! ahead.
//!
//! ```text
//!  per daemon id two slots of 64 bytes, written in turns, so that a torn one leaves the other:
//!       0   8  magic
//!       8   8  daemon
//!      16   8  sequence
//!      24  32  checksum of that record
//!      56   8  first bytes of BLAKE3 of everything before
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::backend::io_fault;
use super::{DaemonKey, JournalFault};
use crate::base::ids::Sequence;

const MAGIC: [u8; 8] = *b"BKACKED1";
const SLOT_BYTES: usize = 64;
const PAIR_BYTES: usize = 2 * SLOT_BYTES;
const CHECKED_BYTES: usize = SLOT_BYTES - 8;

/// What was acknowledged last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hint {
    pub(super) sequence: Sequence,
    pub(super) hash: blake3::Hash,
}

/// The file.
#[derive(Debug)]
pub(super) struct Hints(Mutex<Open>);

#[derive(Debug)]
struct Open {
    file: Arc<dyn StorageBackend>,
    length: u64,
    /// Daemons whose second slot is the next to write; the first slot for all others.
    second: BTreeMap<DaemonKey, bool>,
}

impl Hints {
    pub(super) fn new(file: Arc<dyn StorageBackend>) -> Result<Self, JournalFault> {
        let length = file.len().map_err(|error| io_fault(&error))?;
        Ok(Self(Mutex::new(Open { file, length, second: BTreeMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, daemon: DaemonKey, hint: Hint) -> Result<(), JournalFault> {
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&MAGIC);
        slot.extend_from_slice(&daemon.0.to_le_bytes());
        slot.extend_from_slice(&hint.sequence.0.to_le_bytes());
        slot.extend_from_slice(hint.hash.as_bytes());
        let check = blake3::hash(&slot);
        slot.extend(check.as_bytes().iter().take(SLOT_BYTES - CHECKED_BYTES));
        debug_assert_eq!(slot.len(), SLOT_BYTES);
        let at = daemon.0.saturating_mul(PAIR_BYTES as u64);
        let end = at.saturating_add(PAIR_BYTES as u64);
        let mut open = self.lock();
        if open.length < end {
            open.file.set_len(end).map_err(|error| io_fault(&error))?;
            open.length = end;
        }
        let second = open.second.get(&daemon).copied().unwrap_or_default();
        let at = if second { at + SLOT_BYTES as u64 } else { at };
        open.file.write(at, &slot).map_err(|error| io_fault(&error))?;
        open.second.insert(daemon, !second);
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), JournalFault> {
        let file = self.lock().file.clone();
        file.sync_data().map_err(|error| io_fault(&error))
    }

    /// The newer of a daemon's two notes; `None` when there is none yet.
    pub(super) fn read(&self, daemon: DaemonKey) -> Result<Option<Hint>, JournalFault> {
        let mut pair = [0; PAIR_BYTES];
        let at = daemon.0.saturating_mul(PAIR_BYTES as u64);
        let mut open = self.lock();
        if at.saturating_add(PAIR_BYTES as u64) > open.length {
            return Ok(None);
        }
        open.file.read(at, &mut pair).map_err(|error| io_fault(&error))?;
        let (slots, _) = pair.as_chunks::<SLOT_BYTES>();
        let empty = slots.contains(&[0; SLOT_BYTES]);
        let good = slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| parse(slot, daemon).map(|hint| (index, hint)));
        match good.max_by_key(|(_, hint)| hint.sequence) {
            Some((index, hint)) => {
                open.second.insert(daemon, index == 0);
                Ok(Some(hint))
            }
            // Nothing, or a first note that was cut short.
            None if empty => Ok(None),
            None => {
                Err(JournalFault::corrupt("both notes of its last acknowledged commit are bad"))
            }
        }
    }

    /// Ids above `known` that have notes: daemons that the store has forgotten.
    pub(super) fn beyond(&self, known: u64) -> bool {
        self.lock().length > known.saturating_add(1).saturating_mul(PAIR_BYTES as u64)
    }
}

fn parse(slot: &[u8; SLOT_BYTES], daemon: DaemonKey) -> Option<Hint> {
    let (checked, check) = slot.split_at_checked(CHECKED_BYTES)?;
    let (magic, rest) = checked.split_first_chunk::<8>()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (sequence, hash) = rest.split_first_chunk::<8>()?;
    let good = *magic == MAGIC
        && u64::from_le_bytes(*id) == daemon.0
        && blake3::hash(checked).as_bytes().starts_with(check);
    let hash = blake3::Hash::from_bytes(*hash.first_chunk()?);
    good.then_some(Hint { sequence: Sequence(u64::from_le_bytes(*sequence)), hash })
}
