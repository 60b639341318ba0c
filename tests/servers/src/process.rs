//! A server's process and the directory that it works in.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// How long it may take to end after it was asked to.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Time between two looks at it.
const LOOK: Duration = Duration::from_millis(2);

/// Whom a server runs as, when this is the superuser and the server refuses that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// Somebody without privileges when this is the superuser; `None` for whoever this is.
    ///
    /// # Errors
    ///
    /// When there is nobody.
    pub fn unprivileged(names: &[&str]) -> Result<Option<Self>, String> {
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
    pub fn give(user: Option<Self>, dir: &Path) -> Result<(), String> {
        let Some(Self { uid, gid }) = user else { return Ok(()) };
        std::os::unix::fs::chown(dir, Some(uid), Some(gid))
            .map_err(|error| format!("{}: {error}", dir.display()))
    }
}

/// A program, to be run as that user, in a directory that it may be in.
#[must_use]
pub fn command(program: &Path, user: Option<User>, dir: &Path) -> Command {
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
pub fn run(command: &mut Command) -> Result<(), String> {
    let Output { status, stderr, .. } = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&stderr);
    let said = said.lines().last().unwrap_or("no message");
    if status.success() { Ok(()) } else { Err(format!("{status}: {said}")) }
}

/// Where a program is: on the `PATH`, or in the first of some directories.
pub(crate) fn find(program: &str, elsewhere: &[PathBuf]) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&paths).chain(elsewhere.iter().cloned());
    paths.map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// An empty directory of that user's. Its path is short, as those of sockets must be.
///
/// # Errors
///
/// The system's reason.
pub fn home(name: &str, user: Option<User>) -> Result<TempDir, String> {
    let made = tempfile::Builder::new().prefix(&format!("bulkhead-{name}-")).tempdir();
    let dir = made.map_err(|error| format!("no directory for {name}: {error}"))?;
    User::give(user, dir.path())?;
    Ok(dir)
}

/// How a server that listens is known.
#[derive(Clone, Debug)]
pub enum Listens {
    /// It takes connections at this socket.
    Unix(PathBuf),
    /// It takes connections at this address, and a question says that it is itself.
    Tcp(SocketAddr, fn(TcpStream, u32) -> bool),
    /// This file says that it does.
    File(PathBuf, fn(&str, u32) -> bool),
}

impl Listens {
    fn now(&self, pid: u32) -> bool {
        match self {
            Self::Unix(path) => UnixStream::connect(path).is_ok(),
            Self::Tcp(addr, itself) => {
                TcpStream::connect(addr).is_ok_and(|stream| itself(stream, pid))
            }
            Self::File(path, says) => {
                std::fs::read_to_string(path).is_ok_and(|text| says(&text, pid))
            }
        }
    }
}

/// A server: its process, and the directory that is removed when it has ended.
#[derive(Debug)]
pub struct Server {
    command: Command,
    process: Child,
    stop: Signal,
    listens: Listens,
    // Last: the process has ended before.
    home: TempDir,
}

