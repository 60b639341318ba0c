//! The promise of `--data`: what was acknowledged survives, kill -9 included.
//!
//! The host is the real binary; clients talk to its socket and note what it acknowledged. Needs
//! `guests/*.wasm`. `BULKHEAD_KILLS` sets the number of kills.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::panic, reason = "a test may panic")]

mod copies;
mod disk;
mod trace;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const HOST: &str = env!("CARGO_BIN_EXE_host");
const CLIENTS: u64 = 8;
const CUSTOMERS: u64 = 100;
/// Times that a client asks for the end of one request, some milliseconds apart.
const TRIES_MAX: u64 = 3000;

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
    begin(&mut command(dir, guests))
}

fn begin(command: &mut Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
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
    let mut command = command(dir, guests);
    command.env("BULKHEAD_SOCKET", dir.join("other/host.sock"));
    let Output { status, stderr, .. } = command.output().unwrap();
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
    assert_eq!((&again["by_key"], &answer["by_key"]), (&json!(true), &json!(false)));
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
    std::fs::remove_file(dir.join("data/lock")).unwrap();
    let (code, message) = refused(dir, &guests);
    assert_eq!(code, 1);
    assert!(message.contains("E_DATA_DIR_LOCKED"), "{message}");
    kill(first);
    let other = dir.join("counter.wasm");
    std::fs::copy(guest("ledger"), &other).unwrap();
    // The daemon alone: the host is there.
    let third = start(dir, &[other]);
    let answer = call(dir, "counter", "value", &json!({}));
    assert_eq!(answer["error"]["code"], "E_PARKED", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("E_CODE_CHANGED") && message.contains("--upgrade"), "{message}");
    kill(third);
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

#[test]
fn n3_a_database_that_knows_nothing_of_disks_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, guests) = (dir.path(), [guest("sql")]);
    let execute = |sql: &str| call(dir, "sql", "execute", &json!({ "sql": sql }));
    let first = start(dir, &guests);
    execute("CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT)");
    for id in 0..20 {
        let answer = execute(&format!("INSERT INTO account VALUES ({id}, 'owner {id}')"));
        assert_eq!(answer["outcome"], "committed", "{answer}");
    }
    let answer = execute("DELETE FROM account; INSERT INTO account VALUES (1, NULL, 2)");
    assert_eq!(answer["error"]["code"], "sql_insert");
    kill(first);
    let second = start(dir, &guests);
    let sql = json!({"sql": "SELECT COUNT(*), SUM(id), MAX(owner) FROM account"});
    let answer = call(dir, "sql", "query", &sql);
    assert_eq!(answer["value"][0]["rows"], json!([[20, 190, "owner 9"]]), "{answer}");
    let answer = execute("INSERT INTO account VALUES (20, 'after')");
    assert_eq!((&answer["outcome"], &answer["sequence"]), (&json!("committed"), &json!(22)));
    kill(second);
}

/// A client that asks again, with the same key, until it knows how a request ended.
struct Asker {
    number: u64,
    asked: u64,
    random: u64,
    /// The request without a known end.
    open: Option<Value>,
    increments: u64,
    deposits: i64,
    /// Codes of answers that were no ends.
    trouble: BTreeSet<String>,
}

impl Asker {
    fn new(number: u64) -> Self {
        let trouble = BTreeSet::new();
        Self { number, asked: 0, random: number, open: None, increments: 0, deposits: 0, trouble }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) % below
    }

    fn next(&mut self) -> Value {
        self.asked += 1;
        let (one, other) = (self.roll(CUSTOMERS), self.roll(CUSTOMERS));
        let (daemon, contract, args) = match self.roll(5) {
            0 => ("counter", "increment", json!({"by": 1})),
            1 => ("ledger", "transfer", json!({"from": "ann", "to": "bob", "amount": 1})),
            2 => ("smallbank", "deposit_checking", json!({"customer": one, "amount": 3})),
            3 => ("smallbank", "amalgamate", json!({"from": one, "to": other})),
            _ => ("smallbank", "send_payment", json!({"from": one, "to": other, "amount": 2})),
        };
        let key = format!("{}-{}", self.number, self.asked);
        json!({ "daemon": daemon, "contract": contract, "args": args, "key": key })
    }

    /// Asks the open request, or the next; false when the host is gone.
    fn ask(&mut self, client: &mut Client) -> bool {
        let request = self.open.take().unwrap_or_else(|| self.next());
        let answer = client.call(&request);
        let code = answer.as_ref().and_then(|answer| answer["error"]["code"].as_str());
        let no_end = code.filter(|code| code.starts_with("E_ST") || *code == "E_PARKED");
        if answer.is_none() || no_end.is_some() {
            self.trouble.extend(no_end.map(str::to_owned));
            self.open = Some(request);
            return answer.is_some();
        }
        if answer.unwrap()["outcome"] == "committed" {
            match request["contract"].as_str().unwrap() {
                "increment" => self.increments += 1,
                "deposit_checking" => self.deposits += 3,
                _ => {}
            }
        }
        true
    }

    /// Asks until the host is gone, or `enough` says so.
    fn load(&mut self, dir: &Path, enough: &AtomicBool) {
        let Some(mut client) = Client::connect(dir) else { return };
        while !enough.load(Ordering::SeqCst) && self.ask(&mut client) {}
    }

    /// Asks until nothing is open.
    fn finish(&mut self, dir: &Path) {
        for tries in 0..TRIES_MAX {
            if self.open.is_none() {
                return;
            }
            // The host needs a moment to open its journal again.
            std::thread::sleep(Duration::from_millis(tries.min(10)));
            assert!(self.ask(&mut Client::connect(dir).unwrap()), "the host is gone");
        }
        panic!("no end after {TRIES_MAX} tries: {:?}, {:?}", self.open, self.trouble);
    }
}

