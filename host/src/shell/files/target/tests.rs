use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::Barrier;

use rustix::fs::mknodat;
use rustix::process::geteuid;

use super::*;

fn write(path: &Path, data: Option<&Path>, bytes: &[u8]) -> Result<(), Fault> {
    Target::at(path, data)?.write(|file| file.write_all(bytes))
}

fn names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

fn make(path: &Path, kind: FileType, device: u64) -> rustix::io::Result<()> {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device)
}

#[test]
fn only_a_regular_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("other"), "other").unwrap();
    symlink(at("other"), at("link")).unwrap();
    symlink(at("none"), at("dangling")).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    make(&at("pipe"), FileType::Fifo, 0).unwrap();
    let mut kinds = vec![
        ("directory", "it is a directory"),
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("socket", "it is a socket"),
        ("pipe", "named pipe"),
        ("directory/..", "it is a directory"),
    ];
    // The device that is /dev/null, under another name.
    let is_made = || make(&at("device"), FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    if geteuid().is_root() && is_made().is_ok() {
        kinds.push(("device", "it is a device"));
    }
    let before = names(dir.path());
    let facts = |name: &str| fs::symlink_metadata(at(name)).unwrap();
    for (name, what) in kinds {
        let (kind, node) = (facts(name).file_type(), facts(name).ino());
        let refused = write(&at(name), None, b"state").unwrap_err();
        assert_eq!(refused.code, Code::FileRefused, "{name}: {refused}");
        assert!(refused.message.contains(what), "{name}: {refused}");
        assert_eq!((facts(name).file_type(), facts(name).ino()), (kind, node), "{name}");
    }
    assert_eq!(names(dir.path()), before, "nothing is left");
    assert_eq!(fs::read(at("other")).unwrap(), b"other");
    // What is regular goes, and what else has its content stays.
    fs::hard_link(at("other"), at("second")).unwrap();
    write(&at("second"), None, b"state").unwrap();
    assert_eq!((fs::read(at("other")).unwrap(), fs::read(at("second")).unwrap()), {
        (b"other".to_vec(), b"state".to_vec())
    });
    write(&at("new"), None, b"state").unwrap();
    assert_eq!(facts("new").permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_put_there_meanwhile_is_not_replaced_either() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let target = Target::at(&path, None).unwrap();
    let refused = target.write(|_| make(&path, FileType::Fifo, 0).map_err(Into::into)).unwrap_err();
    assert_eq!(refused.code, Code::FileRefused, "{refused}");
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn nothing_is_written_into_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, marked) in [("own", false), ("others", true)] {
        fs::create_dir_all(at(name).join("below/more")).unwrap();
        fs::write(at(name).join("log"), "commits").unwrap();
        fs::write(at(name).join("lock"), "1").unwrap();
        if marked {
            fs::write(at(name).join(MARKER), "").unwrap();
        }
    }
    symlink(at("own"), at("link")).unwrap();
    let before = names(&at("own"));
    let own = at("own");
    for (directory, data) in [
        ("own", Some(&own)),
        ("link", Some(&own)),
        ("own/below/more/..", Some(&own)),
        ("own/below/more", Some(&own)),
        ("own", Some(&at("link"))),
        ("others", Some(&own)),
        ("others/below", None),
    ] {
        for file in ["log", "lock", MARKER, "new"] {
            let path = at(directory).join(file);
            let refused = write(&path, data.map(PathBuf::as_path), b"state").unwrap_err();
            assert_eq!(refused.code, Code::FileRefused, "{directory}/{file}: {refused}");
            assert!(refused.message.contains("data directory"), "{refused}");
        }
    }
    assert_eq!(names(&at("own")), before);
    assert_eq!(fs::read(at("own/log")).unwrap(), b"commits");
    // Beside it, and under another name of its file, which stays as it is.
    fs::hard_link(at("own/log"), at("second")).unwrap();
    write(&at("second"), Some(&own), b"state").unwrap();
    assert_eq!(fs::read(at("own/log")).unwrap(), b"commits");
    // Where there is none, nothing is in it.
    write(&at("file"), Some(&at("nowhere")), b"state").unwrap();
}

#[test]
fn files_that_are_written_to_one_place_at_once_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let begun = Barrier::new(8);
    std::thread::scope(|scope| {
        for writer in 0..8_u8 {
            let (path, begun) = (&path, &begun);
            scope.spawn(move || {
                let target = Target::at(path, None).unwrap();
                let written = target.write(|file| {
                    // All have their files now.
                    begun.wait();
                    (0..100).try_for_each(|_| file.write_all(&[writer; 1000]))
                });
                written.unwrap();
            });
        }
    });
    let found = fs::read(&path).unwrap();
    assert_eq!(found, vec![found[0]; 100_000]);
    assert_eq!(names(dir.path()), ["file"], "nothing is left");
}

#[test]
fn an_error_leaves_what_was_there_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "before").unwrap();
    let target = Target::at(&path, None).unwrap();
    let failed = target.write(|file| {
        file.write_all(b"half")?;
        assert_eq!(names(dir.path()).len(), 2);
        Err(Errno::NOSPC.into())
    });
    assert_eq!(failed.unwrap_err().code, Code::File);
    assert_eq!(names(dir.path()), ["file"]);
    assert_eq!(fs::read(&path).unwrap(), b"before");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        target.write(|_| panic!("a bug")).unwrap();
    }));
    assert!(panicked.is_err());
    assert_eq!(names(dir.path()), ["file"]);
    let nowhere = Target::at(&dir.path().join("nowhere/file"), None).unwrap_err();
    assert_eq!(nowhere.code, Code::File, "{nowhere}");
}