impl Server {
    /// Starts it and waits until it listens; `stop` is the signal that ends it.
    ///
    /// # Errors
    ///
    /// When it doesn't start.
    pub fn start(
        mut command: Command,
        home: TempDir,
        listens: Listens,
        stop: Signal,
    ) -> Result<Self, String> {
        let process = spawn(&mut command)?;
        let mut server = Self { command, process, stop, listens, home };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while !self.listens.now(self.process.id()) {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if start.elapsed() > START_MAX {
                return Err(format!("it does not listen after {START_MAX:?}"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The directory that it works in.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it with all processes that it has started, at once.
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub fn kill9(&mut self) -> Result<(), String> {
        if let Ok(Some(_)) = self.process.try_wait() {
            return Ok(());
        }
        // The parent stands still: it starts no others, and nobody's number is given away.
        self.halt()?;
        let children = children(self.pid());
        self.signal_children(Signal::KILL);
        self.signal(Signal::KILL)?;
        self.process.wait().map_err(|error| error.to_string())?;
        // One that was just started has its parent's socket: as long as it lives, it listens.
        children.into_iter().try_for_each(|pid| reaches(pid, "ZX"))
    }

    /// Makes it stand still, alone. From here on it has the children that it has.
    fn halt(&self) -> Result<(), String> {
        self.signal(Signal::STOP)?;
        reaches(self.pid(), "TZX")
    }

    /// Makes it and its children stand still: what is sent to it is taken by the system, and not
    /// answered.
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub fn pause(&self) -> Result<(), String> {
        self.halt()?;
        self.signal_children(Signal::STOP);
        children(self.pid()).into_iter().try_for_each(|pid| reaches(pid, "TZX"))
    }

    /// Lets it go on after [`Server::pause`].
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub fn resume(&self) -> Result<(), String> {
        self.signal_children(Signal::CONT);
        self.signal(Signal::CONT)
    }

    /// Starts it again, where it was, after [`Server::kill9`].
    ///
    /// # Errors
    ///
    /// When it doesn't start.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill9()?;
        let start = Instant::now();
        loop {
            self.process = spawn(&mut self.command)?;
            match self.wait() {
                // What its dead predecessor held may be held for a moment more.
                Err(_) if start.elapsed() < START_MAX => std::thread::sleep(LOOK),
                done => return done,
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(Pid::from_child(&self.process), signal).map_err(|error| error.to_string())
    }

    fn signal_children(&self, signal: Signal) {
        let pids = children(self.pid()).into_iter().filter_map(|pid| i32::try_from(pid).ok());
        for pid in pids.filter_map(Pid::from_raw) {
            // One that has ended meanwhile needs no signal.
            let _ended = kill_process(pid, signal);
        }
    }

    fn end(&mut self) -> Result<(), String> {
        if let Ok(Some(_)) = self.process.try_wait() {
            return Ok(());
        }
        self.signal(self.stop)?;
        self.resume()?;
        let start = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if start.elapsed() > STOP_MAX {
                return self.kill9();
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("a server did not end: {error}");
        }
    }
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    let spawned = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    spawned.map_err(|error| error.to_string())
}

/// Waits until a process is in one of these states, or gone.
fn reaches(pid: u32, states: &str) -> Result<(), String> {
    let start = Instant::now();
    while !stat(pid).is_none_or(|(state, _)| states.contains(state)) {
        if start.elapsed() > START_MAX {
            return Err(format!("process {pid} is in none of the states {states}"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// A process's state, and its parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, its)| its == parent)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::port::on_free_port;

    /// Tells this test that it is the server.
    const SPAWNS_AT: &str = "BULKHEAD_TEST_SPAWNS_AT";

    /// A server that starts children all the time, each of which has its socket.
    fn spawn_for_ever(port: &str) -> ! {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse().unwrap())).unwrap();
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
        loop {
            drop(Command::new("sleep").arg("5").spawn().unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn who_is_killed_leaves_no_child_that_listens() {
        if let Ok(port) = std::env::var(SPAWNS_AT) {
            spawn_for_ever(&port);
        }
        let test = "process::tests::who_is_killed_leaves_no_child_that_listens";
        for kill in 0..20 {
            let (mut server, addr) = on_free_port("a spawner", |port| {
                let home = home("spawner", None)?;
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args([test, "--exact"]).env(SPAWNS_AT, port.to_string());
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let listens = Listens::Tcp(addr, |_, _| true);
                Ok((Server::start(command, home, listens, Signal::TERM)?, addr))
            });
            std::thread::sleep(Duration::from_millis(20));
            server.kill9().unwrap();
            assert!(TcpStream::connect(addr).is_err(), "kill {kill}");
        }
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "nobody2:x:1:1::/:/x\nnobody:x:65534:65533:nobody:/none:/x\nbad:x:y\n";
        assert_eq!(User::find(users, "nobody"), Some(User { uid: 65534, gid: 65533 }));
        assert_eq!(User::find(users, "bad"), None);
        assert_eq!(User::find(users, "nob"), None);
    }
}
