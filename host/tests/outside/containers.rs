//! Hosts in containers and units: as process 1, with numbers of their own, with little of `/proc`,
//! without a home, under a service manager, and with another program in place of their own.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::rig::{HOST, Place, Running, guest};

/// A shell's words that end in a host, in namespaces of their own; none where that is not allowed.
fn unshared(place: &Place, options: &[&str], words: &str) -> Option<Running> {
    let allowed = Command::new("unshare").args(options).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED: unshare {options:?} is not allowed here");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(options).arg("sh").arg("-c").arg(words).arg(HOST).arg(guest("counter"));
    for (name, value) in place.command(&[]).get_envs() {
        command.env(name, value.unwrap());
    }
    command.current_dir(place.0.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut running = Running::of(command.stderr(Stdio::piped()).spawn().unwrap());
    running.greeting();
    Some(running)
}

const RUN: &str = "exec \"$0\" run \"$1\" --output json";

fn serves_and_stops(place: &Place, mut running: Running) {
    for words in [&["call", "counter", "increment", "by=1"][..], &["ps"], &["health"]] {
        let output = place.host(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    let (code, line) = place.stop(&[]);
    assert_eq!((code, &line["code"]), (0, &serde_json::json!(0)), "{line}");
    assert_eq!(running.end().0, 0);
    assert_eq!(place.host(&["health"]).status.code(), Some(5));
}

/// The children of a process, with their states.
fn children(parent: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|p| fs::read_to_string(p.path().join("stat")).ok());
    let is_child = |stat: &String| {
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    stats.filter(is_child).collect()
}

#[test]
fn d26_as_process_1_it_waits_for_what_others_leave_and_is_stopped_from_outside() {
    let place = Place::new();
    // Forty children that the host never had.
    let orphans = "for n in $(seq 40); do (sleep 0.2 &) ; done; ".to_owned() + RUN;
    let options = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let Some(running) = unshared(&place, &options, &orphans) else { return };
    let host = children(running.child.id());
    let host: u32 = host[0].split(' ').next().unwrap().parse().unwrap();
    let mut left = children(host);
    for _ in 0..3000 {
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        left = children(host);
    }
    assert!(left.is_empty(), "{left:?}");
    // Its own children are waited for by those who want to know how they ended.
    let ledger = place.host(&["upgrade", "counter", &guest("ledger"), "--dry-run"]);
    let said = String::from_utf8(ledger.stderr).unwrap();
    assert!(said.contains("error[E_UPGRADE"), "{said}");
    serves_and_stops(&place, running);
}

#[test]
fn d26_a_proc_that_shows_processes_alone_is_enough() {
    let place = Place::new();
    let words = "mount -t proc -o subset=pid proc /proc && ".to_owned() + RUN;
    let Some(running) = unshared(&place, &["--mount"], &words) else { return };
    serves_and_stops(&place, running);
}

#[test]
fn d26_neither_a_home_nor_other_variables_are_needed() {
    let place = Place::new();
    let mut command = Command::new(HOST);
    command.args(["run", &guest("counter"), "--output", "json", "--socket"]).arg(place.socket());
    command.env_clear().current_dir(place.0.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut running = Running::of(command.stderr(Stdio::piped()).spawn().unwrap());
    running.greeting();
    serves_and_stops(&place, running);
}

#[test]
fn d26_a_service_manager_with_an_abstract_name_is_told() {
    let place = Place::new();
    let name = format!("bulkhead-outside-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut command = place.command(&["run", &guest("counter"), "--output", "json"]);
    command.env("NOTIFY_SOCKET", format!("@{name}")).stdout(Stdio::piped());
    let mut running = Running::of(command.stderr(Stdio::piped()).spawn().unwrap());
    running.greeting();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = [0; 100];
    let length = manager.recv(&mut text).unwrap();
    assert_eq!(&text[..length], b"READY=1\n");
    // A manager that does not look keeps nobody waiting.
    serves_and_stops(&place, running);
}

#[test]
fn d26_a_host_whose_program_was_replaced_goes_on_with_its_own() {
    let place = Place::new();
    let program = place.0.path().join("host");
    fs::copy(HOST, &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["run", &guest("counter"), "--output", "json", "--no-cache"]);
    command.env("BULKHEAD_SOCKET", place.socket()).current_dir(place.0.path());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::of(command.spawn().unwrap());
    running.greeting();
    for replaced in [Some("#!/bin/sh\necho another version >&2\nexit 1\n"), None] {
        replace(&program, replaced);
        // Its compiler is asked, and then says what is wrong with that upgrade.
        let ledger = place.host(&["upgrade", "counter", &guest("ledger"), "--dry-run"]);
        let said = String::from_utf8(ledger.stderr).unwrap();
        assert!(said.contains("error[E_UPGRADE"), "{said}");
    }
    serves_and_stops(&place, running);
}

/// As a package manager does it: another file under the name, or none.
fn replace(program: &Path, text: Option<&str>) {
    let Some(text) = text else { return fs::remove_file(program).unwrap() };
    let new = program.with_extension("new");
    fs::write(&new, text).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&new, executable).unwrap();
    fs::rename(new, program).unwrap();
}
