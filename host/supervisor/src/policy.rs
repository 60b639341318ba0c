//! Decides whether a child that ended is started again, and when.
//!
//! No task, clock or generator of random numbers is in here: they come in as values, so that every
//! path from an exit to a restart can be replayed from a table.
//!
//! ```text
//!            Restart says no, or it was asked to end
//!   exit --------------------------------------------> End
//!    |
//!    | as many restarts inside the window as allowed
//!    +-----------------------------------------------> Park, Escalate or Emergency
//!    |
//!    +-----------------------------------------------> Restart: at once, then after longer
//!                                                      and longer delays
//! ```
//!
//! Times are monotonic nanoseconds. The wall clock may jump, and has no say in this.

use std::collections::VecDeque;
use std::time::Duration;

/// Restarts that an [`Intensity`] may allow at most: the history keeps a time for each.
pub const RESTARTS_MAX: u32 = 1024;

/// The longest time that a policy may name: a year. Longer ones are mistaken units, and sums of
/// them stay far below what nanoseconds in 64 bits hold.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

const NANOS_PER_MILLISECOND: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// After which ends a child is started again.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Restart {
    /// After every end.
    Permanent,
    /// After a failure or a panic. A child that completes has done what it is for.
    #[default]
    Transient,
    /// Never.
    Temporary,
}

/// How one generation of a child ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Exit {
    /// It returned, with nothing to complain about.
    Completed,
    /// It reported an irrecoverable error, or returned one.
    Failed,
    /// It panicked.
    Panicked,
    /// Its supervisor told it to end, and it did.
    Cancelled,
    /// Its supervisor told it to end; it didn't in time, and was aborted.
    Killed,
}

/// What happens to a child that has used its restarts up.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Exhausted {
    /// It stays down until somebody resumes it.
    Park,
    /// Its supervisor fails in its turn, and the parent of that decides.
    #[default]
    Escalate,
    /// Everything stops, in order, for the reason that this child can't run.
    Emergency,
}

/// Why the values of a policy can't be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// Too many restarts to keep the time of each.
    #[error("{0} restarts in a window are more than the {RESTARTS_MAX} that can be counted")]
    TooManyRestarts(u32),
    /// A window without a length counts nothing.
    #[error("the window in which restarts are counted is empty")]
    EmptyWindow,
    /// Delays that can't grow.
    #[error("the factor by which delays grow is 0")]
    ZeroFactor,
    /// Without a delay a child that always fails keeps a processor busy.
    #[error("the first delay is 0: only the first restart comes at once")]
    ZeroDelay,
    /// Delays that begin above their limit.
    #[error("the first delay is longer than the longest one")]
    DelayAboveMax,
    /// More than the whole delay.
    #[error("a jitter of {0} % is more than the whole delay")]
    JitterAbove100(u8),
    /// Longer than [`DURATION_MAX`].
    #[error("{} seconds are longer than a year", .0.as_secs())]
    TooLong(Duration),
}

/// How often a child may be restarted: at most so many times within any window of so long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Intensity {
    restarts_max: u32,
    window_nanos: u64,
}

impl Intensity {
    /// At most `restarts_max` restarts in any `window`; with 0 the first failure is one too many.
    ///
    /// # Errors
    ///
    /// When `restarts_max` exceeds [`RESTARTS_MAX`], or the window is empty or longer than
    /// [`DURATION_MAX`].
    pub fn new(restarts_max: u32, window: Duration) -> Result<Self, PolicyError> {
        if restarts_max > RESTARTS_MAX {
            return Err(PolicyError::TooManyRestarts(restarts_max));
        }
        let window_nanos = nanos(window)?;
        if window_nanos == 0 {
            return Err(PolicyError::EmptyWindow);
        }
        Ok(Self { restarts_max, window_nanos })
    }

    /// Restarts that are allowed in a window.
    #[must_use]
    pub fn restarts_max(&self) -> u32 {
        self.restarts_max
    }

    /// Length of the window.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_nanos(self.window_nanos)
    }
}

impl Default for Intensity {
    /// Ten in a minute. With the default delays a child that dies at once is given up after 40 to
    /// 51 seconds: long enough for a peer to be restarted, short enough to be noticed.
    fn default() -> Self {
        Self { restarts_max: 10, window_nanos: 60 * NANOS_PER_SECOND }
    }
}

