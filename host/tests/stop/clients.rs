//! Every program ends by the same latch: a host that listens, one that runs a file of requests, and
//! commands that ask one.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::rig::{ENDLESS, Place, Running, guest};

/// A host that runs a file: a commit, then a transaction that never ends, then more.
fn requests(place: &Place, has_socket: bool) -> Running {
    let lines = [
        json!({ "daemon": "counter", "contract": "increment", "args": { "by": 1 } }),
        json!({ "daemon": "chaos", "contract": "die", "args": { "how": "spin" } }),
        json!({ "daemon": "chaos", "contract": "state", "args": {} }),
    ];
    let file = place.0.path().join("requests.jsonl");
    std::fs::write(&file, lines.map(|line| format!("{line}\n")).concat()).unwrap();
    let mut command = place.command(&["run", &guest("counter"), &guest("chaos")]);
    command.args(ENDLESS).args(["--stop-grace", "200ms", "--output", "json", "--requests"]);
    command.arg(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !has_socket {
        command.env_remove("BULKHEAD_SOCKET");
    }
    Running::of(command.spawn().unwrap())
}

/// The outcomes that it printed: words, or codes where there is an error.
fn outcomes(running: &mut Running) -> Vec<String> {
    let mut text = String::new();
    running.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let word = |line: Value| {
        let code = line["error"]["code"].as_str().map(str::to_owned);
        code.or_else(|| line["outcome"].as_str().map(str::to_owned))
    };
    lines.filter_map(word).collect()
}

#[test]
fn s3_15_a_host_with_a_file_of_requests_is_stopped_like_one_that_listens() {
    let emergency: &[&str] = &["--emergency", "no"];
    for (words, code) in [(Some(&[][..]), 1), (Some(emergency), 6), (None, 1)] {
        let place = Place::new();
        let mut running = requests(&place, true);
        while UnixStream::connect(place.socket()).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Both daemons have begun: a request that waits for its turn is refused by the stop.
        place.until("spins", |ps| {
            let spins = ps["transactions"][0]["daemon"] == "chaos";
            spins && ps["daemons"][1]["committed"] == 1
        });
        match words {
            Some(words) => assert_eq!(place.stop(words).1["code"], code),
            None => running.signal(Signal::TERM),
        }
        assert_eq!(outcomes(&mut running), ["committed", "E_CANCELLED", "E_STOPPING"]);
        let (ended, said) = running.end();
        assert_eq!(ended, code, "{said}");
        assert!(!place.socket().exists());
    }
}

#[test]
fn s3_15_without_a_socket_a_host_with_a_file_is_stopped_by_a_signal_alone() {
    let place = Place::new();
    let mut running = requests(&place, false);
    running.until_thread("requests");
    assert!(!place.file("run").exists());
    let stop = place.host(&["stop"]);
    assert_eq!(stop.status.code(), Some(5));
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, 1, "{said}");
}

#[test]
fn s3_15_a_command_ends_by_a_signal_with_its_code_and_the_host_goes_on() {
    let place = Place::new();
    let grace = [&ENDLESS[..], &["--stop-grace", "3600s"]].concat();
    let mut running = place.run(&["chaos"], &grace);
    let command = |words: &[&str]| {
        let mut command = place.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::of(command.spawn().unwrap())
    };
    let ends = |mut command: Running, signal: Signal| {
        command.signal(signal);
        let (code, said) = command.end();
        assert!(said.contains("ended this command"), "{said}");
        code
    };
    let spinning = command(&["call", "chaos", "die", "how=spin"]);
    let transactions = |ps: &Value| ps["transactions"].as_array().unwrap().len();
    place.until("spins", |ps| transactions(ps) == 1);
    assert_eq!(ends(spinning, Signal::TERM), 4);
    place.until("still spins", |ps| transactions(ps) == 1);
    let stopping = command(&["stop"]);
    place.until_stopping();
    assert_eq!(ends(stopping, Signal::INT), 1);
    assert_eq!(place.stop(&["--emergency", "now"]).1["reason"], "asked for");
    assert_eq!(running.end().0, 0);
}
