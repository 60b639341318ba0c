//! Following: images that catch up with the committed image of others, commit by commit.
//!
//! ```text
//!   who commits                                    whoever follows
//!   change begins: number odd, copies awaited      number as seen? nothing to do
//!     cards written, each gets the next number     odd: waits
//!   published: number even, sequence               even: copies the cards with newer numbers,
//!                                                  while no change can begin
//! ```
//!
//! Who commits publishes when nothing stands between its commits and its answers any more, so a
//! change may last longer than the copying does. A follower sees one published state or the next
//! one, whole; it has both its images like it then.
//!
//! # Safety argument
//!
//! The committed image is written by its owner alone, through `&mut Images`, and only after
//! [`Shared::begin`] has made the number odd and waited until nobody copies. A follower reads it
//! only while it counts as copying, and it begins to count under the same lock, while the number is
//! even. So no write is concurrent with a read. An `Arc` holds the mapping, so that it outlives its
//! owner. A follower's own images are its own alone, as `images` says: no guest code runs on
//! them meanwhile, and both map the budget, inside which all copied ranges lie.

#![expect(unsafe_code, reason = "copies between mappings")]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::images::{Images, Mismatch};
use super::mapping::Mapping;
use crate::base::ids::Sequence;
use crate::base::limits::FOLLOW_TURN;

/// Cards whose newest number is kept beside theirs, so that most of an image is passed over at
/// once.
const BLOCK_CARDS: usize = 128;

/// What a published state is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    /// The commit.
    pub sequence: Sequence,
    /// Hash of its record; zero where there are no records.
    pub record: blake3::Hash,
    /// Of the journal, when the state was loaded; 0 where there is none.
    pub incarnation: u64,
}

/// A committed image that others follow.
#[derive(Debug)]
pub struct Shared {
    committed: Arc<Mapping>,
    card_shift: u32,
    /// Even when a state is published, odd while it is changed. Written under the lock.
    number: AtomicU64,
    /// Its owner is gone. Written under the lock.
    over: AtomicBool,
    /// The number of the last state that changed each card. Written during a change, read by those
    /// who copy.
    cards: Box<[AtomicU64]>,
    /// The newest one of `BLOCK_CARDS` cards each.
    blocks: Box<[AtomicU64]>,
    state: Mutex<State>,
    /// Nobody copies any more, something was published, or it is over.
    turned: Condvar,
}

#[derive(Debug)]
struct State {
    published: Published,
    size: usize,
    controls: Vec<Box<[u8]>>,
    copying: usize,
    /// A change waits for those.
    awaited: bool,
    /// So many wait for something to be published.
    waiting: usize,
}

/// The owner's end.
#[derive(Debug)]
pub(super) struct Sharing {
    shared: Arc<Shared>,
    changing: bool,
}

/// A follower's end: what it has seen.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    number: u64,
    published: Published,
}

/// What came of catching up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Followed {
    /// There was nothing new.
    Same,
    /// The images have the newest published state. When the size is another one, an instance on
    /// them has to be replaced.
    Changed {
        /// The size is another one.
        resized: bool,
    },
    /// Nothing was published within the time, or there is no memory for it; nothing has changed.
    Late,
    /// There is nobody to follow any more; nothing has changed.
    Over,
}

