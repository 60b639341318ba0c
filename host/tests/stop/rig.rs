//! A host under test, and what asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub(crate) const HOST: &str = env!("CARGO_BIN_EXE_host");

pub(crate) fn guest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../guests/{name}.wasm"));
    assert!(path.is_file(), "run `cargo xtask guests` first: {}", path.display());
    path.to_str().unwrap().to_owned()
}

pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.path().join("run/host.sock")
    }

    pub(crate) fn file(&self, extension: &str) -> PathBuf {
        self.socket().with_extension(extension)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(HOST);
        command
            .args(words)
            .current_dir(self.0.path())
            .env("BULKHEAD_SOCKET", self.socket())
            .env("BULKHEAD_CACHE_DIR", self.0.path().join("cache"))
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    pub(crate) fn host(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// `host stop`, and what it printed.
    pub(crate) fn stop(&self, words: &[&str]) -> (i32, Value) {
        let output = self.host(&[&["stop", "--output", "json"], words].concat());
        let line = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), serde_json::from_str(&line).unwrap_or_default())
    }

    pub(crate) fn run(&self, guests: &[&str], options: &[&str]) -> Running {
        let mut running = self.begin(guests, options);
        running.greeting();
        running
    }

    /// Starts a host without waiting until it serves.
    pub(crate) fn begin(&self, guests: &[&str], options: &[&str]) -> Running {
        let guests: Vec<String> = guests.iter().map(|name| guest(name)).collect();
        let mut command = self.command(&["run", "--output", "json"]);
        command.args(&guests).args(options);
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn ask(&self, command: &Value) -> Value {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or(Value::Null)
    }

    /// Calls a contract from a thread of its own.
    pub(crate) fn call(&self, daemon: &str, contract: &str, args: &Value) -> JoinHandle<Value> {
        let request = json!({ "daemon": daemon, "contract": contract, "args": args });
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        // One that is let go of at once may be closed already.
        drop(stream.write_all(format!("{}\n", json!({ "call": request })).as_bytes()));
        std::thread::spawn(move || {
            let mut line = String::new();
            // The host may be gone without an answer.
            let read = BufReader::new(stream).read_line(&mut line);
            read.ok().and_then(|_| serde_json::from_str(&line).ok()).unwrap_or(Value::Null)
        })
    }

    pub(crate) fn until(&self, what: &str, done: impl Fn(&Value) -> bool) {
        for _ in 0..3000 {
            if done(&self.ask(&json!({ "ps": {} }))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never {what}");
    }

    pub(crate) fn until_stopping(&self) {
        for _ in 0..3000 {
            if self.ask(&json!({ "health": {} }))["health"]["state"] == "stopping" {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it never stops");
    }
}

/// A host; killed when dropped, if it hasn't ended.
pub(crate) struct Running {
    pub(crate) child: Child,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn of(mut child: Child) -> Self {
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, stderr: Some(stderr) }
    }

    pub(crate) fn greeting(&mut self) {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line} {}", self.end().1);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Its threads by name, sorted; none when it has ended.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let tasks = tasks.into_iter().flatten().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        let mut names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
        names.sort();
        names
    }

    /// Waits until it has a thread of that name.
    pub(crate) fn until_thread(&self, name: &str) {
        for _ in 0..12_000 {
            if self.threads().iter().any(|thread| thread == name) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no thread {name}: {:?}", self.threads());
    }

    /// Processes that it started, and that are still there, itself included.
    pub(crate) fn group(&self) -> Vec<String> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let stats = processes.filter_map(|p| std::fs::read_to_string(p.path().join("stat")).ok());
        // After the name, which is in brackets: state, parent, group.
        let group = self.child.id().to_string();
        let same = |stat: &String| {
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            let mut fields = fields.split_whitespace();
            fields.next() != Some("Z") && fields.nth(1) == Some(&group)
        };
        stats.filter(same).collect()
    }

    /// Its exit code, and what it said on standard error. Nothing that it started is left.
    pub(crate) fn end(&mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        // A compiler whose host was killed dies of that, but not at the same moment.
        for _ in 0..200 {
            if self.group().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!((self.threads(), self.group()), (vec![], vec![]));
        (status.code().unwrap_or(-1), self.stderr.take().unwrap().join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn spin(place: &Place) -> JoinHandle<Value> {
    let spinning = place.call("chaos", "die", &json!({ "how": "spin" }));
    place.until("spins", |ps| !ps["transactions"].as_array().unwrap().is_empty());
    spinning
}

pub(crate) const ENDLESS: [&str; 4] =
    ["--fuel", "chaos=1000000000000000000", "--deadline", "chaos=3600s"];
