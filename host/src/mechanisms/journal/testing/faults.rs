//! Operations fail: no space, input/output errors, short writes; once and for a while, at each one.
//! The journal goes on without being closed, and nothing acknowledged is ever lost.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::super::store::lock;
use super::super::{DaemonKey, FaultKind, Tended};
use super::{Dice, Disk, Failure, Journal, Player, State, Store, Which, group, players, small};

/// Rounds after which a disk that fails for a while is well again.
const ILL_ROUNDS: usize = 10;

/// What a run went through.
#[derive(Debug, Default)]
struct Seen {
    failed_appends: usize,
    failed_tables: usize,
    refused: usize,
}

/// Brings everybody back to what is durable, as daemons do when the incarnation has grown.
fn reload(store: &Store, all: &mut [Player], acked: u64) {
    for player in all {
        let found = player.load(store).unwrap().map_or(0, |found| found.sequence.0 + 1);
        assert!(acked <= found, "{found} of {acked}");
        player.rewind(found);
    }
}

/// Runs over a failing disk until it is well again, then opens what is there on another one.
fn check(failure: Failure, seen: &mut Seen) {
    let disk = Disk::default();
    let mut dice = Dice(31);
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 2);
    let from = disk.ops();
    disk.0.lock().unwrap().failure = Some(Failure { at: from + failure.at, ..failure });
    let mut acked = 0;
    let mut incarnation = store.incarnation();
    for round in 0..ILL_ROUNDS + 6 {
        if round == ILL_ROUNDS {
            disk.0.lock().unwrap().failure = None;
        }
        seen.failed_tables += usize::from(store.tend().is_err());
        if store.refusal().is_some() {
            // Before anything is applied: the daemons' states stay what they are.
            seen.refused += 1;
            continue;
        }
        if store.incarnation() != incarnation {
            incarnation = store.incarnation();
            reload(&store, &mut all, acked);
        }
        match group(&store, &mut all, &mut dice) {
            Ok(()) => acked = all[0].past.len() as u64,
            Err(fault) => {
                assert!(
                    matches!(fault.kind, FaultKind::Full | FaultKind::Io | FaultKind::Poisoned),
                    "{fault}"
                );
                seen.failed_appends += 1;
                let again = group(&store, &mut all, &mut dice).unwrap_err();
                assert_eq!(again.kind, FaultKind::Poisoned, "acknowledged before a new beginning");
                assert_eq!(store.refusal().unwrap().kind, FaultKind::Poisoned);
            }
        }
    }
    assert!(store.refusal().is_none(), "{failure:?}: it does not recover by itself");
    let before = acked;
    group(&store, &mut all, &mut dice).unwrap();
    acked = all[0].past.len() as u64;
    assert_eq!(acked, before + 1);
    drop(store);
    let store = Disk::of(disk.files()).open(small(), true).unwrap();
    reload(&store, &mut all, acked);
    assert!(store.verify().is_good(), "{:?}", store.verify());
}

#[test]
fn d7_d8_r8_i20_the_journal_survives_every_failing_operation_and_goes_on() {
    let mut seen = Seen::default();
    for at in 0..150 {
        let kind = if at % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
        for (forever, short) in [(false, false), (true, false), (true, true)] {
            check(Failure { at, forever, kind, short, file: None }, &mut seen);
        }
    }
    assert!(seen.failed_appends > 100 && seen.failed_tables > 100, "{seen:?}");
}

/// The tables find no space while the log, whose blocks are all there, goes on.
#[test]
fn r8_without_space_commits_go_on_until_the_log_is_half_full_and_are_then_refused_in_time() {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 1);
    let mut dice = Dice(47);
    let kind = ErrorKind::StorageFull;
    let file = Some(Which::State);
    let full = Failure { at: 0, forever: true, kind, short: false, file };
    disk.0.lock().unwrap().failure = Some(full);
    let mut taken = 0;
    while store.refusal().is_none() {
        group(&store, &mut all, &mut dice).unwrap();
        taken += 1;
        // The first tries notice only that something was appended.
        let _failed = store.tend().is_err();
        assert!(taken < 1000, "never refused");
    }
    assert!(taken > 3, "{taken}");
    assert_eq!(store.refusal().unwrap().kind, FaultKind::Full);
    // What was under way when the refusals began still fits.
    group(&store, &mut all, &mut dice).unwrap();
    assert_eq!(store.tend().unwrap_err().kind, FaultKind::Full);
    assert_eq!(store.durable(DaemonKey(1)).unwrap().0, taken);
    disk.0.lock().unwrap().failure = None;
    let incarnation = store.incarnation();
    store.tend().unwrap();
    store.tend().unwrap();
    assert!(store.refusal().is_none());
    assert_eq!(store.incarnation(), incarnation, "nobody has to load anything");
    group(&store, &mut all, &mut dice).unwrap();
    drop(store);
    let store = Disk::of(disk.files()).open(small(), true).unwrap();
    reload(&store, &mut all, taken + 2);
}

