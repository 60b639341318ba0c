//! The binary as its users meet it: commands, exit codes, messages, forms of output.
//!
//! Needs `guests/*.wasm`, which `cargo xtask guests` builds.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

#[path = "cli/earlier.rs"]
mod earlier;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/new.rs"]
mod new;
#[path = "cli/values.rs"]
mod values;

const HOST: &str = env!("CARGO_BIN_EXE_host");

fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../guests/{name}.wasm"));
    assert!(path.is_file(), "run `cargo xtask guests` first: {}", path.display());
    path
}

fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(HOST);
    command
        .args(words)
        .current_dir(dir)
        .env("BULKHEAD_SOCKET", dir.join("run/host.sock"))
        .env("BULKHEAD_CACHE_DIR", dir.join("cache"))
        .env_remove("RUST_BACKTRACE");
    command
}

fn host(dir: &Path, words: &[&str]) -> Output {
    command(dir, words).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running host, killed when dropped.
struct Running {
    child: Child,
    dir: Option<tempfile::TempDir>,
    words: Vec<String>,
}

impl Running {
    fn start(guests: &[&str], options: &[&str]) -> Self {
        let paths = guests.iter().map(|name| guest(name).to_str().unwrap().to_owned());
        let options = options.iter().map(|&option| option.to_owned());
        Self::start_in(tempfile::tempdir().unwrap(), paths.chain(options).collect())
    }

    fn start_in(dir: tempfile::TempDir, words: Vec<String>) -> Self {
        let mut child = Command::new(HOST)
            .arg("run")
            .args(&words)
            .args(["--output", "json"])
            .env("BULKHEAD_SOCKET", dir.path().join("run/host.sock"))
            .env("BULKHEAD_CACHE_DIR", dir.path().join("cache"))
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let greeting: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(greeting["pid"], child.id());
        Self { child, dir: Some(dir), words }
    }

    /// Kills it and starts it again in the same directory.
    fn restarted(mut self) -> Self {
        let (dir, words) = (self.dir.take().unwrap(), self.words.clone());
        drop(self);
        Self::start_in(dir, words)
    }

    fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    fn host(&self, words: &[&str]) -> Output {
        host(self.dir(), words)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }
}

#[test]
fn calls_print_values_and_exit_as_documented() {
    let running = Running::start(&["ledger", "chaos"], &["--fuel", "chaos=1_000_000"]);
    let deposit = running.host(&["call", "ledger", "deposit", "account=ann", "amount=100"]);
    assert_eq!((code(&deposit), stdout(&deposit).as_str()), (0, "100\n"));
    let transfer = r#"{"from": "ann", "to": "bob", "amount": 5}"#;
    assert_eq!(code(&running.host(&["call", "ledger", "transfer", transfer])), 0);
    let rejected =
        running.host(&["call", "ledger", "transfer", "from=bob", "to=ann", "amount=500"]);
    assert_eq!(code(&rejected), 1);
    assert!(stderr(&rejected).contains("overdraft"), "{}", stderr(&rejected));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut unwritten =
        command(running.dir(), &["call", "ledger", "deposit", "account=eve", "amount=3"]);
    let unwritten = unwritten.stdout(full).output().unwrap();
    assert_eq!(code(&unwritten), 10, "{}", stderr(&unwritten));
    assert!(stderr(&unwritten).contains("was done all the same"), "{}", stderr(&unwritten));
    assert_eq!(stdout(&running.host(&["call", "ledger", "balance", "account=eve"])), "3\n");
    let ill_typed = running.host(&["call", "ledger", "deposit", "account=ann", "amount=x"]);
    assert_eq!(code(&ill_typed), 1);
    assert!(stderr(&ill_typed).contains("E_ARGS"), "{}", stderr(&ill_typed));
    for words in [&["call", "ledger", "balance", "ann"][..], &["call"], &["call", "a", "b", "{"]] {
        assert_eq!(code(&running.host(words)), 2, "{words:?}");
    }
    let crashed = running.host(&["call", "chaos", "die", "how=spin", "--output", "json"]);
    assert_eq!(code(&crashed), 3);
    let line: Value = serde_json::from_str(&stdout(&crashed)).unwrap();
    assert_eq!(line["outcome"], "crashed");
    assert_eq!(line["error"]["code"], "E_FUEL");
    assert_eq!(line["error"]["blame"], "guest");
    assert_eq!(line["attempts"], 2);
}

#[test]
fn a_key_gives_the_first_answer_again_and_conflicts_with_another_request() {
    let running = Running::start(&["counter"], &[]);
    let increment = |by: &str| {
        running.host(&["call", "counter", "increment", &format!("by={by}"), "--key", "k"])
    };
    assert_eq!(stdout(&increment("5")), "5\n");
    assert_eq!(stdout(&increment("5")), "5\n");
    let conflict = increment("6");
    assert_eq!(code(&conflict), 1);
    assert!(stderr(&conflict).contains("E_KEY_CONFLICT"));
    assert_eq!(stdout(&running.host(&["call", "counter", "value"])), "5\n");
}

#[test]
fn ps_shows_root_and_daemons() {
    let running = Running::start(&["counter", "chaos"], &["--budget", "counter=8MiB"]);
    assert_eq!(code(&running.host(&["call", "chaos", "die", "how=panic"])), 3);
    let ps: Value =
        serde_json::from_str(&stdout(&running.host(&["ps", "--output", "json"]))).unwrap();
    assert_eq!(ps["root"]["generation"], 1);
    assert_eq!(ps["root"]["pid"], running.child.id());
    let daemons = ps["daemons"].as_array().unwrap();
    let chaos = daemons.iter().find(|daemon| daemon["name"] == "chaos").unwrap();
    let counter = daemons.iter().find(|daemon| daemon["name"] == "counter").unwrap();
    assert_eq!((&chaos["restarts"], &chaos["generation"]), (&2.into(), &3.into()));
    assert_eq!((&counter["restarts"], &counter["generation"]), (&0.into(), &1.into()));
    assert_eq!(counter["budget_bytes"], 8 << 20);
    for field in ["id", "state", "sequence", "memory_bytes", "committed_hash"] {
        assert!(!counter[field].is_null(), "{field}");
    }
    let shown = stdout(&running.host(&["ps"]));
    assert!(shown.contains("root") && shown.contains("chaos"), "{shown}");
    assert!(shown.contains("durability fsync: 2 commits in"), "{shown}");
}

#[test]
fn a_parked_daemon_says_so_and_can_be_resumed() {
    let options = ["--on-crash", "ask", "--param", "chaos.recovery=park"];
    let running = Running::start(&["chaos"], &options);
    assert_eq!(code(&running.host(&["call", "chaos", "die", "how=panic"])), 3);
    let refused = running.host(&["call", "chaos", "state"]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("E_PARKED"), "{}", stderr(&refused));
    assert!(stdout(&running.host(&["ps"])).contains("host resume chaos"));
    assert_eq!(code(&running.host(&["resume", "chaos"])), 0);
    assert_eq!(code(&running.host(&["call", "chaos", "state"])), 0);
    let unknown = running.host(&["resume", "nobody"]);
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains("E_DAEMON_UNKNOWN"));
}

