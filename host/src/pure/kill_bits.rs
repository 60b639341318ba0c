//! Kill bits: what becomes of a daemon's requests when a person paused it, or disabled it or one
//! of its contracts.
//!
//! | bits | a new request | one that waits | one that runs |
//! |---|---|---|---|
//! | none | waits for its turn | runs | goes on |
//! | paused | waits for its turn | is held | goes on, or is cancelled as asked |
//! | disabled, it or its contract | is refused | is held | goes on, or is cancelled as asked |
//! | the host stops | is refused | is refused | gets its grace |
//!
//! Held requests wait in a [`Line`] beside the mailbox, so that whatever else is asked of the
//! daemon passes them: a stop, a revert, requests to other contracts.

use std::collections::{BTreeSet, VecDeque};

use crate::base::error::Code;

/// What a person switched off at a daemon.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bits {
    /// No request is started.
    pub paused: bool,
    /// No request is taken, and none is started.
    pub disabled: bool,
    /// The same for these contracts alone. By name: the bit outlives an upgrade.
    pub contracts: BTreeSet<String>,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stand {
    /// Somebody sends it.
    New,
    /// It was taken, and is not started.
    Waiting,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It goes on: a new one to wait, one that waits to run.
    Pass,
    /// It stays where it is.
    Hold,
    /// It is answered with this code, and never started.
    Refuse(Code),
}

impl Bits {
    /// Decides about one request to `contract`.
    #[must_use]
    pub fn fate(&self, stand: Stand, contract: &str, stopping: bool) -> Fate {
        let disabled = self.disabled || self.contracts.contains(contract);
        match stand {
            _ if stopping => Fate::Refuse(Code::Stopping),
            Stand::New if disabled => Fate::Refuse(Code::Disabled),
            Stand::New => Fate::Pass,
            Stand::Waiting if disabled || self.paused => Fate::Hold,
            Stand::Waiting => Fate::Pass,
        }
    }

    /// Whether some new request would be refused.
    #[must_use]
    pub fn refuses_some(&self) -> bool {
        self.disabled || !self.contracts.is_empty()
    }

    /// The bits in words; none when nothing is switched off.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let paused = self.paused.then_some("paused");
        let disabled = self.disabled.then_some("disabled");
        let some = (!self.disabled && !self.contracts.is_empty()).then_some("partly disabled");
        let words: Vec<&str> = [paused, disabled, some].into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// What became of a request that arrived.
#[derive(Debug, Eq, PartialEq)]
pub enum Arrived<T> {
    /// This one is next: itself, or one that waited longer.
    Next(T),
    /// It is held.
    Held,
    /// It would have to be held, and there is no room.
    Full(T),
}

/// The requests of one daemon that are held, oldest first, and the bits that hold them.
#[derive(Debug)]
pub struct Line<T> {
    bits: Bits,
    held: VecDeque<(Box<str>, T)>,
    /// All before this place are held by the bits as they are.
    from: usize,
    room: usize,
}

impl<T> Line<T> {
    /// An empty line with no bits set, which holds at most `room` requests.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { bits: Bits::default(), held: VecDeque::new(), from: 0, room }
    }

    /// The bits.
    #[must_use]
    pub fn bits(&self) -> &Bits {
        &self.bits
    }

    /// Changes the bits. What they hold no more is handed out by [`Line::next`].
    pub fn change(&mut self, change: impl FnOnce(&mut Bits)) {
        change(&mut self.bits);
        self.from = 0;
    }

