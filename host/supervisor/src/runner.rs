//! One generation of a child, from its start to its end.
//!
//! ```text
//!   starting --> running --> reported: recorded, hook, ack --+
//!                   |                                        |
//!                   +-- told to end by the group ------------+--> ending -- grace --> aborted
//!                   |                                                |                   |
//!                   +-- returned, panicked --------------------------+--> ended <--------+
//!                                                                                        |
//!                                                          stuck <-- if it doesn't end --+
//! ```
//!
//! An error that ends the generation without a report is recorded after its end, and the hook is
//! called then. In any case this returns after all of it: only then may another generation begin.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

use crate::clock::Sleep;
use crate::component::{Managed, Reporter, Signal, Signals, Started, signals, wake_elsewhere};
use crate::error::{BoxError, Cause, Generation, HookFailure, Irrecoverable, panic_text};
use crate::observer::Event;
use crate::policy::Exit;
use crate::slot::Slot;
use crate::tree::{Place, Tree};

/// How long an aborted task, or a hook that took too long, may take to reach its next `await`.
/// After that it is taken to block its thread.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// How long a child may take. `None` for as long as it likes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) start: Option<Duration>,
    pub(crate) hook: Duration,
    pub(crate) grace: Option<Duration>,
}

/// A component, shared by the tasks that call it one at a time. A generation that can't be ended
/// keeps it locked if it blocks in `start`.
pub(crate) type Shared = Arc<Mutex<Box<dyn Managed>>>;

/// What a runner says before it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Progress {
    Started,
    Stuck,
}

/// How a generation ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) exit: Exit,
    pub(crate) irrecoverable: Option<Arc<Irrecoverable>>,
    pub(crate) hook: Option<Arc<HookFailure>>,
}

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) tree: Arc<Tree>,
    pub(crate) place: Arc<Place>,
    pub(crate) deadlines: Deadlines,
    pub(crate) generation: Generation,
    /// Which child of its group.
    pub(crate) child: usize,
    pub(crate) progress: mpsc::Sender<(usize, Progress)>,
}

/// A task that ends with whoever waits for it.
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How far a generation is on its way out.
enum Way {
    /// It runs.
    On,
    /// It was told to end.
    Told,
    /// It was aborted.
    Aborted,
    /// It can't be ended.
    Stuck,
}

/// What a generation has come to so far.
struct Course {
    way: Way,
    /// The group wants it to end.
    asked: bool,
    started: bool,
    started_late: bool,
    deadline: Option<Sleep>,
    irrecoverable: Option<Arc<Irrecoverable>>,
    hook_called: bool,
    hook: Option<Arc<HookFailure>>,
}

impl Runner {
    /// Runs the generation to its end. Dropping this aborts it.
    pub(crate) async fn run(self, component: Shared, cancel: oneshot::Receiver<()>) -> Ending {
        let (sender, signals) = signals();
        let slot = Arc::new(Slot::new(self.generation));
        let reports = Reporter {
            slot: Arc::clone(&slot),
            tree: Arc::clone(&self.tree),
            place: Arc::clone(&self.place),
        };
        let (started, has_started) = oneshot::channel();
        let mut has_started = Some(has_started);
        self.observe(Event::Starting);
        let life = live(Arc::clone(&component), reports, signals, started);
        let mut task = Owned(tokio::spawn(life));
        let mut cancel = Some(cancel);
        let mut course = Course {
            way: Way::On,
            asked: false,
            started: false,
            started_late: false,
            deadline: self.deadlines.start.map(|start| self.sleep(start)),
            irrecoverable: None,
            hook_called: false,
            hook: None,
        };
        let joined = loop {
            tokio::select! {
                // What was said first is dealt with first, whatever else has happened since.
                biased;
                said = said(&mut has_started) => {
                    has_started = None;
                    if said {
                        self.has_started(&mut course).await;
                    }
                }
                report = poll_fn(|context| slot.poll_report(context)) => {
                    self.record(&mut course, Cause::Reported(report));
                    // While `start` runs it has the component: then the hook is called at the end.
                    if course.started {
                        self.call_hook(&component, &mut course).await;
                        self.signal(&sender, Signal::Ack);
                    }
                    self.tell(&sender, &mut course);
                }
                joined = &mut task.0 => break joined,
                _ = said(&mut cancel) => {
                    // A group that is gone wants its children gone, too.
                    (cancel, course.asked) = (None, true);
                    self.tell(&sender, &mut course);
                }
                () = passed(&mut course.deadline) => {
                    self.late(&mut course, &sender, &task).await;
                }
            }
        };
        if let Some(report) = slot.close() {
            self.record(&mut course, Cause::Reported(report));
        }
        self.ended(&component, course, joined).await
    }

    /// After the task's end: what it returned, and how that counts.
    async fn ended(
        &self,
        component: &Shared,
        mut course: Course,
        joined: Result<Result<(), Cause>, JoinError>,
    ) -> Ending {
        let (mut exit, cause) = match joined {
            Ok(Ok(())) => (Exit::Completed, None),
            Ok(Err(cause)) => (Exit::Failed, Some(cause)),
            Err(error) => match error.try_into_panic() {
                Ok(payload) if course.started => {
                    (Exit::Panicked, Some(Cause::Panicked(panic_text(payload))))
                }
                Ok(payload) => (Exit::Panicked, Some(Cause::PanickedInStart(panic_text(payload)))),
                Err(_) => (Exit::Killed, None),
            },
        };
        let late = course.started_late.then_some(self.deadlines.start).flatten();
        if course.irrecoverable.is_some() {
            // It has failed, whichever way it went out: the rest is a consequence.
            exit = Exit::Failed;
        } else if let Some(cause) = late.map(Cause::StartedLate).or(cause) {
            exit = if late.is_some() { Exit::Failed } else { exit };
            self.record(&mut course, cause);
        }
        self.call_hook(component, &mut course).await;
        if course.asked {
            let killed = matches!(course.way, Way::Aborted | Way::Stuck);
            exit = if killed { Exit::Killed } else { Exit::Cancelled };
        }
        self.observe(Event::Ended(exit));
        Ending { exit, irrecoverable: course.irrecoverable, hook: course.hook }
    }

