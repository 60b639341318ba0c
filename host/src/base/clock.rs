//! Time comes in through a trait, so that the host can run on a simulated clock.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Nanoseconds since the Unix epoch. May jump; only ever data.
    fn unix_nanos(&self) -> u64;

    /// Nanoseconds since some fixed moment. Never goes back; what durations are measured with.
    fn monotonic_nanos(&self) -> u64;
}

/// The machine's clock. Only the shell names it.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn unix_nanos(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn monotonic_nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `nanos` for both kinds of time.
    #[must_use]
    pub fn at(nanos: u64) -> Self {
        Self(AtomicU64::new(nanos))
    }

    /// Moves the clock on by `nanos`.
    pub fn advance(&self, nanos: u64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn unix_nanos(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The machine's monotonic time, with a wall time that jumps at each look: for tests that decide
/// nothing by it.
#[derive(Debug, Default)]
pub struct JumpingClock {
    steady: SystemClock,
    looks: AtomicUsize,
}

impl JumpingClock {
    /// Where it jumps to, in seconds since the epoch: a moment, an hour before and after it, a leap
    /// second, ten years later, the epoch, and the moment again, where it is frozen for two looks.
    pub const SECONDS: [u64; 8] = [
        1_700_000_000,
        1_699_996_400,
        1_700_003_600,
        1_700_000_001,
        2_015_360_000,
        0,
        1_700_000_000,
        1_700_000_000,
    ];
}

impl Clock for JumpingClock {
    fn unix_nanos(&self) -> u64 {
        let look = self.looks.fetch_add(1, Ordering::Relaxed) % Self::SECONDS.len();
        Self::SECONDS.get(look).copied().unwrap_or_default() * 1_000_000_000
    }

    fn monotonic_nanos(&self) -> u64 {
        self.steady.monotonic_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(5);
        assert_eq!(clock.unix_nanos(), 5);
        clock.advance(7);
        assert_eq!(clock.monotonic_nanos(), 12);
    }

    #[test]
    fn system_clock_never_goes_back() {
        let clock = SystemClock::new();
        let before = clock.monotonic_nanos();
        assert!(before <= clock.monotonic_nanos());
        assert!(clock.unix_nanos() > 1_500_000_000_000_000_000);
    }
}
