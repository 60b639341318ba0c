//! Directories that are not what they should be are refused, with the path and what to do.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::backend::Files;
use super::super::directory::{Access, Directory, DirectoryFiles};
use super::super::{DirectoryId, Durability, FaultKind, Journal, JournalFault};
use super::{
    Dice, Disk, Failure, ID, Origin, PARTS_MAX, Player, Store, StoreOptions, Tended, Which, daemon,
    group, players, small,
};

fn open(path: &Path) -> Result<Store, JournalFault> {
    Store::open(path, StoreOptions::default(), ID)
}

/// A directory with one commit in it.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let mut players = players(&store, 1);
    group(&store, &mut players, &mut Dice(1)).unwrap();
    directory
}

#[test]
fn a_directory_keeps_its_id_and_its_state() {
    let directory = directory();
    let store = Store::open(directory.path(), StoreOptions::default(), DirectoryId(99)).unwrap();
    assert_eq!(store.id(), ID);
    assert!(store.verify().is_good());
    assert_eq!(store.daemons().len(), 1);
    let second = open(directory.path()).unwrap_err();
    assert_eq!(second.kind, FaultKind::Locked);
    assert!(second.what.contains(&std::process::id().to_string()), "{second}");
    drop(store);
    open(directory.path()).unwrap();
}

/// The files that are written are locked themselves: what is beside them anybody may delete.
#[test]
fn s4_10_a_second_host_is_refused_whatever_was_deleted_beside_the_files() {
    let deleted: [(&[&str], _); 3] = [
        (&["lock"], FaultKind::Locked),
        (&["bulkhead.data"], FaultKind::Locked),
        (&["lock", "bulkhead.data"], FaultKind::Directory),
    ];
    for (names, kind) in deleted {
        let directory = directory();
        let store = open(directory.path()).unwrap();
        for name in names {
            fs::remove_file(directory.path().join(name)).unwrap();
        }
        let before = contents(directory.path());
        let second = open(directory.path()).unwrap_err();
        assert_eq!(second.kind, kind, "{names:?}: {second}");
        let after = contents(directory.path());
        assert!(before == after, "{names:?}: the second one has written");
        drop(store);
    }
    // While the first one is being made.
    let made = tempfile::tempdir().unwrap();
    let directory = Directory::lock(made.path(), Access::Write).unwrap();
    let (durability, traffic, reads) = (Durability::Fsync, Default::default(), Default::default());
    let files = DirectoryFiles { directory, durability, traffic, reads };
    let state = files.open(Which::State, false).unwrap();
    state.set_len(4096).unwrap();
    fs::remove_file(made.path().join("lock")).unwrap();
    assert_eq!(open(made.path()).unwrap_err().kind, FaultKind::Locked);
    assert_eq!(state.len().unwrap(), 4096);
}

/// Name and content of all files but the lock.
pub(super) fn contents(path: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let entries = entries.filter(|entry| entry.file_name() != "lock");
    let mut all: Vec<_> =
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect();
    all.sort();
    all
}

/// What happens to a directory behind the host's back, and what puts it right again.
type Blow = (&'static str, fn(&Path), fn(&Path));

const BLOWS: [Blow; 6] = [
    (
        "moved",
        |dir| fs::rename(dir, aside(dir)).unwrap(),
        |dir| {
            fs::rename(aside(dir), dir).unwrap();
        },
    ),
    (
        "replaced",
        |dir| {
            fs::rename(dir, aside(dir)).unwrap();
            drop(open(dir).unwrap());
        },
        |dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::rename(aside(dir), dir).unwrap();
        },
    ),
    ("log", |dir| swap(dir, "log"), |dir| swap(dir, "log")),
    ("state.redb", |dir| swap(dir, "state.redb"), |dir| swap(dir, "state.redb")),
    ("acked", |dir| swap(dir, "acked"), |dir| swap(dir, "acked")),
    ("deleted", |dir| fs::remove_dir_all(dir).unwrap(), |_| {}),
];

fn aside(dir: &Path) -> PathBuf {
    dir.with_extension("aside")
}

/// Puts a file aside, or back.
fn swap(dir: &Path, name: &str) {
    let (here, there) = (dir.join(name), aside(&dir.join(name)));
    let (from, to) = if here.exists() { (here, there) } else { (there, here) };
    fs::rename(from, to).unwrap();
}

