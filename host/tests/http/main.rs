//! HTTP in front of the daemons of the real binary, by a client that knows bytes and no more.
//!
//! Needs `guests/*.wasm`, which `cargo xtask guests` builds.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod answers;
mod demo;
#[expect(dead_code, unreachable_pub, reason = "what the package of tests has")]
#[path = "../../../tests/src/hostile.rs"]
mod hostile;
mod large;
mod limits;
mod lives;
mod rig;
mod values;
