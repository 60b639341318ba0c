//! Children under one strategy, and the loop that drives what [`crate::children`] decides.

use std::collections::HashSet;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::{self, JoinError, JoinSet};

use crate::children::{Action, Children, Close, Ended, Phase};
use crate::component::{Manageable, Managed, Reporter, Signals, Started, Task, User};
use crate::error::{
    BoxError, Cause, Escalation, Generation, Irrecoverable, NAME_BYTES_MAX, NameError, panic_text,
};
use crate::observer::Event;
use crate::policy::{End, Exit, Policy};
use crate::runner::{Deadlines, Ending, Progress, Runner, Shared};
use crate::strategy::Strategy;
use crate::tree::{Kind, LastExit, Place, State, Tree};

/// How long a component's `start` may take unless it is told otherwise: one that waits for a peer
/// longer than that waits better in its task, where it holds nobody up.
const START_WITHIN: Duration = Duration::from_secs(30);

/// How long a hook may take. Everything else about this component waits for it.
const HOOK_WITHIN: Duration = Duration::from_secs(5);

/// How long a component may take to return when it is told to end, unless it is told otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// A child of a group: a component or another group, with what its supervisor has to know.
pub struct Child {
    name: String,
    pub(crate) spec: Spec,
}

/// A child without its name.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    pub(crate) component: Shared,
    pub(crate) policy: Policy,
    pub(crate) deadlines: Deadlines,
}

impl Child {
    /// A component, under the default policy: restarted when it fails.
    #[must_use]
    pub fn new(name: impl Into<String>, component: impl Manageable) -> Self {
        Self { name: name.into(), spec: Spec::component(component) }
    }

    /// A group. It fails when it escalates, and is then restarted as a whole. It may take as long
    /// as its children do to start and to end.
    #[must_use]
    pub fn group(name: impl Into<String>, group: Group) -> Self {
        Self { name: name.into(), spec: Spec::group(group) }
    }

    /// Restarts it by this policy.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.spec.policy = policy;
        self
    }

    /// Lets it take so long to return when it is told to end; then it is aborted. Five seconds for
    /// components, if nothing is said.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.spec.deadlines.grace = Some(grace);
        self
    }

    /// Lets its `start` take so long. Thirty seconds for components, if nothing is said.
    #[must_use]
    pub fn start_within(mut self, start: Duration) -> Self {
        self.spec.deadlines.start = Some(start);
        self
    }
}

impl Spec {
    pub(crate) fn component(component: impl Manageable) -> Self {
        let deadlines =
            Deadlines { start: Some(START_WITHIN), hook: HOOK_WITHIN, grace: Some(GRACE) };
        Self::new(Kind::Component, Box::new(User(component)), deadlines)
    }

    pub(crate) fn group(group: Group) -> Self {
        let deadlines = Deadlines { start: None, hook: HOOK_WITHIN, grace: None };
        Self::new(Kind::Group, Box::new(group), deadlines)
    }

    fn new(kind: Kind, managed: Box<dyn Managed>, deadlines: Deadlines) -> Self {
        let component = Arc::new(Mutex::new(managed));
        Self { kind, component, policy: Policy::default(), deadlines }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { kind, policy, .. } = &self.spec;
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("kind", kind)
            .field("policy", policy)
            .finish_non_exhaustive()
    }
}

/// Children that are started in order, stopped in reverse order, and restarted by a strategy.
#[derive(Debug, Default)]
pub struct Group {
    strategy: Strategy,
    names: HashSet<String>,
    children: Vec<Child>,
}