const NOTHING: Published =
    Published { sequence: Sequence(0), record: blake3::Hash::from_bytes([0; 32]), incarnation: 0 };

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change begins: waits until nobody copies, and nobody begins to. Whoever waited for the end
    /// of the change before has a turn first: an owner without a pause would leave them none.
    fn begin(&self) {
        let wait =
            self.turned.wait_timeout_while(self.lock(), FOLLOW_TURN, |state| state.waiting > 0);
        let mut state = wait.unwrap_or_else(PoisonError::into_inner).0;
        self.number.fetch_add(1, Ordering::AcqRel);
        state.awaited = true;
        while state.copying > 0 {
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.awaited = false;
    }

    /// These bytes change with the state that is published next.
    fn note(&self, bytes: &Range<usize>) {
        if bytes.is_empty() {
            return;
        }
        let next = self.number.load(Ordering::Relaxed) + 1;
        let (first, last) = (bytes.start >> self.card_shift, (bytes.end - 1) >> self.card_shift);
        let cards = self.cards.get(first..=last).unwrap_or_default();
        let blocks = self.blocks.get(first / BLOCK_CARDS..=last / BLOCK_CARDS).unwrap_or_default();
        for number in cards.iter().chain(blocks) {
            number.store(next, Ordering::Relaxed);
        }
    }

    /// From here on nobody who has not begun to copy does, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Followed::Late`], [`Followed::Over`].
    fn copy(&self, wait: Duration) -> Result<(Copying<'_>, MutexGuard<'_, State>), Followed> {
        let unsettled = || self.number.load(Ordering::Relaxed) % 2 == 1;
        let mut state = self.lock();
        if unsettled() {
            state.waiting += 1;
            let waited = self.turned.wait_timeout_while(state, wait, |_| {
                unsettled() && !self.over.load(Ordering::Relaxed)
            });
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
            if state.waiting == 0 {
                // The next change may wait for that.
                self.turned.notify_all();
            }
        }
        if self.over.load(Ordering::Relaxed) {
            return Err(Followed::Over);
        }
        if unsettled() {
            return Err(Followed::Late);
        }
        state.copying += 1;
        Ok((Copying(self), state))
    }

    /// Hands out the ranges of the first `size` bytes that are newer than `number`.
    fn newer(&self, number: u64, size: usize, mut copy: impl FnMut(Range<usize>)) {
        let is_newer = |one: &AtomicU64| one.load(Ordering::Relaxed) > number;
        let mut flush = |run: &Range<usize>| {
            let bytes = run.start << self.card_shift..(run.end << self.card_shift).min(size);
            if !bytes.is_empty() {
                copy(bytes);
            }
        };
        let mut run = 0..0;
        let blocks = self.blocks.iter().zip(self.cards.chunks(BLOCK_CARDS)).enumerate();
        for (block, (_, cards)) in blocks.filter(|(_, (newest, _))| is_newer(newest)) {
            for (card, _) in cards.iter().enumerate().filter(|(_, card)| is_newer(card)) {
                let card = block * BLOCK_CARDS + card;
                if run.end != card {
                    flush(&run);
                    run.start = card;
                }
                run.end = card + 1;
            }
        }
        flush(&run);
    }
}

/// Somebody copies.
struct Copying<'a>(&'a Shared);

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.copying -= 1;
        let awaited = state.awaited && state.copying == 0;
        drop(state);
        if awaited {
            self.0.turned.notify_all();
        }
    }
}

impl Sharing {
    /// As [`Shared::note`].
    pub(super) fn note(&self, bytes: &Range<usize>) {
        self.shared.note(bytes);
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        let state = self.shared.lock();
        self.shared.over.store(true, Ordering::Relaxed);
        if !self.changing {
            // So that no follower takes what it has seen for the newest.
            self.shared.number.fetch_add(1, Ordering::AcqRel);
        }
        drop(state);
        self.shared.turned.notify_all();
    }
}

impl Follower {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), number: 0, published: NOTHING }
    }

    /// What its images hold; none when it has seen nothing yet.
    #[must_use]
    pub fn published(&self) -> Option<Published> {
        (self.number > 0).then_some(self.published)
    }

    /// There is nobody to follow any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::Relaxed)
    }
}

impl Images {
    /// Lets others follow the committed image, from the first time on that it is published. Where
    /// this is called again, those who followed are left behind.
    pub fn share(&mut self) -> Arc<Shared> {
        let cards = self.budget.div_ceil(1 << self.card_shift);
        let numbers = |count| std::iter::repeat_with(AtomicU64::default).take(count).collect();
        let controls = self.committed_states().map(Into::into).collect();
        let (published, size) = (NOTHING, 0);
        let state = State { published, size, controls, copying: 0, awaited: false, waiting: 0 };
        let shared = Arc::new(Shared {
            committed: self.committed.clone(),
            card_shift: self.card_shift,
            number: AtomicU64::new(1),
            over: AtomicBool::new(false),
            cards: numbers(cards),
            blocks: numbers(cards.div_ceil(BLOCK_CARDS)),
            state: Mutex::new(state),
            turned: Condvar::new(),
        });
        self.sharing = Some(Sharing { shared: shared.clone(), changing: true });
        self.change(0..self.committed_size);
        shared
    }

    /// The committed image is about to change.
    pub(super) fn begin_change(&mut self) {
        if let Some(sharing) = self.sharing.as_mut().filter(|sharing| !sharing.changing) {
            sharing.shared.begin();
            sharing.changing = true;
        }
    }

