//! What a component implements, and what it is given.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};

use crate::error::{BoxError, Generation, Irrecoverable, ReportError};
use crate::slot::Slot;
use crate::tree::{Place, Tree};

/// Something that is to run without end, and is started again when it fails.
///
/// It is one value for all its generations: what `start` keeps in it is there for the next one. A
/// panic in one of the methods is caught, and the value is used again as it was left.
///
/// Implementations write `async fn` for both; both may be dropped at any `await` when they take too
/// long.
pub trait Manageable: Send + 'static {
    /// Begins one generation: sets up what it needs, and returns the task that is it. Siblings that
    /// come later wait until this has returned. The supervisor runs the task, and catches its
    /// panics.
    ///
    /// `reports` takes the irrecoverable error that ends this generation; `signals` says when it
    /// was dealt with, and when the task has to return.
    fn start(
        &mut self,
        reports: Reporter,
        signals: Signals,
    ) -> impl Future<Output = Result<Task, BoxError>> + Send;

    /// Called with each irrecoverable error - reported, returned or panicked - before the component
    /// is restarted: logs, alerts, cleans up. The failed generation may still be running, and has
    /// not been told yet.
    ///
    /// An error ends the supervision of this component, and is escalated.
    fn handle_irrecoverable(
        &mut self,
        irrecoverable: &Irrecoverable,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// What runs for one generation of a component.
pub struct Task {
    pub(crate) run: Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>,
}

impl Task {
    /// A task that is over when `run` is: completed, or with an irrecoverable error.
    #[must_use]
    pub fn new(run: impl Future<Output = Result<(), BoxError>> + Send + 'static) -> Self {
        Self { run: Box::pin(run) }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// Takes the irrecoverable error of one generation. Clones belong to the same generation.
#[derive(Clone, Debug)]
pub struct Reporter {
    pub(crate) slot: Arc<Slot>,
    /// Where groups find the tree that they are in, and their place in it.
    pub(crate) tree: Arc<Tree>,
    pub(crate) place: Arc<Place>,
}

impl Reporter {
    /// Reports an error that this generation can't go on with. Doesn't wait: [`Signals::acked`]
    /// does. The report is not lost, even if the task returns at once.
    ///
    /// # Errors
    ///
    /// [`ReportError::Twice`] after the first report; [`ReportError::Stale`] when the generation
    /// has ended.
    pub fn report(&self, error: impl Into<BoxError>) -> Result<(), ReportError> {
        self.slot.report(error.into())?;
        wake_elsewhere();
        Ok(())
    }

    /// The generation that this belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.slot.generation()
    }

    /// The component's place in the tree.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.place.path
    }
}

/// Lets another thread of the runtime take the task that was just woken.
///
/// A worker keeps the task that it woke last for itself, and no other one can take it. When the
/// task that runs there blocks the thread next, its supervisor would never hear that it reported.
/// So another task is woken last.
pub(crate) fn wake_elsewhere() {
    if let Ok(runtime) = Handle::try_current()
        && runtime.runtime_flavor() == RuntimeFlavor::MultiThread
    {
        runtime.spawn(async {});
    }
}

/// What a supervisor tells a generation, in this order, each at most once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// The report was recorded, and the hook was called.
    Ack,
    /// Return, within the grace.
    Cancel,
}

/// Both signals fit, so that sending never waits.
const SIGNALS_MAX: usize = 2;

/// Receives what the supervisor tells one generation.
#[derive(Debug)]
pub struct Signals {
    receiver: mpsc::Receiver<Signal>,
    acked: bool,
    cancelled: bool,
}

pub(crate) fn signals() -> (mpsc::Sender<Signal>, Signals) {
    let (sender, receiver) = mpsc::channel(SIGNALS_MAX);
    (sender, Signals { receiver, acked: false, cancelled: false })
}

impl Signals {
    /// The next signal; [`Signal::Cancel`] for ever when no other is to come.
    ///
    /// # Cancel safety
    ///
    /// No signal is lost when this is dropped before it is ready. So it is with the others.
    pub async fn next(&mut self) -> Signal {
        if self.cancelled {
            return Signal::Cancel;
        }
        let signal = self.receiver.recv().await.unwrap_or(Signal::Cancel);
        match signal {
            Signal::Ack => self.acked = true,
            Signal::Cancel => self.cancelled = true,
        }
        signal
    }

    /// Waits until the report was dealt with, or the task has to return anyway.
    pub async fn acked(&mut self) {
        if !self.acked {
            self.next().await;
        }
    }

    /// Waits until the task has to return.
    pub async fn cancelled(&mut self) {
        while self.next().await == Signal::Ack {}
    }
}

/// Says that a generation has started, for those who wait for their turn. It is said when `start`
/// returns, unless `start` took it: a group says it when its children have started.
pub(crate) type Started = oneshot::Sender<()>;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Manageable`] for values whose type is forgotten.
pub(crate) trait Managed: Send {
    fn start(
        &mut self,
        reports: Reporter,
        signals: Signals,
        started: &mut Option<Started>,
    ) -> Boxed<'_, Result<Task, BoxError>>;

    fn handle_irrecoverable<'a>(
        &'a mut self,
        irrecoverable: &'a Irrecoverable,
    ) -> Boxed<'a, Result<(), BoxError>>;
}

/// A component of a user, as opposed to a group.
pub(crate) struct User<C>(pub(crate) C);

impl<C: Manageable> Managed for User<C> {
    fn start(
        &mut self,
        reports: Reporter,
        signals: Signals,
        _: &mut Option<Started>,
    ) -> Boxed<'_, Result<Task, BoxError>> {
        Box::pin(self.0.start(reports, signals))
    }

    fn handle_irrecoverable<'a>(
        &'a mut self,
        irrecoverable: &'a Irrecoverable,
    ) -> Boxed<'a, Result<(), BoxError>> {
        Box::pin(self.0.handle_irrecoverable(irrecoverable))
    }
}
