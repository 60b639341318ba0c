//! The host's side of the world: its imports on wasm, a simulation of them elsewhere.

#[cfg(target_family = "wasm")]
mod imported;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod simulated;

#[cfg(target_family = "wasm")]
pub(crate) use imported::*;
#[cfg(not(target_family = "wasm"))]
pub(crate) use simulated::{
    append, attempt, correlation_id, generation, handover_read, handover_write, http, log, look,
    look_at_resource, now, random, read_output, redis, redis_eval, request_id, show, sql, stage,
};