#[test]
fn d10_a_directory_that_is_gone_takes_no_commit_and_goes_on_when_it_is_back() {
    for (what, strike, heal) in BLOWS {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let store = open(&dir).unwrap();
        let mut all = players(&store, 1);
        let mut dice = Dice(3);
        group(&store, &mut all, &mut dice).unwrap();
        strike(&dir);
        if matches!(what, "state.redb" | "acked") {
            // The log is there, so commits may go on in it; nothing leaves it.
            assert_eq!(store.tend().unwrap_err().kind, FaultKind::Directory, "{what}");
            assert_eq!(store.drain().unwrap_err().kind, FaultKind::Directory, "{what}");
            assert!(store.log().unwrap().span().used() > 0);
        } else {
            let fault = group(&store, &mut all, &mut dice).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Directory, "{what}: {fault}");
            assert!(!fault.unknown() && fault.to_string().contains("put it back"), "{fault}");
            assert_eq!(store.refusal().unwrap().kind, FaultKind::Poisoned, "{what}");
            all[0].rewind(1);
        }
        heal(&dir);
        if what == "deleted" {
            assert!((0..3).all(|_| store.tend().is_err()));
            assert!(!dir.exists(), "it was made anew");
            continue;
        }
        while store.tend().unwrap() != Tended::Idle {}
        assert!(store.refusal().is_none(), "{what}");
        group(&store, &mut all, &mut dice).unwrap();
        drop(store);
        let store = open(&dir).unwrap();
        assert_eq!(all[0].load(&store).unwrap().unwrap().sequence.0, 1, "{what}");
    }
}

#[test]
fn d6_a_file_of_acknowledgements_that_was_emptied_is_damage() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, Option<FaultKind>); 6] = [
        ("emptied", Vec::clear, Some(FaultKind::Directory)),
        ("zeros", |acked| acked.fill(0), Some(FaultKind::Directory)),
        ("half of the head", |acked| acked[..64].fill(0), None),
        ("cut", |acked| acked.truncate(200), Some(FaultKind::Corrupt)),
        ("a place of zeros", |acked| acked[128..256].fill(0), Some(FaultKind::Corrupt)),
        ("nothing", |_| {}, None),
    ];
    for (what, damage, expected) in damages {
        let directory = directory();
        let path = directory.path().join("acked");
        let mut acked = fs::read(&path).unwrap();
        assert_eq!(acked.len(), 256);
        damage(&mut acked);
        fs::write(&path, acked).unwrap();
        let found = open(directory.path()).and_then(|store| {
            let report = store.verify();
            assert_eq!(report.is_good(), expected.is_none(), "{what}: {report:?}");
            let [only] = report.daemons.try_into().expect("one daemon");
            only.found
        });
        assert_eq!(found.map_err(|fault| fault.kind).err(), expected, "{what}");
    }
}

/// Without space for its place a new daemon can't be; the others notice nothing.
#[test]
fn r8_a_new_name_that_finds_no_space_is_nobody_elses_failure() {
    for file in [Which::Acked, Which::State] {
        let disk = Disk::default();
        let store = disk.open(small(), false).unwrap();
        let mut all = players(&store, 2);
        let mut dice = Dice(13);
        group(&store, &mut all, &mut dice).unwrap();
        let kind = ErrorKind::StorageFull;
        let full = Failure { at: 0, forever: true, kind, short: false, file: Some(file) };
        disk.0.lock().unwrap().failure = Some(full);
        for _ in 0..3 {
            let made = store.daemon("copy", Origin::Copy, 1 << 20);
            assert!(made.is_err_and(|fault| fault.kind == FaultKind::Full), "{file:?}");
            assert!(store.refusal().is_none() && store.find_daemon("copy").is_none());
            if file == Which::State {
                group(&store, &mut all, &mut dice).unwrap();
            }
        }
        disk.0.lock().unwrap().failure = None;
        drop(store.tend());
        group(&store, &mut all, &mut dice).unwrap();
        all.push(Player::new(daemon(&store, 2)));
        group(&store, &mut all, &mut dice).unwrap();
        drop(store);
        let store = Disk::of(disk.files()).open(small(), true).unwrap();
        assert!(store.verify().is_good(), "{file:?} {:?}", store.verify());
        assert!(all.iter().all(|player| player.load(&store).unwrap().is_some()));
    }
}

#[test]
fn lost_state_is_never_made_anew() {
    for (name, kind) in [("state.redb", FaultKind::Directory), ("acked", FaultKind::Directory)] {
        let directory = directory();
        fs::remove_file(directory.path().join(name)).unwrap();
        let fault = open(directory.path()).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.to_string().contains(&directory.path().display().to_string()), "{fault}");
        assert!(!directory.path().join(name).exists());
    }
    let emptied = directory();
    fs::write(emptied.path().join("state.redb"), b"").unwrap();
    assert_eq!(open(emptied.path()).unwrap_err().kind, FaultKind::Directory);
    let unmarked = directory();
    fs::remove_file(unmarked.path().join("bulkhead.data")).unwrap();
    assert_eq!(open(unmarked.path()).unwrap_err().kind, FaultKind::Directory);
}

