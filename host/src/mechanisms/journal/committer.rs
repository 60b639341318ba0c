//! The committer: one thread that groups the commits of all daemons into one sync.
//!
//! ```text
//!  Submitter --- bounded queue ---> take all that is there ---> append, one sync ---> callbacks
//!  (daemons)                              ^                                             |
//!                                         +--------- the next group has collected <-----+
//! ```
//!
//! A second thread tends the journal: it moves, folds and opens again, so that no sync waits for
//! that. It looks for work some times a second, and sleeps when there is none.
//!
//! A submission without a record is a barrier: its callback runs when everything that its daemon
//! submitted before is durable. Callbacks run in the order of submission, on this thread: they must
//! not wait.

mod keeper;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use hdrhistogram::Histogram;

use self::keeper::Keeper;
use super::{CommitReceipt, DaemonKey, Entry, FaultKind, FoldDebt, Journal, JournalFault, Synced};
use crate::base::clock::Clock;
use crate::base::failpoint::{self, Point};
use crate::base::ids::Sequence;
use crate::base::limits::SYNC_TIME_MAX;
use crate::base::vitals::{Heart, Kind, Vitals};
use crate::pure::record::is_more;

/// Submissions that may wait; more make their daemons wait.
const QUEUE_MAX: usize = 4096;

/// Submissions of one group.
const GROUP_SUBMISSIONS_MAX: usize = 1024;

/// Bytes of one group: about what a disk writes in the time of a few syncs.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// Used buffers that are kept for the next records.
const SPARE_MAX: usize = 256;

/// Used buffers that one daemon gets at a time.
const SPARE_HANDED_MAX: usize = 32;

/// Bytes of a used buffer that is worth keeping.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Longest sync that the histogram tells from longer ones, in microseconds.
const SYNC_MICROS_MAX: u64 = 60_000_000;

/// What runs when a submission is durable, or failed.
pub type OnSynced = Box<dyn FnOnce(Result<CommitReceipt, JournalFault>) + Send>;

/// A commit, or a barrier.
pub struct Submission {
    /// Whose.
    pub daemon: DaemonKey,
    /// Its commit; for a barrier the one that must be durable.
    pub sequence: Sequence,
    /// The record; `None` for a barrier.
    pub record: Option<Vec<u8>>,
    /// What to do then.
    pub on_synced: OnSynced,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.record.as_ref().map(Vec::len);
        f.debug_struct("Submission")
            .field("daemon", &self.daemon)
            .field("sequence", &self.sequence)
            .field("record_bytes", &bytes)
            .finish_non_exhaustive()
    }
}

/// A submission that was not taken; it comes back.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: the disk is slower than the daemons.
    #[error("the journal's queue is full")]
    Full(Submission),
    /// The committer has stopped.
    #[error("the journal is closed")]
    Closed(Submission),
}

enum Message {
    Submission(Submission),
    Stop,
}

/// What the committer has done so far.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Syncs.
    pub groups: u64,
    /// Records made durable.
    pub records: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Microseconds of each append with its sync.
    pub sync_micros: Histogram<u64>,
    /// What folding has left to do.
    pub fold: FoldDebt,
    /// Steps of moving and folding.
    pub fold_steps: u64,
    /// The failure after which nothing is taken, until an append succeeds again.
    pub failed: Option<JournalFault>,
}

#[derive(Debug)]
struct Shared {
    metrics: Mutex<Metrics>,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Puts submissions into the committer's queue.
#[derive(Clone, Debug)]
pub struct Submitter {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl Submitter {
    /// Submits, waiting while the queue is full.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Closed`] after [`Committer::stop`].
    pub fn submit(&self, submission: Submission) -> Result<(), SubmitError> {
        self.sender.send(Message::Submission(submission)).or_else(|refused| match refused.0 {
            Message::Submission(submission) => Err(SubmitError::Closed(submission)),
            Message::Stop => Ok(()),
        })
    }

    /// Submits without waiting.
    ///
    /// # Errors
    ///
    /// [`SubmitError`].
    pub fn try_submit(&self, submission: Submission) -> Result<(), SubmitError> {
        self.sender.try_send(Message::Submission(submission)).or_else(|refused| match refused {
            TrySendError::Full(Message::Submission(back)) => Err(SubmitError::Full(back)),
            TrySendError::Disconnected(Message::Submission(back)) => Err(SubmitError::Closed(back)),
            _ => Ok(()),
        })
    }

