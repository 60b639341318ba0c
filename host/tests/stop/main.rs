//! How a host ends: by whom, in which order, within which time, with which exit code.
//!
//! The host is the real binary. Nothing here measures time but by the host's own deadlines: each
//! stop has to end by itself, and a test that waits for ever fails by its runner.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::panic, reason = "a test may panic")]

mod clients;
mod components;
mod leftovers;
mod order;
mod rig;
mod stuck;
mod twice;
