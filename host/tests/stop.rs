//! How a host ends: by whom, in which order, within which time, with which exit code.
//!
//! The host is the real binary. Nothing here measures time but by the host's own deadlines: each
//! stop has to end by itself, and a test that waits for ever fails by its runner.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::panic, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const HOST: &str = env!("CARGO_BIN_EXE_host");

fn guest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../guests/{name}.wasm"));
    assert!(path.is_file(), "run `cargo xtask guests` first: {}", path.display());
    path.to_str().unwrap().to_owned()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("run/host.sock")
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.socket().with_extension(extension)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(HOST);
        command
            .args(words)
            .current_dir(self.0.path())
            .env("BULKHEAD_SOCKET", self.socket())
            .env("BULKHEAD_CACHE_DIR", self.0.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    fn host(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// `host stop`, and what it printed.
    fn stop(&self, words: &[&str]) -> (i32, Value) {
        let output = self.host(&[&["stop", "--output", "json"], words].concat());
        let line = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), serde_json::from_str(&line).unwrap_or_default())
    }

    fn run(&self, guests: &[&str], options: &[&str]) -> Running {
        let mut running = self.begin(guests, options);
        running.greeting();
        running
    }

    /// Starts a host without waiting until it serves.
    fn begin(&self, guests: &[&str], options: &[&str]) -> Running {
        let guests: Vec<String> = guests.iter().map(|name| guest(name)).collect();
        let mut command = self.command(&["run", "--output", "json"]);
        command.args(&guests).args(options);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running::of(child)
    }

    fn ask(&self, command: &Value) -> Value {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or(Value::Null)
    }

    /// Calls a contract from a thread of its own.
    fn call(&self, daemon: &str, contract: &str, args: &Value) -> JoinHandle<Value> {
        let request = json!({ "daemon": daemon, "contract": contract, "args": args });
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(format!("{}\n", json!({ "call": request })).as_bytes()).unwrap();
        std::thread::spawn(move || {
            let mut line = String::new();
            // The host may be gone without an answer.
            let read = BufReader::new(stream).read_line(&mut line);
            read.ok().and_then(|_| serde_json::from_str(&line).ok()).unwrap_or(Value::Null)
        })
    }

    fn until(&self, what: &str, done: impl Fn(&Value) -> bool) {
        for _ in 0..3000 {
            if done(&self.ask(&json!({ "ps": {} }))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never {what}");
    }
}

/// A host; killed when dropped, if it hasn't ended.
struct Running {
    child: Child,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    fn of(mut child: Child) -> Self {
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, stderr: Some(stderr) }
    }

    fn greeting(&mut self) {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line} {}", self.end().1);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Its exit code, and what it said on standard error.
    fn end(&mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
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

fn spin(place: &Place) -> JoinHandle<Value> {
    let spinning = place.call("chaos", "die", &json!({ "how": "spin" }));
    place.until("spins", |ps| !ps["transactions"].as_array().unwrap().is_empty());
    spinning
}

const ENDLESS: [&str; 4] = ["--fuel", "chaos=1000000000000000000", "--deadline", "chaos=3600s"];

#[test]
fn s3_16_stop_waits_until_the_process_is_gone_and_exits_with_0() {
    let place = Place::new();
    let mut running = place.run(&["counter", "ledger"], &[]);
    let (code, line) = place.stop(&[]);
    assert_eq!((code, &line["stopped"]), (0, &json!(running.child.id())));
    assert_eq!((&line["code"], &line["reason"]), (&json!(0), &json!("asked for")));
    assert_eq!(running.end().0, 0);
    assert!(!place.socket().exists() && !place.file("stop").exists());
    let again = place.host(&["stop"]);
    assert_eq!(again.status.code(), Some(5));
}

#[test]
fn a5_signals_stop_in_order_and_none_of_the_others_does_harm() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::INT, 2), (Signal::HUP, 1)] {
        let place = Place::new();
        let mut running = place.run(&["counter"], &[]);
        let answer = place.call("counter", "increment", &json!({ "by": 1 }));
        assert_eq!(answer.join().unwrap()["outcome"], "committed");
        running.signal(Signal::PIPE);
        running.signal(signal);
        let (code, said) = running.end();
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(&format!("signal {number}")), "{said}");
    }
    // A hangup that was ignored at the start stays so.
    let place = Place::new();
    let run = ["run", "--output", "json"];
    let guest = guest("counter");
    let mut nohup = Command::new("nohup");
    nohup.arg(HOST).args(run).arg(&guest).env("BULKHEAD_SOCKET", place.socket());
    nohup.current_dir(place.0.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::of(nohup.stderr(Stdio::piped()).spawn().unwrap());
    running.greeting();
    running.signal(Signal::HUP);
    assert_eq!(place.ask(&json!({ "health": {} }))["health"]["state"], "ok");
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn a5_a_transaction_gets_its_grace_and_is_cancelled_and_its_caller_hears_of_it() {
    let place = Place::new();
    let grace = [&ENDLESS[..], &["--stop-grace", "200ms"]].concat();
    let mut running = place.run(&["chaos"], &grace);
    let spinning = spin(&place);
    let (code, line) = place.stop(&[]);
    assert_eq!((code, &line["code"]), (0, &json!(0)));
    assert_eq!(spinning.join().unwrap()["error"]["code"], "E_CANCELLED");
    assert_eq!(running.end().0, 0);
}

#[test]
fn a5_a_second_signal_forces_the_end_at_once() {
    let place = Place::new();
    let grace = [&ENDLESS[..], &["--stop-grace", "3600s"]].concat();
    let mut running = place.run(&["chaos"], &grace);
    let spinning = spin(&place);
    running.signal(Signal::TERM);
    place.until_stopping();
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, 7);
    assert_eq!(spinning.join().unwrap(), Value::Null);
}

