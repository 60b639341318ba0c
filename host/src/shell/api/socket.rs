//! The socket, at its place.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::shell::place::{Place, PlaceError};

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

/// A bound socket. [`Place::leave`] removes it.
#[derive(Debug)]
pub struct Listening {
    pub(super) listener: UnixListener,
}

impl Listening {
    /// Binds the socket of a place.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn bind(place: &mut Place) -> Result<Self, PlaceError> {
        let listener = place.bind(|path| {
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok::<_, io::Error>(listener)
        })?;
        Ok(Self { listener })
    }
}
