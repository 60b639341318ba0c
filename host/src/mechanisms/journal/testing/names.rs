//! Names without a commit are nobody's; those that nothing runs any more can be taken out.

use super::super::{DaemonKey, FaultKind, Origin};
use super::{Dice, Disk, Journal, Player, group, players, small};

#[test]
fn a_name_whose_first_commit_never_became_durable_is_free_again() {
    let disk = Disk::default();
    let store = disk.open(small(), false).unwrap();
    let mut all = players(&store, 2);
    group(&store, &mut all, &mut Dice(3)).unwrap();
    let failed = store.daemon("copy", Origin::Copy, 1 << 20).unwrap();
    assert!(!store.has_state("copy") && store.has_state("daemon-0"));
    // As long as the host runs, the name keeps its id; what it is to be may be another thing.
    assert_eq!(store.daemon("copy", Origin::Init, 1 << 21).unwrap(), failed);
    assert_eq!(store.find_daemon("copy").unwrap().origin, Origin::Init);
    assert_eq!(store.daemon("daemon-0", Origin::Copy, 1).unwrap(), all[0].key);
    assert_eq!(store.find_daemon("daemon-0").unwrap().origin, Origin::Init);
    drop(store);
    let store = disk.open(small(), true).unwrap();
    assert!(store.find_daemon("copy").is_none());
    assert!(store.verify().is_good(), "{:?}", store.verify());
    let mut next = Player::new(store.daemon("other", Origin::Copy, 1 << 20).unwrap());
    group(&store, std::slice::from_mut(&mut next), &mut Dice(5)).unwrap();
    drop(store);
    let store = disk.open(small(), true).unwrap();
    assert_eq!(next.load(&store).unwrap().unwrap().sequence.0, 0);
    all.iter().for_each(|player| assert!(player.load(&store).unwrap().is_some()));
}

#[test]
fn ids_of_removed_daemons_are_never_given_out_again() {
    let disk = Disk::default();
    let mut dice = Dice(7);
    let mut given = 0;
    for round in 0..12 {
        // The first start drops what never committed, the second one finds that.
        drop(disk.open(small(), round > 0).unwrap());
        let store = disk.open(small(), true).unwrap();
        assert_eq!(store.names_damage(), None, "round {round}");
        for _ in 0..3 {
            let mut all = players(&store, 3);
            for player in &mut all {
                let new = store.durable(player.key).is_none();
                assert_eq!(new, player.key > DaemonKey(given), "{} given again", player.key);
                given = given.max(player.key.0);
                *player = Player::new(player.key);
            }
            all.retain(|player| store.durable(player.key).is_none());
            group(&store, &mut all, &mut dice).unwrap();
            if dice.roll(2) == 0 {
                // One that never commits.
                let key = store.daemon("unborn", Origin::Copy, 1).unwrap();
                given = given.max(key.0);
            }
            store.remove_daemon(&format!("daemon-{}", dice.roll(3))).unwrap();
        }
        let gone = store.remove_daemon("nobody").unwrap_err();
        assert_eq!(gone.kind, FaultKind::Directory);
    }
    let store = disk.open(small(), true).unwrap();
    assert!(store.verify().is_good(), "{:?}", store.verify());
}
