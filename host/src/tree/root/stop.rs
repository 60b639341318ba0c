//! The steps of a stop, for whoever decides when each is due. None waits, but the last.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Root, read};
use crate::base::error::Fault;
use crate::base::limits::{EFFECTS_STOP_MAX, STOP_TICK};
use crate::mechanisms::journal::Journal;

/// A daemon's commits that nobody knows to be durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsynced {
    /// The daemon.
    pub name: String,
    /// Its last commit that is durable.
    pub durable: u64,
    /// Its last commit.
    pub committed: u64,
}

impl Root {
    /// Refuses requests from here on, those that wait in mailboxes too. What runs goes on.
    pub fn refuse_requests(&self) {
        // Before their instances, which refuse what has got in until then.
        for crew in self.crews.values().chain(self.readers.values()) {
            crew.close();
        }
        for worker in read(&self.daemons).values() {
            worker.begin_stop();
        }
        self.ground.root_loop.refuse_restarts();
    }

    /// Daemons whose threads have not ended.
    #[must_use]
    pub fn daemons_left(&self) -> Vec<String> {
        let daemons = read(&self.daemons);
        let left = daemons.iter().filter(|(_, worker)| !worker.child.has_ended());
        left.map(|(name, _)| name.clone()).collect()
    }

    /// Ends the running transactions of all daemons, at the next tick.
    pub fn cancel_all(&self) {
        for worker in read(&self.daemons).values() {
            worker.cancel();
        }
    }

    /// Makes durable what the daemons handed over, and closes the journal. Waits for the disk.
    pub fn close_journal(&self) {
        if let Some(journal) = &self.ground.journal {
            journal.crashes.stop();
            journal.committer.stop();
        }
    }

    /// Effects of commits that could be carried out, and have not been.
    #[must_use]
    pub fn effects_left(&self) -> u64 {
        self.ground.board.effects_left()
    }

    /// Gives effects [`EFFECTS_STOP_MAX`] once the journal is closed, while `goes_on` says so at
    /// each look. Whoever calls this first decides: later calls, of the root's own end too, wait
    /// no more. Answers the effects that are lost, by resource, and logs them.
    pub fn finish_effects(&self, mut goes_on: impl FnMut() -> bool) -> Vec<(String, u64)> {
        if self.effects_finished.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        let start = Instant::now();
        while self.effects_left() > 0 && start.elapsed() < EFFECTS_STOP_MAX && goes_on() {
            std::thread::sleep(STOP_TICK);
        }
        let lost = self.ground.board.effects_waiting();
        for (resource, effects) in &lost {
            let text = "staged effects of commits are lost: the host stops before they were done";
            tracing::warn!(resource, effects, "{text}");
        }
        lost
    }

    /// Why commits are refused now, if they are.
    #[must_use]
    pub fn journal_refusal(&self) -> Option<Fault> {
        let journal = self.ground.journal.as_ref()?;
        journal.store.refusal().as_ref().map(Fault::from)
    }

    /// Why the journal can't be tended now, or refuses commits; none when it is well.
    #[must_use]
    pub fn journal_trouble(&self) -> Option<Fault> {
        let journal = self.ground.journal.as_ref()?;
        let trouble = journal.store.refusal().or_else(|| journal.committer.trouble());
        trouble.as_ref().map(Fault::from)
    }

    /// Commits that may be lost if the process ends now.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let Some(journal) = &self.ground.journal else { return Vec::new() };
        let daemons = read(&self.daemons);
        let unsynced = daemons.iter().filter_map(|(name, worker)| {
            let durable = journal.durable(worker.key?);
            let committed = worker.gauges.report().sequence;
            let unsynced = Unsynced { name: name.clone(), durable, committed };
            (durable < committed).then_some(unsynced)
        });
        unsynced.collect()
    }
}
