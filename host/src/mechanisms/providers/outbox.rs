//! Effects that transactions staged, from the call that stages one until it is over.
//!
//! ```text
//!   stage ---> Staged, in a transaction --- durable ---> the resource's line ---> carried out
//!   room is         |  rolled back                                                    |
//!   taken           +-------------------------- room is given back -------------------+
//! ```
//!
//! Room is taken when an effect is staged, so that a transaction that has committed never finds the
//! line full.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::base::ids::RequestId;
use crate::base::limits::{EFFECTS_WAITING_BYTES_MAX, EFFECTS_WAITING_MAX};
use crate::pure::resource::operation::{CallError, Operation};

/// What became of the effects of one resource, since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EffectCounts {
    /// Released, and not over.
    pub waiting: u64,
    /// Carried out.
    pub done: u64,
    /// Over, and not carried out: refused, or not taken however often it was tried.
    pub failed: u64,
    /// Over, and nobody knows whether they were carried out.
    pub unknown: u64,
    /// Given up because the host stopped.
    pub lost: u64,
}

/// How an effect ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Over {
    Done,
    Failed,
    Unknown,
}

#[derive(Debug, Default)]
struct Taken {
    effects: u32,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Room {
    taken: Mutex<Taken>,
    waiting: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    lost: AtomicU64,
}

impl Room {
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let after = taken.bytes.saturating_add(bytes);
        if taken.effects >= EFFECTS_WAITING_MAX || after > EFFECTS_WAITING_BYTES_MAX {
            return None;
        }
        taken.effects += 1;
        taken.bytes = after;
        Some(Place { room: self.clone(), bytes, released: false })
    }
}

/// The room of one effect. Dropping it gives it back.
#[derive(Debug)]
struct Place {
    room: Arc<Room>,
    bytes: usize,
    /// It counts as waiting.
    released: bool,
}

impl Place {
    fn release(&mut self) {
        self.released = true;
        self.room.waiting.fetch_add(1, Ordering::Relaxed);
    }

    fn over(mut self, how: Option<Over>) {
        let count = match how {
            Some(Over::Done) => &self.room.done,
            Some(Over::Failed) => &self.room.failed,
            Some(Over::Unknown) => &self.room.unknown,
            None => &self.room.lost,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.room.waiting.fetch_sub(1, Ordering::Relaxed);
        self.released = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.released {
            self.room.lost.fetch_add(1, Ordering::Relaxed);
            self.room.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.effects -= 1;
        taken.bytes -= self.bytes;
    }
}

/// What a transaction wants done after its commit.
#[derive(Clone, Debug)]
pub struct Effect {
    /// What.
    pub operation: Operation,
    /// It may be carried out more than once, when its fate is not known.
    pub repeatable: bool,
    /// Whose.
    pub daemon: Arc<str>,
    /// The request.
    pub request: RequestId,
}

/// An effect that was released.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) effect: Effect,
    place: Place,
}

impl Released {
    pub(super) fn over(self, how: Over) {
        self.place.over(Some(how));
    }
}

/// An effect of a transaction that has not ended. Dropping it forgets it.
#[derive(Debug)]
pub struct Staged {
    effect: Effect,
    place: Place,
    line: mpsc::Sender<Released>,
}

impl Staged {
    /// The transaction's commit is durable: from here on the effect is carried out. Never waits.
    pub fn release(self) {
        let Self { effect, mut place, line } = self;
        place.release();
        // Its keeper has gone, since the host stops: it counts as lost. It is never full, since
        // there is no more room than that.
        if let Err(unsent) = line.try_send(Released { effect, place }) {
            unsent.into_inner().place.over(None);
        }
    }
}

/// Where effects for one resource are staged.
#[derive(Clone, Debug)]
pub struct Outbox {
    room: Arc<Room>,
    line: mpsc::Sender<Released>,
}

impl Outbox {
    /// Takes room for an effect of so many bytes.
    ///
    /// # Errors
    ///
    /// [`CallError::Full`].
    pub fn stage(&self, effect: Effect, bytes: usize) -> Result<Staged, CallError> {
        let place = self.room.take(bytes).ok_or(CallError::Full)?;
        Ok(Staged { effect, place, line: self.line.clone() })
    }

    /// What became of its effects.
    #[must_use]
    pub fn counts(&self) -> EffectCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EffectCounts {
            waiting: load(&self.room.waiting),
            done: load(&self.room.done),
            failed: load(&self.room.failed),
            unknown: load(&self.room.unknown),
            lost: load(&self.room.lost),
        }
    }
}

/// The released effects of one resource, in order.
pub(super) type Effects = mpsc::Receiver<Released>;

/// Both ends of an outbox.
pub(super) fn outbox() -> (Outbox, Effects) {
    let most = usize::try_from(EFFECTS_WAITING_MAX).unwrap_or(usize::MAX);
    let (line, effects) = mpsc::channel(most);
    (Outbox { room: Arc::default(), line }, effects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect() -> Effect {
        Effect {
            operation: Operation::Redis(Vec::new()),
            repeatable: false,
            daemon: "a".into(),
            request: RequestId(1),
        }
    }

    #[test]
    fn room_is_taken_when_staged_and_given_back_at_the_end() {
        let (outbox, mut effects) = outbox();
        let most = usize::try_from(EFFECTS_WAITING_MAX).unwrap();
        let mut staged: Vec<Staged> =
            (0..most).map(|_| outbox.stage(effect(), 1).unwrap()).collect();
        assert_eq!(outbox.stage(effect(), 1).unwrap_err(), CallError::Full);
        // Undone: its room is free.
        drop(staged.pop());
        staged.push(outbox.stage(effect(), 1).unwrap());
        assert_eq!(outbox.counts(), EffectCounts::default());
        staged.into_iter().for_each(Staged::release);
        assert_eq!(outbox.stage(effect(), 1).unwrap_err(), CallError::Full);
        for over in [Over::Done, Over::Failed, Over::Unknown] {
            effects.try_recv().unwrap().over(over);
        }
        let waiting = EFFECTS_WAITING_MAX.into();
        let expected = EffectCounts { waiting, ..EffectCounts::default() };
        let expected =
            EffectCounts { waiting: waiting - 3, done: 1, failed: 1, unknown: 1, ..expected };
        assert_eq!(outbox.counts(), expected);
        drop(outbox.stage(effect(), 1).unwrap());
        // The keeper goes: all that waits is lost, and so is what comes later.
        let late = outbox.stage(effect(), 1).unwrap();
        drop(effects);
        late.release();
        let lost = waiting - 3 + 1;
        let counts = EffectCounts { waiting: 0, lost, ..expected };
        assert_eq!(outbox.counts(), counts);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (outbox, _effects) = outbox();
        let half = EFFECTS_WAITING_BYTES_MAX / 2;
        let first = outbox.stage(effect(), half).unwrap();
        let second = outbox.stage(effect(), half).unwrap();
        assert_eq!(outbox.stage(effect(), 1).unwrap_err(), CallError::Full);
        drop(first);
        drop(outbox.stage(effect(), half).unwrap());
        second.release();
        assert_eq!(outbox.stage(effect(), half + 1).unwrap_err(), CallError::Full);
    }
}
