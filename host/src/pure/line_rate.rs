//! How often the same thing is said in the log: [`BURST`] times at once, then once in each
//! [`REFILL_NANOS`], with the number of times that it was not said.

/// Lines at once: enough to see different ways in which something fails.
const BURST: u32 = 10;

/// Nanoseconds after which there may be another one: an incident that lasts is seen to go on, and a
/// day of it is some megabytes.
const REFILL_NANOS: u64 = 5_000_000_000;

/// The lines of one kind, from one place.
#[derive(Clone, Debug)]
pub struct LineRate {
    left: u32,
    since_nanos: u64,
    left_out: u64,
}

impl Default for LineRate {
    fn default() -> Self {
        Self { left: BURST, since_nanos: 0, left_out: 0 }
    }
}

impl LineRate {
    /// Asks for a line at `now_nanos`, monotonic: the number of lines that were left out before it,
    /// or none when this one is left out too.
    pub fn ask(&mut self, now_nanos: u64) -> Option<u64> {
        let earned = now_nanos.saturating_sub(self.since_nanos) / REFILL_NANOS;
        self.since_nanos += earned * REFILL_NANOS;
        self.left = u32::try_from(earned).unwrap_or(u32::MAX).saturating_add(self.left).min(BURST);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_written_or_counted_and_there_are_never_more_than_the_rate_allows() {
        for every_nanos in [0, 1, REFILL_NANOS / 7, REFILL_NANOS, 3 * REFILL_NANOS] {
            let mut rate = LineRate::default();
            let (mut written, mut counted) = (0, 0);
            let begin = 1_000 * REFILL_NANOS;
            for asked in 1..=1000_u64 {
                let now = begin + every_nanos * asked;
                if let Some(left_out) = rate.ask(now) {
                    written += 1;
                    counted += left_out;
                    assert_eq!(written + counted, asked, "each is told of, sooner or later");
                }
                let most = u64::from(BURST) + (now - begin) / REFILL_NANOS + 1;
                assert!(written <= most, "{written} of {most}");
            }
            let expected = if every_nanos >= REFILL_NANOS { 1000 } else { written };
            assert!(written == expected && written >= u64::from(BURST));
        }
    }
}
