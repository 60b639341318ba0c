//! How calls and effects of transactions come to the keepers' thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{Notify, mpsc};

use super::outbox::{Effects, Outbox, outbox};
use crate::base::ids::{ConnectionId, LeaseId};
use crate::base::limits::CALLS_QUEUED_MAX;
use crate::base::ticket::Ticket;
use crate::pure::resource::operation::{CallError, CallResult, Operation};

/// A transaction's place at a resource, from its first call until its lease is given back.
#[derive(Debug)]
pub struct Seat {
    lease: LeaseId,
    ended: AtomicBool,
    over: Notify,
    /// The connection that its calls use; 0 before the first.
    connection: AtomicU64,
    /// Somebody keeps a connection for it alone.
    claimed: AtomicBool,
    bell: Arc<Notify>,
}

impl Seat {
    /// The lease.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The transaction has ended: whatever it still asks for is given up.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.over.notify_one();
        if self.claimed.load(Ordering::SeqCst) {
            self.bell.notify_one();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Ends when the transaction does.
    pub(super) async fn over(&self) {
        while !self.has_ended() {
            self.over.notified().await;
        }
        // Another call of it may wait for the same.
        self.over.notify_one();
    }

    pub(super) fn connection(&self) -> ConnectionId {
        ConnectionId(self.connection.load(Ordering::Relaxed))
    }

    pub(super) fn connect(&self, connection: ConnectionId) {
        self.connection.store(connection.0, Ordering::Relaxed);
    }

    /// From here on its end is told to the keeper; it may have been before.
    pub(super) fn claim(&self) {
        self.claimed.store(true, Ordering::SeqCst);
    }
}

/// One call of a transaction.
#[derive(Debug)]
pub struct Call {
    /// Whose.
    pub seat: Arc<Seat>,
    /// What.
    pub operation: Operation,
    /// For how long somebody waits for the answer.
    pub until: Instant,
    /// Where the answer goes.
    pub ticket: Ticket<CallResult>,
}

/// The way to the keeper of one resource.
#[derive(Clone, Debug)]
pub struct Caller {
    calls: mpsc::Sender<Call>,
    bell: Arc<Notify>,
    outbox: Outbox,
}

impl Caller {
    /// A seat for a lease.
    #[must_use]
    pub fn seat(&self, lease: LeaseId) -> Arc<Seat> {
        Arc::new(Seat {
            lease,
            ended: AtomicBool::new(false),
            over: Notify::new(),
            connection: AtomicU64::new(0),
            claimed: AtomicBool::new(false),
            bell: self.bell.clone(),
        })
    }

    /// Where effects are staged.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Passes a call on. Never waits.
    ///
    /// # Errors
    ///
    /// [`CallError::Full`], and [`CallError::Died`] when there is no keeper any more.
    pub fn call(&self, call: Call) -> Result<(), CallError> {
        self.calls.try_send(call).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => CallError::Full,
            mpsc::error::TrySendError::Closed(_) => CallError::Died,
        })
    }
}

/// The calls that come to one keeper.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) calls: mpsc::Receiver<Call>,
    /// Rings when a transaction ends for which a connection is kept.
    pub(super) bell: Arc<Notify>,
}

/// What comes to one keeper.
#[derive(Debug)]
pub struct Incoming {
    pub(super) calls: Calls,
    pub(super) effects: Effects,
}

/// Both ends of the way to one keeper.
#[must_use]
pub fn calls() -> (Caller, Incoming) {
    let (sender, receiver) = mpsc::channel(CALLS_QUEUED_MAX);
    let bell = Arc::new(Notify::new());
    let (outbox, effects) = outbox();
    let calls = Calls { calls: receiver, bell: bell.clone() };
    (Caller { calls: sender, bell, outbox }, Incoming { calls, effects })
}
