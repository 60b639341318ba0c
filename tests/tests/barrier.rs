//! The write barrier against a full comparison: whatever a rewritten module changes lies in a
//! marked card, and it computes what the plain one computes.
//!
//! `BULKHEAD_SEEDS` says how many generated modules each test tries, `BULKHEAD_PROGRAMS` how many
//! components, the first of which is number `BULKHEAD_FIRST`.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that goes wrong may panic, and its numbers are its own"
)]

mod barrier {
    use std::ops::Range;

    mod admission;
    mod borders;
    mod components;
    mod composed;
    mod crossing;
    mod exhausted;
    mod generated;
    mod generator;
    mod lowered;
    mod mapping;
    mod oracle;
    mod sites;
    mod smith;
    mod watch;

    /// How many generated modules a test tries: `BULKHEAD_SEEDS`, or what keeps the suite quick.
    fn seeds(default: u64) -> u64 {
        number("BULKHEAD_SEEDS").unwrap_or(default)
    }

    /// Numbers of the generated components that a test tries.
    fn programs() -> Range<u64> {
        let first = number("BULKHEAD_FIRST").unwrap_or(0);
        first..first + number("BULKHEAD_PROGRAMS").unwrap_or(300)
    }

    fn number(variable: &str) -> Option<u64> {
        std::env::var(variable).ok().and_then(|number| number.parse().ok())
    }
}
