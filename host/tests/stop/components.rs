//! Threads of the host that die, and what goes on.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::rig::Place;

fn component(place: &Place, name: &str) -> Value {
    let ps = place.ask(&json!({ "ps": {} }));
    let components = ps["components"].as_array().unwrap();
    components.iter().find(|component| component["name"] == name).unwrap().clone()
}

#[test]
fn s3_04_the_control_plane_is_started_again_and_its_clients_stay() {
    for action in ["panic", "error"] {
        let place = Place::new();
        let fail = format!("accept-client:2:{action}");
        let mut running = place.run(&["counter"], &["--memory-only", "--fail-at", &fail]);
        let mut first = UnixStream::connect(place.socket()).unwrap();
        let mut lines = BufReader::new(first.try_clone().unwrap()).lines();
        let mut ask = |by: u64| {
            let call =
                json!({ "daemon": "counter", "contract": "increment", "args": { "by": by } });
            first.write_all(format!("{}\n", json!({ "call": call })).as_bytes()).unwrap();
            let line = lines.next().unwrap().unwrap();
            serde_json::from_str::<Value>(&line).unwrap()["value"].clone()
        };
        assert_eq!(ask(1), 1);
        // The one that is accepted just then is let go without an answer.
        let lost = place.call("counter", "increment", &json!({ "by": 100 }));
        assert_eq!(lost.join().unwrap(), Value::Null);
        let api = component(&place, "api");
        assert_eq!((&api["generation"], &api["restarts"]), (&json!(2), &json!(1)), "{action}");
        assert_eq!(api["last_exit"]["code"], "E_HOST_BUG");
        assert_eq!(place.ask(&json!({ "health": {} }))["health"]["state"], "ok");
        assert_eq!(ask(2), 3);
        assert_eq!(place.stop(&[]).0, 0);
        let (code, said) = running.end();
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("a fail point"), "{said}");
    }
}

#[test]
fn s3_04_s4_14_the_writer_of_crash_reports_is_started_again_and_writes_the_next() {
    let place = Place::new();
    let mut running = place.run(&["chaos"], &["--fail-at", "write-reports:1:panic"]);
    let die = || place.call("chaos", "die", &json!({ "how": "panic" })).join().unwrap();
    let kept = || place.ask(&json!({ "crashes": {} }))["crashes"].as_array().unwrap().len();
    assert_eq!(die()["outcome"], "crashed");
    place.until("started again", |_ps| component(&place, "crash-reports")["restarts"] == 1);
    assert_eq!(kept(), 0);
    // On another commit it is another crash.
    let touched = place.call("chaos", "touch", &json!({ "pages": 1 })).join().unwrap();
    assert_eq!(touched["outcome"], "committed");
    let second = die();
    assert_eq!(second["outcome"], "crashed");
    place.until("written", |_ps| kept() == 1);
    let shown = String::from_utf8(place.host(&["crashes"]).stdout).unwrap();
    let death = shown.lines().find(|line| line.contains("crash-reports")).unwrap();
    for word in ["thread 1", "E_HOST_BUG", "a fail point", "restarted at once"] {
        assert!(death.contains(word), "{death}");
    }
    assert!(shown.contains(second["error"]["crash"].as_str().unwrap()), "{shown}");
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn s4_14_a_daemons_thread_dies_on_purpose_and_nothing_is_lost() {
    let place = Place::new();
    let restarts = ["--restarts", "counter=1/3600s"];
    let mut running = place.run(&["counter", "ledger"], &restarts);
    let three = place.call("counter", "increment", &json!({ "by": 3 })).join().unwrap();
    assert_eq!(three["value"], 3);
    let said = |words: &[&str]| {
        let output = place.host(words);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    let (code, text) = said(&["simulate-crash", "counter", "--thread"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("commit 1,") && text.contains("generation 2"), "{text}");
    assert!(text.ends_with(", the same\n"), "{text}");
    let ps = place.ask(&json!({ "ps": {} }));
    let (counter, ledger) = (&ps["daemons"][0], &ps["daemons"][1]);
    assert_eq!((&counter["generation"], &counter["thread_deaths"]), (&json!(2), &json!(1)));
    assert_eq!(counter["last_exit"]["code"], "E_HOST_BUG");
    assert_eq!((&ledger["generation"], &ledger["thread_deaths"]), (&json!(1), &json!(0)));
    assert_eq!(place.ask(&json!({ "health": {} }))["health"]["state"], "ok");
    // One restart an hour: the second death is the end.
    let (code, text) = said(&["simulate-crash", "counter", "--thread"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("error[E_PARKED]") && text.contains("E_RESTARTS"), "{text}");
    let crashes = place.ask(&json!({ "crashes": { "daemon": "counter" } }));
    let then = crashes["thread_deaths"].as_array().unwrap().iter().map(|death| &death["then"]);
    assert_eq!(then.collect::<Vec<_>>(), ["restarted", "parked"]);
    assert_eq!(
        place.ask(&json!({ "crashes": { "daemon": "ledger" } }))["thread_deaths"],
        json!([])
    );
    let (code, text) = said(&["simulate-crash", "nobody", "--thread"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("E_DAEMON_UNKNOWN"), "{text}");
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}
