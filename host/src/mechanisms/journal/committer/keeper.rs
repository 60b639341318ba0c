//! The thread that tends the journal while the committer appends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::super::{FaultKind, Journal, JournalFault, Tended};
use super::lock;
use crate::base::limits::{COMPACT_TIME_MAX, SYNC_TIME_MAX};
use crate::base::vitals::{Heart, Kind, Vitals};
use crate::pure::repeats::Repeats;

/// Time between two looks while there may be work: what is appended meanwhile is one batch.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Longest time between two tries after a failure: about how long a disk that has space again is
/// not noticed.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// Steps in a row that work before what failed counts as over: on a full disk some always do.
const GOOD_STEPS: u32 = 16;

/// The thread's other end.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Nothing is left to do until somebody wakes it.
    asleep: AtomicBool,
    stopping: Mutex<bool>,
    woken: Condvar,
    steps: AtomicU64,
    /// Why the last steps failed; none when the last one worked.
    trouble: Mutex<Option<JournalFault>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(super) fn start(
        journal: Arc<dyn Journal>,
        vitals: &Vitals,
    ) -> Result<Arc<Self>, JournalFault> {
        let keeper = Arc::new(Self {
            asleep: AtomicBool::default(),
            stopping: Mutex::default(),
            woken: Condvar::new(),
            steps: AtomicU64::default(),
            trouble: Mutex::default(),
            thread: Mutex::default(),
        });
        let (its, heart) = (keeper.clone(), vitals.heart("journal-fold", Kind::Journal));
        let thread = Builder::new()
            .name("journal-fold".to_owned())
            .spawn(move || its.run(journal.as_ref(), &heart))
            .map_err(|error| JournalFault::new(FaultKind::Io, error.to_string()))?;
        *lock(&keeper.thread) = Some(thread);
        Ok(keeper)
    }

    /// There is something to do. Costs the reading of one variable when the thread is awake.
    pub(super) fn wake(&self) {
        if self.asleep.load(Ordering::Acquire) && self.asleep.swap(false, Ordering::AcqRel) {
            let _stopping = lock(&self.stopping);
            self.woken.notify_all();
        }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Why nothing is moved, folded or opened again at the moment.
    pub(super) fn trouble(&self) -> Option<JournalFault> {
        lock(&self.trouble).clone()
    }

    /// Ends the thread after the step that it is in.
    pub(super) fn stop(&self) {
        *lock(&self.stopping) = true;
        self.woken.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            let _panicked = thread.join().is_err();
        }
    }

    fn run(&self, journal: &dyn Journal, heart: &Heart) {
        let (mut failures, mut good) = (Repeats::default(), 0_u32);
        let mut wait = Some(Duration::ZERO);
        while self.rest(wait) {
            heart.work(SYNC_TIME_MAX);
            let tended = journal.tend().and_then(|tended| {
                let idle = match tended {
                    Tended::Idle => true,
                    Tended::Waiting => false,
                    Tended::Busy | Tended::Opened => return Ok(tended),
                };
                heart.work(COMPACT_TIME_MAX);
                let compacted = journal.compact(idle)?;
                Ok(if compacted { Tended::Busy } else { tended })
            });
            heart.rest();
            wait = match tended {
                Ok(tended) => {
                    good = good.saturating_add(u32::from(tended != Tended::Opened));
                    if (tended == Tended::Idle || good >= GOOD_STEPS)
                        && let Some(failed) = failures.worked()
                    {
                        tracing::info!(failed, "the journal is tended again");
                        *lock(&self.trouble) = None;
                    }
                    self.steps.fetch_add(u64::from(tended == Tended::Busy), Ordering::Relaxed);
                    match tended {
                        Tended::Busy | Tended::Opened => Some(Duration::ZERO),
                        Tended::Waiting => Some(LOOK_EVERY),
                        // Looks once more after saying so: what came meanwhile has not woken it.
                        Tended::Idle if !self.asleep.swap(true, Ordering::AcqRel) => {
                            Some(Duration::ZERO)
                        }
                        Tended::Idle => None,
                    }
                }
                Err(fault) => {
                    good = 0;
                    if let Some(failed) = failures.failed() {
                        tracing::error!(%fault, failed, "the journal can't be tended");
                    }
                    *lock(&self.trouble) = Some(fault);
                    let waits = u32::try_from(failures.count()).unwrap_or(u32::MAX);
                    Some(LOOK_EVERY.saturating_mul(waits).min(RETRY_MAX))
                }
            };
        }
    }

    /// Waits, without an end until it is woken when there is no time; false when it has to stop.
    fn rest(&self, wait: Option<Duration>) -> bool {
        let stopping = lock(&self.stopping);
        if *stopping || wait == Some(Duration::ZERO) {
            return !*stopping;
        }
        let stopping = match wait {
            Some(wait) => {
                let waited = self.woken.wait_timeout(stopping, wait);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None if self.asleep.load(Ordering::Acquire) => {
                self.woken.wait(stopping).unwrap_or_else(PoisonError::into_inner)
            }
            None => stopping,
        };
        self.asleep.store(false, Ordering::Release);
        !*stopping
    }
}
