//! Time and chance come in through traits, so that a tree can run on a simulated clock and a seed.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

/// What ends at a moment.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Monotonic time. The wall clock is never asked.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Nanoseconds since some fixed moment. Never goes back.
    fn now_nanos(&self) -> u64;

    /// Ends when [`Clock::now_nanos`] has reached `nanos`.
    fn sleep_until(&self, nanos: u64) -> Sleep;
}

/// The runtime's clock.
#[derive(Debug)]
pub struct TokioClock {
    start: Instant,
}

impl TokioClock {
    /// A clock that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now_nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn sleep_until(&self, nanos: u64) -> Sleep {
        Box::pin(tokio::time::sleep_until(self.start + Duration::from_nanos(nanos)))
    }
}

/// Random numbers, for the jitter of delays.
pub trait Chance: fmt::Debug + Send + Sync {
    /// Any number.
    fn number(&self) -> u64;
}

/// Numbers that nobody foresees, not fit for keys.
#[derive(Debug, Default)]
pub struct AnyChance;

impl Chance for AnyChance {
    fn number(&self) -> u64 {
        // Hash keys that the standard library draws anew for each of them.
        RandomState::new().hash_one(0_u8)
    }
}
