//! One linear memory that an instance can be created over, again and again.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::mapping::{MapError, Mapping};
use crate::base::limits::{MEMORY_GUARD_BYTES, MEMORY_RESERVATION_BYTES};

/// A reservation of 4 GiB of address space between two guards, its first `capacity` bytes mapped.
///
/// The base never moves. The size is what the guest sees; it grows inside the capacity and only
/// the host makes it smaller, between two instances.
#[derive(Debug)]
pub struct Slot {
    mapping: Mapping,
    capacity: usize,
    size: AtomicUsize,
    /// Bytes that can be touched. At least the size; more only while no instance runs.
    open: AtomicUsize,
}

impl Slot {
    /// Reserves and maps; `prefaulted` ranges, as (offset, length), are made present at once.
    ///
    /// # Errors
    ///
    /// [`MapError`] when the kernel has no memory or address space left.
    pub(super) fn new(
        capacity: usize,
        prefaulted: &[(usize, usize)],
        purpose: &'static str,
    ) -> Result<Arc<Self>, MapError> {
        let reserved = MEMORY_RESERVATION_BYTES + 2 * MEMORY_GUARD_BYTES;
        let mapping = Mapping::reserve(reserved, purpose)?;
        mapping.open(MEMORY_GUARD_BYTES, capacity, purpose)?;
        for &(offset, len) in prefaulted {
            let len = len.min(capacity.saturating_sub(offset));
            mapping.prefault(MEMORY_GUARD_BYTES + offset, len);
        }
        Ok(Arc::new(Self {
            mapping,
            capacity,
            size: AtomicUsize::new(0),
            open: AtomicUsize::new(capacity),
        }))
    }

    /// The address of byte 0.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.mapping.address(MEMORY_GUARD_BYTES)
    }

    /// Bytes that are mapped, hence the most that the size can be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that the guest sees.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Sets the size, and opens what was closed below it. Returns false, and changes nothing, when
    /// it is over the capacity or the kernel refuses.
    #[must_use]
    pub fn set_size(&self, size: usize) -> bool {
        if size > self.capacity {
            return false;
        }
        let open = self.open.load(Ordering::Relaxed);
        if size > open {
            let (start, len) = (MEMORY_GUARD_BYTES + open, size - open);
            if self.mapping.open(start, len, "growth").is_err() {
                return false;
            }
            self.open.store(size, Ordering::Relaxed);
        }
        self.size.store(size, Ordering::Relaxed);
        true
    }

    /// Closes everything above the size, so that an instance traps there as if nothing were mapped:
    /// compiled code checks no bounds. Returns false when the kernel refuses.
    #[must_use]
    pub fn close_above_size(&self) -> bool {
        let (size, open) = (self.size(), self.open.load(Ordering::Relaxed));
        if size < open {
            if self.mapping.close(MEMORY_GUARD_BYTES + size, open - size).is_err() {
                return false;
            }
            self.open.store(size, Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_stays_inside_the_capacity() {
        let slot = Slot::new(1 << 20, &[(0, 1 << 20)], "test").unwrap();
        assert_eq!(slot.size(), 0);
        assert!(slot.set_size(1 << 20));
        assert!(!slot.set_size((1 << 20) + 1));
        assert_eq!(slot.size(), 1 << 20);
    }

    #[test]
    fn a_refused_mapping_is_an_error_with_its_purpose() {
        let refused = Mapping::reserve(usize::MAX & !0xffff, "everything").unwrap_err();
        assert!(refused.to_string().contains("everything"));
    }
}
