//! A daemon's share of one processor, as a rate that its busy time may not pass.

use std::time::Duration;

/// Time that a daemon may be ahead of its share, so that single requests are not delayed.
const BURST_NANOS: u64 = 10_000_000;

/// A share of one processor, in thousandths; 1000 is no limit, since a daemon has one thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CpuShare(u32);

impl CpuShare {
    /// All of one processor.
    pub const FULL: Self = Self(1000);

    /// A share of `thousandths`, between 1 and 1000.
    #[must_use]
    pub fn from_thousandths(thousandths: u32) -> Option<Self> {
        (1..=1000).contains(&thousandths).then_some(Self(thousandths))
    }

    /// The share in thousandths of one processor.
    #[must_use]
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// The time to rest after `busy` of work, so that the rate is kept.
    #[must_use]
    pub fn rest_after(self, busy: Duration) -> Duration {
        let busy = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.period(busy).saturating_sub(busy))
    }

    fn period(self, busy_nanos: u64) -> u64 {
        busy_nanos.saturating_mul(1000) / u64::from(self.0)
    }
}

impl std::str::FromStr for CpuShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a share of one processor between 0.001 and 1.0");
        let share: f64 = text.parse().map_err(|_| wrong())?;
        if !(0.001..=1.0).contains(&share) {
            return Err(wrong());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 1000"
        )]
        let thousandths = (share * 1000.0).round() as u32;
        Self::from_thousandths(thousandths).ok_or_else(wrong)
    }
}

/// Decides how long a daemon waits before its next transaction.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    share: CpuShare,
    /// When the work done so far is paid for, in monotonic nanoseconds.
    paid_at: u64,
}

impl Pace {
    /// Nothing to pay yet.
    #[must_use]
    pub fn new(share: CpuShare) -> Self {
        Self { share, paid_at: 0 }
    }

    /// Books work that went on from `started` to `now`, with `rested_nanos` of rest in between;
    /// answers the nanoseconds to wait.
    pub fn after(&mut self, started: u64, now: u64, rested_nanos: u64) -> u64 {
        if self.share == CpuShare::FULL {
            return 0;
        }
        let busy_nanos = now.saturating_sub(started).saturating_sub(rested_nanos);
        let earliest = started.saturating_sub(BURST_NANOS);
        self.paid_at = self.paid_at.max(earliest).saturating_add(self.share.period(busy_nanos));
        self.paid_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transactions of `busy` nanoseconds, back to back, for a second of simulated time.
    fn transactions_in_a_second(share: &str, busy: u64) -> u64 {
        let mut pace = Pace::new(share.parse().unwrap());
        let (mut now, mut count) = (0, 0);
        while now < 1_000_000_000 {
            now += busy;
            count += 1;
            now += pace.after(now - busy, now, 0);
        }
        count
    }

    #[test]
    fn s2_29_shares_give_progress_in_proportion() {
        for busy in [1_000, 100_000, 3_000_000] {
            let half = transactions_in_a_second("0.5", busy);
            let full = transactions_in_a_second("1.0", busy);
            let percent = half * 100 / full;
            assert!((48..=53).contains(&percent), "{percent} % at {busy} ns");
        }
    }

    #[test]
    fn s2_29_a_rest_inside_a_transaction_is_not_paid_again() {
        let mut pace = Pace::new("0.2".parse().unwrap());
        let (mut now, busy, rested) = (1_000_000_000, 20_000_000, 80_000_000);
        for _ in 0..100 {
            let started = now;
            now += busy + rested;
            assert_eq!(pace.after(started, now, rested), 0);
        }
    }

    #[test]
    fn an_idle_daemon_starts_at_once() {
        let mut pace = Pace::new("0.1".parse().unwrap());
        assert_eq!(pace.after(999_500_000, 1_000_000_000, 0), 0);
        assert_eq!(CpuShare::FULL.rest_after(Duration::from_millis(5)), Duration::ZERO);
        let half: CpuShare = "0.5".parse().unwrap();
        assert_eq!(half.rest_after(Duration::from_millis(5)), Duration::from_millis(5));
    }

    #[test]
    fn shares_are_read_with_a_range() {
        assert_eq!("0.25".parse::<CpuShare>().unwrap().thousandths(), 250);
        for bad in ["0", "1.1", "-1", "x", "", "NaN", "0.0001"] {
            assert!(bad.parse::<CpuShare>().is_err(), "{bad}");
        }
    }
}
