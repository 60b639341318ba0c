//! After a crash: a new instance on the last commit, and what the policy says.

use super::{Daemon, Phase, own_context};
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::base::limits::{DEADLINE_DEFAULT, RECOVER_FUEL};
use crate::mechanisms::sandbox::{Caught, Environment, Instance, Limits, StartCause, StartError};
use crate::pure::policy::{
    AfterRecover, HOST_BUGS_MAX, OnCrash, RECOVER_FAILURES_MAX, Recovered, after_recover,
};
use crate::pure::record::Kind;
use crate::pure::request::Crash;
use crate::tree::gauges::{Gauges, LastExit};

/// For `recover` and `on-restore`.
pub(super) const RECOVER_LIMITS: Limits = Limits { fuel: RECOVER_FUEL, deadline: DEADLINE_DEFAULT };

/// `E_INIT` with the guest's own words.
pub(super) fn init_fault(name: &str, cause: &StartCause) -> Fault {
    let why = match cause {
        StartCause::Rejected(rejection) => {
            format!("its `init` refused: {}: {}", rejection.code, rejection.message)
        }
        StartCause::Crashed(caught) => {
            format!("its first start crashed: {}: {}", caught.code, caught.message)
        }
    };
    Fault::new(Code::Init, format!("daemon `{name}` can't make its first state: {why}"))
}

impl Daemon {
    /// Puts everything back, starts the guest again as the policy says, and reports.
    pub(super) fn crash(
        &mut self,
        caught: Caught,
        contract: u32,
        attempt: u32,
        fuel_used: u64,
    ) -> Crash {
        let started = self.world.clock.monotonic_nanos();
        let crashed_generation = self.generation;
        self.gauges.set_last_exit(LastExit {
            code: caught.code,
            generation: crashed_generation.0,
            unix_nanos: self.now.unix_nanos,
        });
        let changed = self.images.roll_back();
        let crash = Crash {
            code: caught.code,
            blame: caught.blame,
            message: caught.message,
            backtrace: caught.backtrace,
            fuel_used,
            cards_changed: changed.cards,
            attempt,
            generation: crashed_generation,
            poison: false,
            report: None,
        };
        let restarted = match crash.code {
            Code::Barrier => {
                self.images.load_committed();
                Err(Fault::new(Code::Barrier, crash.message.clone()))
            }
            Code::HostBug => self.after_host_bug(&crash),
            _ => Ok(()),
        };
        let restarted = restarted.and_then(|()| self.start_as_policy_says(&crash, contract));
        if let Err(reason) = restarted {
            self.park(reason);
        }
        let ended = self.world.clock.monotonic_nanos();
        self.gauges.record_restart(ended.saturating_sub(started));
        Gauges::set(&self.gauges.generation, self.generation.0);
        crash
    }

    fn after_host_bug(&mut self, crash: &Crash) -> Result<(), Fault> {
        self.host_bugs += 1;
        if self.host_bugs >= HOST_BUGS_MAX {
            return Err(Fault::new(Code::HostBug, crash.message.clone()));
        }
        Ok(())
    }

    fn start_as_policy_says(&mut self, crash: &Crash, contract: u32) -> Result<(), Fault> {
        match self.options.on_crash {
            _ if !self.keeps_state() => self.start_on_checkpoint(),
            OnCrash::Checkpoint => self.start_on_checkpoint(),
            OnCrash::Zero => self.replacing(Self::start_over),
            OnCrash::Ask if self.guest.hooks().recover => self.ask(crash, contract),
            OnCrash::Ask => self.start_on_checkpoint(),
        }
    }

    /// Replaces the instance, on the last commit, without a crash to report.
    pub(super) fn replace_instance(&mut self) -> Result<(), Caught> {
        self.images.roll_back();
        self.again().map_err(|fault| Caught::new(fault.code, fault.message))?;
        self.verify_put_back()
    }

    pub(super) fn start_on_checkpoint(&mut self) -> Result<(), Fault> {
        self.again()?;
        if let Err(mismatch) = self.verify_put_back() {
            self.images.load_committed();
            return Err(Fault::new(Code::Barrier, mismatch.message));
        }
        self.tell_restored()
    }

