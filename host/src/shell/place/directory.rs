//! The directory of a place: opened once, looked at, and only then used. What is in it is reached
//! through it, so that nobody can put another one, or a link, in between.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, fchown, flock, fstat, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Uid, geteuid};
use serde::{Deserialize, Serialize};

use super::PlaceError;
use crate::base::limits::RUN_FILE_BYTES_MAX;
use crate::shell::api::default_socket_path;

/// A directory that belongs to whoever runs the host, and that nobody else can write.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    file: OwnedFd,
    owner: Uid,
}

/// What an error of the system means for a path.
fn at(path: &Path) -> impl Fn(Errno) -> PlaceError {
    move |error| PlaceError::Io { path: path.to_owned(), error: error.into() }
}

/// None when there is nothing.
fn is_gone<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory of a socket.
pub(super) fn of(socket: &Path) -> &Path {
    match socket.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

impl Directory {
    /// Opens the directory of a socket; none when there is none.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Open`] when it is not this user's, or others can write it. Root may look at
    /// the hosts of others, where it is told to.
    pub(super) fn open(socket: &Path) -> Result<Option<Self>, PlaceError> {
        let path = of(socket);
        let me = geteuid();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A link is followed where its owner could as well have made the directory.
        let link = is_gone(statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW));
        let Some(link) = link.map_err(at(path))? else { return Ok(None) };
        let trusted = |stat: &Stat| stat.st_uid == me.as_raw() || stat.st_uid == 0;
        let follows = FileType::from_raw_mode(link.st_mode).is_symlink() && trusted(&link);
        let flags = if follows { flags } else { flags | OFlags::NOFOLLOW };
        let file = match is_gone(openat(rustix::fs::CWD, path, flags, Mode::empty())) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(PlaceError::Open(path.to_owned())),
            Err(error) => return Err(at(path)(error)),
        };
        let facts = fstat(&file).map_err(at(path))?;
        let owner = Uid::from_raw(facts.st_uid);
        let may_be_others = me.is_root() && socket != default_socket_path();
        if (owner != me && !may_be_others) || facts.st_mode & 0o022 != 0 {
            return Err(PlaceError::Open(path.to_owned()));
        }
        Ok(Some(Self { path: path.to_owned(), file, owner }))
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> Uid {
        self.owner
    }

    /// The path of a file in it, for messages.
    pub(super) fn path(&self, name: &Path) -> PathBuf {
        self.path.join(name)
    }

    /// What is there; a link is not followed. None when nothing is.
    pub(super) fn look(&self, name: &Path) -> Result<Option<Stat>, PlaceError> {
        is_gone(statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW)).map_err(at(&self.path(name)))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &Path) -> Result<(), PlaceError> {
        let removed = is_gone(unlinkat(&self.file, name, AtFlags::empty()));
        removed.map(drop).map_err(at(&self.path(name)))
    }

    /// Opens a regular file of the directory's owner.
    fn open_file(&self, name: &Path, flags: OFlags) -> Result<Option<File>, PlaceError> {
        let path = self.path(name);
        // A pipe must not keep anybody waiting before it is seen to be one.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = match is_gone(openat(&self.file, name, flags, mode)) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(PlaceError::Foreign(path)),
            Err(error) => return Err(at(&path)(error)),
        };
        let facts = fstat(&file).map_err(at(&path))?;
        let is_ours = FileType::from_raw_mode(facts.st_mode).is_file()
            && facts.st_uid == self.owner.as_raw()
            && facts.st_mode & 0o022 == 0;
        if !is_ours {
            return Err(PlaceError::Foreign(path));
        }
        Ok(Some(File::from(file)))
    }

    /// Opens a file to lock it, made when it is missing.
    pub(super) fn open_lock(&self, name: &Path) -> Result<File, PlaceError> {
        let opened = self.open_file(name, OFlags::RDWR | OFlags::CREATE)?;
        opened.ok_or_else(|| at(&self.path(name))(Errno::NOENT))
    }

    /// True when somebody has a file's lock. Asking takes it for a moment.
    pub(super) fn is_locked(&self, name: &Path) -> bool {
        let file = self.open_file(name, OFlags::RDONLY).ok().flatten();
        let taken = |file| flock(&file, FlockOperation::NonBlockingLockShared);
        file.map(taken) == Some(Err(Errno::WOULDBLOCK))
    }

    /// Reads a small file of JSON; none when there is none. The inner one is none when it is
    /// something else.
    pub(super) fn read<T: for<'a> Deserialize<'a>>(
        &self,
        name: &Path,
    ) -> Result<Option<Option<T>>, PlaceError> {
        let Some(file) = self.open_file(name, OFlags::RDONLY)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(RUN_FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| PlaceError::Io { path: self.path(name), error })?;
        Ok(Some(serde_json::from_slice(&bytes).ok()))
    }

    /// Replaces a file whole, so that nobody reads half of it.
    pub(super) fn replace(&self, name: &Path, value: &impl Serialize) -> Result<(), PlaceError> {
        let mut new = name.as_os_str().to_owned();
        new.push(format!(".{}.new", std::process::id()));
        let new = Path::new(&new);
        // Of a process of the same number that was killed.
        self.remove(new)?;
        let path = self.path(new);
        let failed = |error: io::Error| PlaceError::Io { path: path.clone(), error };
        let mut text = serde_json::to_string(value).map_err(|error| failed(error.into()))?;
        text.push('\n');
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(&self.file, new, flags | OFlags::NOFOLLOW, mode).map_err(at(&path))?;
        if self.owner != geteuid() {
            // Whoever runs the host has to be able to read it.
            fchown(&file, Some(self.owner), None).map_err(at(&path))?;
        }
        File::from(file).write_all(text.as_bytes()).map_err(failed)?;
        renameat(&self.file, new, &self.file, name).map_err(at(&self.path(name)))
    }
}
