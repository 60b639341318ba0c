//! State whose code, resource, manifest or file is gone: the host starts, names it, and there is a
//! verb that ends it. On the real binary.
//!
//! Needs `guests/*.wasm`, which `cargo xtask guests` builds.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

mod ways;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use redb::Database;
use serde_json::Value;

use ways::{DEPOSIT, FORK, FORK_LEDGER, UPGRADE, WAYS};

const HOST: &str = env!("CARGO_BIN_EXE_host");

/// A service whose resource is never there: nobody listens on that port.
const SERVICE: &str = "[service]\nname = \"limits\"\n[resources.cache]\nprovider = \"redis\"\n\
    url = \"redis://127.0.0.1:1\"\n[daemons.limits]\nguest = \"limits.wasm\"\nuses = [\"cache\"]\n";

/// A directory in which hosts run, with guests and a manifest.
struct Place(tempfile::TempDir);

struct Ended {
    code: i32,
    out: String,
    err: String,
}

struct Running<'a> {
    place: &'a Place,
    child: Child,
    greeting: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // It may have been stopped.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for name in ["counter", "ledger", "limits"] {
            place.put(name, name);
        }
        std::fs::write(place.path("s.toml"), SERVICE).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a built guest there, under a name.
    fn put(&self, guest: &str, name: &str) {
        let folder = if guest == "ledger-next" { "tests/guests" } else { "guests" };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = root.join(format!("../{folder}/{guest}.wasm"));
        assert!(built.is_file(), "run `cargo xtask guests` first: {}", built.display());
        std::fs::copy(built, self.path(&format!("{name}.wasm"))).unwrap();
    }

    /// The ledger's next version, under the name of the first.
    fn put_next_ledger(&self) {
        self.put("ledger-next", "ledger");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(HOST);
        command
            .args(words)
            .current_dir(self.0.path())
            .env("BULKHEAD_SOCKET", self.path("run/host.sock"))
            .env("BULKHEAD_CACHE_DIR", self.path("cache"));
        command
    }

    fn host(&self, words: &[&str]) -> Ended {
        let output = self.command(words).output().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What must work.
    fn done(&self, words: &[&str]) -> String {
        let ended = self.host(words);
        assert_eq!(ended.code, 0, "{words:?}: {}{}", ended.out, ended.err);
        ended.out
    }

    /// Starts a host and waits until it listens.
    fn start(&self, words: &[&str]) -> Running<'_> {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut child = self
            .command(&[&["run", "--output", "json"], words].concat())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{words:?}: {}", self.log());
        Running { place: self, child, greeting: line }
    }

    /// What the last host said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// The tables, while no host has them.
    fn tables(&self) -> Database {
        Database::open(self.path("bulkhead-data/state.redb")).unwrap()
    }
}

impl Running<'_> {
    /// `host ps` about one daemon; null when there is none.
    fn daemon(&self, name: &str) -> Value {
        let ps: Value =
            serde_json::from_str(&self.place.done(&["ps", "--output", "json"])).unwrap();
        let daemons = ps["daemons"].as_array().unwrap();
        daemons.iter().find(|daemon| daemon["name"] == name).cloned().unwrap_or_default()
    }

    fn stop(mut self) {
        self.place.done(&["stop"]);
        self.child.wait().unwrap();
    }
}

