//! What the root does when a thread under it dies: decided from values alone.
//!
//! ```text
//!           died, restarts left             due
//!   Up -------------------------> Waiting -------> Up
//!    |                               |
//!    +-- none left --> Parked        +-- host or child is to stop --> over
//!                        |
//!                        +-- resumed --> Up, with nothing held against it
//! ```
//!
//! Whether it is started again, when, and what comes of it in the end is the policy of the child
//! ([`supervisor::policy`]). The root has no parent to escalate to, so that is an emergency. No
//! child has a say in what becomes of another one.

use std::collections::BTreeMap;

use supervisor::policy::{Decision, Exit, History, Policy, decide};

use crate::base::ids::NodeId;

/// What is to be done about a child that died.
#[must_use = "a verdict that is not carried out leaves the child in limbo"]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Start it again at this monotonic time, in nanoseconds: [`Children::due`] says when.
    RestartAt(u64),
    /// Its restarts are used up: it stays down until somebody resumes it.
    Park,
    /// Its restarts are used up: the host stops, in order.
    Emergency,
    /// The host stops, or the child was told to: it stays down.
    Over,
}

#[derive(Clone, Debug)]
enum Phase {
    Up,
    /// Until then, in monotonic nanoseconds.
    Waiting(u64),
    Parked,
}

#[derive(Clone, Debug)]
struct Child {
    history: History,
    phase: Phase,
}

/// The children of a root that have died at least once.
#[derive(Clone, Debug, Default)]
pub struct Children {
    children: BTreeMap<NodeId, Child>,
    stopping: bool,
}

impl Children {
    /// A child's thread died at `now_nanos`. `told` says that it was told to end. `random` is any
    /// number.
    pub fn died(
        &mut self,
        id: NodeId,
        policy: &Policy,
        told: bool,
        now_nanos: u64,
        random: u64,
    ) -> Verdict {
        let exit = if self.stopping || told { Exit::Cancelled } else { Exit::Panicked };
        let fresh = || Child { history: History::default(), phase: Phase::Up };
        let child = self.children.entry(id).or_insert_with(fresh);
        let history = std::mem::take(&mut child.history);
        let (decision, history) = decide(policy, history, exit, now_nanos, random);
        child.history = history;
        match decision {
            Decision::Restart { after_nanos } => {
                let at = now_nanos.saturating_add(after_nanos);
                child.phase = Phase::Waiting(at);
                Verdict::RestartAt(at)
            }
            Decision::End(_) => {
                self.children.remove(&id);
                Verdict::Over
            }
            Decision::Park => {
                child.phase = Phase::Parked;
                Verdict::Park
            }
            Decision::Escalate | Decision::Emergency => {
                child.phase = Phase::Parked;
                Verdict::Emergency
            }
        }
    }

    /// The next child whose time has come; it is up from here on.
    pub fn due(&mut self, now_nanos: u64) -> Option<NodeId> {
        let due = |child: &Child| matches!(child.phase, Phase::Waiting(at) if at <= now_nanos);
        let (id, child) = self.children.iter_mut().find(|(_, child)| due(child))?;
        child.phase = Phase::Up;
        Some(*id)
    }

    /// When the next child is due.
    #[must_use]
    pub fn next_due_nanos(&self) -> Option<u64> {
        let waiting = self.children.values().filter_map(|child| match child.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Up | Phase::Parked => None,
        });
        waiting.min()
    }

    /// A parked child is to be started now; false when it isn't parked.
    pub fn resume(&mut self, id: NodeId) -> bool {
        let parked = self.children.get(&id).is_some_and(|one| matches!(one.phase, Phase::Parked));
        let resumed = parked && !self.stopping;
        if resumed {
            // Nothing is held against it.
            self.children.remove(&id);
        }
        resumed
    }

    /// A child is gone for good.
    pub fn forget(&mut self, id: NodeId) {
        self.children.remove(&id);
    }

    /// The host stops: nothing is started from here on.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.children.clear();
    }
}

#[cfg(test)]
mod tests;
