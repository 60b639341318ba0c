//! A Redis server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::kept::Kept;
use crate::port::on_free_port;
use crate::process::{Listens, Server, command, find, home};

/// How long it may take to answer a question.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Where `redis-server` is.
///
/// # Errors
///
/// What to install.
pub fn redis_program() -> Result<PathBuf, String> {
    find("redis-server", &[])
        .ok_or_else(|| "redis-server not found: apt-get install redis-server".to_owned())
}

/// A server that keeps nothing on disk, on 127.0.0.1. Gone when this is dropped.
#[derive(Debug)]
pub struct Redis {
    kept: Kept,
}

impl Redis {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    ///
    /// When there is none, or it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same, with more arguments.
    ///
    /// # Panics
    ///
    /// When there is none, or it doesn't start.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        let program = redis_program().unwrap_or_else(|error| panic!("{error}"));
        on_free_port("redis-server", |port| {
            let home = home("redis", None)?;
            let mut command = command(&program, None, home.path());
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
            command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]);
            command.arg(home.path()).args(arguments);
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let listens = Listens::Tcp(addr, is_it);
            let server = Server::start(command, home, listens, Signal::TERM)?;
            Ok(Self { kept: Kept::new("redis-server", server, addr) })
        })
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Asks it something on a connection of its own; the answer is as it was sent.
    ///
    /// # Panics
    ///
    /// When it doesn't answer.
    #[must_use]
    pub fn ask(&self, line: &str) -> String {
        let answer = TcpStream::connect(self.addr()).and_then(|stream| ask(stream, line));
        answer.unwrap_or_else(|error| panic!("redis-server: {error}"))
    }
}

impl Deref for Redis {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        &self.kept
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }
}

/// Sends a line, and reads until the server closes.
fn ask(mut stream: TcpStream, line: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(format!("{line}\r\nQUIT\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Ok(answer.strip_suffix("+OK\r\n").map(str::to_owned).unwrap_or(answer))
}

/// Another server may have taken the port first.
fn is_it(stream: TcpStream, pid: u32) -> bool {
    let process = format!("process_id:{pid}\r\n");
    ask(stream, "INFO server").is_ok_and(|answer| answer.contains(&process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_killed_paused_and_started_again_on_its_port() {
        let mut redis = Redis::start();
        let (pid, port) = (redis.pid(), redis.port());
        assert_eq!(redis.ask("SET a 1"), "+OK\r\n");
        redis.pause();
        let mut silent = TcpStream::connect(redis.addr()).unwrap();
        silent.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        silent.write_all(b"GET a\r\n").unwrap();
        assert!(silent.read(&mut [0; 16]).is_err());
        redis.resume();
        silent.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        let mut answer = [0; 7];
        silent.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"$1\r\n1\r\n");
        redis.kill9();
        assert!(TcpStream::connect(redis.addr()).is_err());
        redis.restart();
        assert_eq!(redis.ask("GET a"), "$-1\r\n");
        assert_eq!(redis.port(), port);
        assert_ne!(redis.pid(), pid);
    }

    #[test]
    fn a_paused_one_is_cleaned_up() {
        let redis = Redis::start();
        let (process, home) =
            (format!("/proc/{}", redis.pid()), redis.kept.server.home().to_owned());
        redis.pause();
        drop(redis);
        assert!(!PathBuf::from(process).exists());
        assert!(!home.exists());
    }
}
