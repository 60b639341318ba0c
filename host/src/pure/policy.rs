//! What happens after a crash: decided from values alone, carried out by `tree::daemon`.
//!
//! ```text
//!   transaction crashed --> restart on the last commit --> retry? --> answer
//!                              |
//!                              +-- policy `zero`: start over
//!                              +-- policy `ask`:  the guest's `recover` says resume, zero or park;
//!                                                 when it fails too, the last commit is used, and
//!                                                 after RECOVER_FAILURES_MAX of those: park
//! ```

use serde::{Deserialize, Serialize};

use crate::base::error::Code;

/// Failures of `recover` in a row, without a commit in between, after which a daemon is parked.
pub const RECOVER_FAILURES_MAX: u32 = 3;

/// Host bugs in a row, without a commit in between, after which a daemon is parked.
pub const HOST_BUGS_MAX: u32 = 2;

/// Which state a daemon goes on with after a crash.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCrash {
    /// The last commit.
    #[default]
    Checkpoint,
    /// The state that `init` makes.
    Zero,
    /// Whatever the guest's `recover` says.
    Ask,
}

impl OnCrash {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Zero => "zero",
            Self::Ask => "ask",
        }
    }
}

impl std::str::FromStr for OnCrash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "checkpoint" => Ok(Self::Checkpoint),
            "zero" => Ok(Self::Zero),
            "ask" => Ok(Self::Ask),
            _ => Err(format!("`{text}` is not one of checkpoint, zero, ask")),
        }
    }
}

/// One crashed try of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CrashedTry {
    /// What happened.
    pub code: Code,
    /// Hash of the checkpoint that it ran on, or a number that changes with it.
    pub checkpoint: u64,
}

/// What becomes of a request whose try crashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Try again.
    Retry,
    /// The retry budget is used up: answer with the crash.
    GiveUp,
    /// The same crash on the same checkpoint: it would crash for ever. Answer, and say so.
    Poison,
}

/// Decides after the try `current`; `previous` is the one before it, if any.
///
/// A cancelled transaction is never tried again: somebody wanted it gone.
#[must_use]
pub fn after_crash(
    previous: Option<CrashedTry>,
    current: CrashedTry,
    tries: u32,
    retries_max: u32,
) -> Verdict {
    if current.code == Code::Cancelled || current.code == Code::Barrier {
        return Verdict::GiveUp;
    }
    if previous == Some(current) {
        return Verdict::Poison;
    }
    if tries > retries_max { Verdict::GiveUp } else { Verdict::Retry }
}

/// How `recover` ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recovered {
    /// It wants to go on.
    Resume,
    /// It wants to start over.
    Zero,
    /// It wants to be parked.
    Park,
    /// It rejected, crashed or ran too long.
    Failed,
}

/// What to do after `recover`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AfterRecover {
    /// Commit what it changed, and go on.
    Commit,
    /// Start over.
    Zero,
    /// Forget what it changed, and go on with the last commit.
    Checkpoint,
    /// Take no more requests until a person resumes it.
    Park,
}

/// Decides after `recover`; `failures` counts this one too.
#[must_use]
pub fn after_recover(recovered: Recovered, failures: u32) -> AfterRecover {
    match recovered {
        Recovered::Resume => AfterRecover::Commit,
        Recovered::Zero => AfterRecover::Zero,
        Recovered::Park => AfterRecover::Park,
        Recovered::Failed if failures >= RECOVER_FAILURES_MAX => AfterRecover::Park,
        Recovered::Failed => AfterRecover::Checkpoint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(code: Code, checkpoint: u64) -> CrashedTry {
        CrashedTry { code, checkpoint }
    }

    #[test]
    fn the_same_crash_on_the_same_checkpoint_is_never_tried_a_third_time() {
        let crash_a = crash(Code::Fuel, 1);
        assert_eq!(after_crash(None, crash_a, 1, 5), Verdict::Retry);
        assert_eq!(after_crash(Some(crash_a), crash_a, 2, 5), Verdict::Poison);
    }

    #[test]
    fn another_crash_or_another_checkpoint_is_tried_up_to_the_budget() {
        let first = crash(Code::Fuel, 1);
        for current in [crash(Code::Deadline, 1), crash(Code::Fuel, 2)] {
            assert_eq!(after_crash(Some(first), current, 2, 5), Verdict::Retry);
            assert_eq!(after_crash(Some(first), current, 6, 5), Verdict::GiveUp);
        }
    }

    #[test]
    fn no_retries_and_cancelled_or_host_errors_end_at_once() {
        assert_eq!(after_crash(None, crash(Code::Fuel, 1), 1, 0), Verdict::GiveUp);
        for code in [Code::Cancelled, Code::Barrier] {
            assert_eq!(after_crash(None, crash(code, 1), 1, 5), Verdict::GiveUp);
        }
    }

    #[test]
    fn a_guest_that_cannot_recover_is_parked_at_last() {
        for failures in 1..RECOVER_FAILURES_MAX {
            assert_eq!(after_recover(Recovered::Failed, failures), AfterRecover::Checkpoint);
        }
        assert_eq!(after_recover(Recovered::Failed, RECOVER_FAILURES_MAX), AfterRecover::Park);
        assert_eq!(after_recover(Recovered::Resume, 0), AfterRecover::Commit);
        assert_eq!(after_recover(Recovered::Zero, 0), AfterRecover::Zero);
        assert_eq!(after_recover(Recovered::Park, 0), AfterRecover::Park);
    }
}
