//! Records that are good by themselves, and not the next ones: refused when they are appended, and
//! found when they are loaded, folded and verified.

use super::super::FaultKind;
use super::super::store::RECORDS;
use super::{
    DaemonKey, Dice, Disk, Entry, Journal, JournalFault, Player, Sequence, Store, fold_all, group,
    players, small,
};
use crate::pure::record::{Frame, Part};

/// A store with a daemon, and the same daemon with another past.
fn two_pasts(commits: usize) -> (Store, Player, Player) {
    let store = Disk::default().open(small(), false).unwrap();
    let mut all = players(&store, 1);
    let (mut dice, mut other) = (Dice(101), Dice(103));
    let mut twin = Player::new(all[0].key);
    for _ in 0..commits {
        group(&store, &mut all, &mut dice).unwrap();
        twin.step(&mut other);
    }
    (store, all.remove(0), twin)
}

fn append(store: &Store, daemon: DaemonKey, record: &[u8]) -> Result<(), JournalFault> {
    let sequence = Frame::of(record).unwrap().head.sequence;
    store.append(&[Entry { daemon, sequence, record }]).map(|_| ())
}

/// Puts a record where the log would have been moved to.
fn forge(store: &Store, daemon: DaemonKey, sequence: Sequence, record: &[u8]) {
    store.drain().unwrap();
    let write = store.begin_write().unwrap();
    write.open_table(RECORDS).unwrap().insert((daemon.0, sequence.0), record).unwrap();
    write.commit().unwrap();
}

#[test]
fn d6_a_record_of_another_chain_is_never_taken() {
    let (store, mut own, mut twin) = two_pasts(3);
    let (sequence, foreign) = twin.step(&mut Dice(107));
    let fault = append(&store, own.key, &foreign).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Misuse);
    assert!(fault.what.contains("does not follow the one before"), "{fault}");
    let (_, right) = own.step(&mut Dice(109));
    append(&store, own.key, &right).unwrap();
    own.load(&store).unwrap();
    forge(&store, own.key, sequence, &foreign);
    let fault = own.load(&store).unwrap_err();
    assert_eq!((fault.kind, fault.sequence), (FaultKind::Corrupt, Some(sequence)), "{fault}");
    assert!(fault.what.contains("does not follow the one before"), "{fault}");
    assert!(!store.verify().is_good());
}

/// The hint would find it at the end of the chain; a fold looks at what is in the middle.
#[test]
fn d6_a_record_of_another_chain_is_never_folded() {
    let (store, mut own, mut twin) = two_pasts(3);
    let (sequence, foreign) = twin.step(&mut Dice(113));
    let mut dice = Dice(127);
    for _ in 0..16 {
        let (_, record) = own.step(&mut dice);
        append(&store, own.key, &record).unwrap();
    }
    forge(&store, own.key, sequence, &foreign);
    let fault = std::iter::repeat_with(|| store.tend()).find_map(Result::err).unwrap();
    assert_eq!((fault.kind, fault.sequence), (FaultKind::Corrupt, Some(sequence)), "{fault}");
    assert!(own.load(&store).is_err());
}

/// Each part must be the next one of the same state; a state that is begun again is a new one.
#[test]
fn parts_of_two_states_are_never_one() {
    let parts = |player: &mut Player, seed: u64| {
        let mut dice = Dice(seed);
        loop {
            let records = player.steps(3, &mut dice);
            if records.len() == 3 {
                return records.into_iter().map(|(_, record)| record).collect::<Vec<_>>();
            }
            *player = Player::new(player.key);
        }
    };
    let store = Disk::default().open(small(), false).unwrap();
    let mut own = players(&store, 1).remove(0);
    let mut twin = Player::new(own.key);
    let (mine, theirs) = (parts(&mut own, 1), parts(&mut twin, 77));
    assert!(matches!(Frame::of(&mine[0]).unwrap().head.part, Part::More(0)));
    let key = own.key;
    for refused in [&mine[1], &mine[2]] {
        assert_eq!(append(&store, key, refused).unwrap_err().kind, FaultKind::Misuse);
    }
    append(&store, key, &theirs[0]).unwrap();
    assert_eq!(store.durable(key), None);
    assert!(own.load(&store).unwrap().is_none(), "half a state");
    for refused in [&mine[1], &mine[2], &theirs[2]] {
        assert_eq!(append(&store, key, refused).unwrap_err().kind, FaultKind::Misuse);
    }
    append(&store, key, &theirs[1]).unwrap();
    // Begun again, with other parts in the same places.
    for record in &mine {
        append(&store, key, record).unwrap();
    }
    assert_eq!(own.load(&store).unwrap().unwrap().sequence, Sequence(0));
    let mut dice = Dice(3);
    for _ in 0..40 {
        let (_, record) = own.step(&mut dice);
        append(&store, key, &record).unwrap();
    }
    fold_all(&store);
    assert!(own.load(&store).unwrap().unwrap().base.is_some());
    assert!(store.verify().is_good(), "{:?}", store.verify());
}
