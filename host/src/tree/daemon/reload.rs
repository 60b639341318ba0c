//! Going back to what is durable, after the journal failed and was opened again.
//!
//! Commits that were under way when it failed may be gone. The daemon loads its state as at a
//! start, and goes on with a new generation; nobody is answered in between.

use super::recorder::Recorder;
use super::start::{Sink, load_fault};
use super::{Bound, Daemon};
use crate::base::error::{Code, Fault};
use crate::base::ids::Generation;
use crate::mechanisms::journal::Nowhere;
use crate::pure::keys::Keys;

impl Daemon {
    /// The journal was opened again since the state was loaded, or the daemon's thread died: the
    /// state may hold commits that are gone, so nothing of it may be shown.
    pub(in crate::tree) fn is_stale(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::is_stale)
    }

    /// Another try to load the state may succeed, without a person who does something.
    pub(in crate::tree) fn may_reload(&self) -> bool {
        let hopeless =
            |reason: &Fault| matches!(reason.code, Code::StoreCorrupt | Code::CodeChanged);
        self.is_stale() && !self.parked().is_some_and(hopeless)
    }

    /// Loads the state again. When that fails the daemon is parked, stays stale, and this has to
    /// be tried again. All that it handed to the journal must have come back.
    pub(in crate::tree) fn reload(&mut self) {
        match self.load_again() {
            Ok(()) => {
                tracing::info!(daemon = self.options.name, sequence = %self.sequence, "reloaded");
                self.gauges.set_parked(None);
            }
            // It is tried again and again: one line says it.
            Err(reason) if self.parked().is_some_and(|before| before.code == reason.code) => {
                self.let_go(reason);
            }
            Err(reason) => self.park(reason),
        }
        self.show_state();
    }

    fn load_again(&mut self) -> Result<(), Fault> {
        let Some(recorder) = &self.recorder else { return Ok(()) };
        let seat = recorder.seat().clone();
        // Read first: when it is opened once more meanwhile, this is tried once more.
        let incarnation = seat.journal.incarnation();
        let failed = |fault| load_fault(&self.options.name, &fault);
        // Read without keeping anything, so that a failure leaves one state and not half of two.
        let loaded = seat.journal.load(seat.key, None, &mut Nowhere).map_err(failed)?;
        let code = *self.guest.facts().digest.as_bytes();
        if loaded.is_none() && self.unborn {
            let none = blake3::Hash::from_bytes([0; 32]);
            self.recorder = Some(Recorder::new(&seat, incarnation, code, none));
            return Ok(());
        }
        let Some(loaded) = loaded.filter(|loaded| loaded.code == code) else {
            let message = "what is durable was made by other code: start the host again";
            return Err(Fault::new(Code::CodeChanged, message));
        };
        let mut keys = Keys::default();
        self.images.clear_live();
        self.images.clear_committed();
        let mut sink = Sink { images: &mut self.images, keys: &mut keys };
        let failed = |fault| load_fault(&self.options.name, &fault);
        seat.journal.load(seat.key, None, &mut sink).map_err(failed)?;
        self.recorder = Some(Recorder::new(&seat, incarnation, code, loaded.hash));
        self.generation = self.generation.max(Generation(loaded.generation));
        self.sequence = loaded.sequence;
        (self.keys, self.hash) = (keys, None);
        (self.recover_failures, self.host_bugs) = (0, 0);
        self.start_anew()?;
        self.show_output();
        self.now.look(self.world.clock.as_ref());
        self.tell_restored()
    }

    /// Why a request that may write is refused before it runs.
    pub(super) fn journal_refuses(&self, bound: &Bound) -> Option<Fault> {
        let refusal = self.journal_refusal()?;
        let read_only = self.guest.contract_at(bound.contract).is_some_and(|one| one.read_only);
        (!read_only).then_some(refusal)
    }

    /// Why the journal takes no commit at the moment.
    pub(super) fn journal_refusal(&self) -> Option<Fault> {
        let refusal = self.recorder.as_ref()?.seat().journal.refusal()?;
        Some(Fault::from(&refusal))
    }
}
