//! A thread under the root that is started again when it dies.
//!
//! ```text
//!   thread ----- panics -----> root's loop: recorded, decided -----> a new thread
//!     ^   its charge goes along                                          |
//!     +------------------------------------------------------------------+
//! ```
//!
//! What the thread was in charge of, a daemon with its mailbox for example, outlives it: it goes to
//! the root's loop and from there to the next thread. Only one thread has it at any time.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use supervisor::policy::Policy;

use crate::base::error::{panic_text, printable};
use crate::base::ids::NodeId;

/// What a thread is in charge of.
pub(super) trait Charge: Send {
    /// Runs until the end. A panic is the death of the thread.
    fn run(&mut self);

    /// The thread is dying of this panic. Answers what it was about to answer. Runs on that thread.
    fn died(&mut self, panic: &str);

    /// Nobody will run it for now: refuses what waits. Runs on the root's loop: it must not wait.
    fn refuse(&mut self, why: Refused<'_>);
}

/// Why nobody runs a charge.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused<'a> {
    /// Its restarts are used up, for this reason.
    Parked(&'a str),
    /// It is over.
    Over,
}

/// What the root's loop is told.
pub(super) enum Note {
    /// A child's thread died.
    Died(Death),
    /// A parked child is to be started again.
    Resume(Arc<Child>),
    /// Nothing is to be started any more.
    Stop,
    /// All children have ended.
    End,
}

/// A thread that died, with what it was in charge of.
pub(super) struct Death {
    pub(super) child: Arc<Child>,
    pub(super) charge: Box<dyn Charge>,
    pub(super) panic: String,
}

/// What a child is doing, as far as its thread goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It has a thread.
    Up,
    /// Its thread died; it waits for the next one.
    Waiting,
    /// Its threads died too often.
    Parked,
}

/// What is known of one thread under the root, whichever it is at the moment.
pub(super) struct Child {
    pub(super) id: NodeId,
    pub(super) name: String,
    /// What its threads are called.
    thread_name: String,
    stack_bytes: usize,
    pub(super) policy: Policy,
    thread: Mutex<Option<JoinHandle<()>>>,
    stopping: AtomicBool,
    standing: AtomicU8,
    deaths: AtomicU64,
    notes: SyncSender<Note>,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("id", &self.id).field("name", &self.name).finish()
    }
}

impl Child {
    /// A child without a thread.
    pub(super) fn new(
        id: NodeId,
        name: &str,
        thread_name: String,
        stack_bytes: usize,
        policy: Policy,
        notes: SyncSender<Note>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            name: name.to_owned(),
            thread_name,
            stack_bytes,
            policy,
            thread: Mutex::default(),
            stopping: AtomicBool::new(false),
            standing: AtomicU8::new(Standing::Up as u8),
            deaths: AtomicU64::new(0),
            notes,
        })
    }

    /// Starts the first thread; `make` makes the charge there, none when it can't.
    ///
    /// # Errors
    ///
    /// When the machine gives no thread.
    pub(super) fn begin(
        self: &Arc<Self>,
        make: impl FnOnce() -> Option<Box<dyn Charge>> + Send + 'static,
    ) -> std::io::Result<()> {
        let child = self.clone();
        let mut thread = lock(&self.thread);
        *thread = Some(self.builder().spawn(move || {
            if let Some(charge) = make() {
                child.keep(charge);
            }
        })?);
        Ok(())
    }

    /// Starts a next thread; the charge comes back when there is none.
    pub(super) fn again(self: &Arc<Self>, charge: Box<dyn Charge>) -> Result<(), Box<dyn Charge>> {
        let mut thread = lock(&self.thread);
        if self.is_stopping() {
            return Err(charge);
        }
        // A closure that finds no thread is dropped: what it needs is kept outside.
        let place = Arc::new(Mutex::new(Some(charge)));
        let (its, child) = (place.clone(), self.clone());
        let spawned = self.builder().spawn(move || {
            let charge = lock(&its).take();
            if let Some(charge) = charge {
                child.keep(charge);
            }
        });
        match spawned {
            Ok(handle) => {
                self.set_standing(Standing::Up);
                *thread = Some(handle);
                Ok(())
            }
            Err(error) => {
                tracing::error!(child = self.name, %error, "no thread for its restart");
                lock(&place).take().map_or(Ok(()), Err)
            }
        }
    }

    fn builder(&self) -> Builder {
        Builder::new().name(self.thread_name.clone()).stack_size(self.stack_bytes)
    }

    /// The thread's life.
    fn keep(self: &Arc<Self>, mut charge: Box<dyn Charge>) {
        // The charge is looked through before anybody runs it again.
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| charge.run())) else { return };
        let panic = printable(panic_text(panic.as_ref()), 500);
        if catch_unwind(AssertUnwindSafe(|| charge.died(&panic))).is_err() {
            tracing::error!(child = self.name, "a second panic while the first was dealt with");
        }
        let death = Death { child: self.clone(), charge, panic };
        if self.notes.send(Note::Died(death)).is_err() {
            tracing::debug!(child = self.name, "died after the root");
        }
    }

    /// From here on no thread is started.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// True when it has no thread that runs.
    pub(super) fn has_ended(&self) -> bool {
        lock(&self.thread).as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The thread, to wait for: none when somebody has it already.
    pub(super) fn take_thread(&self) -> Option<JoinHandle<()>> {
        lock(&self.thread).take()
    }

    /// What it is doing.
    pub(super) fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            1 => Standing::Waiting,
            2 => Standing::Parked,
            _ => Standing::Up,
        }
    }

    pub(super) fn set_standing(&self, standing: Standing) {
        self.standing.store(standing as u8, Ordering::Release);
    }

    /// How often its thread died.
    pub(super) fn deaths(&self) -> u64 {
        self.deaths.load(Ordering::Relaxed)
    }

    /// Counts one more death, and answers which it is.
    pub(super) fn count_death(&self) -> u64 {
        self.deaths.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Asks the root's loop to start it again.
    pub(super) fn ask_to_resume(self: &Arc<Self>) {
        if self.notes.send(Note::Resume(self.clone())).is_err() {
            tracing::debug!(child = self.name, "resumed after the root");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
