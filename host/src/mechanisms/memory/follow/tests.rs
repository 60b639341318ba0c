use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::super::cards::state_address;
use super::super::images::{ControlShape, Shape};
use super::*;
use crate::base::limits::WASM_PAGE_BYTES;

const SHIFT: u32 = 12;
const PAGES: usize = 16;
const BUDGET: usize = PAGES * WASM_PAGE_BYTES;
const AT_ONCE: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);

fn images(pages: usize) -> Images {
    let (control_bytes, state_offset) = ((1 << 20) + WASM_PAGE_BYTES, 1 << 20);
    let controls = vec![ControlShape { state_bytes: 16 }; 2];
    let shape = Shape { card_shift: SHIFT, control_bytes, state_offset, controls };
    let images = Images::new(BUDGET, &shape).unwrap();
    assert!(images.live_slot().set_size(pages * WASM_PAGE_BYTES));
    images
}

/// Writes like a guest: mark first, then two words, then a global.
fn write(images: &Images, address: usize, value: u64) {
    let address = address.min(images.live_size() - 8);
    let table = images.control_slot(0).unwrap().base().as_ptr();
    let state = state_address(&images.controls[1].slot, images.state_offset);
    // SAFETY: inside the live size and the state area; the card table covers every 32-bit address.
    unsafe {
        table.add(address >> SHIFT).write(1);
        images.live_slot().base().as_ptr().add(address).cast::<u64>().write_unaligned(value);
        state.cast::<u64>().write_unaligned(value);
    }
}

fn read(images: &Images, address: usize) -> u64 {
    // SAFETY: tests stay inside the live size.
    unsafe { images.live_slot().base().as_ptr().add(address).cast::<u64>().read_unaligned() }
}

fn commit(sequence: u64) -> Published {
    Published { sequence: Sequence(sequence), incarnation: sequence / 2, ..NOTHING }
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u64),
    Grow(usize),
    Commit,
    RollBack,
    /// A state that `init` makes, of so many pages.
    StartOver(usize, u64),
    /// A state from the journal, of so many pages.
    Load(usize, usize, Vec<u8>),
    Publish,
    Follow(usize),
    /// A follower's transaction, which is rolled back.
    Read(usize, usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (address, pages) = (0..BUDGET, 1..=PAGES);
    prop_oneof![
        6 => (address.clone(), any::<u64>()).prop_map(|(at, value)| Step::Write(at, value)),
        1 => pages.clone().prop_map(Step::Grow),
        4 => Just(Step::Commit),
        1 => Just(Step::RollBack),
        1 => (pages.clone(), any::<u64>()).prop_map(|(pages, value)| Step::StartOver(pages, value)),
        1 => (pages, address.clone(), prop::collection::vec(any::<u8>(), 0..20_000))
            .prop_map(|(pages, at, bytes)| Step::Load(pages, at, bytes)),
        4 => Just(Step::Publish),
        5 => (0..2_usize).prop_map(Step::Follow),
        2 => (0..2_usize, address, any::<u64>()).prop_map(|(who, at, value)| {
            Step::Read(who, at, value)
        }),
    ]
}

/// Does a step of the owner, as its daemon does.
fn change(owner: &mut Images, step: &Step) {
    match step {
        Step::Write(at, value) => write(owner, *at, *value),
        Step::Grow(pages) => {
            let size = owner.live_size().max(pages * WASM_PAGE_BYTES);
            assert!(owner.live_slot().set_size(size));
        }
        Step::Commit => drop(owner.commit()),
        Step::RollBack => drop(owner.roll_back()),
        Step::StartOver(pages, value) => {
            owner.clear_live();
            assert!(owner.live_slot().set_size(pages * WASM_PAGE_BYTES));
            write(owner, 5000, *value);
            owner.commit_whole();
        }
        Step::Load(pages, at, bytes) => {
            let size = pages * WASM_PAGE_BYTES;
            owner.clear_live();
            owner.clear_committed();
            assert!(owner.resize_committed(size / 2) && owner.resize_committed(size));
            let at = (*at).min(size - bytes.len().min(size));
            assert!(owner.write_committed(at, bytes.get(..size.min(bytes.len())).unwrap()));
            assert!(owner.write_committed_state(0, &[7; 16]));
            owner.set_live_size_to_committed();
            owner.load_committed();
        }
        Step::Publish | Step::Follow(_) | Step::Read(..) => {}
    }
}

