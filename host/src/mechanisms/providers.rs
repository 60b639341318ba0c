//! What a host can depend on outside of itself, and how each such thing is kept.
//!
//! A kind of resource is one file: a [`Provider`] that opens connections, and a [`Connection`] that
//! says whether the other side is still there. The [`keeper`] does the rest, as
//! [`crate::pure::resource`] decides: it connects, runs the init jobs, checks, notices a death, and
//! connects again. All keepers share one thread, on which no guest code runs.
//!
//! | kind | file | available while |
//! |---|---|---|
//! | `directory` | [`directory`] | its path leads to the directory that it led to at first |
//! | `redis` | [`redis`] | a server answers, at the other end of a connection that lives |
//! | `postgres` | [`postgres`] | the same |
//! | `http` | [`http`] | a server takes connections; always with `check = "none"` |
//! | `clock`, `entropy`, `config` | [`stateless`] | always |

mod calls;
mod delivery;
pub mod dial;
pub mod directory;
pub mod http;
mod keeper;
pub mod metered;
mod outbox;
mod pool;
pub mod postgres;
pub mod redis;
mod runtime;
pub mod stateless;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio::time::Instant;

pub use self::calls::{Call, Caller, Incoming, Seat, calls};
pub use self::keeper::{Keeping, Observer, Shown};
pub use self::outbox::{Effect, EffectCounts, Outbox, Staged};
pub use self::runtime::{Providers, Switch};
use crate::pure::resource::operation::{CallError, CallResult, Operation};

/// An operation under way. Dropping it must leave nothing behind but what its method says.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why there is no connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoConnection {
    /// The other side is there, and has as many connections as it takes.
    Full(String),
    /// For another reason: it may be gone.
    Failed(String),
}

impl From<String> for NoConnection {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Full(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

/// A connection for transactions, or none.
pub type Opened = Result<Box<dyn Line>, NoConnection>;

/// How transactions use connections to a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// They use none.
    None,
    /// So many connections, each for any number of transactions at a time.
    Shared(u32),
    /// So many connections, each for one transaction at a time, from its first call to its end.
    Exclusive(u32),
}

/// Something outside that can die.
pub trait Provider: fmt::Debug + Send + Sync {
    /// The word for its kind, as in a manifest.
    fn kind(&self) -> &'static str;

    /// Where it is, for people; without passwords.
    fn place(&self) -> String;

    /// Whether there is anything that can die. What can't is available from the start to the end.
    fn can_die(&self) -> bool {
        true
    }

    /// What each key begins with, where keys are shared with others.
    fn prefix(&self) -> &str {
        ""
    }

    /// Constants that guests may read.
    fn values(&self) -> Option<&BTreeMap<String, String>> {
        None
    }

    /// Whether guests find its files under its name.
    fn is_read(&self) -> bool {
        false
    }

    /// Whether guests may send requests to this URL. Which one a request is for is decided by
    /// that; whether it is sent, when it is.
    fn allows(&self, _url: &str) -> bool {
        false
    }

    /// Opens a connection, or says why it can't. The keeper gives up after
    /// [`crate::base::limits::CONNECT_TIME_MAX`] by dropping this, which must leave nothing open.
    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, NoConnection>>;

    /// How transactions use it.
    fn sharing(&self) -> Sharing {
        Sharing::None
    }

    /// Whether guests may ask for that at all, as far as it is known without asking: what can't
    /// succeed isn't staged.
    ///
    /// # Errors
    ///
    /// What [`Line::call`] would answer.
    fn admits(&self, _operation: &Operation) -> Result<(), CallError> {
        Ok(())
    }

    /// Opens a connection for the calls of transactions, as [`Provider::connect`] does for the
    /// keeper's own, which no transaction uses: a slow call can't look like a dead peer. Asked
    /// only where something is shared.
    fn open(&self) -> Pending<'_, Opened> {
        Box::pin(async { Err(NoConnection::Failed("it takes no calls".to_owned())) })
    }
}

/// A connection to something outside. Dropping it closes it.
pub trait Connection: Send {
    /// Asks the other side whether it is there: also finds out about one that has gone silent. The
    /// keeper takes no answer within [`crate::base::limits::CHECK_TIME_MAX`] for a no.
    fn check(&mut self) -> Pending<'_, Result<(), String>>;

    /// Runs one init job.
    fn job(&mut self, text: &str) -> Pending<'_, Result<(), String>>;

    /// Ends when the connection is known to be dead, with the reason; never, where only a check
    /// can tell.
    fn died(&mut self) -> Pending<'_, String>;
}

/// A connection on which calls of transactions run. Dropping it closes it.
pub trait Line: Send {
    /// Starts one operation. On a shared line others run at the same time; on an exclusive one
    /// never. It ends soon after `until` with [`CallError::TimedOut`], and the line is fit for
    /// other calls then; or with [`CallError::Died`], when [`Line::died`] ends too. Dropping it
    /// gives the answer up: a shared line stays usable, or dies; an exclusive one tells the other
    /// side to end what runs, and is dropped or [`Line::reset`] then.
    ///
    /// [`CallError::Died`]: crate::pure::resource::operation::CallError::Died
    /// [`CallError::TimedOut`]: crate::pure::resource::operation::CallError::TimedOut
    fn call(&mut self, operation: Operation, until: Instant) -> Pending<'static, CallResult>;

    /// Ends when the line is known to be dead, with the reason. Cancel safe.
    fn died(&mut self) -> Pending<'_, String>;

    /// Puts an exclusive line back in its first state, after a transaction and before another one:
    /// also after a call that was given up, of which nothing reaches that one.
    fn reset(&mut self) -> Pending<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}
