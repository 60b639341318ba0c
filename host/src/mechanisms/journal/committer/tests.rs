use std::sync::mpsc::{Sender, channel};

use super::super::testing::{Dice, Disk, Failure, Which, group, players, small};
use super::*;
use crate::base::clock::ManualClock;

type Answer = Result<CommitReceipt, JournalFault>;

fn submission(
    daemon: DaemonKey,
    sequence: Sequence,
    record: Option<Vec<u8>>,
    answers: &Sender<Answer>,
) -> Submission {
    let answers = answers.clone();
    let on_synced: OnSynced = Box::new(move |answer| answers.send(answer).unwrap());
    Submission { daemon, sequence, record, on_synced }
}

#[test]
fn receipts_come_in_order_and_barriers_wait_for_their_commit() {
    let store = Arc::new(Disk::default().open(small(), false).unwrap());
    let mut players = players(&store, 2);
    let committer =
        Committer::start(store.clone(), Arc::new(ManualClock::at(0)), &Vitals::default()).unwrap();
    let submitter = committer.submitter();
    let (sender, receiver) = channel();
    let mut dice = Dice(3);
    for _ in 0..200 {
        for player in &mut players {
            let (sequence, record) = player.step(&mut dice);
            let commit = submission(player.key, sequence, Some(record), &sender);
            submitter.submit(commit).unwrap();
            submitter.submit(submission(player.key, sequence, None, &sender)).unwrap();
        }
    }
    committer.stop();
    for n in 0..200 {
        for player in &players {
            for _ in 0..2 {
                let receipt = receiver.recv().unwrap().unwrap();
                assert_eq!((receipt.daemon(), receipt.sequence()), (player.key, Sequence(n)));
            }
        }
    }
    let late = submitter.submit(submission(players[0].key, Sequence(0), None, &sender));
    assert!(matches!(late, Err(SubmitError::Closed(_))));
    let mut buffers = Vec::new();
    submitter.buffers(&mut buffers);
    assert!(!buffers.is_empty() && buffers.iter().all(|b| b.is_empty() && b.capacity() > 0));
    for player in &players {
        assert_eq!(player.load(&store).unwrap().unwrap().sequence, Sequence(199));
    }
}

#[test]
fn i20_after_a_failed_sync_nothing_is_acknowledged_until_the_journal_was_opened_again() {
    let disk = Disk::default();
    let store = Arc::new(disk.open(small(), false).unwrap());
    let mut players = players(&store, 1);
    let mut dice = Dice(5);
    group(&store, &mut players, &mut dice).unwrap();
    let kind = std::io::ErrorKind::StorageFull;
    let file = Some(Which::Log);
    let failure = Failure { at: 0, forever: true, kind, short: false, file };
    disk.0.lock().unwrap().failure = Some(failure);
    let committer =
        Committer::start(store.clone(), Arc::new(ManualClock::at(0)), &Vitals::default()).unwrap();
    let (sender, receiver) = channel();
    let key = players[0].key;
    for n in 0..3 {
        let (sequence, record) = players[0].step(&mut dice);
        let commit = submission(key, sequence, Some(record), &sender);
        committer.submitter().submit(commit).unwrap();
        let fault = receiver.recv().unwrap().unwrap_err();
        let expected = if n == 0 { FaultKind::Full } else { FaultKind::Poisoned };
        assert_eq!(fault.kind, expected, "{fault}");
        assert_eq!(fault.unknown(), n == 0);
    }
    let barrier = |sequence| submission(key, Sequence(sequence), None, &sender);
    committer.submitter().submit(barrier(0)).unwrap();
    assert_eq!(receiver.recv().unwrap().unwrap().sequence(), Sequence(0));
    committer.submitter().submit(barrier(1)).unwrap();
    assert!(receiver.recv().unwrap().is_err());
    assert!(committer.metrics().failed.is_some());
    disk.0.lock().unwrap().failure = None;
    while store.refusal().is_some() {
        std::thread::yield_now();
    }
    assert_eq!(store.incarnation(), 2);
    let found = store.durable(key).unwrap();
    assert_eq!(found, Sequence(0));
    players[0].rewind(found.0 + 1);
    let (sequence, record) = players[0].step(&mut dice);
    committer.submitter().submit(submission(key, sequence, Some(record), &sender)).unwrap();
    assert_eq!(receiver.recv().unwrap().unwrap().sequence(), Sequence(1));
    assert!(committer.metrics().failed.is_none());
}

/// The write was done and its sync failed: nobody can say what is on the disk, until it is opened
/// again. What is found there then is synced, so whoever waits for it needn't wait for a next one.
#[test]
fn i20_a_commit_that_was_unknown_and_is_found_is_durable_for_those_who_wait_for_it() {
    let mut found_again = 0;
    for at in 0..6 {
        let disk = Disk::default();
        let store = Arc::new(disk.open(small(), false).unwrap());
        let mut players = players(&store, 1);
        let mut dice = Dice(9);
        group(&store, &mut players, &mut dice).unwrap();
        let committer =
            Committer::start(store.clone(), Arc::new(ManualClock::at(0)), &Vitals::default())
                .unwrap();
        let submitter = committer.submitter();
        let (sender, receiver) = channel();
        let key = players[0].key;
        let (first, record) = players[0].step(&mut dice);
        submitter.submit(submission(key, first, Some(record), &sender)).unwrap();
        assert_eq!(receiver.recv().unwrap().unwrap().sequence(), first);
        let (kind, file) = (std::io::ErrorKind::Other, Some(Which::Log));
        let at = disk.ops() + at;
        let failure = Failure { at, forever: false, kind, short: false, file };
        disk.0.lock().unwrap().failure = Some(failure);
        let (last, record) = players[0].step(&mut dice);
        submitter.submit(submission(key, last, Some(record), &sender)).unwrap();
        let failed = receiver.recv().unwrap().is_err();
        while store.refusal().is_some() {
            std::thread::yield_now();
        }
        let found = store.durable(key).unwrap();
        submitter.submit(submission(key, found, None, &sender)).unwrap();
        assert_eq!(receiver.recv().unwrap().unwrap().sequence(), found);
        found_again += usize::from(failed && found == last);
    }
    assert!(found_again > 0, "no sync failed after its write");
}

#[test]
fn one_daemons_mistake_is_not_anothers_failure() {
    let store = Arc::new(Disk::default().open(small(), false).unwrap());
    let mut players = players(&store, 2);
    let mut dice = Dice(7);
    let committer =
        Committer::start(store, Arc::new(ManualClock::at(0)), &Vitals::default()).unwrap();
    let (sender, receiver) = channel();
    let (good, bad) = (players[0].key, players[1].key);
    let _skipped = players[1].step(&mut dice);
    for key in [1, 0, 0] {
        let (sequence, record) = players[key].step(&mut dice);
        let commit = submission(players[key].key, sequence, Some(record), &sender);
        committer.submitter().submit(commit).unwrap();
    }
    let answers: Vec<Answer> = (0..3).map(|_| receiver.recv().unwrap()).collect();
    let fault = answers[0].as_ref().unwrap_err();
    assert_eq!((fault.kind, fault.daemon), (FaultKind::Misuse, Some(bad)));
    assert!(answers[1..].iter().all(|answer| answer.as_ref().unwrap().daemon() == good));
}
