//! Directories that are not what they should be are refused, with the path and what to do.

use std::fs;
use std::path::Path;

use super::super::{DirectoryId, FaultKind, JournalFault};
use super::{Dice, ID, Store, StoreOptions, group, players};

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
