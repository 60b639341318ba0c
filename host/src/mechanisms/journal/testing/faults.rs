//! Operations fail: no space, input/output errors, short writes; once and for ever, at each one.

use std::io::ErrorKind;

use super::super::FaultKind;
use super::{Dice, Disk, Failure, Journal, Player, group, players, small};

/// Runs until the disk fails, then opens what is there on a healthy one.
fn check(failure: Failure) -> Option<FaultKind> {
    let disk = Disk::default();
    let mut dice = Dice(31);
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 2);
    let from = disk.ops();
    disk.0.lock().unwrap().failure = Some(Failure { at: from + failure.at, ..failure });
    let (mut acked, mut first) = (0, None);
    for _ in 0..14 {
        let mut faults = Vec::new();
        match group(&store, &mut all, &mut dice) {
            Ok(()) => {
                assert!(first.is_none(), "acknowledged after a failure");
                acked += 1;
            }
            Err(fault) => faults.push(fault),
        }
        faults.extend(store.fold_step().err());
        for fault in faults {
            if first.is_some() {
                // The chain of a refused group goes on: its records are refused either way.
                assert_eq!(fault.kind, FaultKind::Poisoned, "{fault}");
            }
            first.get_or_insert(fault.kind);
        }
    }
    drop(store);
    let store = Disk::of(disk.files()).open(small(), true).unwrap();
    for player in &all {
        let found = Player::load(player, &store).unwrap().map_or(0, |found| found.sequence.0 + 1);
        assert!(acked <= found, "{failure:?}: {found} of {acked}");
    }
    first
}

#[test]
fn acknowledged_commits_survive_every_failing_operation() {
    let mut seen = 0;
    for at in 0..160 {
        let (kind, expected) = match at % 2 {
            0 => (ErrorKind::StorageFull, FaultKind::Full),
            _ => (ErrorKind::Other, FaultKind::Io),
        };
        for (forever, short) in [(false, false), (true, false), (true, true)] {
            let found = check(Failure { at, forever, kind, short });
            if let Some(found) = found {
                assert_eq!(found, expected, "operation {at}");
                seen += 1;
            }
        }
    }
    assert!(seen > 300, "{seen}");
}
