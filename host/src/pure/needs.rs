//! What a daemon can't do without, and what becomes of it and its requests while that is down.
//!
//! | what is down | a new request, and one that waits | the daemon |
//! |---|---|---|
//! | nothing that it needs | passes | goes on |
//! | what one contract needs | is refused at that contract, or held while it may wait | goes on |
//! | what all of it needs | is refused, or held while it may wait | waits, without an instance |
//!
//! This is the gate in front of the mailbox: an early answer. Whether a resource may be used is
//! known when its lease is taken.
//!
//! A daemon carries out its turns between transactions. It is told by a number that grows with
//! each, so that nothing is lost when resources die and return faster than it can follow, and so
//! that the last word is that of the resources' order.

use std::collections::BTreeMap;

use super::kill_bits::{Fate, Stand};
use crate::base::error::Code;

/// A resource's place in its service, below [`crate::base::limits::RESOURCES_MAX`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(u8);

impl Slot {
    /// The place `index`; none when a service can't have so many.
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        u8::try_from(index).ok().filter(|&slot| u32::from(slot) < u64::BITS).map(Self)
    }

    /// The place as an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of resources of one service.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Slots(u64);

impl Slots {
    /// Whether one of them is in `other` too.
    #[must_use]
    pub fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is among them.
    #[must_use]
    pub fn contains(self, slot: Slot) -> bool {
        self.meet(Self::from(slot))
    }
}

impl From<Slot> for Slots {
    fn from(slot: Slot) -> Self {
        Self(1 << slot.0)
    }
}

impl FromIterator<Slot> for Slots {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().map(Self::from).fold(Self::default(), Self::union)
    }
}

/// What a daemon is to do between two transactions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Give its instance up, and wait.
    Wait,
    /// Start from its committed state.
    Start,
}

/// The needs of one daemon, and which of them are down.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// What the whole daemon needs.
    whole: Slots,
    /// What contracts need beside that. By name, as the kill bits: held requests outlive upgrades.
    contracts: BTreeMap<String, Slots>,
    /// The same as the keys of `since`.
    down: Slots,
    since: BTreeMap<Slot, u64>,
    /// How often the daemon's needs ceased or began to be met: odd while they aren't.
    turn: u64,
    /// How far it has followed that.
    done: u64,
}

impl Needs {
    /// Of a daemon that is not started yet. `down` says what is down, and since when.
    #[must_use]
    pub fn new(
        whole: Slots,
        contracts: BTreeMap<String, Slots>,
        down: impl IntoIterator<Item = (Slot, u64)>,
    ) -> Self {
        let mut needs = Self { whole, contracts, ..Self::default() };
        for (slot, since_nanos) in down {
            needs.set_down(slot, since_nanos);
        }
        needs
    }

    /// Other code has contracts with other needs. What is down stays down.
    pub fn rebind(&mut self, contracts: BTreeMap<String, Slots>) {
        self.contracts = contracts;
    }

    /// A resource went down, in monotonic nanoseconds.
    pub fn set_down(&mut self, slot: Slot, since_nanos: u64) {
        self.since.entry(slot).or_insert(since_nanos);
        self.count();
    }

    /// A resource is available.
    pub fn set_up(&mut self, slot: Slot) {
        self.since.remove(&slot);
        self.count();
    }

    /// Decides about a request to `contract`. `waits` says that it may wait for resources.
    #[must_use]
    pub fn fate(&self, stand: Stand, contract: &str, waits: bool) -> Fate {
        match stand {
            _ if self.down == Slots::default() => Fate::Pass,
            _ if !self.of(contract).meet(self.down) => Fate::Pass,
            Stand::New if waits => Fate::Pass,
            Stand::Waiting if waits => Fate::Hold,
            _ => Fate::Refuse(Code::Unavailable),
        }
    }

    /// What `contract` needs and doesn't have, with the time since when; the one that has been
    /// missing for longest.
    #[must_use]
    pub fn missing(&self, contract: &str) -> Option<(Slot, u64)> {
        self.longest(self.of(contract))
    }

    /// What the daemon waits for; the one that has been missing for longest.
    #[must_use]
    pub fn waits_for(&self) -> Option<(Slot, u64)> {
        self.longest(self.whole)
    }

    /// Whether the daemon and each of its contracts has all that it needs.
    #[must_use]
    pub fn all_met(&self) -> bool {
        let meet = |needs: &Slots| needs.meet(self.down);
        self.down == Slots::default() || !(meet(&self.whole) || self.contracts.values().any(meet))
    }

