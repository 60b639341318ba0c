//! The promise that each request is answered exactly once, whatever becomes of the thread that
//! has it.

use super::Reply;
use crate::base::error::{Code, Fault};
use crate::base::ids::{RequestId, Sequence};
use crate::base::room::Taken;
use crate::pure::request::{Answer, Outcome};
use crate::tree::daemon::Transacted;

/// What is needed for the answer. Dropped without one, it answers that nobody knows.
pub(super) struct Promise {
    request: RequestId,
    daemon: String,
    contract: String,
    reply: Option<Reply>,
    /// The room of its arguments.
    room: Option<Taken>,
}

impl Promise {
    pub(super) fn new(
        request: RequestId,
        (daemon, contract): (String, String),
        room: Option<Taken>,
        reply: Reply,
    ) -> Self {
        Self { request, daemon, contract, reply: Some(reply), room }
    }

    /// Answers.
    pub(super) fn keep(mut self, transacted: Transacted) {
        self.answer(transacted);
    }

    fn answer(&mut self, transacted: Transacted) {
        let Transacted { outcome, sequence, attempts, shown } = transacted;
        let Some(reply) = self.reply.take() else { return };
        drop(self.room.take());
        let (daemon, contract) =
            (std::mem::take(&mut self.daemon), std::mem::take(&mut self.contract));
        let request = self.request;
        reply(Answer { request, daemon, contract, outcome, sequence, attempts, shown });
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.reply.is_some() {
            let fault = Fault::new(Code::HostBug, "a thread died before it answered");
            let outcome = Outcome::Unknown(fault);
            let sequence = Sequence::default();
            self.answer(Transacted { outcome, sequence, attempts: 1, shown: None });
        }
    }
}
