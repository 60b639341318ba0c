//! New code on the same state: rehearsed whole on copies, then one swap between two transactions.
//!
//! ```text
//!   running code, its images          save, rolled back          [fails: as it was]
//!   new code, images of its own       load, on-restore, commit   [fails: images dropped]
//!                                     check, save, load, rolled back     [fails: images dropped]
//!   both values                       compared                   [a loss that nobody accepted]
//!   one record, one swap
//! ```
//!
//! What is compared: code of the same version saves again what it has loaded. Code of a newer
//! version makes something else of it; then what it has read in the old form has to be all.
//!
//! The running code saves on its live image, not on a copy of it: rolling back makes the copy
//! superfluous, since it leaves what was there, byte for byte.

use std::sync::Arc;
use std::time::Duration;

use super::output::set_output;
use super::start::environment;
use super::{Bound, Daemon, Moment, Phase, own_context};
use crate::base::error::{Blame, Code, Fault};
use crate::base::ids::{Generation, Sequence};
use crate::base::limits::SAVE_TRIAL_BYTES_MAX;
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::{Caught, Guest, Handover, Instance, StartCause};
use crate::pure::request::Rejection;
use crate::pure::size::show_bytes;
use crate::pure::upgrade::{
    ContractChanges, Incomparable, Loss, NO_FORM, SaveTrials, Side, admit, compare, rebind,
};
use crate::tree::gauges::Upgradable;

/// How far an upgrade goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UpgradeOptions {
    /// It is a rehearsal: all is done but the swap.
    pub dry_run: bool,
    /// What is lost may be lost.
    pub accept_loss: bool,
}

/// What an upgrade did, or would do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upgraded {
    /// Digest of the code that ran.
    pub from: blake3::Hash,
    /// Digest of the new code.
    pub to: blake3::Hash,
    /// Version in which the state was saved.
    pub from_version: u32,
    /// Version in which the new code saves it.
    pub to_version: u32,
    /// Bytes of the state as a value.
    pub value_bytes: usize,
    /// Bytes of the new code's memory.
    pub memory_bytes: usize,
    /// What callers find changed.
    pub contracts: ContractChanges,
    /// What is lost of the state, which somebody accepted; or why that is not known.
    pub loss: Result<Loss, String>,
    /// How long requests had to wait.
    pub took: Duration,
    /// The commit: the upgrade's own, or the last one when it was a rehearsal.
    pub sequence: Sequence,
    /// Generation of the instance that runs.
    pub generation: Generation,
    /// It was a rehearsal: the old code runs on.
    pub dry_run: bool,
}

impl Daemon {
    /// Goes on with other code, on the state that this code hands over. `images` are fresh ones of
    /// the new code's shape; their budget is the daemon's from then on. A parked daemon runs again.
    ///
    /// With `dry_run` everything is done but the swap.
    ///
    /// # Errors
    ///
    /// `E_UPGRADE_LOSS` names what would be lost, unless that is accepted.
    ///
    /// `E_UPGRADE_SAME`, `E_UPGRADE_FORM`, `E_UPGRADE_VERSION` and `E_MEM_LIMIT` before anything
    /// ran; `E_UPGRADE_SAVE`, `E_UPGRADE_LOAD` and `E_UPGRADE_CHECK` with the guest's own words.
    /// The daemon is as it was then, byte for byte; only its instance may be another one, when its
    /// `save` crashed.
    pub fn upgrade(
        &mut self,
        guest: Arc<Guest>,
        images: Images,
        options: UpgradeOptions,
    ) -> Result<Upgraded, Fault> {
        let UpgradeOptions { dry_run, accept_loss } = options;
        let started = self.world.clock.monotonic_nanos();
        let versions = admit(side(&self.guest), side(&guest))?;
        if self.is_waiting() {
            // Neither code may run before what it needs is there.
            return self.no_instance().map_or_else(|| Err(not_running()), Err);
        }
        let needs = usize::try_from(guest.facts().memory_minimum_bytes).unwrap_or(usize::MAX);
        if needs > images.budget() {
            let (needs, budget) = (show_bytes(needs), show_bytes(images.budget()));
            let message = format!("the new code starts with {needs} of memory, of {budget}");
            return Err(Fault::new(Code::MemoryLimit, message).blamed_on(Blame::Operator));
        }
        if let Some(refusal) = self.journal_refusal().filter(|_| !dry_run) {
            return Err(refusal);
        }
        let contracts = ContractChanges::between(self.guest.contracts(), guest.contracts());
        let (from, to) = (self.guest.facts().digest, guest.facts().digest);
        let parked = self.parked().cloned();
        let rehearsed = self.rehearse(guest, images, versions);
        let taken_over = rehearsed.and_then(|(next, value_bytes, loss)| {
            let memory_bytes = next.images.committed_size();
            if let Ok(loss) = &loss
                && !(accept_loss || loss.is_none())
            {
                return Err(Fault::new(Code::UpgradeLoss, loss.to_string()));
            }
            if !dry_run {
                self.replacing(|daemon| daemon.take_over(next))?;
            }
            Ok((value_bytes, memory_bytes, loss))
        });
        if let Some(reason) = parked.filter(|_| dry_run || taken_over.is_err()) {
            self.park(reason);
        }
        self.show_state();
        let (value_bytes, memory_bytes, loss) = taken_over?;
        let took = self.world.clock.monotonic_nanos().saturating_sub(started);
        Ok(Upgraded {
            from,
            to,
            from_version: versions.0,
            to_version: versions.1,
            value_bytes,
            memory_bytes,
            contracts,
            loss,
            took: Duration::from_nanos(took),
            sequence: self.sequence,
            generation: self.generation,
            dry_run,
        })
    }

