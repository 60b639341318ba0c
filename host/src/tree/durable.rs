//! The gate: an answer leaves the host when what it tells of is durable.
//!
//! A daemon goes on with the next transaction while the journal syncs; its answers wait here, in
//! order. An answer without a record of its own (a read, a rejection) tells of earlier commits, so
//! it waits for those.

use std::sync::mpsc::sync_channel;

use super::daemon::{Daemon, JournalSeat, Transacted};
use super::worker::TransactedReply;
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::mechanisms::journal::{
    CommitReceipt, JournalFault, OnSynced, Submission, SubmitError, Submitter,
};
use crate::pure::request::Outcome;

/// A daemon's way to the journal.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) seat: JournalSeat,
    pub(super) submitter: Submitter,
}

impl Gate {
    /// Hands the daemon's new records to the journal and lets `reply` go when they are durable.
    pub(super) fn pass(&self, daemon: &mut Daemon, transacted: Transacted, reply: TransactedReply) {
        let mut records = daemon.take_records();
        let last = records.pop();
        let is_commit = last.is_some();
        for (sequence, record) in records {
            // Its fate is that of the last one, which is in the same chain.
            self.submit(sequence, Some(record), Box::new(|_receipt| {}));
        }
        let (sequence, record) = match last {
            Some((sequence, record)) => (sequence, Some(record)),
            None => (transacted.sequence, None),
        };
        let on_synced = move |receipt: Result<CommitReceipt, JournalFault>| match receipt {
            Ok(_receipt) => reply(transacted),
            Err(fault) => reply(failed(transacted, &fault, is_commit)),
        };
        self.submit(sequence, record, Box::new(on_synced));
    }

    /// Waits until all commits of the daemon are durable: before it takes its first request, and
    /// before anybody hears of its state by other ways than an answer.
    ///
    /// # Errors
    ///
    /// The journal's.
    pub(super) fn settle(&self, daemon: &mut Daemon) -> Result<(), Fault> {
        let records = daemon.take_records().into_iter();
        let records = records.map(|(sequence, record)| (sequence, Some(record)));
        for (sequence, record) in records.chain([(daemon.sequence(), None)]) {
            let (done, synced) = sync_channel(1);
            let on_synced = move |receipt: Result<CommitReceipt, JournalFault>| {
                drop(done.send(receipt.map(drop)));
            };
            self.submit(sequence, record, Box::new(on_synced));
            match synced.recv() {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => return Err(Fault::from(&fault)),
                Err(_) => return Err(closed()),
            }
        }
        Ok(())
    }

    fn submit(&self, sequence: Sequence, record: Option<Vec<u8>>, on_synced: OnSynced) {
        let daemon = self.seat.key;
        let submission = Submission { daemon, sequence, record, on_synced };
        if let Err(SubmitError::Closed(refused) | SubmitError::Full(refused)) =
            self.submitter.submit(submission)
        {
            // Only while the host stops: nothing was attempted.
            (refused.on_synced)(Err(JournalFault::closed()));
        }
    }
}

/// What the caller gets when the journal failed: the truth about what is known.
fn failed(transacted: Transacted, fault: &JournalFault, is_commit: bool) -> Transacted {
    let shown = Fault::from(fault);
    let outcome = if is_commit && fault.unknown() {
        Outcome::Unknown(shown)
    } else {
        Outcome::Rejected(shown.into())
    };
    Transacted { outcome, ..transacted }
}

fn closed() -> Fault {
    Fault::new(Code::StorePoisoned, "the journal is closed")
}
