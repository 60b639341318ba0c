//! Anonymous mappings of the kernel.
//!
//! # Safety argument
//!
//! A [`Mapping`] owns its range from `mmap` to `munmap` and hands out its base only as a raw
//! pointer; whoever dereferences it states why nobody else does at the same time. Protection
//! changes stay inside the range, which is checked.

#![expect(unsafe_code, reason = "the kernel's memory calls take raw addresses")]

use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// The kernel refused memory.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused {bytes} bytes ({purpose}): {source}")]
pub struct MapError {
    bytes: usize,
    purpose: &'static str,
    source: rustix::io::Errno,
}

/// A range of address space that is ours until drop.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the range belongs to no thread; the pointer is only an address.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives out the address alone.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `len` bytes of address space that can't be touched yet.
    pub(super) fn reserve(len: usize, purpose: &'static str) -> Result<Self, MapError> {
        Self::map(len, ProtFlags::empty(), MapFlags::NORESERVE, purpose)
    }

    /// Maps `len` zero bytes, present in memory at once.
    pub(super) fn prefaulted(len: usize, purpose: &'static str) -> Result<Self, MapError> {
        let read_write = ProtFlags::READ | ProtFlags::WRITE;
        Self::map(len, read_write, MapFlags::POPULATE, purpose)
    }

    /// Looks whether so many bytes more could be had.
    pub(super) fn look_for_room(len: usize) -> Result<(), MapError> {
        let read_write = ProtFlags::READ | ProtFlags::WRITE;
        Self::map(len, read_write, MapFlags::empty(), "the host itself").map(drop)
    }

    fn map(
        len: usize,
        protection: ProtFlags,
        flags: MapFlags,
        purpose: &'static str,
    ) -> Result<Self, MapError> {
        // SAFETY: a null hint lets the kernel choose a free range, so nothing mapped is replaced.
        let mapped =
            unsafe { mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::PRIVATE | flags) };
        let refused = |source| MapError { bytes: len, purpose, source };
        let base = NonNull::new(mapped.map_err(refused)?.cast::<u8>())
            .ok_or_else(|| refused(rustix::io::Errno::NOMEM))?;
        Ok(Self { base, len })
    }

    /// Makes `[offset, offset + len)` readable and writable, without touching it.
    pub(super) fn open(
        &self,
        offset: usize,
        len: usize,
        purpose: &'static str,
    ) -> Result<(), MapError> {
        self.protect(offset, len, MprotectFlags::READ | MprotectFlags::WRITE, purpose)
    }

    /// Makes `[offset, offset + len)` untouchable; what it holds stays.
    pub(super) fn close(&self, offset: usize, len: usize) -> Result<(), MapError> {
        self.protect(offset, len, MprotectFlags::empty(), "closing")
    }

    fn protect(
        &self,
        offset: usize,
        len: usize,
        flags: MprotectFlags,
        purpose: &'static str,
    ) -> Result<(), MapError> {
        let refused = |source| MapError { bytes: len, purpose, source };
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(refused(rustix::io::Errno::INVAL));
        }
        // SAFETY: the range lies inside this mapping, as checked above.
        unsafe { mprotect(self.base.as_ptr().add(offset).cast(), len, flags) }.map_err(refused)
    }

    /// Touches each 4 KiB page of `[offset, offset + len)`, which must be open and hold zeros, so
    /// that later writes meet no page fault.
    pub(super) fn prefault(&self, offset: usize, len: usize) {
        let end = offset.saturating_add(len).min(self.len);
        for page in (offset..end).step_by(4096) {
            // SAFETY: inside the mapping; no instance runs on a range that is being set up.
            unsafe { self.base.as_ptr().add(page).write_volatile(0) };
        }
    }

    /// The address of byte `offset`.
    pub(super) fn address(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.len);
        // SAFETY: inside the mapping, or one past its end.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range came from `mmap` with this length, and nobody holds a reference into
        // it: owners of instances on it keep an `Arc` of the slot that owns this mapping.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an owned range");
    }
}