    /// A daemon of the new code on this one's state, which has shown that it works; the bytes of
    /// the state as a value; and what of that is lost, or why that is not known.
    fn rehearse(
        &mut self,
        guest: Arc<Guest>,
        mut images: Images,
        (version, next_version): (u32, u32),
    ) -> Result<(Self, usize, Result<Loss, String>), Fault> {
        if let Some(reason) = self.state_lost() {
            return Err(reason);
        }
        if self.parked().is_some() {
            self.images.roll_back();
            self.again().map_err(|fault| failed(Code::UpgradeSave, RUNNING, &fault))?;
        }
        let old = Arc::new(self.save(usize::MAX, RUNNING)?);
        let mut options = self.options.clone();
        options.budget_bytes = images.budget();
        let flags = self.flags.clone();
        let environment = environment(&options, &self.world).with_flags(flags.clone());
        let (generation, context) = (self.generation.next(), own_context(&self.world));
        let (value, means) = ((version, old.clone()), (&context, &options.upgrade_limits));
        let loaded = Instance::load(&guest, &mut images, environment, value, generation, means);
        let (instance, read) = loaded.map_err(|error| match &error.cause {
            StartCause::Rejected(no) => rejected(Code::UpgradeLoad, NEW, no),
            StartCause::Crashed(caught) => crashed(Code::UpgradeLoad, NEW, caught),
        })?;
        set_output(&instance, &mut images)
            .map_err(|caught| crashed(Code::UpgradeLoad, NEW, &caught))?;
        let world = self.world.clone();
        let mut next = Self::new(guest, images, instance, flags, options, world, generation);
        next.first_commit()?;
        next.check()?;
        let new = next.save_and_load(usize::MAX, NEW)?;
        let read = if version == next_version { new } else { Arc::new(read) };
        let loss = next.compare(&old, &read);
        Ok((next, old.bytes(), loss))
    }

    /// What is lost of a state; or why that is not known.
    fn compare(&self, old: &Handover, read: &Handover) -> Result<Loss, String> {
        if read.bytes() == 0 {
            return Err("the new code doesn't say what it has read of the old form".to_owned());
        }
        if old.pieces() == read.pieces() {
            return Ok(Loss::default());
        }
        let go_on = || self.flags.cancel.hits(own_context(&self.world).request).is_none();
        let why = |error: Incomparable| format!("the state can't be compared: {error}");
        compare(old.pieces(), read.pieces(), &go_on).map_err(why)
    }

    /// Tells the new code its generation and commits the state that it made.
    fn first_commit(&mut self) -> Result<(), Fault> {
        let (generation, context) = (self.generation, own_context(&self.world));
        if let Phase::Live(instance) = &mut self.phase
            && self.guest.hooks().on_restore
        {
            let told = instance.on_restore(generation, &context, &super::recovery::RECOVER_LIMITS);
            told.map_err(|caught| crashed(Code::UpgradeLoad, NEW, &caught))?;
            self.note_output().map_err(|caught| crashed(Code::UpgradeLoad, NEW, &caught))?;
        }
        self.images.commit_whole();
        self.verify_put_back().map_err(|caught| crashed(Code::UpgradeLoad, NEW, &caught))
    }

