//! A daemon's mailbox: bounded, and closed or shut while nobody takes what is in it.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use super::worker::Message;
use crate::base::error::{Code, Fault};
use crate::base::limits::MAILBOX_REQUESTS_MAX;

/// The senders' end.
///
/// The lock is what makes refusing complete: while it is shut or closed nothing gets in, so that
/// whoever refuses what waits leaves nothing behind.
#[derive(Debug)]
pub(super) struct Mailbox {
    name: String,
    state: RwLock<State>,
}

/// A message that was not taken, and why.
pub(super) struct Unsent {
    pub(super) fault: Fault,
    pub(super) message: Message,
}

impl Unsent {
    pub(super) fn new(fault: Fault, message: Message) -> Box<Self> {
        Box::new(Self { fault, message })
    }
}

#[derive(Debug)]
enum State {
    Open(SyncSender<Message>),
    /// Nobody takes messages, for this reason; that may change.
    Shut(SyncSender<Message>, Fault),
    Closed,
}

impl Mailbox {
    pub(super) fn new(name: &str, sender: SyncSender<Message>) -> Self {
        Self { name: name.to_owned(), state: RwLock::new(State::Open(sender)) }
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in without waiting.
    ///
    /// # Errors
    ///
    /// `E_QUEUE_FULL`, `E_STOPPING` when it is closed, and what it was shut for; the message comes
    /// back.
    pub(super) fn send(&self, message: Message) -> Result<(), Box<Unsent>> {
        let name = &self.name;
        let closed = || self.is_closed();
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(sender) => sender.try_send(message).map_err(|error| match error {
                TrySendError::Full(message) => {
                    let most = MAILBOX_REQUESTS_MAX;
                    let text = format!("daemon `{name}`: {most} messages are waiting already");
                    Unsent::new(Fault::new(Code::QueueFull, text), message)
                }
                TrySendError::Disconnected(message) => Unsent::new(closed(), message),
            }),
            State::Shut(_, fault) => Err(Unsent::new(fault.clone(), message)),
            State::Closed => Err(Unsent::new(closed(), message)),
        }
    }

    fn is_closed(&self) -> Fault {
        Fault::new(Code::Stopping, format!("daemon `{}` is gone", self.name))
    }

    /// Why it takes nothing at this moment, if so.
    pub(super) fn refuses(&self) -> Option<Fault> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(_) => None,
            State::Shut(_, fault) => Some(fault.clone()),
            State::Closed => Some(self.is_closed()),
        }
    }

    /// Lets whoever reads it look around. A full one keeps it awake, and a closed one ends it.
    pub(super) fn nudge(&self) {
        drop(self.send(Message::Wake));
    }

    /// Takes nothing more, for good.
    pub(super) fn close(&self) {
        *self.write() = State::Closed;
    }

    /// Refuses what comes, for this reason, until it is opened again. A closed one stays closed.
    pub(super) fn shut(&self, fault: Fault) {
        let mut state = self.write();
        let was = std::mem::replace(&mut *state, State::Closed);
        *state = match was {
            State::Open(sender) | State::Shut(sender, _) => State::Shut(sender, fault),
            State::Closed => State::Closed,
        };
    }

    /// Takes messages again. A closed one stays closed.
    pub(super) fn open(&self) {
        let mut state = self.write();
        let was = std::mem::replace(&mut *state, State::Closed);
        *state = match was {
            State::Open(sender) | State::Shut(sender, _) => State::Open(sender),
            State::Closed => State::Closed,
        };
    }
}
