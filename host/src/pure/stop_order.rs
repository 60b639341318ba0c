//! In which order a host stops, and when it stops waiting.
//!
//! ```text
//!             no daemon is left
//!          +---------------------------------------+
//!  Drain --+-- grace over --> Cancel --+-- none ---+--> Sync --+-- closed --> Left
//!          +-- emergency -----^        +-- over: forced --^    +-- over: forced --^
//! ```
//!
//! Requests are refused from the beginning. *Drain* lets running transactions end, *Cancel* ends
//! them by the epoch, *Sync* makes durable what the daemons committed and closes the journal. Each
//! phase has a deadline, so all of them have one.

use std::time::Duration;

use super::awake::Awake;
use crate::base::limits::{AWAKE_GAP_MAX, STOP_CANCEL, SYNC_TIME_MAX};

/// Where a stop is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Transactions that run may end.
    Drain,
    /// Transactions that run are cancelled.
    Cancel,
    /// The journal syncs for the last time.
    Sync,
    /// There is nothing left to wait for.
    Left,
}

/// How long each phase may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadlines {
    /// For transactions to end by themselves.
    pub drain: Duration,
    /// For cancelled ones.
    pub cancel: Duration,
    /// For the last sync.
    pub sync: Duration,
}

impl Deadlines {
    /// The deadlines that follow from the grace of a daemon. A short grace must not end a sync
    /// that is merely slow.
    #[must_use]
    pub fn of_grace(grace: Duration) -> Self {
        Self { drain: grace, cancel: STOP_CANCEL, sync: grace.max(SYNC_TIME_MAX) }
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.drain + self.cancel + self.sync
    }

    fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Drain => self.drain,
            Phase::Cancel => self.cancel,
            Phase::Sync => self.sync,
            Phase::Left => Duration::MAX,
        }
    }
}

/// What is seen of the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Daemons whose threads have not ended.
    pub daemons: usize,
    /// The journal is closed, or there is none.
    pub journal_closed: bool,
    /// There was an emergency, before the stop or during it: nothing gets its grace any more.
    pub hurry: bool,
}

/// A stop under way.
#[derive(Clone, Debug)]
pub struct StopOrder {
    deadlines: Deadlines,
    awake: Awake,
    phase: Phase,
    /// Nanoseconds awake when the phase began.
    since: u64,
    forced: Option<Phase>,
}

impl StopOrder {
    /// Begins a stop at `now`, in monotonic nanoseconds.
    #[must_use]
    pub fn begin(now: u64, deadlines: Deadlines) -> Self {
        let (awake, phase) = (Awake::begin(now, AWAKE_GAP_MAX), Phase::Drain);
        Self { deadlines, awake, phase, since: 0, forced: None }
    }

    /// Looks at the host, and says in which phase it is now. At most one phase is left at a look,
    /// so that each is seen.
    pub fn look(&mut self, now: u64, seen: Seen) -> Phase {
        let awake = self.awake.at(now);
        let done = match self.phase {
            Phase::Drain | Phase::Cancel => seen.daemons == 0,
            Phase::Sync => seen.journal_closed,
            Phase::Left => return Phase::Left,
        };
        let over = u128::from(awake.saturating_sub(self.since))
            >= self.deadlines.of(self.phase).as_nanos();
        let over = over || (self.phase == Phase::Drain && seen.hurry);
        if !done && !over {
            return self.phase;
        }
        if !done && self.phase != Phase::Drain {
            // The first one is the cause of those that follow.
            self.forced = self.forced.or(Some(self.phase));
        }
        self.phase = match self.phase {
            Phase::Drain if !done => Phase::Cancel,
            Phase::Drain | Phase::Cancel => Phase::Sync,
            Phase::Sync | Phase::Left => Phase::Left,
        };
        self.since = awake;
        self.phase
    }

    /// The first phase that did not end in its time, if there was one.
    #[must_use]
    pub fn forced(&self) -> Option<Phase> {
        self.forced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        drain: Duration::from_millis(30),
        cancel: Duration::from_millis(20),
        sync: Duration::from_millis(50),
    };

    fn seen(daemons: usize, journal_closed: bool) -> Seen {
        Seen { daemons, journal_closed, hurry: false }
    }