    fn check(&mut self) -> Result<(), Fault> {
        self.renew_aside(Code::UpgradeCheck, NEW)?;
        let context = own_context(&self.world);
        let Phase::Live(instance) = &mut self.phase else { return Err(not_running()) };
        let checked = instance.check(&context, &self.options.upgrade_limits);
        let put_back = self.after_aside(checked.is_ok());
        checked
            .map_err(|caught| crashed(Code::UpgradeCheck, NEW, &caught))?
            .map_err(|rejection| rejected(Code::UpgradeCheck, NEW, &rejection))?;
        put_back
    }

    /// Lets the guest save, and puts back what that changed. `whose` code it is, for the error.
    fn save(&mut self, keep: usize, whose: &str) -> Result<Handover, Fault> {
        self.renew_aside(Code::UpgradeSave, whose)?;
        let started = self.world.clock.monotonic_nanos();
        let context = own_context(&self.world);
        let Phase::Live(instance) = &mut self.phase else { return Err(not_running()) };
        let saved = instance.save(keep, &context, &self.options.upgrade_limits);
        let put_back = self.after_aside(saved.is_ok());
        let ended = self.world.clock.monotonic_nanos();
        self.trials.tried(self.sequence, started, ended);
        let saved = saved
            .map_err(|caught| crashed(Code::UpgradeSave, whose, &caught))
            .and_then(|answer| answer.map_err(|no| rejected(Code::UpgradeSave, whose, &no)))
            .and_then(|value| put_back.map(|()| value));
        self.gauges.set_upgradable(match &saved {
            Ok(value) => Upgradable::Yes {
                version: self.guest.upgrade().unwrap_or_default(),
                value_bytes: value.bytes() as u64,
            },
            Err(fault) => Upgradable::No(fault.to_string()),
        });
        saved
    }

    /// Begins a call beside the transactions; a daemon that can't have an instance is parked.
    fn renew_aside(&mut self, step: Code, whose: &str) -> Result<(), Fault> {
        self.renew().map_err(|caught| {
            let failed = crashed(step, whose, &caught);
            self.park(Fault::new(caught.code, caught.message));
            failed
        })
    }

    /// Lets the guest save, and load that again: a state that no code can load has no form. One of
    /// more than `keep` bytes is not loaded. Puts back what that changed.
    fn save_and_load(&mut self, keep: usize, whose: &str) -> Result<Arc<Handover>, Fault> {
        let started = self.world.clock.monotonic_nanos();
        let value = Arc::new(self.save(keep, whose)?);
        if value.bytes() > keep {
            return Ok(value);
        }
        self.renew_aside(Code::UpgradeSave, whose)?;
        let version = self.guest.upgrade().unwrap_or_default();
        let context = own_context(&self.world);
        let Phase::Live(instance) = &mut self.phase else { return Err(not_running()) };
        let limits = &self.options.upgrade_limits;
        let loaded = instance.load_again((version, value.clone()), &context, limits);
        let put_back = self.after_aside(loaded.is_ok());
        self.trials.tried(self.sequence, started, self.world.clock.monotonic_nanos());
        if loaded.as_ref().is_err_and(|caught| caught.code == Code::OutOfMemory) {
            // Beside the remains of the state that it had; an upgrade loads into empty memory.
            return put_back.map(|()| value);
        }
        let loaded = loaded
            .map_err(|caught| not_loaded(whose, &format!("{}: {}", caught.code, caught.message)))
            .and_then(|answer| {
                let words = |no: Rejection| format!("{}: {}", no.code, no.message);
                answer.map_err(|no| not_loaded(whose, &words(no)))
            })
            .and(put_back);
        if let Err(fault) = &loaded {
            self.gauges.set_upgradable(Upgradable::No(fault.to_string()));
        }
        loaded.map(|()| value)
    }

    /// Puts back what a call beside the transactions changed. After a crash (not `alive`) the
    /// instance is another one; a daemon that can't have one is parked.
    fn after_aside(&mut self, alive: bool) -> Result<(), Fault> {
        let put_back = if alive { self.put_back() } else { self.replace_instance() };
        put_back.map_err(|caught| {
            if caught.code == Code::Barrier {
                self.images.load_committed();
            }
            let reason = Fault::new(caught.code, caught.message);
            self.park(reason.clone());
            reason
        })
    }

