//! Hosts that the system lets have little: each serves, or says what is missing. None panics,
//! aborts or blames somebody else.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::rig::{HOST, Place, Running, guest};

/// A user with nothing else on this machine, for limits that count what a user has.
const NOBODY: u32 = 65_521;

/// A user of that number for a test alone; none, said so, where that can't be.
fn nobody(number: u32) -> Option<u32> {
    if rustix::process::geteuid().is_root() {
        return Some(NOBODY + number);
    }
    // The system counts the threads of a user, of whom there are others.
    eprintln!("NOT TESTED: this needs a user of its own, which root alone can be");
    None
}

/// Starts a host after `first`, words of the shell, as another user if there is one.
fn begin(place: &Place, first: &str, user: Option<u32>) -> Child {
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{first}; exec \"$0\" run \"$1\" --output json"));
    command.arg(HOST).arg(guest("counter"));
    command.current_dir(place.0.path()).process_group(0).stdin(Stdio::null());
    for (name, value) in place.command(&[]).env("RUST_BACKTRACE", "0").get_envs() {
        command.env(name, value.unwrap());
    }
    if let Some(user) = user {
        std::os::unix::fs::chown(place.0.path(), Some(user), Some(user)).unwrap();
        command.uid(user).gid(user);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Starts a host under `ulimit` words, as another user if there is one, and has it do something.
/// Answers what it refused to start with; none when it served.
fn under(limit: &str, user: Option<u32>) -> Option<String> {
    let place = Place::new();
    let mut child = begin(&place, &format!("ulimit {limit}"), user);
    let mut greeting = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    let mut running = Running::of(child);
    if greeting.is_empty() {
        let (code, said) = running.end();
        assert_eq!(code, 1, "{limit}: {said}");
        return Some(said);
    }
    for words in [&["call", "counter", "increment", "by=1"][..], &["health"], &["stop"]] {
        let output = place.host(words);
        assert!(output.status.success(), "{limit} {words:?}: {output:?}");
    }
    let (code, said) = running.end();
    assert!(code == 0 && !said.contains("panicked"), "{limit}: {said}");
    None
}

/// Each of these limits, ascending: refused with one of these codes, then served.
fn sweep(option: &str, limits: &[u32], user: Option<u32>, codes: &[&str]) {
    let mut served = false;
    for limit in limits {
        match under(&format!("{option} {limit}"), user) {
            None => served = true,
            Some(said) => {
                assert!(!served, "{option} {limit}, and less was enough: {said}");
                let known = codes.iter().any(|code| said.contains(&format!("error[{code}]")));
                assert!(known && !said.contains("panicked"), "{option} {limit}: {said}");
            }
        }
    }
    assert!(served, "{option}");
}

#[test]
fn b13_few_descriptors_are_said_at_the_start_and_are_enough_after_that() {
    sweep("-n", &[8, 16, 22, 40, 63, 64, 65, 100], None, &["E_PROCESS_LIMIT"]);
}

#[test]
fn r3_b13_few_threads_are_said_at_the_start_and_are_enough_after_that() {
    let Some(user) = nobody(0) else { return };
    let threads = [1, 4, 8, 12, 16, 20, 24, 28, 31, 32, 33, 36, 48];
    sweep("-u", &threads, Some(user), &["E_PROCESS_LIMIT"]);
}

/// A host that has its threads, and gets no more than a few for what is begun later.
#[test]
fn r3_a_daemon_that_gets_no_thread_is_refused_and_the_others_go_on() {
    let Some(user) = nobody(1) else { return };
    let place = Place::new();
    let mut running = Running::of(begin(&place, "ulimit -u 45", Some(user)));
    running.greeting();
    let increment = |name: &str| {
        let output = place.host(&["call", name, "increment", "by=1"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let fork = |number: usize| place.host(&["fork", "counter", &format!("copy-{number}")]);
    let had = (0..60).take_while(|number| fork(*number).status.success()).count();
    assert!((1..60).contains(&had), "{had} copies");
    for _ in 0..2 {
        let said = String::from_utf8(fork(had).stderr).unwrap();
        assert!(said.contains("error[E_PROCESS_LIMIT]") && said.contains("no thread"), "{said}");
        increment("counter");
        assert!(place.host(&["health"]).status.success());
    }
    // One goes, and another one has its place: nothing was kept of those that were refused.
    assert!(place.host(&["remove", "copy-0"]).status.success());
    assert!(fork(had).status.success());
    assert_eq!(increment(&format!("copy-{had}")), increment("counter"), "it went on from there");
    assert_eq!(place.stop(&[]).0, 0);
    let (code, said) = running.end();
    assert!(code == 0 && !said.contains("panicked"), "{said}");
}

/// The limit is lowered while the host runs: what it began with is enough for all but new daemons.
#[test]
fn r3_a_host_that_gets_no_more_threads_answers_and_stops_in_order() {
    let Some(user) = nobody(2) else { return };
    let place = Place::new();
    let start = || {
        let mut running = Running::of(begin(&place, ":", Some(user)));
        running.greeting();
        running
    };
    let done = |words: &[&str]| {
        let output = place.host(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    let mut running = start();
    done(&["fork", "counter", "first"]);
    // Root may lack the right to limit others; the user may limit its own.
    let mut limit = Command::new("prlimit");
    limit.args(["--pid", &running.child.id().to_string(), "--nproc=1:1"]);
    assert!(limit.uid(user).gid(user).status().unwrap().success());
    // One that waits, and the others beside it.
    let waits = ["simulate-crash", "first", "--thread"];
    let mut waits =
        place.command(&waits).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for words in [
        &["history", "counter"][..],
        &["snapshot", "counter", "-o", "state"],
        &["pause", "counter"],
        &["resume", "counter"],
        &["call", "counter", "increment", "by=1"],
        &["revert", "counter", "--last", "1"],
        &["health"],
    ] {
        // A daemon without its thread is no reason to call the host unwell here.
        let output = place.host(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(words == ["health"] || output.status.success(), "{words:?}: {said}");
    }
    let refused = place.host(&["fork", "counter", "second"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("error[E_PROCESS_LIMIT]"), "{said}");
    waits.kill().unwrap();
    waits.wait().unwrap();
    assert_eq!(place.stop(&[]).0, 0);
    let (code, said) = running.end();
    assert!(code == 0 && !said.contains("panicked"), "{said}");
    // What was refused has left nothing, so that the one with the last id can go.
    let mut running = start();
    done(&["remove", "first"]);
    assert_eq!(place.stop(&[]).0, 0);
    running.end();
    let mut running = start();
    done(&["fork", "counter", "second"]);
    assert_eq!(place.stop(&[]).0, 0);
    running.end();
}

#[test]
fn b13_little_memory_is_said_and_nothing_is_begun_with_it() {
    let kibibytes = [8_000, 16_000, 33_000, 50_000, 60_000, 70_000, 80_000, 200_000];
    sweep("-d", &kibibytes, None, &["E_NO_MEM", "E_ENGINE"]);
    // Address space, of which each image takes four gibibytes.
    sweep("-v", &[200_000, 5_000_000, 10_000_000, 40_000_000], None, &["E_NO_MEM", "E_ENGINE"]);
}