impl Place {
    fn until_stopping(&self) {
        for _ in 0..3000 {
            if self.ask(&json!({ "health": {} }))["health"]["state"] == "stopping" {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it never stops");
    }
}

#[test]
fn s3_14_an_emergency_cancels_at_once_and_has_its_code_and_reason() {
    let place = Place::new();
    let grace = [&ENDLESS[..], &["--stop-grace", "3600s"]].concat();
    let mut running = place.run(&["chaos", "counter"], &grace);
    let spinning = spin(&place);
    let (code, line) = place.stop(&["--emergency", "the roof leaks"]);
    assert_eq!((code, &line["code"]), (0, &json!(6)));
    assert_eq!(line["reason"], "emergency E_EMERGENCY");
    let (code, said) = running.end();
    assert_eq!(code, 6);
    assert!(said.contains("error[E_EMERGENCY]: the roof leaks"), "{said}");
    assert_eq!(spinning.join().unwrap()["error"]["code"], "E_CANCELLED");
}

#[test]
fn s3_14_a_stop_while_guests_are_compiled_ends_the_start_and_the_compiler() {
    for emergency in [false, true] {
        let place = Place::new();
        let mut running = place.begin(&["sql"], &[]);
        let pid = running.child.id();
        while !place.file("run").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let children = || {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let threads = Path::new(&path).parent().unwrap().parent().unwrap().to_owned();
            let tasks = std::fs::read_dir(threads).into_iter().flatten().flatten();
            let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
            lists.map(Result::unwrap_or_default).collect::<String>().trim().to_owned()
        };
        while children().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let compiler = children();
        let health = place.host(&["health"]);
        assert_eq!(String::from_utf8(health.stdout).unwrap(), "starting\n");
        assert_eq!(health.status.code(), Some(8));
        let words: &[&str] = if emergency { &["--emergency", "no"] } else { &[] };
        let (code, line) = place.stop(words);
        assert_eq!((code, &line["code"]), (0, &json!(if emergency { 6 } else { 0 })));
        assert_eq!(running.end().0, if emergency { 6 } else { 0 });
        let left = Path::new("/proc").join(compiler.split_whitespace().next().unwrap());
        assert!(!left.exists(), "the compiler is still there");
    }
}

#[test]
fn s3_14_with_the_journal_blocked_a_stop_is_forced_and_says_what_is_unknown() {
    let hang = ["--fail-at", "before-sync:2:hang", "--stop-grace", "200ms"];
    for (words, code) in [(&[][..], 7), (&["--emergency", "now"], 6)] {
        let place = Place::new();
        let mut running = place.run(&["counter"], &hang);
        let answer = place.call("counter", "increment", &json!({ "by": 1 }));
        place.until("runs", |ps| ps["daemons"][0]["sequence"] == 1);
        let (_, line) = place.stop(words);
        assert_eq!(line["code"], code);
        let (ended, said) = running.end();
        assert_eq!(ended, code);
        assert!(said.contains("error[E_STOP_FORCED]"), "{said}");
        assert!(said.contains("commits 1 to 1 of `counter` are unknown"), "{said}");
        assert_eq!(answer.join().unwrap(), Value::Null);
    }
}

#[test]
fn s3_04_a_panic_of_the_journals_thread_ends_the_host_in_order_with_an_error() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &["--fail-at", "after-sync:2:panic"]);
    drop(place.call("counter", "increment", &json!({ "by": 1 })).join());
    let (code, said) = running.end();
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("error[E_HOST_BUG]: the thread `journal` panicked"), "{said}");
}

