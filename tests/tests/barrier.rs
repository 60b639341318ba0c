//! The write barrier against a full comparison: whatever a rewritten module changes lies in a
//! marked card, and it computes what the plain one computes.
//!
//! `BULKHEAD_SEEDS` says how many generated modules each test tries.

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
    mod admission;
    mod generated;
    mod generator;
    mod lowered;
    mod mapping;
    mod oracle;
    mod sites;
    mod smith;

    /// How many generated modules a test tries: `BULKHEAD_SEEDS`, or what keeps the suite quick.
    fn seeds(default: u64) -> u64 {
        std::env::var("BULKHEAD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
    }
}
