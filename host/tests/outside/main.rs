//! What others do around a host, and who may do what to it: crowds of clients, descriptors that
//! nobody reads, files that somebody else made.
//!
//! The host is the real binary.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::panic, reason = "a test may panic")]

mod containers;
mod crowds;
mod descriptors;
mod files;
mod limits;
mod owners;
#[expect(dead_code, reason = "other tests' rig, of which these need a part")]
#[path = "../stop/rig.rs"]
mod rig;
