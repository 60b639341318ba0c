//! What a group does about its children: a state machine without tasks or clocks.
//!
//! Whoever drives it says what happened, then asks for the [`Action`]s until there is none:
//!
//! ```text
//!   Waiting --> Starting --> Running --> Stopping --> Waiting, Over
//!      ^            |           |           |
//!      |            +-----------+           +--> Stuck --> as if it had ended, once it does
//!      |                  |
//!      +-- restart -------+--> Over, Parked
//! ```
//!
//! * Children start in their order, each when those before it have started; they are stopped in the
//!   reverse order, each when those after it have ended.
//! * A generation begins only after the one before has ended.
//! * A child that is stopped for a sibling's sake has not failed: it uses no restart up.

use crate::error::Generation;
use crate::policy::{Decision, End, Exhausted, Exit, History, Policy, decide};
use crate::strategy::{self, Sibling, Strategy};

/// Why a group comes to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Close {
    /// It was told to.
    Asked,
    /// All its children are over.
    Completed,
    /// This child's restarts are used up.
    Exhausted(usize),
    /// This child's hook failed.
    Hook(usize),
    /// This child can't be ended.
    Stuck(usize),
    /// Nobody knows what became of this child: what watched it has panicked.
    Lost(usize),
    /// This child's failure is to stop everything.
    Emergency(usize),
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Begin a generation of a child.
    Start(usize, Generation),
    /// Tell the running generation of a child to end.
    Cancel(usize),
    /// Nothing before this moment, unless something happens.
    Sleep(u64),
    /// The group is over.
    Close(Close),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    Waiting,
    Starting,
    Running,
    Stopping,
    Stuck,
    Parked,
    Over(End),
}

/// How a child's generation ended, as far as it is decided here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// Its policy says what follows.
    Exit(Exit),
    /// Its hook failed.
    HookFailed,
    /// What watched it has panicked.
    Lost,
    /// A group whose own child stops everything.
    Emergency,
    /// A group with a child that can't be ended: there must not be a second one.
    LeftStuck,
}

#[derive(Clone, Debug)]
pub(crate) struct Child {
    policy: Policy,
    history: History,
    pub(crate) phase: Phase,
    /// Goes on from where it was in an earlier generation of the group.
    pub(crate) generation: Generation,
    /// Generations that were begun here.
    starts: u64,
    /// When it may start.
    not_before_nanos: u64,
    /// It is to be stopped for a sibling's sake; with true it is started again.
    doomed: Option<bool>,
}

/// The children of one group.
#[derive(Clone, Debug)]
pub(crate) struct Children {
    strategy: Strategy,
    pub(crate) children: Vec<Child>,
    close: Option<Close>,
}

impl Children {
    pub(crate) fn new(
        strategy: Strategy,
        children: impl IntoIterator<Item = (Policy, Generation)>,
    ) -> Self {
        let child = |(policy, generation)| Child {
            policy,
            history: History::default(),
            phase: Phase::Waiting,
            generation,
            starts: 0,
            not_before_nanos: 0,
            doomed: None,
        };
        Self { strategy, children: children.into_iter().map(child).collect(), close: None }
    }

    /// Every child has been started once, and has come to an end of that.
    pub(crate) fn are_up(&self) -> bool {
        self.children.iter().all(Child::was_started)
    }

    /// The group is to end. The first reason stands.
    pub(crate) fn close(&mut self, close: Close) {
        self.close.get_or_insert(close);
    }

    pub(crate) fn closing(&self) -> Option<Close> {
        self.close
    }

    pub(crate) fn started(&mut self, index: usize) {
        if let Some(child) = self.children.get_mut(index)
            && child.phase == Phase::Starting
        {
            child.phase = Phase::Running;
        }
    }

    /// A child was told to end, and aborted, and runs on.
    pub(crate) fn stuck(&mut self, index: usize) {
        let Some(child) = self.children.get_mut(index) else { return };
        child.phase = Phase::Stuck;
        match child.policy.exhausted() {
            Exhausted::Park => {}
            Exhausted::Escalate => self.close(Close::Stuck(index)),
            Exhausted::Emergency => self.close(Close::Emergency(index)),
        }
    }

    /// A parked child is wanted again, with nothing held against it.
    pub(crate) fn resume(&mut self, index: usize) {
        if let Some(child) = self.children.get_mut(index)
            && child.phase == Phase::Parked
        {
            (child.phase, child.history, child.not_before_nanos) =
                (Phase::Waiting, History::default(), 0);
        }
    }

