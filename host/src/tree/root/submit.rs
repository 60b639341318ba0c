//! Requests, from whoever asks to the daemon that reads them.

use std::sync::Arc;

use super::crew::Asked;
use super::promise::Promise;
use super::{Reply, Root};
use crate::base::error::{Code, Fault, printable};
use crate::base::ids::Sequence;
use crate::base::limits::ARGUMENTS_UNCOUNTED_BYTES_MAX;
use crate::base::room::{Room, Taken};
use crate::mechanisms::sandbox::Guest;
use crate::pure::contract::Args;
use crate::pure::request::{Answer, Request};
use crate::tree::daemon::{Arguments, Bound, Transacted};
use crate::tree::mailbox::Unsent;
use crate::tree::worker::Message;

impl Root {
    /// Hands a request to its daemon, which reads its arguments. `reply` gets exactly one answer:
    /// at once, on this thread, when the request is refused; else later, on the daemon's thread.
    pub fn submit(&self, request: Request, reply: Reply) {
        let id = self.request_ids.next();
        let asked = match self.asked(&request.daemon) {
            Ok(asked) => asked,
            Err(fault) => {
                return reply(Answer::refused(id, &request, Sequence::default(), fault));
            }
        };
        let guest = asked.guest();
        let waits = request.wait.is_some();
        let admitted = asked.bits().admit(&request.daemon, &request.contract, waits);
        let addressed = admitted
            .and_then(|()| address(&asked, &guest, &request))
            .and_then(|contract| Ok((contract, self.room_for(&request.args)?)));
        let (contract, room) = match addressed {
            Ok(addressed) => addressed,
            Err(fault) => {
                return reply(Answer::refused(id, &request, asked.sequence(), fault));
            }
        };
        let bound = Bound {
            request: id,
            contract,
            arguments: Arguments::Unread(request.args.clone()),
            key: request.key.as_deref().map(Arc::from),
            correlation: request.correlation.as_deref().map(Arc::from),
            wait_until_nanos: self.wait_until(&request),
            show: request.show.then(|| self.ground.answers.clone()),
        };
        let promise = Promise::new(id, (request.daemon, request.contract), room, reply);
        // Both ends of a failed hand-over need the reply: the message carries it, and brings it
        // back.
        let answer = Box::new(move |transacted: Transacted| promise.keep(transacted));
        let Err(unsent) = asked.send(Message::Transact(bound, guest, answer)) else { return };
        if let Unsent { fault, message: Message::Transact(_, _, reply) } = *unsent {
            reply(Transacted::refused(fault, asked.sequence()));
        }
    }

    /// Room for arguments, until the request is answered; small ones take none.
    fn room_for(&self, args: &Args) -> Result<Option<Taken>, Fault> {
        let (bytes, room) = (args.bytes(), &self.ground.requests);
        if bytes <= ARGUMENTS_UNCOUNTED_BYTES_MAX {
            return Ok(None);
        }
        match room.take(bytes) {
            Some(taken) => Ok(Some(taken)),
            None => {
                let (taken, most) = (room.taken(), room.bytes_max());
                let message = format!(
                    "no room for {bytes} bytes of arguments: requests that wait have {taken} of {most}"
                );
                Err(Fault::new(Code::QueueFull, message))
            }
        }
    }

    /// The room of arguments that wait, and of requests that are being sent.
    #[must_use]
    pub fn requests(&self) -> &Room {
        &self.ground.requests
    }

    /// The room of answers that clients have to read.
    #[must_use]
    pub fn answers(&self) -> &Room {
        &self.ground.answers
    }

    fn wait_until(&self, request: &Request) -> Option<u64> {
        let wait = u64::try_from(request.wait?.as_nanos()).unwrap_or(u64::MAX);
        Some(self.ground.clock.monotonic_nanos().saturating_add(wait))
    }
}

/// Finds the contract, on the caller's thread.
fn address(asked: &Asked, guest: &Guest, request: &Request) -> Result<u32, Fault> {
    if request.key.is_some() {
        asked.keeps_answers()?;
    }
    let contract = guest.contract(&request.contract).ok_or_else(|| {
        let names: Vec<&str> =
            guest.contracts().iter().map(|contract| contract.name.as_str()).collect();
        let (name, asked) = (asked.name(), printable(&request.contract, 64));
        let known = printable(&names.join(", "), 300);
        let message = format!("daemon `{name}` has no contract `{asked}`; it has {known}");
        Fault::new(Code::ContractUnknown, message)
    })?;
    Ok(contract.index)
}