    /// Hands out some used, empty buffers for the next records, if there are any.
    pub fn buffers(&self, out: &mut Vec<Vec<u8>>) {
        let mut spare = lock(&self.shared.spare);
        let kept = spare.len().saturating_sub(SPARE_HANDED_MAX);
        out.extend(spare.drain(kept..));
    }
}

/// The thread, and what it has done.
#[derive(Debug)]
pub struct Committer {
    submitter: Submitter,
    thread: Mutex<Option<JoinHandle<()>>>,
    keeper: Arc<Keeper>,
    journal: Arc<dyn Journal>,
}

impl Committer {
    /// Starts the thread over `journal`.
    ///
    /// # Errors
    ///
    /// When the machine gives no thread.
    pub fn start(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        vitals: &Vitals,
    ) -> Result<Self, JournalFault> {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let histogram = Histogram::new_with_bounds(1, SYNC_MICROS_MAX, 2)
            .map_err(|error| JournalFault::new(FaultKind::Misuse, error.to_string()))?;
        let metrics = Metrics {
            groups: 0,
            records: 0,
            bytes: 0,
            sync_micros: histogram,
            fold: FoldDebt::default(),
            fold_steps: 0,
            failed: None,
        };
        let shared =
            Arc::new(Shared { metrics: Mutex::new(metrics), spare: Mutex::new(Vec::new()) });
        let keeper = Keeper::start(journal.clone(), vitals)?;
        let worker = Worker {
            journal: journal.clone(),
            clock,
            receiver,
            shared: shared.clone(),
            synced: BTreeMap::new(),
            keeper: keeper.clone(),
            heart: vitals.heart("journal", Kind::Journal),
        };
        let thread = Builder::new()
            .name("journal".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| JournalFault::new(FaultKind::Io, error.to_string()))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { submitter: Submitter { sender, shared }, thread, keeper, journal })
    }

    /// A way in, for a daemon.
    #[must_use]
    pub fn submitter(&self) -> Submitter {
        self.submitter.clone()
    }

    /// What it has done so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let mut metrics = lock(&self.submitter.shared.metrics).clone();
        metrics.fold = self.journal.fold_debt();
        metrics.fold_steps = self.keeper.steps();
        metrics
    }

    /// Why the journal can't be tended at the moment: commits may still be taken, into the log.
    #[must_use]
    pub fn trouble(&self) -> Option<JournalFault> {
        self.keeper.trouble()
    }

    /// Makes everything durable that was submitted, then ends the thread. What comes later is
    /// refused.
    pub fn stop(&self) {
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A thread that has ended already takes no messages; both errors say the same.
            let _ended = self.submitter.sender.send(Message::Stop).is_err();
            let _panicked = thread.join().is_err();
        }
        self.keeper.stop();
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    receiver: Receiver<Message>,
    shared: Arc<Shared>,
    synced: BTreeMap<DaemonKey, Sequence>,
    keeper: Arc<Keeper>,
    heart: Heart,
}