impl Group {
    /// A group without children, which completes as soon as it is started.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, ..Self::default() }
    }

    /// Adds a child behind the others.
    ///
    /// # Errors
    ///
    /// [`NameError`] when there is one of that name already, or it can't be part of a path.
    pub fn with(mut self, child: Child) -> Result<Self, NameError> {
        check_name(&child.name)?;
        if !self.names.insert(child.name.clone()) {
            return Err(NameError::Taken(child.name));
        }
        self.children.push(child);
        Ok(self)
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), NameError> {
    let length = (1..=NAME_BYTES_MAX).contains(&name.len());
    if !length || name.chars().any(|c| c == '/' || c.is_control()) {
        return Err(NameError::Invalid(name.to_owned()));
    }
    Ok(())
}

type Boxed<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Managed for Group {
    fn start(
        &mut self,
        reports: Reporter,
        signals: Signals,
        started: &mut Option<Started>,
    ) -> Boxed<'_, Result<Task, BoxError>> {
        let Reporter { tree, place, .. } = reports;
        let child = |(index, child): (usize, &Child)| {
            (Arc::new(place.child(index, &child.name)), child.spec.clone())
        };
        let children = self.children.iter().enumerate().map(child).collect();
        let supervised = Supervision::new(tree, self.strategy, children);
        let started = started.take();
        let run = async move { supervised.run(signals, started).await.map(drop) };
        Box::pin(async { Ok(Task::new(async { run.await.map_err(BoxError::from) })) })
    }

    fn handle_irrecoverable<'a>(
        &'a mut self,
        _: &'a Irrecoverable,
    ) -> Boxed<'a, Result<(), BoxError>> {
        Box::pin(async { Ok(()) })
    }
}

/// One child, as its group's loop sees it.
struct Seat {
    place: Arc<Place>,
    spec: Spec,
    /// Of the runner of its running generation.
    id: Option<task::Id>,
    cancel: Option<oneshot::Sender<()>>,
    last: Option<Ending>,
    /// The panic of what watched its last generation.
    lost: Option<String>,
}

/// The loop of one group. It waits for no child: runners do.
pub(crate) struct Supervision {
    tree: Arc<Tree>,
    children: Children,
    seats: Vec<Seat>,
    runners: JoinSet<(usize, Ending)>,
    progress: mpsc::Sender<(usize, Progress)>,
    said: mpsc::Receiver<(usize, Progress)>,
    resumed: Arc<Notify>,
}

impl Supervision {
    pub(crate) fn new(
        tree: Arc<Tree>,
        strategy: Strategy,
        children: Vec<(Arc<Place>, Spec)>,
    ) -> Self {
        let resumed = Arc::new(Notify::new());
        let entered: Vec<_> = children
            .iter()
            .map(|(place, spec)| (spec.policy, tree.enter(place, spec.kind, &resumed)))
            .collect();
        // Two words of each child fit. Should there be no room, a runner waits for the loop.
        let (progress, said) = mpsc::channel(2 * children.len().max(1));
        Self {
            tree,
            children: Children::new(strategy, entered),
            progress,
            said,
            seats: children
                .into_iter()
                .map(|(place, spec)| Seat {
                    place,
                    spec,
                    id: None,
                    cancel: None,
                    last: None,
                    lost: None,
                })
                .collect(),
            runners: JoinSet::new(),
            resumed,
        }
    }