    /// What the daemon is to do next, and the number to call [`Needs::turned`] with when it has
    /// done that.
    ///
    /// Of deaths and returns that it has not followed one is left: it waits, and starts once.
    #[must_use]
    pub fn turn(&self) -> Option<(Turn, u64)> {
        let (waits, is_to_wait) = (self.done % 2 == 1, self.turn % 2 == 1);
        match (waits, is_to_wait) {
            (true, true) => None,
            (true, false) => Some((Turn::Start, self.turn)),
            (false, true) => Some((Turn::Wait, self.turn)),
            // They were away meanwhile: what it holds of them is stale.
            (false, false) if self.done < self.turn => Some((Turn::Wait, self.turn - 1)),
            (false, false) => None,
        }
    }

    /// The daemon has done its turn of this number.
    pub fn turned(&mut self, number: u64) {
        self.done = self.done.max(number).min(self.turn);
    }

    fn of(&self, contract: &str) -> Slots {
        self.whole.union(self.contracts.get(contract).copied().unwrap_or_default())
    }

    fn longest(&self, needs: Slots) -> Option<(Slot, u64)> {
        let down = self.since.iter().filter(|(slot, _)| needs.contains(**slot));
        down.min_by_key(|(_, since)| **since).map(|(slot, since)| (*slot, *since))
    }

