//! When a connection whose calls are not answered is given up.

use std::time::Duration;

use crate::base::limits::{CHECK_TIME_MAX, LATE_CALLS_MAX};

/// Calls that had no answer in time, one after the other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unanswered {
    row: u32,
    /// When the first of them was sent, since the connection was opened.
    first: Duration,
}

impl Unanswered {
    /// The peer has answered something, in time or not.
    pub fn answered(&mut self) {
        self.row = 0;
    }

    /// A call that was sent then is given up now, times since the connection was opened. Says
    /// whether the connection has to be, too: the last [`LATE_CALLS_MAX`] had no answer, and they
    /// were not all in a hurry.
    pub fn late(&mut self, sent: Duration, now: Duration) -> bool {
        if self.row == 0 {
            self.first = sent;
        }
        self.row = self.row.saturating_add(1);
        self.row >= LATE_CALLS_MAX && now.saturating_sub(self.first) >= CHECK_TIME_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn c13_three_calls_in_a_row_without_an_answer_are_enough() {
        let mut unanswered = Unanswered::default();
        assert!(!unanswered.late(Duration::ZERO, 5 * SECOND));
        assert!(!unanswered.late(5 * SECOND, 10 * SECOND));
        assert!(unanswered.late(10 * SECOND, 15 * SECOND));
        assert!(unanswered.late(10 * SECOND, 15 * SECOND));
    }

    #[test]
    fn c13_an_answer_in_between_begins_a_new_row() {
        let mut unanswered = Unanswered::default();
        for second in 0..9 {
            assert!(!unanswered.late(second * SECOND, (second + 1) * SECOND));
            assert!(!unanswered.late(second * SECOND, (second + 1) * SECOND));
            unanswered.answered();
        }
    }

    #[test]
    fn c13_calls_in_a_hurry_prove_nothing() {
        let mut unanswered = Unanswered::default();
        let millisecond = Duration::from_millis(1);
        let mut sent = Duration::ZERO;
        while sent + millisecond < CHECK_TIME_MAX {
            assert!(!unanswered.late(sent, sent + millisecond));
            sent += millisecond;
        }
        assert!(unanswered.late(sent, sent + millisecond));
    }
}