    /// These bytes of it are.
    pub(super) fn change(&mut self, bytes: Range<usize>) {
        self.begin_change();
        if let Some(sharing) = &self.sharing {
            sharing.note(&bytes);
        }
    }

    /// There are changes of the committed image that followers don't know.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| sharing.changing)
    }

    /// Lets followers see the committed image as it is now, if it has changed.
    pub fn publish(&mut self, published: Published) {
        let Some(sharing) = self.sharing.as_mut().filter(|sharing| sharing.changing) else {
            return;
        };
        let mut state = sharing.shared.lock();
        state.published = published;
        state.size = self.committed_size;
        for (shown, control) in state.controls.iter_mut().zip(&self.controls) {
            shown.copy_from_slice(&control.committed_state);
        }
        sharing.shared.number.fetch_add(1, Ordering::AcqRel);
        sharing.changing = false;
        let somebody_waits = state.waiting > 0;
        drop(state);
        if somebody_waits {
            sharing.shared.turned.notify_all();
        }
    }

    /// Makes both images like the newest published state of others of the same shape; waits up to
    /// `wait` for the end of a change. They must be equal, as between two calls of the guest. With
    /// `verify` everything is compared.
    ///
    /// # Errors
    ///
    /// [`Mismatch`]: something was not copied.
    pub fn follow(
        &mut self,
        follower: &mut Follower,
        wait: Duration,
        verify: bool,
    ) -> Result<Followed, Mismatch> {
        if follower.shared.number.load(Ordering::Acquire) == follower.number {
            return Ok(Followed::Same);
        }
        let shared = follower.shared.clone();
        let (copying, state) = match shared.copy(wait) {
            Ok(copying) => copying,
            Err(not) => return Ok(not),
        };
        let (size, published) = (state.size, state.published);
        // It does not change while somebody copies.
        let number = shared.number.load(Ordering::Relaxed);
        let before = self.live.size();
        if !self.resize_both(size) {
            drop(state);
            return Ok(Followed::Late);
        }
        for (control, shown) in self.controls.iter_mut().zip(&state.controls) {
            control.committed_state.copy_from_slice(shown);
        }
        drop(state);
        self.put_state_back();
        let from = shared.committed.address(0).as_ptr();
        let (committed, live) = (self.committed.address(0).as_ptr(), self.live.base().as_ptr());
        shared.newer(follower.number, size, |range| {
            let Range { start, end } = range;
            // SAFETY: the range lies inside `size` <= budget bytes, which all three map and the
            // live image has open. They are different mappings; nobody writes the first one while
            // this is `copying`, and the others are ours.
            unsafe {
                std::ptr::copy_nonoverlapping(from.add(start), committed.add(start), end - start);
                std::ptr::copy_nonoverlapping(from.add(start), live.add(start), end - start);
            }
        });
        if verify {
            self.verify()?;
            self.compare(&shared, size)?;
        }
        drop(copying);
        (follower.number, follower.published) = (number, published);
        Ok(Followed::Changed { resized: before != size })
    }

    /// Gives both images this size; bytes that are new, or gone, are zero. False when there is no
    /// memory for it.
    fn resize_both(&mut self, size: usize) -> bool {
        let before = self.live.size();
        if size > self.budget || !self.live.set_size(size.max(before)) {
            return false;
        }
        if size < before {
            // SAFETY: `before` bytes are open, and no guest code runs.
            unsafe { self.live.base().as_ptr().add(size).write_bytes(0, before - size) };
        }
        self.live.set_size(size) && self.resize_committed(size)
    }

    /// Compares the committed image with that of others, which nobody may change meanwhile.
    fn compare(&self, shared: &Shared, size: usize) -> Result<(), Mismatch> {
        // SAFETY: as in `follow`, where this is called: `size` bytes, and nobody writes them.
        let theirs =
            unsafe { std::slice::from_raw_parts(shared.committed.address(0).as_ptr(), size) };
        let ours = self.committed();
        let differing = || theirs.iter().zip(ours).position(|(a, b)| a != b).unwrap_or(0);
        if theirs == ours { Ok(()) } else { Err(Mismatch::Data { offset: differing() }) }
    }
}

#[cfg(test)]
mod tests;
