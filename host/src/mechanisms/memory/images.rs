//! A daemon's images: live, committed, and the control memories that say what changed.
//!
//! Invariants, between two calls of the guest:
//!
//! * A byte in which live and committed image differ lies in a marked card of some control memory,
//!   or within [`OVERRUN_BYTES`] after one. (What the write barrier promises; [`Images::verify`]
//!   checks it after a commit.)
//! * Bytes of the committed image above the committed size are zero, and so are bytes of the live
//!   image above both sizes.
//! * Nothing here allocates after [`Images::new`].
//!
//! # Safety argument
//!
//! The live image and the control memories are written by compiled guest code, through the address
//! that [`Slot::base`] gives to the sandbox. All methods that touch them take `&mut self` or
//! `&self` of the daemon's only `Images`, and the daemon calls them only while no guest code runs:
//! guest code runs inside calls of the sandbox, on the daemon's own thread. So no reference made
//! here ever coexists with a write of the guest. Every range is checked against the mapped capacity
//! before a slice is made of it. The committed image has other readers where it is shared: `follow`
//! says why none of them reads while it is written.

#![expect(unsafe_code, reason = "makes slices of memory that guests also write")]

use std::ops::Range;
use std::sync::Arc;

use super::OVERRUN_BYTES;
use super::cards::{BLOCK, Changed, Control, card_mark, drain, live_state, state_address};
use super::follow::Sharing;
use super::mapping::{MapError, Mapping};
use super::slot::Slot;
use crate::base::limits::HOST_MEMORY_BYTES;
use crate::pure::checkpoint::state_hash;
use crate::pure::delta::Delta;
use crate::pure::output;

/// What a guest's memories look like; comes from the rewriting of its code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Bytes per card, as a shift.
    pub card_shift: u32,
    /// Bytes of each control memory.
    pub control_bytes: usize,
    /// Where its state area begins, in bytes; the card table is before it.
    pub state_offset: usize,
    /// One per core module, in the order of instantiation.
    pub controls: Vec<ControlShape>,
}

/// One control memory: the card table, and behind it the state area.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ControlShape {
    /// Used bytes of the state area.
    pub state_bytes: usize,
}

/// Live and committed image differ where they must not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// In the guest's memory.
    #[error("live and committed image differ at byte {offset:#x}")]
    Data {
        /// The first byte that differs.
        offset: usize,
    },
    /// In the moved globals.
    #[error("live and committed globals of core module {module} differ")]
    State {
        /// Which control memory.
        module: usize,
    },
    /// In the size.
    #[error("live image has {live} bytes, committed image {committed}")]
    Size {
        /// Bytes of the live image.
        live: usize,
        /// Bytes of the committed image.
        committed: usize,
    },
}

/// The images could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// No memory.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A state area that doesn't fit the control memory, or too short a card table.
    #[error("the guest's control memories have another layout than this host's")]
    Layout,
}

/// All memory of one daemon's guest.
#[derive(Debug)]
pub struct Images {
    pub(super) live: Arc<Slot>,
    pub(super) controls: Vec<Control>,
    /// Followers read it, too, while nothing changes it.
    pub(super) committed: Arc<Mapping>,
    pub(super) committed_size: usize,
    pub(super) budget: usize,
    pub(super) card_shift: u32,
    pub(super) state_offset: usize,
    /// What lets others follow the committed image; none when nobody does.
    pub(super) sharing: Option<Sharing>,
}

impl Images {
    /// Reserves, maps and prefaults everything: twice `budget` bytes and the tables.
    ///
    /// # Errors
    ///
    /// [`ImagesError`] when the kernel refuses, or the shape is out of range.
    pub fn new(budget: usize, shape: &Shape) -> Result<Self, ImagesError> {
        Self::mapped(budget, shape, true)
    }

    /// The same for an instance that is thrown away: memory is taken when it is touched.
    ///
    /// # Errors
    ///
    /// As [`Images::new`].
    pub fn untouched(budget: usize, shape: &Shape) -> Result<Self, ImagesError> {
        Self::mapped(budget, shape, false)
    }