    /// Runs the guest's `on-restore`, if it has one, and commits what that changed. What one
    /// without a state of its own starts on is no earlier one.
    pub(super) fn tell_restored(&mut self) -> Result<(), Fault> {
        if !self.guest.hooks().on_restore || !self.keeps_state() {
            return Ok(());
        }
        let (generation, context) = (self.generation, own_context(&self.world));
        let Phase::Live(instance) = &mut self.phase else { return Ok(()) };
        match instance.on_restore(generation, &context, &RECOVER_LIMITS) {
            Ok(()) => self.commit_own(),
            Err(caught) => {
                tracing::warn!(daemon = self.options.name, code = %caught.code, "on-restore failed");
                self.count_failure(&caught)?;
                self.images.roll_back();
                self.again()
            }
        }
    }

    /// Asks the guest, on its last commit.
    fn ask(&mut self, crash: &Crash, contract: u32) -> Result<(), Fault> {
        self.start_on_checkpoint()?;
        self.renew().map_err(|caught| Fault::new(caught.code, caught.message))?;
        let name = self.guest.contract_at(contract).map_or("", |contract| &contract.name);
        let name = name.to_owned();
        let context = own_context(&self.world);
        let Phase::Live(instance) = &mut self.phase else { return Ok(()) };
        let answer = instance.recover(crash, &name, &context, &RECOVER_LIMITS);
        let recovered = answer.unwrap_or(Recovered::Failed);
        if recovered == Recovered::Failed {
            self.recover_failures += 1;
        }
        match after_recover(recovered, self.recover_failures) {
            AfterRecover::Commit => self.commit_own(),
            AfterRecover::Zero => self.replacing(Self::start_over),
            AfterRecover::Checkpoint => {
                tracing::warn!(
                    daemon = self.options.name,
                    "recover failed; back to the last commit"
                );
                self.images.roll_back();
                // Also when it is alive: its memory may have grown, which it must not remember.
                self.again()
            }
            AfterRecover::Park => {
                self.images.roll_back();
                let message = match recovered {
                    Recovered::Park => "its `recover` asked for a person".to_owned(),
                    _ => format!("its `recover` failed {RECOVER_FAILURES_MAX} times in a row"),
                };
                let (code, last) = (crash.code, &crash.message);
                Err(Fault::new(Code::Parked, format!("{message}; the last crash: {code}: {last}")))
            }
        }
    }

    /// Commits what `recover` or `on-restore` changed.
    fn commit_own(&mut self) -> Result<(), Fault> {
        let failures = self.recover_failures;
        self.replacing(|daemon| daemon.commit(None)).map_err(|caught| {
            self.images.load_committed();
            Fault::new(caught.code, caught.message)
        })?;
        // Only a request that commits shows that the guest is well.
        self.recover_failures = failures;
        Ok(())
    }

    fn count_failure(&mut self, caught: &Caught) -> Result<(), Fault> {
        self.recover_failures += 1;
        if self.recover_failures < RECOVER_FAILURES_MAX {
            return Ok(());
        }
        let message = format!("its `on-restore` failed {RECOVER_FAILURES_MAX} times in a row");
        Err(Fault::new(Code::Parked, format!("{message}: {}: {}", caught.code, caught.message)))
    }

    /// A new instance on the last commit. The images must be rolled back.
    pub(super) fn again(&mut self) -> Result<(), Fault> {
        self.generation = self.generation.next();
        let (generation, context) = (self.generation, own_context(&self.world));
        let environment = self.take_environment().ok_or_else(lost)?;
        let (guest, held, images) = (&self.guest, self.held.as_ref(), &mut self.images);
        match Instance::again(guest, images, environment, held, generation, &context) {
            Ok(instance) => {
                self.held = Some(instance.held().clone());
                self.phase = Phase::Live(instance);
                Ok(())
            }
            Err(error) => Err(self.could_not_start(error)),
        }
    }

