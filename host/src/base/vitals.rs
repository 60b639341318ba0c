//! How the host's threads show that they turn.
//!
//! Each thread has a [`Heart`]: it says when it begins a piece of work, how long that may take, and
//! when it waits for more. That costs two stores, takes no lock and passes no mailbox, so a thread
//! that is stuck can't hide behind one, and a thread that waits is never late.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::Code;
use super::stop::StopLatch;

/// What a thread does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The main loop.
    Loop,
    /// The control plane.
    Api,
    /// Advances the epoch.
    Ticker,
    /// Writes, syncs or folds: it waits for the disk.
    Journal,
    /// Runs transactions.
    Daemon,
}

/// What a thread shows.
#[derive(Debug)]
pub struct Pulse {
    /// The thread.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Pieces of work begun.
    beats: AtomicU64,
    /// Milliseconds that the present one may take; 0 while the thread waits for work.
    allowed: AtomicU64,
    restarts: AtomicU64,
    gone: AtomicBool,
}

impl Pulse {
    /// What does the work died, and was started again.
    pub fn note_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that happened.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Pieces of work begun so far, and how long the present one may take; none while the thread
    /// waits.
    #[must_use]
    pub fn read(&self) -> (u64, Option<Duration>) {
        let beats = self.beats.load(Ordering::Acquire);
        let allowed = self.allowed.load(Ordering::Acquire);
        (beats, (allowed > 0).then(|| Duration::from_millis(allowed)))
    }
}

/// A thread's end of its pulse. When the thread panics, and it isn't a daemon's, whose root takes
/// care of it, the host ends in order.
#[derive(Debug)]
pub struct Heart {
    pulse: Arc<Pulse>,
    stop: Arc<StopLatch>,
}

impl Heart {
    /// A piece of work begins that may take `allowed`.
    pub fn work(&self, allowed: Duration) {
        let millis = u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX).max(1);
        self.pulse.beats.fetch_add(1, Ordering::AcqRel);
        self.pulse.allowed.store(millis, Ordering::Release);
    }

    /// What it shows.
    #[must_use]
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// The thread waits for more.
    pub fn rest(&self) {
        self.pulse.allowed.store(0, Ordering::Release);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.pulse.gone.store(true, Ordering::Release);
        if std::thread::panicking() && self.pulse.kind != Kind::Daemon {
            let text = format!("the thread `{}` panicked", self.pulse.name);
            // Another reason may have been there first; the stop is under way then.
            let _first = self.stop.emergency(Code::HostBug, text);
        }
    }
}

/// All pulses of a host, and its stop latch.
#[derive(Debug, Default)]
pub struct Vitals {
    stop: Arc<StopLatch>,
    pulses: Mutex<Vec<Arc<Pulse>>>,
}

impl Vitals {
    /// The stop latch.
    #[must_use]
    pub fn stop(&self) -> &Arc<StopLatch> {
        &self.stop
    }

    /// A heart for one more thread, which begins waiting.
    #[must_use]
    pub fn heart(&self, name: &str, kind: Kind) -> Heart {
        let pulse = Arc::new(Pulse {
            name: name.to_owned(),
            kind,
            beats: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        });
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.retain(|pulse| !pulse.gone.load(Ordering::Acquire));
        pulses.push(pulse.clone());
        Heart { pulse, stop: self.stop.clone() }
    }

    /// The pulses of all threads that have not ended.
    #[must_use]
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.iter().filter(|pulse| !pulse.gone.load(Ordering::Acquire)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_04_a_thread_of_the_host_that_panics_stops_it_and_a_daemons_does_not() {
        for (kind, stops) in [(Kind::Journal, true), (Kind::Daemon, false)] {
            let vitals = Vitals::default();
            let heart = vitals.heart("one", kind);
            heart.work(Duration::from_secs(1));
            assert_eq!(vitals.pulses()[0].read(), (1, Some(Duration::from_secs(1))));
            let thread = std::thread::spawn(move || {
                heart.rest();
                panic!("as it is tested");
            });
            assert!(thread.join().is_err());
            assert!(vitals.pulses().is_empty());
            let text = stops.then_some("the thread `one` panicked");
            assert_eq!((vitals.stop().is_set(), vitals.stop().text()), (stops, text));
        }
    }
}