    /// A child's generation has ended. Returns the nanoseconds after which it is restarted, if it
    /// is for its own sake.
    pub(crate) fn ended(
        &mut self,
        index: usize,
        ended: Ended,
        now_nanos: u64,
        random: u64,
    ) -> Option<u64> {
        let closing = self.close.is_some();
        let child = self.children.get_mut(index)?;
        let doomed = child.doomed.take();
        let exit = match ended {
            Ended::Exit(exit) => exit,
            Ended::HookFailed => {
                child.phase = Phase::Over(End::Failed);
                self.close(Close::Hook(index));
                return None;
            }
            Ended::Lost => {
                child.phase = Phase::Over(End::Failed);
                self.close(Close::Lost(index));
                return None;
            }
            Ended::Emergency => {
                child.phase = Phase::Over(End::Failed);
                self.close(Close::Emergency(index));
                return None;
            }
            Ended::LeftStuck => {
                self.stuck(index);
                return None;
            }
        };
        if closing {
            child.phase = Phase::Over(End::Stopped);
            return None;
        }
        if let Some(again) = doomed {
            child.phase = if again { Phase::Waiting } else { Phase::Over(End::Stopped) };
            return None;
        }
        let history = std::mem::take(&mut child.history);
        let (decision, history) = decide(&child.policy, history, exit, now_nanos, random);
        child.history = history;
        match decision {
            Decision::Restart { after_nanos } => {
                self.restart(index, now_nanos.saturating_add(after_nanos));
                return Some(after_nanos);
            }
            Decision::End(end) => child.phase = Phase::Over(end),
            Decision::Park => child.phase = Phase::Parked,
            Decision::Escalate => {
                child.phase = Phase::Over(End::Failed);
                self.close(Close::Exhausted(index));
            }
            Decision::Emergency => {
                child.phase = Phase::Over(End::Failed);
                self.close(Close::Emergency(index));
            }
        }
        None
    }

    /// Dooms the siblings that are restarted with a child, and lets all of them wait.
    fn restart(&mut self, index: usize, not_before_nanos: u64) {
        let sibling = |child: &Child| Sibling {
            alive: !matches!(child.phase, Phase::Over(_) | Phase::Parked),
            restart: child.policy.restart(),
        };
        let siblings: Vec<Sibling> = self.children.iter().map(sibling).collect();
        let plan = strategy::plan(self.strategy, &siblings, index);
        for (place, child) in self.children.iter_mut().enumerate() {
            let again = plan.start.contains(&place);
            if again {
                child.not_before_nanos = child.not_before_nanos.max(not_before_nanos);
            }
            if place == index {
                child.phase = Phase::Waiting;
            } else if plan.stop.contains(&place) {
                // One that waits for its first start, temporary or not, goes on doing that.
                if child.phase != Phase::Waiting {
                    child.doomed = Some(again);
                }
            }
        }
    }

    /// The next thing to do. Asked for until it is a sleep, the end, or nothing.
    pub(crate) fn next(&mut self, now_nanos: u64) -> Option<Action> {
        let closing = self.close.is_some();
        let stopping = self.children.iter().any(|child| child.phase == Phase::Stopping);
        if !stopping {
            let to_stop = |child: &Child| {
                let up = matches!(child.phase, Phase::Starting | Phase::Running);
                up && (closing || child.doomed.is_some())
            };
            if let Some(index) = self.children.iter().rposition(to_stop) {
                self.children.get_mut(index)?.phase = Phase::Stopping;
                return Some(Action::Cancel(index));
            }
            if let Some(close) = self.close {
                return Some(Action::Close(close));
            }
        }
        if closing || self.children.iter().any(|child| child.doomed.is_some()) {
            return None;
        }
        if self.children.iter().all(|child| matches!(child.phase, Phase::Over(_))) {
            return Some(Action::Close(Close::Completed));
        }
        self.next_start(now_nanos)
    }

    fn next_start(&mut self, now_nanos: u64) -> Option<Action> {
        let mut wake_nanos: Option<u64> = None;
        let mut earlier_settled = true;
        for (index, child) in self.children.iter_mut().enumerate() {
            let turn = match self.strategy {
                // Only the first starts are in order: later ones concern nobody else.
                Strategy::OneForOne => earlier_settled || child.starts > 0,
                Strategy::OneForAll | Strategy::RestForOne => earlier_settled,
            };
            if child.phase == Phase::Waiting && turn {
                if child.not_before_nanos <= now_nanos {
                    child.phase = Phase::Starting;
                    (child.generation.0, child.starts) = (child.generation.0 + 1, child.starts + 1);
                    return Some(Action::Start(index, child.generation));
                }
                let wake = wake_nanos.unwrap_or(u64::MAX);
                wake_nanos = Some(wake.min(child.not_before_nanos));
            }
            earlier_settled &= match self.strategy {
                Strategy::OneForOne => child.was_started(),
                Strategy::OneForAll | Strategy::RestForOne => {
                    !matches!(child.phase, Phase::Waiting | Phase::Starting)
                }
            };
        }
        wake_nanos.map(Action::Sleep)
    }
}

impl Child {
    /// It has been started once, and that has come to an end, good or bad.
    fn was_started(&self) -> bool {
        match self.starts {
            0 => !matches!(self.phase, Phase::Waiting),
            1 => self.phase != Phase::Starting,
            _ => true,
        }
    }
}
