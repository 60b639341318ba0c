//! The gate: an answer leaves the host when what it tells of is durable.
//!
//! A daemon goes on with the next transaction while the journal syncs; its answers wait here, in
//! order. An answer without a record of its own (a read, a rejection) tells of earlier commits, so
//! it waits for those; when they are durable already it leaves at once, however slow the disk is.
//!
//! With the answer leave the effects that the transaction has staged; those of a commit that failed
//! are forgotten.
//!
//! A deadline ends a transaction, not its sync: an answer waits as long as the sync takes. Other
//! daemons wait only for what they commit themselves.
//!
//! Readers of a daemon's state pass its gate as well. They see no commit before its record was
//! handed over, so that they wait behind it. When the journal was opened again since, another
//! commit may have the number of the one that they saw: then they are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use super::crashes::Reporter;
use super::daemon::{Daemon, JournalSeat, Transacted};
use super::gauges::DaemonState;
use super::worker::TransactedReply;
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::mechanisms::journal::{
    CommitReceipt, FaultKind, JournalFault, OnSynced, Submission, SubmitError, Submitter,
};
use crate::mechanisms::providers::Staged;
use crate::pure::record::is_more;
use crate::pure::request::Outcome;

/// A daemon's way to the journal.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) seat: JournalSeat,
    submitter: Submitter,
    /// The sequence after the last one with a receipt.
    synced: Arc<AtomicU64>,
    pub(super) reporter: Reporter,
}

impl Gate {
    pub(super) fn new(seat: JournalSeat, submitter: Submitter, reporter: Reporter) -> Self {
        Self { seat, submitter, synced: Arc::default(), reporter }
    }

    /// Hands the daemon's new records to the journal and lets `reply` go when they are durable.
    pub(super) fn pass(&self, daemon: &mut Daemon, transacted: Transacted, reply: TransactedReply) {
        let mut last = daemon.take_record();
        let is_commit = last.is_some();
        while let Some(next) = daemon.take_record() {
            if let Some((sequence, record)) = last.replace(next) {
                // Its fate is that of the last one, which is in the same chain. It is waited for,
                // so that a large state is not in the queue as a whole.
                drop(self.submit_and_wait(sequence, Some(record)));
            }
        }
        if let Some(spare) = daemon.spare_buffers().filter(|spare| spare.is_empty()) {
            self.submitter.buffers(spare);
        }
        let seen = Seen(daemon.seen_incarnation());
        let (sequence, record) = match last {
            Some((sequence, record)) => (sequence, Some(record)),
            None if transacted.sequence.0 < self.synced.load(Ordering::Acquire) => {
                return reply(seen.stands(&self.seat, transacted));
            }
            None => (transacted.sequence, None),
        };
        let (synced, seat) = (self.synced.clone(), self.seat.clone());
        let showing = daemon.take_showing().map(Box::new);
        let staged = daemon.take_staged();
        let on_synced = move |receipt: Result<CommitReceipt, JournalFault>| match receipt {
            Ok(receipt) => {
                note(&synced, &receipt);
                if let Some(showing) = showing {
                    showing.show();
                }
                staged.into_iter().for_each(Staged::release);
                reply(seen.stands(&seat, transacted));
            }
            Err(fault) => reply(failed(transacted, &fault, is_commit)),
        };
        self.submit(sequence, record, Box::new(on_synced));
    }

    /// After the journal failed and was opened again: waits for all that the daemon handed over,
    /// then loads its state anew. Before each message, since none may see commits that are gone.
    pub(super) fn keep_up(&self, daemon: &mut Daemon) {
        if !daemon.is_stale() {
            return;
        }
        daemon.gauges().set_state(DaemonState::Restarting);
        // Failures are expected, and were answered: it is only about their having come back.
        drop(self.settle(daemon));
        daemon.reload();
        drop(self.settle(daemon));
        daemon.publish();
    }

    /// Waits until all commits of the daemon are durable: before it takes its first request, and
    /// before anybody hears of its state by other ways than an answer.
    ///
    /// # Errors
    ///
    /// The journal's.
    pub(super) fn settle(&self, daemon: &mut Daemon) -> Result<(), Fault> {
        if daemon.is_unborn() {
            return Ok(());
        }
        while let Some((sequence, record)) = daemon.take_record() {
            let part = is_more(&record);
            match self.submit_and_wait(sequence, Some(record)) {
                // Nothing has happened yet: the last part will tell.
                Err(fault) if part && fault.kind == FaultKind::Poisoned => {}
                done => done.map_err(|fault| Fault::from(&fault))?,
            }
        }
        let durable = self.submit_and_wait(daemon.sequence(), None);
        durable.map_err(|fault| Fault::from(&fault))?;
        if let Some(showing) = daemon.take_showing() {
            showing.show();
        }
        Ok(())
    }

    fn submit_and_wait(
        &self,
        sequence: Sequence,
        record: Option<Vec<u8>>,
    ) -> Result<(), JournalFault> {
        let (done, synced) = sync_channel(1);
        self.submit(sequence, record, Box::new(move |receipt| drop(done.send(receipt))));
        let receipt = synced.recv().unwrap_or_else(|_| Err(JournalFault::closed()))?;
        note(&self.synced, &receipt);
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

/// The journal's incarnation that a reader saw a state of; none for the daemon itself, which
/// notices before its next transaction.
#[derive(Clone, Copy)]
struct Seen(Option<u64>);

impl Seen {
    /// Asked when the commit that was seen counts as durable: no other one had its number before
    /// the incarnation grew.
    fn stands(self, seat: &JournalSeat, transacted: Transacted) -> Transacted {
        if self.0.is_none_or(|seen| seen == seat.journal.incarnation()) {
            return transacted;
        }
        let message = "the commit that was read did not become durable";
        let outcome = Outcome::Rejected(Fault::new(Code::StorePoisoned, message).into());
        Transacted { outcome, shown: None, ..transacted }
    }
}

/// From here on what is as old as this commit needn't wait for a sync.
fn note(synced: &AtomicU64, receipt: &CommitReceipt) {
    synced.fetch_max(receipt.sequence().next().0, Ordering::AcqRel);
}

/// What the caller gets when the journal failed: the truth about what is known.
fn failed(transacted: Transacted, fault: &JournalFault, is_commit: bool) -> Transacted {
    let shown = Fault::from(fault);
    let outcome = if is_commit && fault.unknown() {
        Outcome::Unknown(shown)
    } else {
        Outcome::Rejected(shown.into())
    };
    Transacted { outcome, shown: None, ..transacted }
}
