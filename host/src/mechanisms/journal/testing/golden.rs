//! A data directory as an earlier build wrote it is read by every later one.
//!
//! The file holds a directory with a folded base, kept answers, records of commits, a revert, an
//! upgrade and a start over, one of them still in the log, a guest's code and a crash report.
//! Another format is another number: make its file with `GOLDEN_WRITE=1`, put what the test prints
//! into [`EXPECTED`], and keep the old files as long as the host says that it reads their format.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::directories::contents;
use super::{Dice, PARTS_MAX, Player, State, fold_all, group, players, small};
use crate::base::ids::{RequestId, Sequence};
use crate::mechanisms::journal::base::unseal;
use crate::mechanisms::journal::directory::{FORMAT, FORMAT_PARTS, MARKER};
use crate::mechanisms::journal::store::{META, put_identity};
use crate::mechanisms::journal::{DirectoryId, Entry, FaultKind, Journal, Store};
use crate::pure::checkpoint::{decode_snapshot, encode_snapshot};
use crate::pure::reader::Reader;

const CODE: &[u8] = b"\0asm, or what a guest's file holds";
const REPORT: &[u8] = br#"{"format":1,"code":"E_FUEL"}"#;
const CRASH: RequestId = RequestId(0x19a5_f3c2_b080_0012);

/// Name, last commit, its record's checksum, hash of its state, kept answers.
const EXPECTED: [(&str, u64, &str, &str, usize); 2] = [
    (
        "daemon-0",
        80,
        "6d7e109f29ff10f89867f6266ecf8186460215065f9636a4f6ce5f1c913482f7",
        "4d455a453a693e2d758246c9474449d56f72c73a30de7f75a77baf86006e7577",
        0,
    ),
    (
        "daemon-1",
        80,
        "792514e48f666d55f6069810e47c4f9217e7b81225a990c9fe34561341a88205",
        "7c5d2052036d37cc7829d3c5cf664a58f36c0c8861fb30490291dbe52154ad1a",
        17,
    ),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Files as one: per file its name and its content, LZ4, each after its length.
fn pack(dir: &Path) -> Vec<u8> {
    let mut packed = Vec::new();
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let names: BTreeSet<_> = names.collect();
    for name in names {
        let content = fs::read(dir.join(&name)).unwrap();
        let content = lz4_flex::block::compress_prepend_size(&content);
        for part in [name.as_encoded_bytes(), &content] {
            packed.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
            packed.extend_from_slice(part);
        }
    }
    packed
}

fn unpack(packed: &[u8], dir: &Path) {
    let mut reader = Reader(packed);
    while !reader.0.is_empty() {
        let name = String::from_utf8(reader.counted().unwrap().to_vec()).unwrap();
        let content = lz4_flex::block::decompress_size_prepended(reader.counted().unwrap());
        fs::write(dir.join(name), content.unwrap()).unwrap();
    }
}

/// Makes a directory with everything in it.
fn write(dir: &Path) {
    let store = Store::open(dir, small(), DirectoryId(9)).unwrap();
    let mut players = players(&store, 2);
    let mut dice = Dice(91);
    for round in 0..80 {
        group(&store, &mut players, &mut dice).unwrap();
        if round == 70 {
            fold_all(&store);
        }
    }
    let kept = players.iter().flat_map(|player| store.commits(player.key, 100).unwrap());
    let kinds: BTreeSet<&str> = kept.map(|line| line.head.kind.as_str()).collect();
    assert!(kinds.into_iter().eq(["commit", "revert", "upgrade", "zero"]));
    store.put_code(*blake3::hash(CODE).as_bytes(), CODE).unwrap();
    store.put_crashes(&[(CRASH, REPORT.to_vec())]).unwrap();
    group(&store, &mut players, &mut dice).unwrap();
}

fn found(store: &Store) -> Vec<(String, u64, String, String, usize)> {
    let mut found = Vec::new();
    for (name, row) in store.daemons() {
        let mut state = State::default();
        let loaded = store.load(row.key, None, &mut state).unwrap().unwrap();
        let hash = store.checkpoint(&name, row.key, None).unwrap().hash();
        let (record, state_hash) = (loaded.hash.to_hex(), hash.to_hex());
        let kept = state.answers.len();
        found.push((name, loaded.sequence.0, record.to_string(), state_hash.to_string(), kept));
    }
    found
}

#[test]
fn u1_a_directory_of_an_earlier_build_is_read() {
    let file = golden(&format!("data-{FORMAT}.bin"));
    let dir = tempfile::tempdir().unwrap();
    if std::env::var("GOLDEN_WRITE").is_ok() {
        write(dir.path());
        fs::write(&file, pack(dir.path())).unwrap();
        let store = Store::open(dir.path(), small(), DirectoryId(0)).unwrap();
        println!("{:#?}", found(&store));
        let (name, row) = store.daemons().remove(0);
        let mut checkpoint = store.checkpoint(&name, row.key, None).unwrap();
        checkpoint.code = *blake3::hash(CODE).as_bytes();
        fs::write(golden("state-1.snapshot"), encode_snapshot(&checkpoint, CODE)).unwrap();
        return;
    }
    unpack(&fs::read(file).unwrap(), dir.path());
    let store = Store::open(dir.path(), small(), DirectoryId(0)).unwrap();
    let expected = EXPECTED.map(|(name, sequence, record, state, answers)| {
        (name.to_owned(), sequence, record.to_owned(), state.to_owned(), answers)
    });
    assert_eq!(found(&store), expected);
    assert!(store.verify().is_good(), "{:?}", store.verify());
    assert_eq!(store.code(*blake3::hash(CODE).as_bytes()).unwrap().unwrap(), CODE);
    assert_eq!(store.crash(CRASH).unwrap().unwrap(), REPORT);
    for (name, row) in store.daemons() {
        let oldest = store.oldest(row.key).unwrap().unwrap();
        assert!(oldest > Sequence(0), "{name}: folded once");
        let last = store.checkpoint(&name, row.key, None).unwrap().sequence;
        for at in (oldest.0..=last.0).map(Sequence) {
            let early = store.checkpoint(&name, row.key, Some(at)).unwrap();
            assert_eq!(early.sequence, at, "{name}");
        }
    }
}

/// The format that the tables say they have.
fn tables_format(store: &Store) -> u32 {
    let meta = store.begin_read().unwrap().open_table(META).unwrap();
    let sealed = meta.get("directory").unwrap().unwrap();
    u32::from_le_bytes(*unseal(sealed.value()).unwrap().first_chunk().unwrap())
}

/// What this build writes into a directory of an earlier one, that one reads again, as long as
/// nothing is in it that it does not know.
#[test]
fn u4_a_directory_of_an_earlier_build_keeps_its_format_until_something_needs_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    unpack(&fs::read(golden("data-1.bin")).unwrap(), dir.path());
    let marker = fs::read_to_string(dir.path().join(MARKER)).unwrap();
    let store = Store::open(dir.path(), small(), DirectoryId(0)).unwrap();
    let mut all = Vec::new();
    for (_, row) in store.daemons() {
        let mut state = State::default();
        let loaded = store.load(row.key, None, &mut state).unwrap().unwrap();
        let commits = usize::try_from(loaded.sequence.next().0).unwrap();
        let past = vec![(loaded.hash, state.clone()); commits];
        let mut player = Player { state, past, code: 9, ..Player::new(row.key) };
        player.previous = loaded.hash;
        all.push(player);
    }
    let (mut dice, mut parts) = (Dice(139), false);
    for _ in 0..60 {
        assert_eq!(tables_format(&store), if parts { FORMAT_PARTS } else { FORMAT });
        for player in &mut all {
            let records = player.steps(PARTS_MAX, &mut dice);
            parts |= records.len() > 1;
            for (sequence, record) in &records {
                let entry = Entry { daemon: player.key, sequence: *sequence, record };
                store.append(&[entry]).unwrap();
            }
        }
        store.drain().unwrap();
    }
    assert!(parts, "no state came in parts");
    assert_eq!(fs::read_to_string(dir.path().join(MARKER)).unwrap(), marker);
    drop(store);
    let store = Store::open(dir.path(), small(), DirectoryId(0)).unwrap();
    assert!(store.verify().is_good(), "{:?}", store.verify());
    for player in &all {
        player.load(&store).unwrap().unwrap();
    }
}

