//! Readers of a daemon's state: members of a crew that run what only reads.
//!
//! ```text
//!   read-only request ---> the readers' line ---> a reader: follows, runs, answers
//!                              | none serves, or it can't follow
//!   any other request ---> the daemon itself
//! ```
//!
//! Whatever a reader can't do the daemon does: it has the last word on a request, and a request has
//! one answer, since it is either run here or handed on.

use std::sync::Arc;

use super::daemon::{Bound, Transacted};
use super::duty::Duty;
use super::gauges::Gauges;
use super::mailbox::{Mailbox, Unsent};
use super::worker::{Message, TransactedReply};
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::base::limits::FOLLOW_WAIT;
use crate::mechanisms::memory::{Follower, Images};
use crate::mechanisms::sandbox::Guest;

/// The daemon whose state readers read.
pub(super) struct Leader {
    mailbox: Arc<Mailbox>,
    gauges: Arc<Gauges>,
}

/// Other code, for one reader: with images of its shape, and what they follow.
pub(super) struct Renewal {
    pub(super) guest: Arc<Guest>,
    pub(super) images: Images,
    pub(super) follower: Follower,
}

/// A request as its message has it.
type Request = (Bound, Arc<Guest>, TransactedReply);

impl Leader {
    pub(super) fn new(mailbox: &Arc<Mailbox>, gauges: &Arc<Gauges>) -> Self {
        Self { mailbox: mailbox.clone(), gauges: gauges.clone() }
    }

    /// It would run a read now: it is not parked, doesn't wait, and isn't being stopped.
    pub(super) fn serves(&self) -> bool {
        self.gauges.serves() && self.mailbox.refuses().is_none()
    }

    /// Hands a request on to it. One that it doesn't take is answered.
    pub(super) fn run(&self, message: Message) {
        let Err(unsent) = self.mailbox.send(message) else { return };
        if let Unsent { fault, message: Message::Transact(_, _, reply) } = *unsent {
            let sequence = Sequence(self.gauges.report().sequence);
            reply(Transacted::refused(fault, sequence));
        }
    }
}

/// A request that any reader may run: nothing of it is kept.
pub(super) fn is_read(bound: &Bound, guest: &Guest) -> bool {
    let contract = guest.contract_at(bound.contract);
    bound.key.is_none() && contract.is_some_and(|contract| contract.read_only)
}

impl Duty {
    /// A request that this thread runs. What a reader can't run now goes to its daemon.
    pub(super) fn take_on(&mut self, request: Request) -> Option<Request> {
        let Some(crew) = self.berth.as_ref().map(|berth| berth.crew.clone()) else {
            return Some(request);
        };
        let Some(leader) = &crew.leader else { return Some(request) };
        let can_run = leader.serves() && self.daemon.follow(FOLLOW_WAIT);
        let (bound, guest, reply) = match self.as_read(request) {
            Ok(read) if can_run => return Some(read),
            Ok(request) | Err(request) => request,
        };
        if self.bits.pass_on() {
            let message = format!("request {} was cancelled before it was started", bound.request);
            reply(Transacted::refused(
                Fault::new(Code::Cancelled, message),
                self.daemon.sequence(),
            ));
        } else {
            leader.run(Message::Transact(bound, guest, reply));
        }
        None
    }

    /// The request bound to the code that runs here; as it was when that can't run it as a read.
    fn as_read(&self, (bound, guest, reply): Request) -> Result<Request, Request> {
        let now = self.daemon.guest();
        if Arc::ptr_eq(&guest, now) {
            return Ok((bound, guest, reply));
        }
        match self.daemon.rebind(bound.clone(), &guest) {
            Ok(rebound) if is_read(&rebound, now) => Ok((rebound, now.clone(), reply)),
            _ => Err((bound, guest, reply)),
        }
    }

    /// Goes on with other code, when its daemon has.
    pub(super) fn renew(&mut self) {
        if !self.daemon.lost_its_daemon() {
            return;
        }
        let renewal = self.berth.as_ref().and_then(|berth| berth.take_renewal());
        if let Some(Renewal { guest, images, follower }) = renewal {
            self.daemon.follow_anew(guest, images, follower);
        }
    }
}
