//! The place of a running host: beside its socket, in a directory that only this user can enter.
//!
//! ```text
//!  host.sock   the socket
//!  host.lock   locked as long as the host lives; the kernel lets go of it even after kill -9
//!  host.run    which process has the place, and what it made; at the end, how it ended
//!  host.stop   asks the process that it names to stop: how `host stop` reaches a host whose
//!              control plane is stuck, or that is still starting
//! ```
//!
//! Both sides look whose directory and files these are before they believe them, and neither
//! follows a link. A process is named by its pid, the time of its start and the machine's boot,
//! since pids come again. What a dead host left behind is cleared when its run file says that it
//! made it; anything else that stands in the way is left alone, and that is said.

mod directory;
mod process;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, flock};
use rustix::process::Uid;
use serde::{Deserialize, Serialize};

use crate::base::error::{Code, Fault};
use crate::base::limits::LOOP_TICK;
use directory::Directory;
pub use process::Process;

/// Tries to take a lock, a tick of the main loop apart.
const LOCK_TRIES: u32 = 5;

/// The place can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Another host has it.
    #[error("another host, process {pid}, listens on {path}; stop it, or give this one another --socket", path = path.display())]
    Taken {
        /// Its socket.
        path: PathBuf,
        /// Its process, when it is known.
        pid: String,
    },
    /// Another user could get at it.
    #[error("{path} is not a directory of this user alone; chmod 700 it, or use another --socket", path = .0.display())]
    Open(PathBuf),
    /// Something is there that no host is known to have made.
    #[error("{path} was not made by a host that is known to have ended; remove it, or use another --socket", path = .0.display())]
    Foreign(PathBuf),
    /// The system refused.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

impl From<&PlaceError> for Fault {
    fn from(error: &PlaceError) -> Self {
        let code = match error {
            PlaceError::Taken { .. } => Code::HostRunning,
            PlaceError::Open(_) | PlaceError::Foreign(_) | PlaceError::Io { .. } => Code::Socket,
        };
        Self::new(code, error.to_string())
    }
}

/// How far a host has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It starts.
    Starting,
    /// It makes its socket.
    Binding,
    /// It serves.
    Running,
    /// It stops.
    Stopping,
    /// It has ended, and left nothing.
    Ended,
}

/// A run file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Run {
    /// Whose.
    #[serde(flatten)]
    pub process: Process,
    /// How far it has come.
    pub state: State,
    /// Device and inode of the socket that it made.
    socket: Option<(u64, u64)>,
    /// Its exit code, when it has ended.
    pub code: Option<u8>,
    /// Why it stops or has ended.
    pub reason: Option<String>,
}

/// A stop file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Asked {
    #[serde(flatten)]
    process: Process,
    /// Why it must stop at once, if it must.
    pub emergency: Option<String>,
}

/// The place, held by this process.
#[derive(Debug)]
pub struct Place {
    socket: PathBuf,
    directory: Directory,
    run: Run,
    _lock: File,
}

fn run_name(socket: &Path) -> PathBuf {
    name(&socket.with_extension("run"))
}

fn stop_name(socket: &Path) -> PathBuf {
    name(&socket.with_extension("stop"))
}

fn lock_name(socket: &Path) -> PathBuf {
    name(&socket.with_extension("lock"))
}

fn name(path: &Path) -> PathBuf {
    path.file_name().unwrap_or_default().into()
}

/// What the run file of a socket says; none when there is no host's.
///
/// # Errors
///
/// The system's, and [`PlaceError::Open`] or [`PlaceError::Foreign`] where others could have
/// written it.
pub fn look(socket: &Path) -> Result<Option<Run>, PlaceError> {
    let Some(directory) = Directory::open(socket)? else { return Ok(None) };
    Ok(directory.read(&run_name(socket))?.flatten())
}

/// The user whose host may listen on a socket: the owner of its directory.
///
/// # Errors
///
/// As of [`look`].
pub fn owner(socket: &Path) -> Result<Option<Uid>, PlaceError> {
    Ok(Directory::open(socket)?.map(|directory| directory.owner()))
}

/// True until the host of a socket has ended. One that is not to be seen from here, because its
/// numbers are of another namespace, lives as long as it has its lock.
#[must_use]
pub fn is_alive(socket: &Path, host: &Process) -> bool {
    host.is_alive().unwrap_or_else(|| {
        let directory = Directory::open(socket).ok().flatten();
        directory.is_some_and(|directory| directory.is_locked(&lock_name(socket)))
    })
}

/// Asks the host of a socket to stop.
///
/// # Errors
///
/// As of [`look`].
pub fn ask_to_stop(
    socket: &Path,
    host: &Process,
    emergency: Option<&str>,
) -> Result<(), PlaceError> {
    let asked = Asked { process: host.clone(), emergency: emergency.map(str::to_owned) };
    open(socket)?.replace(&stop_name(socket), &asked)
}

