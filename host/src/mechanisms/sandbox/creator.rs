//! Gives instances the daemon's own memory.
//!
//! A component's memory is private to it; handing wasmtime memory that we made is how the host
//! knows the address. Which slots an instantiation gets is passed through the thread, since
//! wasmtime's callback doesn't say whose instance it is for.
//!
//! # Safety argument
//!
//! * A slot reserves 4 GiB plus 32 MiB guards on both sides and never moves, which is what the
//!   engine is configured for; the creator refuses any other request.
//! * wasmtime expects a new memory to hold zeros beyond what the instance itself writes. Ours holds
//!   the daemon's committed state instead, on purpose: it is bytes of the same guest, reachable
//!   only by that guest, never executed or interpreted by wasmtime.
//! * One instance uses a slot at a time: `Instance` owns its Store and drops it before the next
//!   start. The slot outlives the instance, because each linear memory holds an `Arc` of it.

#![expect(unsafe_code, reason = "implements wasmtime's unsafe memory traits")]

use std::cell::RefCell;
use std::sync::Arc;

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use crate::base::limits::{MEMORY_GUARD_BYTES, MEMORY_RESERVATION_BYTES};
use crate::mechanisms::memory::Slot;

thread_local! {
    /// The slots of the instantiation that runs on this thread, the next one last.
    static OFFERED: RefCell<Vec<Arc<Slot>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `instantiate` with `slots` on offer, in order. Answers its result, and how many slots it
/// left over.
pub(super) fn with_slots<R>(
    slots: impl DoubleEndedIterator<Item = Arc<Slot>>,
    instantiate: impl FnOnce() -> R,
) -> (R, usize) {
    OFFERED.with_borrow_mut(|offered| {
        offered.clear();
        offered.extend(slots.rev());
    });
    let result = instantiate();
    let left = OFFERED.with_borrow_mut(|offered| {
        let left = offered.len();
        offered.clear();
        left
    });
    (result, left)
}

/// Takes memories from the slots on offer.
#[derive(Debug)]
pub(super) struct SlotCreator;

// SAFETY: see the module's safety argument: reserved and guarded as asked, never moving, alive as
// long as the memory object.
unsafe impl MemoryCreator for SlotCreator {
    fn new_memory(
        &self,
        _type: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if reserved_size_in_bytes.is_none_or(|bytes| bytes > MEMORY_RESERVATION_BYTES)
            || guard_size_in_bytes > MEMORY_GUARD_BYTES
        {
            return Err(format!(
                "memory with {reserved_size_in_bytes:?} bytes reserved and {guard_size_in_bytes} guard"
            ));
        }
        let slot = OFFERED
            .with_borrow_mut(Vec::pop)
            .ok_or_else(|| "more memories than the guest was rewritten for".to_owned())?;
        // A restored memory keeps its committed size; a first one starts with the minimum.
        let size = slot.size().max(minimum);
        if !slot.set_size(size) {
            return Err(format!("{size} bytes of memory are over the budget"));
        }
        if !slot.close_above_size() {
            return Err("the kernel refused to close what is above the memory".to_owned());
        }
        Ok(Box::new(SlotMemory { slot }))
    }
}

struct SlotMemory {
    slot: Arc<Slot>,
}

// SAFETY: the pointer stays valid and in place while this object holds the slot; byte_size never
// passes what is mapped, because `Slot::set_size` refuses more than the capacity.
unsafe impl LinearMemory for SlotMemory {
    fn byte_size(&self) -> usize {
        self.slot.size()
    }

    fn byte_capacity(&self) -> usize {
        self.slot.capacity()
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if self.slot.set_size(new_size) {
            Ok(())
        } else {
            Err(wasmtime::Error::msg("over the memory budget"))
        }
    }

    fn as_ptr(&self) -> *mut u8 {
        self.slot.base().as_ptr()
    }
}