#[test]
fn a_second_host_on_the_socket_is_refused_and_a_stopped_one_exits_with_0() {
    let mut running = Running::start(&["counter"], &[]);
    let path = guest("counter");
    let pid = running.child.id().to_string();
    let elsewhere = running.dir().join("elsewhere/host.sock");
    let elsewhere = ["--socket", elsewhere.to_str().unwrap()];
    let second = running.host(&[&["run", path.to_str().unwrap()], &elsewhere[..]].concat());
    assert_eq!(code(&second), 1);
    let said = stderr(&second);
    assert!(said.contains("E_DATA_DIR_LOCKED") && said.contains(&pid), "{said}");
    let second = running.host(&["run", path.to_str().unwrap(), "--memory-only"]);
    assert_eq!(code(&second), 1);
    assert!(stderr(&second).contains("E_HOST_RUNNING"), "{}", stderr(&second));
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    let nobody = running.host(&["ps"]);
    assert_eq!(code(&nobody), 5);
    assert!(stderr(&nobody).contains("host run"), "{}", stderr(&nobody));
}

#[test]
fn a_request_file_gives_one_line_per_request_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(dir.path().join("requests.jsonl")).unwrap();
    for n in 0..1000 {
        let daemon = if n % 2 == 0 { "counter" } else { "ledger" };
        let line = match daemon {
            "counter" => r#"{"daemon":"counter","contract":"increment","args":{"by":1}}"#,
            _ => r#"{"daemon":"ledger","contract":"deposit","args":{"account":"a","amount":1}}"#,
        };
        writeln!(file, "{line}").unwrap();
    }
    drop(file);
    let (counter, ledger) = (guest("counter"), guest("ledger"));
    let guests = [counter.to_str().unwrap(), ledger.to_str().unwrap()];
    let words = ["run", guests[0], guests[1], "--requests", "requests.jsonl"];
    let ran = host(dir.path(), &[&words[..], &["--output", "json"]].concat());
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    let lines: Vec<Value> =
        stdout(&ran).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1001);
    for (n, line) in lines[..1000].iter().enumerate() {
        assert_eq!(line["daemon"], if n % 2 == 0 { "counter" } else { "ledger" });
        assert_eq!(line["value"], n / 2 + 1);
        assert_eq!(line["sequence"], n / 2 + 1);
    }
    let table = stdout(&host(dir.path(), &words));
    assert!(table.contains("RESTART P50") && table.contains("1000 committed"), "{table}");
    std::fs::write(dir.path().join("bad.jsonl"), "{\"daemon\": 5}\n").unwrap();
    let bad = host(dir.path(), &["run", guests[0], "--requests", "bad.jsonl"]);
    assert_eq!(code(&bad), 1);
    assert!(stderr(&bad).contains("bad.jsonl:1"), "{}", stderr(&bad));
}

