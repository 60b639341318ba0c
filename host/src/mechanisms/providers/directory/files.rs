//! What transactions do with the files of a directory.
//!
//! Paths are walked beneath the directory, whatever links do meanwhile. Nothing that is opened may
//! wait for somebody else, as a pipe without a writer does, and what is neither a file nor a
//! directory isn't opened at all. A disk can hang nevertheless, and what waits for it can't be told
//! to stop: that is a thread of its own, and there are only so many of them for each directory.

use std::future::pending;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use cap_std::fs::{Dir, File, FileExt, FileType, Metadata, MetadataExt};
use cap_std::fs::{OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::super::{Line, Pending};
use crate::base::limits::{DIRECTORY_NAMES_MAX, FILE_CALLS_MAX, FILE_READ_BYTES_MAX};
use crate::pure::manifest::Access;
use crate::pure::resource::files::Opened;
use crate::pure::resource::files::{FileCall, FileFacts, FileKind, FilePath, FileReply, FileTime};
use crate::pure::resource::operation::{CallError, CallResult, Operation, Reply};

/// Reads files, or appends to them.
pub(super) struct Files {
    dir: Arc<Dir>,
    access: Access,
    threads: Arc<Semaphore>,
}

impl Files {
    pub(super) fn new(dir: Dir, access: Access) -> Self {
        Self { dir: Arc::new(dir), access, threads: Arc::new(Semaphore::new(FILE_CALLS_MAX)) }
    }
}

impl Line for Files {
    fn call(&mut self, operation: Operation, until: Instant) -> Pending<'static, CallResult> {
        let (dir, access, threads) = (self.dir.clone(), self.access, self.threads.clone());
        Box::pin(async move {
            let work = async {
                let permit = threads.acquire_owned().await.map_err(|_| CallError::Died)?;
                let work = tokio::task::spawn_blocking(move || {
                    let done = run(&dir, access, operation);
                    // Also when nobody waits any more: that thread is busy until here.
                    drop(permit);
                    done
                });
                work.await.map_err(|_panicked| CallError::Died)?
            };
            timeout_at(until, work).await.unwrap_or(Err(CallError::TimedOut))
        })
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(pending())
    }
}

/// Whether the manifest allows that.
pub(super) fn admitted(operation: &Operation, access: Access) -> Result<(), CallError> {
    let denied = |why: &str| Err(CallError::Denied(why.to_owned()));
    match (operation, access) {
        (Operation::Append { .. }, Access::Append) | (Operation::Files(_), Access::Read) => Ok(()),
        (Operation::Append { .. }, Access::Read) => denied("the directory is there to be read"),
        (Operation::Files(_), Access::Append) => denied("the directory is there to append to"),
        _ => Err(CallError::WrongKind),
    }
}

fn run(dir: &Dir, access: Access, operation: Operation) -> CallResult {
    admitted(&operation, access)?;
    match operation {
        Operation::Append { path, bytes } => {
            append(dir, &path, &bytes).map(|()| Reply::Done).map_err(|error| refused(&error))
        }
        Operation::Files(call) => look(dir, call).map(Reply::Files).map_err(|error| unread(&error)),
        _ => Err(CallError::WrongKind),
    }
}

/// Nothing that is opened may wait: a pipe without another end would.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    options
}

