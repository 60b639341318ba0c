//! The time of a transaction.

use crate::base::clock::Clock;

/// The two times of the running transaction, from one reading of the clock.
///
/// Reading a clock costs some per cent of a short transaction, so the wall clock is followed
/// through the monotonic one and read itself once a second.
#[derive(Debug, Default)]
pub(super) struct Now {
    pub(super) unix_nanos: u64,
    monotonic_nanos: u64,
    read_at: Option<u64>,
}

impl Now {
    const READ_EVERY_NANOS: u64 = 1_000_000_000;

    /// Looks at the clock; answers the monotonic time.
    pub(super) fn look(&mut self, clock: &dyn Clock) -> u64 {
        let monotonic = clock.monotonic_nanos();
        let since_read = self.read_at.map(|read_at| monotonic.saturating_sub(read_at));
        if since_read.is_some_and(|since| since < Self::READ_EVERY_NANOS) {
            let passed = monotonic.saturating_sub(self.monotonic_nanos);
            self.unix_nanos = self.unix_nanos.saturating_add(passed);
        } else {
            self.unix_nanos = clock.unix_nanos();
            self.read_at = Some(monotonic);
        }
        self.monotonic_nanos = monotonic;
        monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;

    #[test]
    fn the_wall_clock_follows_the_monotonic_one() {
        let clock = ManualClock::at(5);
        let mut now = Now::default();
        for step in [0, 7, 999_999_000, 3_000_000_000, 1] {
            clock.advance(step);
            let monotonic = now.look(&clock);
            assert_eq!((monotonic, now.unix_nanos), (clock.monotonic_nanos(), clock.unix_nanos()));
        }
    }

    /// A clock of a machine that is beyond all years that it can say.
    #[derive(Debug)]
    struct LastClock(ManualClock);

    impl Clock for LastClock {
        fn unix_nanos(&self) -> u64 {
            u64::MAX
        }

        fn monotonic_nanos(&self) -> u64 {
            self.0.monotonic_nanos()
        }
    }

    #[test]
    fn d26_the_wall_clock_stays_at_its_last_moment() {
        let (clock, mut now) = (LastClock(ManualClock::at(5)), Now::default());
        for _ in 0..3 {
            clock.0.advance(1000);
            now.look(&clock);
            assert_eq!(now.unix_nanos, u64::MAX);
        }
    }
}
