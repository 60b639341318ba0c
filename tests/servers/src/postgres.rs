//! A `PostgreSQL` server.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::kept::Kept;
use crate::port::on_free_port;
use crate::process::{Listens, Server, User, command, find, home, run};

const PID_FILE: &str = "postmaster.pid";

/// Where `initdb` and `postgres` are.
///
/// # Errors
///
/// What to install.
pub fn postgres_programs() -> Result<[PathBuf; 2], String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort_unstable();
    versions.reverse();
    let missing = || "postgres not found: apt-get install postgresql".to_owned();
    let [initdb, postgres] =
        ["initdb", "postgres"].map(|program| find(program, &versions).ok_or_else(missing));
    Ok([initdb?, postgres?])
}

/// A server on 127.0.0.1 that trusts everybody, with a user and a database `bulkhead`. It syncs
/// nothing. Gone when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    kept: Kept,
    // Kept while any server of this process may be started from it.
    _template: Arc<TempDir>,
}

impl Postgres {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    ///
    /// When there is none, or it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        let made = template();
        let (template, program, user) = made.unwrap_or_else(|error| panic!("PostgreSQL: {error}"));
        on_free_port("postgres", |port| {
            let home = home("postgres", user)?;
            let from = format!("{}/.", template.path().display());
            run(Command::new("cp").args(["-a", &from]).arg(home.path()))?;
            let mut command = command(&program, user, home.path());
            command.arg("-D").arg(home.path()).args(["-p", &port.to_string()]);
            for setting in SETTINGS {
                command.args(["-c", setting]);
            }
            let listens = Listens::File(home.path().join(PID_FILE), is_ready);
            let server = Server::start(command, home, listens, Signal::QUIT)?;
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let kept = Kept::new("postgres", server, addr);
            Ok(Self { kept, _template: template.clone() })
        })
    }

    /// Where it listens, as a URL with user and database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://bulkhead@{}/bulkhead", self.addr())
    }
}

impl Deref for Postgres {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        &self.kept
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // One that was killed leaves a piece of shared memory, whose number is in its file.
        let dead = self.kept.server.kill9().is_ok();
        let text =
            std::fs::read_to_string(self.kept.server.home().join(PID_FILE)).unwrap_or_default();
        let number = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        if let Some(number) = number.filter(|_| dead) {
            let removed = run(Command::new("ipcrm").args(["-m", number]));
            if let Err(error) = removed {
                eprintln!("a piece of shared memory of postgres is left: {error}");
            }
        }
    }
}

const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "shared_buffers=16MB",
    "max_connections=60",
];

/// Its number is in the first line, and how it is in the eighth.
fn is_ready(text: &str, pid: u32) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready")
}

/// A cluster from which servers are copied, made once while any of them is there; and the server's
/// program, and who runs it.
fn template() -> Result<(Arc<TempDir>, PathBuf, Option<User>), String> {
    static TEMPLATE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let [initdb, postgres] = postgres_programs()?;
    let user = User::unprivileged(&["postgres", "nobody"])?;
    let mut made = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
    let template = match made.upgrade() {
        Some(template) => template,
        None => Arc::new(make(&initdb, &postgres, user)?),
    };
    *made = Arc::downgrade(&template);
    Ok((template, postgres, user))
}

fn make(initdb: &Path, postgres: &Path, user: Option<User>) -> Result<TempDir, String> {
    let dir = home("cluster", user)?;
    let mut init = command(initdb, user, dir.path());
    init.args(["--auth", "trust", "--username", "bulkhead", "--locale", "C", "--encoding"]);
    init.args(["UTF8", "--no-sync", "--wal-segsize", "1", "--pgdata"]).arg(dir.path());
    run(&mut init).map_err(|error| format!("{}: {error}", initdb.display()))?;
    let mut alone = command(postgres, user, dir.path());
    alone.args(["--single", "-F", "-D"]).arg(dir.path()).arg("postgres");
    alone.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut alone = alone.spawn().map_err(|error| error.to_string())?;
    let told = alone.stdin.take().map(|mut stdin| stdin.write_all(b"CREATE DATABASE bulkhead\n"));
    let ended = alone.wait().map_err(|error| error.to_string())?;
    match told {
        Some(Ok(())) if ended.success() => Ok(dir),
        _ => Err(format!("{} makes no database: {ended}", postgres.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;
    use std::time::Duration;

    /// Opens a session up to the message after which the server is ready for queries.
    fn session(postgres: &Postgres) -> TcpStream {
        let mut stream = TcpStream::connect(postgres.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let body = b"\0\x03\0\0user\0bulkhead\0database\0bulkhead\0\0";
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], body].concat()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"Z\0\0\0\x05I") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert_eq!(answer.first(), Some(&b'R'));
        stream
    }

    #[test]
    fn it_is_killed_paused_and_started_again_on_its_port() {
        let mut postgres = Postgres::start();
        let (pid, port) = (postgres.pid(), postgres.port());
        let mut silent = session(&postgres);
        postgres.pause();
        silent.write_all(b"Q\0\0\0\x0dSELECT 1\0").unwrap();
        silent.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(silent.read(&mut [0; 16]).is_err());
        postgres.resume();
        silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert!(silent.read(&mut [0; 16]).unwrap() > 0);
        postgres.kill9();
        assert!(TcpStream::connect(postgres.addr()).is_err());
        let mut rest = Vec::new();
        assert!(silent.read_to_end(&mut rest).is_ok(), "its sessions have ended with it");
        postgres.restart();
        drop(session(&postgres));
        assert_eq!(postgres.port(), port);
        assert_ne!(postgres.pid(), pid);
    }

    #[test]
    fn a_paused_one_is_cleaned_up() {
        let (first, second) = (Postgres::start(), Postgres::start());
        let (process, home) =
            (format!("/proc/{}", first.pid()), first.kept.server.home().to_owned());
        first.pause();
        drop(first);
        assert!(!PathBuf::from(process).exists());
        assert!(!home.exists());
        drop(session(&second));
    }
}
