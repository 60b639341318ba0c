//! The socket's place: a directory that only this user can enter, one host at a time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::base::error::{Code, Fault};

/// The socket can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another host has it.
    #[error("another host listens on {path}; stop it, or give this one another --socket", path = .0.display())]
    Taken(PathBuf),
    /// Another user could get at it.
    #[error("{path} is not a directory of this user alone; chmod 700 it, or use another --socket", path = .0.display())]
    Open(PathBuf),
    /// The system refused.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The socket or its directory.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

impl From<&SocketError> for Fault {
    fn from(error: &SocketError) -> Self {
        let code = match error {
            SocketError::Taken(_) => Code::HostRunning,
            SocketError::Open(_) | SocketError::Io { .. } => Code::Socket,
        };
        Self::new(code, error.to_string())
    }
}

/// `$XDG_RUNTIME_DIR/bulkhead/host.sock`, or the like under `/tmp` with the user's number.
#[must_use]
pub fn default_socket_path() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let dir = match runtime {
        Some(runtime) => Path::new(&runtime).join("bulkhead"),
        None => PathBuf::from(format!("/tmp/bulkhead-{}", rustix::process::geteuid().as_raw())),
    };
    dir.join("host.sock")
}

/// A bound socket. Removed when dropped.
#[derive(Debug)]
pub struct Listening {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Held as long as this host lives; the kernel lets go of it even after kill -9.
    _lock: File,
}

impl Listening {
    /// Takes the socket: makes its directory, refuses one that others can enter, and refuses a
    /// second host.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |error| SocketError::Io { path: path.to_owned(), error };
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        if !dir.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        }
        let facts = fs::metadata(dir).map_err(io)?;
        let others_may_write = facts.permissions().mode() & 0o022 != 0;
        if facts.uid() != rustix::process::geteuid().as_raw() || others_may_write {
            return Err(SocketError::Open(dir.to_owned()));
        }
        let lock_path = path.with_extension("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(SocketError::Taken(path.to_owned()));
        }
        // Nobody holds the lock, so a socket that is there belongs to a host that is gone.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket was gone already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_host_is_refused_and_a_dead_ones_socket_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own").join("host.sock");
        let first = Listening::bind(&path).unwrap();
        assert!(matches!(Listening::bind(&path), Err(SocketError::Taken(_))));
        drop(first);
        assert!(!path.exists());
        // As after kill -9: the socket is there, the lock is not held.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Listening::bind(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Listening::bind(&open.join("s")), Err(SocketError::Open(_))));
    }
}
