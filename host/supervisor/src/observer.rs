//! What happens in a tree, in order, for those who want to keep it.

use std::fmt;

use crate::error::{Generation, HookFailure, Irrecoverable};
use crate::policy::Exit;

/// What happened to a child.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A generation begins; `start` has not been called yet.
    Starting,
    /// `start` has returned; of a group, all its children have started.
    Started,
    /// An irrecoverable error came in. This is where it is recorded: everything else about it
    /// follows.
    Irrecoverable(&'a Irrecoverable),
    /// The hook was called and returned.
    HookReturned,
    /// The hook failed.
    HookFailed(&'a HookFailure),
    /// The component was told that its report was dealt with.
    Acked,
    /// The generation was told to end.
    Cancelled,
    /// It did not end in time, and was aborted.
    Aborted,
    /// It did not even end then: it blocks its thread.
    Stuck,
    /// The generation has ended: nothing of it runs any more.
    Ended(Exit),
    /// The next generation begins in so many nanoseconds, or when its siblings are ready.
    Restarting(u64),
    /// Its restarts are used up; it waits to be resumed.
    Parked,
    /// It is over for good.
    Over,
}

/// An event, with where and when.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Number of the event in its tree.
    pub sequence: u64,
    /// The child.
    pub path: &'a str,
    /// The child's generation.
    pub generation: Generation,
    /// What happened.
    pub event: Event<'a>,
}

/// Is told what happens, before its consequences. It is called by the supervisors: it must neither
/// block nor panic.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Takes note of one event.
    fn observe(&self, observed: &Observed<'_>);
}

/// Writes events as `tracing` events: errors and failures as such, the rest for debugging.
#[derive(Debug, Default)]
pub struct TracingObserver;

impl Observer for TracingObserver {
    fn observe(&self, observed: &Observed<'_>) {
        let Observed { sequence, path, generation, event } = *observed;
        let generation = generation.0;
        match event {
            Event::Irrecoverable(error) => {
                tracing::error!(sequence, path, generation, %error, "irrecoverable error");
            }
            Event::HookFailed(error) => {
                tracing::error!(sequence, path, generation, %error, "hook failed");
            }
            Event::Stuck => {
                tracing::error!(sequence, path, generation, "blocks its thread, can't be ended");
            }
            Event::Aborted => {
                tracing::warn!(sequence, path, generation, "did not end in time: aborted");
            }
            Event::Parked => {
                tracing::warn!(sequence, path, generation, "restarts used up: parked");
            }
            _ => tracing::debug!(sequence, path, generation, ?event, "supervision"),
        }
    }
}
