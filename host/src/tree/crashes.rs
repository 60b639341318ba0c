//! The way of crash reports to the disk: a bounded queue and one thread that writes.
//!
//! No daemon waits for it: a report that finds the queue full is dropped and counted.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::base::limits::CRASH_REPORTS_WAITING_MAX;
use crate::mechanisms::journal::Store;
use crate::pure::crash_report::CrashReport;

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

/// The thread that writes reports.
#[derive(Debug)]
pub(super) struct CrashWriter {
    reporter: Reporter,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl CrashWriter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the machine gives none.
    pub(super) fn start(store: Arc<Store>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(CRASH_REPORTS_WAITING_MAX);
        let thread = Builder::new()
            .name("crash-reports".to_owned())
            .spawn(move || write(&store, &receiver))?;
        Ok(Self { reporter: Reporter(sender), thread: Mutex::new(Some(thread)) })
    }

    /// A way in, for a daemon.
    pub(super) fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Writes what waits, then ends the thread.
    pub(super) fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that has ended already takes no messages; both errors say the same.
            let _ended = self.reporter.0.send(Message::Stop).is_err();
            let _panicked = thread.join().is_err();
        }
    }
}

impl Drop for CrashWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes what comes, all that waits with one sync.
fn write(store: &Store, messages: &Receiver<Message>) {
    let mut stopping = false;
    while !stopping {
        let Ok(first) = messages.recv() else { return };
        let waiting = std::iter::once(first).chain(messages.try_iter());
        let mut reports = Vec::new();
        for message in waiting.take(CRASH_REPORTS_WAITING_MAX) {
            match message {
                Message::Report(report) => reports.push((report.id, report.encode())),
                Message::Stop => stopping = true,
            }
        }
        if let Err(fault) = store.put_crashes(&reports) {
            let count = reports.len();
            tracing::warn!(%fault, count, "crash reports were not kept");
        }
    }
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
