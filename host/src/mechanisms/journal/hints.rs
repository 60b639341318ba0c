//! The highest acknowledged commit of each daemon, beside the store.
//!
//! A last group of the log that doesn't add up may be torn, or rotten; and redb drops its newest
//! transaction when that one's checksums don't match. So after each sync, and before the
//! acknowledgements, the position is written here; a journal that ends before it has lost
//! something. The file is not synced with each group: after a power cut it may be behind, never
//! ahead.
//!
//! A daemon's place is made, and synced, before its name is: it says that nothing was acknowledged
//! yet. So a place without a good note is damage, as is a file without its head. The tables say
//! whether the file has one: those of earlier builds get it when they are opened.
//!
//! ```text
//!  per daemon id two slots of 64 bytes, written in turns, so that a torn one leaves the other:
//!       0   8  magic: of a note, or of a place without one
//!       8   8  daemon
//!      16   8  sequence
//!      24  32  checksum of that record
//!      56   8  first bytes of BLAKE3 of everything before
//!  id 0 is no daemon's; its slots are the head, both the same:
//!       0   8  magic
//!       8  16  id of the directory
//!      24  32  zero
//!      56   8  first bytes of BLAKE3 of everything before
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::backend::io_fault;
use super::directory::ACKED;
use super::{DaemonKey, DirectoryId, FaultKind, JournalFault};
use crate::base::ids::Sequence;

const MAGIC: [u8; 8] = *b"BKACKED1";
const MAGIC_NONE: [u8; 8] = *b"BKACKED0";
const MAGIC_HEAD: [u8; 8] = *b"BKACKEDH";
const SLOT_BYTES: usize = 64;
const PAIR_BYTES: usize = 2 * SLOT_BYTES;
const CHECKED_BYTES: usize = SLOT_BYTES - 8;

type Slot = [u8; SLOT_BYTES];

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
    /// Every daemon has a place: see the head of this file.
    whole: bool,
    /// Daemons whose second slot is the next to write; the first slot for all others.
    second: BTreeMap<DaemonKey, bool>,
}

