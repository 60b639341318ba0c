//! The commands' end of the socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use serde_json::Value;

use crate::base::error::{Code, Fault};
use crate::shell::place::{self, PlaceError};

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no host answers on {path} ({error}); start one with `host run`, or give its --socket",
        path = path.display()
    )]
    NoHost {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// Somebody else could be listening.
    #[error("{0}")]
    Foreign(#[from] PlaceError),
    /// The host went away after it was asked.
    #[error(
        "the host went away before it answered: whether the request was committed is not known"
    )]
    Lost,
}

impl From<&ClientError> for Fault {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::NoHost { .. } => Self::new(Code::Socket, error.to_string()),
            ClientError::Foreign(error) => Self::from(error),
            ClientError::Lost => Self::new(Code::NoAnswer, error.to_string()),
        }
    }
}

/// A connection to a running host.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoHost`], [`ClientError::Foreign`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::with(path, || UnixStream::connect(path))
    }

    /// The same, but waits no longer than `time` for each part of the connection, the command and
    /// the answer: a host that does not accept has a queue that may be full.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoHost`], [`ClientError::Foreign`].
    pub fn connect_within(path: &Path, time: Duration) -> Result<Self, ClientError> {
        Self::with(path, || {
            let kind = SocketType::STREAM;
            let stream = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
            for which in [Timeout::Send, Timeout::Recv] {
                set_socket_timeout(&stream, which, Some(time))?;
            }
            net::connect(&stream, &SocketAddrUnix::new(path)?)?;
            Ok(UnixStream::from(stream))
        })
    }

    /// Whoever listens is the owner of the socket's directory, or root.
    fn with(
        path: &Path,
        connect: impl FnOnce() -> io::Result<UnixStream>,
    ) -> Result<Self, ClientError> {
        let no_host = |error| ClientError::NoHost { path: path.to_owned(), error };
        let Some(owner) = place::owner(path)? else {
            return Err(no_host(io::ErrorKind::NotFound.into()));
        };
        let stream = connect().map_err(no_host)?;
        let peer = socket_peercred(&stream).map_err(|error| no_host(error.into()))?.uid;
        if peer != owner && !peer.is_root() {
            return Err(PlaceError::Foreign(path.to_owned()).into());
        }
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Asks one thing and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Lost`].
    pub fn ask(&mut self, command: &Value) -> Result<Value, ClientError> {
        let answer = self.ask_line(command.to_string())?;
        serde_json::from_str(&answer).map_err(|_| ClientError::Lost)
    }

    /// The same as text, which keeps numbers as they are; the line has no end yet.
    ///
    /// # Errors
    ///
    /// [`ClientError::Lost`].
    pub fn ask_line(&mut self, mut line: String) -> Result<String, ClientError> {
        line.push('\n');
        let mut answer = String::new();
        self.reader
            .get_mut()
            .write_all(line.as_bytes())
            .and_then(|()| self.reader.read_line(&mut answer))
            .map_err(|_| ClientError::Lost)?;
        if answer.ends_with('\n') { Ok(answer) } else { Err(ClientError::Lost) }
    }
}
