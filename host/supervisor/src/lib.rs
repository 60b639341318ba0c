//! Supervises native components: what runs for ever is started again when it fails.
//!
//! The decisions are functions of values: [`policy`] says whether and when a child that ended is
//! started again, [`strategy`] which of its siblings are stopped and started with it.

#![forbid(unsafe_code)]

pub mod policy;
pub mod strategy;

pub use policy::{Backoff, Decision, End, Exhausted, Exit, History, Intensity, Policy, Restart};
pub use strategy::Strategy;