    /// Counts a turn when the daemon's needs ceased or began to be met.
    fn count(&mut self) {
        self.down = self.since.keys().copied().collect();
        if self.whole.meet(self.down) != (self.turn % 2 == 1) {
            self.turn += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::RESOURCES_MAX;
    use crate::pure::dice::Dice;

    const NOW: u64 = 1_000;

    fn slot(index: usize) -> Slot {
        Slot::new(index).unwrap()
    }

    fn slots(indices: &[usize]) -> Slots {
        indices.iter().map(|&index| slot(index)).collect()
    }

    /// The daemon needs 0 and 1, its contract `pay` needs 2 as well.
    fn needs(down: &[usize]) -> Needs {
        let pay = BTreeMap::from([("pay".to_owned(), slots(&[2]))]);
        Needs::new(slots(&[0, 1]), pay, down.iter().map(|&index| (slot(index), NOW)))
    }

    #[test]
    fn s0_01_s0_16_requests_are_refused_or_held_and_daemons_wait_as_the_table_says() {
        const REFUSED: Fate = Fate::Refuse(Code::Unavailable);
        // What is down; what becomes of requests to `pay` and to `look`; whether the daemon waits.
        for (down, pay, look, turn) in [
            (&[][..], [Fate::Pass; 4], [Fate::Pass; 4], None),
            (&[3, 63], [Fate::Pass; 4], [Fate::Pass; 4], None),
            (&[2], [REFUSED, REFUSED, Fate::Pass, Fate::Hold], [Fate::Pass; 4], None),
            (
                &[1],
                [REFUSED, REFUSED, Fate::Pass, Fate::Hold],
                [REFUSED, REFUSED, Fate::Pass, Fate::Hold],
                Some(Turn::Wait),
            ),
        ] {
            let needs = needs(down);
            let fates = |contract| {
                [(Stand::New, false), (Stand::Waiting, false), (Stand::New, true)]
                    .into_iter()
                    .chain([(Stand::Waiting, true)])
                    .map(|(stand, waits)| needs.fate(stand, contract, waits))
                    .collect::<Vec<_>>()
            };
            assert_eq!(fates("pay"), pay, "{down:?}");
            assert_eq!(fates("look"), look, "{down:?}");
            assert_eq!(needs.turn().map(|(turn, _)| turn), turn, "{down:?}");
            assert_eq!(needs.all_met(), pay == [Fate::Pass; 4], "{down:?}");
            assert_eq!(needs.missing("pay").is_some(), pay != [Fate::Pass; 4], "{down:?}");
            assert_eq!(needs.waits_for().is_some(), turn.is_some(), "{down:?}");
        }
    }

    #[test]
    fn what_is_missing_for_longest_is_named() {
        let mut needs = needs(&[]);
        needs.set_down(slot(1), 30);
        needs.set_down(slot(2), 10);
        needs.set_down(slot(0), 20);
        needs.set_down(slot(2), 99);
        assert_eq!(needs.missing("pay"), Some((slot(2), 10)), "since the first time");
        assert_eq!(needs.missing("look"), Some((slot(0), 20)));
        assert_eq!(needs.waits_for(), Some((slot(0), 20)));
        needs.set_up(slot(0));
        assert_eq!(needs.waits_for(), Some((slot(1), 30)));
    }

    #[test]
    fn a_service_has_as_many_places_as_a_word_has_bits() {
        assert_eq!(Slot::new(RESOURCES_MAX), None);
        assert_eq!(Slot::new(RESOURCES_MAX - 1).map(Slot::index), Some(RESOURCES_MAX - 1));
        assert!(slots(&[63]).contains(slot(63)) && !slots(&[63]).contains(slot(0)));
    }

    /// Follows the turns as a daemon does; answers them.
    fn follow(needs: &mut Needs) -> Vec<Turn> {
        let mut turns = Vec::new();
        while let Some((turn, number)) = needs.turn() {
            turns.push(turn);
            needs.turned(number);
        }
        turns
    }

    #[test]
    fn s0_03_a_daemon_starts_once_when_the_last_of_its_needs_is_back() {
        let mut needs = needs(&[]);
        assert_eq!(follow(&mut needs), []);
        needs.set_down(slot(0), NOW);
        needs.set_down(slot(0), NOW);
        assert_eq!(follow(&mut needs), [Turn::Wait]);
        needs.set_down(slot(1), NOW);
        needs.set_up(slot(0));
        assert_eq!(follow(&mut needs), [], "one is still down");
        needs.set_up(slot(1));
        needs.set_up(slot(1));
        assert_eq!(follow(&mut needs), [Turn::Start]);
        // Gone and back, twice, while it was busy: what it has is stale.
        for _ in 0..2 {
            needs.set_down(slot(0), NOW);
            needs.set_up(slot(0));
        }
        assert_eq!(follow(&mut needs), [Turn::Wait, Turn::Start]);
        needs.set_down(slot(0), NOW);
        let (turn, number) = needs.turn().unwrap();
        needs.set_up(slot(0));
        needs.set_down(slot(0), NOW);
        needs.turned(number);
        assert_eq!((turn, follow(&mut needs)), (Turn::Wait, vec![]), "it waits already");
    }

    #[test]
    fn s0_13_other_code_has_contracts_with_other_needs() {
        let contracts = |name: &str| BTreeMap::from([(name.to_owned(), slots(&[1]))]);
        let mut needs = Needs::new(slots(&[0]), contracts("old"), [(slot(1), NOW)]);
        let fate = |needs: &Needs, name: &str| needs.fate(Stand::New, name, false);
        let refused = Fate::Refuse(Code::Unavailable);
        assert_eq!((fate(&needs, "old"), fate(&needs, "new")), (refused, Fate::Pass));
        needs.rebind(contracts("new"));
        assert_eq!((fate(&needs, "old"), fate(&needs, "new")), (Fate::Pass, refused));
        assert_eq!(needs.turn(), None, "all of it needs nothing else");
    }

    /// Resources die and return, the daemon follows when it can: it never starts while something is
    /// down, and after each return it starts again.
    #[test]
    fn s0_03_turns_end_as_the_resources_do_in_whatever_order() {
        for seed in 0..2_000 {
            let (mut dice, mut needs) = (Dice(seed), needs(&[]));
            let (mut down, mut runs, mut stale) = (Slots::default(), true, false);
            let mut under_way = None;
            for _ in 0..100 {
                let one = slot(dice.index(4));
                match dice.below(4) {
                    0 => {
                        down = down.union(one.into());
                        needs.set_down(one, NOW);
                        stale |= runs && slots(&[0, 1]).contains(one);
                    }
                    1 => {
                        down = Slots(down.0 & !Slots::from(one).0);
                        needs.set_up(one);
                    }
                    2 => under_way = under_way.or_else(|| needs.turn()),
                    _ => {
                        let Some((turn, number)) = under_way.take() else { continue };
                        assert_ne!(runs, turn == Turn::Start, "seed {seed}");
                        runs = turn == Turn::Start;
                        // A start that was overtaken is stale at once.
                        stale = runs && number != needs.turn;
                        needs.turned(number);
                    }
                }
                if under_way.is_none() && matches!(needs.turn(), Some((Turn::Start, _))) {
                    assert!(!down.meet(slots(&[0, 1])), "seed {seed}: started while it is down");
                }
            }
            if let Some((turn, number)) = under_way {
                (runs, stale) = (turn == Turn::Start, turn == Turn::Start && number != needs.turn);
                needs.turned(number);
            }
            let turns = follow(&mut needs);
            if stale {
                assert_eq!(turns.first(), Some(&Turn::Wait), "seed {seed}: it has stale leases");
            }
            runs = turns.last().map_or(runs, |turn| *turn == Turn::Start);
            assert_eq!(runs, !down.meet(slots(&[0, 1])), "seed {seed}");
            assert!(turns.len() <= 2, "seed {seed}: {turns:?}");
        }
    }
}
