//! Ruins the live image on purpose, as a guest gone wild would: how a crash is simulated.
//!
//! # Safety argument
//!
//! As in `images`: this takes the daemon's only `Images` by `&mut self`, and the daemon calls it
//! while no guest code runs. Every range lies inside the live size, which is mapped.

#![expect(unsafe_code, reason = "writes into memory that guests also write")]

use super::cards::{card_mark, state_address};
use super::images::Images;
use crate::base::entropy::EntropyStream;

impl Images {
    /// Writes random bytes over `cards` cards of the live image, or all that there are, each marked
    /// before, as the guest's own stores are, and over all live globals. No card may be marked yet.
    pub fn scribble(&mut self, cards: usize, random: &mut EntropyStream) {
        let (size, card_bytes) = (self.live.size(), 1_usize << self.card_shift);
        let there = size.div_ceil(card_bytes);
        let Some(control) = self.controls.first() else { return };
        for _ in 0..cards.min(there) {
            let mut card = usize::try_from(random.next_u64() % there as u64).unwrap_or(0);
            // One that was not written yet: there is one, since no more are written than there are.
            while card_mark(&control.slot, card) != 0 {
                card = (card + 1) % there;
            }
            let start = card << self.card_shift;
            let bytes = card_bytes.min(size - start);
            // SAFETY: `start` is the first byte of a card inside the live size, and `bytes` of it
            // are; the card table covers every 32-bit address. No guest code runs.
            let bytes = unsafe {
                control.slot.base().as_ptr().add(card).write(1);
                std::slice::from_raw_parts_mut(self.live.base().as_ptr().add(start), bytes)
            };
            random.fill(bytes);
        }
        for control in &self.controls {
            let state = state_address(&control.slot, self.state_offset);
            // SAFETY: the state area holds `state_bytes` bytes (checked in `new`), no guest code
            // runs.
            let state = unsafe { std::slice::from_raw_parts_mut(state, control.state_bytes) };
            random.fill(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::WASM_PAGE_BYTES;
    use crate::mechanisms::memory::{ControlShape, Shape};

    #[test]
    fn what_was_ruined_is_marked_and_rolled_back() {
        let (control_bytes, state_offset) = ((1 << 20) + WASM_PAGE_BYTES, 1 << 20);
        let controls = vec![ControlShape { state_bytes: 16 }; 2];
        let shape = Shape { card_shift: 12, control_bytes, state_offset, controls };
        let mut images = Images::new(1 << 20, &shape).unwrap();
        let mut random = EntropyStream::new([3; 32]);
        for size in [0, WASM_PAGE_BYTES, 1 << 20] {
            assert!(images.live_slot().set_size(size));
            images.commit();
            let hash = images.committed_hash();
            images.scribble(64, &mut random);
            assert_ne!(images.live_hash(), hash, "{size}");
            images.verify_marks().unwrap();
            assert_eq!(images.committed_hash(), hash);
            let cards = images.roll_back().cards as usize;
            assert_eq!(cards, (size >> 12).min(64));
            images.verify().unwrap();
            assert_eq!(images.live_hash(), hash);
        }
    }
}
