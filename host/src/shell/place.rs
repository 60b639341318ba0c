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
//! A process is named by its pid, the time of its start and the machine's boot, since pids come
//! again. What a dead host left behind is cleared when its run file says that it made it; anything
//! else that stands in the way is left alone, and that is said.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::base::error::{Code, Fault};
use crate::base::limits::RUN_FILE_BYTES_MAX;

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

/// One process, among all that ever were on this machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it was started, in the kernel's ticks since the boot.
    start_ticks: u64,
    /// The boot.
    boot: String,
}

impl Process {
    /// The process of that number, if it is there and has not ended.
    fn find(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let start_ticks = fields.nth(18)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { pid, start_ticks, boot })
    }

    /// True until it has ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
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
    run: Run,
    _lock: File,
}

fn at(path: &Path) -> impl Fn(io::Error) -> PlaceError {
    move |error| PlaceError::Io { path: path.to_owned(), error }
}

fn run_path(socket: &Path) -> PathBuf {
    socket.with_extension("run")
}

fn stop_path(socket: &Path) -> PathBuf {
    socket.with_extension("stop")
}

fn is_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a small file of JSON; none when there is none. The inner one is none when it is something
/// else.
fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<Option<T>>, PlaceError> {
    let Some(file) = is_gone(File::open(path)).map_err(at(path))? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(RUN_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(at(path))?;
    Ok(Some(serde_json::from_slice(&bytes).ok()))
}

/// Replaces a file whole, so that nobody reads half of it.
fn replace(path: &Path, value: &impl Serialize) -> Result<(), PlaceError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut text = serde_json::to_string(value).map_err(|error| at(path)(error.into()))?;
    text.push('\n');
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new).map_err(at(&new))?;
    file.write_all(text.as_bytes()).map_err(at(&new))?;
    fs::rename(&new, path).map_err(at(path))
}

/// What the run file of a socket says; none when there is no host's.
///
/// # Errors
///
/// The system's.
pub fn look(socket: &Path) -> Result<Option<Run>, PlaceError> {
    Ok(read(&run_path(socket))?.flatten())
}

/// Asks the host of a socket to stop.
///
/// # Errors
///
/// The system's.
pub fn ask_to_stop(
    socket: &Path,
    host: &Process,
    emergency: Option<&str>,
) -> Result<(), PlaceError> {
    let asked = Asked { process: host.clone(), emergency: emergency.map(str::to_owned) };
    replace(&stop_path(socket), &asked)
}

impl Place {
    /// Takes the place: makes its directory, refuses one that others can enter, refuses a second
    /// host, and clears what a dead one left.
    ///
    /// # Errors
    ///
    /// [`PlaceError`].
    pub fn claim(socket: &Path) -> Result<Self, PlaceError> {
        let dir = match socket.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        if !dir.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        }
        let facts = fs::metadata(dir).map_err(at(dir))?;
        let others_may_write = facts.permissions().mode() & 0o022 != 0;
        if facts.uid() != rustix::process::geteuid().as_raw() || others_may_write {
            return Err(PlaceError::Open(dir.to_owned()));
        }
        let lock_path = socket.with_extension("lock");
        let mut options = File::options();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(&lock_path).map_err(at(&lock_path))?;
        let held = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err();
        let before = read::<Run>(&run_path(socket))?;
        let taken = |run: Option<&Run>| PlaceError::Taken {
            path: socket.to_owned(),
            pid: run.map_or_else(|| "?".to_owned(), |run| run.process.pid.to_string()),
        };
        if held {
            return Err(taken(before.flatten().as_ref()));
        }
        match &before {
            Some(None) => return Err(PlaceError::Foreign(run_path(socket))),
            // Somebody took its lock away.
            Some(Some(run)) if run.state != State::Ended && run.process.is_alive() => {
                return Err(taken(Some(run)));
            }
            _ => clear(socket, before.flatten().as_ref())?,
        }
        let process = Process::find(std::process::id())
            .ok_or_else(|| at(Path::new("/proc/self/stat"))(io::ErrorKind::NotFound.into()))?;
        let run = Run { process, state: State::Starting, socket: None, code: None, reason: None };
        replace(&run_path(socket), &run)?;
        Ok(Self { socket: socket.to_owned(), run, _lock: lock })
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
        replace(&run_path(&self.socket), &self.run)?;
        let bound = bind(&self.socket).map_err(at(&self.socket))?;
        let facts = fs::symlink_metadata(&self.socket).map_err(at(&self.socket))?;
        self.run.socket = Some((facts.dev(), facts.ino()));
        self.run.state = State::Running;
        replace(&run_path(&self.socket), &self.run)?;
        Ok(bound)
    }

    /// What a stop file asks of this process.
    #[must_use]
    pub fn asked(&self) -> Option<Asked> {
        let asked: Option<Asked> = read(&stop_path(&self.socket)).ok()??;
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
        if let Err(error) = clear(&self.socket, Some(&self.run)) {
            tracing::warn!("{error}");
        }
        self.run.state = State::Ended;
        (self.run.socket, self.run.code) = (None, Some(code));
        self.note();
    }

    /// Nothing depends on it but the next host's messages.
    fn note(&self) {
        if let Err(error) = replace(&run_path(&self.socket), &self.run) {
            tracing::warn!("{error}");
        }
    }
}

/// Removes what the process of a run file left: its socket and the stop file that names it.
fn clear(socket: &Path, run: Option<&Run>) -> Result<(), PlaceError> {
    let there = is_gone(fs::symlink_metadata(socket)).map_err(at(socket))?;
    if let Some(there) = there {
        let made = run.is_some_and(|run| match run.socket {
            Some(socket) => socket == (there.dev(), there.ino()),
            None => run.state == State::Binding,
        });
        if !made || !there.file_type().is_socket() {
            return Err(PlaceError::Foreign(socket.to_owned()));
        }
        fs::remove_file(socket).map_err(at(socket))?;
    }
    let Some(run) = run else { return Ok(()) };
    let stop = stop_path(socket);
    let asked = read::<Asked>(&stop)?.flatten();
    if asked.is_some_and(|asked| asked.process == run.process) {
        is_gone(fs::remove_file(&stop)).map_err(at(&stop))?;
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