/// How long a restart waits: the first not at all, the second `initial`, each further one `factor`
/// times as long as the one before, up to `max`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    initial_nanos: u64,
    factor: u32,
    max_nanos: u64,
    jitter_percent: u8,
}

impl Backoff {
    /// Delays from `initial` to `max`. A random part of up to `jitter_percent` of each is left out,
    /// so that children that failed together don't come back together.
    ///
    /// # Errors
    ///
    /// When `initial` is 0 or above `max`, `factor` is 0, `jitter_percent` is above 100, or `max`
    /// is longer than [`DURATION_MAX`].
    pub fn new(
        initial: Duration,
        factor: u32,
        max: Duration,
        jitter_percent: u8,
    ) -> Result<Self, PolicyError> {
        let (initial_nanos, max_nanos) = (nanos(initial)?, nanos(max)?);
        if initial_nanos == 0 {
            return Err(PolicyError::ZeroDelay);
        }
        if initial_nanos > max_nanos {
            return Err(PolicyError::DelayAboveMax);
        }
        if factor == 0 {
            return Err(PolicyError::ZeroFactor);
        }
        if jitter_percent > 100 {
            return Err(PolicyError::JitterAbove100(jitter_percent));
        }
        Ok(Self { initial_nanos, factor, max_nanos, jitter_percent })
    }

    /// Nanoseconds before the restart that follows `restarts` others. `random` is any number: the
    /// jitter is a part of it.
    #[must_use]
    pub fn delay_nanos(&self, restarts: u32, random: u64) -> u64 {
        let Some(growths) = restarts.checked_sub(1) else { return 0 };
        let full = u64::from(self.factor)
            .checked_pow(growths)
            .and_then(|times| times.checked_mul(self.initial_nanos))
            .map_or(self.max_nanos, |nanos| nanos.min(self.max_nanos));
        let jitter = u128::from(full) * u128::from(self.jitter_percent) / 100;
        // The random number as a fraction of one: no more than the jitter, which is no more than
        // the delay.
        let left_out = (jitter * u128::from(random)) >> 64;
        full - u64::try_from(left_out).unwrap_or(full)
    }
}

impl Default for Backoff {
    /// 100 ms, doubling up to 30 s, each up to a fifth shorter.
    fn default() -> Self {
        Self {
            initial_nanos: 100 * NANOS_PER_MILLISECOND,
            factor: 2,
            max_nanos: 30 * NANOS_PER_SECOND,
            jitter_percent: 20,
        }
    }
}

/// What is done when a child ends: how it is restarted, how often and how fast, and what then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    restart: Restart,
    intensity: Option<Intensity>,
    backoff: Option<Backoff>,
    stable_after_nanos: u64,
    exhausted: Exhausted,
}

impl Policy {
    /// A policy with the defaults: ten restarts in a minute, the first at once, the others after
    /// 100 ms to 30 s; delays start over after a minute's run; escalates when used up.
    #[must_use]
    pub fn new(restart: Restart) -> Self {
        Self {
            restart,
            intensity: Some(Intensity::default()),
            backoff: Some(Backoff::default()),
            stable_after_nanos: 60 * NANOS_PER_SECOND,
            exhausted: Exhausted::default(),
        }
    }

    /// Allows so many restarts; `None` for any number, which the delays alone then slow down.
    #[must_use]
    pub fn with_intensity(self, intensity: impl Into<Option<Intensity>>) -> Self {
        Self { intensity: intensity.into(), ..self }
    }

    /// Waits so long before restarts; `None` for never, as OTP's supervisors do.
    #[must_use]
    pub fn with_backoff(self, backoff: impl Into<Option<Backoff>>) -> Self {
        Self { backoff: backoff.into(), ..self }
    }

    /// Delays start over when a child ran for `stable_after`. The window of the intensity does
    /// not: it counts all that it spans.
    ///
    /// # Errors
    ///
    /// When it is longer than [`DURATION_MAX`].
    pub fn with_stable_after(self, stable_after: Duration) -> Result<Self, PolicyError> {
        Ok(Self { stable_after_nanos: nanos(stable_after)?, ..self })
    }

    /// Does this when the restarts are used up.
    #[must_use]
    pub fn with_exhausted(self, exhausted: Exhausted) -> Self {
        Self { exhausted, ..self }
    }

    /// After which ends the child is started again.
    #[must_use]
    pub fn restart(&self) -> Restart {
        self.restart
    }