    /// The state that `init` makes, as a commit of its own: the very first one of a daemon that has
    /// none yet.
    pub(super) fn start_over(&mut self) -> Result<(), Fault> {
        if !self.unborn {
            self.generation = self.generation.next();
        }
        let (generation, context) = (self.generation, own_context(&self.world));
        let environment = self.take_environment().ok_or_else(lost)?;
        let (guest, images, parameters) = (&self.guest, &mut self.images, &self.parameters);
        match Instance::first(guest, images, environment, parameters, generation, &context) {
            Ok(instance) => {
                self.held = Some(instance.held().clone());
                self.phase = Phase::Live(instance);
                let noted = self.note_output();
                self.images.commit_whole();
                let kind = if std::mem::take(&mut self.unborn) {
                    Kind::Init
                } else {
                    self.sequence = self.sequence.next();
                    self.keys.forget_from(Sequence(0));
                    Kind::Zero
                };
                let recorded = self.record(kind, None);
                self.show_output();
                noted.and(recorded).map_err(|caught| Fault::new(caught.code, caught.message))
            }
            Err(error) => {
                let fault = init_fault(&self.options.name, &error.cause);
                self.images.set_live_size_to_committed();
                self.images.load_committed();
                self.phase = Phase::Parked(Box::new((error.environment, fault.clone())));
                Err(fault)
            }
        }
    }

    fn could_not_start(&mut self, error: Box<StartError>) -> Fault {
        let fault = match &error.cause {
            StartCause::Crashed(caught) => {
                Fault::new(caught.code, format!("its restart failed: {}", caught.message))
            }
            StartCause::Rejected(rejection) => Fault::new(Code::Init, rejection.message.clone()),
        };
        self.images.set_live_size_to_committed();
        self.images.load_committed();
        self.phase = Phase::Parked(Box::new((error.environment, fault.clone())));
        fault
    }

    /// Waits for a person between two transactions.
    pub(in crate::tree) fn put_aside(&mut self, reason: Fault) {
        self.park(reason);
        self.show_state();
    }

    /// Waits for a person; with `E_UNAVAILABLE` for a resource.
    pub(super) fn park(&mut self, reason: Fault) {
        if reason.code == Code::Unavailable {
            return self.idle(reason);
        }
        tracing::error!(daemon = self.options.name, %reason, "parked");
        self.let_go(reason);
    }

    /// Drops the instance, if there is one, for this reason.
    pub(super) fn let_go(&mut self, reason: Fault) {
        self.gauges.set_parked(Some(reason.clone()));
        // Every path that takes it puts a phase back.
        let Some(environment) = self.take_environment() else { return };
        self.phase = Phase::Parked(Box::new((environment, reason)));
    }

    /// What outlives an instance, for the next one; the caller puts a phase back.
    fn take_environment(&mut self) -> Option<Environment> {
        match std::mem::replace(&mut self.phase, Phase::Between) {
            Phase::Live(instance) => Some(instance.into_environment()),
            Phase::Parked(parked) => Some(parked.0),
            Phase::Between => None,
        }
    }

    /// Starts a parked guest again on its last commit.
    ///
    /// # Errors
    ///
    /// The reason why it stays parked; a daemon that isn't parked is `Ok`.
    pub fn resume(&mut self) -> Result<(), Fault> {
        let Some(reason) = self.parked() else { return Ok(()) };
        if self.is_waiting() && self.is_reader() {
            return Ok(());
        }
        if self.is_stale() || self.is_waiting() {
            return Err(reason.clone());
        }
        if let Some(reason) = self.state_lost() {
            return Err(reason);
        }
        self.recover_failures = 0;
        self.host_bugs = 0;
        self.images.roll_back();
        let resumed = self.start_with_leases();
        match &resumed {
            Ok(()) => self.gauges.set_parked(None),
            Err(reason) => self.park(reason.clone()),
        }
        self.show_state();
        resumed
    }
}

fn lost() -> Fault {
    Fault::new(Code::HostBug, "the daemon lost its guest's environment")
}
