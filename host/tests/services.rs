//! Services on the real binary: `host validate`, `host run SERVICE.toml`.
//!
//! Needs `guests/*.wasm`, which `cargo xtask guests` builds.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

#[path = "services/held.rs"]
mod held;

const HOST: &str = env!("CARGO_BIN_EXE_host");

/// A directory with guests and manifests, in which hosts run.
struct Place(tempfile::TempDir);

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests").canonicalize().unwrap()
}

impl Place {
    /// `services/` has the files, and the guests under their names.
    fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let services = dir.path().join("services");
        std::fs::create_dir(&services).unwrap();
        for name in ["chaos", "counter", "ledger", "rates"] {
            let file = format!("{name}.wasm");
            let built = guests().join(&file);
            assert!(built.is_file(), "run `cargo xtask guests` first: {}", built.display());
            std::os::unix::fs::symlink(built, services.join(file)).unwrap();
        }
        for (name, text) in files {
            std::fs::write(services.join(name), text).unwrap();
        }
        Self(dir)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(HOST);
        command
            .args(words)
            .current_dir(self.0.path())
            .env("BULKHEAD_SOCKET", self.0.path().join("run/host.sock"))
            .env("BULKHEAD_CACHE_DIR", self.0.path().join("cache"));
        command
    }

    fn host(&self, words: &[&str]) -> Ended {
        Ended::from(self.command(words).output().unwrap())
    }

    /// Starts a host and waits until it listens.
    fn start(&self, words: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(&[&["run", "--output", "json"], words].concat());
        Self::listening(command.envs(environment.iter().copied()))
    }

    /// The same; its log goes to a file.
    fn start_logging(&self, words: &[&str], log: &Path) -> Running {
        let mut command = self.command(&[&["run", "--output", "json"], words].concat());
        Self::listening(command.stderr(std::fs::File::create(log).unwrap()))
    }

    fn listening(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        Running(child)
    }

    /// `host ps` about one daemon.
    fn daemon(&self, name: &str) -> Value {
        let ps: Value = serde_json::from_str(&self.host(&["ps", "--output", "json"]).out).unwrap();
        let daemons = ps["daemons"].as_array().unwrap();
        daemons.iter().find(|daemon| daemon["name"] == name).unwrap().clone()
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it was killed");
    }
}

#[test]
fn the_example_is_valid_and_runs_with_its_options() {
    let bank = guests().join("bank.toml");
    let bank = bank.to_str().unwrap();
    let place = Place::with(&[]);
    let valid = place.host(&["validate", bank]);
    assert_eq!(valid.code, Some(0), "{valid:?}");
    assert!(valid.out.ends_with("service bank is valid: 1 resource, 2 daemons\n"), "{valid:?}");
    let valid = place.host(&["validate", bank, "--output", "json"]);
    let report: Value = serde_json::from_str(&valid.out).unwrap();
    assert_eq!(report["valid"], true);
    assert_eq!(report["services"][0]["daemons"][1]["name"], "rates");
    let loose = ["services/counter.wasm", "--budget", "8MiB", "--budget", "rates=3MiB"];
    let _running = place.start(&[&[bank], &loose[..]].concat(), &[]);
    // The manifest, an option for one, an option for all.
    for (name, bytes, service) in [
        ("ledger", 64 << 20, Value::from("bank")),
        ("rates", 3 << 20, Value::from("bank")),
        ("counter", 8 << 20, Value::Null),
    ] {
        let daemon = place.daemon(name);
        assert_eq!(daemon["budget_bytes"], bytes, "{daemon}");
        assert_eq!(daemon["service"], service, "{daemon}");
    }
    let deposit = place.host(&["call", "ledger", "deposit", "account=ann", "amount=5"]);
    assert_eq!((deposit.code, deposit.out.as_str()), (Some(0), "5\n"));
}

const CHAOS: &str = "[service]\nname = \"trial\"\n[parameters]\nwhat = { env = \"TRIAL_WHAT\" }\n\
    [daemons.chaos]\nguest = \"chaos.wasm\"\non_crash = \"ask\"\nretries = 0\n\
    parameters = { recovery = \"${what}\" }\n";

