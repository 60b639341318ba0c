//! The root of a tree: begins supervision, and shows and stops it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Chance, Clock};
use crate::component::{Manageable, Signal, signals};
use crate::error::{Escalation, SpawnError};
use crate::group::{Group, Spec, Supervision};
use crate::observer::Observer;
use crate::policy::{End, Policy};
use crate::strategy::Strategy;
use crate::tree::{Emergency, Node, Place, Tree};

/// Supervises one component, or a group of them.
///
/// It takes its component for good, so a component has one supervisor:
///
/// ```compile_fail,E0382
/// # use supervisor::*;
/// # async fn twice(component: impl Manageable) -> Result<(), SpawnError> {
/// let first = Supervisor::new(component);
/// let second = Supervisor::new(component); // use of moved value: `component`
/// # Ok(()) }
/// ```
#[must_use = "nothing runs before it is spawned"]
pub struct Supervisor {
    name: String,
    spec: Spec,
    tree: Tree,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Will supervise a component under the default policy: restarted when it fails, over when it
    /// completes.
    pub fn new(component: impl Manageable) -> Self {
        Self::of(Spec::component(component))
    }

    /// Will supervise a group and what is in it. When the group escalates it is restarted, too,
    /// until its own restarts are used up.
    pub fn group(group: Group) -> Self {
        Self::of(Spec::group(group))
    }

    fn of(spec: Spec) -> Self {
        Self { name: "root".to_owned(), spec, tree: Tree::default() }
    }

    /// Names the root; `root`, if nothing is said. Paths begin with it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Restarts it by this policy.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.spec.policy = policy;
        self
    }

    /// Lets it take so long to return when it is told to end; then it is aborted. Five seconds for
    /// a component, if nothing is said; as long as its children take for a group.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.spec.deadlines.grace = Some(grace);
        self
    }

    /// Lets its `start` take so long. Thirty seconds for a component, if nothing is said.
    pub fn start_within(mut self, start: Duration) -> Self {
        self.spec.deadlines.start = Some(start);
        self
    }

    /// Tells this what happens, instead of writing it with `tracing`.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.tree.observer = observer;
        self
    }

    /// Tells this when a policy ends in an emergency.
    pub fn emergency(mut self, emergency: Arc<dyn Emergency>) -> Self {
        self.tree.emergency = Some(emergency);
        self
    }

    /// Takes time from here instead of from the runtime.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.tree.clock = clock;
        self
    }

    /// Takes random numbers from here.
    pub fn chance(mut self, chance: Arc<dyn Chance>) -> Self {
        self.tree.chance = chance;
        self
    }

    /// Begins supervision. Returns when everything in the tree has been started once - or has
    /// failed in that, which is dealt with like any other failure. Supervision goes on when the
    /// handle is dropped, until the runtime ends.
    ///
    /// # Errors
    ///
    /// [`SpawnError::NoRuntime`] outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Once polled, supervision goes on without it, and without a handle.
    pub async fn spawn(self) -> Result<Supervised, SpawnError> {
        let runtime = Handle::try_current().map_err(|_| SpawnError::NoRuntime)?;
        let (tree, place) = (Arc::new(self.tree), Arc::new(Place::root(&self.name)));
        let root = vec![(place, self.spec)];
        let supervision = Supervision::new(Arc::clone(&tree), Strategy::OneForOne, root);
        let (stop, signals) = signals();
        let (started, has_started) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let changes = tree.changes();
        let supervised = Supervised { tree, stop: stop.clone(), ended, changes };
        runtime.spawn(async move {
            let result = supervision.run(signals, Some(started)).await;
            end.send_replace(Some(result));
            // It was kept, so that dropped handles don't stop anything.
            drop(stop);
        });
        // It is dropped when everything ended before everything had started.
        has_started.await.ok();
        Ok(supervised)
    }
}

/// A tree that is supervised. Clones stand for the same tree; dropping them stops nothing.
#[derive(Clone, Debug)]
pub struct Supervised {
    tree: Arc<Tree>,
    stop: mpsc::Sender<Signal>,
    ended: watch::Receiver<Option<Result<End, Escalation>>>,
    changes: watch::Receiver<u64>,
}

impl Supervised {
    /// All places of the tree: parents before children, siblings in the order of their starts.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.tree.nodes()
    }

    /// The place with this path.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<Node> {
        self.tree.nodes().into_iter().find(|node| &*node.path == path)
    }

    /// Waits until something in the tree is other than when this was called last. Several changes
    /// may be seen as one.
    ///
    /// # Cancel safety
    ///
    /// No change is missed when this is dropped before it is ready.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until the path is in a state that `is` accepts, and returns it then. For ever, if
    /// there is no such path.
    pub async fn until(&mut self, path: &str, is: impl Fn(&Node) -> bool) -> Node {
        loop {
            self.changes.mark_unchanged();
            if let Some(node) = self.node(path).filter(|node| is(node)) {
                return node;
            }
            self.changed().await;
        }
    }

    /// Tells everything to end, in reverse order, each within its grace. Doesn't wait.
    pub fn cancel(&self) {
        // Full means that it was told already; closed, that it is over.
        self.stop.try_send(Signal::Cancel).ok();
    }

    /// Tells everything to end and waits for it.
    ///
    /// # Errors
    ///
    /// See [`Supervised::ended`].
    pub async fn stop(&self) -> Result<End, Escalation> {
        self.cancel();
        self.ended().await
    }

    /// Waits for the end of supervision, and says how it ended. [`End::Stopped`] also when the
    /// runtime has gone.
    ///
    /// # Errors
    ///
    /// [`Escalation`] when the root's restarts were used up, its hook failed, something in the tree
    /// can't be ended, or there was an emergency. Everything that could be stopped was stopped.
    pub async fn ended(&self) -> Result<End, Escalation> {
        let mut ended = self.ended.clone();
        let result = ended.wait_for(Option::is_some).await;
        result.map_or(Ok(End::Stopped), |result| result.clone().unwrap_or(Ok(End::Stopped)))
    }

    /// Starts a parked child again, with nothing held against it. False if there is no parked one
    /// with this path.
    #[must_use]
    pub fn resume(&self, path: &str) -> bool {
        self.tree.resume(path)
    }
}
