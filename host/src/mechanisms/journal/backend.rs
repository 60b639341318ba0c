//! The file below redb: counts what is written, gets its space when it grows, and may leave out
//! syncs.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{Durability, JournalFault};

/// What was done to a file.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) written_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
}

/// A file as redb wants it.
#[derive(Debug)]
pub(super) struct StoreFile {
    inner: FileBackend,
    file: File,
    durability: Durability,
    traffic: Arc<Traffic>,
}

impl StoreFile {
    pub(super) fn new(
        file: File,
        durability: Durability,
        traffic: Arc<Traffic>,
    ) -> Result<Self, JournalFault> {
        let clone = file.try_clone().map_err(|error| io_fault(&error))?;
        let inner = FileBackend::new(clone).map_err(|error| super::store::fault(&error.into()))?;
        Ok(Self { inner, file, durability, traffic })
    }
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let old = self.inner.len()?;
        self.inner.set_len(len)?;
        if len > old {
            // A sparse file would find out about a full disk in the middle of a commit.
            match fallocate(&self.file, FallocateFlags::empty(), old, len - old) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.durability {
            Durability::Fsync => {
                self.traffic.syncs.fetch_add(1, Ordering::Relaxed);
                self.inner.sync_data()
            }
            Durability::Os => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.traffic.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

/// What an error of the machine means.
pub(super) fn io_fault(error: &io::Error) -> JournalFault {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let kind = if full { super::FaultKind::Full } else { super::FaultKind::Io };
    JournalFault::new(kind, error.to_string())
}
