//! The stop latch: the one way in which a host is asked to end.
//!
//! It stands outside of mailboxes and locks, so that it works when those don't. It can be set by
//! any thread at any time, during start-up too, and never be unset. The first reason wins.

mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}
mod latch;

use super::error::Code;

pub use latch::StopLatch;

/// Why a host ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Somebody asked for it, with `host stop`, or the work is done.
    Asked,
    /// This signal came.
    Signal(u8),
    /// Something is so wrong that going on would be worse than starting anew.
    Emergency(Code),
}

impl Reason {
    /// An emergency: running transactions get no time to end.
    #[must_use]
    pub const fn is_emergency(self) -> bool {
        matches!(self, Self::Emergency(_))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked => f.write_str("asked for"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::Emergency(code) => write!(f, "emergency {code}"),
        }
    }
}

#[cfg(test)]
mod tests;
