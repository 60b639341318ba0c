//! Whose files, directories and sockets these are, and who may use them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::rig::{HOST, Place, Running, guest};

/// Another user.
const OTHER: u32 = 65_522;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("NOT TESTED: only root can be another user");
    }
    is_root
}

/// A host that would let others do anything, by its user's settings.
fn careless(place: &Place) -> Running {
    let mut command = Command::new("sh");
    let words = "umask 0; exec \"$0\" run \"$1\" --output json";
    command.arg("-c").arg(words).arg(HOST).arg(guest("counter")).current_dir(place.0.path());
    command.env("BULKHEAD_SOCKET", place.socket()).process_group(0).stdin(Stdio::null());
    command.env("BULKHEAD_CACHE_DIR", place.0.path().join("cache"));
    Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn what_a_host_makes_is_its_users_alone_from_its_first_moment() {
    let place = Place::new();
    let mut running = careless(&place);
    let first = loop {
        if let Ok(facts) = fs::symlink_metadata(place.socket()) {
            break facts;
        }
    };
    assert!(first.file_type().is_socket());
    assert_eq!(first.permissions().mode() & 0o777, 0o600);
    running.greeting();
    let snapshot = place.0.path().join("file");
    // What is in the way of it may be anybody's.
    let elsewhere = place.0.path().join("elsewhere");
    fs::write(&elsewhere, "kept").unwrap();
    symlink(&elsewhere, place.0.path().join("file.part")).unwrap();
    let words = ["snapshot", "counter", "--out", snapshot.to_str().unwrap()];
    let output = place.host(&words);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
    assert_eq!(mode(&snapshot), 0o600);
    for directory in [place.0.path().join("bulkhead-data"), place.socket().parent().unwrap().into()]
    {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
    assert_eq!(place.stop(&[]).0, 0);
    running.end();
}

#[test]
fn state_that_others_can_write_is_refused() {
    let place = Place::new();
    let mut running = place.run(&["counter"], &[]);
    assert_eq!(place.stop(&[]).0, 0);
    running.end();
    let data = place.0.path().join("bulkhead-data");
    let paths: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() >= 4, "{paths:?}");
    let refused = |what: &Path| {
        let (code, said) = place.begin(&["counter"], &[]).end();
        assert_eq!(code, 1, "{}: {said}", what.display());
        assert!(said.contains("error[E_DATA_DIR]"), "{}: {said}", what.display());
    };
    for path in paths.iter().chain([&data]) {
        let before = mode(path);
        set_mode(path, before | 0o020);
        refused(path);
        set_mode(path, before);
    }
    if is_root() {
        chown(&data, Some(OTHER), None).unwrap();
        refused(&data);
        chown(&data, Some(0), None).unwrap();
    }
    let mut running = place.run(&["counter"], &[]);
    assert_eq!(place.stop(&[]).0, 0);
    running.end();
}

#[test]
fn a_directory_that_somebody_else_made_is_neither_used_nor_believed() {
    let place = Place::new();
    let run = place.socket().parent().unwrap().to_owned();
    fs::create_dir(&run).unwrap();
    set_mode(&run, 0o777);
    for words in [&["ps"][..], &["stop"], &["health"]] {
        let output = place.host(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("is not a directory of this user alone"), "{words:?}: {said}");
    }
    let (code, said) = place.begin(&["counter"], &[]).end();
    assert!(code == 1 && said.contains("error[E_SOCKET]"), "{said}");
}

/// Does what [`another_user_is_let_go_of_whatever_the_modes_let_through`] needs another user for.
#[test]
#[ignore = "run by another test, as another user"]
fn as_another_user() {
    use std::io::{Read, Write};
    let socket = std::env::var_os("BULKHEAD_SOCKET").unwrap();
    let mut stream = UnixStream::connect(socket).unwrap();
    drop(stream.write_all(format!("{}\n", json!({ "ps": {} })).as_bytes()));
    let mut text = String::new();
    drop(stream.read_to_string(&mut text));
    assert_eq!(text, "");
}

#[test]
fn another_user_is_let_go_of_whatever_the_modes_let_through() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let _running = place.run(&["counter"], &[]);
    set_mode(place.0.path(), 0o755);
    set_mode(place.socket().parent().unwrap(), 0o755);
    set_mode(&place.socket(), 0o666);
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--ignored", "--exact", "owners::as_another_user"]).uid(OTHER).gid(OTHER);
    let output = other.env("BULKHEAD_SOCKET", place.socket()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // Nor does a command of that user believe a host which is not its own.
    for words in [&["ps"][..], &["stop"], &["call", "counter", "increment", "by=1"]] {
        let mut command = place.command(words);
        let output = command.uid(OTHER).gid(OTHER).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("is not a directory of this user alone"), "{words:?}: {said}");
    }
    assert!(place.host(&["ps"]).status.success());
}

#[test]
fn root_can_ask_and_stop_the_host_of_another_user() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    chown(place.0.path(), Some(OTHER), Some(OTHER)).unwrap();
    let mut command = place.command(&["run", &guest("counter"), "--output", "json"]);
    command.uid(OTHER).gid(OTHER).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::of(command.spawn().unwrap());
    running.greeting();
    assert!(place.host(&["ps"]).status.success());
    assert_eq!(place.stop(&[]).0, 0);
    assert_eq!(running.end().0, 0);
}
