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

#[cfg(all(test, feature = "chrono"))]
mod tests {
    use chrono::{DateTime, Utc};

    use crate::host::simulated;

    #[test]
    fn chrono_is_told_the_time_of_the_host_also_natively() {
        simulated::with(|host| host.now = 1_500_000_000);
        let now = DateTime::<Utc>::from(super::system_time());
        assert_eq!(now.to_rfc3339(), "1970-01-01T00:00:01.500+00:00");
    }
}