/// Opens a directory that has to be there.
fn open(socket: &Path) -> Result<Directory, PlaceError> {
    let path = directory::of(socket);
    let missing = || PlaceError::Io { path: path.to_owned(), error: ErrorKind::NotFound.into() };
    Directory::open(socket)?.ok_or_else(missing)
}

impl Place {
    /// Takes the place: makes its directory, refuses one that others can enter, refuses a second
    /// host, and clears what a dead one left.
    ///
    /// # Errors
    ///
    /// [`PlaceError`].
    pub fn claim(socket: &Path) -> Result<Self, PlaceError> {
        let path = directory::of(socket);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| PlaceError::Io { path, error }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
        let directory = open(socket)?;
        let lock = directory.open_lock(&lock_name(socket))?;
        // Whoever looks whether it is held holds it for a moment.
        let mut takes = (0..LOCK_TRIES).map(|tried| {
            std::thread::sleep(LOOP_TICK * tried.min(1));
            flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        });
        let held = !takes.any(|taken| taken);
        let before = directory.read::<Run>(&run_name(socket))?;
        let taken = |run: Option<&Run>| PlaceError::Taken {
            path: socket.to_owned(),
            pid: run.map_or_else(|| "?".to_owned(), |run| run.process.pid.to_string()),
        };
        if held {
            return Err(taken(before.flatten().as_ref()));
        }
        match &before {
            Some(None) => return Err(PlaceError::Foreign(socket.with_extension("run"))),
            // Somebody took its lock away.
            Some(Some(run)) if run.state != State::Ended && is_alive(socket, &run.process) => {
                return Err(taken(Some(run)));
            }
            _ => clear(&directory, socket, before.flatten().as_ref())?,
        }
        let stat = Path::new("/proc/self/stat");
        let process = Process::this().ok_or_else(|| failed(stat)(ErrorKind::NotFound.into()))?;
        let run = Run { process, state: State::Starting, socket: None, code: None, reason: None };
        directory.replace(&run_name(socket), &run)?;
        Ok(Self { socket: socket.to_owned(), directory, run, _lock: lock })
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes the socket with `bind`, so that whatever happens the run file tells whose it is.
    ///
    /// # Errors
    ///
    /// Those of `bind`, and the system's.
    pub fn bind<T>(&mut self, bind: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, PlaceError> {
        self.run.state = State::Binding;
        self.directory.replace(&run_name(&self.socket), &self.run)?;
        let failed = |error| PlaceError::Io { path: self.socket.clone(), error };
        let bound = bind(&self.socket).map_err(failed)?;
        let facts = self.directory.look(&name(&self.socket))?;
        let facts = facts.ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
        self.run.socket = Some((facts.st_dev, facts.st_ino));
        self.run.state = State::Running;
        self.directory.replace(&run_name(&self.socket), &self.run)?;
        Ok(bound)
    }

    /// What a stop file asks of this process.
    #[must_use]
    pub fn asked(&self) -> Option<Asked> {
        let asked: Option<Asked> = self.directory.read(&stop_name(&self.socket)).ok()??;
        asked.filter(|asked| asked.process == self.run.process)
    }

    /// Notes that the host stops.
    pub fn note_stopping(&mut self, reason: &str) {
        self.run.state = State::Stopping;
        self.run.reason = Some(reason.to_owned());
        self.note();
    }

    /// Clears what this process made, and notes how it ended.
    pub fn leave(mut self, code: u8) {
        if let Err(error) = clear(&self.directory, &self.socket, Some(&self.run)) {
            tracing::warn!("{error}");
        }
        self.run.state = State::Ended;
        (self.run.socket, self.run.code) = (None, Some(code));
        self.note();
    }

    /// Nothing depends on it but the next host's messages.
    fn note(&self) {
        if let Err(error) = self.directory.replace(&run_name(&self.socket), &self.run) {
            tracing::warn!("{error}");
        }
    }
}

/// Removes what the process of a run file left: its socket and the stop file that names it.
fn clear(directory: &Directory, socket: &Path, run: Option<&Run>) -> Result<(), PlaceError> {
    if let Some(there) = directory.look(&name(socket))? {
        let made = run.is_some_and(|run| match run.socket {
            Some(socket) => socket == (there.st_dev, there.st_ino),
            None => run.state == State::Binding,
        });
        if !made || !FileType::from_raw_mode(there.st_mode).is_socket() {
            return Err(PlaceError::Foreign(socket.to_owned()));
        }
        directory.remove(&name(socket))?;
    }
    let Some(run) = run else { return Ok(()) };
    let asked = directory.read::<Asked>(&stop_name(socket))?.flatten();
    if asked.is_some_and(|asked| asked.process == run.process) {
        directory.remove(&stop_name(socket))?;
    }
    if run.state != State::Ended && run.process.pid != std::process::id() {
        tracing::warn!(
            pid = run.process.pid,
            "the last host here was killed; its leftovers are cleared"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