#[test]
fn mistakes_are_named_with_their_code() {
    let dir = tempfile::tempdir().unwrap();
    let counter = guest("counter");
    let counter = counter.to_str().unwrap();
    std::fs::create_dir(dir.path().join("broken")).unwrap();
    std::fs::write(dir.path().join("broken/Cargo.toml"), "[package]\nname = 5\n").unwrap();
    for (words, exit, expected) in [
        (&["run", counter, "--budget", "counter=abc"][..], 2, "E_BUDGET_SIZE"),
        (&["run", counter, "--budget", "other=1MiB"], 2, "E_OPTION"),
        (&["run", counter, "--deadline", "5h"], 2, "E_OPTION"),
        (&["run", counter, "--memory", "10MiB"], 1, "E_BUDGET"),
        (&["run", counter, "--budget", "1MiB"], 1, "E_MEM_LIMIT"),
        (&["run", counter, counter], 2, "E_NAME"),
        (&["run", "missing.wasm"], 1, "E_FILE"),
        (&["run", "Cargo.toml"], 1, "E_FILE"),
        (&["run", counter, "--requests", "missing.jsonl"], 1, "E_FILE"),
        (&["run", counter, "--socket", "/proc/nowhere/host.sock"], 1, "E_SOCKET"),
        (&["build", "nowhere"], 1, "E_FILE"),
        (&["build", "broken"], 1, "E_BUILD"),
        (&["lst"], 2, "'ps'"),
        (&["inspect", "missing.wasm"], 1, "E_FILE"),
        (&["explain", "E_NONSENSE"], 2, "E_NONSENSE"),
        (&["new", "Bad Name"], 2, "Bad Name"),
        (&["run"], 2, "GUEST.wasm"),
    ] {
        let output = host(dir.path(), words);
        assert_eq!(code(&output), exit, "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{words:?}: {}", stderr(&output));
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut unprinted = Command::new(HOST);
    let unprinted = unprinted.args(["explain", "E_FUEL"]).stdout(full).output().unwrap();
    assert_eq!(code(&unprinted), 10, "{}", stderr(&unprinted));
    assert!(stderr(&unprinted).contains("could not be written"), "{}", stderr(&unprinted));
    std::fs::write(dir.path().join("text.wasm"), "no component").unwrap();
    let refused = host(dir.path(), &["inspect", "text.wasm", "--output", "json"]);
    assert_eq!(code(&refused), 1);
    let line: Value = serde_json::from_str(&stdout(&refused)).unwrap();
    assert_eq!(line["error"]["code"], "E_MODULE_INVALID");
}

#[test]
fn states_are_listed_saved_copied_and_taken_back() {
    let running = Running::start(&["ledger"], &[]);
    let done = |words: &[&str]| {
        let output = running.host(words);
        assert_eq!(code(&output), 0, "{words:?}: {}", stderr(&output));
        stdout(&output)
    };
    for amount in ["amount=1", "amount=2", "amount=4"] {
        done(&["call", "ledger", "deposit", "account=ann", amount]);
    }
    let history = done(&["history", "ledger"]);
    assert!(history.contains("init") && history.matches("deposit").count() == 3, "{history}");
    let listed = done(&["checkpoints", "ledger", "--last", "2", "--output", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["oldest"], 0);
    assert_eq!(listed["commits"][1]["sequence"], 3);
    assert_eq!(listed["commits"].as_array().unwrap().len(), 2);
    done(&["fork", "ledger", "early", "--at", "1"]);
    assert_eq!(done(&["call", "early", "total"]), "1\n");
    let saved = done(&["snapshot", "ledger", "-o", "state.snapshot"]);
    assert!(saved.contains("commit 3 of `ledger`"), "{saved}");
    let reverted = done(&["revert", "ledger", "--last", "2"]);
    assert!(reverted.contains("state of 1") && reverted.contains("commit 4"), "{reverted}");
    assert_eq!(done(&["call", "ledger", "total"]), "1\n");
    done(&["restore", "state.snapshot", "--as", "saved", "--budget", "8MiB"]);
    assert_eq!(done(&["call", "saved", "total"]), "7\n");
    for (words, exit, expected) in [
        (&["revert", "ledger", "--to", "99"][..], 1, "E_NO_COMMIT"),
        (&["revert", "ledger"], 2, "--to"),
        (&["fork", "ledger", "saved"], 1, "E_DAEMON_EXISTS"),
        (&["fork", "nobody", "new"], 1, "E_DAEMON_UNKNOWN"),
        (&["restore", "missing", "--as", "x"], 1, "E_FILE"),
        (&["restore", "bulkhead-data/lock", "--as", "x"], 1, "E_SNAPSHOT"),
        (&["snapshot", "ledger", "-o", "nowhere/file"], 1, "E_FILE"),
        (&["remove", "ledger"], 1, "E_DAEMON_FILE"),
        (&["restore", "state.snapshot", "--as", "x", "--budget", "lots"], 2, "--budget"),
    ] {
        let output = running.host(words);
        assert_eq!(code(&output), exit, "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{words:?}: {}", stderr(&output));
    }
    done(&["remove", "early"]);
    let running = running.restarted();
    assert_eq!(stdout(&running.host(&["call", "saved", "total"])), "7\n");
    let ps = stdout(&running.host(&["ps"]));
    assert!(ps.contains("saved") && ps.contains("8 MiB") && !ps.contains("early"), "{ps}");
}

/// The next version of the ledger, under a name of its own choice.
fn next_ledger(path: &Path) -> String {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/ledger-next.wasm");
    std::fs::copy(built, path).expect("run `cargo xtask guests` first");
    path.to_str().unwrap().to_owned()
}

#[test]
fn daemons_of_the_same_code_share_that_and_no_state() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["a", "b"].map(|name| dir.path().join(format!("{name}.wasm")));
    files.iter().for_each(|file| assert!(std::fs::copy(guest("ledger"), file).is_ok()));
    let words = files.iter().map(|file| file.to_str().unwrap().to_owned()).collect();
    let running = Running::start_in(dir, words);
    let total = |name: &str| stdout(&running.host(&["call", name, "total"]));
    running.host(&["call", "a", "deposit", "account=ann", "amount=7"]);
    assert_eq!((total("a"), total("b")), ("7\n".to_owned(), "0\n".to_owned()));
    let next = next_ledger(&running.dir().join("next.wasm"));
    let upgraded = running.host(&["upgrade", "a", &next]);
    assert_eq!(code(&upgraded), 0, "{}", stderr(&upgraded));
    running.host(&["call", "b", "deposit", "account=bob", "amount=2"]);
    assert_eq!((total("a"), total("b")), ("7\n".to_owned(), "2\n".to_owned()));
    let uses = |name: &str| code(&running.host(&["call", name, "uses", "account=ann"]));
    assert_eq!((uses("a"), uses("b")), (0, 1), "b has no such contract");
}

#[test]
fn a_daemon_is_rehearsed_and_upgraded_while_it_runs() {
    let running = Running::start(&["ledger"], &[]);
    running.host(&["call", "ledger", "deposit", "account=ann", "amount=7"]);
    let next = next_ledger(&running.dir().join("next.wasm"));
    let upgrade = |options: &[&str]| {
        let words = [&["upgrade", "ledger", &next], options].concat();
        running.host(&words)
    };
    let rehearsed = upgrade(&["--dry-run"]);
    assert_eq!(code(&rehearsed), 0, "{}", stderr(&rehearsed));
    assert!(stdout(&rehearsed).contains("nothing was changed"), "{}", stdout(&rehearsed));
    assert!(stdout(&rehearsed).contains("contracts gone: transfer"), "{}", stdout(&rehearsed));
    let upgraded = upgrade(&["--output", "json"]);
    let answer: Value = serde_json::from_str(&stdout(&upgraded)).unwrap();
    assert_eq!(answer["to"]["version"], 2);
    assert_eq!(answer["sequence"], 2);
    assert_eq!(stdout(&running.host(&["call", "ledger", "balance", "account=ann"])), "7\n");
    let same = upgrade(&[]);
    assert_eq!(code(&same), 1);
    assert!(stderr(&same).contains("E_UPGRADE_SAME"), "{}", stderr(&same));
    running.host(&["call", "ledger", "deposit", "account=x", "amount=1"]);
    let ps = running.host(&["ps", "--output", "json"]);
    let ps: Value = serde_json::from_str(&stdout(&ps)).unwrap();
    assert_eq!(ps["daemons"][0]["upgradable"]["able"], true);
    assert_eq!(ps["daemons"][0]["upgradable"]["version"], 2);
    let missing = running.host(&["upgrade", "ledger", "nothing.wasm"]);
    assert!(stderr(&missing).contains("E_FILE"), "{}", stderr(&missing));
    let history = stdout(&running.host(&["history", "ledger"]));
    assert!(history.contains("upgrade"), "{history}");
}

#[test]
fn other_code_than_the_states_is_refused_or_upgraded_to_at_the_start() {
    let running = Running::start(&["ledger"], &[]);
    running.host(&["call", "ledger", "deposit", "account=ann", "amount=7"]);
    let next = next_ledger(&running.dir().join("ledger.wasm"));
    let mut running = running;
    let dir = running.dir.take().unwrap();
    drop(running);
    let refused = host(dir.path(), &["run", &next, "--requests", "/dev/null"]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("E_CODE_CHANGED"), "{}", stderr(&refused));
    let running = Running::start_in(dir, vec![next, "--upgrade".to_owned()]);
    assert_eq!(stdout(&running.host(&["call", "ledger", "uses", "account=ann"])), "0\n");
    assert_eq!(stdout(&running.host(&["call", "ledger", "total"])), "7\n");
    // The next start finds nothing to do.
    let running = running.restarted();
    assert_eq!(stdout(&running.host(&["call", "ledger", "total"])), "7\n");
}

/// Waits until the host shows the crash's report: it is written behind the answer.
fn reported(running: &Running, daemon: &str, id: &str) {
    let shown = || stdout(&running.host(&["history", daemon])).contains(id);
    let waited = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        shown()
    });
    assert!(waited, "no report of {id}");
}

