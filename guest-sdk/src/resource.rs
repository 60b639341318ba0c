//! What a guest asks the outside: resources, by the names that the service's manifest gives them.
//!
//! Calls are *live*: the world sees at once what they do, and a rollback doesn't undo it. When a
//! resource dies while a transaction uses it, the transaction ends; no call answers that, so a
//! guest never goes on with half of what it was told. Everything else is a [`CallError`], which `?`
//! turns into a rejection. What is to happen only if the transaction commits is [`staged`].
//!
//! [`staged`]: crate::staged

use std::fmt;

use crate::host;
use crate::rejection::Rejection;

/// Why a call of a resource has no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CallError {
    /// The daemon has no resource of that name.
    NoSuchResource,
    /// It has one, of another kind.
    WrongKind,
    /// The host doesn't let guests do that, and why.
    Denied(String),
    /// The resource said no.
    Refused {
        /// Its own code: an SQLSTATE, the first word of an error of Redis.
        code: String,
        /// Its message.
        message: String,
    },
    /// What is asked, or the answer, is larger than so many bytes.
    TooLarge(u64),
    /// No answer in time. Whether it was done is not known.
    TimedOut,
    /// The resource is down, or gives no connection, and why. A resource that the daemon needs is
    /// there when a transaction begins; one that it uses may not be.
    Unavailable(String),
    /// Too many calls wait for this resource.
    Full,
}

impl CallError {
    /// The code of the rejection that it becomes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchResource => "no_such_resource",
            Self::WrongKind => "wrong_kind",
            Self::Denied(_) => "call_denied",
            Self::Refused { .. } => "call_refused",
            Self::TooLarge(_) => "call_too_large",
            Self::TimedOut => "call_timed_out",
            Self::Unavailable(_) => "resource_unavailable",
            Self::Full => "resource_busy",
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchResource => f.write_str("this daemon has no resource of that name"),
            Self::WrongKind => f.write_str("the resource is of another kind"),
            Self::Denied(why) => write!(f, "the host denies that: {why}"),
            Self::Refused { code, message } => write!(f, "{code}: {message}"),
            Self::TooLarge(most) => write!(f, "larger than {most} bytes"),
            Self::TimedOut => f.write_str("no answer in time; it may have been done"),
            Self::Unavailable(why) => write!(f, "not available: {why}"),
            Self::Full => f.write_str("too many calls wait for this resource"),
        }
    }
}

impl std::error::Error for CallError {}

impl From<CallError> for Rejection {
    fn from(error: CallError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// How a resource is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stand {
    /// It may be used at the moment.
    pub available: bool,
    /// Grows whenever what is behind the name may have become another one: what was remembered of
    /// the one before is worth nothing.
    pub generation: u64,
}

/// How a resource is at the moment; `None` when the daemon has none of that name.
#[must_use]
pub fn look(resource: &str) -> Option<Stand> {
    host::look_at_resource(resource)
}
