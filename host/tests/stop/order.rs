//! Stops that end in order.

use std::process::{Command, Stdio};
use std::time::Duration;

use host::base::limits::COMMAND_THREADS;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::rig::{ENDLESS, HOST, Place, Running, guest, spin};

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
fn s3_02_s3_14_a_stop_while_guests_are_compiled_ends_the_start_and_the_compiler() {
    for emergency in [false, true] {
        let place = Place::new();
        let mut running = place.begin(&["sql"], &[]);
        while !place.file("run").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        while running.group().len() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let health = place.host(&["health"]);
        assert_eq!(String::from_utf8(health.stdout).unwrap(), "starting\n");
        assert_eq!(health.status.code(), Some(8));
        let words: &[&str] = if emergency { &["--emergency", "no"] } else { &[] };
        let (code, line) = place.stop(words);
        assert_eq!((code, &line["code"]), (0, &json!(if emergency { 6 } else { 0 })));
        assert_eq!(running.end().0, if emergency { 6 } else { 0 });
    }
}

/// Starts whose guest never comes out of `init`, until that has begun.
fn stuck_in_init(place: &Place) -> Running {
    let running = place.begin(&["counter", "chaos"], &["--param", "chaos.die_in_init=spin"]);
    running.until_thread("daemon-chaos");
    running
}

#[test]
fn s3_14_a_stop_while_a_guest_is_stuck_in_its_init_ends_the_start() {
    for (words, code) in [(&[][..], 0), (&["--emergency", "enough"], 6)] {
        let place = Place::new();
        let mut running = stuck_in_init(&place);
        let (_, line) = place.stop(words);
        assert_eq!(line["code"], code);
        let (ended, said) = running.end();
        assert_eq!(ended, code, "{said}");
        assert!(!said.contains("E_INIT") && !place.socket().exists(), "{said}");
        // Nothing of that start is in the way of the next one.
        let mut running = place.run(&["counter", "chaos"], &[]);
        assert_eq!(place.stop(&[]).0, 0);
        assert_eq!(running.end().0, 0);
    }
    let place = Place::new();
    let mut running = stuck_in_init(&place);
    running.signal(Signal::TERM);
    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("stopping: signal 15") && !said.contains("E_INIT"), "{said}");
}

#[test]
fn s0_22_at_sigterm_every_daemon_is_told_one_that_ends_in_its_grace_commits_the_others_are_killed()
{
    let place = Place::new();
    let long = ["--fuel", "1000000000000000000", "--deadline", "3600s", "--stop-grace", "5s"];
    let mut running = place.run(&["chaos", "compute", "counter"], &long);
    let killed = spin(&place);
    let finished = place.call("compute", "run", &json!({ "program": "sort", "rounds": 40 }));
    place.until("computes", |ps| ps["transactions"].as_array().unwrap().len() == 2);
    let waits = ["chaos", "compute"].map(|daemon| {
        let contract = if daemon == "chaos" { "state" } else { "rounds" };
        place.call(daemon, contract, &json!({}))
    });
    running.signal(Signal::TERM);
    // Who has nothing to do ends at once; who finishes within the grace is not disturbed.
    let states = |ps: &Value| {
        let daemons = ps["daemons"].as_array().unwrap().iter();
        daemons.map(|daemon| daemon["state"] == "stopped").collect::<Vec<_>>()
    };
    place.until("stops the idle one", |ps| states(ps)[2]);
    assert_eq!(finished.join().unwrap()["outcome"], "committed");
    place.until("stops the one that finished", |ps| states(ps) == [false, true, true]);
    assert_eq!(killed.join().unwrap()["error"]["code"], "E_CANCELLED");
    for waiting in waits {
        assert_eq!(waiting.join().unwrap()["error"]["code"], "E_STOPPING");
    }
    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    let mut running = place.run(&["chaos", "compute", "counter"], &[]);
    let rounds = place.call("compute", "rounds", &json!({}));
    assert_eq!(rounds.join().unwrap()["value"], 40);
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn s4_12_the_roots_loop_is_one_thread_from_the_start_until_nothing_is_left() {
    let place = Place::new();
    let options = [&ENDLESS[..], &["--stop-grace", "3600s"]].concat();
    let mut running = place.begin(&["chaos", "counter"], &options);
    let loops = |threads: &[String]| threads.iter().filter(|name| *name == "host").count();
    running.until_thread("start");
    // A thread that begins has the name of the one that started it, until it has its own.
    let settled = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        loops(&running.threads()) == 1
    });
    assert!(settled, "{:?}", running.threads());
    running.greeting();
    let spinning = spin(&place);
    let others = [
        "crash-reports",
        "daemon-chaos",
        "daemon-counter",
        "epoch-ticker",
        "host",
        "journal",
        "journal-fold",
        "root",
        "stderr",
        "stdout",
        "watchdog",
    ];
    let commands = ["command"; COMMAND_THREADS];
    let serves = [&["api"][..], &commands, &others].concat();
    assert_eq!(running.threads(), serves);
    running.signal(Signal::TERM);
    place.until_stopping();
    place.until("has fewer threads", |_| running.threads().len() == serves.len() - 1);
    assert_eq!(loops(&running.threads()), 1);
    assert_eq!(place.stop(&["--emergency", "now"]).0, 0);
    // No thread is left: that is part of each end.
    assert_eq!(running.end().0, 0);
    assert_eq!(spinning.join().unwrap()["error"]["code"], "E_CANCELLED");
}
