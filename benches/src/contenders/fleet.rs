//! Many of something that are stopped together: daemons of one host, the real program; or
//! processes, told by a signal and waited for.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::component_path;
use super::durable::place::Place;

/// How many.
pub const FLEET: usize = 1000;

/// Bytes of memory that the machine must have: a daemon's budget twice, and as much beside it.
pub const MACHINE_BYTES: usize = FLEET * (8 << 20);

/// How long a fleet took to come up, and to be gone again.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From nothing to all of them running.
    pub start: Duration,
    /// From the first word about it to the end of the last.
    pub stop: Duration,
}

/// What hosts are started with: a file for each daemon, and a directory for the rest.
#[derive(Debug)]
pub struct Hosts {
    place: Place,
    guests: Vec<PathBuf>,
    /// Its path must be short, so it is not with the data.
    sockets: PathBuf,
    /// How many were started.
    count: usize,
}

impl Hosts {
    /// Writes the files.
    ///
    /// # Panics
    ///
    /// When that fails, or the guest was not built.
    #[must_use]
    pub fn new() -> Self {
        let place = Place::new();
        let dir = place.directory("guests");
        let counter = component_path("counter");
        let guests = (0..FLEET).map(|n| dir.join(format!("counter-{n}.wasm")));
        let guests: Vec<PathBuf> = guests.collect();
        for guest in &guests {
            fs::copy(&counter, guest).expect("a guest that was built, and room for copies");
        }
        let sockets = format!("bulkhead-fleet-{}", std::process::id());
        Self { place, guests, sockets: std::env::temp_dir().join(sockets), count: 0 }
    }

    /// Starts a host, over a journal or in memory only, and stops it.
    ///
    /// # Errors
    ///
    /// What went wrong; most often the program isn't there.
    pub fn run(&mut self, journal: bool) -> Result<Times, String> {
        self.count += 1;
        let data = self.place.directory(&format!("data-{}", self.count));
        let start = Instant::now();
        let mut host = self.host("run")?;
        host.args(["--output", "json", "--budget", "2MiB", "--memory", "1024GiB"]);
        if journal {
            host.arg("--data").arg(&data);
        } else {
            host.arg("--memory-only");
        }
        host.args(&self.guests);
        let mut host = host.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let mut greeting = String::new();
        let read = host.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut greeting));
        if !matches!(read, Some(Ok(bytes)) if bytes > 0) {
            let status = host.wait().map_err(|error| error.to_string())?;
            return Err(format!("it did not start: {status}"));
        }
        let up = start.elapsed();
        let start = Instant::now();
        let status = self.host("stop")?.stdout(Stdio::null()).status();
        let ended = host.wait();
        let stop = start.elapsed();
        match (status, ended) {
            (Ok(status), Ok(ended)) if status.success() && ended.success() => {
                Ok(Times { start: up, stop })
            }
            ends => Err(format!("it did not stop in order: {ends:?}")),
        }
    }

    fn host(&self, word: &str) -> Result<Command, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let program = own.parent().unwrap_or(Path::new(".")).join("host");
        if !program.is_file() {
            return Err(format!(
                "{} isn't there; `cargo xtask bench` builds it",
                program.display()
            ));
        }
        let mut command = Command::new(program);
        command.arg(word).stdin(Stdio::null()).env("BULKHEAD_LOG", "error");
        command.env("BULKHEAD_SOCKET", self.sockets.join("host.sock"));
        Ok(command)
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.sockets) {
            eprintln!("{} is left: {error}", self.sockets.display());
        }
    }
}

/// Starts as many processes that sleep, tells each to end, and waits for all.
///
/// # Errors
///
/// The system's.
pub fn processes() -> std::io::Result<Times> {
    let start = Instant::now();
    let sleeper = |_| Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn();
    let mut sleepers: Vec<Child> = (0..FLEET).map(sleeper).collect::<Result<_, _>>()?;
    let up = start.elapsed();
    let start = Instant::now();
    for sleeper in &sleepers {
        kill_process(Pid::from_child(sleeper), Signal::TERM)?;
    }
    for sleeper in &mut sleepers {
        sleeper.wait()?;
    }
    Ok(Times { start: up, stop: start.elapsed() })
}