#[test]
fn state_without_what_it_belongs_to_is_named_and_ended_and_the_others_start() {
    for way in WAYS {
        let place = Place::new();
        place.put("ledger-next", "next");
        let what = way.what;
        let first = place.start(&[&["counter.wasm"], way.files].concat());
        place.done(&["call", "counter", "increment", "by=3"]);
        for words in way.asked {
            place.done(words);
        }
        first.stop();
        (way.then)(&place);
        let running = place.start(&[&["counter.wasm"], way.next].concat());
        assert_eq!(place.done(&["call", "counter", "value"]), "3\n", "{what}");
        let log = place.log();
        assert!(log.contains(way.said), "{what}: {log}");
        assert!(way.said.is_empty() || log.contains(way.daemon), "{what}: {log}");
        let daemon = running.daemon(way.daemon);
        assert_eq!(daemon["state"].as_str(), way.state, "{what}: {daemon}\n{log}");
        let code = daemon["parked"]["code"].as_str().unwrap_or_default();
        assert_eq!(code, way.code, "{what}: {daemon}");
        let health = place.host(&["health"]);
        let parked = way.state == Some("parked");
        assert_eq!(health.code, if parked { 8 } else { 0 }, "{what}: {}", health.out);
        place.done(way.end);
        let daemon = running.daemon(way.daemon);
        assert_eq!(daemon["state"].as_str(), way.after, "{what}: {daemon}");
        running.stop();
        // What was ended is ended: the next start has nothing to say, or nothing worse.
        let again = place.start(&[&["counter.wasm"], way.next].concat());
        let daemon = again.daemon(way.daemon);
        if way.after.is_none() {
            assert_eq!(daemon, Value::Null, "{what}");
            assert!(!place.log().contains(way.daemon), "{what}: {}", place.log());
        }
        assert_eq!(place.done(&["call", "counter", "value"]), "3\n", "{what}");
    }
}

#[test]
fn what_a_stopped_host_has_answers_as_the_running_one_did() {
    let place = Place::new();
    let running = place.start(&["counter.wasm", "ledger.wasm", "s.toml"]);
    place.done(DEPOSIT);
    place.done(&["call", "ledger", "deposit", "account=bob", "amount=9"]);
    place.done(FORK);
    let asked: &[&[&str]] = &[
        &["history", "ledger", "--output", "json"],
        &["checkpoints", "ledger", "--output", "json"],
        &["checkpoints", "ledger", "--last", "1", "--output", "json"],
        &["crashes", "--output", "json"],
        &["crashes", "ledger", "--output", "json"],
        &["output", "counter", "--output", "json"],
        &["snapshot", "ledger", "-o", "a.snapshot", "--output", "json"],
        &["snapshot", "ledger", "--at", "1", "-o", "b.snapshot", "--output", "json"],
    ];
    let answers: Vec<String> = asked.iter().map(|words| place.done(words)).collect();
    let file = std::fs::read(place.path("a.snapshot")).unwrap();
    let data = ["--data", "bulkhead-data"];
    let refused = place.host(&[asked[0], &data].concat());
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("E_DATA_DIR_LOCKED"), "{}", refused.err);
    running.stop();
    for (words, answer) in asked.iter().zip(&answers) {
        let kept: Value = serde_json::from_str(&place.done(&[words, &data[..]].concat())).unwrap();
        assert_eq!(kept, serde_json::from_str::<Value>(answer).unwrap(), "{words:?}");
    }
    assert_eq!(std::fs::read(place.path("a.snapshot")).unwrap(), file);
    let ps = |words: &[&str]| place.done(&[&["ps"], words, &data].concat());
    let stored: Value = serde_json::from_str(&ps(&["--output", "json"])).unwrap();
    let daemons = stored["daemons"].as_array().unwrap();
    let shown = daemons.iter().map(|one| [&one["name"], &one["origin"]].map(|text| text.clone()));
    let expected = [("counter", "file"), ("ledger", "file"), ("limits", "file"), ("trial", "copy")];
    let expected = expected.map(|(name, origin)| [Value::from(name), Value::from(origin)]);
    assert!(shown.eq(expected), "{stored}");
    assert_eq!((&daemons[0]["sequence"], &daemons[1]["sequence"]), (&0.into(), &2.into()));
    assert_eq!(daemons[3]["uses"][0], "limits/cache", "{stored}");
    assert!(ps(&[]).contains("limits/cache"), "{}", ps(&[]));
    place.done(&["rename", "ledger", "books", "--data", "bulkhead-data"]);
    place.done(&["remove", "counter", "--data", "bulkhead-data"]);
    for (words, code) in [
        (&["history", "ledger"][..], "E_DAEMON_UNKNOWN"),
        (&["remove", "ledger"], "E_DAEMON_UNKNOWN"),
        (&["rename", "books", "trial"], "E_DAEMON_EXISTS"),
        (&["rename", "nobody", "x"], "E_DAEMON_UNKNOWN"),
        (&["rename", "books", "a/b"], "E_NAME"),
        (&["snapshot", "books", "--at", "99"], "E_NO_COMMIT"),
    ] {
        let refused = place.host(&[words, &data].concat());
        assert_eq!(refused.code, 1, "{words:?}: {}", refused.out);
        assert!(refused.err.contains(code), "{words:?}: {}", refused.err);
    }
    let nowhere = place.host(&["history", "books", "--data", "nowhere"]);
    assert!(nowhere.err.contains("E_DATA_DIR") && !place.path("nowhere").exists());
    std::fs::rename(place.path("ledger.wasm"), place.path("books.wasm")).unwrap();
    let again = place.start(&["counter.wasm", "books.wasm", "s.toml"]);
    assert_eq!(place.done(&["call", "books", "total"]), "16\n");
    assert_eq!(place.done(&["call", "counter", "value"]), "0\n");
    assert_eq!(again.daemon("trial")["state"], "ready");
}

