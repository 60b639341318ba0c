//! A data directory: its lock, its marker, its files.
//!
//! ```text
//!  bulkhead.data   the marker: format and id; written last, so that it says: state exists
//!  lock            held by the host that runs, with its process id in it
//!  state.redb      records and base images
//!  acked           the last acknowledged commit of each daemon
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{FaultKind, JournalFault};

/// Identifies a data directory for ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirectoryId(pub u128);

impl std::fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The format of the directory and of everything in the store.
pub(super) const FORMAT: u32 = 1;

const MARKER: &str = "bulkhead.data";
const MARKER_NEW: &str = "bulkhead.data.new";
const LOCK: &str = "lock";
pub(super) const STATE: &str = "state.redb";
const STATE_NEW: &str = "state.redb.new";
pub(super) const ACKED: &str = "acked";
const OURS: [&str; 6] = [MARKER, LOCK, STATE, STATE_NEW, ACKED, MARKER_NEW];

/// Bytes of a marker; more is not one.
const MARKER_BYTES_MAX: u64 = 256;

/// A locked data directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The lock ends with the file.
    _lock: File,
    marker: Option<DirectoryId>,
}

impl Directory {
    /// Creates the directory if it doesn't exist, locks it, and reads its marker.
    pub(super) fn lock(path: &Path) -> Result<Self, JournalFault> {
        let created = !path.exists();
        fs::create_dir_all(path).map_err(|error| broken(path, "can't be created", &error))?;
        if created && let Some(parent) = path.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            sync_directory(parent)?;
        }
        refuse_foreign(path)?;
        let lock = take_lock(&path.join(LOCK))?;
        let (temporary, marker) = (path.join(MARKER_NEW), path.join(MARKER));
        if path.join(STATE).exists() && !marker.exists() && read_marker(&temporary)?.is_some() {
            // Creation was cut short between its two renames.
            fs::rename(&temporary, &marker)
                .map_err(|error| broken(&marker, "can't be renamed", &error))?;
            sync_directory(path)?;
        }
        let marker = read_marker(&path.join(MARKER))?;
        if marker.is_some() && !path.join(STATE).exists() {
            let what = format!("the directory had state, but `{STATE}` is gone: put it back");
            return Err(JournalFault::new(FaultKind::Directory, what).in_file(path));
        }
        Ok(Self { path: path.to_owned(), _lock: lock, marker })
    }

    pub(super) fn marker(&self) -> Option<DirectoryId> {
        self.marker
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the store's file; a new one under another name until [`Directory::finish`].
    pub(super) fn open_state(&self) -> Result<File, JournalFault> {
        let path = self.file(if self.marker.is_some() { STATE } else { STATE_NEW });
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if self.marker.is_none() {
            if self.file(STATE).exists() {
                let what = format!("`{STATE}` is here, but not the marker `{MARKER}`: put it back");
                return Err(JournalFault::new(FaultKind::Directory, what).in_file(&self.path));
            }
            options.create(true).truncate(true);
        }
        let file = options.open(&path).map_err(|error| broken(&path, "can't be opened", &error))?;
        let length = file.metadata().map_err(|error| broken(&path, "can't be read", &error))?.len();
        if self.marker.is_some() && length == 0 {
            let what = "the directory had state, but this file is empty: put it back";
            return Err(JournalFault::new(FaultKind::Directory, what).in_file(path));
        }
        Ok(file)
    }

    pub(super) fn open_acked(&self) -> Result<File, JournalFault> {
        let path = self.file(ACKED);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(self.marker.is_none()).truncate(false);
        options.open(&path).map_err(|error| broken(&path, "can't be opened", &error))
    }

    /// Gives a new store its name, then writes the marker: from now on state is expected here.
    pub(super) fn finish(&self, id: DirectoryId) -> Result<(), JournalFault> {
        let (from, to) = (self.file(STATE_NEW), self.file(STATE));
        let temporary = self.file(MARKER_NEW);
        let write = || {
            let mut file = File::create(&temporary)?;
            write!(file, "bulkhead data directory\nformat {FORMAT}\nid {id}\n")?;
            file.sync_all()
        };
        write().map_err(|error| broken(&temporary, "can't be written", &error))?;
        sync_directory(&self.path)?;
        fs::rename(&from, &to).map_err(|error| broken(&from, "can't be renamed", &error))?;
        sync_directory(&self.path)?;
        let marker = self.file(MARKER);
        fs::rename(&temporary, &marker)
            .map_err(|error| broken(&marker, "can't be renamed", &error))?;
        sync_directory(&self.path)
    }
}

fn broken(path: &Path, what: &str, error: &io::Error) -> JournalFault {
    let mut fault = super::backend::io_fault(error);
    if fault.kind == FaultKind::Io && error.kind() != io::ErrorKind::Other {
        fault.kind = FaultKind::Directory;
    }
    fault.what = format!("{what}: {error}");
    fault.in_file(path)
}

fn sync_directory(path: &Path) -> Result<(), JournalFault> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| broken(path, "can't be synced", &error))
}

/// A directory without a marker must hold nothing that isn't ours.
fn refuse_foreign(path: &Path) -> Result<(), JournalFault> {
    if path.join(MARKER).exists() {
        return Ok(());
    }
    let unreadable = |error: io::Error| broken(path, "can't be read", &error);
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            let what = format!("not a data directory: it holds {}", name.display());
            return Err(JournalFault::new(FaultKind::Directory, what).in_file(path));
        }
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, JournalFault> {
    let unusable = |error: io::Error| broken(path, "can't be locked", &error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut lock = options.open(path).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message: an unreadable number is no other failure.
            let read = lock.take(20).read_to_string(&mut pid);
            let pid = if read.is_ok() { pid.trim() } else { "?" };
            let what = format!("another host, process {pid}, runs on this directory");
            return Err(JournalFault::new(FaultKind::Locked, what).in_file(path));
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    lock.set_len(0).map_err(unusable)?;
    writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
    Ok(lock)
}

fn read_marker(path: &Path) -> Result<Option<DirectoryId>, JournalFault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(path, "can't be read", &error)),
    };
    let mut text = String::new();
    file.take(MARKER_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| broken(path, "can't be read", &error))?;
    let mut lines = text.lines();
    let format = lines.nth(1).and_then(|line| line.strip_prefix("format "));
    let id = lines.next().and_then(|line| line.strip_prefix("id "));
    let format = format.and_then(|format| format.parse::<u32>().ok());
    let id = id.filter(|id| id.len() == 32).and_then(|id| u128::from_str_radix(id, 16).ok());
    match (format, id) {
        (Some(FORMAT), Some(id)) => Ok(Some(DirectoryId(id))),
        (Some(format), _) if format != FORMAT => {
            let what = format!("format {format}; this host reads format {FORMAT}");
            Err(JournalFault::new(FaultKind::Format, what).in_file(path))
        }
        _ => Err(JournalFault::corrupt("not a marker of a data directory").in_file(path)),
    }
}