/// A host under load, and what it must hold when nothing is open.
struct Bank {
    dir: tempfile::TempDir,
    guests: Vec<PathBuf>,
    askers: Vec<Asker>,
    total: i64,
}

impl Bank {
    /// Opens all accounts in a host that is then stopped.
    fn new() -> Self {
        let guests = ["counter", "ledger", "smallbank"].map(guest).to_vec();
        let askers = (1..=CLIENTS).map(Asker::new).collect();
        let mut bank = Self { dir: tempfile::tempdir().unwrap(), guests, askers, total: 0 };
        let child = bank.start(None).unwrap();
        bank.call("ledger", "deposit", &json!({"account": "ann", "amount": 1_000_000_000}));
        let total = bank.call("smallbank", "load", &json!({"customers": CUSTOMERS}));
        bank.total = total["value"].as_i64().unwrap();
        kill(child);
        bank
    }

    /// Starts a host; `None` when it ends before it listens.
    fn start(&self, fail_at: Option<&str>) -> Option<Child> {
        let mut command = command(self.dir.path(), &self.guests);
        command.args(fail_at.map(|point| format!("--fail-at={point}")));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            child.wait().unwrap();
            return None;
        }
        Some(child)
    }

    fn call(&self, daemon: &str, contract: &str, args: &Value) -> Value {
        call(self.dir.path(), daemon, contract, args)
    }

    /// All clients ask; the host is killed after `time` if it doesn't end by itself. True if it
    /// does.
    fn load(&mut self, mut child: Child, time: Duration) -> bool {
        let (dir, enough) = (self.dir.path(), AtomicBool::new(false));
        let ended = std::thread::scope(|scope| {
            for asker in &mut self.askers {
                scope.spawn(|| asker.load(dir, &enough));
            }
            let start = Instant::now();
            while start.elapsed() < time && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let ended = child.try_wait().unwrap().is_some();
            if !ended {
                child.kill().unwrap();
            }
            ended
        });
        child.wait().unwrap();
        ended
    }

    /// With every request's end known, the books must balance to the last unit.
    fn check(&mut self, what: &str) {
        for asker in &mut self.askers {
            asker.finish(self.dir.path());
        }
        let value =
            |daemon, contract| self.call(daemon, contract, &json!({}))["value"].as_i64().unwrap();
        let increments: u64 = self.askers.iter().map(|asker| asker.increments).sum();
        let deposits: i64 = self.askers.iter().map(|asker| asker.deposits).sum();
        assert_eq!(value("counter", "value"), i64::try_from(increments).unwrap(), "{what}");
        assert_eq!(value("smallbank", "total"), self.total + deposits, "{what}");
        assert_eq!(value("ledger", "total"), 1_000_000_000, "{what}");
    }

    fn verify(&self) {
        let data = self.dir.path().join("data");
        let verified = Command::new(HOST).arg("verify").arg(data).output().unwrap();
        let shown = String::from_utf8(verified.stdout).unwrap();
        assert!(verified.status.success() && shown.contains("all is good"), "{shown}");
    }
}

const POINTS: [&str; 8] = [
    "before-append",
    "inside-write",
    "before-sync",
    "after-sync",
    "before-reply",
    "during-move",
    "during-fold",
    "during-recovery",
];

