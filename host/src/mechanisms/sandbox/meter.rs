//! What a daemon's instances use at the moment, for whoever looks from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Written by the daemon's thread while guest code runs, read by everybody.
#[derive(Debug, Default)]
pub struct Meter {
    instances: AtomicU64,
    fuel: AtomicU64,
    peak_bytes: AtomicU64,
}

impl Meter {
    /// Instances that there are.
    #[must_use]
    pub fn instances(&self) -> u64 {
        self.instances.load(Ordering::Relaxed)
    }

    /// Fuel that the running call has used, as of the last function that it entered; 0 when none
    /// runs.
    #[must_use]
    pub fn fuel(&self) -> u64 {
        self.fuel.load(Ordering::Relaxed)
    }

    /// Most bytes to which a call has grown its memory, whatever became of it; 0 when none has.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// One more instance, until this is dropped.
    pub(super) fn count(self: &Arc<Self>) -> Counted {
        self.instances.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    pub(super) fn used(&self, fuel: u64) {
        self.fuel.store(fuel, Ordering::Relaxed);
    }

    pub(super) fn grown(&self, bytes: usize) {
        self.peak_bytes.fetch_max(bytes as u64, Ordering::Relaxed);
    }
}

/// An instance that is there.
#[derive(Debug)]
pub(super) struct Counted(Arc<Meter>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.instances.fetch_sub(1, Ordering::Relaxed);
    }
}