/// Runs steps, and compares each follower with the last published state.
fn follow_along(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut owner = images(2);
    let shared = owner.share();
    owner.commit();
    let mut followers = [0, 1].map(|_| (images(0), Follower::new(&shared)));
    let mut published = None;
    let mut sequence = 0;
    for step in steps {
        change(&mut owner, step);
        match step {
            Step::Publish if owner.is_changing() => {
                // What is live and not committed is nobody's business.
                sequence += 1;
                owner.publish(commit(sequence));
                published = Some((sequence, owner.committed_hash()));
            }
            Step::Follow(who) => {
                let (images, follower) = &mut followers[*who];
                let followed = images.follow(follower, AT_ONCE, !owner.is_changing()).unwrap();
                prop_assert_eq!(images.verify(), Ok(()));
                let (size, hash) = (images.live_size(), images.committed_hash());
                match followed {
                    Followed::Late => prop_assert!(owner.is_changing()),
                    _ => {
                        let seen = follower.published().unwrap();
                        prop_assert_eq!(Some((seen.sequence.0, hash)), published);
                        prop_assert_eq!(seen, commit(sequence));
                        prop_assert_eq!(size, owner.committed_size());
                    }
                }
                // Its instance traps above the size.
                prop_assert!(images.live_slot().close_above_size());
            }
            Step::Read(who, at, value) if followers[*who].0.live_size() > 0 => {
                let images = &mut followers[*who].0;
                write(images, *at, *value);
                assert!(images.live_slot().set_size(BUDGET));
                write(images, BUDGET - 9, *value);
                images.roll_back();
                prop_assert_eq!(images.verify(), Ok(()));
            }
            _ => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn s0_17_a_follower_has_what_was_published_last_whatever_happened_in_between(
        steps in prop::collection::vec(step(), 0..60)
    ) {
        follow_along(&steps)?;
    }
}

#[test]
fn s0_17_a_state_that_shrank_and_grew_again_has_no_old_bytes_for_who_missed_that() {
    let large = PAGES;
    let at = (PAGES - 1) * WASM_PAGE_BYTES;
    for shrink in [Step::StartOver(1, 3), Step::Load(1, 0, vec![1; 9])] {
        let steps = [
            Step::Grow(large),
            Step::Write(at, 77),
            Step::Commit,
            Step::Publish,
            Step::Follow(0),
            shrink,
            Step::Publish,
            Step::Follow(1),
            Step::Grow(large),
            Step::Write(0, 1),
            Step::Commit,
            Step::Publish,
            Step::Follow(0),
            Step::Follow(1),
        ];
        follow_along(&steps).unwrap();
    }
}

#[test]
fn s0_17_followers_beside_one_who_commits_see_one_state_or_the_next_and_none_again() {
    const COMMITS: u64 = 30_000;
    let (left, right) = (100, BUDGET - 100);
    let mut owner = images(PAGES);
    let shared = owner.share();
    owner.commit();
    owner.publish(commit(0));
    let begun = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let followers: Vec<_> = (0..2)
            .map(|_| {
                let (mut follower, begun) = (Follower::new(&shared), &begun);
                scope.spawn(move || {
                    let (mut images, mut states, mut last) = (images(0), 0_u64, None);
                    loop {
                        match images.follow(&mut follower, MINUTE, false).unwrap() {
                            Followed::Over => return states,
                            Followed::Late => panic!("nothing was published for a minute"),
                            Followed::Same => {}
                            Followed::Changed { .. } => {
                                states += 1;
                                begun.fetch_add(usize::from(states == 1), Ordering::SeqCst);
                            }
                        }
                        let seen = follower.published().unwrap();
                        assert!(last <= Some(seen.sequence));
                        last = Some(seen.sequence);
                        let cells = (read(&images, left), read(&images, right));
                        assert_eq!(cells, (seen.sequence.0, seen.sequence.0));
                    }
                })
            })
            .collect();
        while begun.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        for sequence in 1..=COMMITS {
            write(&owner, left, sequence);
            write(&owner, right, sequence);
            owner.commit();
            owner.publish(commit(sequence));
        }
        drop(owner);
        let states: Vec<u64> = followers.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(states.iter().all(|&states| states > 0), "{states:?}");
    });
}

