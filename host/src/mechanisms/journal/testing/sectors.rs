//! Each sector of each file, with a bit that has turned or without anything in it: nothing panics,
//! what is intact is there, and `verify` names the rest.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use redb::ReadableTable;

use super::super::directory::MARKER;
use super::super::store::CHUNKS;
use super::super::{DaemonKey, FaultKind};
use super::{Dice, Disk, ID, Player, Store, fold_all, group, players, small};
use crate::base::ids::RequestId;

const SECTOR: usize = 512;
const CODE: &[u8] = &[7; 3000];
const REPORT: &[u8] = b"{}";
const CRASH: RequestId = RequestId(7);
const FILES: [&str; 4] = [MARKER, "acked", "log", "state.redb"];

/// Whose a stored chunk is, and its bytes.
type Owned = (DaemonKey, Vec<u8>);

fn digest() -> [u8; 32] {
    *blake3::hash(CODE).as_bytes()
}

/// A directory with everything in it: bases, records, a code, a crash report; and groups in the
/// log, in which the last daemon is not. With it the stored chunks of each daemon.
fn directory() -> (tempfile::TempDir, Vec<Player>, Vec<Owned>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), small(), ID).unwrap();
    let mut all = players(&store, 3);
    let mut dice = Dice(37);
    for _ in 0..17 {
        group(&store, &mut all, &mut dice).unwrap();
    }
    fold_all(&store);
    store.put_code(digest(), CODE).unwrap();
    store.put_crashes(&[(CRASH, REPORT.to_vec())]).unwrap();
    for _ in 0..3 {
        group(&store, &mut all[..2], &mut dice).unwrap();
    }
    let chunks = store.begin_read().unwrap().open_table(CHUNKS).unwrap();
    let chunks = chunks.iter().unwrap().map(|entry| entry.unwrap());
    let chunks = chunks.map(|(key, chunk)| (DaemonKey(key.value().0), chunk.value().to_vec()));
    let chunks = chunks.filter(|(_, chunk)| chunk.len() > 64).collect();
    (directory, all, chunks)
}

/// The daemons that can't be loaded. All others have all their commits.
fn lost(store: &Store, all: &[Player], what: &str) -> BTreeSet<DaemonKey> {
    let mut lost = BTreeSet::new();
    for player in all {
        match player.load(store) {
            Ok(loaded) => {
                let found = loaded.map_or(0, |loaded| loaded.sequence.0 + 1);
                assert_eq!(found, player.past.len() as u64, "{what}: silently fewer commits");
            }
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Corrupt, "{what}: {fault}");
                lost.insert(player.key);
            }
        }
    }
    lost
}

/// What reading a damaged directory brings: the daemons that are lost; none if that can't be said.
fn read(dir: &Path, name: &str, all: &[Player], what: &str) -> Option<BTreeSet<DaemonKey>> {
    let store = match Store::open_to_read(dir, small()) {
        Ok(store) => store,
        Err(fault) => {
            assert!(matches!(fault.kind, FaultKind::Corrupt | FaultKind::Directory), "{fault}");
            assert!(fault.file.as_ref().is_some_and(|file| file.ends_with(name)), "{fault}");
            return None;
        }
    };
    let (report, lost) = (store.verify(), lost(&store, all, what));
    let bad = report.daemons.iter().filter(|daemon| daemon.found.is_err());
    assert!(bad.map(|daemon| daemon.daemon).eq(lost.iter().copied()), "{what}: {report:?}");
    let others = (store.code(digest()), store.crash(CRASH));
    if report.is_good() {
        assert_eq!(others.0.unwrap().unwrap(), CODE, "{what}");
        assert_eq!(others.1.unwrap().unwrap(), REPORT, "{what}");
        assert_eq!(report.crashes, 1, "{what}");
    }
    Some(lost)
}

#[test]
fn d5_whatever_sector_is_rotten_verify_names_it_and_what_is_intact_is_read() {
    let (directory, all, _) = directory();
    let every = std::env::var("ROT_ALL").is_ok();
    let dir = directory.path();
    let files = ["state.redb", "acked", "log"].map(|name| fs::read(dir.join(name)).unwrap());
    let mut dice = Dice(89);
    let mut seen = [0; 4];
    for (number, name) in FILES.into_iter().enumerate() {
        let good = fs::read(dir.join(name)).unwrap();
        let file = fs::OpenOptions::new().write(true).open(dir.join(name)).unwrap();
        for (n, at) in (0..good.len()).step_by(SECTOR).enumerate() {
            let good = &good[at..good.len().min(at + SECTOR)];
            for zeros in [n % 2 == 0, n % 2 != 0].into_iter().take(if every { 2 } else { 1 }) {
                let what = format!("{name}, byte {at}, zeros: {zeros}");
                let mut bad = good.to_vec();
                match zeros {
                    true => bad.fill(0),
                    false => bad[dice.roll(good.len())] ^= 1 << dice.roll(8),
                }
                if bad == good {
                    continue;
                }
                file.write_all_at(&bad, at as u64).unwrap();
                let found = read(dir, name, &all, &what);
                file.write_all_at(good, at as u64).unwrap();
                seen[number] += usize::from(found.as_ref().is_none_or(|lost| !lost.is_empty()));
                if name == "log" {
                    let found = found.as_ref().unwrap();
                    assert!(!found.contains(&all[2].key), "{what}: it is not in the log");
                }
                // A host that goes on with it, or refuses to.
                if let Some(which) = ["state.redb", "acked", "log"].iter().position(|n| *n == name)
                {
                    let mut files = files.clone();
                    files[which][at..at + bad.len()].copy_from_slice(&bad);
                    if let Ok(store) = Disk::of(files).open(small(), true) {
                        lost(&store, &all, &what);
                    }
                }
            }
        }
    }
    assert!(seen.iter().all(|seen| *seen > 0) && seen[3] > 20, "{seen:?}");
}

#[test]
fn d5_a_rotten_chunk_is_told_of_its_daemon_and_all_others_are_read() {
    let (directory, all, chunks) = directory();
    let path = directory.path().join("state.redb");
    let good = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut alone = BTreeSet::new();
    for (daemon, chunk) in chunks {
        // Also where it was before the page that it is in was written anew.
        let places = good.windows(chunk.len()).enumerate().filter(|(_, bytes)| *bytes == chunk);
        for (at, _) in places {
            let bad = [chunk[40] ^ 1];
            file.write_all_at(&bad, at as u64 + 40).unwrap();
            let found = read(directory.path(), "state.redb", &all, &format!("chunk at {at}"));
            file.write_all_at(&chunk[40..41], at as u64 + 40).unwrap();
            let found = found.unwrap();
            assert!(found.iter().all(|lost| *lost == daemon), "{daemon}: {found:?}");
            alone.extend(found);
        }
    }
    assert_eq!(alone.len(), 3, "of each daemon some chunk: {alone:?}");
}