impl Hints {
    pub(super) fn new(file: Arc<dyn StorageBackend>) -> Result<Self, JournalFault> {
        let length = file.len().map_err(|error| io_fault(&error))?;
        Ok(Self(Mutex::new(Open { file, length, whole: false, second: BTreeMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new file: from now on every daemon has a place.
    pub(super) fn begin(&self, id: DirectoryId) -> Result<(), JournalFault> {
        let mut open = self.lock();
        open.grow(PAIR_BYTES as u64)?;
        let head = slot(MAGIC_HEAD, &id.0.to_le_bytes());
        open.put(0, &[head, head].concat())?;
        open.whole = true;
        open.sync()
    }

    /// The tables say that every daemon has a place: the file must be the one that they know.
    pub(super) fn expect_whole(&self, id: DirectoryId) -> Result<(), JournalFault> {
        let mut open = self.lock();
        let head = slot(MAGIC_HEAD, &id.0.to_le_bytes());
        if !open.pair(DaemonKey(0))?.is_some_and(|slots| slots.contains(&head)) {
            let what = "it does not say any more what was acknowledged: put it back";
            return Err(JournalFault::new(FaultKind::Directory, what).in_file(ACKED));
        }
        open.whole = true;
        Ok(())
    }

    /// Makes the file of an earlier build whole: the ids up to `highest` get a place.
    pub(super) fn adopt(&self, id: DirectoryId, highest: u64) -> Result<(), JournalFault> {
        for key in (1..=highest).map(DaemonKey) {
            let empty = |slots: [Slot; 2]| slots == [[0; SLOT_BYTES]; 2];
            if self.lock().pair(key)?.is_none_or(empty) {
                self.place(key)?;
            }
        }
        self.begin(id)
    }

    /// Makes a new daemon's place, so that no note of it ever has to find space.
    pub(super) fn reserve(&self, daemon: DaemonKey) -> Result<(), JournalFault> {
        self.place(daemon)?;
        self.sync()
    }

    fn place(&self, daemon: DaemonKey) -> Result<(), JournalFault> {
        let mut open = self.lock();
        let at = place_of(daemon);
        open.grow(at.saturating_add(PAIR_BYTES as u64))?;
        let none = slot(MAGIC_NONE, &daemon.0.to_le_bytes());
        open.put(at, &[none, [0; SLOT_BYTES]].concat())?;
        open.second.insert(daemon, true);
        Ok(())
    }

    pub(super) fn write(&self, daemon: DaemonKey, hint: Hint) -> Result<(), JournalFault> {
        let mut body = daemon.0.to_le_bytes().to_vec();
        body.extend_from_slice(&hint.sequence.0.to_le_bytes());
        body.extend_from_slice(hint.hash.as_bytes());
        let slot = slot(MAGIC, &body);
        let mut open = self.lock();
        let at = place_of(daemon);
        open.grow(at.saturating_add(PAIR_BYTES as u64))?;
        let second = open.second.get(&daemon).copied().unwrap_or_default();
        open.put(if second { at + SLOT_BYTES as u64 } else { at }, &slot)?;
        open.second.insert(daemon, !second);
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), JournalFault> {
        self.lock().sync()
    }

    /// The newer of a daemon's two notes; `None` when there is none yet.
    pub(super) fn read(&self, daemon: DaemonKey) -> Result<Option<Hint>, JournalFault> {
        let mut open = self.lock();
        let bad = |what: &str| Err(JournalFault::corrupt(what).in_file(ACKED));
        let Some(slots) = open.pair(daemon)? else {
            let what = "the note of its last acknowledged commit is gone";
            return if open.whole { bad(what) } else { Ok(None) };
        };
        let notes = slots.iter().enumerate();
        let notes = notes.filter_map(|(index, slot)| parse(slot, daemon).map(|hint| (index, hint)));
        match notes.max_by_key(|(_, hint)| hint.map(|hint| hint.sequence)) {
            Some((index, hint)) => {
                open.second.insert(daemon, index == 0);
                Ok(hint)
            }
            // Of an earlier build: nothing, or a first note that was cut short.
            None if !open.whole && slots.contains(&[0; SLOT_BYTES]) => Ok(None),
            None => bad("both notes of its last acknowledged commit are bad"),
        }
    }

    /// Some id above `known` has a note: a daemon that the tables have forgotten.
    pub(super) fn beyond(&self, known: u64) -> Result<bool, JournalFault> {
        let mut open = self.lock();
        let end = open.length / PAIR_BYTES as u64;
        for key in (known.saturating_add(1)..end).map(DaemonKey) {
            let slots = open.pair(key)?.unwrap_or([[0; SLOT_BYTES]; 2]);
            let none = slot(MAGIC_NONE, &key.0.to_le_bytes());
            if slots.iter().any(|slot| *slot != none && *slot != [0; SLOT_BYTES]) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Open {
    fn grow(&mut self, end: u64) -> Result<(), JournalFault> {
        if self.length < end {
            self.file.set_len(end).map_err(|error| io_fault(&error))?;
            self.length = end;
        }
        Ok(())
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), JournalFault> {
        self.file.write(at, bytes).map_err(|error| io_fault(&error))
    }

    fn sync(&self) -> Result<(), JournalFault> {
        self.file.sync_data().map_err(|error| io_fault(&error))
    }

    /// A place's two slots; none beyond the end of the file.
    fn pair(&mut self, daemon: DaemonKey) -> Result<Option<[Slot; 2]>, JournalFault> {
        let mut pair = [0; PAIR_BYTES];
        let at = place_of(daemon);
        if at.saturating_add(PAIR_BYTES as u64) > self.length {
            return Ok(None);
        }
        self.file.read(at, &mut pair).map_err(|error| io_fault(&error))?;
        let (slots, _) = pair.as_chunks::<SLOT_BYTES>();
        Ok(slots.first_chunk().copied())
    }
}

fn place_of(daemon: DaemonKey) -> u64 {
    daemon.0.saturating_mul(PAIR_BYTES as u64)
}

/// A slot with that magic and content, the rest zero, and its checksum.
fn slot(magic: [u8; 8], content: &[u8]) -> Slot {
    let mut slot = [0; SLOT_BYTES];
    debug_assert!(magic.len() + content.len() <= CHECKED_BYTES);
    for (place, byte) in slot.iter_mut().zip(magic.iter().chain(content)) {
        *place = *byte;
    }
    let (checked, check) = slot.split_at_mut(CHECKED_BYTES);
    for (place, byte) in check.iter_mut().zip(blake3::hash(checked).as_bytes()) {
        *place = *byte;
    }
    slot
}

/// What a slot of that daemon says: a note, that there is none yet, or nothing that can be read.
fn parse(slot: &Slot, daemon: DaemonKey) -> Option<Option<Hint>> {
    let (checked, check) = slot.split_at_checked(CHECKED_BYTES)?;
    let (magic, rest) = checked.split_first_chunk::<8>()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (sequence, hash) = rest.split_first_chunk::<8>()?;
    let good =
        u64::from_le_bytes(*id) == daemon.0 && blake3::hash(checked).as_bytes().starts_with(check);
    let hash = blake3::Hash::from_bytes(*hash.first_chunk()?);
    let hint = Hint { sequence: Sequence(u64::from_le_bytes(*sequence)), hash };
    match *magic {
        MAGIC if good => Some(Some(hint)),
        MAGIC_NONE if good => Some(None),
        _ => None,
    }
}