#[test]
fn s0_04_a_missing_parameter_stops_the_start_at_its_line() {
    let place = Place::with(&[("trial.toml", CHAOS)]);
    for words in [&["run", "services/trial.toml"][..], &["validate", "services/trial.toml"]] {
        let refused = place.host(words);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let expected = "error[E_PARAMETER]: services/trial.toml:4:1: parameter `what` has no value; \
            give --param what=VALUE, or set TRIAL_WHAT\n  4 | what = { env = \"TRIAL_WHAT\" }\n";
        assert!(refused.err.starts_with(expected), "{}", refused.err);
    }
    assert!(!place.0.path().join("bulkhead-data").exists());
}

#[test]
fn s0_04_parameters_come_from_options_and_the_environment_at_the_start() {
    let place = Place::with(&[("trial.toml", CHAOS)]);
    let state = |words: &[&str], environment: &[(&str, &str)]| {
        let words = [&["services/trial.toml", "--memory-only"], words].concat();
        let _running = place.start(&words, environment);
        assert_eq!(place.host(&["call", "chaos", "die", "how=panic"]).code, Some(3));
        place.daemon("chaos")["state"].clone()
    };
    assert_eq!(state(&[], &[("TRIAL_WHAT", "park")]), "parked");
    assert_eq!(state(&["--param", "what=resume"], &[("TRIAL_WHAT", "park")]), "ready");
    assert_eq!(state(&["--param", "chaos.recovery=park"], &[("TRIAL_WHAT", "resume")]), "parked");
}

/// Neither the environment of whoever asks nor a changed file reaches a host that runs.
#[test]
fn s0_04_a_host_that_runs_keeps_the_values_of_its_start() {
    let place = Place::with(&[("trial.toml", CHAOS)]);
    let words = ["services/trial.toml", "--memory-only"];
    let _running = place.start(&words, &[("TRIAL_WHAT", "park")]);
    let file = place.0.path().join("services/trial.toml");
    for _ in 0..3 {
        let mut dies = place.command(&["call", "chaos", "die", "how=panic"]);
        let died = Ended::from(dies.env("TRIAL_WHAT", "resume").output().unwrap());
        assert_eq!(died.code, Some(3), "{died:?}");
        assert_eq!(place.daemon("chaos")["state"], "parked");
        std::fs::write(&file, CHAOS.replace("${what}", "resume")).unwrap();
        // A start of it, which reads nothing anew.
        assert_eq!(place.host(&["resume", "chaos"]).code, Some(0));
        assert_eq!(place.daemon("chaos")["state"], "ready");
    }
}

