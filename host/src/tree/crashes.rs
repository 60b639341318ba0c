//! The way of crash reports to the disk: a bounded queue and one thread that writes.
//!
//! No daemon waits for it: a report that finds the queue full is dropped and counted.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use supervisor::policy::{Exhausted, Policy, Restart};

use super::child::{Charge, Child, Note, Refused};
use crate::base::failpoint::{self, Point};
use crate::base::ids::NodeId;
use crate::base::limits::{CRASH_REPORTS_WAITING_MAX, SYNC_TIME_MAX, WRITER_STACK_BYTES};
use crate::base::vitals::{Heart, Kind, Vitals};
use crate::mechanisms::journal::Store;
use crate::pure::crash_report::CrashReport;
use crate::pure::repeats::Repeats;

/// What the thread is called.
const THREAD: &str = "crash-reports";

enum Message {
    Report(Box<CrashReport>),
    Stop,
}

/// Takes crash reports.
#[derive(Clone, Debug)]
pub(super) struct Reporter(SyncSender<Message>);

impl Reporter {
    /// Takes a report; false when there is no room for it. Never waits.
    pub(super) fn offer(&self, report: CrashReport) -> bool {
        self.0.try_send(Message::Report(Box::new(report))).is_ok()
    }
}

/// The thread that writes reports. When it dies the root starts another one: what it had in hand is
/// lost, what waits is not.
#[derive(Debug)]
pub(super) struct CrashWriter {
    reporter: Reporter,
    child: Arc<Child>,
}

impl CrashWriter {
    /// Starts the thread. `child` is that of [`CrashWriter::child`].
    ///
    /// # Errors
    ///
    /// When the machine gives none.
    pub(super) fn start(store: Arc<Store>, child: Arc<Child>, vitals: &Vitals) -> io::Result<Self> {
        let (sender, messages) = sync_channel(CRASH_REPORTS_WAITING_MAX);
        let heart = vitals.heart(THREAD, Kind::Journal);
        child.begin(move || Some(Box::new(Writer { store, messages, heart })))?;
        Ok(Self { reporter: Reporter(sender), child })
    }

    /// The place of the thread under the root.
    pub(super) fn child(id: NodeId, notes: SyncSender<Note>) -> Arc<Child> {
        let policy = Policy::new(Restart::Permanent).with_exhausted(Exhausted::Emergency);
        Child::new(id, THREAD, THREAD.to_owned(), WRITER_STACK_BYTES, policy, notes)
    }

    /// A way in, for a daemon.
    pub(super) fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Writes what waits, then ends the thread.
    pub(super) fn stop(&self) {
        if let Some(thread) = self.child.take_thread() {
            // A thread that has ended already takes no messages; both errors say the same.
            let _ended = self.reporter.0.send(Message::Stop).is_err();
            self.child.stop();
            let _panicked = thread.join().is_err();
        }
    }
}

impl Drop for CrashWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread is in charge of.
struct Writer {
    store: Arc<Store>,
    messages: Receiver<Message>,
    heart: Heart,
}

impl Charge for Writer {
    /// Writes what comes, all that waits with one sync.
    fn run(&mut self) {
        let (mut stopping, mut failures, mut lost) = (false, Repeats::default(), 0);
        while !stopping {
            self.heart.rest();
            let Ok(first) = self.messages.recv() else { return };
            self.heart.work(SYNC_TIME_MAX);
            let waiting = std::iter::once(first).chain(self.messages.try_iter());
            let mut reports = Vec::new();
            for message in waiting.take(CRASH_REPORTS_WAITING_MAX) {
                match message {
                    Message::Report(report) => reports.push((report.id, report.encode())),
                    Message::Stop => stopping = true,
                }
            }
            let passed = failpoint::pass(Point::WriteReports).map_err(|error| error.to_string());
            let kept = passed
                .and_then(|()| self.store.put_crashes(&reports).map_err(|fault| fault.to_string()));
            if let Err(error) = kept {
                lost += reports.len();
                if failures.failed().is_some() {
                    tracing::warn!(error, lost, "crash reports were not kept");
                }
            } else if failures.worked().is_some() {
                tracing::info!(lost = std::mem::take(&mut lost), "crash reports are kept again");
            }
        }
    }

    fn died(&mut self, _panic: &str) {
        self.heart.rest();
        self.heart.pulse().note_restart();
    }

    /// Nobody waits for an answer.
    fn refuse(&mut self, _why: Refused<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::crash_report::{Arguments, tests::report};

    #[test]
    fn a_full_queue_takes_no_report_and_nobody_waits() {
        let (sender, receiver) = sync_channel(CRASH_REPORTS_WAITING_MAX);
        let reporter = Reporter(sender);
        let offer = || reporter.offer(report(Arguments::TooLarge(0)));
        assert!((0..CRASH_REPORTS_WAITING_MAX).all(|_| offer()));
        assert!(!offer());
        drop(receiver.recv());
        assert!(offer() && !offer());
        drop(receiver);
        assert!(!offer());
    }
}