#[test]
fn foreign_directories_and_formats_are_refused() {
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("notes.txt"), b"mine").unwrap();
    let fault = open(foreign.path()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Directory);
    assert!(fault.what.contains("notes.txt"), "{fault}");
    assert_eq!(fs::read_dir(foreign.path()).unwrap().count(), 1, "nothing was added");

    let newer = directory();
    let marker = newer.path().join("bulkhead.data");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, text.replace("format 1", "format 2")).unwrap();
    assert_eq!(open(newer.path()).unwrap_err().kind, FaultKind::Format);
    fs::write(&marker, "x").unwrap();
    assert_eq!(open(newer.path()).unwrap_err().kind, FaultKind::Corrupt);

    let (one, other) = (directory(), tempfile::tempdir().unwrap());
    drop(Store::open(other.path(), StoreOptions::default(), DirectoryId(8)).unwrap());
    fs::copy(other.path().join("state.redb"), one.path().join("state.redb")).unwrap();
    let fault = open(one.path()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Directory, "{fault}");
}

/// A pipe that nobody writes to keeps whoever opens it waiting, and so does reading one that was
/// opened for both.
#[test]
fn what_is_no_regular_file_is_refused_and_keeps_no_start_waiting() {
    for name in ["bulkhead.data", "lock", "log", "state.redb", "acked"] {
        for kind in [FileType::Fifo, FileType::Directory] {
            let directory = directory();
            let path = directory.path().join(name);
            fs::remove_file(&path).unwrap();
            match kind {
                FileType::Fifo => mknodat(CWD, &path, kind, Mode::RUSR | Mode::WUSR, 0).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            for reads in [true, false] {
                let opened = match reads {
                    true => Store::open_to_read(directory.path(), StoreOptions::default()),
                    false => open(directory.path()),
                };
                let fault = opened.unwrap_err();
                assert_eq!(fault.kind, FaultKind::Directory, "{name}, reads: {reads}: {fault}");
                assert_eq!(fault.file.as_deref(), Some(path.as_path()), "{fault}");
                assert!(fault.what.contains("not a regular file"), "{name}: {fault}");
            }
            assert_eq!(fs::symlink_metadata(&path).unwrap().is_dir(), kind == FileType::Directory);
        }
    }
    // And those of a directory that is only being made.
    for name in ["state.redb.new", "bulkhead.data.new", "lock", "log", "acked"] {
        let begun = tempfile::tempdir().unwrap();
        let path = begun.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let fault = open(begun.path()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Directory, "{name}: {fault}");
    }
}

#[test]
fn a_creation_that_was_cut_short_is_finished_or_begun_again() {
    let renamed = directory();
    let marker = renamed.path().join("bulkhead.data");
    fs::rename(&marker, renamed.path().join("bulkhead.data.new")).unwrap();
    assert_eq!(open(renamed.path()).unwrap().daemons().len(), 1);
    let begun = tempfile::tempdir().unwrap();
    fs::write(begun.path().join("state.redb.new"), b"half").unwrap();
    fs::write(begun.path().join("bulkhead.data.new"), b"").unwrap();
    assert!(open(begun.path()).unwrap().daemons().is_empty());
}

/// Files of two times in one directory: all commits, or an error; never silently fewer. A whole
/// directory of an earlier time can't be told from one that was never newer.
#[test]
fn d10_files_of_an_old_backup_beside_new_ones_are_never_taken_for_the_state() {
    let (old, new) = (directory(), tempfile::tempdir().unwrap());
    for entry in fs::read_dir(old.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, new.path().join(path.file_name().unwrap())).unwrap();
    }
    let store = open(new.path()).unwrap();
    let mut player = Player::new(store.find_daemon("daemon-0").unwrap().key);
    player.steps(PARTS_MAX, &mut Dice(1));
    let mut dice = Dice(17);
    for round in 0..20 {
        group(&store, std::slice::from_mut(&mut player), &mut dice).unwrap();
        if round == 10 {
            store.drain().unwrap();
        }
    }
    drop(store);
    let names = ["state.redb", "log", "acked"];
    let (mut whole, mut refused) = (0, 0);
    // An old log with acknowledgements of its time, beside newer tables, is what a power cut leaves
    // of a disk that lies.
    for mix in 1..6 {
        let mixed = tempfile::tempdir().unwrap();
        fs::copy(new.path().join("bulkhead.data"), mixed.path().join("bulkhead.data")).unwrap();
        for (bit, name) in names.into_iter().enumerate() {
            let from = if mix & (1 << bit) == 0 { &new } else { &old };
            fs::copy(from.path().join(name), mixed.path().join(name)).unwrap();
        }
        let found = open(mixed.path()).and_then(|store| player.load(&store));
        match found {
            Ok(Some(loaded)) if loaded.sequence.0 == 20 => whole += 1,
            Ok(found) => panic!("mix {mix:03b}: silently {found:?}"),
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Corrupt, "mix {mix:03b}: {fault}");
                refused += 1;
            }
        }
    }
    assert!(whole > 0 && refused > 1, "{whole} {refused}");
}
