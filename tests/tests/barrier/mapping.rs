//! Linear memories that the test can read and that outlive instances.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Address space of one memory: all that 32 bits reach, and a guard.
const RESERVED_BYTES: usize = (4 << 30) + (64 << 20);

/// Bytes that may be in use.
const CAPACITY_BYTES: usize = 32 << 20;

/// Memories in the order in which an instance creates them.
#[derive(Clone)]
pub(super) struct Mappings(Arc<Shared>);

struct Shared {
    mappings: Vec<Mapping>,
    next: Mutex<usize>,
}

struct Mapping {
    base: usize,
    /// Bytes in use.
    size: AtomicUsize,
}

impl Mappings {
    pub(super) fn new(count: usize) -> Self {
        let mappings = (0..count).map(|_| Mapping::new()).collect();
        Self(Arc::new(Shared { mappings, next: Mutex::new(0) }))
    }

    pub(super) fn creator(&self) -> Arc<dyn MemoryCreator> {
        Arc::new(self.clone())
    }

    /// The next instance gets the same memories again.
    pub(super) fn rewind(&self) {
        *self.0.next.lock().unwrap() = 0;
    }

    /// All memories as they were before the first instance.
    pub(super) fn reset(&self) {
        self.0.mappings.iter().for_each(Mapping::reset);
        self.rewind();
    }

    /// What a memory holds. Only while no guest runs.
    pub(super) fn bytes(&self, memory: usize) -> &[u8] {
        let mapping = &self.0.mappings[memory];
        let bytes = mapping.size.load(Ordering::Relaxed);
        #[expect(unsafe_code, reason = "reads the memory of a guest that isn't running")]
        // SAFETY: the bytes are mapped and readable, and no guest is running.
        unsafe {
            std::slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(mapping.base), bytes)
        }
    }

    /// What the memories hold. Only while no guest runs.
    pub(super) fn contents(&self) -> Vec<Vec<u8>> {
        (0..self.0.mappings.len()).map(|memory| self.bytes(memory).to_vec()).collect()
    }

    /// Zeroes the first bytes of a memory. Only while no guest runs.
    pub(super) fn zero(&self, memory: usize, bytes: usize) {
        let mapping = &self.0.mappings[memory];
        assert!(bytes <= mapping.size.load(Ordering::Relaxed));
        #[expect(unsafe_code, reason = "the memory of a guest that isn't running")]
        // SAFETY: the bytes are mapped, readable and writable, and no guest is running.
        unsafe {
            ptr::write_bytes(ptr::with_exposed_provenance_mut::<u8>(mapping.base), 0, bytes);
        }
    }
}

impl Mapping {
    fn new() -> Self {
        #[expect(unsafe_code, reason = "maps memory for guests")]
        // SAFETY: a new mapping overlaps nothing.
        let base = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            let base = mmap_anonymous(ptr::null_mut(), RESERVED_BYTES, ProtFlags::empty(), flags);
            base.unwrap()
        };
        Self { base: base.expose_provenance(), size: AtomicUsize::new(0) }
    }

    fn resize(&self, bytes: usize) {
        assert!(bytes <= CAPACITY_BYTES);
        #[expect(unsafe_code, reason = "makes memory of a guest accessible")]
        // SAFETY: the bytes are within the mapping.
        unsafe {
            let base = ptr::with_exposed_provenance_mut(self.base);
            mprotect(base, bytes, MprotectFlags::READ | MprotectFlags::WRITE).unwrap();
        }
        self.size.store(bytes, Ordering::Relaxed);
    }

    fn reset(&self) {
        let bytes = self.size.swap(0, Ordering::Relaxed);
        #[expect(unsafe_code, reason = "drops what a guest that is gone has written")]
        // SAFETY: the bytes are a private anonymous mapping of no guest.
        unsafe {
            let base = ptr::with_exposed_provenance_mut(self.base);
            madvise(base, bytes, Advice::LinuxDontNeed).unwrap();
            mprotect(base, bytes, MprotectFlags::empty()).unwrap();
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "unmaps what it mapped")]
        // SAFETY: the last engine and the last test that knew of it are gone.
        unsafe {
            munmap(ptr::with_exposed_provenance_mut(self.base), RESERVED_BYTES).unwrap();
        }
    }
}

/// One memory of one instance.
struct Memory {
    shared: Arc<Shared>,
    index: usize,
}

impl Memory {
    fn mapping(&self) -> &Mapping {
        &self.shared.mappings[self.index]
    }
}

#[expect(unsafe_code, reason = "wasmtime asks for memories through an unsafe trait")]
// SAFETY: the mapping reserves all that 32 bits reach and a guard, never moves, and outlives
// `self`.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.mapping().size.load(Ordering::Relaxed)
    }

    fn byte_capacity(&self) -> usize {
        CAPACITY_BYTES
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if bytes > CAPACITY_BYTES {
            return Err(wasmtime::Error::msg("the test's memory is full"));
        }
        self.mapping().resize(bytes);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.mapping().base)
    }
}

#[expect(unsafe_code, reason = "wasmtime asks for memories through an unsafe trait")]
// SAFETY: new mappings are zero, and the others hold what an instance of the same component left.
unsafe impl MemoryCreator for Mappings {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        _reserved: Option<usize>,
        _guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let mut next = self.0.next.lock().unwrap();
        let memory = Memory { shared: Arc::clone(&self.0), index: *next };
        let mapping = self.0.mappings.get(*next).ok_or("more memories than the layout says")?;
        *next += 1;
        mapping.resize(minimum.max(mapping.size.load(Ordering::Relaxed)));
        Ok(Box::new(memory))
    }
}