impl Worker {
    fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP_SUBMISSIONS_MAX);
        let mut stopping = false;
        while !stopping {
            self.heart.rest();
            let message = self.receiver.recv();
            self.heart.work(SYNC_TIME_MAX);
            match message {
                Ok(Message::Submission(first)) => group.push(first),
                Ok(Message::Stop) | Err(_) => stopping = true,
            }
            loop {
                let bytes: usize =
                    group.iter().filter_map(|one| one.record.as_ref()).map(Vec::len).sum();
                let room = self.collect(&mut group, bytes, &mut stopping);
                self.commit(&mut group);
                self.heart.work(SYNC_TIME_MAX);
                if room || !stopping {
                    break;
                }
            }
        }
    }

    /// Takes what waits, up to the caps; true when the queue is empty.
    fn collect(&self, group: &mut Vec<Submission>, bytes: usize, stopping: &mut bool) -> bool {
        let mut bytes = bytes;
        while group.len() < GROUP_SUBMISSIONS_MAX && bytes < GROUP_BYTES_MAX {
            match self.receiver.try_recv() {
                Ok(Message::Submission(submission)) => {
                    bytes += submission.record.as_ref().map_or(0, Vec::len);
                    group.push(submission);
                }
                Ok(Message::Stop) => *stopping = true,
                Err(_) => return true,
            }
        }
        false
    }

    fn commit(&mut self, group: &mut Vec<Submission>) {
        let mut failed: BTreeMap<DaemonKey, JournalFault> = BTreeMap::new();
        let outcome = loop {
            let entries: Vec<Entry<'_>> = group
                .iter()
                .filter(|one| !failed.contains_key(&one.daemon))
                .filter_map(|one| {
                    let record = one.record.as_deref()?;
                    Some(Entry { daemon: one.daemon, sequence: one.sequence, record })
                })
                .collect();
            if entries.is_empty() {
                break Ok(());
            }
            match self.append(&entries) {
                Ok(synced) => {
                    self.confirm(&synced, &entries);
                    break Ok(());
                }
                // Nothing was written; the other daemons' commits are good.
                Err(JournalFault { kind, daemon: Some(daemon), .. })
                    if failed.contains_key(&daemon) =>
                {
                    break Err(JournalFault::new(kind, "the journal refuses a daemon twice"));
                }
                Err(fault) => match (fault.kind, fault.daemon) {
                    (
                        FaultKind::Misuse | FaultKind::Corrupt | FaultKind::Poisoned,
                        Some(daemon),
                    ) => {
                        failed.insert(daemon, fault);
                    }
                    _ => break Err(fault),
                },
            }
        };
        if let Err(fault) = &outcome {
            lock(&self.shared.metrics).failed.get_or_insert_with(|| fault.clone());
            self.keeper.wake();
        }
        if failpoint::pass(Point::BeforeReply).is_err() {
            tracing::debug!("an answer can't fail");
        }
        self.keep_buffers(group);
        for submission in group.drain(..) {
            let refused = failed.get(&submission.daemon).or(outcome.as_ref().err());
            self.finish(submission, refused);
        }
    }

    fn append(&mut self, entries: &[Entry<'_>]) -> Result<Synced, JournalFault> {
        let before = self.clock.monotonic_nanos();
        let synced = self.journal.append(entries)?;
        let micros = self.clock.monotonic_nanos().saturating_sub(before) / 1000;
        self.keeper.wake();
        let mut metrics = lock(&self.shared.metrics);
        metrics.groups += 1;
        metrics.records += entries.len() as u64;
        metrics.bytes += entries.iter().map(|entry| entry.record.len() as u64).sum::<u64>();
        metrics.sync_micros.saturating_record(micros.max(1));
        metrics.failed = None;
        Ok(synced)
    }

    /// The only place where the confirmed positions grow.
    fn confirm(&mut self, _proof: &Synced, entries: &[Entry<'_>]) {
        for entry in entries.iter().filter(|entry| !is_more(entry.record)) {
            self.synced.insert(entry.daemon, entry.sequence);
        }
    }

    /// A receipt for a commit at or below what a sync has confirmed, or what an opening has found
    /// and synced: at the start, and after a failure, when what was unknown may be found.
    fn receipt(&self, daemon: DaemonKey, sequence: Sequence) -> Option<CommitReceipt> {
        let confirmed = self.synced.get(&daemon).is_some_and(|synced| sequence <= *synced);
        let found = || self.journal.durable(daemon).is_some_and(|found| sequence <= found);
        (confirmed || found()).then_some(CommitReceipt { daemon, sequence })
    }

    fn keep_buffers(&self, group: &mut [Submission]) {
        let mut spare = lock(&self.shared.spare);
        let room = SPARE_MAX.saturating_sub(spare.len());
        let used = group.iter_mut().filter_map(|one| one.record.take());
        let worth = used.filter(|buffer| buffer.capacity() <= SPARE_BYTES_MAX);
        spare.extend(worth.take(room).map(|mut buffer| {
            buffer.clear();
            buffer
        }));
    }

    fn finish(&self, submission: Submission, refused: Option<&JournalFault>) {
        let Submission { daemon, sequence, on_synced, .. } = submission;
        let result = self.receipt(daemon, sequence).ok_or_else(|| {
            let what = "the commit before it did not become durable";
            let unknown = || JournalFault::new(FaultKind::Poisoned, what);
            refused.cloned().unwrap_or_else(unknown).of_daemon(daemon).at(sequence)
        });
        if catch_unwind(AssertUnwindSafe(|| on_synced(result))).is_err() {
            tracing::error!(%daemon, %sequence, "a callback of the journal panicked");
        }
    }
}

#[cfg(test)]
mod tests;
