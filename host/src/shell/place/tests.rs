//! A place is had by one host at a time, and only what a dead one made is cleared.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

fn run_path(socket: &Path) -> PathBuf {
    socket.with_extension("run")
}

fn stop_path(socket: &Path) -> PathBuf {
    socket.with_extension("stop")
}

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
    place.directory.replace(&run_name(socket), &run).unwrap();
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
    let socket = open.join("host.sock");
    fs::write(run_path(&socket), "{}").unwrap();
    // By both sides.
    for mode in [0o777, 0o720, 0o702, 0o1777] {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Place::claim(&socket), Err(PlaceError::Open(_))), "{mode:o}");
        assert!(matches!(look(&socket), Err(PlaceError::Open(_))), "{mode:o}");
        assert!(matches!(owner(&socket), Err(PlaceError::Open(_))), "{mode:o}");
        let asked = ask_to_stop(&socket, &Process::this().unwrap(), None);
        assert!(matches!(asked, Err(PlaceError::Open(_))), "{mode:o}");
    }
    // What others can only see is as good.
    fs::remove_file(run_path(&socket)).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(look(&socket).unwrap(), None);
    Place::claim(&socket).unwrap();
}

#[test]
fn links_and_what_is_no_file_are_neither_read_nor_written_nor_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, kept) = (dir.path().join("own/host.sock"), dir.path().join("kept"));
    let place = Place::claim(&socket).unwrap();
    let process = place.run.process.clone();
    let run = fs::read_to_string(run_path(&socket)).unwrap();
    let new = |extension: &str| {
        let new = format!("host.{extension}.{}.new", std::process::id());
        socket.with_file_name(new)
    };
    // Where a file is going to be, and where it is made.
    for link in [stop_path(&socket), new("stop"), run_path(&socket), new("run")] {
        fs::write(&kept, &run).unwrap();
        drop(fs::remove_file(&link));
        symlink(&kept, &link).unwrap();
        ask_to_stop(&socket, &process, None).unwrap();
        place.note();
        assert_eq!(fs::read_to_string(&kept).unwrap(), run, "{}", link.display());
        assert!(fs::symlink_metadata(stop_path(&socket)).unwrap().is_file());
        assert!(fs::symlink_metadata(run_path(&socket)).unwrap().is_file());
    }
    let foreign = |found: &Result<Option<Run>, _>| matches!(found, Err(PlaceError::Foreign(_)));
    fs::remove_file(run_path(&socket)).unwrap();
    symlink(&kept, run_path(&socket)).unwrap();
    assert!(foreign(&look(&socket)), "a link");
    fs::remove_file(run_path(&socket)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        run_path(&socket),
        FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert!(foreign(&look(&socket)), "a pipe, which would keep its reader waiting");
    fs::remove_file(run_path(&socket)).unwrap();
    fs::write(run_path(&socket), &run).unwrap();
    fs::set_permissions(run_path(&socket), fs::Permissions::from_mode(0o622)).unwrap();
    assert!(foreign(&look(&socket)), "what others can write");
    drop(place);
    let lock = socket.with_extension("lock");
    fs::remove_file(&lock).unwrap();
    symlink(&kept, &lock).unwrap();
    assert!(matches!(Place::claim(&socket), Err(PlaceError::Foreign(_))));
    // A directory is reached through a link only where its owner, or root, made that.
    symlink(dir.path().join("own"), dir.path().join("other")).unwrap();
    assert!(foreign(&look(&dir.path().join("other/host.sock"))));
}
