//! The log by itself: torn, cut, rotten, misdirected and from another time.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::FaultKind;
use super::{Dice, Disk, Failure, Player, Store, StoreOptions, Which, group, players, small};

const LOG: usize = Which::Log as usize;
const BLOCK: usize = 4096;

/// Two laps around a small log, the last groups in no table; the blocks that hold those.
fn full_log() -> (Disk, Vec<Player>) {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 2);
    let mut dice = Dice(53);
    for round in 0..36 {
        group(&store, &mut all, &mut dice).unwrap();
        if round < 30 {
            store.drain().unwrap();
        }
    }
    (disk, all)
}

/// Opens what is there: every daemon has all its commits, or an error. Counts the errors.
fn judge(files: [Vec<u8>; 3], all: &[Player], what: &str) -> usize {
    let Ok(store) = Disk::of(files).open(small(), true) else { return all.len() };
    let mut bad = 0;
    for player in all {
        match player.load(&store) {
            Ok(loaded) => {
                let found = loaded.map_or(0, |loaded| loaded.sequence.0 + 1);
                assert_eq!(found, player.past.len() as u64, "{what}: silently fewer commits");
            }
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Corrupt, "{what}: {fault}");
                assert!(fault.daemon.is_some() && fault.sequence.is_some(), "{what}: {fault}");
                bad += 1;
            }
        }
    }
    assert_eq!(bad == 0, store.verify().is_good(), "{what}");
    bad
}

#[test]
fn d4_d5_d6_a_damaged_log_is_never_a_shorter_one() {
    let (disk, all) = full_log();
    let files = disk.files();
    assert_eq!(judge(files.clone(), &all, "nothing"), 0);
    let mut dice = Dice(59);
    let mut seen = 0;
    let used: Vec<usize> = (0..files[LOG].len()).filter(|&at| files[LOG][at] != 0).collect();
    for n in 0..600 {
        let mut rotten = files.clone();
        let at = used[dice.roll(used.len())];
        rotten[LOG][at] ^= 1 << dice.roll(8);
        seen += judge(rotten, &all, &format!("{n}: byte {at}"));
    }
    let blocks = files[LOG].len() / BLOCK;
    for n in 0..200 {
        let mut rotten = files.clone();
        let (a, b) = (dice.roll(blocks) * BLOCK, dice.roll(blocks) * BLOCK);
        let sector = dice.roll(8) * 512;
        match n % 4 {
            0 => rotten[LOG][a..a + BLOCK].fill(0),
            1 => rotten[LOG][a + sector..a + sector + 512].fill(0xa5),
            2 => rotten[LOG].copy_within(b..b + BLOCK, a),
            _ => rotten[LOG].truncate(a + dice.roll(BLOCK)),
        }
        seen += judge(rotten, &all, &format!("{n}: kind {} at {a} from {b}", n % 4));
    }
    assert!(seen > 100, "{seen}");
}

/// Opens a log whose last group, of `end` bytes, has only its first `kept`: it was not
/// acknowledged, so it is gone, whole, and the next commit takes its number.
fn judge_cut(files: [Vec<u8>; 3], all: &[Player], (kept, end): (usize, usize), what: &str) {
    let disk = Disk::of(files);
    let store = disk.open(small(), true).unwrap();
    let report = store.verify();
    assert!(report.is_good(), "{what}: {report:?}");
    let torn = usize::try_from(report.torn_bytes).unwrap();
    if HEAD <= kept && kept < end {
        assert_eq!(torn, end, "{what}");
    } else {
        assert!(kept < HEAD && torn <= disk.files()[LOG].len() || torn == 0, "{what}: {torn}");
    }
    let mut next = Vec::new();
    for (player, ahead) in all.iter().zip([1, 0]) {
        let found = player.load(&store).unwrap().unwrap().sequence.0 + 1;
        let lost = if kept < end { ahead } else { 0 };
        assert_eq!(found, player.past.len() as u64 - lost, "{what}: commits of {}", player.key);
        next.push((player, found));
    }
    if kept.is_multiple_of(61) {
        let mut next: Vec<Player> =
            next.into_iter().map(|(player, found)| player.twin(found)).collect();
        group(&store, &mut next, &mut Dice(79)).unwrap();
        drop(store);
        assert_eq!(judge(disk.files(), &next, what), 0);
    }
}

/// Up to here a group's first bytes say how long it is.
const HEAD: usize = 48;

#[test]
fn d4_a_last_record_cut_at_any_length_is_dropped_when_nobody_was_told_and_damage_when_somebody_was()
{
    // In a ring that is new, and over what the lap before has left.
    for rounds in [3, 36] {
        let disk = Disk::default();
        let store = disk.open(small(), false).unwrap();
        let mut all = players(&store, 2);
        let mut dice = Dice(83);
        for round in 0..rounds {
            group(&store, &mut all, &mut dice).unwrap();
            if round + 3 < rounds {
                store.drain().unwrap();
            }
        }
        let before = disk.files();
        group(&store, &mut all[..1], &mut dice).unwrap();
        let after = disk.files();
        drop(store);
        let changed = |at: &usize| before[LOG][*at] != after[LOG][*at];
        let begin = (0..after[LOG].len()).find(changed).unwrap() / BLOCK * BLOCK;
        let length = after[LOG][begin + 40..HEAD + begin].try_into().unwrap();
        let end = usize::try_from(u64::from_le_bytes(length)).unwrap();
        for kept in 0..=end {
            let what = format!("{rounds} rounds, {kept} of {end} bytes");
            let mut log = before[LOG].clone();
            log[begin..begin + kept].copy_from_slice(&after[LOG][begin..begin + kept]);
            let whole = log[begin..begin + end] == after[LOG][begin..begin + end];
            let told = [before[0].clone(), after[1].clone(), log.clone()];
            let bad = judge(told, &all, &what);
            assert_eq!(bad, usize::from(!whole), "{what}: the other one is good");
            let kept = if whole { end } else { kept };
            judge_cut([before[0].clone(), before[1].clone(), log], &all, (kept, end), &what);
            if rounds == 3 {
                let mut log = after[LOG].clone();
                log.truncate(begin + kept);
                judge_cut([before[0].clone(), before[1].clone(), log], &all, (kept, end), &what);
            }
        }
    }
}

