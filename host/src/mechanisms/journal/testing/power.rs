//! The power fails: after any operation, with any part of what was not synced lost, torn at 512
//! bytes or replaced by garbage. Acknowledged commits must be there, whole and in a whole chain.
//!
//! The store's first sector is written in place with each commit: it is old or new, never garbage.
//! A disk that breaks this promise makes the store refuse to open; it does not lose in silence.

use crate::base::ids::RequestId;

use super::{Dice, Disk, Journal, Op, Player, fold_all, group, players, small};

const SECTOR: usize = 512;

/// What a run left behind.
struct Run {
    log: Vec<Op>,
    players: Vec<Player>,
    /// Operations logged when so many commits of each player were acknowledged.
    acked: Vec<usize>,
    /// Where the store was complete, so that a marker would say that there is state.
    created: usize,
}

fn run(groups: usize, ignored_sync: Option<(usize, usize)>) -> Run {
    let disk = Disk::default();
    disk.0.lock().unwrap().ignored_sync = ignored_sync;
    let mut dice = Dice(11);
    let store = disk.open(small(), false).unwrap();
    let mut players = players(&store, 2);
    let created = disk.logged();
    let mut acked = Vec::new();
    for round in 0..groups {
        // A crash report between commits must not cost one.
        store.put_crashes(&[(RequestId(round as u64), b"{}".to_vec())]).unwrap();
        group(&store, &mut players, &mut dice).unwrap();
        acked.push(disk.logged());
        if round % 3 == 2 {
            store.tend().unwrap();
        }
    }
    fold_all(&store);
    let log = disk.0.lock().unwrap().log.clone();
    Run { log, players, acked, created }
}

/// The files after a power cut behind operation `cut`.
fn image(log: &[Op], cut: usize, dice: &mut Dice) -> [Vec<u8>; 3] {
    let mut files = [Vec::new(), Vec::new(), Vec::new()];
    for (number, file) in files.iter_mut().enumerate() {
        let synced = log[..cut].iter().rposition(|op| matches!(op, Op::Sync(n) if *n == number));
        let synced = synced.unwrap_or(0);
        let kept_of_four = dice.roll(5);
        for (at, op) in log[..cut].iter().enumerate() {
            let sure = at < synced;
            match op {
                Op::SetLen(n, length) if *n == number && (sure || dice.roll(4) < kept_of_four) => {
                    file.resize(usize::try_from(*length).unwrap(), 0);
                }
                Op::Write(n, offset, bytes) if *n == number => {
                    let mut offset = usize::try_from(*offset).unwrap();
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let length = (SECTOR - offset % SECTOR).min(rest.len());
                        let kept = sure || dice.roll(4) < kept_of_four;
                        if let Some(place) = file.get_mut(offset..offset + length) {
                            if kept {
                                place.copy_from_slice(&rest[..length]);
                            } else if garbage_may_be(number, offset) && dice.roll(200) == 0 {
                                place.fill(0xa5);
                            }
                        }
                        (offset, rest) = (offset + length, &rest[length..]);
                    }
                }
                _ => {}
            }
        }
    }
    files
}

/// The tables' first sector is written in place, and so are the acknowledgements.
fn garbage_may_be(file: usize, offset: usize) -> bool {
    file == 2 || (file == 0 && offset >= SECTOR)
}

/// Opens an image; says what is wrong with it.
fn judge(run: &Run, cut: usize, files: [Vec<u8>; 3]) -> Result<(), String> {
    let acked = run.acked.iter().take_while(|&&logged| logged <= cut).count() as u64;
    let disk = Disk::of(files);
    let store = disk.open(small(), true).map_err(|fault| format!("cut {cut}: {fault}"))?;
    for player in &run.players {
        let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| player.load(&store)))
            .map_err(|_| format!("cut {cut}: mixed"))?
            .map_err(|fault| format!("cut {cut}: {fault}"))?;
        let found = loaded.map_or(0, |loaded| loaded.sequence.0 + 1);
        if found < acked {
            return Err(format!("cut {cut}: {found} of {acked} acknowledged commits"));
        }
    }
    Ok(())
}

fn images_count() -> usize {
    std::env::var("POWER_CUTS").ok().and_then(|count| count.parse().ok()).unwrap_or(400)
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let run = run(30, None);
    let mut dice = Dice(23);
    for _ in 0..images_count() {
        let cut = run.created + dice.roll(run.log.len() - run.created + 1);
        let files = image(&run.log, cut, &mut dice);
        judge(&run, cut, files).unwrap();
    }
}

#[test]
fn without_one_sync_the_test_above_finds_the_loss() {
    let run = run(12, Some((2, 9)));
    let mut dice = Dice(29);
    let lost = (0..400).any(|_| {
        let cut = run.created + dice.roll(run.log.len() - run.created + 1);
        let files = image(&run.log, cut, &mut dice);
        judge(&run, cut, files).is_err()
    });
    assert!(lost, "the harness has no teeth");
}
