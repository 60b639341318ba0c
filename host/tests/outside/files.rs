//! Files that are none, where a client or a person names one or where the host keeps its own.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use super::crowds::{LONG, crowd};
use super::rig::{Place, Running, guest};

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// A file that takes no place on the disk.
fn sparse(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}

fn refused(place: &Place, words: &[&str], code: &str, blame: &str) {
    let output = place.host(words);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    assert!(said.contains(&format!("error[{code}]")), "{words:?}: {said}");
    assert!(said.contains(&format!("blame: {blame}")), "{words:?}: {said}");
}

/// Most memory that a process has had, in bytes.
fn peak(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn what_a_client_names_is_a_file_of_a_size_for_which_there_is_room() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &["--memory", "200MiB"]);
    let at = |name: &str| place.0.path().join(name);
    pipe(&at("pipe"));
    fs::create_dir(at("directory")).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    sparse(&at("endless"), 1 << 42);
    sparse(&at("large"), 1 << 30);
    for (path, restore, upgrade) in [
        ("pipe", "E_FILE_REFUSED", "E_FILE_REFUSED"),
        ("directory", "E_FILE_REFUSED", "E_FILE_REFUSED"),
        ("socket", "E_FILE_REFUSED", "E_FILE_REFUSED"),
        ("/dev/zero", "E_FILE_REFUSED", "E_FILE_REFUSED"),
        ("endless", "E_SNAPSHOT", "E_MODULE_TOO_LARGE"),
        ("large", "E_BUDGET", "E_MODULE_TOO_LARGE"),
        ("missing", "E_FILE", "E_FILE"),
    ] {
        let blame = |code| match code {
            "E_FILE_REFUSED" => "caller",
            "E_MODULE_TOO_LARGE" => "guest",
            _ => "operator",
        };
        refused(&place, &["restore", path, "--as", "copy"], restore, blame(restore));
        refused(&place, &["restore", path, "--into", "counter"], restore, blame(restore));
        refused(&place, &["upgrade", "counter", path], upgrade, blame(upgrade));
    }
    assert!(peak(&running) < 1 << 30, "nothing of it was read: {}", peak(&running));
    // More of them than there are places.
    let path = at("pipe");
    let asked = json!({ "restore": { "path": path, "as": "copy" } });
    for client in crowd(&place, format!("{asked}\n").as_bytes()) {
        client.set_read_timeout(Some(LONG)).unwrap();
        let mut line = String::new();
        // Some are let go of.
        drop(std::io::BufRead::read_line(&mut std::io::BufReader::new(client), &mut line));
        let answer: Value = serde_json::from_str(&line).unwrap_or_default();
        let code = answer["error"]["code"].as_str().unwrap_or("E_QUEUE_FULL");
        assert!(["E_FILE_REFUSED", "E_QUEUE_FULL"].contains(&code), "{answer}");
    }
    assert!(place.host(&["snapshot", "counter", "--out", "good"]).status.success());
    assert!(place.host(&["restore", "good", "--as", "copy", "--budget", "2MiB"]).status.success());
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn a_start_and_its_commands_wait_for_no_pipe() {
    let place = Place::new();
    let at = |name: &str| place.0.path().join(name);
    pipe(&at("pipe.wasm"));
    pipe(&at("pipe.toml"));
    for words in [
        &["run", "pipe.wasm"][..],
        &["inspect", "pipe.wasm"],
        &["run", "pipe.toml"],
        &["validate", "pipe.toml"],
    ] {
        let output = place.host(words);
        let said = format!("{output:?}");
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains("not a regular file"), "{words:?}: {said}");
    }
}

#[test]
fn a_snapshot_takes_the_place_of_a_regular_file_alone_and_never_of_the_hosts_own() {
    let place = Place::new();
    let mut running = place.run(&["counter", "rates"], &[]);
    let at = |name: &str| place.0.path().join(name);
    assert!(place.host(&["call", "counter", "increment", "by=3"]).status.success());
    assert!(place.host(&["call", "rates", "set", "currency=EUR", "rate=10"]).status.success());
    pipe(&at("pipe"));
    fs::create_dir(at("directory")).unwrap();
    symlink(at("bulkhead-data/log"), at("link")).unwrap();
    symlink(at("bulkhead-data"), at("linked")).unwrap();
    symlink("/dev/null", at("device")).unwrap();
    fs::write(at("file"), "before").unwrap();
    let targets = [
        "bulkhead-data/log",
        "bulkhead-data/bulkhead.data",
        "bulkhead-data/lock",
        "bulkhead-data/state.redb",
        "bulkhead-data/acked",
        "bulkhead-data/new",
        "linked/log",
        "directory/../bulkhead-data/log",
        "link",
        "pipe",
        "directory",
        "device",
        "run/host.sock",
    ];
    for target in targets {
        for words in [["snapshot", "counter", "-o", target], ["output", "rates", "-o", target]] {
            refused(&place, &words, "E_FILE_REFUSED", "caller");
        }
    }
    fs::hard_link(at("bulkhead-data/log"), at("second")).unwrap();
    for target in ["file", "new", "second"] {
        for words in [["output", "rates", "-o", target], ["snapshot", "counter", "-o", target]] {
            let output = place.host(&words);
            assert!(output.status.success(), "{words:?}: {output:?}");
        }
        assert!(fs::read(at(target)).unwrap().starts_with(b"BKSN"), "{target}");
    }
    let parts = fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().path());
    let parts = parts.filter(|path| path.extension().is_some_and(|it| it == "part"));
    assert_eq!(parts.count(), 0);
    running.child.kill().unwrap();
    running.end();
    // A directory that no host uses says itself what it is.
    for target in ["bulkhead-data/log", "linked/new"] {
        let words = ["snapshot", "counter", "-o", target, "--data", "bulkhead-data"];
        refused(&place, &words, "E_FILE_REFUSED", "caller");
    }
    let words = ["snapshot", "counter", "-o", "file", "--data", "bulkhead-data"];
    assert!(place.host(&words).status.success());
    let mut running = place.run(&["counter", "rates"], &[]);
    let value = place.host(&["call", "counter", "value"]);
    assert_eq!(String::from_utf8(value.stdout).unwrap(), "3\n", "what was acknowledged is there");
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}

#[test]
fn a_pipe_among_the_hosts_own_files_keeps_no_start_waiting() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &[]);
    assert_eq!(place.stop(&[]).0, 0);
    running.end();
    for name in ["log", "bulkhead.data", "acked", "lock", "state.redb"] {
        let (path, aside) = (place.0.path().join("bulkhead-data").join(name), "aside");
        let aside = place.0.path().join(aside);
        fs::rename(&path, &aside).unwrap();
        pipe(&path);
        let guest = guest("counter");
        for words in [&["run", &guest][..], &["ps", "--data", "bulkhead-data"]] {
            refused(&place, words, "E_DATA_DIR", "operator");
        }
        fs::rename(&aside, &path).unwrap();
    }
    // In the cache it is as if it were not there.
    let cache = place.0.path().join("cache");
    let entries: Vec<_> =
        fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(entries.len() >= 2, "{entries:?}");
    for entry in &entries {
        fs::remove_file(entry).unwrap();
        pipe(entry);
    }
    let mut running = place.run(&["counter"], &[]);
    for entry in &entries {
        let is_made_anew = fs::symlink_metadata(entry).unwrap().is_file();
        assert!(is_made_anew, "{}", entry.display());
    }
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}
