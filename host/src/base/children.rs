//! Children of this process: its own, for which somebody waits, and those that it inherited.
//!
//! In a container a host may be process 1. What its container's processes leave behind becomes its
//! child then, and stays a zombie until it is waited for.

use std::sync::{RwLock, RwLockReadGuard, TryLockError};

use rustix::process::{WaitOptions, wait};

/// Read by whoever has a child of its own, written by whoever waits for any.
static OWN: RwLock<()> = RwLock::new(());

/// Held from before a child is started until it was waited for: nobody else takes its end away.
#[derive(Debug)]
pub struct Own {
    _held: RwLockReadGuard<'static, ()>,
}

/// There will be a child.
#[must_use]
pub fn own() -> Own {
    Own { _held: OWN.read().unwrap_or_else(std::sync::PoisonError::into_inner) }
}

/// Waits for what has ended, if nobody has a child of its own; never for long. Answers how many.
pub fn reap() -> usize {
    let _held = match OWN.try_write() {
        Ok(held) => held,
        Err(TryLockError::Poisoned(held)) => held.into_inner(),
        Err(TryLockError::WouldBlock) => return 0,
    };
    std::iter::from_fn(|| wait(WaitOptions::NOHANG).ok().flatten()).count()
}