    /// Looks each millisecond until the end; answers when each phase was first seen.
    fn walk(host: impl Fn(u64, Phase) -> Seen) -> (Vec<(u64, Phase)>, StopOrder) {
        let mut order = StopOrder::begin(0, DEADLINES);
        let mut phases = Vec::new();
        let mut phase = order.phase;
        for millis in 0..=200 {
            phase = order.look(millis * 1_000_000, host(millis, phase));
            if phases.last().is_none_or(|(_, last)| *last != phase) {
                phases.push((millis, phase));
            }
        }
        assert_eq!(phase, Phase::Left, "it never ends");
        (phases, order)
    }

    #[test]
    fn s3_14_a_stop_takes_as_long_as_it_has_to() {
        use Phase::{Cancel, Drain, Left, Sync};
        // (when there is an emergency, when the daemons are gone, when the journal is closed), then
        // the phases.
        type Case = ((u64, u64, u64), &'static [(u64, Phase)], Option<Phase>);
        let table: [Case; 9] = [
            ((999, 0, 0), &[(0, Sync), (1, Left)], None),
            ((999, 10, 15), &[(0, Drain), (10, Sync), (15, Left)], None),
            ((999, 40, 60), &[(0, Drain), (30, Cancel), (40, Sync), (60, Left)], None),
            ((0, 5, 9), &[(0, Cancel), (5, Sync), (9, Left)], None),
            ((7, 12, 13), &[(0, Drain), (7, Cancel), (12, Sync), (13, Left)], None),
            ((35, 40, 60), &[(0, Drain), (30, Cancel), (40, Sync), (60, Left)], None),
            ((999, 999, 55), &[(0, Drain), (30, Cancel), (50, Sync), (55, Left)], Some(Cancel)),
            ((999, 999, 999), &[(0, Drain), (30, Cancel), (50, Sync), (100, Left)], Some(Cancel)),
            ((0, 1, 999), &[(0, Cancel), (1, Sync), (51, Left)], Some(Sync)),
        ];
        for ((emergency, gone, closed), expected, forced) in table {
            let (phases, order) = walk(|now, _| Seen {
                hurry: now >= emergency,
                ..seen(usize::from(now < gone), now >= closed)
            });
            let case = format!("{emergency} {gone} {closed}");
            assert_eq!((&phases[..], order.forced()), (expected, forced), "{case}");
        }
    }

    #[test]
    fn s3_14_whatever_the_host_does_a_stop_ends_in_its_time_and_forces_nothing_that_is_done() {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..20_000 {
            let mut order = StopOrder::begin(7, DEADLINES);
            let (mut now, mut last) = (7, order.phase);
            let (gone, closed, emergency) = (random(150), random(150), random(150));
            loop {
                now += random(8_000_000);
                let millis = now / 1_000_000;
                let host = Seen {
                    hurry: millis >= emergency,
                    ..seen(usize::from(millis < gone), millis >= closed)
                };
                let phase = order.look(now, host);
                assert!(phase >= last, "a phase came back");
                assert!(!host.hurry || phase > Phase::Drain, "grace in an emergency");
                if phase == Phase::Left {
                    let clean = host.daemons == 0 && host.journal_closed;
                    assert!(clean || order.forced().is_some(), "left without a word");
                    break;
                }
                last = phase;
            }
            // Three phases, each seen at most one look late.
            assert!(now <= 7 + 100_000_000 + 3 * 8_000_000, "{now}");
        }
    }

    #[test]
    fn t2_a_host_that_was_held_is_not_forced_when_it_goes_on() {
        let mut order = StopOrder::begin(0, Deadlines::of_grace(Duration::from_secs(5)));
        assert_eq!(order.look(1, seen(1, false)), Phase::Drain);
        let minutes = 300_000_000_000;
        assert_eq!(order.look(minutes, seen(1, false)), Phase::Drain);
        assert_eq!(order.look(minutes + 1, seen(0, false)), Phase::Sync);
        assert_eq!(order.look(2 * minutes, seen(0, true)), Phase::Left);
        assert_eq!(order.forced(), None);
    }
}
