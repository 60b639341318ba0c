//! A database server of our own: started for the race, stopped after it.

use std::ffi::OsStr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// A server process, and the short path of the directory with its socket.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
    stop: Signal,
    sockets: PathBuf,
}

/// Whom a server runs as, when this is the superuser and the server refuses that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// Somebody without privileges when this is the superuser; `None` for whoever this is.
    ///
    /// # Errors
    ///
    /// When there is nobody.
    pub(super) fn unprivileged(names: &[&str]) -> Result<Option<Self>, String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = names.iter().find_map(|name| Self::find(&users, name));
        user.map(Some).ok_or_else(|| format!("it must not run as root: no user {names:?}"))
    }

    fn find(users: &str, name: &str) -> Option<Self> {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        let (uid, gid) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { uid, gid })
    }

    /// Gives a directory to that user.
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub(super) fn give(user: Option<Self>, dir: &Path) -> Result<(), String> {
        let Some(Self { uid, gid }) = user else { return Ok(()) };
        std::os::unix::fs::chown(dir, Some(uid), Some(gid))
            .map_err(|error| format!("{}: {error}", dir.display()))
    }
}

/// A program, to be run as that user, in a directory that it may be in.
pub(super) fn command(program: &Path, user: Option<User>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null());
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Runs a program to its end.
///
/// # Errors
///
/// What it said when it failed.
pub(super) fn run(command: &mut Command) -> Result<(), String> {
    let Output { status, stderr, .. } = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&stderr);
    let said = said.lines().last().unwrap_or("no message");
    if status.success() { Ok(()) } else { Err(format!("{status}: {said}")) }
}

/// Where a program is: on the `PATH`, or in the newest of some directories.
pub(super) fn find(program: &str, elsewhere: &[PathBuf]) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&paths).chain(elsewhere.iter().cloned());
    paths.map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// An empty directory for sockets: their paths must be short, so it is not with the data.
///
/// # Errors
///
/// The system's reason.
pub(super) fn sockets(name: &str, user: Option<User>) -> Result<PathBuf, String> {
    let path = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
    std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    User::give(user, &path)?;
    Ok(path)
}

impl Server {
    /// Starts it and waits until it listens on `socket` in the directory `sockets`; `stop` is the
    /// signal that ends it.
    ///
    /// # Errors
    ///
    /// When it doesn't start.
    pub(super) fn start(
        command: &mut Command,
        sockets: PathBuf,
        socket: impl AsRef<OsStr>,
        stop: Signal,
    ) -> Result<Self, String> {
        let path = sockets.join(socket.as_ref());
        let process = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(process) => process,
            Err(error) => {
                remove(&sockets);
                return Err(error.to_string());
            }
        };
        let mut server = Self { process, stop, sockets };
        let start = Instant::now();
        while UnixStream::connect(&path).is_err() {
            if let Ok(Some(status)) = server.process.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if start.elapsed() > START_MAX {
                return Err(format!("it does not listen after {START_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = kill_process(Pid::from_child(&self.process), self.stop)
            .map_err(std::io::Error::from)
            .and_then(|()| self.process.wait());
        if let Err(error) = stopped {
            eprintln!("a server did not end: {error}");
        }
        remove(&self.sockets);
    }
}

fn remove(sockets: &Path) {
    if let Err(error) = std::fs::remove_dir_all(sockets) {
        eprintln!("{} is left: {error}", sockets.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "nobody2:x:1:1::/:/x\nnobody:x:65534:65533:nobody:/none:/x\nbad:x:y\n";
        assert_eq!(User::find(users, "nobody"), Some(User { uid: 65534, gid: 65533 }));
        assert_eq!(User::find(users, "bad"), None);
        assert_eq!(User::find(users, "nob"), None);
    }
}
