//! Fills a committed image from outside: from the journal, before its daemon starts.
//!
//! # Safety argument
//!
//! Only the committed image is written, which no instance can reach, through `&mut Images`, and as
//! a change, during which no follower reads; every range is checked against the committed size,
//! which is inside the mapped budget.

#![expect(unsafe_code, reason = "writes into a mapping")]

use super::images::Images;

impl Images {
    /// Makes the committed image empty, as if there had never been a commit: for loading one.
    pub fn clear_committed(&mut self) {
        self.change(0..self.committed_size);
        // SAFETY: `committed_size` <= budget bytes are mapped; `&mut self` is the only access.
        unsafe { self.committed.address(0).as_ptr().write_bytes(0, self.committed_size) };
        self.committed_size = 0;
        for control in &mut self.controls {
            control.committed_state.fill(0);
        }
    }

    /// Sets the size of the committed image while it is loaded; false when it is over the budget.
    #[must_use]
    pub fn resize_committed(&mut self, bytes: usize) -> bool {
        if bytes > self.budget {
            return false;
        }
        if bytes < self.committed_size {
            self.change(bytes..self.committed_size);
            // SAFETY: both sizes are inside the budget, which is mapped.
            unsafe {
                let end = self.committed.address(bytes).as_ptr();
                end.write_bytes(0, self.committed_size - bytes);
            }
        }
        self.begin_change();
        self.committed_size = bytes;
        true
    }

    /// Writes into the committed image while it is loaded; false when the range is outside.
    #[must_use]
    pub fn write_committed(&mut self, offset: usize, bytes: &[u8]) -> bool {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.committed_size) {
            return false;
        }
        self.change(offset..offset + bytes.len());
        // SAFETY: inside the committed size, which is inside the mapped budget.
        unsafe {
            let to = self.committed.address(offset).as_ptr();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        true
    }

    /// Sets the committed globals of one core module; false when there are not as many.
    #[must_use]
    pub fn write_committed_state(&mut self, module: usize, state: &[u8]) -> bool {
        self.begin_change();
        match self.controls.get_mut(module) {
            Some(control) if control.committed_state.len() == state.len() => {
                control.committed_state.copy_from_slice(state);
                true
            }
            _ => false,
        }
    }
}
