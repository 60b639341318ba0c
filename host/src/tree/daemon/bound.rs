//! What a daemon is asked, and what it answers.

use std::sync::Arc;

use crate::base::error::Fault;
use crate::base::ids::{RequestId, Sequence};
use crate::base::room::Room;
use crate::pure::contract::Args;
use crate::pure::request::{Outcome, Shown};

/// The arguments of a request.
#[derive(Clone, Debug)]
pub enum Arguments {
    /// As they came: the daemon reads them, in the request's own time.
    Unread(Args),
    /// MessagePack, as [`crate::pure::contract::Contract::bind`] makes them.
    Packed(Arc<[u8]>),
}

impl Arguments {
    /// MessagePack; empty while they are unread.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        self.shared().map_or(&[], |bytes| bytes)
    }

    /// The same to keep; none while they are unread.
    #[must_use]
    pub fn shared(&self) -> Option<&Arc<[u8]>> {
        match self {
            Self::Unread(_) => None,
            Self::Packed(bytes) => Some(bytes),
        }
    }
}

/// A request that is bound to a contract: what a daemon runs.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The request's id.
    pub request: RequestId,
    /// Index of the contract.
    pub contract: u32,
    /// Its arguments.
    pub arguments: Arguments,
    /// Idempotency key.
    pub key: Option<Arc<str>>,
    /// Correlation id; the request's own when `None`.
    pub correlation: Option<Arc<str>>,
    /// Until when it waits for resources that are down, in monotonic nanoseconds; none when it is
    /// refused at once.
    pub wait_until_nanos: Option<u64>,
    /// Where the answer takes its room from that the daemon shows as JSON; none when it doesn't.
    pub show: Option<Room>,
}

/// How a bound request ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Transacted {
    /// The outcome.
    pub outcome: Outcome,
    /// The daemon's last commit after it.
    pub sequence: Sequence,
    /// Tries.
    pub attempts: u32,
    /// Value or details as JSON, where that was asked for.
    pub shown: Option<Shown>,
}

impl Transacted {
    /// A request that was not started.
    #[must_use]
    pub fn refused(fault: Fault, sequence: Sequence) -> Self {
        Self { outcome: Outcome::Rejected(fault.into()), sequence, attempts: 0, shown: None }
    }
}
