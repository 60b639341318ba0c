//! The promise of `--data`: what was acknowledged survives, kill -9 included.
//!
//! The host is the real binary; clients talk to its socket and note what it acknowledged. Needs
//! `guests/*.wasm`. `BULKHEAD_KILLS` sets the number of kills.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

const HOST: &str = env!("CARGO_BIN_EXE_host");
const CLIENTS: u64 = 8;

fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../guests/{name}.wasm"));
    assert!(path.is_file(), "run `cargo xtask guests` first: {}", path.display());
    path
}

fn command(dir: &Path, guests: &[PathBuf]) -> Command {
    let mut command = Command::new(HOST);
    command
        .arg("run")
        .args(guests)
        .args(["--output", "json", "--data"])
        .arg(dir.join("data"))
        .env("BULKHEAD_SOCKET", dir.join("run/host.sock"))
        .env("BULKHEAD_CACHE_DIR", dir.join("cache"));
    command
}

fn start(dir: &Path, guests: &[PathBuf]) -> Child {
    let mut child =
        command(dir, guests).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let greeting: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(greeting["pid"], child.id());
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn refused(dir: &Path, guests: &[PathBuf]) -> (i32, String) {
    let Output { status, stderr, .. } = command(dir, guests).output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stderr).unwrap())
}

/// One connection; `None` when the host is gone.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(dir: &Path) -> Option<Self> {
        UnixStream::connect(dir.join("run/host.sock"))
            .ok()
            .map(|stream| Self(BufReader::new(stream)))
    }

    fn call(&mut self, request: &Value) -> Option<Value> {
        let line = format!("{}\n", json!({ "call": request }));
        self.0.get_mut().write_all(line.as_bytes()).ok()?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }
}

fn call(dir: &Path, daemon: &str, contract: &str, args: &Value) -> Value {
    let request = json!({ "daemon": daemon, "contract": contract, "args": args });
    Client::connect(dir).unwrap().call(&request).unwrap()
}

#[test]
fn n3_n4_state_and_keys_survive_a_kill_and_the_generation_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, guests) = (dir.path(), [guest("counter"), guest("ledger")]);
    let keyed = json!({
        "daemon": "counter", "contract": "increment", "args": {"by": 5}, "key": "k",
    });
    let first = start(dir, &guests);
    let answer = Client::connect(dir).unwrap().call(&keyed).unwrap();
    assert_eq!((&answer["value"], &answer["sequence"]), (&json!(5), &json!(1)));
    call(dir, "ledger", "deposit", &json!({"account": "ann", "amount": 10}));
    let hashes = |dir: &Path| {
        let mut client = Client::connect(dir).unwrap();
        client.0.get_mut().write_all(b"{\"ps\": {\"hash\": true}}\n").unwrap();
        let mut line = String::new();
        client.0.read_line(&mut line).unwrap();
        let ps: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ps["root"]["durability"], "fsync");
        let daemons = ps["daemons"].as_array().unwrap().clone();
        daemons
            .into_iter()
            .map(|daemon| {
                (daemon["committed_hash"].clone(), daemon["generation"].as_u64().unwrap())
            })
            .collect::<Vec<_>>()
    };
    let before = hashes(dir);
    kill(first);
    let second = start(dir, &guests);
    let after = hashes(dir);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.0, after.0);
        assert!(before.1 < after.1);
    }
    // The same key and request: the first answer. The same key, another request: a conflict.
    let again = Client::connect(dir).unwrap().call(&keyed).unwrap();
    assert_eq!((&again["value"], &again["sequence"]), (&json!(5), &json!(1)));
    let mut other = keyed.clone();
    other["args"]["by"] = json!(6);
    let conflict = Client::connect(dir).unwrap().call(&other).unwrap();
    assert_eq!(conflict["error"]["code"], "E_KEY_CONFLICT");
    assert_eq!(call(dir, "counter", "value", &json!({}))["value"], 5);
    assert_eq!(call(dir, "ledger", "total", &json!({}))["value"], 10);
    kill(second);
}

#[test]
fn s4_10_d10_a_second_host_and_other_code_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, guests) = (dir.path(), [guest("counter")]);
    let first = start(dir, &guests);
    call(dir, "counter", "increment", &json!({"by": 1}));
    let (code, message) = refused(dir, &guests);
    assert_eq!(code, 1);
    let pid = first.id().to_string();
    assert!(message.contains("E_DATA_DIR_LOCKED") && message.contains(&pid), "{message}");
    kill(first);
    let other = dir.join("counter.wasm");
    std::fs::copy(guest("ledger"), &other).unwrap();
    let (code, message) = refused(dir, &[other]);
    assert_eq!(code, 1);
    assert!(message.contains("E_CODE_CHANGED"), "{message}");
    // A directory whose state is gone is not filled anew.
    for entry in std::fs::read_dir(dir.join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "redb") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (code, message) = refused(dir, &guests);
    assert_eq!(code, 1);
    assert!(message.contains("E_DATA_DIR"), "{message}");
}

/// Increments until the host is gone; answers (acknowledged, attempted).
fn load(dir: &Path, acknowledged: &AtomicU64, attempted: &AtomicU64) {
    let Some(mut client) = Client::connect(dir) else { return };
    let increment = json!({ "daemon": "counter", "contract": "increment", "args": {"by": 1} });
    let transfer = json!({
        "daemon": "ledger", "contract": "transfer", "args": {"from": "ann", "to": "bob", "amount": 1},
    });
    loop {
        attempted.fetch_add(1, Ordering::SeqCst);
        match client.call(&increment) {
            Some(answer) if answer["outcome"] == "committed" => {
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            _ => return,
        }
        if client.call(&transfer).is_none() {
            return;
        }
    }
}

#[test]
fn d1_i3_acknowledged_commits_survive_kill_9_at_random_moments() {
    let kills: u64 = std::env::var("BULKHEAD_KILLS").map_or(20, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (dir, guests) = (dir.path(), [guest("counter"), guest("ledger")]);
    let (acknowledged, attempted) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut child = start(dir, &guests);
    call(dir, "ledger", "deposit", &json!({"account": "ann", "amount": 1_000_000_000}));
    for round in 0..kills {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| load(dir, &acknowledged, &attempted));
            }
            // A different moment each time: from the first request to a fifth of a second of load.
            std::thread::sleep(Duration::from_micros(1000 + round * 7919 % 200_000));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        child = start(dir, &guests);
        let value = call(dir, "counter", "value", &json!({}))["value"].as_u64().unwrap();
        let (least, most) = (acknowledged.load(Ordering::SeqCst), attempted.load(Ordering::SeqCst));
        assert!(least <= value && value <= most, "{least} <= {value} <= {most}, round {round}");
        let total = call(dir, "ledger", "total", &json!({}));
        assert_eq!(total["value"], 1_000_000_000, "round {round}");
    }
    assert!(acknowledged.load(Ordering::SeqCst) > kills, "there was load");
    kill(child);
    let verified = Command::new(HOST).arg("verify").arg(dir.join("data")).output().unwrap();
    let shown = String::from_utf8(verified.stdout).unwrap();
    assert!(verified.status.success() && shown.contains("all is good"), "{shown}");
}