#[test]
fn a_crash_is_named_listed_and_run_again() {
    let mut running = Running::start(&["chaos"], &["--fuel", "chaos=1_000_000"]);
    let crash = |running: &Running, how: &str| {
        let words = ["call", "chaos", "die", &format!("how={how}"), "--output", "json"];
        let line: Value = serde_json::from_str(&stdout(&running.host(&words))).unwrap();
        line["error"]["crash"].as_str().unwrap().to_owned()
    };
    let told = stderr(&running.host(&["call", "chaos", "die", "how=print_then_panic"]));
    let (panicked, spun) = (crash(&running, "print_then_panic"), crash(&running, "spin"));
    assert!(told.contains(&format!("host replay {panicked}")), "{told}");
    reported(&running, "chaos", &spun);
    assert_eq!(code(&running.host(&["call", "chaos", "touch", "pages=1"])), 0);
    let history = stdout(&running.host(&["history", "chaos"]));
    assert!(history.contains("E_FUEL") && history.matches(" crash ").count() == 2, "{history}");
    let listed = running.host(&["history", "chaos", "--last", "1", "--output", "json"]);
    let listed: Value = serde_json::from_str(&stdout(&listed)).unwrap();
    assert_eq!(listed["crashes"][0]["crash"], spun);
    assert_eq!(listed["crashes"][0]["arguments"], serde_json::json!(["spin"]));

    let again = running.host(&["replay", &panicked]);
    assert_eq!(code(&again), 3, "{}", stderr(&again));
    let shown = stdout(&again);
    assert!(shown.contains("the same crash again: E_TRAP_UNREACHABLE"), "{shown}");
    assert!(shown.contains("at chaos::ways::wasm::die +0x"), "{shown}");
    assert!(shown.contains("panic_fmt") && !shown.contains("seed"), "all frames: {shown}");
    assert!(stderr(&again).contains("stdout: about to panic"), "{}", stderr(&again));
    let starved = running.host(&["replay", &panicked, "--fuel", "1000", "--output", "json"]);
    let starved: Value = serde_json::from_str(&stdout(&starved)).unwrap();
    assert_eq!((&starved["code"], &starved["same"]), (&"E_FUEL".into(), &false.into()));
    for (words, exit, expected) in [
        (&["replay", "99"][..], 1, "E_NO_CRASH"),
        (&["replay", "latest"], 2, "hexadecimal"),
        (&["replay", &spun, "--fuel", "none"], 2, "--fuel"),
        (&["replay", &spun, "--data", "nowhere"], 1, "E_DATA_DIR"),
        (&["replay", &spun, "--data", "bulkhead-data"], 1, "E_DATA_DIR_LOCKED"),
    ] {
        let output = running.host(words);
        assert_eq!(code(&output), exit, "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{words:?}: {}", stderr(&output));
    }
    let pid = running.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    running.child.wait().unwrap();
    let offline = running.host(&["replay", &spun, "--data", "bulkhead-data"]);
    assert_eq!(code(&offline), 3, "{}", stderr(&offline));
    // All but what reading the arguments took.
    let shown = stdout(&offline);
    let used = shown.lines().find_map(|line| line.trim().split_once(" of fuel used"));
    let used: u64 = used.unwrap().0.parse().unwrap();
    assert!((999_000..=1_000_000).contains(&used), "{shown}");
    assert_eq!(code(&running.host(&["replay", &spun])), 5);
}

