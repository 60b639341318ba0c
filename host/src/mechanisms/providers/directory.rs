//! A directory as a resource: available while its path leads to the directory that it led to when
//! the connection was opened, and that may be used as the manifest says.
//!
//! Another directory of the same name is another resource: what a daemon remembered of the first
//! one's files is worth nothing. So it counts as a death and a recovery, also when nobody looked in
//! between.

mod files;

use std::fs::File;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access as Permission, AtFlags, CWD, Mode, OFlags};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use self::files::{Files, admitted};
use super::{Connection, Line, NoConnection, Pending, Provider, Sharing};
use crate::pure::manifest::Access;
use crate::pure::resource::operation::{CallError, Operation};

/// A directory that daemons depend on.
#[derive(Debug)]
pub struct Directory {
    path: Arc<Path>,
    access: Access,
}

impl Directory {
    /// The directory at this path, absolute or relative to where the process was started.
    #[must_use]
    pub fn new(path: PathBuf, access: Access) -> Self {
        Self { path: path.into(), access }
    }
}

impl Provider for Directory {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn is_read(&self) -> bool {
        self.access == Access::Read
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, NoConnection>> {
        let (path, access) = (self.path.clone(), self.access);
        Box::pin(async move {
            let its = path.clone();
            let opened = beside(move || open(&its, access)).await?;
            let connection = Opened { path, access, directory: Arc::new(opened) };
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared(1)
    }

    fn admits(&self, operation: &Operation) -> Result<(), CallError> {
        admitted(operation, self.access)
    }

    fn open(&self) -> Pending<'_, Result<Box<dyn Line>, NoConnection>> {
        let (path, access) = (self.path.clone(), self.access);
        Box::pin(async move {
            let dir = beside(move || {
                Dir::open_ambient_dir(&path, ambient_authority())
                    .map_err(|error| format!("{}: {error}", path.display()))
            });
            Ok(Box::new(Files::new(dir.await?, access)) as Box<dyn Line>)
        })
    }
}

struct Opened {
    path: Arc<Path>,
    access: Access,
    directory: Arc<File>,
}

impl Connection for Opened {
    fn check(&mut self) -> Pending<'_, Result<(), String>> {
        let (path, access, directory) = (self.path.clone(), self.access, self.directory.clone());
        Box::pin(beside(move || {
            let now = open(&path, access)?;
            if identity(&now)? == identity(&directory)? {
                Ok(())
            } else {
                Err(format!("{} is another directory now", path.display()))
            }
        }))
    }

    fn job(&mut self, _text: &str) -> Pending<'_, Result<(), String>> {
        Box::pin(async { Err("a directory has no init jobs".to_owned()) })
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(pending())
    }
}

/// Runs what may wait for a disk, or for a file server that is gone, on another thread. One that
/// hangs there hangs nobody else; it is given up, and the thread with it.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(error.to_string()),
    }
}

fn open(path: &Path, access: Access) -> Result<File, String> {
    let failed = |error: rustix::io::Errno| format!("{}: {error}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let needed = match access {
        Access::Read => Permission::READ_OK | Permission::EXEC_OK,
        Access::Append => Permission::WRITE_OK | Permission::EXEC_OK,
    };
    rustix::fs::accessat(CWD, path, needed, AtFlags::empty()).map_err(failed)?;
    Ok(directory.into())
}

fn identity(directory: &File) -> Result<(u64, u64), String> {
    let stat = rustix::fs::fstat(directory).map_err(|error| error.to_string())?;
    Ok((stat.st_dev, stat.st_ino))
}
