//! The files below the journal: counted, with their space taken when they grow, and read from the
//! disk instead of the system's cache when the cache can't be trusted.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;

use super::directory::{ACKED, STATE};
use super::log::LOG;
use super::overlay::Below;
use super::{DirectoryId, Durability, FaultKind, JournalFault};
use crate::pure::size::show_bytes;

/// What was done to the files.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) written_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
}

/// The files of a journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Which {
    /// The tables.
    State,
    /// The last acknowledged commits.
    Acked,
    /// The log in front of the tables.
    Log,
}

impl Which {
    pub(super) const ALL: [Self; 3] = [Self::State, Self::Acked, Self::Log];

    /// The file's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::State => STATE,
            Self::Acked => ACKED,
            Self::Log => LOG,
        }
    }
}

/// Opens the files of a journal, as often as it takes.
pub(super) trait Files: Send + Sync + fmt::Debug {
    /// Opens one. After a failed sync the system's cache may hold what the disk doesn't; with
    /// `distrust` what is read comes from the disk.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] with the path.
    fn open(&self, which: Which, distrust: bool) -> Result<Arc<dyn StorageBackend>, JournalFault>;

    /// What is written is still what the directory holds, so that the next start finds it.
    ///
    /// # Errors
    ///
    /// `Directory` when it was deleted, moved or replaced.
    fn still_there(&self, which: Which) -> Result<(), JournalFault> {
        let _ = which;
        Ok(())
    }

    /// Files that were opened only to be read are opened to be written the next time.
    fn write_from_now_on(&self) {}

    /// The same files, to be read as they are now, with nothing written to them; none where that
    /// can't be.
    fn view(&self) -> Option<Box<dyn Files>> {
        None
    }

    /// Others write them meanwhile.
    fn are_written(&self) -> bool {
        false
    }

    /// All files are made: from now on state is expected here.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] with the path.
    fn finish(&self, id: DirectoryId) -> Result<(), JournalFault> {
        let _ = id;
        Ok(())
    }
}

/// A file.
#[derive(Debug)]
pub(super) struct StoreFile {
    file: File,
    durability: Durability,
    traffic: Arc<Traffic>,
}

impl StoreFile {
    pub(super) fn new(file: File, durability: Durability, traffic: Arc<Traffic>) -> Self {
        Self { file, durability, traffic }
    }

    /// Writes what the cache has to write, then empties it.
    pub(super) fn distrust_cache(&self) -> io::Result<()> {
        self.file.sync_data()?;
        match fadvise(&self.file, 0, None, Advice::DontNeed) {
            Ok(()) | Err(Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let old = self.len()?;
        if len <= old {
            return self.file.set_len(len);
        }
        // A sparse file would find out about a full disk in the middle of a commit. What was not
        // taken whole is given back: a length without space would pass for space.
        match fallocate(&self.file, FallocateFlags::empty(), old, len - old) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.file.set_len(len),
            Err(error) => self.file.set_len(old).and(Err(no_room(error, len - old))),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.durability {
            Durability::Fsync => {
                self.traffic.syncs.fetch_add(1, Ordering::Relaxed);
                self.file.sync_data()
            }
            Durability::Os => Ok(()),
        }
    }

    /// Goes on after short and interrupted writes; one of no bytes is an error.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.traffic.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(data, offset)
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Says how much space there should have been: a file of tables grows in large steps.
fn no_room(error: Errno, bytes: u64) -> io::Error {
    match error {
        Errno::NOSPC | Errno::DQUOT => {
            let bytes = show_bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
            let text = format!("{error}: this file wants to grow by {bytes}");
            io::Error::new(io::Error::from(error).kind(), text)
        }
        _ => error.into(),
    }
}

impl Below for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }
}

/// What redb owns of a file that others may share.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<dyn StorageBackend>);

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

/// What an error of the machine means.
pub(super) fn io_fault(error: &io::Error) -> JournalFault {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let full = matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
    let kind = match error.kind() {
        _ if full => FaultKind::Full,
        // No disk says that: redb does, of a file that begins with something else.
        io::ErrorKind::InvalidData => FaultKind::Corrupt,
        _ => FaultKind::Io,
    };
    let why = match error.kind() {
        FileTooLarge => ": the largest file that this process may write (`ulimit -f`) is too small",
        _ if error.raw_os_error() == Some(Errno::NOLCK.raw_os_error()) => {
            ": the file system has no locks, which keep a second host out"
        }
        _ => "",
    };
    JournalFault::new(kind, format!("{error}{why}"))
}
