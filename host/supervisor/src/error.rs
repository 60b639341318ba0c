//! What can go wrong with a component, and with its supervision.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Any error of a component.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// How often a component was started: the number of one life of it, from 1 on.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a generation can't go on. Displayed, it is the component's own text where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The component reported it.
    #[error("{0}")]
    Reported(BoxError),
    /// Its task returned it.
    #[error("{0}")]
    Returned(BoxError),
    /// Its task panicked, with this text.
    #[error("panicked: {0}")]
    Panicked(String),
    /// `start` returned it.
    #[error("did not start: {0}")]
    NotStarted(BoxError),
    /// `start` panicked, with this text.
    #[error("panicked in `start`: {0}")]
    PanickedInStart(String),
    /// `start` did not return in time.
    #[error("`start` did not return within {0:?}")]
    StartedLate(Duration),
}

impl Cause {
    /// The component's own error, where it gave one.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        match self {
            Self::Reported(error) | Self::Returned(error) | Self::NotStarted(error) => {
                Some(error.as_ref())
            }
            Self::Panicked(_) | Self::PanickedInStart(_) | Self::StartedLate(_) => None,
        }
    }
}

/// An irrecoverable error of one generation of a component. Displayed, it is its cause.
#[derive(Debug)]
pub struct Irrecoverable {
    /// The component's place in the tree, as in `api/listener`.
    pub path: Arc<str>,
    /// Which generation failed.
    pub generation: Generation,
    /// Why.
    pub cause: Cause,
}

impl fmt::Display for Irrecoverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

/// How `handle_irrecoverable` failed.
#[derive(Debug, thiserror::Error)]
pub enum HookFailure {
    /// It returned this.
    #[error("{0}")]
    Failed(BoxError),
    /// It panicked, with this text.
    #[error("panicked: {0}")]
    Panicked(String),
    /// It did not return in time.
    #[error("did not return within {0:?}")]
    Late(Duration),
}

/// Why a report was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReportError {
    /// The generation that reports is over; nothing is lost that would concern the next one.
    #[error("generation {0} has ended")]
    Stale(Generation),
    /// One report ends a generation: there is nothing that a second one could change.
    #[error("generation {0} has reported already")]
    Twice(Generation),
}

/// Why a group does not take a child.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// A component has one supervisor, and a name means one component.
    #[error("there is a child `{0}` already")]
    Taken(String),
    /// Names are parts of paths.
    #[error("`{0}` is no name: 1 to {NAME_BYTES_MAX} bytes, without `/` and control characters")]
    Invalid(String),
}

/// Bytes of a name: a path of several still fits a line.
pub const NAME_BYTES_MAX: usize = 64;

/// Why supervision could not begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpawnError {
    /// `spawn` was awaited outside of a tokio runtime.
    #[error("there is no tokio runtime to run components on")]
    NoRuntime,
}

/// Why supervision ended that should not have: what reaches the parent, and from the root the
/// program.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Escalation {
    /// The child used its restarts up.
    #[error("`{path}` has used its restarts up, the last time with: {last}")]
    Exhausted {
        /// The child.
        path: Arc<str>,
        /// How it ended the last time.
        last: String,
    },
    /// The child's hook failed: nobody knows what state it is in.
    #[error("the hook of `{path}` failed: {failure}")]
    Hook {
        /// The child.
        path: Arc<str>,
        /// What the hook came to.
        failure: Arc<HookFailure>,
    },
    /// The child can't be ended: it blocks a thread. Only the end of the process helps.
    #[error("`{path}` blocks its thread and can't be ended")]
    Stuck {
        /// The child.
        path: Arc<str>,
    },
    /// What watched the child has panicked: an observer or a clock did, or the runtime has no
    /// timers. The child was aborted.
    #[error("the supervisor of `{path}` panicked: {text}")]
    Lost {
        /// The child.
        path: Arc<str>,
        /// The panic's text.
        text: String,
    },
    /// The child used its restarts up, and nothing may go on without it.
    #[error("emergency: `{path}` has used its restarts up, the last time with: {last}")]
    Emergency {
        /// The child.
        path: Arc<str>,
        /// How it ended the last time.
        last: String,
    },
}

/// The text of a panic.
pub(crate) fn panic_text(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = match payload.downcast::<String>() {
        Ok(text) => return *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => return (*text).to_owned(),
            Err(payload) => payload,
        },
    };
    // A payload may be anything, and may panic when it is dropped; so may the payload of that.
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(text)));
    if let Err(payload) = dropped {
        std::mem::forget(payload);
    }
    "with something else than a text".to_owned()
}
