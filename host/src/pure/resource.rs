//! What becomes of a resource: something outside of the host that can die.
//!
//! ```text
//!              due                ok                  ok                due, check passed
//!  Waiting --------> Connecting ---> Init job 1..n ------> Settling -------------------> Available
//!     ^                  |                 |                  |                              |
//!     +----- backoff ----+-- failed, late -+-- died, failed --+              check or probe  |
//!                        ^                                                   failed or late  |
//!                        +--------------------------- at once -------------------------------+
//! ```
//!
//! A drill holds it in any of these; a release connects at once. The [`Machine`] decides, a driver
//! connects, runs jobs and checks. Two things slow it down, apart from each other: failed attempts
//! to connect have a backoff, and a resource that flaps settles longer before its recovery is
//! announced, so that its dependents are not started again and again. Nothing delays a `Down`.

pub mod allow;
pub mod delivery;
pub mod files;
mod machine;
pub mod operation;
pub mod outgoing;
pub mod redis;
pub mod refusal;
pub mod resp;
#[cfg(test)]
mod simulation;
pub mod sql;
#[cfg(test)]
mod tests;
pub mod unanswered;
pub mod words;

use std::time::Duration;

use smallvec::SmallVec;
use supervisor::policy::Backoff;

pub use machine::Machine;

use crate::base::ids::ResourceGeneration;
use crate::base::limits::{UP_DELAY, UP_DELAY_MAX, UP_DELAY_MIN};

/// What happened to a resource. Whatever was called off by [`Action::Disconnect`] must not be told
/// any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// [`Action::Connect`] gave a connection.
    Connected,
    /// It gave none, for this reason.
    ConnectFailed(String),
    /// The init job that runs has done its work.
    JobDone,
    /// It failed.
    JobFailed(String),
    /// The answer to [`Action::Check`] or [`Action::Probe`] is good.
    CheckPassed,
    /// It is not. Whoever lost the resource otherwise, by a panic for example, says this too.
    CheckFailed(String),
    /// A connection that was open died, whosever it was. That of others may be sound.
    ConnectionDied(String),
    /// A person wants it to be down.
    Hold,
    /// A person wants it back.
    Release,
    /// The time of the last [`Action::WakeAt`] has come.
    Due,
    /// Its service ends.
    Stop,
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Open the connection on which jobs and checks run.
    Connect,
    /// Run the init job of this index.
    RunJob(usize),
    /// Ask on that connection whether the peer still answers.
    Check,
    /// The same, and ask on a new connection as well: one has died, which may be the peer's death.
    Probe,
    /// Close all connections, and call off what is under way.
    Disconnect,
    /// Tell all who depend on it, before anything else happens.
    Announce(Change),
    /// Tell [`Event::Due`] at this monotonic time, in nanoseconds, instead of any time before.
    WakeAt(u64),
}

/// What dependents are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// It may be used from now on.
    Up {
        /// Larger by one than the last time.
        generation: ResourceGeneration,
    },
    /// It may not be used any more.
    Down {
        /// Since when, in monotonic nanoseconds.
        since_nanos: u64,
        /// The reason.
        why: String,
    },
}

/// How a resource is, for whoever looks. It agrees with what was announced last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Status {
    /// It may be used.
    Available,
    /// It may not.
    Down {
        /// Since when it has not been available, in monotonic nanoseconds.
        since_nanos: u64,
        /// Why the last attempt failed, or why it went down.
        why: String,
    },
    /// A person holds it down.
    Held {
        /// Since when, in monotonic nanoseconds.
        since_nanos: u64,
    },
}

/// How fast a resource is connected again, and how long its recovery has to last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    backoff: Backoff,
    up_delay_nanos: u64,
}

impl Policy {
    /// Attempts to connect wait by `backoff`, the first one not at all. A recovery is announced
    /// after `up_delay`, doubled with each flap; it is brought between [`UP_DELAY_MIN`] and
    /// [`UP_DELAY_MAX`].
    #[must_use]
    pub fn new(backoff: Backoff, up_delay: Duration) -> Self {
        Self { backoff, up_delay_nanos: nanos(up_delay.clamp(UP_DELAY_MIN, UP_DELAY_MAX)) }
    }

    /// How long a recovery has to last after so many flaps.
    fn settling_nanos(&self, flaps: u32) -> u64 {
        let times = 1_u64.checked_shl(flaps).unwrap_or(u64::MAX);
        self.up_delay_nanos.saturating_mul(times).min(nanos(UP_DELAY_MAX))
    }
}

impl Default for Policy {
    /// The default backoff, and [`UP_DELAY`].
    fn default() -> Self {
        Self::new(Backoff::default(), UP_DELAY)
    }
}

/// Actions that one event brings about: rarely more than four.
pub type Actions = SmallVec<[Action; 4]>;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
