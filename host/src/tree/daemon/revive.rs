//! Going on after the daemon's thread died in the middle of anything.
//!
//! Nothing of what it was doing is believed but what is durable, or, without a journal, the
//! committed image; that one is replaced by nothing that fails in between, and if the thread died
//! right there, the daemon is parked.

use std::time::Duration;

use super::start::environment;
use super::{Daemon, Phase, Transacted};
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::pure::request::{Crash, Outcome};
use crate::tree::gauges::{Gauges, LastExit};

impl Daemon {
    /// Replaces the committed state by `work`; should the thread die in it, that is known.
    pub(super) fn replacing<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.halfway, true);
        let done = work(self);
        self.halfway = outer;
        done
    }

    /// How the request ended that ran when the thread died; `before` it was at this commit.
    pub(in crate::tree) fn died_in(&self, before: Sequence, panic: &str) -> Transacted {
        let message = format!("the daemon's thread died: {panic}");
        let outcome = if self.halfway || self.sequence != before {
            Outcome::Unknown(Fault::new(Code::HostBug, message))
        } else {
            Outcome::Crashed(Box::new(Crash {
                code: Code::HostBug,
                blame: Code::HostBug.blame(),
                message,
                backtrace: Vec::new(),
                fuel_used: 0,
                cards_changed: 0,
                attempt: 1,
                generation: self.generation,
                poison: false,
                report: None,
            }))
        };
        Gauges::add(&self.gauges.crashed, 1);
        Transacted { outcome, sequence: self.sequence, attempts: 1, shown: None }
    }

    /// A new instance on the committed state, after the thread before this one died of `panic`.
    /// With a journal the state is then stale: what is durable has to be loaded. A daemon that was
    /// parked stays so.
    pub(in crate::tree) fn revive(&mut self, panic: &str) {
        Gauges::set(&self.gauges.running, 0);
        Gauges::add(&self.gauges.restarts, 1);
        self.gauges.set_last_exit(LastExit {
            code: Code::HostBug,
            generation: self.generation.0,
            unix_nanos: self.now.unix_nanos,
        });
        let why = Fault::new(Code::HostBug, format!("its thread died: {panic}"));
        let parked = self.parked().cloned();
        let environment = environment(&self.options, &self.world).with_flags(self.flags.clone());
        let reason = parked.clone().unwrap_or_else(|| why.clone());
        // Whatever there was of an instance goes.
        self.phase = Phase::Parked(Box::new((environment, reason)));
        if let Some(recorder) = &mut self.recorder {
            recorder.doubt();
            self.halfway = false;
            return;
        }
        self.gauges.set_parked(None);
        let revived = match parked {
            Some(reason) => Err(reason),
            None if self.is_reader() => return self.revive_reader(),
            None if self.halfway => Err(self.lost(&why)),
            None => self.start_anew().and_then(|()| self.tell_restored()),
        };
        if let Err(reason) = revived {
            self.park(reason);
        }
        self.show_state();
    }

    /// Whatever was half done on its images is done again from what it follows.
    fn revive_reader(&mut self) {
        self.images.set_live_size_to_committed();
        self.images.load_committed();
        if let Phase::Parked(parked) = &mut self.phase {
            parked.1.code = Code::Unavailable;
        }
        self.gauges.set_parked(self.parked().cloned());
        self.follow(Duration::ZERO);
        self.show_state();
    }

    /// Why a daemon without a journal can't go on.
    fn lost(&self, why: &Fault) -> Fault {
        let message = format!("{why}, while its committed state was being replaced: it is lost");
        Fault::new(Code::HostBug, message)
    }

    /// Why the committed state can't be run on; none when it can.
    pub(super) fn state_lost(&self) -> Option<Fault> {
        self.parked().filter(|_| self.halfway).cloned()
    }
}