#[test]
fn i5_a_torn_last_group_is_dropped_counted_and_its_number_never_used_again() {
    let (mut torn, mut dropped) = (0, 0);
    for kept_sectors in 0..9 {
        let (disk, mut all) = full_log();
        let before = disk.files();
        let acked = all[0].past.len() as u64;
        let store = Disk::of(before.clone());
        let kind = std::io::ErrorKind::Other;
        let file = Some(Which::Log);
        let opened = store.open(small(), true).unwrap();
        store.0.lock().unwrap().failure =
            Some(Failure { at: 0, forever: true, kind, short: true, file });
        group(&opened, &mut all, &mut Dice(61)).unwrap_err();
        drop(opened);
        // Of the group that was being written, some sectors arrived.
        let mut files = store.files();
        let written = (0..files[LOG].len()).find(|&at| files[LOG][at] != before[LOG][at]).unwrap();
        let block = written / BLOCK * BLOCK;
        for sector in kept_sectors..8 {
            let at = block + sector * 512;
            files[LOG][at..at + 512].copy_from_slice(&before[LOG][at..at + 512]);
        }
        let disk = Disk::of(files);
        let store = disk.open(small(), true).unwrap();
        let report = store.verify();
        assert!(report.is_good(), "{report:?}");
        torn += usize::from(report.torn_bytes > 0);
        for player in &mut all {
            let found = player.load(&store).unwrap().unwrap().sequence.0 + 1;
            dropped += usize::from(found == acked);
            assert!(acked <= found);
            player.rewind(found);
        }
        for _ in 0..20 {
            group(&store, &mut all, &mut Dice(67)).unwrap();
        }
        drop(store);
        assert_eq!(judge(disk.files(), &all, "after a torn group"), 0);
    }
    assert!(torn > 0 && dropped > 2, "{torn} {dropped}");
}

#[test]
fn d5_a_rotten_group_stops_the_daemons_that_are_in_it_and_no_other() {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 2);
    let mut dice = Dice(71);
    let mut ends = Vec::new();
    for round in 0..6 {
        // The first daemon commits in every group, the second one in the first and fifth.
        let count = if round % 4 == 0 { 2 } else { 1 };
        let offset = store.log().unwrap().span().end.position;
        ends.push(usize::try_from(offset).unwrap());
        group(&store, &mut all[..count], &mut dice).unwrap();
    }
    drop(store);
    let mut files = disk.files();
    files[LOG][ends[2] + 200] ^= 1;
    let store = Disk::of(files).open(small(), true).unwrap();
    let fault = all[0].load(&store).unwrap_err();
    assert_eq!((fault.kind, fault.sequence.unwrap().0), (FaultKind::Corrupt, 3), "{fault}");
    assert_eq!(all[1].load(&store).unwrap().unwrap().sequence.0, 1);
    let report = store.verify();
    let place = format!("offset {}", ends[2]);
    assert!(report.faults.iter().any(|fault| fault.to_string().contains(&place)), "{report:?}");
    assert!(report.daemons[1].found.is_ok());
    group(&store, &mut all[1..], &mut dice).unwrap();
}

#[test]
fn a_log_of_another_size_and_groups_larger_than_any_log_lose_nothing() {
    let disk = Disk::default();
    let mut dice = Dice(73);
    let mut all = Vec::new();
    for size in [16, 64, 16, 32] {
        let options = StoreOptions { log_bytes: size * BLOCK as u64, ..small() };
        let store: Store = disk.open(options, !all.is_empty()).unwrap();
        if all.is_empty() {
            all = players(&store, 3);
        }
        for count in 0..40 {
            // Up to sixteen blocks in one group, of which the smallest log takes four.
            let (daemons, _) = all.split_at_mut(1 + count % 3);
            group(&store, daemons, &mut dice).unwrap();
        }
        for player in &all {
            let loaded = player.load(&store).unwrap().unwrap();
            assert_eq!(loaded.sequence.0 + 1, player.past.len() as u64);
        }
    }
    let store = disk.open(small(), true).unwrap();
    assert!(store.verify().is_good());
}

/// Whoever finds the log full may find nothing left to move: others were faster, and there is room.
#[test]
fn a_full_log_that_others_have_emptied_meanwhile_has_room() {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 2);
    let (mut dice, done) = (Dice(59), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.move_groups(u64::MAX).unwrap();
            }
        });
        let made = (0..800).try_for_each(|_| group(&store, &mut all, &mut dice));
        done.store(true, Ordering::Relaxed);
        made.unwrap();
    });
}