    /// Records the new code's state as the next commit, and becomes the daemon that has it.
    fn take_over(&mut self, next: Self) -> Result<(), Fault> {
        self.now.look(self.world.clock.as_ref());
        let (sequence, generation) = (self.sequence.next(), next.generation);
        let moment = Moment { sequence, generation, unix_nanos: self.now.unix_nanos };
        if let Some(recorder) = &mut self.recorder {
            let code = *next.guest.facts().digest.as_bytes();
            recorder
                .record_upgrade(code, &next.images, moment)
                .map_err(|caught| Fault::new(caught.code, caught.message))?;
        }
        // Nothing fails from here on. The old instance goes before its images do.
        self.phase = next.phase;
        self.images = next.images;
        self.guest = next.guest;
        self.options = next.options;
        self.held = next.held;
        self.sequence = sequence;
        self.generation = generation;
        self.recover_failures = 0;
        self.host_bugs = 0;
        self.trials = next.trials;
        self.trials.is_of(sequence);
        self.gauges.set_parked(None);
        self.gauges.set_upgradable(next.gauges.report().upgradable);
        self.show_output();
        Ok(())
    }

    /// Tries whether the state could be handed over now, and shows the outcome in its numbers.
    pub fn try_save(&mut self) -> Upgradable {
        let before = self.gauges.report().upgradable;
        if self.parked().is_none() && self.guest.upgrade().is_some() {
            // Shown, which is what it is for.
            drop(self.save_and_load(SAVE_TRIAL_BYTES_MAX, RUNNING));
        }
        let upgradable = self.gauges.report().upgradable;
        if upgradable != before {
            self.warn_of(&upgradable);
        }
        upgradable
    }

    /// How long until [`Daemon::try_save`] is due; none when there is nothing new to try. `now` is
    /// monotonic.
    #[must_use]
    pub fn save_trial_wait(&self, now: u64) -> Option<Duration> {
        if !self.hands_over() || self.guest.upgrade().is_none() || self.parked().is_some() {
            return None;
        }
        self.trials.wait(self.sequence, now).map(Duration::from_nanos)
    }

    /// Shows what is known before anything was tried.
    pub(super) fn show_form(&mut self, trials: SaveTrials) {
        self.trials = trials;
        if self.hands_over() && self.guest.upgrade().is_none() {
            let upgradable = Upgradable::No(NO_FORM.to_owned());
            self.warn_of(&upgradable);
            self.gauges.set_upgradable(upgradable);
        }
    }

    /// Whether it has a state that other code could take over.
    fn hands_over(&self) -> bool {
        self.keeps_state()
    }

    fn warn_of(&self, upgradable: &Upgradable) {
        if let Upgradable::No(reason) = upgradable {
            tracing::warn!(daemon = self.options.name, reason, "it can't be upgraded");
        }
    }

    /// Binds a request to the code that runs now; it was bound to `guest`.
    ///
    /// # Errors
    ///
    /// `E_CONTRACT_UNKNOWN` and `E_ARGS` when an upgrade came in between that took its contract.
    pub fn rebind(&self, bound: Bound, guest: &Guest) -> Result<Bound, Fault> {
        let contract = match guest.contract_at(bound.contract) {
            Some(contract) => rebind(contract, self.guest.contracts())?,
            None => bound.contract,
        };
        Ok(Bound { contract, ..bound })
    }
}

const RUNNING: &str = "the running code";
const NEW: &str = "the new code";

fn side(guest: &Guest) -> Side {
    Side { digest: guest.facts().digest, version: guest.upgrade() }
}

fn failed(code: Code, whose: &str, reason: &dyn std::fmt::Display) -> Fault {
    let step = match code {
        Code::UpgradeSave => "save the state",
        Code::UpgradeLoad => "load the state",
        _ => "check the state",
    };
    Fault::new(code, format!("{whose} could not {step}: {reason}"))
}

fn rejected(code: Code, whose: &str, rejection: &Rejection) -> Fault {
    failed(code, whose, &format!("{}: {}", rejection.code, rejection.message))
}

fn crashed(code: Code, whose: &str, caught: &Caught) -> Fault {
    failed(code, whose, &format!("{}: {}", caught.code, caught.message))
}

fn not_loaded(whose: &str, reason: &str) -> Fault {
    let message = format!("{whose} saves what it can't load again itself: {reason}");
    Fault::new(Code::UpgradeSave, message)
}

fn not_running() -> Fault {
    Fault::new(Code::HostBug, "the daemon has no instance")
}
