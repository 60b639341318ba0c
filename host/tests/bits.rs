//! The commands that look at a running host and switch parts of it off, on the real binary.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::panic, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const HOST: &str = env!("CARGO_BIN_EXE_host");
const ENDLESS: [&str; 4] = ["--fuel", "chaos=1000000000000000000", "--deadline", "chaos=3600s"];

/// A running host, killed when dropped.
struct Host {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Host {
    fn run(guests: &[&str], options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let guests = guests.iter().map(|name| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let path = root.join(format!("../guests/{name}.wasm"));
            assert!(path.is_file(), "run `cargo xtask guests` first: {}", path.display());
            path
        });
        let mut command = command(dir.path(), &["run", "--output", "json"]);
        command.args(guests).args(options).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        Self { dir, child }
    }

    fn host(&self, words: &[&str]) -> Output {
        command(self.dir.path(), words).output().unwrap()
    }

    /// What a command that must exit with `code` prints, on both outputs.
    fn says(&self, words: &[&str], code: i32) -> String {
        let output = self.host(words);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        text
    }

    fn json(&self, words: &[&str]) -> Value {
        let text = self.says(&[words, &["--output", "json"]].concat(), 0);
        serde_json::from_str(&text).unwrap()
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(socket(self.dir.path())).unwrap()
    }

