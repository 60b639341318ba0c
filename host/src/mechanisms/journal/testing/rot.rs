//! Bytes rot: the same state, or a clear error; never a panic, never silently fewer commits.

use super::{Dice, Disk, Player, fold_all, group, players, small};

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
