//! The tree of one root: what all its supervisors share, and what can be seen of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::clock::{AnyChance, Chance, Clock, TokioClock};
use crate::error::{Escalation, Generation};
use crate::observer::{Event, Observed, Observer, TracingObserver};
use crate::policy::Exit;

/// What stands at a place of the tree.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Children under a strategy.
    Group,
    /// A component.
    Component,
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum State {
    /// It waits for its first start, its restart's delay, or its siblings.
    #[default]
    Waiting,
    /// Its `start` is running.
    Starting,
    /// It runs.
    Running,
    /// It was told to end.
    Stopping,
    /// It was told to end, and aborted, and still runs: it blocks its thread.
    Stuck,
    /// Its restarts are used up; it waits to be resumed.
    Parked,
    /// It is over: completed, or stopped, or not to be restarted.
    Ended,
}

/// How a generation ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastExit {
    /// Which generation.
    pub generation: Generation,
    /// How.
    pub exit: Exit,
    /// The text of its irrecoverable error, if it had one.
    pub text: Option<String>,
}

/// One place of the tree, as it was at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Names from the root, joined by `/`: its id.
    pub path: Arc<str>,
    /// The path of the group that it is in; none at the root.
    pub parent: Option<Arc<str>>,
    /// What it is.
    pub kind: Kind,
    /// What it does.
    pub state: State,
    /// How often it was started. 0 before the first time.
    pub generation: Generation,
    /// How often it was restarted, for its own fault or with a sibling.
    pub restarts: u64,
    /// How its last generation ended.
    pub last_exit: Option<LastExit>,
}

/// Is told when a child's policy ends in an emergency: before anything is stopped, once.
pub trait Emergency: fmt::Debug + Send + Sync {
    /// Makes everything stop. Must not block: it is called by the child's supervisor.
    fn emergency(&self, reason: &Escalation);
}

/// Where a child stands.
#[derive(Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Place {
    /// Places among siblings, from the root: sorts the tree in the order of its starts.
    order: Vec<usize>,
    pub(crate) path: Arc<str>,
    parent: Option<Arc<str>>,
}

impl Place {
    pub(crate) fn root(name: &str) -> Self {
        Self { order: Vec::new(), path: name.into(), parent: None }
    }

    pub(crate) fn child(&self, index: usize, name: &str) -> Self {
        Self {
            order: [self.order.as_slice(), &[index]].concat(),
            path: format!("{}/{name}", self.path).into(),
            parent: Some(Arc::clone(&self.path)),
        }
    }
}

/// A node, and how to reach the loop that supervises it.
#[derive(Debug)]
struct Entry {
    node: Node,
    resume: bool,
    supervisor: Arc<Notify>,
}

/// What all supervisors of one tree share.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) emergency: Option<Arc<dyn Emergency>>,
    sequence: AtomicU64,
    /// By their places' orders.
    entries: Mutex<BTreeMap<Vec<usize>, Entry>>,
    changes: watch::Sender<u64>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            clock: Arc::new(TokioClock::new()),
            chance: Arc::new(AnyChance),
            observer: Arc::new(TracingObserver),
            emergency: None,
            sequence: AtomicU64::new(0),
            entries: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Tree {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Vec<usize>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the observer, with the next number.
    pub(crate) fn observe(&self, place: &Place, generation: Generation, event: Event<'_>) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.observer.observe(&Observed { sequence, path: &place.path, generation, event });
    }

    /// Enters a child that waits for its start. One that stood there in an earlier generation of
    /// its group goes on from its generation, which is returned.
    pub(crate) fn enter(&self, place: &Place, kind: Kind, supervisor: &Arc<Notify>) -> Generation {
        let fresh = || Node {
            path: Arc::clone(&place.path),
            parent: place.parent.clone(),
            kind,
            state: State::Waiting,
            generation: Generation(0),
            restarts: 0,
            last_exit: None,
        };
        let mut entries = self.entries();
        let mut node = entries.remove(&place.order).map_or_else(fresh, |entry| entry.node);
        node.state = State::Waiting;
        let generation = node.generation;
        let entry = Entry { node, resume: false, supervisor: Arc::clone(supervisor) };
        entries.insert(place.order.clone(), entry);
        drop(entries);
        self.changed();
        generation
    }

    /// Changes what can be seen of a child.
    pub(crate) fn update(&self, place: &Place, change: impl FnOnce(&mut Node)) {
        if let Some(entry) = self.entries().get_mut(&place.order) {
            change(&mut entry.node);
        }
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// All nodes, parents first, siblings in the order of their starts.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.entries().values().map(|entry| entry.node.clone()).collect()
    }

    /// Asks the supervisor of a parked child to start it again. False when there is no such child.
    pub(crate) fn resume(&self, path: &str) -> bool {
        let mut entries = self.entries();
        let parked =
            |entry: &&mut Entry| &*entry.node.path == path && entry.node.state == State::Parked;
        let Some(entry) = entries.values_mut().find(parked) else { return false };
        entry.resume = true;
        entry.supervisor.notify_one();
        true
    }

    /// True once after each [`Tree::resume`] of this child.
    pub(crate) fn take_resume(&self, place: &Place) -> bool {
        let mut entries = self.entries();
        entries.get_mut(&place.order).is_some_and(|entry| std::mem::take(&mut entry.resume))
    }
}