#[test]
fn nothing_starts_before_all_services_and_guests_are_good() {
    let other = "[service]\nname = \"bank\"\n[daemons.ledger]\nguest = \"missing.wasm\"\n\
        [daemons.text]\nguest = \"bank.toml\"\n";
    let bank = "[service]\nname = \"bank\"\n[daemons.ledger]\nguest = \"ledger.wasm\"\n";
    let http = "[service]\nname = \"web\"\n[resources.rates]\nprovider = \"http\"\n\
        allow = [\"http://h/${pw}?x\"]\n[daemons.web]\nguest = \"counter.wasm\"\n\
        needs = [\"rates\"]\n[parameters]\npw = { default = \"hunter2\", secret = true }\n";
    let books = "[service]\nname = \"books\"\n[resources.db]\nprovider = \"postgres\"\n\
        url = \"postgres://u:hunter2@h/d\"\ninit = [\"SELECT 1\", \"@missing.sql\"]\n\
        [daemons.books]\nguest = \"counter.wasm\"\n";
    let shelf = books.replace("/d", "/d?hostaddr=::1").replace("@missing.sql", "SELECT 2");
    let broken = "[service]\nname = \"web\"\n[daemons.web]\ngest = \"counter.wasm\"\n";
    let place = Place::with(&[
        ("bank.toml", bank),
        ("other.toml", other),
        ("http.toml", http),
        ("books.toml", books),
        ("shelf.toml", &shelf),
        ("broken.toml", broken),
    ]);
    let files = |words: &[&str]| -> Vec<String> {
        words.iter().map(|word| word.replace('@', "services/")).collect()
    };
    for (words, exit, code, expected) in [
        (
            &["@broken.toml", "@other.toml", "@bank.toml"][..],
            1,
            "E_MANIFEST",
            &[
                "broken.toml:3:10: daemon `web` needs `guest`",
                "broken.toml:4:1: daemon `web` has no key `gest`; is it `guest`?",
                "other.toml:4:9: services/missing.wasm: No such file",
                "other.toml:6:9: services/bank.toml: invalid WebAssembly",
                "bank.toml:2:8: the service in services/other.toml is called so too",
                "bank.toml:3:10: there is a daemon `ledger` in services/other.toml too",
            ][..],
        ),
        (&["@other.toml"], 1, "E_FILE", &["2 mistakes:\nservices/other.toml:4:9: "]),
        (&["@bank.toml", "@ledger.wasm"], 1, "E_MANIFEST", &["bank.toml:3:10: the daemon of"]),
        (&["@bank.toml", "@http.toml"], 1, "E_MANIFEST", &["http.toml:5:10: a rule has no query"]),
        (&["@books.toml"], 1, "E_FILE", &["books.toml:6:21: services/missing.sql: No such"]),
        (&["@shelf.toml"], 1, "E_MANIFEST", &["shelf.toml:5:7: `hostaddr` is not supported"]),
        (&["@bank.toml", "--param", "x=1"], 1, "E_PARAMETER", &["--param x: no service has"]),
        (&["@bank.toml", "--param", "x"], 2, "E_OPTION", &["write NAME=VALUE"]),
        (&["@bank.toml", "--param", "lodger.x=1"], 2, "E_OPTION", &["names `lodger`"]),
        (&["@bank.toml", "--fuel", "lodger=1"], 2, "E_OPTION", &["names `lodger`"]),
        (&["@none.toml"], 1, "E_FILE", &["services/none.toml: No such file"]),
        (&["@ledger.wasm", "--param", "x=1"], 2, "E_OPTION", &["write DAEMON.KEY=VALUE"]),
    ] {
        let words = files(words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let refused = place.host(&[&["run"], &words[..]].concat());
        assert_eq!(refused.code, Some(exit), "{words:?}: {refused:?}");
        assert!(refused.err.starts_with(&format!("error[{code}]: ")), "{}", refused.err);
        for expected in expected {
            assert!(refused.err.contains(expected), "{expected}\n{}", refused.err);
        }
        assert!(!refused.err.contains("hunter2"), "{}", refused.err);
        assert!(!place.0.path().join("bulkhead-data").exists(), "{words:?}");
    }
}

#[test]
fn validate_answers_programs() {
    let http = "[service]\nname = \"web\"\n[resources.rates]\nprovider = \"http\"\n\
        allow = [\"http://h/\"]\n[daemons.web]\nguest = \"counter.wasm\"\nbudgt = 5\n";
    let good = http.replace("budgt = 5\n", "");
    let place = Place::with(&[("bad.toml", http), ("good.toml", &good)]);
    let bad = place.host(&["validate", "services/bad.toml", "--output", "json"]);
    assert_eq!(bad.code, Some(1), "{bad:?}");
    let report: Value = serde_json::from_str(&bad.out).unwrap();
    let mistake = &report["mistakes"][0];
    assert_eq!((&report["valid"], &mistake["code"]), (&Value::Bool(false), &"E_MANIFEST".into()));
    assert_eq!((&mistake["line"], &mistake["column"]), (&8.into(), &1.into()));
    assert_eq!(mistake["file"], "services/bad.toml");
    let good = place.host(&["validate", "services/good.toml", "--output", "json"]);
    assert_eq!(good.code, Some(0), "{good:?}");
    let report: Value = serde_json::from_str(&good.out).unwrap();
    let rates = serde_json::json!([{ "name": "rates", "provider": "http" }]);
    assert_eq!((&report["valid"], &report["services"][0]["resources"]), (&true.into(), &rates));
    assert_eq!(place.host(&["validate"]).code, Some(2));
    let lodger = ["validate", "services/good.toml", "--param", "lodger.x=1"];
    assert_eq!(place.host(&lodger).code, Some(2));
}

#[test]
fn validate_refuses_what_a_start_refuses_for_its_guest() {
    let limits = guests().join("limits.wasm");
    let manifest = |daemon: &str| {
        let guest = limits.display();
        format!(
            "[service]\nname = \"s\"\n[resources.other]\nprovider = \"clock\"\n\
             [daemons.limits]\nguest = \"{guest}\"\n{daemon}"
        )
    };
    let (none, other) = (manifest(""), manifest("uses = [\"other\"]\n"));
    let small = manifest("uses = [\"other\"]\nbudget = \"128KiB\"\n");
    let files = [("none.toml", none.as_str()), ("other.toml", &other), ("small.toml", &small)];
    let place = Place::with(&files);
    for (file, expected) in [
        ("services/none.toml", "E_RESOURCE_UNKNOWN"),
        ("services/other.toml", "E_RESOURCE_UNKNOWN"),
        ("services/small.toml", "E_MEM_LIMIT"),
    ] {
        for command in ["validate", "run"] {
            let refused = place.host(&[command, file, "--output", "json"]);
            assert_eq!(refused.code, Some(1), "{command} {file}: {refused:?}");
            assert!(refused.err.contains(expected), "{command} {file}: {refused:?}");
        }
    }
    let guest = place.host(&["validate", "services/counter.wasm"]);
    assert!(guest.err.contains("a guest and no manifest; `host inspect"), "{guest:?}");
}

#[test]
fn a_daemon_starts_when_those_before_it_are_ready() {
    let text = "[service]\nname = \"s\"\n[daemons.counter]\nguest = \"counter.wasm\"\n\
        after = [\"chaos\"]\n[daemons.chaos]\nguest = \"chaos.wasm\"\n\
        [daemons.chaos.parameters]\nrefuse_init = true\n";
    let place = Place::with(&[("s.toml", text)]);
    let refused = place.host(&["run", "services/s.toml"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("error[E_INIT]"), "{}", refused.err);
    // What could not begin leaves no name in the data directory, and the counter never did begin.
    let verified = place.host(&["verify", "--output", "json"]);
    assert!(!verified.out.contains("chaos") && !verified.out.contains("counter"), "{verified:?}");
}

const NEEDY: &str = r#"
[service]
name = "bank"

[resources.reports]
provider = "directory"
path = "reports"
access = "append"
backoff = "1ms..10ms"
up_delay = "1ms"

[resources.time]
provider = "clock"

[daemons.ledger]
guest = "ledger.wasm"
needs = ["reports", "time"]

[daemons.counter]
guest = "counter.wasm"
"#;

fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never {what}");
}

#[test]
fn s0_05_s0_16_a_service_whose_resource_dies_says_so_and_serves_again_when_it_is_back() {
    let place = Place::with(&[("bank.toml", NEEDY)]);
    let (reports, aside) = (place.0.path().join("services/reports"), place.0.path().join("aside"));
    std::fs::create_dir(&reports).unwrap();
    let deposit = ["call", "ledger", "deposit", "account=ann", "amount=7"];
    let health = || {
        let ended = place.host(&["health", "--output", "json"]);
        let health: Value = serde_json::from_str(&ended.out).unwrap();
        (ended.code, health["services"][0]["status"].as_u64().unwrap(), health)
    };
    let clock_is_there = |when: &str| {
        let listed = place.host(&["resources"]).out;
        assert!(listed.contains("bank/time     clock      available"), "S0-05, {when}: {listed}");
    };
    let _running = place.start(&["services/bank.toml"], &[]);
    clock_is_there("at the start");
    assert_eq!(place.host(&deposit).code, Some(0));
    assert_eq!((health().0, health().1), (Some(0), 200));
    std::fs::rename(&reports, &aside).unwrap();
    until("waiting", || place.daemon("ledger")["state"] == "waiting");
    let (code, status, shown) = health();
    assert_eq!((code, status), (Some(8), 503));
    let reasons = shown["services"][0]["reasons"].to_string();
    assert!(reasons.contains("`reports`") && reasons.contains("`ledger`"), "{reasons}");
    assert!(place.host(&["health"]).out.contains("service bank (503)"));
    let refused = place.host(&deposit);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("error[E_UNAVAILABLE]"), "{refused:?}");
    assert!(refused.err.contains("`bank/reports`"), "{refused:?}");
    assert!(place.host(&["ps"]).out.contains("ledger waits: "));
    let listed = place.host(&["resources"]).out;
    assert!(listed.contains("bank/reports  directory  down"), "{listed}");
    clock_is_there("while another one is down, and who needs both waits");
    assert!(listed.contains("No such file"), "{listed}");
    assert_eq!(place.host(&["call", "counter", "increment", "by=1"]).code, Some(0));
    // One that waits is answered when it is back.
    let mut patient = place.command(&[&deposit[..], &["--wait", "60s"]].concat());
    let patient = patient.stdout(Stdio::piped()).spawn().unwrap();
    until("held", || place.daemon("ledger")["held"] == 1);
    std::fs::rename(&aside, &reports).unwrap();
    let patient = Ended::from(patient.wait_with_output().unwrap());
    assert_eq!((patient.code, patient.out.as_str()), (Some(0), "14\n"));
    assert_eq!((health().0, health().1), (Some(0), 200));
    let ledger = place.daemon("ledger");
    assert_eq!((&ledger["generation"], &ledger["resource_restarts"]), (&json!(2), &json!(1)));
    assert_eq!((&ledger["crashed"], &ledger["restarts"]), (&json!(0), &json!(0)));
    assert_eq!(place.daemon("counter")["generation"], 1);
    // A drill, by its short name.
    let down = place.host(&["resource", "down", "reports"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert!(down.out.contains("`bank/reports` goes down"), "{down:?}");
    until("waiting", || place.daemon("ledger")["state"] == "waiting");
    assert!(place.host(&["resources"]).out.contains("held"));
    clock_is_there("in a drill");
    assert_eq!(place.host(&["resource", "up", "bank/reports"]).code, Some(0));
    until("back", || place.host(&deposit).code == Some(0));
    assert_eq!(place.daemon("ledger")["generation"], 3);
    let unknown = place.host(&["resource", "down", "cash"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.err.contains("error[E_RESOURCE_UNKNOWN]"), "{unknown:?}");
    assert_eq!(place.host(&["call", "ledger", "total", "--wait", "soon"]).code, Some(2));
    let long = place.host(&["call", "ledger", "total", "--wait", "100days"]);
    assert_eq!(long.code, Some(2), "{long:?}");
}

#[test]
fn a_host_whose_resource_is_not_there_starts_and_its_daemons_wait() {
    let place = Place::with(&[("bank.toml", NEEDY)]);
    let _running = place.start(&["services/bank.toml"], &[]);
    assert_eq!(place.daemon("ledger")["state"], "waiting");
    assert_eq!(place.host(&["call", "counter", "increment", "by=1"]).code, Some(0));
    std::fs::create_dir(place.0.path().join("services/reports")).unwrap();
    until("ready", || place.daemon("ledger")["state"] == "ready");
    let deposit = ["call", "ledger", "deposit", "account=ann", "amount=7"];
    assert_eq!(place.host(&deposit).code, Some(0));
}

/// A daemon that needs a cache, whose init jobs are on line 7 and on.
fn cached(url: &str, init: &str) -> String {
    format!(
        "[service]\nname = \"web\"\n[resources.cache]\nprovider = \"redis\"\n\
         url = \"{url}\"\ninit = [\n{init}]\nbackoff = \"1ms..10ms\"\nup_delay = \"1ms\"\n\
         [daemons.web]\nguest = \"counter.wasm\"\nneeds = [\"cache\"]\n\
         [parameters]\npw = {{ default = \"hunter2\", secret = true }}\n"
    )
}

#[test]
fn s0_11_what_is_wrong_with_init_jobs_and_their_files_is_said_at_their_lines() {
    let init = "\"SCRIPT LOAD @none.lua\",\n\"GET 'a\",\n\"SCRIPT LOAD @large.lua\",\n\
        \"SCRIPT LOAD @.\",\n\"PING\"";
    let (jobs, url) = (cached("redis://:${pw}@h", init), cached("redis://:${pw}@h/x", ""));
    let large = "-".repeat((1 << 20) + 1);
    let place = Place::with(&[("jobs.toml", &jobs), ("url.toml", &url), ("large.lua", &large)]);
    for command in ["validate", "run"] {
        let refused = place.host(&[command, "services/jobs.toml"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for expected in [
            "error[E_MANIFEST]: 4 mistakes:\n",
            "services/jobs.toml:7:1: services/none.lua: No such file",
            "services/jobs.toml:8:1: a ' is not closed",
            "services/jobs.toml:9:1: services/large.lua: it has more than 1048576 bytes",
            "services/jobs.toml:10:1: services/.: it is a directory, not a regular file",
        ] {
            assert!(refused.err.contains(expected), "{expected}\n{}", refused.err);
        }
        let refused = place.host(&[command, "services/url.toml"]);
        let expected = "url.toml:5:7: the URL can't be used: Invalid database number";
        assert!(refused.err.contains(expected), "{refused:?}");
        assert!(!refused.err.contains("hunter2"), "{refused:?}");
    }
}

#[test]
fn s0_12_a_service_waits_for_redis_and_loads_its_scripts_with_the_files_of_the_start() {
    let mut redis = servers::Redis::start();
    let init = "\"SCRIPT LOAD @answer.lua\",\n\"RPUSH secrets ${pw}\"";
    let text = cached(&redis.url(), init);
    let place = Place::with(&[("web.toml", &text), ("answer.lua", "return 'the answer'")]);
    let scripts = |redis: &servers::Redis| {
        redis.ask("INFO memory").contains("number_of_cached_scripts:1\r\n")
    };
    let _running = place.start(&["services/web.toml"], &[]);
    assert_eq!(place.host(&["call", "web", "increment", "by=1"]).code, Some(0));
    assert!(scripts(&redis));
    assert_eq!(redis.ask("LRANGE secrets 0 -1"), "*1\r\n$7\r\nhunter2\r\n");
    std::fs::remove_file(place.0.path().join("services/answer.lua")).unwrap();
    redis.kill9();
    until("waiting", || place.daemon("web")["state"] == "waiting");
    let listed = place.host(&["resources"]).out;
    assert!(listed.contains("redis") && listed.contains("down"), "{listed}");
    redis.restart();
    until("ready", || place.daemon("web")["state"] == "ready");
    assert!(scripts(&redis));
    assert_eq!(place.daemon("web")["generation"], 2);
    // What fails is shown without what is secret.
    assert_eq!(redis.ask("SET secrets text"), "+OK\r\n");
    assert_eq!(place.host(&["resource", "down", "cache"]).code, Some(0));
    assert_eq!(place.host(&["resource", "up", "cache"]).code, Some(0));
    until("failing", || place.host(&["resources"]).out.contains("`RPUSH secrets ***`: WRONGTYPE"));
}

#[test]
fn s0_12_a_service_waits_for_postgres_and_runs_its_statements_at_each_recovery() {
    let postgres = servers::Postgres::start();
    let text = format!(
        "[service]\nname = \"web\"\n[resources.books]\nprovider = \"postgres\"\n\
         url = \"{}\"\ninit = [\"@schema.sql\", \"INSERT INTO runs VALUES (1)\",\n\
         \"SELECT 1 / (3 - count(*)) FROM runs\"]\nup_delay = \"1ms\"\n\
         [daemons.web]\nguest = \"counter.wasm\"\nneeds = [\"books\"]\n",
        postgres.url()
    );
    let schema = "CREATE TABLE IF NOT EXISTS runs (n int);\nSELECT n FROM runs;";
    let place = Place::with(&[("web.toml", &text), ("schema.sql", schema)]);
    let _running = place.start(&["services/web.toml"], &[]);
    until("ready", || place.daemon("web")["state"] == "ready");
    std::fs::remove_file(place.0.path().join("services/schema.sql")).unwrap();
    let switch = |way: &str| assert_eq!(place.host(&["resource", way, "books"]).code, Some(0));
    switch("down");
    until("waiting", || place.daemon("web")["state"] == "waiting");
    switch("up");
    until("ready", || place.daemon("web")["state"] == "ready");
    assert_eq!(place.host(&["call", "web", "increment", "by=1"]).code, Some(0));
    switch("down");
    switch("up");
    until("failing", || place.host(&["resources"]).out.contains("division by zero (22012)"));
}

#[test]
fn s0_17_a_stateless_daemon_is_one_row_with_its_instances_under_it() {
    let text = "[service]\nname = \"web\"\n[daemons.rate]\nguest = \"counter.wasm\"\n\
        stateless = true\ninstances = 3\nbudget = \"2MiB\"\n[daemons.ledger]\n\
        guest = \"ledger.wasm\"\n";
    let place = Place::with(&[("web.toml", text)]);
    let valid = place.host(&["validate", "services/web.toml", "--output", "json"]);
    let report: Value = serde_json::from_str(&valid.out).unwrap();
    assert_eq!(report["valid"], json!(true));
    let _running = place.start(&["services/web.toml", "--data", "data"], &[]);
    for by in ["by=5", "by=6"] {
        let answer = place.host(&["call", "rate", "increment", by]);
        assert_eq!((answer.code, answer.out.trim()), (Some(0), &by[3..]));
    }
    let rate = place.daemon("rate");
    assert_eq!((&rate["service"], &rate["kind"]), (&json!("web"), &json!("daemon")));
    assert_eq!((&rate["budget_bytes"], &rate["read"]), (&json!(6 << 20), &json!(2)));
    let names = rate["instances"].as_array().unwrap().iter().map(|one| &one["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["rate/0", "rate/1", "rate/2"]);
    assert!(rate["instances"].as_array().unwrap().iter().all(|one| one["parent"] == rate["id"]));
    assert_eq!(place.daemon("ledger")["instances"], json!([]));
    let list = place.host(&["ps"]).out;
    assert!(list.contains("ready, 0 of 3 busy") && !list.contains("rate/0"), "{list}");
    let tree = place.host(&["ps", "--tree"]).out;
    assert!(tree.contains("instance") && tree.contains("|- rate/0"), "{tree}");
    assert!(tree.contains("`- rate/2"), "{tree}");
    for command in [
        &["checkpoints", "rate"][..],
        &["snapshot", "rate", "-o", "file"],
        &["fork", "rate", "copy"],
        &["revert", "rate", "--to", "1"],
        &["upgrade", "rate", "services/chaos.wasm"],
        &["simulate-crash", "rate"],
    ] {
        let refused = place.host(command);
        assert!(refused.err.contains("error[E_STATELESS]"), "{command:?}: {refused:?}");
        assert_eq!(refused.code, Some(1), "{command:?}");
    }
    let health = place.host(&["health", "--output", "json"]);
    let health: Value = serde_json::from_str(&health.out).unwrap();
    assert_eq!((&health["state"], &health["daemons"]), (&json!("ok"), &json!(2)));
}

#[test]
fn s0_17_readers_stand_under_their_daemon_and_run_what_only_reads() {
    let text = "[service]\nname = \"web\"\n[daemons.ledger]\nguest = \"ledger.wasm\"\n\
        readers = 2\nbudget = \"2MiB\"\n";
    let place = Place::with(&[("web.toml", text)]);
    let _running = place.start(&["services/web.toml", "--data", "data"], &[]);
    let paid = place.host(&["call", "ledger", "deposit", "account=ann", "amount=5"]);
    assert_eq!(paid.code, Some(0), "{paid:?}");
    let total = place.host(&["call", "ledger", "total"]);
    assert_eq!((total.code, total.out.trim()), (Some(0), "5"));
    let ledger = place.daemon("ledger");
    assert_eq!((&ledger["read"], &ledger["budget_bytes"]), (&json!(0), &json!(2 << 20)));
    let readers = ledger["readers"].as_array().unwrap();
    let names: Vec<_> = readers.iter().map(|one| (&one["name"], &one["kind"])).collect();
    let kind = json!("reader");
    let expected = [json!("ledger/reader-0"), json!("ledger/reader-1")];
    assert_eq!(names, expected.iter().map(|name| (name, &kind)).collect::<Vec<_>>());
    assert!(readers.iter().all(|one| one["parent"] == ledger["id"]));
    assert_eq!(readers.iter().filter_map(|one| one["read"].as_u64()).sum::<u64>(), 1);
    assert!(place.host(&["ps"]).out.contains("ready, 0 of 2 readers busy"));
    assert!(place.host(&["ps", "--tree"]).out.contains("`- ledger/reader-1"));
    let refused = place.host(&["revert", "ledger/reader-0", "--to", "1"]);
    assert!(refused.err.contains("error[E_STATELESS]"), "{refused:?}");
    assert_eq!(place.host(&["simulate-crash", "ledger/reader-1"]).code, Some(0));
}
