//! Supervises native components: what is to run without end is started again when it fails.
//!
//! A component implements [`Manageable`]: `start` returns the task that is one generation of it,
//! `handle_irrecoverable` is told why a generation can't go on. A [`Supervisor`] runs it:
//!
//! ```no_run
#![doc = include_str!("../examples/stream_example.rs")]
//! ```
//!
//! What happens to an irrecoverable error, always in this order: it is recorded, the hook is
//! called, the component gets its ack, the old generation ends, a new one begins.
//!
//! | what happens | what comes of it |
//! |---|---|
//! | the task reports an error | hook, ack, cancel; restarted when it has ended |
//! | the task reports and returns at once | the same, but for the ack |
//! | the task returns an error, or panics | hook; restarted |
//! | `start` returns an error, panics, or takes too long | hook; restarted |
//! | the task returns without an error | over, or restarted if it is [`Restart::Permanent`] |
//! | a second report, or one of a generation that has ended | refused: [`ReportError`] |
//! | a report out of `start` | cancel; hook when `start` has returned; restarted |
//! | the hook fails, panics, or takes too long | supervision ends, escalated |
//! | the task ignores its cancel | aborted after its grace |
//! | the task blocks its thread for good | [`State::Stuck`], then as [`Exhausted`] says |
//! | an observer or a clock panics, or there are no timers | [`Escalation::Lost`] |
//! | the restarts are used up | parked, escalated or an emergency |
//!
//! A stuck generation never gets another one beside it.
//!
//! Components stand in [`Group`]s, with a [`Strategy`] and in an order, and groups in groups. The
//! decisions are functions of values: [`policy`] says whether and when a child is started again,
//! [`strategy`] which of its siblings with it.

#![forbid(unsafe_code)]

mod children;
pub mod clock;
mod component;
pub mod error;
mod group;
mod observer;
pub mod policy;
mod runner;
mod slot;
#[cfg(test)]
#[path = "slot/model.rs"]
mod slot_model;
pub mod strategy;
mod supervisor;
mod sync;
mod tree;

pub use component::{Manageable, Reporter, Signal, Signals, Task};
pub use error::{
    BoxError, Cause, Escalation, Generation, HookFailure, Irrecoverable, NameError, ReportError,
    SpawnError,
};
pub use group::{Child, Group};
pub use observer::{Event, Observed, Observer, TracingObserver};
pub use policy::{Backoff, Decision, End, Exhausted, Exit, History, Intensity, Policy, Restart};
pub use strategy::Strategy;
pub use supervisor::{Supervised, Supervisor};
pub use tree::{Emergency, Kind, LastExit, Node, State};