#[test]
fn what_a_daemon_shows_is_printed_seen_and_there_after_a_kill() {
    let running = Running::start(&["rates", "counter"], &[]);
    let shown = |running: &Running, daemon: &str| stdout(&running.host(&["output", daemon]));
    assert_eq!(shown(&running, "rates"), "daemon `rates` shows nothing\n");
    let set = ["call", "rates", "set", "currency=EUR", "rate=10"];
    assert_eq!(code(&running.host(&set)), 0);
    assert_eq!(shown(&running, "rates"), "{\"EUR\":10.0}\n");
    let written = running.host(&["output", "rates", "-o", "out"]);
    assert!(stdout(&written).starts_with("14 bytes as of commit 1"), "{}", stdout(&written));
    assert_eq!(std::fs::read(running.dir().join("out")).unwrap().len(), 14);
    for (words, expected) in [
        (&["output", "nobody"][..], "E_DAEMON_UNKNOWN"),
        (&["output", "rates", "-o", "nowhere/file"], "E_FILE"),
    ] {
        let output = running.host(words);
        assert!(code(&output) == 1 && stderr(&output).contains(expected), "{}", stderr(&output));
    }
    // A crash of a copy, over what it sees of the other one, is the same again.
    assert_eq!(code(&running.host(&["fork", "rates", "till"])), 0);
    let sell = ["call", "till", "sell", "at=rates", "currency=EUR", "amount=1e308"];
    let told = stderr(&running.host(&sell));
    let crash = told.split("host replay ").nth(1).unwrap().trim_end_matches(['`', '\n']).to_owned();
    reported(&running, "till", &crash);
    assert_eq!(code(&running.host(&["call", "rates", "set", "currency=EUR", "rate=1"])), 0);
    let again = stdout(&running.host(&["replay", &crash]));
    assert!(again.starts_with("the same crash again"), "{again}");
    let running = running.restarted();
    assert_eq!(shown(&running, "rates"), "{\"EUR\":1.0}\n");
    assert_eq!(shown(&running, "till"), "{\"EUR\":10.0}\n");
}

