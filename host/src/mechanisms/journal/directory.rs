//! A data directory: its lock, its marker, its files.
//!
//! ```text
//!  bulkhead.data   the marker: format and id; written last, so that it says: state exists
//!  lock            held by the host that runs, with its process id in it
//!  log             the newest records, see `log`
//!  state.redb      the tables: older records and base images
//!  acked           the last acknowledged commit of each daemon
//! ```
//!
//! The host that runs holds `lock`, which says who it is, and each of the last three, which are
//! what must not be written twice: a file beside them can be deleted. It stays with the files that
//! it has locked: others under their names are none of it.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use redb::StorageBackend;
use rustix::fs::OFlags;

use super::backend::{Files, StoreFile, Traffic, Which};
use super::log::LOG;
use super::overlay::Overlay;
use super::{Durability, FaultKind, JournalFault};
use crate::base::limits::{OWN_LOCK_TICK, OWN_LOCK_WAIT};
use crate::base::regular::{open_regular, read_regular};

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

/// The format of tables in which some state has come in parts. An earlier host refuses them.
pub(super) const FORMAT_PARTS: u32 = 2;

/// The file that says of a directory that it is a data directory.
pub const MARKER: &str = "bulkhead.data";
const MARKER_NEW: &str = "bulkhead.data.new";
const LOCK: &str = "lock";
pub(super) const STATE: &str = "state.redb";
const STATE_NEW: &str = "state.redb.new";
pub(super) const ACKED: &str = "acked";
const OURS: [&str; 7] = [MARKER, LOCK, STATE, STATE_NEW, ACKED, LOG, MARKER_NEW];

/// Bytes of a marker; more is not one.
const MARKER_BYTES_MAX: u64 = 256;

/// What is to be done with a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    Write,
    /// Nothing of it is changed: see [`super::overlay`].
    Read,
}

/// A locked data directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The lock ends with the file. One that is only read may have none.
    _lock: Option<File>,
    /// The files that are written, locked, by name.
    held: Mutex<BTreeMap<&'static str, File>>,
    marker: OnceLock<DirectoryId>,
}

/// The files of a data directory.
#[derive(Debug)]
pub(super) struct DirectoryFiles {
    pub(super) directory: Directory,
    pub(super) durability: Durability,
    pub(super) traffic: Arc<Traffic>,
    /// The next files are only read.
    pub(super) reads: AtomicBool,
}

/// The files of a directory that somebody has locked, only to be read.
#[derive(Debug)]
struct View(PathBuf);

impl Files for View {
    fn open(&self, which: Which, _: bool) -> Result<Arc<dyn StorageBackend>, JournalFault> {
        let path = self.0.join(which.name());
        let open = || -> io::Result<Arc<dyn StorageBackend>> {
            let (mut file, _) = read_regular(&path, OFlags::empty())?;
            if which != Which::Acked {
                return Ok(Arc::new(Overlay::new(file)?));
            }
            // It is read first, and as it is now: what is acknowledged meanwhile may be in no log
            // that was read before.
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(Arc::new(Overlay::new(bytes)?))
        };
        open().map_err(|error| broken(&path, "can't be read", &error))
    }

    fn are_written(&self) -> bool {
        true
    }
}

impl Files for DirectoryFiles {
    fn open(&self, which: Which, distrust: bool) -> Result<Arc<dyn StorageBackend>, JournalFault> {
        if self.reads.load(Ordering::Acquire) {
            let path = self.directory.file(which.name());
            let mut options = OpenOptions::new();
            options.read(true);
            let file = self.directory.hold(which.name(), &path, &options, OFlags::empty())?;
            let file =
                Overlay::new(file).map_err(|error| broken(&path, "can't be read", &error))?;
            return Ok(Arc::new(file));
        }
        let (path, file) = match which {
            Which::State => self.directory.open_state()?,
            Which::Acked | Which::Log => self.directory.open_other(which.name())?,
        };
        let file = StoreFile::new(file, self.durability, self.traffic.clone());
        if distrust {
            file.distrust_cache().map_err(|error| broken(&path, "can't be read anew", &error))?;
        }
        Ok(Arc::new(file))
    }

    fn finish(&self, id: DirectoryId) -> Result<(), JournalFault> {
        self.directory.finish(id)
    }

    fn write_from_now_on(&self) {
        self.reads.store(false, Ordering::Release);
    }

    fn view(&self) -> Option<Box<dyn Files>> {
        Some(Box::new(View(self.directory.path.clone())))
    }

    fn still_there(&self, which: Which) -> Result<(), JournalFault> {
        // One that is being made gets other names in between.
        match self.directory.marker() {
            Some(_) => self.directory.still_there(which.name()),
            None => Ok(()),
        }
    }
}

