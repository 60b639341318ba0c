//! Reasons to stop that come while a stop is under way already.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::rig::{ENDLESS, Place, spin};

#[test]
fn a5_a_second_signal_forces_the_end_at_once() {
    let place = Place::new();
    let grace = [&ENDLESS[..], &["--stop-grace", "3600s"]].concat();
    let mut running = place.run(&["chaos"], &grace);
    let spinning = spin(&place);
    running.signal(Signal::TERM);
    place.until_stopping();
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, 7);
    assert_eq!(spinning.join().unwrap(), Value::Null);
}

#[test]
fn a5_a_second_signal_ends_a_host_whose_journal_or_main_loop_hangs() {
    let place = Place::new();
    let hang = ["--fail-at", "before-sync:2:hang", "--stop-grace", "3600s"];
    let mut running = place.run(&["counter"], &hang);
    let answer = place.call("counter", "increment", &json!({ "by": 1 }));
    place.until("runs", |ps| ps["daemons"][0]["sequence"] == 1);
    running.signal(Signal::TERM);
    place.until_stopping();
    running.signal(Signal::INT);
    assert_eq!(running.end().0, 7);
    assert_eq!(answer.join().unwrap(), Value::Null);
    // The loop hangs while it starts: nobody sees the first signal but the second one's handler.
    let place = Place::new();
    let mut running = place.begin(&["counter"], &["--fail-at", "main-loop:1:hang"]);
    running.until_thread("daemon-counter");
    while running.child.try_wait().unwrap().is_none() {
        running.signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(running.end().0, 7);
}

#[test]
fn s3_14_an_emergency_during_a_stop_ends_its_grace_and_the_first_reason_stays() {
    for signal in [Some(Signal::TERM), None] {
        let place = Place::new();
        let grace = [&ENDLESS[..], &["--stop-grace", "3600s"]].concat();
        let mut running = place.run(&["chaos"], &grace);
        let spinning = spin(&place);
        match signal {
            Some(signal) => running.signal(signal),
            None => assert_eq!(place.stop(&["--wait", "1ms"]).0, 1),
        }
        place.until_stopping();
        let (code, line) = place.stop(&["--emergency", "it burns"]);
        assert_eq!((code, &line["code"]), (0, &json!(0)));
        assert_eq!(line["reason"], signal.map_or("asked for", |_| "signal 15"));
        let (code, said) = running.end();
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("an emergency during the stop: it burns"), "{said}");
        assert_eq!(spinning.join().unwrap()["error"]["code"], "E_CANCELLED");
    }
}

#[test]
fn s3_14_a_stop_during_an_emergency_changes_neither_its_reason_nor_its_code() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &["--fail-at", "before-sync:2:hang"]);
    let answer = place.call("counter", "increment", &json!({ "by": 1 }));
    place.until("runs", |ps| ps["daemons"][0]["sequence"] == 1);
    assert_eq!(place.stop(&["--emergency", "first", "--wait", "1ms"]).0, 1);
    place.until_stopping();
    running.signal(Signal::TERM);
    let (code, line) = place.stop(&[]);
    assert_eq!((code, &line["code"]), (0, &json!(6)));
    assert_eq!(line["reason"], "emergency E_EMERGENCY");
    let (code, said) = running.end();
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("error[E_EMERGENCY]: first"), "{said}");
    drop(answer.join());
}
