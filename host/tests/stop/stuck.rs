//! Stops of hosts of which a part hangs, panics or was held.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::rig::{ENDLESS, Place, spin};

#[test]
fn s3_14_with_the_journal_blocked_a_stop_is_forced_and_says_what_is_unknown() {
    let hang = ["--fail-at", "before-sync:2:hang", "--stop-grace", "200ms"];
    for (words, code) in [(&[][..], 7), (&["--emergency", "now"], 6)] {
        let place = Place::new();
        let mut running = place.run(&["counter"], &hang);
        let answer = place.call("counter", "increment", &json!({ "by": 1 }));
        place.until("runs", |ps| ps["daemons"][0]["sequence"] == 1);
        let (_, line) = place.stop(words);
        assert_eq!(line["code"], code);
        let (ended, said) = running.end();
        assert_eq!(ended, code);
        assert!(said.contains("error[E_STOP_FORCED]"), "{said}");
        assert!(said.contains("commits 1 to 1 of `counter` are unknown"), "{said}");
        assert_eq!(answer.join().unwrap(), Value::Null);
    }
}

#[test]
fn s3_04_a_panic_of_the_journals_thread_ends_the_host_in_order_with_an_error() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &["--fail-at", "after-sync:2:panic"]);
    drop(place.call("counter", "increment", &json!({ "by": 1 })).join());
    let (code, said) = running.end();
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("error[E_HOST_BUG]: the thread `journal` panicked"), "{said}");
}

#[test]
fn t2_a_host_that_was_held_is_well_and_health_answers_while_all_daemons_are_busy() {
    let place = Place::new();
    let options = [&ENDLESS[..], &["--stop-grace", "1ms"]].concat();
    let mut running = place.run(&["chaos"], &options);
    let spinning = spin(&place);
    let health = place.host(&["health", "--output", "json"]);
    assert_eq!(health.status.code(), Some(0));
    running.signal(Signal::STOP);
    let held = place.host(&["health"]);
    assert_eq!(String::from_utf8(held.stdout).unwrap(), "stuck\n  does not turn: api\n");
    assert_eq!(held.status.code(), Some(9));
    running.signal(Signal::CONT);
    let health = place.host(&["health"]);
    assert_eq!(String::from_utf8(health.stdout).unwrap(), "ok\n");
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
    assert_eq!(spinning.join().unwrap()["error"]["code"], "E_CANCELLED");
    assert_eq!(place.host(&["health"]).status.code(), Some(5));
}

#[test]
fn s3_14_a_stalled_disk_is_a_degraded_host_and_not_a_stuck_one() {
    let place = Place::new();
    let hang = ["--fail-at", "before-sync:2:hang", "--stop-grace", "1ms"];
    let mut running = place.run(&["counter"], &hang);
    let answer = place.call("counter", "increment", &json!({ "by": 1 }));
    let health = || place.ask(&json!({ "health": {} }))["health"].clone();
    while health()["state"] == "ok" {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(health()["state"], "degraded");
    assert_eq!(health()["stalled"][0]["thread"], "journal");
    let shown = place.host(&["health"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(text, "degraded\n  waits for the disk: journal\n");
    assert_eq!(shown.status.code(), Some(8));
    place.stop(&[]);
    assert_eq!(running.end().0, 7);
    drop(answer.join());
}

#[test]
fn r11_a_deadline_ends_what_runs_while_the_disk_hangs_and_what_waits_for_it_is_unknown() {
    let place = Place::new();
    let options = ["--fail-at", "before-sync:6:hang", "--stop-grace", "1ms"];
    let deadline = ["--deadline", "chaos=100ms", "--fuel", "chaos=1000000000000000000"];
    let mut running = place.run(&["counter", "chaos"], &[&options[..], &deadline].concat());
    let health = || place.ask(&json!({ "health": {} }))["health"]["state"].clone();
    let mut waiting = Vec::new();
    while health() == "ok" {
        waiting.push(place.call("counter", "increment", &json!({ "by": 1 })));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(health(), "degraded");
    for _ in 0..3 {
        let late = place.call("chaos", "die", &json!({ "how": "spin" })).join().unwrap();
        assert_eq!(late["error"]["code"], "E_DEADLINE", "{late}");
    }
    place.stop(&[]);
    let (code, said) = running.end();
    assert_eq!(code, 7, "{said}");
    assert!(said.contains(" of `counter` are unknown"), "{said}");
    let answers = waiting.into_iter().map(|answer| answer.join().unwrap());
    let (told, untold): (Vec<_>, Vec<_>) = answers.partition(|a| a["outcome"] == "committed");
    assert!(!told.is_empty() && !untold.is_empty(), "{told:?} {untold:?}");
    assert!(untold.iter().all(|answer| answer.is_null() || answer["outcome"] == "unknown"));
}

#[test]
fn s3_14_a_stop_needs_no_control_plane_and_one_that_hangs_ends_the_host() {
    let hang = ["--fail-at", "control-plane:1:hang"];
    let place = Place::new();
    let mut running = place.run(&["counter"], &hang);
    let health = place.host(&["health"]);
    assert_eq!(health.status.code(), Some(9));
    let (code, line) = place.stop(&[]);
    assert_eq!((code, &line["code"]), (0, &json!(0)));
    assert_eq!(running.end().0, 0);
    let place = Place::new();
    let mut running = place.run(&["counter"], &[&hang[..], &["--watch-slack", "2s"]].concat());
    let (code, said) = running.end();
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("error[E_STUCK]: the thread `api` has not turned for"), "{said}");
}

/// The longest that everything may take, save what the watchdog allows: some ten seconds.
const SHORT: [&str; 4] = ["--stop-grace", "1ms", "--watch-slack", "3s"];

#[test]
fn s3_14_when_the_main_loop_hangs_the_watchdog_is_the_last_resort() {
    let place = Place::new();
    let hang = [&SHORT[..], &["--fail-at", "main-loop:1:hang"]].concat();
    let mut running = place.begin(&["counter"], &hang);
    let (code, said) = running.end();
    assert_eq!(code, 6, "{said}");
    let expected = "emergency E_STUCK (the thread `main` has not turned for";
    assert!(said.contains("error[E_STOP_FORCED]: the stop did not end within"), "{said}");
    assert!(said.contains(expected), "{said}");
    // Nobody cleared up, save the next start.
    let mut running = place.run(&["counter"], &[]);
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn s3_14_when_a_stop_hangs_the_watchdog_is_the_last_resort() {
    let place = Place::new();
    let hang = [&SHORT[..], &["--fail-at", "during-stop:1:hang"]].concat();
    let mut running = place.run(&["counter"], &hang);
    let (code, line) = place.stop(&[]);
    assert_eq!((code, &line["code"]), (1, &Value::Null));
    let (code, said) = running.end();
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("error[E_STOP_FORCED]: the stop did not end within"), "{said}");
    assert!(said.contains(": asked for"), "{said}");
}
