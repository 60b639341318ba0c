//! The time that a call has left, counted at the ticks of the epoch.
//!
//! A tick that comes while the host works for the guest is seen when the guest runs again, and
//! several of them as one. So time counts, not ticks: what passed since the last one that was seen.

use std::time::{Duration, Instant};

use crate::base::limits::EPOCH_TICK;

/// Ticks until the deadline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Countdown {
    ticks_left: u64,
    /// When the last tick was seen; the beginning of a call is not worth a look at the clock.
    seen: Option<Instant>,
}

impl Countdown {
    /// Ticks until `deadline` has surely passed: the tick that is under way counts for nothing.
    pub(super) fn new(deadline: Duration) -> Self {
        let ticks = deadline.as_nanos().div_ceil(EPOCH_TICK.as_nanos());
        let ticks_left = u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1);
        Self { ticks_left, seen: None }
    }

    /// A tick is seen; false when no time is left.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let passed = self.seen.map_or(1, |seen| ticks(now.saturating_duration_since(seen)).max(1));
        self.ticks_left = self.ticks_left.saturating_sub(passed);
        // What is left of a tick counts with the next.
        self.seen = self.seen.map_or(Some(now), |seen| seen.checked_add(times(passed)));
        self.ticks_left > 0
    }

    /// Books time for which the guest waited, until now.
    pub(super) fn waited(&mut self, time: Duration) {
        self.ticks_left = self.ticks_left.saturating_sub(ticks(time)).max(1);
        self.seen = self.seen.map(|seen| seen + time);
    }

    /// When the deadline is.
    pub(super) fn end(&self, now: Instant) -> Instant {
        now + times(self.ticks_left)
    }
}

fn times(ticks: u64) -> Duration {
    EPOCH_TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// Whole ticks.
fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / EPOCH_TICK.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks that are seen until no time is left, when so much passes between two of them.
    fn seen(deadline: Duration, between: Duration) -> u32 {
        let (mut countdown, mut now, mut seen) = (Countdown::new(deadline), Instant::now(), 1);
        while countdown.tick(now) {
            (now, seen) = (now + between, seen + 1);
        }
        seen
    }

    #[test]
    fn c2_a_deadline_comes_however_late_its_ticks_are_seen() {
        let deadline = Duration::from_secs(1);
        for (between, expected) in [(4, 201), (5, 201), (6, 168), (10, 101), (120, 10), (3000, 2)] {
            assert_eq!(seen(deadline, Duration::from_millis(between)), expected, "{between} ms");
        }
        assert_eq!(seen(Duration::ZERO, EPOCH_TICK), 1);
        assert!(Countdown::new(Duration::MAX).tick(Instant::now()));
    }

    #[test]
    fn a_deadline_is_never_shorter_than_asked_for() {
        for (deadline, ticks) in [
            (EPOCH_TICK, 2),
            (Duration::from_millis(1), 2),
            (EPOCH_TICK * 3 + Duration::from_nanos(1), 5),
        ] {
            assert_eq!(seen(deadline, EPOCH_TICK), ticks, "{deadline:?}");
        }
    }

    #[test]
    fn time_that_was_waited_for_counts_once() {
        let mut countdown = Countdown::new(Duration::from_millis(100));
        let begun = Instant::now();
        assert!(countdown.tick(begun));
        let waited = Duration::from_millis(60);
        countdown.waited(waited);
        assert_eq!(countdown.end(begun + waited), begun + waited + EPOCH_TICK * 8);
        assert!(countdown.tick(begun + waited + EPOCH_TICK));
        assert!(!countdown.tick(begun + waited + EPOCH_TICK * 8));
        // What waited beyond it ends at the next tick.
        let mut countdown = Countdown::new(EPOCH_TICK);
        countdown.waited(waited);
        assert!(!countdown.tick(begun));
    }
}
