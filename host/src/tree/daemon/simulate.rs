//! A crash on purpose: the promise, shown on the daemon that runs.

use std::time::Duration;

use super::{Daemon, Phase, own_context};
use crate::base::entropy::EntropyStream;
use crate::base::error::{Code, Fault};
use crate::base::ids::{Generation, Sequence};
use crate::base::limits::SCRIBBLED_CARDS;
use crate::mechanisms::sandbox::{Called, Caught, Limits};
use crate::tree::gauges::Gauges;

/// So little fuel that any function traps at once.
const TRAPPING: Limits = Limits { fuel: 1, deadline: Duration::from_secs(1) };

/// What a simulated crash did and showed.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// The last commit, before and after.
    pub sequence: Sequence,
    /// Hash of its state, by which the live memory after the crash was compared.
    pub hash: blake3::Hash,
    /// Hash of the live memory when it was ruined.
    pub ruined: blake3::Hash,
    /// Cards written over.
    pub cards: u32,
    /// How the instance ended.
    pub trap: Code,
    /// From the trap being raised to an instance that takes requests.
    pub recovery: Duration,
    /// The generation of that instance.
    pub generation: Generation,
}

impl Daemon {
    /// Writes random bytes over live memory and globals, lets the instance trap, and recovers: what
    /// a crash does, between two transactions. No crash of the guest is counted. A guest that wants
    /// to be told of restarts is told, and what it changes then is a commit.
    ///
    /// # Errors
    ///
    /// `E_PARKED` or `E_UNAVAILABLE` for a daemon that doesn't run; `E_HOST_BUG` when the state is
    /// not what it was: the daemon is then put back by a copy of its whole committed image.
    pub fn simulate_crash(&mut self) -> Result<Simulated, Fault> {
        if let Some(fault) = self.no_instance() {
            return Err(fault);
        }
        let (sequence, hash) = (self.sequence, self.committed_hash());
        let mut random = EntropyStream::new(self.world.entropy.seed());
        self.images.scribble(SCRIBBLED_CARDS, &mut random);
        let ruined = self.images.live_hash();
        let context = own_context(&self.world);
        let Phase::Live(instance) = &mut self.phase else {
            return Err(Fault::new(Code::HostBug, "a daemon that runs has no instance"));
        };
        let started = self.world.clock.monotonic_nanos();
        let no_arguments = [0x90].into();
        let trap = match instance.call(0, &no_arguments, context, &TRAPPING) {
            Called::Caught(Caught { code, .. }) => code,
            called => {
                tracing::warn!(?called, "a call without fuel returned");
                Code::OtherTrap
            }
        };
        let changed = self.images.roll_back();
        let again = self.again();
        let recovery = self.world.clock.monotonic_nanos().saturating_sub(started);
        if let Err(reason) = again {
            self.park(reason.clone());
            return Err(reason);
        }
        if self.images.live_hash() != hash {
            self.images.load_committed();
            let message = "live memory differs from the last commit after a simulated crash";
            return Err(Fault::new(Code::HostBug, message));
        }
        let simulated = Simulated {
            sequence,
            hash,
            ruined,
            cards: changed.cards,
            trap,
            recovery: Duration::from_nanos(recovery),
            generation: self.generation,
        };
        Gauges::set(&self.gauges.generation, self.generation.0);
        self.now.look(self.world.clock.as_ref());
        if let Err(reason) = self.tell_restored() {
            self.park(reason.clone());
            return Err(reason);
        }
        self.show_state();
        Ok(simulated)
    }
}
