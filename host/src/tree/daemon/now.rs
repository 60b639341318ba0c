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
            self.unix_nanos += monotonic.saturating_sub(self.monotonic_nanos);
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
}