/// What the log holds can be read where it can't be moved, also by whoever is the first to notice.
#[test]
fn r8_reading_needs_no_space() {
    let reads: [fn(&Store) -> usize; 2] = [
        |store| store.commits(DaemonKey(1), 10).unwrap().len(),
        |store| {
            let mut state = State::default();
            let loaded = Journal::load(store, DaemonKey(1), None, &mut state).unwrap();
            usize::try_from(loaded.unwrap().sequence.0 + 1).unwrap()
        },
    ];
    for read in reads {
        let disk = Disk::default();
        let store = disk.open(small(), false).unwrap();
        let mut all = players(&store, 1);
        let (kind, file) = (ErrorKind::StorageFull, Some(Which::State));
        for _ in 0..3 {
            group(&store, &mut all, &mut Dice(47)).unwrap();
        }
        let full = Failure { at: 0, forever: true, kind, short: false, file };
        disk.0.lock().unwrap().failure = Some(full);
        assert_eq!((read(&store), read(&store)), (3, 3));
        assert_eq!(store.tend().unwrap_err().kind, FaultKind::Full);
        disk.0.lock().unwrap().failure = None;
        while store.tend().unwrap() != Tended::Idle {}
        assert_eq!(read(&store), 3);
    }
}

#[test]
fn r8_what_meets_a_full_disk_half_way_is_read_once_more() {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 1);
    group(&store, &mut all, &mut Dice(47)).unwrap();
    let mut tries = 0;
    let read = store.reading(|store| {
        tries += 1;
        if tries == 1 {
            let (kind, file) = (ErrorKind::StorageFull, Some(Which::State));
            let full = Failure { at: 0, forever: true, kind, short: false, file };
            disk.0.lock().unwrap().failure = Some(full);
            store.put_code([9; 32], b"code of somebody else").unwrap_err();
        }
        store.at_tables(|| store.begin_read().map(drop))
    });
    assert_eq!((read, tries), (Ok(()), 2));
}

/// A load moves what the log holds while a failed append makes all files be opened again: the log
/// that it began with is then another one.
#[test]
fn d7_r8_a_load_that_meets_an_opening_ends() {
    let (done, ended) = channel();
    let rounds = std::thread::spawn(move || {
        for round in 0..40 {
            let disk = Disk::default();
            let store = Arc::new(disk.open(small(), false).unwrap());
            let mut all = players(&store, 1);
            let mut dice = Dice(round as u64);
            group(&store, &mut all, &mut dice).unwrap();
            let (kind, file) = (ErrorKind::Other, Some(Which::Log));
            let failure = Failure { at: 0, forever: true, kind, short: false, file };
            disk.0.lock().unwrap().failure = Some(failure);
            group(&store, &mut all, &mut dice).unwrap_err();
            disk.0.lock().unwrap().failure = None;
            // Both stand before the door, in either order.
            let moving = lock(&store.moving);
            let works: [fn(&Store) -> bool; 2] =
                [|store| store.drain().is_ok(), |store| store.tend().is_ok()];
            let start = |which: usize| {
                let its = store.clone();
                let started = std::thread::spawn(move || works[which % 2](&its));
                std::thread::sleep(Duration::from_millis(5));
                started
            };
            let (first, second) = (start(round), start(round + 1));
            drop(moving);
            first.join().unwrap();
            second.join().unwrap();
            reload(&store, &mut all, 1);
        }
        done.send(()).unwrap();
    });
    // A thread that turns for ever is never joined.
    ended.recv_timeout(Duration::from_secs(120)).expect("a load turns and turns");
    rounds.join().unwrap();
}
