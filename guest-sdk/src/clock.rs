//! Time, as the host sees it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch. Constant within a transaction, so that a retry sees one
/// moment.
///
/// Outside wasm it is 0 until a test sets it through its harness.
#[must_use]
pub fn now() -> u64 {
    crate::host::now()
}

/// The same as a [`SystemTime`].
#[must_use]
pub fn system_time() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(now())
}
