//! One answer, from whoever works for it to the thread that waits for it.
//!
//! The thread that makes the two ends is the one that waits. It parks itself, so that others can
//! wake it for other reasons too: it has to look at the claim, and at those reasons, each time.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Thread, current};

#[derive(Debug)]
enum State<T> {
    Open,
    Settled(T),
    /// The ticket was dropped, or the answer was taken.
    Gone,
}

#[derive(Debug)]
struct Slot<T> {
    state: Mutex<State<T>>,
    waits: Thread,
}

/// The end of whoever answers. Dropping it says that there will be no answer.
#[derive(Debug)]
pub struct Ticket<T>(Arc<Slot<T>>);

/// The end of the thread that waits. Dropping it gives the answer up.
#[derive(Debug)]
pub struct Claim<T>(Arc<Slot<T>>);

/// What a claim has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claimed<T> {
    /// No answer yet.
    Open,
    /// The answer.
    Settled(T),
    /// There will be none.
    Gone,
}

/// Two ends of one answer. The thread that calls this is the one that is woken.
#[must_use]
pub fn ticket<T>() -> (Ticket<T>, Claim<T>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Open), waits: current() });
    (Ticket(slot.clone()), Claim(slot))
}

impl<T> Ticket<T> {
    /// Answers.
    pub fn settle(self, answer: T) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Settled(answer);
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Open) {
            *state = State::Gone;
        }
        drop(state);
        self.0.waits.unpark();
    }
}

impl<T> Claim<T> {
    /// The answer, if it is there; once.
    #[must_use]
    pub fn take(&self) -> Claimed<T> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Gone) {
            State::Open => {
                *state = State::Open;
                Claimed::Open
            }
            State::Settled(answer) => Claimed::Settled(answer),
            State::Gone => Claimed::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_and_a_dropped_ticket_says_so() {
        let (ticket, claim) = super::ticket();
        assert_eq!(claim.take(), Claimed::Open);
        ticket.settle(7);
        assert_eq!((claim.take(), claim.take()), (Claimed::Settled(7), Claimed::Gone));
        let (ticket, claim) = super::ticket::<u8>();
        drop(ticket);
        assert_eq!(claim.take(), Claimed::Gone);
    }

    #[test]
    fn whoever_answers_wakes_the_thread_that_waits() {
        for settles in [true, false] {
            let (ticket, claim) = super::ticket();
            let answers = std::thread::spawn(move || {
                if settles {
                    ticket.settle(())
                }
            });
            let expected = if settles { Claimed::Settled(()) } else { Claimed::Gone };
            let claimed = loop {
                match claim.take() {
                    // For ever, if nobody wakes it.
                    Claimed::Open => std::thread::park(),
                    claimed => break claimed,
                }
            };
            assert_eq!(claimed, expected);
            answers.join().unwrap();
        }
    }
}
