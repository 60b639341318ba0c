//! What tests do to a server, of whatever kind.

use std::net::SocketAddr;
use std::path::Path;

use crate::process::Server;

/// A server on 127.0.0.1, which tests kill and start again.
#[derive(Debug)]
pub struct Kept {
    /// For messages.
    program: &'static str,
    pub(crate) server: Server,
    addr: SocketAddr,
}

impl Kept {
    pub(crate) fn new(program: &'static str, server: Server, addr: SocketAddr) -> Self {
        Self { program, server, addr }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Its first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The directory that it works in.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.server.home()
    }

    /// Kills all of its processes.
    ///
    /// # Panics
    ///
    /// When they can't be.
    pub fn kill9(&mut self) {
        let program = self.program;
        self.server.kill9().unwrap_or_else(|error| panic!("{program}: {error}"));
    }

    /// Makes all of its processes stand still.
    ///
    /// # Panics
    ///
    /// When they don't.
    pub fn pause(&self) {
        self.server.pause().unwrap_or_else(|error| panic!("{}: {error}", self.program));
    }

    /// Lets them go on.
    ///
    /// # Panics
    ///
    /// When they don't.
    pub fn resume(&self) {
        self.server.resume().unwrap_or_else(|error| panic!("{}: {error}", self.program));
    }

    /// Starts it again on the same port, with what it keeps on disk.
    ///
    /// # Panics
    ///
    /// When it doesn't start.
    pub fn restart(&mut self) {
        let program = self.program;
        self.server.restart().unwrap_or_else(|error| panic!("{program}: {error}"));
    }
}
