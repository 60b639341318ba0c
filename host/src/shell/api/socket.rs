//! The socket, at its place.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{bind, listen, socket_with};
use tokio::sync::Semaphore;

use crate::base::limits::SOCKET_BACKLOG;
use crate::shell::clients::Clients;
use crate::shell::place::{Place, PlaceError};
use crate::shell::room;

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
    pub(super) clients: Arc<Clients>,
    /// Places of commands that wait.
    pub(super) waiting: Arc<Semaphore>,
}

impl Listening {
    /// Binds the socket of a place.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn bind(place: &mut Place) -> Result<Self, PlaceError> {
        let listener = place.bind(bind_private)?;
        let clients = Clients::new(room::clients());
        let waiting = Arc::new(Semaphore::new(clients.open_to_all()));
        Ok(Self { listener, clients, waiting })
    }
}

/// A socket that only this user can connect to, from its first moment: the kernel gives the name
/// the mode that the socket has.
///
/// # Errors
///
/// The system's.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, SOCKET_BACKLOG)?;
    Ok(UnixListener::from(socket))
}
