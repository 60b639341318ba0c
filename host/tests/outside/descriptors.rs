//! Descriptors that nobody reads, and what the host says on them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{ENDLESS, HOST, Place, guest, spin};

/// What is asked of a host, one thing after the other, on one connection.
struct Client(BufReader<UnixStream>);

impl Client {
    fn of(place: &Place) -> Self {
        let stream = UnixStream::connect(place.socket()).unwrap();
        // So that nothing waits for ever where it should not wait at all.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(BufReader::new(stream))
    }

    fn call(&mut self, contract: &str, args: &Value) -> Value {
        let request = json!({ "daemon": "chaos", "contract": contract, "args": args });
        self.0.get_mut().write_all(format!("{}\n", json!({ "call": request })).as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// A host whose standard error somebody else has; killed when dropped.
struct Host(Child);

impl Host {
    fn of(mut command: Command, errors: impl Into<Stdio>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        Self(child)
    }

    fn end(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run(place: &Place, options: &[&str]) -> Command {
    let mut command = place.command(&["run", &guest("chaos"), "--output", "json"]);
    command.args(options);
    command
}

#[test]
fn a_log_that_nobody_reads_keeps_no_transaction_no_kill_and_no_stop_waiting() {
    let place = Place::new();
    let (mut reads, writes) = pipe().unwrap();
    let mut host = Host::of(run(&place, &ENDLESS), writes);
    let mut client = Client::of(&place);
    // The pipe, the queue behind it, and as much again.
    for _ in 0..700 {
        let said = client.call("print", &json!({ "text": "x".repeat(4000) }));
        assert_eq!(said["outcome"], "committed", "{said}");
    }
    let ps = place.ask(&json!({ "ps": {} }));
    let dropped = ps["root"]["log_lines_dropped"].as_u64().unwrap();
    assert!(dropped > 0);
    let spinning = spin(&place);
    let id = place.ask(&json!({ "ps": {} }))["transactions"][0]["id"].clone();
    assert!(place.host(&["kill", id.as_str().unwrap()]).status.success());
    assert_eq!(spinning.join().unwrap()["error"]["code"], "E_CANCELLED");
    // When somebody reads again, it is told how much is missing.
    let mut log = BufReader::new(&mut reads).lines();
    let told = log.find(|line| line.as_ref().unwrap().contains("lines were dropped")).unwrap();
    assert!(told.as_ref().unwrap().contains("lines="), "{told:?}");
    for _ in 0..700 {
        client.call("print", &json!({ "text": "x".repeat(4000) }));
    }
    // Nobody reads once more, and the host stops in order nevertheless.
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(host.end(), Some(0));
    drop(reads);
}

/// A log that takes nothing, because its disk is full or because nobody reads it.
#[test]
fn c11_a_full_log_keeps_no_commit_from_the_disk() {
    let hash = |place: &Place| {
        let ps = place.ask(&json!({ "ps": { "hash": true } }));
        (ps["daemons"][0]["committed_hash"].clone(), ps["daemons"][0]["sequence"].clone())
    };
    for full in [true, false] {
        let place = Place::new();
        let (reads, writes) = pipe().unwrap();
        let errors = if full {
            File::options().write(true).open("/dev/full").unwrap().into()
        } else {
            Stdio::from(writes)
        };
        let mut host = Host::of(run(&place, &[]), errors);
        let mut client = Client::of(&place);
        // More than a pipe and the queue behind it take, a line of it to each commit.
        for n in 1..=700 {
            let said = client.call("print", &json!({ "text": "x".repeat(4000) }));
            assert_eq!(said["outcome"], "committed", "{said}");
            let done = client.call("touch", &json!({ "pages": 1 }));
            assert_eq!(done["outcome"], "committed", "{done}");
            assert!(done["sequence"].as_u64().unwrap() >= n, "{done}");
        }
        let dropped = place.ask(&json!({ "ps": {} }))["root"]["log_lines_dropped"].clone();
        assert!(full || dropped.as_u64().unwrap() > 0, "{dropped}");
        let before = hash(&place);
        host.0.kill().unwrap();
        host.end();
        let again = Host::of(run(&place, &[]), Stdio::null());
        assert_eq!(hash(&place), before);
        drop((reads, again));
    }
}

#[test]
fn an_output_that_nobody_reads_keeps_no_start_and_no_stop_waiting() {
    let place = Place::new();
    let (reads, mut writes) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writes, true).unwrap();
    while writes.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writes, false).unwrap();
    let mut command = place.command(&["run", &guest("chaos")]);
    let mut child = command.stdout(writes).stderr(Stdio::null()).spawn().unwrap();
    while !place.host(&["health"]).status.success() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(reads);
}

/// The log of a host after some crashes.
fn log_of(options: &[&str], filter: &str) -> String {
    let place = Place::new();
    let log = place.0.path().join("log");
    let mut command = run(&place, options);
    command.env("BULKHEAD_LOG", filter);
    let mut host = Host::of(command, File::create(&log).unwrap());
    let mut client = Client::of(&place);
    for _ in 0..50 {
        assert_eq!(client.call("die", &json!({ "how": "panic" }))["outcome"], "crashed");
    }
    client.call("print", &json!({ "text": "\u{9b}31m\u{202e}said" }));
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(host.end(), Some(0));
    std::fs::read_to_string(log).unwrap()
}

#[test]
fn crashes_are_lines_of_the_log_so_many_and_the_others_are_counted() {
    let log = log_of(&[], "error");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("ERROR crash:")).collect();
    assert!((2..50).contains(&lines.len()), "{log}");
    for field in
        ["daemon=\"chaos\"", "contract=\"die\"", "code=E_TRAP_UNREACHABLE", "request=", "crash=\""]
    {
        assert!(lines[0].contains(field), "{field}: {}", lines[0]);
    }
    assert!(!log.contains("said"), "{log}");
    assert!(!log_of(&[], "off").contains("crash"));
}

#[test]
fn a_log_in_json_is_nothing_but_json_and_no_line_is_obeyed_by_a_terminal() {
    let log = log_of(&["--log-format", "json"], "info");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let crash = lines.iter().find(|line| line["target"] == "crash").unwrap();
    assert_eq!((&crash["level"], &crash["daemon"]), (&json!("ERROR"), &json!("chaos")));
    assert_eq!((&crash["contract"], &crash["code"]), (&json!("die"), &json!("E_TRAP_UNREACHABLE")));
    assert!(crash["request"].is_string() && crash["crash"].is_string(), "{crash}");
    for log in [log, log_of(&[], "info")] {
        assert!(log.contains("said") && !log.contains(['\u{9b}', '\u{202e}', '\u{1b}']), "{log}");
    }
    let place = Place::new();
    let mut refused = place.command(&["run", "none.wasm", "--log-format", "json"]);
    let refused = refused.stderr(Stdio::piped()).output().unwrap();
    let line: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!((&line["code"], &line["level"]), (&json!("E_FILE"), &json!("ERROR")));
}

#[test]
fn a_filter_that_would_hide_everything_is_refused_by_every_command() {
    for words in [&["ps"][..], &["run", "none.wasm"], &["explain"]] {
        for filter in ["inof", "info,guest=debgu", "="] {
            let mut command = Command::new(HOST);
            let output = command.args(words).env("BULKHEAD_LOG", filter).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{words:?} {filter}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("error[E_OPTION]: BULKHEAD_LOG"), "{said}");
        }
    }
}

#[test]
fn what_a_guest_answers_is_not_obeyed_by_a_terminal_and_is_the_same_value() {
    let place = Place::new();
    let _running = place.run(&["chaos"], &[]);
    let text = "\u{1b}]0;t\u{7}\u{9b}2J\u{202e}\u{2066}\u{7f}\u{2028}";
    let args = json!({ "text": text }).to_string();
    let words = ["call", "chaos", "echo", &args];
    let shown = |more: &[&str]| {
        let output = place.host(&[&words[..], more].concat());
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{shown:?}");
        shown
    };
    assert!(shown(&[]).starts_with("\\u001b]0;t\\u0007\\u009b2J\\u202e"), "{}", shown(&[]));
    let value: Value = serde_json::from_str(&shown(&["--output", "json"])).unwrap();
    assert_eq!(value["value"], text);
    let mut stream = UnixStream::connect(place.socket()).unwrap();
    let request = json!({ "daemon": "chaos", "contract": "echo", "args": { "text": text } });
    stream.write_all(format!("{}\n", json!({ "call": request })).as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut line = String::new();
    stream.read_to_string(&mut line).unwrap();
    assert!(line.trim_end().chars().all(|c| (' '..='~').contains(&c)), "{line:?}");
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["value"], text);
}