fn append(dir: &Dir, path: &str, bytes: &[u8]) -> io::Result<()> {
    let no_file = || io::Error::other("it is no file");
    // Some devices do something when they are opened, and so does a pipe's other end.
    match dir.metadata(path) {
        Ok(facts) if !facts.is_file() => return Err(no_file()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = dir.open_with(path, options().append(true).create(true))?;
    // Another one may have come meanwhile.
    if !file.metadata()?.is_file() {
        return Err(no_file());
    }
    file.write_all(bytes)
}

fn refused(error: &io::Error) -> CallError {
    let code = match error.kind() {
        ErrorKind::NotFound => "not_found",
        ErrorKind::PermissionDenied => "not_permitted",
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::Other => "no_file",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "full",
        _ => "io",
    };
    CallError::Refused { code: code.to_owned(), message: error.to_string() }
}

/// What is behind an [`Opened`].
enum Open {
    Directory(Dir),
    File(File),
}

fn look(root: &Dir, call: FileCall) -> io::Result<FileReply> {
    Ok(match call {
        FileCall::Open(path) => open(root, &path)?,
        FileCall::Read { file, offset, bytes } => {
            let Some(Open::File(file)) = file.open() else { return Err(Errno::ISDIR.into()) };
            let mut buffer = vec![0; bytes.min(FILE_READ_BYTES_MAX)];
            let read = file.read_at(&mut buffer, offset)?;
            buffer.truncate(read);
            FileReply::Bytes(buffer)
        }
        FileCall::List(directory) => match directory.open() {
            Some(Open::Directory(directory)) => FileReply::Names(names(directory)?),
            _ => return Err(Errno::NOTDIR.into()),
        },
        FileCall::Facts(opened) => FileReply::Facts(facts(&match opened.open() {
            Some(Open::Directory(directory)) => directory.dir_metadata()?,
            Some(Open::File(file)) => file.metadata()?,
            None => return Err(Errno::BADF.into()),
        })),
        FileCall::FactsAt(path) => FileReply::Facts(facts(&metadata(root, &path)?)),
        FileCall::Link(path) => {
            let link = beneath(root, &path)?.read_link(&path.path)?;
            FileReply::Link(link.into_os_string().into_string().map_err(|_| Errno::ILSEQ)?)
        }
    })
}

/// The directory where a path begins.
fn beneath<'a>(root: &'a Dir, path: &'a FilePath) -> io::Result<&'a Dir> {
    match &path.from {
        None => Ok(root),
        Some(from) => match from.open() {
            Some(Open::Directory(directory)) => Ok(directory),
            _ => Err(Errno::NOTDIR.into()),
        },
    }
}

fn metadata(root: &Dir, path: &FilePath) -> io::Result<Metadata> {
    let from = beneath(root, path)?;
    if path.follow { from.metadata(&path.path) } else { from.symlink_metadata(&path.path) }
}

fn open(root: &Dir, path: &FilePath) -> io::Result<FileReply> {
    let from = beneath(root, path)?;
    let kind = kind(metadata(root, path)?.file_type());
    let opened = match kind {
        FileKind::Directory => Open::Directory(from.open_dir(&path.path)?),
        FileKind::File => {
            let file = from.open_with(&path.path, options().read(true))?;
            if !file.metadata()?.is_file() {
                return Err(Errno::PERM.into());
            }
            Open::File(file)
        }
        FileKind::Link => return Err(Errno::LOOP.into()),
        // Some devices do something when they are opened.
        FileKind::Other => return Err(Errno::PERM.into()),
    };
    Ok(FileReply::Opened(Opened::new(opened), kind))
}

/// Names that are no text are left out.
fn names(directory: &Dir) -> io::Result<Vec<(String, FileKind)>> {
    let mut names = Vec::new();
    for entry in directory.entries()? {
        let entry = entry?;
        if names.len() >= DIRECTORY_NAMES_MAX {
            return Err(Errno::OVERFLOW.into());
        }
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, kind(entry.file_type()?)));
        }
    }
    names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(names)
}

fn kind(found: FileType) -> FileKind {
    if found.is_dir() {
        FileKind::Directory
    } else if found.is_file() {
        FileKind::File
    } else if found.is_symlink() {
        FileKind::Link
    } else {
        FileKind::Other
    }
}

fn facts(metadata: &Metadata) -> FileFacts {
    let time = |seconds: i64, nanos: i64| -> Option<FileTime> {
        Some((u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?))
    };
    FileFacts {
        kind: kind(metadata.file_type()),
        links: metadata.nlink(),
        bytes: metadata.size(),
        accessed: time(metadata.atime(), metadata.atime_nsec()),
        modified: time(metadata.mtime(), metadata.mtime_nsec()),
        changed: time(metadata.ctime(), metadata.ctime_nsec()),
        identity: (metadata.dev(), metadata.ino()),
    }
}

/// An error of looking, by its name in `wasi:filesystem`.
fn unread(error: &io::Error) -> CallError {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let code = match errno {
        Some(Errno::ACCESS) => "access",
        Some(Errno::PERM | Errno::XDEV | Errno::NXIO) => "not-permitted",
        Some(Errno::NOENT) => "no-entry",
        Some(Errno::NOTDIR) => "not-directory",
        Some(Errno::ISDIR) => "is-directory",
        Some(Errno::LOOP) => "loop",
        Some(Errno::NAMETOOLONG) => "name-too-long",
        Some(Errno::INVAL) => "invalid",
        Some(Errno::OVERFLOW) => "overflow",
        Some(Errno::ILSEQ) => "illegal-byte-sequence",
        Some(Errno::BUSY) => "busy",
        Some(_) => "io",
        // Those of the walk beneath the directory.
        None => match error.kind() {
            ErrorKind::NotFound => "no-entry",
            ErrorKind::PermissionDenied => "not-permitted",
            ErrorKind::InvalidInput => "invalid",
            _ => "io",
        },
    };
    CallError::Refused { code: code.to_owned(), message: error.to_string() }
}
