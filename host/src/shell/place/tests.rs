//! A place is had by one host at a time, and only what a dead one made is cleared.

use std::os::unix::net::UnixListener;

use super::*;

fn bound(socket: &Path) -> (Place, UnixListener) {
    let mut place = Place::claim(socket).unwrap();
    let listener = place.bind(|path| UnixListener::bind(path)).unwrap();
    (place, listener)
}

/// As after kill -9: files are there, the lock is not held, the process is gone.
fn killed(socket: &Path) {
    let (place, _listener) = bound(socket);
    let mut run = place.run.clone();
    run.process.start_ticks += 1;
    ask_to_stop(socket, &run.process, None).unwrap();
    replace(&run_path(socket), &run).unwrap();
}

#[test]
fn s4_10_a_second_host_is_refused_with_the_first_ones_pid() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("own").join("host.sock");
    let (first, _listener) = bound(&socket);
    let refused = Place::claim(&socket).unwrap_err();
    let pid = std::process::id().to_string();
    assert!(matches!(&refused, PlaceError::Taken { pid: shown, .. } if *shown == pid), "{refused}");
    // The same when somebody took the lock away from a host that lives.
    fs::remove_file(socket.with_extension("lock")).unwrap();
    assert!(matches!(Place::claim(&socket), Err(PlaceError::Taken { .. })));
    first.leave(0);
    assert!(!socket.exists());
    assert_eq!(look(&socket).unwrap().unwrap().code, Some(0));
    drop(bound(&socket));
}

#[test]
fn s3_03_what_a_dead_host_made_is_cleared_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("own").join("host.sock");
    killed(&socket);
    assert!(socket.exists() && stop_path(&socket).exists());
    let place = Place::claim(&socket).unwrap();
    assert!(!socket.exists() && !stop_path(&socket).exists());
    drop(place);

    // Another socket of the same name, made later by somebody else.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("own").join("host.sock");
    killed(&socket);
    let kept = socket.with_extension("kept");
    fs::rename(&socket, kept).unwrap();
    let foreign = UnixListener::bind(&socket).unwrap();
    assert!(matches!(Place::claim(&socket), Err(PlaceError::Foreign(_))));
    assert!(socket.exists());
    drop(foreign);
    // No file that no host wrote is taken for one.
    fs::remove_file(&socket).unwrap();
    fs::write(run_path(&socket), "pid 1").unwrap();
    assert!(matches!(Place::claim(&socket), Err(PlaceError::Foreign(_))));
    assert_eq!(fs::read_to_string(run_path(&socket)).unwrap(), "pid 1");
}

#[test]
fn s3_13_a_stop_file_asks_only_the_process_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("own").join("host.sock");
    let place = Place::claim(&socket).unwrap();
    assert_eq!(place.asked(), None);
    let mut other = place.run.process.clone();
    other.start_ticks -= 1;
    ask_to_stop(&socket, &other, None).unwrap();
    assert_eq!(place.asked(), None);
    fs::write(stop_path(&socket), "{").unwrap();
    assert_eq!(place.asked(), None);
    ask_to_stop(&socket, &place.run.process, Some("fire")).unwrap();
    assert_eq!(place.asked().unwrap().emergency.as_deref(), Some("fire"));
    place.leave(6);
    assert!(!stop_path(&socket).exists());
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Place::claim(&open.join("s")), Err(PlaceError::Open(_))));
}
