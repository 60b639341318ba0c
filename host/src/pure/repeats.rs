//! When a failure that repeats is worth a line: the first time, and then each time that its count
//! has doubled. An hour of tries is a dozen lines.

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Repeats(u64);

impl Repeats {
    /// It failed once more; how often by now, when that is worth a line.
    pub fn failed(&mut self) -> Option<u64> {
        self.0 = self.0.saturating_add(1);
        self.0.is_power_of_two().then_some(self.0)
    }

    /// It worked; how often it had failed before, when it had.
    pub fn worked(&mut self) -> Option<u64> {
        let failed = std::mem::take(&mut self.0);
        (failed > 0).then_some(failed)
    }

    /// How often it has failed since it worked last.
    #[must_use]
    pub fn count(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_seventeen_a_second_is_a_dozen_lines() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.worked(), None);
        let said: Vec<u64> = (0..17 * 3600).filter_map(|_| repeats.failed()).collect();
        assert_eq!((said.first(), said.len()), (Some(&1), 16));
        assert_eq!(repeats.worked(), Some(17 * 3600));
        assert_eq!((repeats.worked(), repeats.failed()), (None, Some(1)));
    }
}
