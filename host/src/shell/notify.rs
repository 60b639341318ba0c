//! What the service manager is told, by the protocol of `sd_notify`: a datagram to the socket that
//! it names. It never keeps the host waiting: what finds no room there is told the next time.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the host stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    Ready,
    Stopping,
    /// It turns.
    Watchdog,
}

impl Told {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Ready => b"READY=1\n",
            Self::Stopping => b"STOPPING=1\n",
            Self::Watchdog => b"WATCHDOG=1\n",
        }
    }
}

/// Tells the service manager something, if there is one.
pub(super) fn tell(what: Told) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, what) {
        tracing::debug!(%error, ?what, "the service manager was not told");
    }
}

/// True when the service manager waits for signs of life of this process.
pub(super) fn is_watched() -> bool {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_this = env::var_os("WATCHDOG_PID")
        .is_none_or(|_| number("WATCHDOG_PID") == Some(u64::from(std::process::id())));
    is_this && number("WATCHDOG_USEC").is_some_and(|time| time > 0)
}

fn send(socket: &OsStr, what: Told) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(what.text(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_by_path_and_by_abstract_name_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("bulkhead-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for (listens, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into()),
        ] {
            send(&socket, Told::Ready).unwrap();
            let mut text = [0; 100];
            let length = listens.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"READY=1\n");
            // Until there is no room, and then again.
            let full = (0..100_000).find_map(|_| send(&socket, Told::Watchdog).err()).unwrap();
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
            listens.recv(&mut text).unwrap();
            send(&socket, Told::Stopping).unwrap();
            drop(listens);
            assert!(send(&socket, Told::Watchdog).is_err());
        }
        assert!(send(OsStr::new("relative\0"), Told::Ready).is_err());
    }
}