    /// What happens when the restarts are used up.
    #[must_use]
    pub fn exhausted(&self) -> Exhausted {
        self.exhausted
    }

    /// How often it may be; `None` for any number.
    #[must_use]
    pub fn intensity(&self) -> Option<Intensity> {
        self.intensity
    }
}

impl Default for Policy {
    /// [`Policy::new`] for [`Restart::Transient`].
    fn default() -> Self {
        Self::new(Restart::default())
    }
}

/// The restarts of one child, as far as they count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct History {
    /// When it was restarted inside the window, oldest first. Never more than [`RESTARTS_MAX`].
    restarts_nanos: VecDeque<u64>,
    /// Restarts since it last ran for long enough.
    in_a_row: u32,
    /// When it was last restarted.
    last_nanos: Option<u64>,
}

impl History {
    /// Restarts since the child last ran for long enough.
    #[must_use]
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Restarts that the window still spans, as of the last decision.
    #[must_use]
    pub fn in_window(&self) -> usize {
        self.restarts_nanos.len()
    }
}

/// How a child ended for good.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// It had done what it is for.
    Completed,
    /// It failed, and is not restarted.
    Failed,
    /// It was told to end.
    Stopped,
}

/// What to do about a child that ended.
#[must_use = "a decision that is not carried out leaves the child in limbo"]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Start its next generation.
    Restart {
        /// Nanoseconds from now.
        after_nanos: u64,
    },
    /// Nothing: it is over.
    End(End),
    /// Its restarts are used up: leave it down until somebody resumes it.
    Park,
    /// Its restarts are used up: fail, so that the parent decides.
    Escalate,
    /// Its restarts are used up: stop everything.
    Emergency,
}

/// Decides what to do about a child that ended at `now_nanos`, with what to remember for its next
/// end. `now_nanos` is monotonic, and not before the last restart that was decided; `random` is
/// any number.
pub fn decide(
    policy: &Policy,
    mut history: History,
    exit: Exit,
    now_nanos: u64,
    random: u64,
) -> (Decision, History) {
    let end = match (exit, policy.restart) {
        (Exit::Cancelled | Exit::Killed, _) => Some(End::Stopped),
        (Exit::Completed, Restart::Transient | Restart::Temporary) => Some(End::Completed),
        (Exit::Failed | Exit::Panicked, Restart::Temporary) => Some(End::Failed),
        (Exit::Completed, Restart::Permanent)
        | (Exit::Failed | Exit::Panicked, Restart::Permanent | Restart::Transient) => None,
    };
    if let Some(end) = end {
        return (Decision::End(end), history);
    }
    // It ran since its last restart. Before the first there is nothing to start over.
    let ran_nanos = history.last_nanos.map_or(0, |last| now_nanos.saturating_sub(last));
    if ran_nanos >= policy.stable_after_nanos {
        history.in_a_row = 0;
    }
    if let Some(Intensity { restarts_max, window_nanos }) = policy.intensity {
        let outside = |&at: &u64| now_nanos.saturating_sub(at) >= window_nanos;
        while history.restarts_nanos.front().is_some_and(outside) {
            history.restarts_nanos.pop_front();
        }
        if history.restarts_nanos.len() >= restarts_max as usize {
            let decision = match policy.exhausted {
                Exhausted::Park => Decision::Park,
                Exhausted::Escalate => Decision::Escalate,
                Exhausted::Emergency => Decision::Emergency,
            };
            return (decision, history);
        }
    }
    let delay_nanos = |backoff: Backoff| backoff.delay_nanos(history.in_a_row, random);
    let after_nanos = policy.backoff.map_or(0, delay_nanos);
    let restart_nanos = now_nanos.saturating_add(after_nanos);
    if policy.intensity.is_some() {
        history.restarts_nanos.push_back(restart_nanos);
    }
    history.in_a_row = history.in_a_row.saturating_add(1);
    history.last_nanos = Some(restart_nanos);
    (Decision::Restart { after_nanos }, history)
}

fn nanos(duration: Duration) -> Result<u64, PolicyError> {
    if duration > DURATION_MAX {
        return Err(PolicyError::TooLong(duration));
    }
    u64::try_from(duration.as_nanos()).map_err(|_| PolicyError::TooLong(duration))
}

#[cfg(test)]
mod tests;