    /// Sends one line, and doesn't wait.
    fn send(&self, line: &Value) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        stream
    }

    fn call(&self, contract: &str, args: &Value) -> UnixStream {
        let request = json!({ "daemon": "chaos", "contract": contract, "args": args });
        self.send(&json!({ "call": request }))
    }

    /// Keeps the daemon `chaos` busy; answers the transaction's id.
    fn spin(&self) -> (UnixStream, String) {
        let spinning = self.call("die", &json!({ "how": "spin" }));
        let ps = self.until("spins", |ps| ps["transactions"] != json!([]));
        assert_eq!(ps["transactions"][0]["contract"], "die");
        (spinning, ps["transactions"][0]["id"].as_str().unwrap().to_owned())
    }

    fn until(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..3000 {
            let ps = answer(self.send(&json!({ "ps": {} })));
            if done(&ps) {
                return ps;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never {what}");
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("run/host.sock")
}

fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(HOST);
    command
        .args(words)
        .current_dir(dir)
        .env("BULKHEAD_SOCKET", socket(dir))
        .env("BULKHEAD_CACHE_DIR", dir.join("cache"))
        .stdin(Stdio::null());
    command
}

fn answer(stream: UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn s4_29_a_kill_says_what_it_stopped_and_how_long_that_took() {
    let host = Host::run(&["chaos"], &ENDLESS);
    let (spinning, id) = host.spin();
    let said = host.says(&["kill", &id], 0);
    let what = format!("transaction {id}, `die` of `chaos`, which had run for ");
    assert!(said.contains(&what) && said.contains(": E_CANCELLED"), "{said}");
    assert_eq!(answer(spinning)["error"]["code"], "E_CANCELLED");
    let (_spinning, id) = host.spin();
    let killed = host.json(&["kill", &id]);
    assert_eq!((&killed["killed"], &killed["daemon"]), (&json!(id), &json!("chaos")));
    assert_eq!(
        (&killed["stopped"]["end"], &killed["stopped"]["contract"]),
        (&json!("E_CANCELLED"), &json!("die"))
    );
    assert!(killed["stopped"]["took_us"].as_f64().unwrap() > 0.0, "{killed}");
    for (words, code, expected) in [
        (&["kill", &id][..], 1, "E_NO_TRANSACTION"),
        (&["kill", "0"], 1, "E_NO_TRANSACTION"),
        (&["kill", "latest"], 2, "hexadecimal"),
        (&["kill", "-1"], 2, "hexadecimal"),
        (&["kill"], 2, "ID"),
    ] {
        let said = host.says(words, code);
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    for argument in [json!("latest"), json!(-1), json!(7), json!(null), json!("")] {
        let refused = answer(host.send(&json!({ "kill": argument })));
        assert_eq!(refused["error"]["code"], "E_REQUEST", "{refused}");
        let message = refused["error"]["message"].as_str().unwrap();
        let names = format!("{argument} is not the id of a transaction: that is a text of 1 to 16");
        assert!(message.contains(&names), "{refused}");
    }
}

#[test]
fn s4_29_what_is_switched_off_is_refused_held_and_shown() {
    let host = Host::run(&["chaos"], &ENDLESS);
    let (spinning, id) = host.spin();
    let said = host.says(&["disable", "chaos/die"], 0);
    let goes_on = format!("transaction {id} goes on; `host kill {id}` ends it");
    assert!(said.contains("`chaos/die` is disabled") && said.contains(&goes_on), "{said}");
    let said = host.says(&["disable", "chaos/die", "--cancel"], 0);
    assert!(said.contains(&id) && said.contains("E_CANCELLED"), "{said}");
    assert_eq!(answer(spinning)["error"]["code"], "E_CANCELLED");
    let said = host.says(&["call", "chaos", "die", "how=panic"], 1);
    assert!(said.contains("error[E_DISABLED]: contract `die` of daemon `chaos`"), "{said}");
    assert_eq!(host.says(&["call", "chaos", "balances"], 0), "[1000,1000]\n");
    let paused = host.json(&["pause", "chaos"]);
    let off = json!({ "paused": true, "disabled": false, "contracts": ["die"] });
    assert_eq!((&paused["paused"], &paused["off"]), (&json!("chaos"), &off));
    let waiting = host.call("balances", &json!({}));
    let ps = host.until("held", |ps| ps["daemons"][0]["held"] == 1);
    assert_eq!(ps["daemons"][0]["off"], off);
    for words in [&["ps"][..], &["ps", "--tree"]] {
        let said = host.says(words, 0);
        assert!(said.contains("ready, paused, partly disabled"), "{said}");
        assert!(said.contains("chaos is paused: host resume chaos"), "{said}");
        assert!(said.contains("chaos/die is disabled: host enable chaos/die"), "{said}");
        assert!(said.contains("chaos holds 1 requests"), "{said}");
    }
    let said = host.says(&["resume", "chaos"], 0);
    assert!(said.contains("`chaos` goes on; 1 request was held\nchaos/die is dis"), "{said}");
    assert_eq!(answer(waiting)["value"], json!([1000, 1000]));
    assert_eq!(host.json(&["disable", "chaos"])["off"]["disabled"], true);
    assert!(host.says(&["call", "chaos", "balances"], 1).contains("E_DISABLED"));
    assert_eq!(host.json(&["enable", "chaos/die"])["off"]["contracts"], json!([]));
    let said = host.says(&["enable", "chaos"], 0);
    assert_eq!(said, "`chaos` is enabled\n");
    assert_eq!(host.says(&["call", "chaos", "balances"], 0), "[1000,1000]\n");
    for (words, code, expected) in [
        (&["disable", "nobody"][..], 1, "E_DAEMON_UNKNOWN"),
        (&["enable", "nobody/die"], 1, "E_DAEMON_UNKNOWN"),
        (&["pause", "nobody"], 1, "E_DAEMON_UNKNOWN"),
        (&["disable", "chaos/steal"], 1, "E_CONTRACT_UNKNOWN"),
        (&["enable", "chaos/"], 1, "E_CONTRACT_UNKNOWN"),
        (&["pause"], 2, "DAEMON"),
    ] {
        let said = host.says(words, code);
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    for line in [
        json!({ "pause": "chaos" }),
        json!({ "pause": { "daemon": "chaos", "force": true } }),
        json!({ "disable": { "contract": "die" } }),
        json!({ "disable": { "daemon": "chaos", "cancel": 1 } }),
        json!({ "resume": {} }),
    ] {
        let refused = answer(host.send(&line));
        assert_eq!(refused["error"]["code"], "E_REQUEST", "{line}: {refused}");
    }
}

#[test]
fn s4_29_everything_can_be_switched_while_the_journal_hangs_and_all_clients_wait() {
    let hang = ["--fail-at", "before-sync:2:hang"];
    let host = Host::run(&["chaos"], &[&ENDLESS[..], &hang].concat());
    let mut waiting = vec![host.call("touch", &json!({ "pages": 1 }))];
    host.until("committed", |ps| ps["daemons"][0]["sequence"] == 1);
    let (spinning, id) = host.spin();
    waiting.push(spinning);
    while waiting.len() < 256 {
        waiting.push(host.call("touch", &json!({ "pages": 1 })));
    }
    assert_eq!(answer(host.call("balances", &json!({})))["error"]["code"], "E_QUEUE_FULL");
    assert_eq!(host.json(&["pause", "chaos"])["left"], json!([id]));
    assert_eq!(host.json(&["kill", &id])["stopped"]["end"], "E_CANCELLED");
    let ps = host.until("held", |ps| ps["daemons"][0]["held"] == 254);
    assert_eq!(ps["transactions"], json!([]));
    assert_eq!(host.json(&["disable", "chaos/touch"])["off"]["contracts"], json!(["touch"]));
    assert_eq!(host.json(&["resume", "chaos"])["held"], 254);
    assert_eq!(host.json(&["disable", "chaos"])["off"]["disabled"], true);
    assert_eq!(host.json(&["enable", "chaos"])["held"], 254);
    let said = host.says(&["ps", "--tree"], 0);
    assert!(said.contains("partly disabled") && said.contains("E_CANCELLED"), "{said}");
    assert_eq!(host.json(&["stop", "--emergency", "enough"])["code"], 6);
    drop(waiting);
}

#[test]
fn s4_33_ps_prints_the_tree_once_or_again_and_again() {
    let host = Host::run(&["chaos", "counter"], &ENDLESS);
    host.says(&["call", "chaos", "die", "how=panic"], 3);
    let (_spinning, id) = host.spin();
    let said = host.says(&["ps", "--tree"], 0);
    let lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let (components, lines): (Vec<_>, Vec<_>) = lines.partition(|line| line[2] == "component");
    let names: Vec<&str> = components.iter().map(|line| line[0]).collect();
    let running =
        ["main", "epoch-ticker", "root", "journal-fold", "journal", "crash-reports", "api"];
    assert_eq!(names, running);
    for line in components {
        assert_eq!((line[1], line[3], line[4]), ("1", "|-", line[0]));
        assert_eq!(line[6..], ["1", "0", "-"]);
    }
    let header = "ID PARENT KIND NAME STATE GENERATION RESTARTS LAST EXIT";
    assert_eq!(lines[0].join(" "), header);
    let pid = host.child.id().to_string();
    assert_eq!(lines[1], ["1", "-", "root", "pid", &pid, "running", "1", "-", "-"]);
    let code = "E_TRAP_UNREACHABLE";
    assert_eq!(lines[2], ["3", "1", "daemon", "|-", "chaos", "running", "3", "2", code]);
    assert_eq!(lines[3][..6], [&id, "3", "transaction", "|", "`-", "die"]);
    assert_eq!(lines[3][9..], ["3", "-", "-"]);
    assert_eq!(lines[4], ["4", "1", "daemon", "`-", "counter", "ready", "1", "0", "-"]);
    let ps = host.json(&["ps"]);
    assert_eq!(ps["daemons"][0]["last_exit"]["code"], code);
    assert_eq!(ps["daemons"][0]["last_exit"]["generation"], 2);
    assert!(ps["daemons"][1]["last_exit"].is_null());

    // Frame after frame, each as it is then; Ctrl-C ends it well.
    let words = ["ps", "--tree", "--watch", "100ms"];
    let mut watch = command(host.dir.path(), &words).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(&id)));
    host.says(&["kill", &id], 0);
    assert!(lines.any(|line| line.contains("chaos") && line.contains("E_CANCELLED")));
    let pid = Pid::from_raw(i32::try_from(watch.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    // Nobody reads it any more.
    let words = ["ps", "--output", "json", "--watch", "100ms"];
    let mut watch = command(host.dir.path(), &words).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let frame: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!(frame["daemons"][1]["name"], "counter");
    drop(lines);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    host.says(&["ps", "--watch", "soon"], 2);
    // It ends with the host.
    let mut watch = command(host.dir.path(), &["ps", "--watch"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    watch.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"ID");
    drop(host);
    assert_eq!(watch.wait().unwrap().code(), Some(5));
}

#[test]
fn crashes_are_listed_of_all_daemons_or_of_one_and_shown_whole() {
    let host = Host::run(&["chaos", "ledger"], &["--fuel", "ledger=1000"]);
    let crash = |daemon: &str, words: &[&str]| {
        let words = [&["call", daemon][..], words, &["--output", "json"]].concat();
        let line: Value = serde_json::from_str(&host.says(&words, 3)).unwrap();
        line["error"]["crash"].as_str().unwrap().to_owned()
    };
    let panicked = crash("chaos", &["die", "how=panic"]);
    let starved = crash("ledger", &["deposit", "account=ann", "amount=1"]);
    let listed = || host.json(&["crashes"])["crashes"].clone();
    let both = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        listed().as_array().unwrap().len() == 2
    });
    assert!(both, "{}", listed());
    assert_eq!((&listed()[0]["crash"], &listed()[1]["crash"]), (&json!(panicked), &json!(starved)));
    let said = host.says(&["crashes"], 0);
    let (first, second) = (said.lines().nth(1).unwrap(), said.lines().nth(2).unwrap());
    for word in [panicked.as_str(), "chaos", "die", "E_TRAP_UNREACHABLE"] {
        assert!(first.contains(word), "{first}");
    }
    assert!(second.contains(&starved) && second.contains("E_FUEL"), "{second}");
    let of_one = host.says(&["crashes", "ledger"], 0);
    assert!(of_one.contains(&starved) && !of_one.contains(&panicked), "{of_one}");
    let last = host.json(&["crashes", "--last", "1"]);
    assert_eq!(last["crashes"].as_array().unwrap().len(), 1);
    let whole = host.says(&["crashes", &panicked], 0);
    let fields = ["arguments: [\"panic\"]", "daemon: chaos", "attempts: 2", "fuel_used: ", "  at "];
    for field in fields {
        assert!(whole.contains(field), "{field}: {whole}");
    }
    assert!(!whole.contains("seed"), "{whole}");
    assert_eq!(host.json(&["crashes", &panicked])["crash"]["contract"], "die");
    for (words, expected) in [
        (["crashes", "nobody"], "E_DAEMON_UNKNOWN"),
        (["crashes", "0000000000000001"], "E_NO_CRASH"),
    ] {
        let said = host.says(&words, 1);
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    let refused = answer(host.send(&json!({ "crash": "x" })));
    assert_eq!(refused["error"]["code"], "E_REQUEST", "{refused}");
    let memory_only = Host::run(&["chaos"], &["--memory-only"]);
    assert!(memory_only.says(&["crashes", &panicked], 1).contains("E_MEMORY_ONLY"));
    memory_only.says(&["call", "chaos", "die", "how=panic"], 3);
    for words in [&["crashes"][..], &["crashes", "chaos"]] {
        let said = memory_only.says(words, 0);
        assert!(said.ends_with("crashed requests are not written down\n"), "{said}");
    }
    assert!(memory_only.says(&["crashes", "nobody"], 1).contains("E_DAEMON_UNKNOWN"));
}