#[test]
fn u4_what_a_later_build_wrote_is_refused_with_words_and_not_touched() {
    type Newer = fn(&Path);
    let newer: [(&str, Newer, &str); 2] = [
        (
            "the marker",
            |dir| {
                let text = fs::read_to_string(dir.join(MARKER)).unwrap();
                fs::write(dir.join(MARKER), text.replace("format 1", "format 2")).unwrap();
            },
            "format 2; this host reads format 1",
        ),
        (
            "the tables",
            |dir| {
                let store = Store::open(dir, small(), DirectoryId(0)).unwrap();
                let write = store.begin_write().unwrap();
                let id = store.id();
                put_identity(&mut write.open_table(META).unwrap(), FORMAT_PARTS + 1, id).unwrap();
                write.commit().unwrap();
            },
            "format 3; this host reads 1 to 2",
        ),
    ];
    let old = tempfile::tempdir().unwrap();
    unpack(&fs::read(golden("data-1.bin")).unwrap(), old.path());
    for (what, change, words) in newer {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(old.path()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        change(dir.path());
        let before = contents(dir.path());
        for fault in [
            Store::open(dir.path(), small(), DirectoryId(0)).unwrap_err(),
            Store::open_to_read(dir.path(), small()).unwrap_err(),
        ] {
            assert_eq!(fault.kind, FaultKind::Format, "{what}: {fault}");
            assert!(fault.what.contains(words) && fault.file.is_some(), "{what}: {fault}");
        }
        // The tables' file says in its head that it was opened and closed.
        let after = contents(dir.path());
        for (before, after) in before.iter().zip(&after) {
            let tables = after.0 == "state.redb" && what == "the tables";
            assert!(before == after || tables, "{what}: {:?} was written to", after.0);
        }
        assert_eq!(before.len(), after.len());
    }
    let mut snapshot = fs::read(golden("state-1.snapshot")).unwrap();
    snapshot[4] = 2;
    let refused = decode_snapshot(&snapshot).unwrap_err().to_string();
    assert_eq!(refused, "a snapshot of format 2; this host reads format 1");
}

#[test]
fn u1_a_snapshot_of_an_earlier_build_is_read() {
    let file = fs::read(golden("state-1.snapshot")).unwrap();
    let (checkpoint, code) = decode_snapshot(&file).unwrap();
    assert_eq!(code, CODE);
    let (name, sequence, _, state, _) = EXPECTED[0];
    assert_eq!((checkpoint.daemon.as_str(), checkpoint.sequence.0), (name, sequence));
    assert_eq!(checkpoint.hash().to_hex().as_str(), state);
}