#[test]
fn a_simulated_crash_shows_the_promise() {
    let running = Running::start(&["ledger"], &[]);
    let deposit = ["call", "ledger", "deposit", "account=ann", "amount=5"];
    assert_eq!(code(&running.host(&deposit)), 0);
    let shown = running.host(&["simulate-crash", "ledger"]);
    assert_eq!(code(&shown), 0, "{}", stderr(&shown));
    assert!(stdout(&shown).contains("commit 1, state") && stdout(&shown).contains("the same"));
    let ps = || -> Value {
        serde_json::from_str(&stdout(&running.host(&["ps", "--output", "json"]))).unwrap()
    };
    let before = ps();
    let temporary = running.dir().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let line = r#"{"daemon":"ledger","contract":"deposit","args":{"account":"bob","amount":1}}"#;
    std::fs::write(running.dir().join("load.jsonl"), format!("{line}\n")).unwrap();
    for options in [&["--kills", "3"][..], &["--kills", "3", "--requests", "load.jsonl"]] {
        let shown = Command::new(HOST)
            .args(["simulate-crash", "ledger", "--host"])
            .args(options)
            .current_dir(running.dir())
            .env("BULKHEAD_SOCKET", running.dir().join("run/host.sock"))
            .env("TMPDIR", &temporary)
            .output()
            .unwrap();
        assert_eq!(code(&shown), 0, "{}{}", stdout(&shown), stderr(&shown));
        let text = stdout(&shown);
        assert!(text.contains("PASS: 3 kills") && text.matches(" good").count() == 3, "{text}");
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "nothing is left");
    }
    let after = ps();
    for field in ["sequence", "committed_hash", "crashed", "restarts"] {
        assert_eq!(after["daemons"][0][field], before["daemons"][0][field], "{field}");
    }
    let unknown = running.host(&["simulate-crash", "nobody", "--host"]);
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains("E_DAEMON_UNKNOWN"), "{}", stderr(&unknown));
}