/// Every acknowledged request has happened, and every one exactly once.
#[test]
fn d1_d2_i3_requests_happen_once_through_kill_9_at_every_fail_point_and_any_moment() {
    let kills: u64 = std::env::var("BULKHEAD_KILLS").map_or(50, |text| text.parse().unwrap());
    let mut bank = Bank::new();
    let mut reached = BTreeSet::new();
    for round in 0..kills {
        let place = usize::try_from(round).unwrap() % (POINTS.len() + 1);
        let point = POINTS.get(place).copied();
        let nth = 1 + round / 9 * 7 % 23;
        let fail_at = point.map(|point| match point {
            "during-recovery" => format!("{point}:{}", 1 + nth % 3),
            "during-move" | "during-fold" => format!("{point}:{}", 1 + nth % 2),
            _ => format!("{point}:{nth}"),
        });
        // A different moment each time, for those that don't end by themselves.
        let time = Duration::from_micros(1000 + round * 7919 % 200_000);
        let time = if point.is_some() { Duration::from_secs(5) } else { time };
        let ended = match bank.start(fail_at.as_deref()) {
            Some(child) => bank.load(child, time),
            None => {
                // The recovery of a recovery ends, too; once more, elsewhere.
                let again = bank.start(Some(&format!("during-recovery:{}", 1 + round % 3)));
                again.into_iter().for_each(kill);
                true
            }
        };
        if ended {
            reached.extend(point);
        }
        let child = bank.start(None).unwrap();
        bank.check(&format!("round {round}, {fail_at:?}"));
        if round % 2 == 0 {
            // The next one finds a log that nobody has emptied.
            bank.load(child, Duration::from_millis(20));
        } else {
            kill(child);
        }
    }
    assert!(kills < 50 || reached.len() == POINTS.len(), "{reached:?}");
    let child = bank.start(None).unwrap();
    bank.check("at the end");
    assert!(bank.askers.iter().map(|asker| asker.increments).sum::<u64>() > kills);
    kill(child);
    bank.verify();
}

/// The disk fails for a moment: nobody is told what isn't so, and the same process goes on.
#[test]
fn d7_i20_after_a_failed_write_or_sync_the_host_goes_on_with_what_is_durable() {
    let mut bank = Bank::new();
    let mut trouble = BTreeSet::new();
    let (dir, stop) = (bank.dir.path().to_owned(), AtomicBool::new(false));
    for point in ["before-append:30", "inside-write:40", "before-sync:50", "during-move:2"] {
        let mut child = bank.start(Some(&format!("{point}:error"))).unwrap();
        std::thread::scope(|scope| {
            for asker in &mut bank.askers {
                scope.spawn(|| asker.load(&dir, &stop));
            }
            std::thread::sleep(Duration::from_millis(500));
            stop.store(true, Ordering::SeqCst);
        });
        stop.store(false, Ordering::SeqCst);
        bank.check(point);
        assert!(child.try_wait().unwrap().is_none(), "{point}: the host has ended");
        kill(child);
        for asker in &mut bank.askers {
            trouble.append(&mut asker.trouble);
        }
    }
    assert!(trouble.contains("E_STORE_IO") && trouble.contains("E_STORE_POISONED"), "{trouble:?}");
    let child = bank.start(None).unwrap();
    bank.check("at the end");
    kill(child);
    bank.verify();
}

/// A sync takes seconds: its commit is not answered before, everything else is.
#[test]
fn r11_a_slow_sync_holds_up_only_what_it_is_for() {
    let bank = Bank::new();
    let dir = bank.dir.path();
    let child = bank.start(Some("before-sync:5:stall")).unwrap();
    let reads = |number: usize| {
        assert_eq!(bank.call("ledger", "total", &json!({}))["value"], 1_000_000_000, "{number}");
    };
    // The first commits of this run: a read after them knows that nothing is under way.
    for _ in 0..2 {
        bank.call("ledger", "transfer", &json!({"from": "ann", "to": "bob", "amount": 1}));
    }
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let increments = scope.spawn(|| {
            for _ in 0..3 {
                assert_eq!(
                    call(dir, "counter", "increment", &json!({"by": 1}))["outcome"],
                    "committed"
                );
            }
            answered.store(true, Ordering::SeqCst);
        });
        let mut asked = 0;
        while !answered.load(Ordering::SeqCst) {
            reads(asked);
            let mut client = Client::connect(dir).unwrap();
            client.0.get_mut().write_all(b"{\"ps\": {}}\n").unwrap();
            let mut line = String::new();
            client.0.read_line(&mut line).unwrap();
            assert!(line.contains("counter"), "{line}");
            asked += 1;
        }
        increments.join().unwrap();
        assert!(asked > 20, "{asked} rounds of reads while a sync stalled");
    });
    assert_eq!(bank.call("counter", "value", &json!({}))["value"], 3);
    kill(child);
}
