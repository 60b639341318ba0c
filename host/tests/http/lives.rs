//! How it begins, dies and ends.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::json;

use super::rig::{HOST, Host, guest, post};

const ENDLESS: [&str; 4] = ["--fuel", "chaos=1000000000000000000", "--deadline", "chaos=3600s"];

#[test]
fn an_address_that_cannot_be_had_is_said_and_nothing_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let requests = ["--http", "127.0.0.1:0", "--requests", "-"];
    for (words, code, said) in [
        (&["--http", &taken][..], 1, "error[E_HTTP]: --http 127.0.0.1:"),
        (&["--http", "192.0.2.1:80"], 1, "error[E_HTTP]: --http 192.0.2.1:80: Cannot assign"),
        (&["--http", "localhost"], 2, "invalid value 'localhost'"),
        (&["--http", "127.0.0.1:0", "--http", "127.0.0.1:0"], 2, "multiple times"),
        (&requests, 2, "cannot be used with"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(HOST);
        command.arg("run").arg(guest("counter")).args(words).current_dir(dir.path());
        command.env("BULKHEAD_SOCKET", dir.path().join("run/host.sock"));
        let output = command.env("BULKHEAD_CACHE_DIR", dir.path().join("cache")).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(said), "{words:?}: {text}");
    }
}

#[test]
fn s3_04_a_server_that_panics_is_started_again_and_its_clients_stay() {
    for action in ["panic", "error"] {
        let fail = format!("accept-http:2:{action}");
        let mut host = Host::run(&["counter"], &["--fail-at", &fail]);
        let mut first = host.connect();
        let one = post("/counter/increment", &[], "{\"by\": 1}");
        first.send(&one);
        assert_eq!(first.answer().unwrap().body["value"], 1);
        let mut lost = host.connect();
        lost.send(&one);
        assert!(lost.is_closed());
        first.send(&one);
        assert_eq!(first.answer().unwrap().body["value"], 2);
        assert_eq!(host.call("/counter/increment", &json!({ "by": 1 })).body["value"], 3);
        let ps = host.ask(&json!({ "ps": {} }));
        let restarts = |name: &str| {
            let mut components = ps["components"].as_array().unwrap().iter();
            components.find(|component| component["name"] == name).unwrap()["restarts"].clone()
        };
        assert_eq!((restarts("http"), restarts("api")), (json!(1), json!(0)), "{action}");
        host.does(&["stop"]);
        assert_eq!(host.end(), Some(0));
    }
}

#[test]
fn a5_s3_16_a_stop_refuses_new_clients_and_answers_those_that_are_there() {
    let mut host = Host::run(&["chaos", "counter"], &ENDLESS);
    let mut idle = host.connect();
    let increment = post("/counter/increment", &[], "{\"by\": 1}");
    idle.send(&increment);
    assert_eq!(idle.answer().unwrap().status, 200);
    // Held by a person, and refused when the host stops.
    host.does(&["pause", "counter"]);
    let mut held = host.connect();
    held.send(&increment);
    host.until("held", |ps| ps["daemons"][1]["held"] == 1);
    let mut spinning = host.connect();
    // What comes behind it is not begun.
    spinning.send(post("/chaos/die", &[], "{\"how\": \"spin\"}") + &increment);
    host.until("spins", |ps| !ps["transactions"].as_array().unwrap().is_empty());
    let address = host.address;
    let stopping = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| host.host(&["stop"]));
        assert!(idle.is_closed());
        let refused = held.answer().unwrap();
        assert_eq!((refused.status, refused.code()), (503, "E_STOPPING"));
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(held.is_closed());
        // It still spins: its grace is not over.
        while TcpStream::connect(address).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let cancelled = spinning.answer().unwrap();
        assert_eq!((cancelled.status, cancelled.code()), (503, "E_CANCELLED"));
        assert_eq!(cancelled.header("retry-after"), Some("1"));
        assert!(spinning.is_closed());
        stopping.join().unwrap()
    });
    assert!(stopping.status.success(), "{stopping:?}");
    assert_eq!(host.end(), Some(0));
}

#[test]
fn s3_16_what_commits_while_the_host_stops_is_answered() {
    let mut host = Host::run(&["chaos"], &["--fail-at", "before-sync:2:stall"]);
    let touching = host.calling("/chaos/touch", &json!({ "pages": 1 }));
    host.until("committed", |ps| ps["daemons"][0]["committed"] == 1);
    host.does(&["stop"]);
    assert_eq!(touching.join().unwrap().status, 200);
    assert_eq!(host.end(), Some(0));
}

#[test]
fn a_client_that_will_send_no_more_is_answered_and_then_let_go_of() {
    let host = Host::run(&["counter"], &[]);
    let increment = post("/counter/increment", &[], "{\"by\": 1}");
    let mut once = host.connect();
    once.send(&increment);
    once.sends_no_more();
    assert_eq!(once.answer().unwrap().body["value"], 1);
    assert!(once.is_closed());
    let mut thrice = host.connect();
    thrice.send(increment.repeat(3));
    thrice.sends_no_more();
    for value in 2..=4 {
        assert_eq!(thrice.answer().unwrap().body["value"], value);
    }
    assert!(thrice.is_closed());
    // Also when it says so in the middle.
    host.does(&["pause", "counter"]);
    let mut waits = host.connect();
    waits.send(&increment);
    host.until("held", |ps| ps["daemons"][0]["held"] == 1);
    waits.sends_no_more();
    // One that has gone altogether is no different, and harms nobody.
    let mut gone = host.connect();
    gone.send(&increment);
    host.until("held", |ps| ps["daemons"][0]["held"] == 2);
    drop(gone);
    host.does(&["resume", "counter"]);
    assert_eq!(waits.answer().unwrap().body["value"], 5);
    assert!(waits.is_closed());
    // What is not whole is not begun.
    let mut half = host.connect();
    half.send(&increment[..increment.len() - 1]);
    half.sends_no_more();
    assert!(half.last().is_none_or(|status| status == 400));
    assert_eq!(host.call("/counter/value", &json!({})).body["value"], 6);
}