    fn mapped(budget: usize, shape: &Shape, prefault: bool) -> Result<Self, ImagesError> {
        let at_once: &[(usize, usize)] = if prefault { &[(0, budget)] } else { &[] };
        let live = Slot::new(budget, at_once, "live image")?;
        let committed = if prefault {
            Mapping::prefaulted(budget, "committed image")?
        } else {
            let committed = Mapping::reserve(budget, "committed image")?;
            committed.open(0, budget, "committed image")?;
            committed
        };
        let committed = Arc::new(committed);
        let mut controls = Vec::with_capacity(shape.controls.len());
        let used_cards = budget.div_ceil(1 << shape.card_shift);
        if used_cards.next_multiple_of(BLOCK) > shape.state_offset {
            return Err(ImagesError::Layout);
        }
        for control in &shape.controls {
            let state_bytes = control.state_bytes;
            let state_end = shape.state_offset.checked_add(state_bytes);
            if state_end.is_none_or(|end| end > shape.control_bytes) {
                return Err(ImagesError::Layout);
            }
            let prefaulted =
                [(0, used_cards.next_multiple_of(BLOCK)), (shape.state_offset, state_bytes)];
            let prefaulted: &[(usize, usize)] = if prefault { &prefaulted } else { &[] };
            let slot = Slot::new(shape.control_bytes, prefaulted, "control memory")?;
            // Its size never changes: minimum and maximum are the same.
            let fits = slot.set_size(shape.control_bytes);
            debug_assert!(fits, "a slot takes its own capacity");
            let committed_state = vec![0; state_bytes].into_boxed_slice();
            controls.push(Control { slot, state_bytes, committed_state });
        }
        // A host that takes the last byte ends at the next small value, and not with an error.
        Mapping::look_for_room(HOST_MEMORY_BYTES)?;
        let (card_shift, state_offset) = (shape.card_shift, shape.state_offset);
        let (committed_size, sharing) = (0, None);
        Ok(Self {
            live,
            controls,
            committed,
            committed_size,
            budget,
            card_shift,
            state_offset,
            sharing,
        })
    }

    /// The slot of the live image.
    #[must_use]
    pub fn live_slot(&self) -> &Arc<Slot> {
        &self.live
    }

    /// The slot of control memory `module`.
    #[must_use]
    pub fn control_slot(&self, module: usize) -> Option<&Arc<Slot>> {
        self.controls.get(module).map(|control| &control.slot)
    }

    /// Most bytes that the guest's memory may have.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes of the guest's memory now.
    #[must_use]
    pub fn live_size(&self) -> usize {
        self.live.size()
    }

    /// Bytes of the guest's memory at the last commit.
    #[must_use]
    pub fn committed_size(&self) -> usize {
        self.committed_size
    }

    /// The committed bytes.
    #[must_use]
    pub fn committed(&self) -> &[u8] {
        // SAFETY: mapped for `budget` bytes, and committed_size <= budget; only `&mut self` writes,
        // followers read.
        unsafe {
            std::slice::from_raw_parts(self.committed.address(0).as_ptr(), self.committed_size)
        }
    }

    /// Applies all changes since the last commit to the committed image.
    pub fn commit(&mut self) -> Changed {
        self.commit_and(|_, _, _| {})
    }

    /// As [`Images::commit`], and puts the bytes that differ into `delta`, which is emptied first.
    pub fn commit_into(&mut self, delta: &mut Delta) -> Changed {
        delta.clear();
        self.commit_and(|offset, old, new| delta.diff(offset, old, new))
    }

    fn commit_and(&mut self, mut look: impl FnMut(u64, &[u8], &[u8])) -> Changed {
        self.begin_change();
        let sharing = self.sharing.as_ref();
        let live_size = self.live.size();
        let from = self.live.base().as_ptr();
        let to = self.committed.address(0).as_ptr();
        let before = self.output();
        let mut touched = false;
        let mut changed = drain(&self.controls, self.card_shift, live_size, |range| {
            let overlaps =
                |output: &Range<usize>| range.start < output.end && output.start < range.end;
            touched |= before.as_ref().is_some_and(overlaps);
            if let Some(sharing) = sharing {
                sharing.note(&range);
            }
            // SAFETY: `drain` gives ranges inside live_size <= budget, which both images map; they
            // are different mappings, no guest code runs, and no follower reads during a change.
            let (new, old) = unsafe {
                (
                    std::slice::from_raw_parts(from.add(range.start), range.len()),
                    std::slice::from_raw_parts_mut(to.add(range.start), range.len()),
                )
            };
            look(range.start as u64, old, new);
            old.copy_from_slice(new);
        });
        self.committed_size = live_size;
        for control in &mut self.controls {
            let bytes = control.state_bytes;
            let from = state_address(&control.slot, self.state_offset);
            // SAFETY: the state area holds `bytes` bytes (checked in `new`), no guest code runs.
            let live = unsafe { std::slice::from_raw_parts(from, bytes) };
            control.committed_state.copy_from_slice(live);
        }
        changed.output = touched || before != self.output();
        changed
    }

