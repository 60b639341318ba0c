//! The transaction that is running.
//!
//! Outside wasm the answers are those of a first try in a first generation, unless a test sets
//! others through its harness.

/// The id of the running request.
#[must_use]
pub fn request_id() -> String {
    crate::host::request_id()
}

/// The id shared by all requests, log lines and messages that one outside request causes.
#[must_use]
pub fn correlation_id() -> String {
    crate::host::correlation_id()
}

/// Which try of the request this is, from 1.
#[must_use]
pub fn attempt() -> u32 {
    crate::host::attempt()
}

/// The incarnation of this instance, from 1; it grows with each restart.
#[must_use]
pub fn generation() -> u64 {
    crate::host::generation()
}