    /// True when nothing is held, and would be: what [`Line::arrive`] then says of every request.
    #[must_use]
    pub fn lets_all_pass(&self) -> bool {
        self.held.is_empty() && !self.bits.paused && !self.bits.refuses_some()
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// A request to `contract` comes out of the mailbox. Those that are held no more go first.
    pub fn arrive(&mut self, contract: &str, request: T, stopping: bool) -> Arrived<T> {
        let goes = self.goes(contract, stopping);
        match self.next(stopping) {
            None if goes => Arrived::Next(request),
            None if self.held.len() >= self.room => Arrived::Full(request),
            None => {
                self.held.push_back((contract.into(), request));
                Arrived::Held
            }
            Some(next) => {
                self.held.push_back((contract.into(), request));
                Arrived::Next(next)
            }
        }
    }

    /// The oldest request that isn't held any more.
    pub fn next(&mut self, stopping: bool) -> Option<T> {
        let from = if stopping { 0 } else { self.from };
        let found = (from..self.held.len()).find(|&place| {
            self.held.get(place).is_some_and(|(contract, _)| self.goes(contract, stopping))
        });
        self.from = found.unwrap_or(self.held.len());
        self.held.remove(found?).map(|(_, request)| request)
    }

    /// Whether a waiting request leaves the line: to run, or to be refused.
    fn goes(&self, contract: &str, stopping: bool) -> bool {
        self.bits.fate(Stand::Waiting, contract, stopping) != Fate::Hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(paused: bool, disabled: bool, contracts: &[&str]) -> Bits {
        let contracts = contracts.iter().map(|&name| name.to_owned()).collect();
        Bits { paused, disabled, contracts }
    }

    #[test]
    fn s4_29_new_requests_are_refused_and_waiting_ones_held_as_the_table_says() {
        const DISABLED: Fate = Fate::Refuse(Code::Disabled);
        for (bits, words, new, waiting, other_new, other_waiting) in [
            (bits(false, false, &[]), None, Fate::Pass, Fate::Pass, Fate::Pass, Fate::Pass),
            (
                bits(true, false, &[]),
                Some("paused"),
                Fate::Pass,
                Fate::Hold,
                Fate::Pass,
                Fate::Hold,
            ),
            (bits(false, true, &[]), Some("disabled"), DISABLED, Fate::Hold, DISABLED, Fate::Hold),
            (
                bits(false, false, &["pay"]),
                Some("partly disabled"),
                DISABLED,
                Fate::Hold,
                Fate::Pass,
                Fate::Pass,
            ),
            (
                bits(true, false, &["pay"]),
                Some("paused, partly disabled"),
                DISABLED,
                Fate::Hold,
                Fate::Pass,
                Fate::Hold,
            ),
            (
                bits(true, true, &["pay"]),
                Some("paused, disabled"),
                DISABLED,
                Fate::Hold,
                DISABLED,
                Fate::Hold,
            ),
        ] {
            assert_eq!(bits.words().as_deref(), words, "{bits:?}");
            assert_eq!(bits.fate(Stand::New, "pay", false), new, "{bits:?}");
            assert_eq!(bits.fate(Stand::Waiting, "pay", false), waiting, "{bits:?}");
            assert_eq!(bits.fate(Stand::New, "look", false), other_new, "{bits:?}");
            assert_eq!(bits.fate(Stand::Waiting, "look", false), other_waiting, "{bits:?}");
            let refused = [new, other_new].contains(&DISABLED);
            assert_eq!(bits.refuses_some(), refused, "{bits:?}");
            for stand in [Stand::New, Stand::Waiting] {
                let fate = bits.fate(stand, "pay", true);
                assert_eq!(fate, Fate::Refuse(Code::Stopping), "{bits:?}");
            }
        }
    }

    #[test]
    fn s4_29_a_full_line_gives_the_request_back_and_a_stop_empties_it() {
        let mut line = Line::new(2);
        line.change(|bits| bits.paused = true);
        assert_eq!(line.arrive("a", 1, false), Arrived::Held);
        assert_eq!(line.arrive("b", 2, false), Arrived::Held);
        assert_eq!(line.arrive("a", 3, false), Arrived::Full(3));
        assert_eq!((line.held(), line.next(false)), (2, None));
        assert_eq!((line.next(true), line.next(true), line.next(true)), (Some(1), Some(2), None));
    }

    #[test]
    fn s4_29_held_requests_go_before_those_that_came_later() {
        let mut line = Line::new(9);
        line.change(|bits| bits.contracts.extend(["a".to_owned()]));
        assert_eq!(line.arrive("a", 1, false), Arrived::Held);
        assert_eq!(line.arrive("b", 2, false), Arrived::Next(2), "others pass");
        line.change(|bits| bits.contracts.clear());
        assert_eq!(line.arrive("a", 3, false), Arrived::Next(1), "it waited longer");
        assert_eq!((line.next(false), line.next(false)), (Some(3), None));
    }
}