    /// The range of the committed image that the daemon shows, if it shows one.
    #[must_use]
    pub fn output(&self) -> Option<Range<usize>> {
        output::read(&self.controls.first()?.committed_state, self.committed_size)
    }

    /// From the next commit on the daemon shows this range of its memory; size 0 for nothing.
    ///
    /// # Errors
    ///
    /// [`output::RangeError`]; then nothing has changed.
    pub fn set_output(&mut self, address: u32, size: u32) -> Result<(), output::RangeError> {
        output::check(address, size, self.live.size())?;
        if let Some(control) = self.controls.first_mut() {
            let bytes = control.state_bytes;
            let at = state_address(&control.slot, self.state_offset);
            // SAFETY: the state area holds `bytes` bytes (checked in `new`), no guest code runs.
            let state = unsafe { std::slice::from_raw_parts_mut(at, bytes) };
            let noted = output::write(state, address, size);
            debug_assert!(noted, "the write barrier leaves room for it");
        }
        Ok(())
    }

    /// Makes the whole live image the committed one, whatever is marked: a first commit.
    pub fn commit_whole(&mut self) {
        let (old_size, size) = (self.committed_size, self.live.size());
        self.change(0..old_size.max(size));
        let from = self.live.base().as_ptr();
        let to = self.committed.address(0).as_ptr();
        // SAFETY: both images map `size` and `old_size` <= budget bytes, and are different
        // mappings; no follower reads during a change.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to, size);
            if old_size > size {
                to.add(size).write_bytes(0, old_size - size);
            }
        }
        self.commit();
    }

    /// Bytes of the marked cards: the most that a commit now would change.
    #[must_use]
    pub fn marked_bytes(&self) -> usize {
        let cards = self.live.size().div_ceil(1 << self.card_shift);
        let marked =
            |card: &usize| self.controls.iter().any(|control| card_mark(&control.slot, *card) != 0);
        (0..cards).filter(marked).count() << self.card_shift
    }

    /// The committed globals of each core module.
    pub fn committed_states(&self) -> impl Iterator<Item = &[u8]> {
        self.controls.iter().map(|control| control.committed_state.as_ref())
    }

    /// Undoes all changes since the last commit, the size included.
    ///
    /// When [`Images::live_size`] was larger than the committed size, the running instance doesn't
    /// know of its smaller memory: it must be dropped, and a new one made.
    pub fn roll_back(&mut self) -> Changed {
        let live_size = self.live.size();
        let committed_size = self.committed_size;
        let from = self.committed.address(0).as_ptr();
        let to = self.live.base().as_ptr();
        let changed = drain(&self.controls, self.card_shift, live_size, |range| {
            let kept = range.start.min(committed_size)..range.end.min(committed_size);
            // SAFETY: both ranges lie inside live_size <= budget, which both images map; they are
            // different mappings.
            unsafe {
                std::ptr::copy_nonoverlapping(from.add(kept.start), to.add(kept.start), kept.len());
                let gone = range.start.max(committed_size)..range.end;
                if gone.start < gone.end {
                    to.add(gone.start).write_bytes(0, gone.len());
                }
            }
        });
        self.put_state_back();
        let fits = self.live.set_size(committed_size);
        debug_assert!(fits, "a committed size is inside the budget");
        changed
    }

    /// Makes the live image and all state areas zero, for a first start.
    ///
    /// The committed image keeps what it has: [`Images::load_committed`] brings it back.
    pub fn clear_live(&mut self) {
        let size = self.live.size().max(self.committed_size);
        let opened = self.live.set_size(size);
        debug_assert!(opened, "both sizes are inside the budget");
        // SAFETY: `size` bytes are mapped, no guest code runs.
        unsafe { self.live.base().as_ptr().write_bytes(0, size) };
        drain(&self.controls, self.card_shift, size, |_| {});
        for control in &mut self.controls {
            let state = state_address(&control.slot, self.state_offset);
            // SAFETY: the state area holds `state_bytes` bytes, no guest code runs.
            unsafe { state.write_bytes(0, control.state_bytes) };
        }
        let fits = self.live.set_size(0);
        debug_assert!(fits, "zero fits");
    }

    /// Copies the whole committed image into the live one and forgets all marks. The live size
    /// must be the committed size already.
    pub fn load_committed(&mut self) {
        let size = self.committed_size;
        let from = self.committed.address(0).as_ptr();
        let to = self.live.base().as_ptr();
        // SAFETY: both images map `size` <= budget bytes, and are different mappings.
        unsafe { std::ptr::copy_nonoverlapping(from, to, size) };
        drain(&self.controls, self.card_shift, self.budget, |_| {});
        self.put_state_back();
    }

    /// Sets the size that the next instance starts with, for a first start over a cleared image.
    pub fn set_live_size_to_committed(&mut self) {
        let fits = self.live.set_size(self.committed_size);
        debug_assert!(fits, "a committed size is inside the budget");
    }

    pub(super) fn put_state_back(&mut self) {
        for control in &mut self.controls {
            let bytes = control.state_bytes;
            let to = state_address(&control.slot, self.state_offset);
            // SAFETY: the state area holds `bytes` bytes (checked in `new`), no guest code runs.
            let live = unsafe { std::slice::from_raw_parts_mut(to, bytes) };
            live.copy_from_slice(&control.committed_state);
        }
    }

    /// Compares everything: the oracle of the write barrier. Right after a commit or a roll back
    /// the images must be equal.
    ///
    /// # Errors
    ///
    /// [`Mismatch`], the first difference.
    pub fn verify(&self) -> Result<(), Mismatch> {
        let (live_size, committed_size) = (self.live.size(), self.committed_size);
        if live_size != committed_size {
            return Err(Mismatch::Size { live: live_size, committed: committed_size });
        }
        // SAFETY: mapped for `budget` bytes, no guest code runs.
        let live = unsafe { std::slice::from_raw_parts(self.live.base().as_ptr(), live_size) };
        let committed = self.committed();
        if live != committed {
            let offset = live.iter().zip(committed).position(|(a, b)| a != b).unwrap_or(0);
            return Err(Mismatch::Data { offset });
        }
        for (module, control) in self.controls.iter().enumerate() {
            if live_state(control, self.state_offset) != control.committed_state.as_ref() {
                return Err(Mismatch::State { module });
            }
        }
        Ok(())
    }

    /// Looks for bytes that changed without a mark, before they are committed.
    ///
    /// # Errors
    ///
    /// [`Mismatch::Data`]: the write barrier has a hole.
    pub fn verify_marks(&self) -> Result<(), Mismatch> {
        let size = self.live.size();
        // SAFETY: both are mapped for `budget` bytes, no guest code runs. The committed image is
        // zero above its size, as the live one is above the memory's old size.
        let (live, committed) = unsafe {
            let committed = self.committed.address(0).as_ptr();
            (
                std::slice::from_raw_parts(self.live.base().as_ptr(), size),
                std::slice::from_raw_parts(committed, size),
            )
        };
        let card_bytes = 1 << self.card_shift;
        let mut covered = 0;
        let cards = live.chunks(card_bytes).zip(committed.chunks(card_bytes));
        for (card, (live, committed)) in cards.enumerate() {
            let start = card * card_bytes;
            let marked = self.controls.iter().any(|control| card_mark(&control.slot, card) != 0);
            if marked {
                covered = start + card_bytes + OVERRUN_BYTES;
            }
            let skip = covered.saturating_sub(start).min(live.len());
            if live.get(skip..) != committed.get(skip..) {
                let differing = live.iter().zip(committed).skip(skip).position(|(a, b)| a != b);
                return Err(Mismatch::Data { offset: start + skip + differing.unwrap_or(0) });
            }
        }
        Ok(())
    }

    /// BLAKE3 over size, committed bytes and globals: equal hashes, equal states.
    #[must_use]
    pub fn committed_hash(&self) -> blake3::Hash {
        state_hash(self.committed(), self.committed_states())
    }

    /// BLAKE3 over the live image, in the same form as [`Images::committed_hash`].
    #[must_use]
    pub fn live_hash(&self) -> blake3::Hash {
        // SAFETY: mapped for `budget` bytes, no guest code runs.
        let live =
            unsafe { std::slice::from_raw_parts(self.live.base().as_ptr(), self.live.size()) };
        state_hash(live, self.controls.iter().map(|control| live_state(control, self.state_offset)))
    }
}

#[cfg(test)]
mod tests;
