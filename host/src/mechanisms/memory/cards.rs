//! Card tables: what the guest's code has marked, found and taken.
//!
//! # Safety argument
//!
//! The tables are written by compiled guest code. As in `images`: no guest code of a daemon runs
//! while one of these functions does, since both run on the daemon's thread, one after the other;
//! and every range is checked against the slot before it is read.

#![expect(unsafe_code, reason = "makes slices of memory that guests also write")]

use std::ops::Range;
use std::sync::Arc;

use super::OVERRUN_BYTES;
use super::slot::Slot;

/// What a commit or a roll back copied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Changed {
    /// Marked cards.
    pub cards: u32,
    /// Copied bytes.
    pub bytes: u64,
    /// True when what the daemon shows may be another now.
    pub output: bool,
}

/// A control memory and the committed bytes of its state area.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) slot: Arc<Slot>,
    pub(super) state_bytes: usize,
    pub(super) committed_state: Box<[u8]>,
}

/// The address of a control memory's state area.
pub(super) fn state_address(slot: &Slot, state_offset: usize) -> *mut u8 {
    assert!(state_offset <= slot.capacity());
    // SAFETY: inside the slot's mapping, as checked.
    unsafe { slot.base().as_ptr().add(state_offset) }
}

/// The used bytes of the state area, as the guest left them.
pub(super) fn live_state(control: &Control, state_offset: usize) -> &[u8] {
    let address = state_address(&control.slot, state_offset);
    // SAFETY: the state area holds `state_bytes` bytes (checked in `new`), no guest code runs.
    unsafe { std::slice::from_raw_parts(address, control.state_bytes) }
}

/// The mark of one card.
pub(super) fn card_mark(slot: &Slot, card: usize) -> u8 {
    assert!(card < slot.capacity());
    // SAFETY: inside the slot's mapping, as checked; no guest code runs.
    unsafe { slot.base().as_ptr().add(card).read() }
}

/// Cards whose marks are taken in one step.
const STRIDE: usize = 64;

/// Cards that are passed over in one step when none of them is marked: most of a large image's.
pub(super) const BLOCK: usize = 512;

/// Unmarks all cards of the first `size` bytes and calls `copy` for each run of marked ones, as
/// byte ranges with the overrun, cut at `size`.
pub(super) fn drain(
    controls: &[Control],
    card_shift: u32,
    size: usize,
    mut copy: impl FnMut(Range<usize>),
) -> Changed {
    let cards = size.div_ceil(1 << card_shift);
    let mut changed = Changed::default();
    let mut run: Option<Range<usize>> = None;
    let mut flush = |run: Range<usize>, changed: &mut Changed| {
        let end = ((run.end << card_shift) + OVERRUN_BYTES).min(size);
        let bytes = run.start << card_shift..end;
        changed.cards += u32::try_from(run.len()).unwrap_or(u32::MAX);
        changed.bytes += bytes.len() as u64;
        copy(bytes);
    };
    for block in (0..cards).step_by(BLOCK) {
        if !controls.iter().any(|control| any_mark(&control.slot, block)) {
            continue;
        }
        for first in (block..cards.min(block + BLOCK)).step_by(STRIDE) {
            let mut marks = [0_u8; STRIDE];
            if !take_marks(controls, first, &mut marks) {
                continue;
            }
            for (card, _) in (first..cards).zip(marks).filter(|&(_, mark)| mark != 0) {
                match &mut run {
                    Some(run) if run.end == card => run.end += 1,
                    _ => {
                        if let Some(done) = run.replace(card..card + 1) {
                            flush(done, &mut changed);
                        }
                    }
                }
            }
        }
    }
    if let Some(done) = run {
        flush(done, &mut changed);
    }
    changed
}

/// True when one of the `BLOCK` cards from `block` on is marked.
#[inline]
fn any_mark(slot: &Slot, block: usize) -> bool {
    debug_assert!(block.is_multiple_of(BLOCK) && block + BLOCK <= slot.capacity());
    // SAFETY: `block` is the card of a byte inside the budget, rounded down to BLOCK, and `new`
    // checked that the table has BLOCK bytes from each of these on. The base is aligned to a page,
    // hence the block to 8 bytes. No guest code runs.
    let words = unsafe { &*slot.base().as_ptr().add(block).cast::<[u64; BLOCK / 8]>() };
    words.iter().fold(0, |all, word| all | word) != 0
}

/// Collects and clears the marks of `STRIDE` cards from `first` on; false when there is none.
#[inline]
fn take_marks(controls: &[Control], first: usize, marks: &mut [u8; STRIDE]) -> bool {
    let mut any = false;
    for control in controls {
        debug_assert!(first + STRIDE <= control.slot.capacity());
        // SAFETY: `first` lies in a block that `any_mark` may look at, and STRIDE divides BLOCK. No
        // guest code runs.
        let table = unsafe {
            let start = control.slot.base().as_ptr().add(first);
            &mut *start.cast::<[u8; STRIDE]>()
        };
        if table.iter().fold(0, |all, mark| all | mark) != 0 {
            any = true;
            for (mark, byte) in marks.iter_mut().zip(table.iter_mut()) {
                *mark |= std::mem::take(byte);
            }
        }
    }
    any
}

const _: () = assert!(BLOCK.is_multiple_of(STRIDE) && BLOCK.is_multiple_of(8));
