//! Where a file that people name is written. Its directory is opened once, so that what was looked
//! at is what is written to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fsync, openat, renameat, stat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::fault;
use crate::base::entropy::{Entropy, SystemEntropy};
use crate::base::error::{Code, Fault};
use crate::mechanisms::journal::MARKER;

/// A place for a file: nothing is there, or a regular file that is replaced.
#[derive(Debug)]
pub(in crate::shell) struct Target {
    path: PathBuf,
    directory: OwnedFd,
    name: OsString,
}

impl Target {
    /// Looks at a place. `data` is the data directory of this host; a file is written neither into
    /// it nor into another one.
    ///
    /// # Errors
    ///
    /// `E_FILE`; `E_FILE_REFUSED` when something else than a regular file is there, or when it is
    /// inside a data directory.
    pub(in crate::shell) fn at(path: &Path, data: Option<&Path>) -> Result<Self, Fault> {
        let Some(name) = path.file_name() else {
            return Err(refused(path, "it is a directory"));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, parent, flags, Mode::empty()).map_err(failed(path))?;
        let target = Self { path: path.to_owned(), directory, name: name.to_owned() };
        if target.is_in_data(data).map_err(failed(path))? {
            let what = "it would be inside a data directory, where only a host writes";
            return Err(refused(path, what));
        }
        target.look()?;
        Ok(target)
    }

    /// The path that was named.
    pub(in crate::shell) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file, so that its name is never seen with half of its content, and syncs it.
    ///
    /// # Errors
    ///
    /// As [`Target::at`]. What was there is there still.
    pub(in crate::shell) fn write(
        &self,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), Fault> {
        let failed = |error: io::Error| fault(&self.path, &error);
        let (unfinished, mut file) = Unfinished::make(&self.directory).map_err(failed)?;
        write(&mut file).and_then(|()| file.sync_all()).map_err(failed)?;
        // Writing may have taken minutes.
        self.look()?;
        unfinished.name(&self.name).map_err(failed)?;
        match fsync(&self.directory) {
            // A file system that has nothing to sync in a directory.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Refuses what a file can't take the place of.
    fn look(&self) -> Result<(), Fault> {
        let found = match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(&self.path)(error)),
        };
        let what = match found {
            FileType::RegularFile => return Ok(()),
            FileType::Directory => "it is a directory",
            FileType::Symlink => "it is a symbolic link: name the file itself",
            FileType::Fifo => "it is a named pipe, and only a regular file is replaced",
            FileType::Socket => "it is a socket, and only a regular file is replaced",
            _ => "it is a device, and only a regular file is replaced",
        };
        Err(refused(&self.path, what))
    }

    /// True when the directory, or one that it is in, is a data directory: this one, under whatever
    /// name, or any that says so.
    fn is_in_data(&self, data: Option<&Path>) -> Result<bool, Errno> {
        // One that is not there has nothing in it.
        let data = data.and_then(|data| stat(data).ok()).map(|facts| identity(&facts));
        let mut directory = self.directory.try_clone().map_err(|_| Errno::MFILE)?;
        loop {
            let here = identity(&fstat(&directory)?);
            if Some(here) == data || statat(&directory, MARKER, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Ok(true);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            directory = openat(&directory, "..", flags, Mode::empty())?;
            // The root is its own parent.
            if identity(&fstat(&directory)?) == here {
                return Ok(false);
            }
        }
    }
}

/// What tells a directory from all others.
fn identity(facts: &Stat) -> (u64, u64) {
    (facts.st_dev, facts.st_ino)
}

fn refused(path: &Path, what: &str) -> Fault {
    Fault::new(Code::FileRefused, format!("{}: {what}", path.display()))
}

fn failed(path: &Path) -> impl Fn(Errno) -> Fault {
    move |error| fault(path, &error.into())
}

/// A file under a name of its own, which is removed unless it gets another one.
#[derive(Debug)]
struct Unfinished<'a> {
    directory: &'a OwnedFd,
    own_name: Option<String>,
}

impl<'a> Unfinished<'a> {
    fn make(directory: &'a OwnedFd) -> io::Result<(Self, File)> {
        let random = SystemEntropy.seed();
        let number = random.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let name = format!("bulkhead-{number:016x}.part");
        // As private as the state in it, and another file than any that is there.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(directory, &name, flags | OFlags::NOFOLLOW, mode)?;
        Ok((Self { directory, own_name: Some(name) }, File::from(file)))
    }

    fn name(mut self, name: &OsStr) -> io::Result<()> {
        if let Some(own_name) = &self.own_name {
            renameat(self.directory, own_name, self.directory, name)?;
            self.own_name = None;
        }
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(own_name) = &self.own_name
            && let Err(error) = unlinkat(self.directory, own_name, AtFlags::empty())
        {
            tracing::warn!(file = own_name, %error, "an unfinished file could not be removed");
        }
    }
}

#[cfg(test)]
mod tests;