impl Directory {
    /// Locks a directory that is there, without changing anything, and reads its marker.
    fn lock_to_read(path: &Path) -> Result<Self, JournalFault> {
        let marker = read_marker(&path.join(MARKER))?;
        if marker.is_none() || !path.join(STATE).exists() {
            let what = "no data directory is here";
            return Err(JournalFault::new(FaultKind::Directory, what).in_file(path));
        }
        let lock = path.join(LOCK);
        // The files themselves are locked when they are opened.
        let lock = lock.exists().then(|| take_lock(&lock, Access::Read)).transpose()?;
        let marker = marker.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { path: path.to_owned(), _lock: lock, held: Mutex::default(), marker })
    }

    /// Locks the directory and reads its marker. To be written it is made if it doesn't exist.
    pub(super) fn lock(path: &Path, access: Access) -> Result<Self, JournalFault> {
        if access == Access::Read {
            return Self::lock_to_read(path);
        }
        let created = !path.exists();
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700);
        make.create(path).map_err(|error| broken(path, "can't be created", &error))?;
        let facts = fs::metadata(path).map_err(|error| broken(path, "can't be read", &error))?;
        refuse_open(path, &facts)?;
        if created && let Some(parent) = path.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            sync_directory(parent)?;
        }
        refuse_foreign(path)?;
        let lock = Some(take_lock(&path.join(LOCK), access)?);
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
        let marker = marker.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { path: path.to_owned(), _lock: lock, held: Mutex::default(), marker })
    }

    pub(super) fn marker(&self) -> Option<DirectoryId> {
        self.marker.get().copied()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the store's file; a new one under another name until [`Directory::finish`].
    fn open_state(&self) -> Result<(PathBuf, File), JournalFault> {
        let made = self.marker().is_some();
        let path = self.file(if made { STATE } else { STATE_NEW });
        let mut options = private();
        if !made {
            if self.file(STATE).exists() {
                let what = format!("`{STATE}` is here, but not the marker `{MARKER}`: put it back");
                return Err(JournalFault::new(FaultKind::Directory, what).in_file(&self.path));
            }
            options.create(true).truncate(false);
        }
        let file = self.hold(STATE, &path, &options, OFlags::NOFOLLOW)?;
        let length = file.metadata().map_err(|error| broken(&path, "can't be read", &error))?.len();
        if made && length == 0 {
            let what = "the directory had state, but this file is empty: put it back";
            return Err(JournalFault::new(FaultKind::Directory, what).in_file(path));
        }
        Ok((path, file))
    }

    /// Opens a file that is made with the directory, and never again.
    fn open_other(&self, name: &'static str) -> Result<(PathBuf, File), JournalFault> {
        let path = self.file(name);
        let new = self.marker().is_none();
        let mut options = private();
        options.create(new).truncate(false);
        let file = self.hold(name, &path, &options, OFlags::NOFOLLOW)?;
        Ok((path, file))
    }

    /// Opens a file that is written. The first time it is locked, and emptied if it is to be made;
    /// later it must be the same one.
    fn hold(
        &self,
        name: &'static str,
        path: &Path,
        options: &OpenOptions,
        flags: OFlags,
    ) -> Result<File, JournalFault> {
        let unusable = |error: io::Error| broken(path, "can't be opened", &error);
        let (file, facts) = open_regular(path, options, flags).map_err(unusable)?;
        refuse_open(path, &facts)?;
        let mut held = self.held();
        if let Some(first) = held.get(name) {
            same(first, &facts, path)?;
            return Ok(file);
        }
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // What this process has closed a child of it may still hold.
                Err(TryLockError::WouldBlock) if since.elapsed() < OWN_LOCK_WAIT => {
                    std::thread::sleep(OWN_LOCK_TICK);
                }
                Err(TryLockError::WouldBlock) => {
                    let what = "another host runs on this directory: it has this file locked";
                    return Err(JournalFault::new(FaultKind::Locked, what).in_file(path));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(broken(path, "can't be locked", &error));
                }
            }
        }
        if self.marker().is_none() {
            file.set_len(0).map_err(unusable)?;
        }
        held.insert(name, file.try_clone().map_err(unusable)?);
        Ok(file)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<&'static str, File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that is written under this name is still the one in the directory.
    fn still_there(&self, name: &'static str) -> Result<(), JournalFault> {
        let path = self.file(name);
        let held = self.held();
        let Some(first) = held.get(name) else { return Ok(()) };
        match fs::metadata(&path) {
            Ok(found) => same(first, &found, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(JournalFault::new(FaultKind::Directory, GONE).in_file(path))
            }
            Err(error) => Err(broken(&path, "can't be read", &error)),
        }
    }

    /// Gives a new store its name, then writes the marker: from now on state is expected here.
    fn finish(&self, id: DirectoryId) -> Result<(), JournalFault> {
        let (from, to) = (self.file(STATE_NEW), self.file(STATE));
        let temporary = self.file(MARKER_NEW);
        let write = || {
            let options = private().create(true).truncate(true).clone();
            let (mut file, _) = open_regular(&temporary, &options, OFlags::NOFOLLOW)?;
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
        sync_directory(&self.path)?;
        // Once: a directory is finished by whoever has locked it.
        let _same = self.marker.set(id);
        Ok(())
    }
}

