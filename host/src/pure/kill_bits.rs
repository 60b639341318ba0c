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
//! daemon passes them: a stop, a revert, requests to other contracts. Those that may wait for a
//! resource are held there too, as [`Needs`] says; what a person switched off comes first.

use std::collections::{BTreeSet, VecDeque};

use super::needs::Needs;
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

/// A request that is held.
#[derive(Debug)]
struct Held<T> {
    contract: Box<str>,
    /// Until when it may wait for resources, in monotonic nanoseconds.
    until_nanos: Option<u64>,
    request: T,
}

/// The requests of one daemon that are held, oldest first, and what holds them.
#[derive(Debug)]
pub struct Line<T> {
    bits: Bits,
    needs: Needs,
    held: VecDeque<Held<T>>,
    /// All before this place are held by the bits and needs as they are.
    from: usize,
    room: usize,
}

impl<T> Line<T> {
    /// An empty line with no bits set and nothing needed, which holds at most `room` requests.
    #[must_use]
    pub fn new(room: usize) -> Self {
        let (bits, needs) = (Bits::default(), Needs::default());
        Self { bits, needs, held: VecDeque::new(), from: 0, room }
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

    /// What the daemon needs.
    #[must_use]
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Changes what it needs, or what of that is down, as [`Line::change`] does the bits.
    pub fn change_needs(&mut self, change: impl FnOnce(&mut Needs)) {
        change(&mut self.needs);
        self.from = 0;
    }

    /// True when nothing is held, and would be: what [`Line::arrive`] then says of every request.
    #[must_use]
    pub fn lets_all_pass(&self) -> bool {
        let switched_off = self.bits.paused || self.bits.refuses_some();
        self.held.is_empty() && !switched_off && self.needs.all_met()
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Decides about one request to `contract`, which `waits` for resources or doesn't.
    #[must_use]
    pub fn fate(&self, stand: Stand, contract: &str, waits: bool, stopping: bool) -> Fate {
        match self.bits.fate(stand, contract, stopping) {
            Fate::Pass => self.needs.fate(stand, contract, waits),
            other => other,
        }
    }

    /// A request to `contract` comes out of the mailbox, and waits for resources `until_nanos` if
    /// it must. Those that are held no more go first.
    pub fn arrive(
        &mut self,
        contract: &str,
        until_nanos: Option<u64>,
        request: T,
        stopping: bool,
    ) -> Arrived<T> {
        let goes = self.goes(contract, until_nanos, stopping);
        match self.next(stopping) {
            None if goes => Arrived::Next(request),
            None if self.held.len() >= self.room => Arrived::Full(request),
            next => {
                self.held.push_back(Held { contract: contract.into(), until_nanos, request });
                next.map_or(Arrived::Held, Arrived::Next)
            }
        }
    }

    /// The oldest request that isn't held any more: it runs, or is refused for what it needs.
    pub fn next(&mut self, stopping: bool) -> Option<T> {
        let from = if stopping { 0 } else { self.from };
        let goes = |held: &Held<T>| self.goes(&held.contract, held.until_nanos, stopping);
        let found = (from..self.held.len()).find(|&place| self.held.get(place).is_some_and(goes));
        self.from = found.unwrap_or(self.held.len());
        self.held.remove(found?).map(|held| held.request)
    }

    /// The oldest request that has waited for resources until `now_nanos`, and is to be refused.
    pub fn expired(&mut self, now_nanos: u64) -> Option<T> {
        let found = (0..self.held.len()).find(|&place| {
            let expires = self.held.get(place).and_then(|held| self.expires(held));
            expires.is_some_and(|until| until <= now_nanos)
        })?;
        // Those behind it move up.
        self.from = self.from.saturating_sub(usize::from(found < self.from));
        self.held.remove(found).map(|held| held.request)
    }

    /// When the next one will have waited for that long, in monotonic nanoseconds.
    #[must_use]
    pub fn next_expiry_nanos(&self) -> Option<u64> {
        self.held.iter().filter_map(|held| self.expires(held)).min()
    }

    /// Until when a request waits for resources. While a person holds it it waits for that person.
    fn expires(&self, held: &Held<T>) -> Option<u64> {
        let holds = Fate::Hold;
        let by_person = self.bits.fate(Stand::Waiting, &held.contract, false) == holds;
        let by_needs = self.needs.fate(Stand::Waiting, &held.contract, true) == holds;
        held.until_nanos.filter(|_| by_needs && !by_person)
    }

    /// Whether a waiting request leaves the line: to run, or to be refused.
    fn goes(&self, contract: &str, until_nanos: Option<u64>, stopping: bool) -> bool {
        self.fate(Stand::Waiting, contract, until_nanos.is_some(), stopping) != Fate::Hold
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::pure::needs::{Slot, Slots};

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
        assert_eq!(line.arrive("a", None, 1, false), Arrived::Held);
        assert_eq!(line.arrive("b", None, 2, false), Arrived::Held);
        assert_eq!(line.arrive("a", None, 3, false), Arrived::Full(3));
        assert_eq!((line.held(), line.next(false)), (2, None));
        assert_eq!((line.next(true), line.next(true), line.next(true)), (Some(1), Some(2), None));
    }

    #[test]
    fn s4_29_held_requests_go_before_those_that_came_later() {
        let mut line = Line::new(9);
        line.change(|bits| bits.contracts.extend(["a".to_owned()]));
        assert_eq!(line.arrive("a", None, 1, false), Arrived::Held);
        assert_eq!(line.arrive("b", None, 2, false), Arrived::Next(2), "others pass");
        line.change(|bits| bits.contracts.clear());
        assert_eq!(line.arrive("a", None, 3, false), Arrived::Next(1), "it waited longer");
        assert_eq!((line.next(false), line.next(false)), (Some(3), None));
    }

    #[test]
    fn s0_01_requests_wait_for_a_resource_as_long_as_they_may() {
        let mut line = Line::new(9);
        let cache = Slot::new(3).unwrap();
        assert!(line.lets_all_pass());
        line.change_needs(|needs| *needs = Needs::new(cache.into(), BTreeMap::new(), [(cache, 5)]));
        assert!(!line.lets_all_pass());
        let refused = Fate::Refuse(Code::Unavailable);
        assert_eq!(line.fate(Stand::New, "a", false, false), refused);
        assert_eq!(line.fate(Stand::New, "a", true, false), Fate::Pass);
        assert_eq!(line.fate(Stand::New, "a", true, true), Fate::Refuse(Code::Stopping));
        assert_eq!(line.arrive("a", None, 1, false), Arrived::Next(1), "to be refused at once");
        assert_eq!(line.arrive("a", Some(30), 2, false), Arrived::Held);
        assert_eq!(line.arrive("b", Some(20), 3, false), Arrived::Held);
        assert_eq!(line.arrive("a", Some(10), 4, false), Arrived::Held);
        assert_eq!((line.next(false), line.next_expiry_nanos()), (None, Some(10)));
        assert_eq!((line.expired(9), line.expired(10), line.expired(10)), (None, Some(4), None));
        assert_eq!(line.next_expiry_nanos(), Some(20));
        // A person's pause holds all, and holds time: nobody is refused for a resource meanwhile.
        line.change(|bits| bits.paused = true);
        assert_eq!((line.next_expiry_nanos(), line.expired(99)), (None, None));
        assert_eq!(line.arrive("a", None, 5, false), Arrived::Held);
        line.change(|bits| bits.paused = false);
        assert_eq!(line.next(false), Some(5), "it doesn't wait");
        assert_eq!(line.expired(20), Some(3));
        line.change_needs(|needs| needs.set_up(cache));
        assert_eq!((line.next_expiry_nanos(), line.expired(99)), (None, None), "it is back");
        assert_eq!(line.arrive("a", None, 6, false), Arrived::Next(2), "it waited longer");
        assert_eq!((line.next(false), line.next(false)), (Some(6), None));
    }

    #[test]
    fn a_request_that_expires_takes_nobodys_place() {
        let (mut line, [pay, look]) = (Line::new(9), [0, 1].map(|index| Slot::new(index).unwrap()));
        let contracts = [("pay", pay), ("look", look)];
        let contracts = contracts.map(|(name, slot)| (name.to_owned(), Slots::from(slot)));
        let needs = Needs::new(Slots::default(), contracts.into(), [(pay, 5), (look, 5)]);
        line.change_needs(|now| *now = needs);
        for (contract, until, request) in [("pay", 10, 1), ("look", 90, 2), ("look", 90, 3)] {
            assert_eq!(line.arrive(contract, Some(until), request, false), Arrived::Held);
        }
        line.change_needs(|needs| needs.set_up(look));
        assert_eq!(line.next(false), Some(2));
        assert_eq!(line.expired(10), Some(1));
        assert_eq!((line.next(false), line.held()), (Some(3), 0));
    }
}
