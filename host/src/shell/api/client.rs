//! The commands' end of the socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

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
    /// The host went away after it was asked.
    #[error(
        "the host went away before it answered: whether the request was committed is not known"
    )]
    Lost,
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
    /// [`ClientError::NoHost`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|error| ClientError::NoHost { path: path.to_owned(), error })?;
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

    /// The same, but waits no longer than `time` for each part of the answer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Lost`].
    pub fn ask_within(&mut self, command: &Value, time: Duration) -> Result<Value, ClientError> {
        let stream = self.reader.get_ref();
        stream
            .set_read_timeout(Some(time))
            .and_then(|()| stream.set_write_timeout(Some(time)))
            .map_err(|_| ClientError::Lost)?;
        self.ask(command)
    }
}