    async fn has_started(&self, course: &mut Course) {
        course.started = true;
        if matches!(course.way, Way::On) {
            course.deadline = None;
        }
        self.observe(Event::Started);
        self.say(Progress::Started).await;
    }

    fn record(&self, course: &mut Course, cause: Cause) {
        let (path, generation) = (Arc::clone(&self.place.path), self.generation);
        let irrecoverable = Arc::new(Irrecoverable { path, generation, cause });
        self.observe(Event::Irrecoverable(&irrecoverable));
        course.irrecoverable = Some(irrecoverable);
    }

    /// Calls the hook if an error was recorded and it was not called yet.
    async fn call_hook(&self, component: &Shared, course: &mut Course) {
        let Some(irrecoverable) = course.irrecoverable.clone() else { return };
        if std::mem::replace(&mut course.hook_called, true) {
            return;
        }
        match self.hook(component, irrecoverable).await {
            Ok(()) => self.observe(Event::HookReturned),
            Err(failure) => {
                self.observe(Event::HookFailed(&failure));
                course.hook = Some(Arc::new(failure));
            }
        }
    }

    /// The hook has a task of its own: it may panic or block.
    async fn hook(
        &self,
        component: &Shared,
        irrecoverable: Arc<Irrecoverable>,
    ) -> Result<(), HookFailure> {
        let component = Arc::clone(component);
        let mut task = Owned(tokio::spawn(async move {
            component.lock().await.handle_irrecoverable(&irrecoverable).await
        }));
        let joined = tokio::select! {
            biased;
            joined = &mut task.0 => Some(joined),
            () = self.sleep(self.deadlines.hook) => None,
        };
        let late = HookFailure::Late(self.deadlines.hook);
        match joined {
            Some(Ok(done)) => done.map_err(HookFailure::Failed),
            Some(Err(error)) => Err(match error.try_into_panic() {
                Ok(payload) => HookFailure::Panicked(panic_text(payload)),
                Err(_) => late,
            }),
            None => Err(late),
        }
    }

    /// A deadline has passed: the next harder means.
    async fn late(
        &self,
        course: &mut Course,
        sender: &mpsc::Sender<Signal>,
        task: &Owned<Result<(), Cause>>,
    ) {
        course.deadline = None;
        match course.way {
            // Only `start` has a deadline before it was told to end.
            Way::On => {
                course.started_late = true;
                self.tell(sender, course);
            }
            Way::Told => {
                course.way = Way::Aborted;
                self.observe(Event::Aborted);
                task.0.abort();
                course.deadline = Some(self.sleep(ABORT_GRACE));
            }
            Way::Aborted => {
                course.way = Way::Stuck;
                self.observe(Event::Stuck);
                self.say(Progress::Stuck).await;
            }
            Way::Stuck => {}
        }
    }

    /// Tells the generation to end, once.
    fn tell(&self, sender: &mpsc::Sender<Signal>, course: &mut Course) {
        if matches!(course.way, Way::On) {
            course.way = Way::Told;
            course.deadline = self.deadlines.grace.map(|grace| self.sleep(grace));
            self.signal(sender, Signal::Cancel);
        }
    }

    fn signal(&self, sender: &mpsc::Sender<Signal>, signal: Signal) {
        // Each is sent once, and both fit. One that nobody receives any more is not missed.
        if sender.try_send(signal).is_ok() {
            self.observe(match signal {
                Signal::Ack => Event::Acked,
                Signal::Cancel => Event::Cancelled,
            });
        }
    }

    async fn say(&self, progress: Progress) {
        // The group is there as long as its runners are.
        self.progress.send((self.child, progress)).await.ok();
    }

    fn observe(&self, event: Event<'_>) {
        self.tree.observe(&self.place, self.generation, event);
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.tree.clock.sleep_until(self.tree.clock.now_nanos().saturating_add(nanos))
    }
}

/// What runs as the generation's task: `start`, then what it returned.
async fn live(
    component: Shared,
    reports: Reporter,
    signals: Signals,
    started: Started,
) -> Result<(), Cause> {
    let mut started = Some(started);
    let task = {
        let mut component = component.lock().await;
        component.start(reports, signals, &mut started).await
    };
    drop(component);
    let task = task.map_err(Cause::NotStarted)?;
    if let Some(started) = started {
        started.send(()).ok();
        wake_elsewhere();
    }
    task.run.await.map_err(|error: BoxError| Cause::Returned(error))
}

async fn passed(deadline: &mut Option<Sleep>) {
    match deadline {
        Some(sleep) => sleep.await,
        None => pending().await,
    }
}

/// What the other side said, or that it is gone.
async fn said(other: &mut Option<oneshot::Receiver<()>>) -> bool {
    match other {
        Some(other) => other.await.is_ok(),
        None => pending().await,
    }
}