#[test]
fn a_daemon_that_merely_uses_what_is_down_is_well_and_a_copy_of_it_can_be_killed() {
    let place = Place::new();
    let _running = place.start(&["s.toml"]);
    let resources = place.done(&["resources", "--output", "json"]);
    let resources: Value = serde_json::from_str(&resources).unwrap();
    let cache = &resources["resources"][0];
    assert_eq!(cache["state"], "down", "{cache}");
    assert_eq!(
        (&cache["needed_by"], &cache["used_by"][0]),
        (&Value::Array(vec![]), &"limits".into())
    );
    let health = place.host(&["health"]);
    assert_eq!(health.code, 0, "{}", health.out);
    let refused = place.host(&["call", "limits", "take", "user=ann"]);
    assert!(refused.err.contains("E_UNAVAILABLE"), "{}", refused.err);
    let killed = place.done(&["simulate-crash", "limits", "--host", "--kills", "2"]);
    assert!(killed.contains("PASS: 2 kills"), "{killed}");
}

#[test]
fn a_start_says_where_its_state_is_and_whether_it_is_new() {
    let place = Place::new();
    for is_new in [true, false] {
        let running = place.start(&["counter.wasm"]);
        let greeting: Value = serde_json::from_str(&running.greeting).unwrap();
        assert_eq!(greeting["data_is_new"], is_new, "{greeting}");
        assert!(greeting["data"].as_str().unwrap().ends_with("bulkhead-data"), "{greeting}");
        running.stop();
    }
    let mut command = place.command(&["run", "counter.wasm"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.find(|line| line.starts_with("the state is"));
    assert!(said.is_some_and(|line| line.starts_with("the state is in /")));
    place.done(&["stop"]);
    child.wait().unwrap();
}

#[test]
fn an_upgrade_says_what_the_next_start_needs() {
    let place = Place::new();
    place.put("ledger-next", "next");
    let _running = place.start(&["ledger.wasm"]);
    place.done(FORK_LEDGER);
    let said = place.done(UPGRADE);
    assert!(said.contains("put next.wasm in the place of ledger.wasm"), "{said}");
    let said = place.done(&["upgrade", "trial", "next.wasm"]);
    assert!(said.contains("nothing to change: the data directory has the code"), "{said}");
}

/// A host doesn't write to tables of which a page is not what was written. Each daemon that is
/// whole is read bit for bit, and goes on in another directory.
#[test]
fn d5_whatever_page_of_the_tables_is_rotten_what_is_whole_is_taken_out_and_goes_on_elsewhere() {
    const PAGE: usize = 4096;
    /// Pages that are tried: an even sample of those that hold something.
    const TRIED: usize = 24;
    let place = Place::new();
    let running = place.start(&["counter.wasm", "ledger.wasm", "s.toml"]);
    for _ in 0..20 {
        place.done(DEPOSIT);
    }
    place.done(FORK_LEDGER);
    running.stop();
    let (data, tables) = (["--data", "bulkhead-data"], place.path("bulkhead-data/state.redb"));
    // Moves what is in the log into the tables.
    assert_eq!(place.host(&["rename", "nobody", "x"]).code, 1);
    let take_out = |daemon: &str| {
        let taken = place.host(&[&["snapshot", daemon, "-o", "out.snapshot"], &data[..]].concat());
        assert!(taken.code == 0 || taken.err.contains("E_STORE_CORRUPT"), "{}", taken.err);
        (taken.code == 0).then(|| std::fs::read(place.path("out.snapshot")).unwrap())
    };
    let daemons = ["counter", "ledger", "limits", "trial"];
    let whole = daemons.map(|daemon| take_out(daemon).unwrap());
    let good = std::fs::read(&tables).unwrap();
    let held = (0..good.len() / PAGE)
        .filter(|page| good[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0));
    let held: Vec<usize> = held.collect();
    std::fs::write(place.path("none"), "").unwrap();
    let (mut taken, mut refusals) = ([0; 5], 0);
    for page in held.iter().step_by(held.len().div_ceil(TRIED)) {
        let mut rotten = good.clone();
        rotten[page * PAGE..][..PAGE].fill(0xa5);
        std::fs::write(&tables, &rotten).unwrap();
        let started = place.host(&["run", "counter.wasm", "--requests", "none"]);
        let refused = started.err.contains("E_STORE_CORRUPT");
        assert!(refused || started.code == 0, "page {page}: {}", started.err);
        refusals += usize::from(refused);
        std::fs::write(&tables, &rotten).unwrap();
        let out = daemons.map(take_out);
        for (out, whole) in out.iter().zip(&whole) {
            assert!(out.as_ref().is_none_or(|out| out == whole), "page {page}");
        }
        taken[out.iter().flatten().count()] += 1;
    }
    // A page is of one daemon, of the code of some, or of all, most often not of all.
    assert!(taken[3] > 0 && taken[0] * 2 < taken.iter().sum(), "{taken:?}");
    assert!(refusals > 0, "{taken:?}");
    std::fs::write(place.path("out.snapshot"), &whole[1]).unwrap();
    let running = place.start(&["counter.wasm", "--data", "another"]);
    place.done(&["restore", "out.snapshot", "--as", "ledger"]);
    assert_eq!(place.done(&["call", "ledger", "total"]), "140\n");
    running.stop();
}

/// A daemon that waits has made no state yet, and makes some once it runs.
#[test]
fn the_code_of_a_daemon_that_waits_is_kept() {
    let place = Place::new();
    std::fs::write(place.path("s.toml"), SERVICE.replace("uses =", "needs =")).unwrap();
    let running = place.start(&["counter.wasm", "s.toml"]);
    assert_eq!(running.daemon("limits")["state"], "waiting");
    running.stop();
    let code = std::fs::read(place.path("limits.wasm")).unwrap();
    assert!(ways::keeps_code(&place, *blake3::hash(&code).as_bytes()));
}

/// Its state is left alone: without its file there is nothing to start.
#[test]
fn what_became_stateless_is_not_started_on_its_old_state() {
    let place = Place::new();
    place.start(&["s.toml"]).stop();
    let stateless = SERVICE.replace("uses =", "stateless = true\nuses =");
    std::fs::write(place.path("s.toml"), stateless).unwrap();
    std::fs::remove_file(place.path("limits.wasm")).unwrap();
    std::fs::write(place.path("none"), "").unwrap();
    let refused = place.host(&["run", "s.toml", "--requests", "none"]);
    assert_ne!(refused.code, 0, "{}", refused.out);
    assert!(refused.err.contains("E_FILE"), "{}", refused.err);
    assert!(refused.err.contains("limits.wasm"), "{}", refused.err);
}