/// Nobody starves beside an owner that makes no pause between two commits.
#[test]
fn s0_17_whoever_waited_for_the_end_of_a_change_has_a_turn_before_the_next() {
    const COMMITS: u64 = 200;
    let mut owner = images(PAGES);
    let shared = owner.share();
    owner.commit();
    owner.publish(commit(0));
    let mut follower = Follower::new(&shared);
    let seen = std::thread::scope(|scope| {
        let follows = scope.spawn(move || {
            let (mut images, mut seen) = (images(0), 0);
            loop {
                match images.follow(&mut follower, MINUTE, false).unwrap() {
                    Followed::Over => return seen,
                    Followed::Changed { .. } => seen += 1,
                    Followed::Same | Followed::Late => std::thread::yield_now(),
                }
            }
        });
        for sequence in 1..=COMMITS {
            write(&owner, 100, sequence);
            owner.commit();
            while shared.lock().waiting == 0 {
                std::thread::yield_now();
            }
            owner.publish(commit(sequence));
        }
        drop(owner);
        follows.join().unwrap()
    });
    // A machine that is busy may not wake it in time, now and then.
    assert!(seen > COMMITS / 2, "{seen}");
}

#[test]
fn s0_17_a_change_waits_for_who_copies_and_who_is_late_has_changed_nothing() {
    let mut owner = images(2);
    let shared = owner.share();
    let (mut images, mut follower) = (images(0), Follower::new(&shared));
    assert_eq!(images.follow(&mut follower, AT_ONCE, true), Ok(Followed::Late));
    assert_eq!((images.live_size(), follower.published()), (0, None));
    write(&owner, 9000, 5);
    owner.commit();
    owner.publish(commit(1));
    assert!(!owner.is_changing());
    let resized = Followed::Changed { resized: true };
    assert_eq!(images.follow(&mut follower, AT_ONCE, true), Ok(resized));
    assert_eq!(images.follow(&mut follower, AT_ONCE, true), Ok(Followed::Same));
    assert_eq!(read(&images, 9000), 5);
    let (copying, state) = shared.copy(AT_ONCE).unwrap();
    drop(state);
    let begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            write(&owner, 9000, 6);
            owner.commit();
            begun.store(true, Ordering::SeqCst);
            owner
        });
        while shared.number.load(Ordering::SeqCst).is_multiple_of(2) {
            std::thread::yield_now();
        }
        // It waits; and nobody else begins to copy.
        assert!(matches!(shared.copy(Duration::from_millis(5)), Err(Followed::Late)));
        assert!(!begun.load(Ordering::SeqCst));
        drop(copying);
        let owner = changing.join().unwrap();
        assert!(begun.load(Ordering::SeqCst));
        assert_eq!(images.follow(&mut follower, AT_ONCE, true), Ok(Followed::Late));
        assert_eq!(read(&images, 9000), 5);
        drop(owner);
    });
    assert!(follower.is_over());
    assert_eq!(images.follow(&mut follower, MINUTE, true), Ok(Followed::Over));
    assert_eq!(read(&images, 9000), 5);
}