#[test]
fn s3_03_after_a_kill_the_next_start_clears_what_the_run_file_names_and_nothing_else() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &[]);
    let run = std::fs::read_to_string(place.file("run")).unwrap();
    let run: Value = serde_json::from_str(&run).unwrap();
    assert_eq!((&run["pid"], &run["state"]), (&json!(running.child.id()), &json!("running")));
    // Somebody asked it to stop, and it was killed before it saw that.
    running.signal(Signal::STOP);
    let ids = json!({
        "pid": run["pid"], "start_ticks": run["start_ticks"], "boot": run["boot"],
        "emergency": null,
    });
    std::fs::write(place.file("stop"), ids.to_string()).unwrap();
    running.signal(Signal::KILL);
    assert_eq!(running.end().0, -1);
    assert!(place.socket().exists());
    let mut running = place.run(&["counter"], &[]);
    assert!(!place.file("stop").exists());
    running.signal(Signal::KILL);
    running.end();
    std::fs::remove_file(place.socket()).unwrap();
    std::fs::write(place.socket(), "somebody's notes").unwrap();
    let mut refused = place.begin(&["counter"], &[]);
    let (code, said) = refused.end();
    assert_eq!(code, 1);
    assert!(said.contains("error[E_SOCKET]") && said.contains("was not made by a host"), "{said}");
    assert_eq!(std::fs::read_to_string(place.socket()).unwrap(), "somebody's notes");
}

#[test]
fn s4_10_a_second_host_is_refused_with_the_first_ones_pid() {
    let place = Place::new();
    let running = place.run(&["counter"], &[]);
    let (code, said) = place.begin(&["counter"], &[]).end();
    assert_eq!(code, 1);
    let expected = format!("another host, process {}, listens", running.child.id());
    assert!(said.contains("error[E_HOST_RUNNING]") && said.contains(&expected), "{said}");
}

#[test]
fn t2_a_host_that_was_held_is_well_and_health_answers_while_all_daemons_are_busy() {
    let place = Place::new();
    let options = [&ENDLESS[..], &["--stop-grace", "1ms"]].concat();
    let mut running = place.run(&["chaos"], &options);
    let spinning = spin(&place);
    let health = place.host(&["health", "--output", "json"]);
    assert_eq!(health.status.code(), Some(0));
    running.signal(Signal::STOP);
    let held = place.host(&["health"]);
    assert_eq!(String::from_utf8(held.stdout).unwrap(), "stuck\n  does not turn: api\n");
    assert_eq!(held.status.code(), Some(9));
    running.signal(Signal::CONT);
    let health = place.host(&["health"]);
    assert_eq!(String::from_utf8(health.stdout).unwrap(), "ok\n");
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
    assert_eq!(spinning.join().unwrap()["error"]["code"], "E_CANCELLED");
    assert_eq!(place.host(&["health"]).status.code(), Some(5));
}

#[test]
fn s3_14_a_stalled_disk_is_a_degraded_host_and_not_a_stuck_one() {
    let place = Place::new();
    let hang = ["--fail-at", "before-sync:2:hang", "--stop-grace", "1ms"];
    let mut running = place.run(&["counter"], &hang);
    let answer = place.call("counter", "increment", &json!({ "by": 1 }));
    let health = || place.ask(&json!({ "health": {} }))["health"].clone();
    while health()["state"] == "ok" {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(health()["state"], "degraded");
    assert_eq!(health()["stalled"][0]["thread"], "journal");
    let shown = place.host(&["health"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(text, "degraded\n  waits for the disk: journal\n");
    assert_eq!(shown.status.code(), Some(8));
    place.stop(&[]);
    assert_eq!(running.end().0, 7);
    drop(answer.join());
}

/// A service manager: starts the host again when it exits with an error, and only then.
fn managed(place: &Place, stops: &[&[&str]]) -> Vec<i32> {
    let notify = place.0.path().join("notify");
    let messages = UnixDatagram::bind(&notify).unwrap();
    let mut codes = Vec::new();
    for words in stops {
        let mut command = place.command(&["run", &guest("counter")]);
        command.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "2000000");
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running::of(child);
        let message = || {
            let mut bytes = [0; 100];
            let length = messages.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
        };
        let until = |wanted: &str| while message() != wanted {};
        until("READY=1");
        until("WATCHDOG=1");
        assert_eq!(place.stop(words).0, 0);
        until("STOPPING=1");
        codes.push(running.end().0);
        if codes.last() == Some(&0) {
            break;
        }
    }
    codes
}

#[test]
fn s3_05_a_manager_that_restarts_on_failure_restarts_after_an_emergency_and_not_after_a_stop() {
    let place = Place::new();
    let emergency: &[&str] = &["--emergency", "again"];
    assert_eq!(managed(&place, &[emergency, emergency, &[], &[]]), [6, 6, 0]);
}