const GONE: &str = "it was deleted, moved or replaced while the host runs: put it back";

/// What was found under a path is the file that was opened first.
fn same(first: &File, found: &Metadata, path: &Path) -> Result<(), JournalFault> {
    let first = first.metadata().map_err(|error| broken(path, "can't be read", &error))?;
    if (first.dev(), first.ino()) == (found.dev(), found.ino()) {
        return Ok(());
    }
    Err(JournalFault::new(FaultKind::Directory, GONE).in_file(path))
}

fn broken(path: &Path, what: &str, error: &io::Error) -> JournalFault {
    let mut fault = super::backend::io_fault(error);
    if fault.kind == FaultKind::Io && error.kind() != io::ErrorKind::Other {
        fault.kind = FaultKind::Directory;
    }
    fault.what = format!("{what}: {}", fault.what);
    fault.in_file(path)
}

fn sync_directory(path: &Path) -> Result<(), JournalFault> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| broken(path, "can't be synced", &error))
}

/// A directory that there is failed to open because nothing can be written to it.
pub(super) fn unwritable(path: &Path, fault: &JournalFault) -> bool {
    let refused = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
    };
    let log = || open_regular(&path.join(LOG), OpenOptions::new().write(true), OFlags::empty());
    path.join(MARKER).exists()
        && (matches!(fault.kind, FaultKind::Full | FaultKind::Io)
            || (fault.kind == FaultKind::Directory && log().is_err_and(|error| refused(&error))))
}

/// For a file that only this user may read and write. It is no link to another one where it is
/// opened so.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// State that others can write is nobody's word. Who may read it is for its owner to say; root may,
/// and what is in a directory that it has looked at is as good as that.
fn refuse_open(path: &Path, facts: &Metadata) -> Result<(), JournalFault> {
    let me = rustix::process::geteuid();
    let what = if facts.uid() != me.as_raw() && !(me.is_root() && facts.is_file()) {
        "it is another user's: run the host as that user, or chown it"
    } else if facts.mode() & 0o022 != 0 {
        "others can write to it: chmod go-w"
    } else {
        return Ok(());
    };
    Err(JournalFault::new(FaultKind::Directory, what).in_file(path))
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

fn take_lock(path: &Path, access: Access) -> Result<File, JournalFault> {
    let unusable = |error: io::Error| broken(path, "can't be locked", &error);
    let mut options = private();
    let writes = access == Access::Write;
    options.write(writes).create(writes).truncate(false);
    let (mut lock, facts) = open_regular(path, &options, OFlags::NOFOLLOW).map_err(unusable)?;
    refuse_open(path, &facts)?;
    let (since, own) = (Instant::now(), std::process::id().to_string());
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let mut pid = String::new();
        // Only for the message: an unreadable number is no other failure.
        let read = lock.rewind().and_then(|()| (&lock).take(20).read_to_string(&mut pid));
        let pid = if read.is_ok() { pid.trim() } else { "?" };
        // What this process has closed a child of it may still hold, until it runs its program.
        if pid != own || since.elapsed() > OWN_LOCK_WAIT {
            let what = format!("another host, process {pid}, runs on this directory");
            return Err(JournalFault::new(FaultKind::Locked, what).in_file(path));
        }
        std::thread::sleep(OWN_LOCK_TICK);
    }
    // Only for the message: it is locked without that, on a full disk too.
    let noted = lock.set_len(0).and_then(|()| lock.rewind());
    let noted = noted.and_then(|()| writeln!(lock, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::debug!(%error, "the lock does not say who has it");
    }
    Ok(lock)
}

fn read_marker(path: &Path) -> Result<Option<DirectoryId>, JournalFault> {
    let (file, facts) = match read_regular(path, OFlags::empty()) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(path, "can't be read", &error)),
    };
    refuse_open(path, &facts)?;
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
