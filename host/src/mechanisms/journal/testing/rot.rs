//! Bytes rot: the same state, or a clear error; never a panic, never silently fewer commits.

use redb::ReadableTable;

use super::super::store::CHUNKS;
use super::super::{FaultKind, Journal, StoreOptions, Tended};
use super::{Dice, Disk, Player, Sequence, Store, fold_all, group, players, small};

fn store_file() -> ([Vec<u8>; 3], Vec<Player>) {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 2);
    let mut dice = Dice(37);
    for _ in 0..14 {
        group(&store, &mut all, &mut dice).unwrap();
    }
    fold_all(&store);
    drop(store);
    (disk.files(), all)
}

/// Whether the damage was seen.
fn judge(files: [Vec<u8>; 3], all: &[Player], what: &str) -> bool {
    let Ok(store) = Disk::of(files).open(small(), true) else { return true };
    let mut seen = false;
    for (number, player) in all.iter().enumerate() {
        match store.daemon(&format!("daemon-{number}"), super::Origin::Init, 1 << 20) {
            Ok(key) => assert_eq!(key, player.key, "{what}: another id"),
            Err(_) => {
                seen = true;
                continue;
            }
        }
        match player.load(&store) {
            Ok(loaded) => {
                let found = loaded.map_or(0, |loaded| loaded.sequence.0 + 1);
                assert_eq!(found, player.past.len() as u64, "{what}: silently fewer commits");
            }
            Err(_) => seen = true,
        }
    }
    seen
}

#[test]
fn rot_is_found_or_harmless() {
    let (files, all) = store_file();
    assert!(!judge(files.clone(), &all, "nothing"));
    let every = std::env::var("ROT_ALL").is_ok();
    let (mut dice, mut seen) = (Dice(41), 0);
    let end = files[0].iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let used: Vec<usize> = (0..end).filter(|&at| files[0][at] != 0).collect();
    let flips = if every { end } else { 900 };
    for n in 0..flips {
        let at = match (every, n % 4) {
            (true, _) => n,
            (false, 0) => dice.roll(4096.min(end)),
            (false, _) => used[dice.roll(used.len())],
        };
        let mut rotten = files.clone();
        rotten[0][at] ^= 1 << dice.roll(8);
        seen += usize::from(judge(rotten, &all, &format!("byte {at}")));
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn lost_sectors_and_lengths_are_found_or_harmless() {
    let (files, all) = store_file();
    let mut dice = Dice(43);
    let sectors = files[0].len() / 512;
    for n in 0..200 {
        let mut rotten = files.clone();
        let (a, b) = (dice.roll(sectors) * 512, dice.roll(sectors) * 512);
        match n % 3 {
            0 => rotten[0][a..a + 512].fill(0),
            1 => rotten[0].copy_within(b..b + 512, a),
            _ => rotten[0].truncate(a + dice.roll(512)),
        }
        judge(rotten, &all, &format!("kind {} at {a} from {b}", n % 3));
    }
    for at in 0..files[1].len() {
        let mut rotten = files.clone();
        rotten[1][at] ^= 4;
        judge(rotten, &all, &format!("acked {at}"));
    }
}

/// A store with a base, and records that a fold would take; nothing of it is kept in memory.
fn before_a_fold() -> (Disk, Store, Vec<Player>) {
    let disk = Disk::default();
    let store = disk.open(StoreOptions { cache_bytes: 0, ..small() }, false).unwrap();
    let mut all = players(&store, 2);
    let mut dice = Dice(131);
    for round in 0..30 {
        group(&store, &mut all, &mut dice).unwrap();
        if round == 13 {
            fold_all(&store);
        }
    }
    store.drain().unwrap();
    (disk, store, all)
}

/// The chunks of all bases, as they are stored.
fn chunks(store: &Store) -> Vec<Vec<u8>> {
    let chunks = store.begin_read().unwrap().open_table(CHUNKS).unwrap();
    chunks.iter().unwrap().map(|entry| entry.unwrap().1.value().to_vec()).collect()
}

#[test]
fn d9_a_base_that_is_not_read_back_as_it_was_written_replaces_nothing() {
    let (_, twin, _) = before_a_fold();
    let old = chunks(&twin);
    fold_all(&twin);
    let new = chunks(&twin).into_iter().filter(|chunk| chunk.len() > 40 && !old.contains(chunk));
    let new: Vec<_> = new.collect();
    assert!(new.len() > 2, "{}", new.len());
    for chunk in new {
        let (disk, store, mut all) = before_a_fold();
        let oldest = all.iter().map(|player| store.oldest(player.key).unwrap().unwrap());
        let oldest: Vec<Sequence> = oldest.collect();
        let there = |store: &Store, what: &str| {
            for (player, oldest) in all.iter().zip(&oldest) {
                let loaded = player.load(store).unwrap().unwrap();
                assert_eq!(loaded.sequence, Sequence(29), "{what}");
                let found = store.oldest(player.key).unwrap().unwrap();
                assert!(*oldest <= found, "{what}");
            }
        };
        disk.0.lock().unwrap().rots = Some(chunk[..40].to_vec());
        let fault = loop {
            match store.tend() {
                Ok(tended) => assert_ne!(tended, Tended::Idle, "it was not seen"),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault.kind, FaultKind::Io, "{fault}");
        assert!(fault.what.contains("base chunk") && fault.daemon.is_some(), "{fault}");
        let daemon = fault.daemon.unwrap();
        // Whoever dies now goes on with the older base and its records.
        let killed = Disk::of(disk.files()).open(small(), true).unwrap();
        there(&killed, "after a kill");
        assert!(killed.verify().is_good(), "{:?}", killed.verify());
        let base = killed.load(daemon, None, &mut super::State::default()).unwrap().unwrap().base;
        let place = all.iter().position(|player| player.key == daemon).unwrap();
        assert_eq!(base, Some(oldest[place]), "the older one");
        // Whoever doesn't, too, and makes it anew.
        disk.0.lock().unwrap().rots = None;
        fold_all(&store);
        there(&store, "folded");
        group(&store, &mut all, &mut Dice(137)).unwrap();
        drop(store);
        let store = disk.open(small(), true).unwrap();
        assert!(store.verify().is_good(), "{:?}", store.verify());
        for player in &all {
            assert_eq!(player.load(&store).unwrap().unwrap().sequence, Sequence(30));
        }
    }
}
