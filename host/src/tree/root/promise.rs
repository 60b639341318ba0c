//! The promise that each request is answered exactly once, whatever becomes of the thread that
//! has it.

use super::Reply;
use crate::base::error::{Code, Fault};
use crate::base::ids::{RequestId, Sequence};
use crate::pure::request::{Answer, Outcome, Request};
use crate::tree::daemon::Transacted;

/// What is needed for the answer. Dropped without one, it answers that nobody knows.
pub(super) struct Promise {
    request: RequestId,
    daemon: String,
    contract: String,
    reply: Option<Reply>,
}

impl Promise {
    pub(super) fn new(id: RequestId, request: Request, reply: Reply) -> Self {
        let Request { daemon, contract, .. } = request;
        Self { request: id, daemon, contract, reply: Some(reply) }
    }

    /// Answers.
    pub(super) fn keep(mut self, transacted: Transacted) {
        self.answer(transacted);
    }

    fn answer(&mut self, Transacted { outcome, sequence, attempts }: Transacted) {
        let Some(reply) = self.reply.take() else { return };
        let (daemon, contract) =
            (std::mem::take(&mut self.daemon), std::mem::take(&mut self.contract));
        reply(Answer { request: self.request, daemon, contract, outcome, sequence, attempts });
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.reply.is_some() {
            let fault = Fault::new(Code::HostBug, "a thread died before it answered");
            let outcome = Outcome::Unknown(fault);
            self.answer(Transacted { outcome, sequence: Sequence::default(), attempts: 1 });
        }
    }
}
