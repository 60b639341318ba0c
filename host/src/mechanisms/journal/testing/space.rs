//! How much more the tables' file takes than what is in it.

use super::{Dice, Disk, Journal, Store, StoreOptions, fold_all, group, players, small};
use crate::base::limits::COMPACT_FACTOR;

/// Bytes that a commit, a fold or the free pages of one may add before the next look.
const SLACK: u64 = 1 << 20;

fn stored_bytes(store: &Store) -> u64 {
    let write = store.begin_write().unwrap();
    let stats = write.stats().unwrap();
    write.abort().unwrap();
    stats.stored_bytes()
}

#[test]
fn r8_the_tables_file_stays_within_its_factor_of_what_it_was_and_that_is_near_what_is_in_it() {
    let options = StoreOptions { compact_bytes_min: 256 << 10, ..small() };
    let disk = Disk::default();
    let store = disk.open(options, false).unwrap();
    let mut all = players(&store, 10);
    let mut dice = Dice(131);
    let mut compacted = 0;
    for round in 0..90 {
        group(&store, &mut all, &mut dice).unwrap();
        if round % 3 == 0 {
            fold_all(&store);
        }
        let busy = round % 10 < 5;
        let before = store.tables_bytes();
        while store.compact(!busy).unwrap() {
            let (after, stored) = (store.tables_bytes(), stored_bytes(&store));
            assert!(after <= 3 * stored + SLACK, "round {round}: {after} for {stored}");
            assert!(after <= before, "round {round}: {after} of {before}");
            compacted += 1;
        }
        let last = store.compacted.load(std::sync::atomic::Ordering::Relaxed).max(256 << 10);
        let most = last * COMPACT_FACTOR * if busy { 2 } else { 1 } + SLACK;
        assert!(store.tables_bytes() <= most, "round {round}: {} of {most}", store.tables_bytes());
        for player in all.iter().skip(round % 10).take(1) {
            player.load(&store).unwrap();
        }
    }
    assert!(compacted > 0, "{compacted}");
    // What daemons leave behind is given back, though the file has not grown.
    let before = store.tables_bytes();
    for number in 1..10 {
        store.remove_daemon(&format!("daemon-{number}")).unwrap();
    }
    all.truncate(1);
    assert!(store.compact(true).unwrap());
    assert!(store.tables_bytes() < before, "{} of {before}", store.tables_bytes());
    assert!(store.tables_bytes() <= 3 * stored_bytes(&store) + SLACK);
    drop(store);
    let store = disk.open(options, true).unwrap();
    assert!(store.compacted.load(std::sync::atomic::Ordering::Relaxed) > 0, "it is remembered");
    assert!(store.verify().is_good(), "{:?}", store.verify());
    all.iter().for_each(|player| assert!(player.load(&store).unwrap().is_some()));
}

/// All daemons together keep so many bytes of records, and each the few that it keeps always.
#[test]
fn r8_many_daemons_share_what_is_kept_for_history() {
    let disk = Disk::default();
    let retain_total_bytes = 40 << 10;
    let options = StoreOptions { retain_commits: 1000, retain_total_bytes, ..small() };
    let store = disk.open(options, false).unwrap();
    let mut all = players(&store, 8);
    let mut dice = Dice(137);
    for _ in 0..60 {
        group(&store, &mut all, &mut dice).unwrap();
    }
    fold_all(&store);
    let kept: Vec<usize> =
        all.iter().map(|player| store.commits(player.key, 1000).unwrap().len()).collect();
    assert!(kept.iter().all(|&kept| (8..60).contains(&kept)), "{kept:?}");
    all.iter().for_each(|player| assert!(player.load(&store).unwrap().is_some()));
}