    /// Runs until all children are over, `signals` says to stop, or a child's end is escalated.
    /// `started` is told when each child has been started. Dropping this aborts all children.
    pub(crate) async fn run(
        mut self,
        mut signals: Signals,
        mut started: Option<Started>,
    ) -> Result<End, Escalation> {
        loop {
            let wake_nanos = match self.act() {
                Ok(wake_nanos) => wake_nanos,
                Err(close) => return self.result(close),
            };
            if self.children.are_up()
                && let Some(started) = started.take()
            {
                started.send(()).ok();
            }
            let clock = Arc::clone(&self.tree.clock);
            let wake = async {
                match wake_nanos {
                    Some(nanos) => clock.sleep_until(nanos).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = signals.cancelled(), if self.children.closing().is_none() => {
                    self.children.close(Close::Asked);
                }
                Some((child, progress)) = self.said.recv() => self.said(child, progress),
                Some(joined) = self.runners.join_next_with_id() => self.joined(joined),
                () = self.resumed.notified() => self.resume(),
                () = wake => {}
            }
        }
    }

    /// Does what is to be done. Returns when to look again at the latest, or why it is over.
    fn act(&mut self) -> Result<Option<u64>, Close> {
        loop {
            match self.children.next(self.tree.clock.now_nanos()) {
                Some(Action::Start(index, generation)) => self.start(index, generation),
                Some(Action::Cancel(index)) => {
                    let cancel = self.seats.get_mut(index).and_then(|seat| seat.cancel.take());
                    if let Some(cancel) = cancel {
                        cancel.send(()).ok();
                    }
                    self.show(index);
                }
                Some(Action::Sleep(until_nanos)) => return Ok(Some(until_nanos)),
                Some(Action::Close(close)) => return Err(close),
                None => return Ok(None),
            }
        }
    }

    fn start(&mut self, index: usize, generation: Generation) {
        let Some(seat) = self.seats.get_mut(index) else { return };
        let (cancel, cancelled) = oneshot::channel();
        let runner = Runner {
            tree: Arc::clone(&self.tree),
            place: Arc::clone(&seat.place),
            deadlines: seat.spec.deadlines,
            generation,
            child: index,
            progress: self.progress.clone(),
        };
        let component = Arc::clone(&seat.spec.component);
        let run = async move { (index, runner.run(component, cancelled).await) };
        seat.id = Some(self.runners.spawn(run).id());
        seat.cancel = Some(cancel);
        self.show(index);
    }

    fn said(&mut self, index: usize, progress: Progress) {
        match progress {
            Progress::Started => self.children.started(index),
            Progress::Stuck => {
                self.children.stuck(index);
                self.raise(index);
            }
        }
        self.show(index);
    }

    fn joined(&mut self, joined: Result<(task::Id, (usize, Ending)), JoinError>) {
        // What runners said before they ended comes first.
        while let Ok((child, progress)) = self.said.try_recv() {
            self.said(child, progress);
        }
        let mut lost = None;
        let (index, ending) = match joined {
            Ok((_, joined)) => joined,
            Err(error) => {
                let of = |seat: &Seat| seat.id == Some(error.id());
                let Some(index) = self.seats.iter().position(of) else { return };
                lost = error.try_into_panic().ok().map(panic_text);
                (index, Ending { exit: Exit::Panicked, irrecoverable: None, hook: None })
            }
        };
        let ended = if lost.is_some() { Ended::Lost } else { ended(&ending) };
        let (now, random) = (self.tree.clock.now_nanos(), self.tree.chance.number());
        let after_nanos = self.children.ended(index, ended, now, random);
        let Some(seat) = self.seats.get_mut(index) else { return };
        let Some(child) = self.children.children.get(index) else { return };
        (seat.id, seat.cancel) = (None, None);
        let last_exit = LastExit {
            generation: child.generation,
            exit: ending.exit,
            text: ending.irrecoverable.as_ref().map(ToString::to_string),
        };
        (seat.last, seat.lost) = (Some(ending), lost);
        let event = match child.phase {
            Phase::Parked => Some(Event::Parked),
            Phase::Over(_) => Some(Event::Over),
            _ => after_nanos.map(Event::Restarting),
        };
        if let Some(event) = event {
            self.tree.observe(&seat.place, child.generation, event);
        }
        self.tree.update(&seat.place, |node| node.last_exit = Some(last_exit));
        self.show(index);
        if ended != Ended::Emergency {
            self.raise(index);
        }
    }

    /// Tells who stops everything, if this child's end is why.
    fn raise(&self, index: usize) {
        let close = Close::Emergency(index);
        if self.children.closing() == Some(close)
            && let Some(emergency) = &self.tree.emergency
            && let Err(escalation) = self.escalation(close)
        {
            emergency.emergency(&escalation);
        }
    }

    fn resume(&mut self) {
        for index in 0..self.seats.len() {
            let Some(seat) = self.seats.get(index) else { return };
            if self.tree.take_resume(&seat.place) {
                self.children.resume(index);
                self.show(index);
            }
        }
    }

    /// Lets the tree show a child as it is.
    fn show(&self, index: usize) {
        let seat = self.seats.get(index).zip(self.children.children.get(index));
        let Some((seat, child)) = seat else { return };
        let state = match child.phase {
            Phase::Waiting => State::Waiting,
            Phase::Starting => State::Starting,
            Phase::Running => State::Running,
            Phase::Stopping => State::Stopping,
            Phase::Stuck => State::Stuck,
            Phase::Parked => State::Parked,
            Phase::Over(_) => State::Ended,
        };
        self.tree.update(&seat.place, |node| {
            node.state = state;
            node.generation = child.generation;
            node.restarts = child.generation.0.saturating_sub(1);
        });
    }

    fn result(&self, close: Close) -> Result<End, Escalation> {
        for (index, seat) in self.seats.iter().enumerate() {
            if self.children.children.get(index).is_some_and(|child| child.phase == Phase::Stuck) {
                let inner = seat.last.as_ref().and_then(inner);
                let path = Arc::clone(&seat.place.path);
                return Err(inner.cloned().unwrap_or(Escalation::Stuck { path }));
            }
        }
        self.escalation(close)
    }

    fn escalation(&self, close: Close) -> Result<End, Escalation> {
        let (Close::Exhausted(index)
        | Close::Hook(index)
        | Close::Stuck(index)
        | Close::Lost(index)
        | Close::Emergency(index)) = close
        else {
            let failed = |child: &crate::children::Child| child.phase == Phase::Over(End::Failed);
            let any_failed = self.children.children.iter().any(failed);
            return Ok(match close {
                Close::Asked => End::Stopped,
                _ if any_failed => End::Failed,
                _ => End::Completed,
            });
        };
        let Some(seat) = self.seats.get(index) else { return Ok(End::Failed) };
        let path = Arc::clone(&seat.place.path);
        let last = seat.last.as_ref().map_or_else(
            || "it can't be ended".to_owned(),
            |ending| match &ending.irrecoverable {
                Some(irrecoverable) => irrecoverable.to_string(),
                None => format!("{:?}", ending.exit),
            },
        );
        let hook = seat.last.as_ref().and_then(|ending| ending.hook.clone());
        Err(match (close, hook, seat.last.as_ref().and_then(inner)) {
            (Close::Hook(_), Some(failure), _) => Escalation::Hook { path, failure },
            (Close::Emergency(_), _, Some(inner @ Escalation::Emergency { .. })) => inner.clone(),
            (Close::Emergency(_), ..) => Escalation::Emergency { path, last },
            (Close::Stuck(_), ..) => Escalation::Stuck { path },
            (Close::Lost(_), ..) => {
                Escalation::Lost { path, text: seat.lost.clone().unwrap_or_default() }
            }
            _ => Escalation::Exhausted { path, last },
        })
    }
}

/// What the end of a child's generation means for its group.
fn ended(ending: &Ending) -> Ended {
    match inner(ending) {
        _ if ending.hook.is_some() => Ended::HookFailed,
        Some(Escalation::Emergency { .. }) => Ended::Emergency,
        Some(Escalation::Stuck { .. }) => Ended::LeftStuck,
        _ => Ended::Exit(ending.exit),
    }
}

/// What a child that is a group escalated.
fn inner(ending: &Ending) -> Option<&Escalation> {
    let irrecoverable = ending.irrecoverable.as_deref()?;
    match &irrecoverable.cause {
        Cause::Returned(error) => error.downcast_ref(),
        _ => None,
    }
}