#[test]
fn a_host_in_memory_only_has_no_history_and_leaves_nothing() {
    // Also where the environment names a directory for compiled code.
    let running = Running::start(&["counter"], &["--memory-only", "--no-cache"]);
    assert!(stderr(&running.host(&["history", "counter"])).contains("E_MEMORY_ONLY"));
    for kept in ["bulkhead-data", "cache"] {
        assert!(!running.dir().join(kept).exists(), "{kept}");
    }
}

#[test]
fn explain_and_inspect_answer_for_people_and_programs() {
    let dir = tempfile::tempdir().unwrap();
    let all = stdout(&host(dir.path(), &["explain"]));
    assert!(all.lines().count() > 40 && all.contains("E_FUEL"));
    let one = stdout(&host(dir.path(), &["explain", "e_fuel"]));
    assert!(one.contains("What to do"), "{one}");
    let ledger = guest("ledger");
    let words = ["inspect", ledger.to_str().unwrap()];
    let shown = stdout(&host(dir.path(), &words));
    assert!(shown.contains("admissible") && shown.contains("transfer("), "{shown}");
    let inspected = host(dir.path(), &[&words[..], &["--output", "json"]].concat());
    let inspected: Value = serde_json::from_str(&stdout(&inspected)).unwrap();
    let transfer = &inspected["contracts"][1];
    assert_eq!(transfer["name"], "transfer");
    assert_eq!(transfer["arguments"][2]["schema"]["type"], "integer");
}
