//! What is left of a host, who clears it, and who starts the next one.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::rig::{Place, Running, guest};

#[test]
fn s3_03_after_a_kill_the_next_start_clears_what_the_run_file_names_and_nothing_else() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &[]);
    let run = std::fs::read_to_string(place.file("run")).unwrap();
    let run: Value = serde_json::from_str(&run).unwrap();
    assert_eq!((&run["pid"], &run["state"]), (&json!(running.child.id()), &json!("running")));
    // Somebody asked it to stop, and it was killed before it saw that.
    running.signal(Signal::STOP);
    let ids = json!({
        "pid": run["pid"], "start_ticks": run["start_ticks"], "boot": run["boot"],
        "namespace": run["namespace"], "emergency": null,
    });
    std::fs::write(place.file("stop"), ids.to_string()).unwrap();
    running.signal(Signal::KILL);
    assert_eq!(running.end().0, -1);
    assert!(place.socket().exists());
    let mut running = place.run(&["counter"], &[]);
    assert!(!place.file("stop").exists());
    running.signal(Signal::KILL);
    running.end();
    std::fs::remove_file(place.socket()).unwrap();
    std::fs::write(place.socket(), "somebody's notes").unwrap();
    let mut refused = place.begin(&["counter"], &[]);
    let (code, said) = refused.end();
    assert_eq!(code, 1);
    assert!(said.contains("error[E_SOCKET]") && said.contains("was not made by a host"), "{said}");
    assert_eq!(std::fs::read_to_string(place.socket()).unwrap(), "somebody's notes");
}

#[test]
fn s4_10_a_second_host_is_refused_with_the_first_ones_pid() {
    let place = Place::new();
    let running = place.run(&["counter"], &[]);
    let (code, said) = place.begin(&["counter"], &[]).end();
    assert_eq!(code, 1);
    let expected = format!("another host, process {}, listens", running.child.id());
    assert!(said.contains("error[E_HOST_RUNNING]") && said.contains(&expected), "{said}");
}

/// Longest time from a start until the host says that it serves.
const START_MAX: Duration = Duration::from_secs(60);

/// What the unit says of something.
fn unit(of: &str) -> &'static str {
    let lines = include_str!("../../systemd/bulkhead.service").lines();
    let mut said = lines.filter_map(|line| line.strip_prefix(of)?.strip_prefix('='));
    said.next().unwrap_or_else(|| panic!("the unit says nothing of {of}"))
}

/// A service manager that does what the unit says, and which exit codes it saw.
fn managed(place: &Place, stops: &[&[&str]]) -> Vec<i32> {
    let notify = place.0.path().join("notify");
    let messages = UnixDatagram::bind(&notify).unwrap();
    messages.set_read_timeout(Some(START_MAX)).unwrap();
    let here = |word: &str| match word {
        "/var/lib/bulkhead" => place.0.path().join("data").display().to_string(),
        "/run/bulkhead/host.sock" => place.socket().display().to_string(),
        "/etc/bulkhead/guests/counter.wasm" => guest("counter"),
        word => word.to_owned(),
    };
    let (program, words) = unit("ExecStart").split_once(' ').unwrap();
    assert!(program.ends_with("/host"), "{program}");
    let words: Vec<String> = words.split(' ').map(here).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let pause = unit("RestartSec").strip_suffix('s').unwrap().parse().map(Duration::from_secs);
    let pause = pause.unwrap();
    assert!(pause < Duration::from_secs(3), "{pause:?}");
    let mut codes = Vec::new();
    for stop in stops {
        let mut command = place.command(&words);
        command.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "2000000");
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running::of(child);
        let message = || {
            let mut bytes = [0; 100];
            let length = messages.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
        };
        let until = |wanted: &str| while message() != wanted {};
        until("READY=1");
        until("WATCHDOG=1");
        assert_eq!(place.stop(stop).0, 0);
        until("STOPPING=1");
        let code = running.end().0;
        codes.push(code);
        let again = match unit("Restart") {
            "on-failure" => code != 0,
            "always" => true,
            other => panic!("Restart={other}"),
        };
        if !again {
            break;
        }
        std::thread::sleep(pause);
    }
    codes
}

#[test]
fn s3_05_a_manager_that_restarts_on_failure_restarts_after_an_emergency_and_not_after_a_stop() {
    let place = Place::new();
    let emergency: &[&str] = &["--emergency", "again"];
    assert_eq!(managed(&place, &[emergency, emergency, &[], &[]]), [6, 6, 0]);
}

#[test]
fn s3_02_s3_03_a_killed_host_takes_its_compiler_with_it() {
    let place = Place::new();
    let mut running = place.begin(&["sql"], &[]);
    // One that has read all of its input, and is at work: it would go on for seconds.
    let own = running.child.id().to_string();
    let works = |stat: &String| {
        let fields = stat.rsplit_once(')').unwrap().1;
        let ticks: u64 = fields.split_whitespace().nth(11).unwrap().parse().unwrap();
        !stat.starts_with(&own) && ticks > 20
    };
    while !running.group().iter().any(works) {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.signal(Signal::KILL);
    // Nothing that it started is left: that is part of each end.
    assert_eq!(running.end().0, -1);
}
