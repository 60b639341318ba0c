//! The main loop: the process's first thread, which runs nothing and waits for nothing but the next
//! tick, so that it always finds a reason to stop.
//!
//! ```text
//!   signal handlers --- flag ---+
//!   host.stop, another process -+--> tick --> latch --> stop in order --> exit code
//!   any thread, by the latch ---+
//! ```
//!
//! Starting, serving and running a file of requests happen on threads of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use super::place::Place;
use super::signals::Signals;
use crate::base::children;
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Point};
use crate::base::limits::LOOP_TICK;
use crate::base::stop::Reason;
use crate::base::vitals::{Heart, Kind, Vitals};

/// What the main loop looks at.
#[derive(Debug)]
pub(super) struct MainLoop {
    vitals: Arc<Vitals>,
    signals: Signals,
    pub(super) place: Option<Place>,
    heart: Heart,
    /// How late a thread may be before the host counts as stuck.
    pub(super) slack: Duration,
}

impl MainLoop {
    pub(super) fn new(
        vitals: Arc<Vitals>,
        signals: Signals,
        place: Option<Place>,
        slack: Duration,
    ) -> Self {
        let heart = vitals.heart("main", Kind::Loop);
        Self { vitals, signals, place, heart, slack }
    }

    /// One look for a reason to stop.
    pub(super) fn tick(&self) -> Option<Reason> {
        self.heart.work(self.slack);
        // Its operation is a look, which can't fail.
        drop(failpoint::pass(Point::MainLoop));
        if std::process::id() == 1 {
            children::reap();
        }
        let stop = self.vitals.stop();
        // Whoever was first wins, so that the answers don't matter.
        if let Some(signal) = self.signals.came() {
            let _first = stop.trigger(Reason::Signal(signal));
        }
        if let Some(asked) = self.place.as_ref().and_then(Place::asked) {
            let _first = match asked.emergency {
                None => stop.trigger(Reason::Asked),
                Some(text) => {
                    if stop.is_set() && !stop.hurries() {
                        tracing::warn!("an emergency during the stop: {text}");
                    }
                    stop.emergency(Code::Emergency, text)
                }
            };
        }
        stop.reason()
    }

    /// Ticks until `work` has a result; none when there is a reason to stop before. A thread that
    /// ended without a result is one.
    pub(super) fn until<T>(&self, work: &Receiver<T>) -> Option<T> {
        while self.tick().is_none() {
            match work.recv_timeout(LOOP_TICK) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // Its own panic may have been there first.
                    let text = "a thread of the host ended without a result";
                    let _first = self.vitals.stop().emergency(Code::HostBug, text);
                }
            }
        }
        None
    }

    /// Runs `work` on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the machine gives no thread.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        kind: Kind,
        work: impl FnOnce(&Heart) -> T + Send + 'static,
    ) -> Result<Receiver<T>, Fault> {
        let (done, result) = sync_channel(1);
        let heart = self.vitals.heart(name, kind);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            // Nobody waits any more when the host leaves.
            drop(done.send(work(&heart)));
        });
        thread
            .map(|_runs| result)
            .map_err(|error| Fault::new(Code::NoMemory, format!("no thread `{name}`: {error}")))
    }

    /// The reason of the stop that is under way.
    pub(super) fn reason(&self) -> Reason {
        self.vitals.stop().reason().unwrap_or(Reason::Asked)
    }

    pub(super) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_14_the_loop_leaves_at_the_tick_after_the_latch_whoever_set_it_and_whenever() {
        let vitals = Arc::<Vitals>::default();
        let (done, result) = sync_channel(1);
        let main = MainLoop::new(vitals.clone(), Signals::default(), None, Duration::from_secs(60));
        done.send(7).unwrap();
        assert_eq!(main.until(&result), Some(7));
        // It is looked at before each wait: what is there by then does not count.
        let setter = std::thread::spawn(move || {
            std::thread::sleep(LOOP_TICK * 2);
            assert!(vitals.stop().trigger(Reason::Asked));
        });
        let since = std::time::Instant::now();
        assert_eq!(main.until(&result), None);
        assert!(since.elapsed() < Duration::from_secs(30));
        setter.join().unwrap();
        done.send(8).unwrap();
        assert_eq!((main.until(&result), result.try_recv()), (None, Ok(8)));
    }
}
