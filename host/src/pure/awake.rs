//! How long this process was awake: time during which it could have done something.
//!
//! A process that is stopped by a signal, or whose machine sleeps, finds that much time has passed
//! at once. Deadlines for its own threads must not run meanwhile.

use std::time::Duration;

/// Adds up time between looks, each gap no longer than a limit.
#[derive(Clone, Debug)]
pub struct Awake {
    gap_max: u64,
    last: u64,
    awake: u64,
}

impl Awake {
    /// Begins at `now`, in monotonic nanoseconds.
    #[must_use]
    pub fn begin(now: u64, gap_max: Duration) -> Self {
        Self { gap_max: u64::try_from(gap_max.as_nanos()).unwrap_or(u64::MAX), last: now, awake: 0 }
    }

    /// Nanoseconds awake at `now`.
    pub fn at(&mut self, now: u64) -> u64 {
        let gap = now.saturating_sub(self.last).min(self.gap_max);
        self.last = self.last.max(now);
        self.awake = self.awake.saturating_add(gap);
        self.awake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t2_a_gap_counts_up_to_its_limit_and_time_never_runs_back() {
        let mut awake = Awake::begin(1000, Duration::from_nanos(10));
        let seen = [1005, 1010, 1_000_000, 1_000_003, 999_000, 1_000_003, 1_000_020];
        let seen = seen.map(|now| awake.at(now));
        assert_eq!(seen, [5, 10, 20, 23, 23, 23, 33]);
    }
}
