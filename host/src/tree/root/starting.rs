//! The start of the daemons; and those that have a state and could not be started.
//!
//! A daemon without a state that can't be started ends the start: nothing is lost, and whoever
//! wrote its file or its options is there to read why. One that has a state is parked with the
//! reason, and the others start: its state is in the data directory, to be looked at, saved in a
//! snapshot, started again or removed.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::plan::{check_budget, check_count, check_names};
use super::{DaemonPlan, Deploy, Root, RootError, read};
use crate::base::error::{Code, Fault};
use crate::base::ids::NodeId;
use crate::base::limits::{TAKE_BACK_MAX, TAKE_BACK_TICK};
use crate::mechanisms::journal::{JournalFault, Store};
use crate::mechanisms::memory::{BillLine, Images};
use crate::tree::daemon::DaemonOptions;
use crate::tree::worker::{First, Starting, Worker};

/// A daemon that has a state and can't be started.
#[derive(Clone, Debug)]
pub struct Unstarted {
    /// How it would be run.
    pub options: DaemonOptions,
    /// It is a copy of another daemon or of a snapshot.
    pub copied: bool,
    /// The resources that it can't do without.
    pub needs: Vec<String>,
    /// Those that it can do without.
    pub uses: Vec<String>,
    /// Why it can't be started.
    pub why: Fault,
}

impl Unstarted {
    fn of(plan: &DaemonPlan, why: Fault) -> Self {
        let DaemonPlan { options, copied, needs, uses, .. } = plan.clone();
        Self { options, copied, needs, uses, why }
    }

    /// Of one that ran until it was to be removed.
    pub(super) fn once(worker: &Worker, why: Fault) -> Self {
        let (needs, uses) = (worker.needs.clone(), worker.uses.clone());
        Self { options: worker.options.clone(), copied: worker.copied, needs, uses, why }
    }

    /// What requests to it are answered.
    pub(super) fn refusal(&self) -> Fault {
        let (name, why) = (&self.options.name, &self.why);
        let remedy = why.code.remedy();
        let what = format!("daemon `{name}` could not be started");
        let message = format!("{what}: {}: {}. {remedy}", why.code, why.message);
        Fault::new(Code::Parked, message).blamed_on(why.blame)
    }
}

/// Whether a daemon has a state that would be missed.
pub(super) fn has_state(store: Option<&Arc<Store>>, plan: &DaemonPlan) -> bool {
    let kept = store.is_some_and(|store| store.may_have_state(&plan.options.name));
    kept && plan.options.stateless.is_none()
}

/// A plan, and why it can't be carried out.
pub(super) type Unfit = (DaemonPlan, RootError);

/// Leaves out the daemons with a state whose guests don't fit their budgets.
pub(super) fn fitting(
    plans: Vec<DaemonPlan>,
    store: Option<&Arc<Store>>,
) -> (Vec<DaemonPlan>, Vec<Unfit>) {
    let (mut fit, mut unfit) = (Vec::with_capacity(plans.len()), Vec::new());
    for plan in plans {
        match check_budget(&plan) {
            Err(error) if has_state(store, &plan) => unfit.push((plan, error)),
            // What is wrong with the others is said after the bill.
            Ok(()) | Err(_) => fit.push(plan),
        }
    }
    (fit, unfit)
}

impl Root {
    /// Starts all daemons, each layer when those below are ready. Those that have started are there
    /// to be stopped when one can't.
    pub(super) fn start_all(
        &mut self,
        plans: Vec<DaemonPlan>,
        mut images: impl Iterator<Item = Images>,
    ) -> Result<(), RootError> {
        let (mut starting, mut layer) = (Vec::with_capacity(plans.len()), 0);
        let mut started = Ok(());
        for plan in plans {
            if plan.layer > layer {
                layer = plan.layer;
                started = self.insert_started(starting.drain(..));
            }
            let its: Vec<Images> = images.by_ref().take(plan.names().count()).collect();
            started = started.and_then(|()| {
                let begun = self.begin(&plan, its, &mut starting);
                begun.or_else(|error| self.spare(&plan, error))
            });
            if started.is_err() {
                break;
            }
        }
        let rest = self.insert_started(starting);
        started.and(rest)
    }

    /// Starts one daemon; one of several instances, or with readers, when it is ready.
    fn begin(
        &mut self,
        plan: &DaemonPlan,
        images: Vec<Images>,
        starting: &mut Vec<Starting>,
    ) -> Result<(), RootError> {
        if plan.options.stateless.is_some() {
            return self.start_crew(plan, images);
        }
        if plan.options.readers > 0 {
            return self.start_with_readers(plan, images, starting);
        }
        for images in images {
            starting.push(self.ground.spawn(plan.clone(), images, First::Open, None)?);
        }
        Ok(())
    }

    /// Waits until these daemons are ready. When one without a state can't start, the others are
    /// there to be stopped.
    pub(super) fn insert_started(
        &self,
        all: impl IntoIterator<Item = Starting>,
    ) -> Result<(), RootError> {
        let mut first = Ok(());
        for starting in all {
            let plan = starting.plan.clone();
            match starting.wait(self.ground.vitals.stop()) {
                Ok(worker) => self.insert(worker),
                Err(fault) => first = first.and(self.spare(&plan, RootError::Daemon(fault))),
            }
        }
        first
    }

    fn insert(&self, worker: Worker) {
        self.note_code(&worker);
        let name = worker.options.name.clone();
        let mut daemons = self.daemons.write().unwrap_or_else(PoisonError::into_inner);
        daemons.insert(name, Arc::new(worker));
    }

    /// Writes down that a daemon runs its code, so that a file with it is known to be an older one
    /// after an upgrade.
    pub(super) fn note_code(&self, worker: &Worker) {
        let (Some(journal), Some(key)) = (&self.ground.journal, worker.key) else { return };
        let guest = worker.guest();
        let contracts = guest.contracts().iter().map(|contract| contract.name.clone());
        let digest = *guest.facts().digest.as_bytes();
        if let Err(fault) = journal.store.note_code(key, digest, contracts.collect()) {
            tracing::warn!(daemon = worker.options.name, %fault, "its code is not written down");
        }
    }

    /// A daemon whose state would be missed is parked with the reason.
    ///
    /// # Errors
    ///
    /// The reason, when it has no state, or when it is one of the whole host.
    pub(super) fn spare(&self, plan: &DaemonPlan, error: RootError) -> Result<(), RootError> {
        let store = self.ground.journal.as_ref().map(|journal| &journal.store);
        let own = match &error {
            RootError::Daemon(fault) => fault.code != Code::Stopping,
            RootError::Memory { .. } | RootError::Journal(_) => true,
            _ => false,
        };
        if !own || !has_state(store, plan) {
            return Err(error);
        }
        self.park_unstarted(Unstarted::of(plan, Fault::from(&error)));
        Ok(())
    }

    /// Notes a daemon that can't be started, and gives its memory back.
    pub(super) fn park_unstarted(&self, unstarted: Unstarted) {
        let (name, why) = (unstarted.options.name.clone(), &unstarted.why);
        tracing::error!(daemon = name, code = %why.code, "parked: {}", why.message);
        self.strike(&name);
        let mut all = self.unstarted.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, (self.ground.next_id(), unstarted));
    }

    /// Lets a daemon take no requests until a person resumes it, for this reason.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub fn park(&self, name: &str, why: Fault) -> Result<(), Fault> {
        self.control(name, move |daemon| {
            daemon.put_aside(why);
            Ok(())
        })
    }

    /// The daemons that could not be started, with their ids.
    pub(super) fn all_unstarted(&self) -> Vec<(NodeId, Unstarted)> {
        read(&self.unstarted).values().cloned().collect()
    }

    /// True of a daemon that has a state and could not be started.
    #[must_use]
    pub fn is_unstarted(&self, name: &str) -> bool {
        read(&self.unstarted).contains_key(name)
    }

    /// Why a daemon has no thread, when it could not be started.
    pub(super) fn why_unstarted(&self, name: &str) -> Option<Unstarted> {
        read(&self.unstarted).get(name).map(|(_, unstarted)| unstarted.clone())
    }

    /// Starts one more daemon while the others run: its memory is reserved now, inside the limit.
    pub(super) fn add(&self, plan: DaemonPlan, first: First) -> Result<(), RootError> {
        check_names(std::slice::from_ref(&plan), &[])?;
        check_budget(&plan)?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &plan.options.name;
        let journal = self.ground.journal.as_ref();
        if read(&self.daemons).contains_key(name)
            || self.crews.contains_key(name)
            || journal.is_some_and(|journal| journal.store.has_state(name))
        {
            return Err(RootError::Exists(name.clone()));
        }
        check_count(read(&self.daemons).len() + read(&self.unstarted).len() + 1)?;
        let name = name.clone();
        self.take_in(plan, first).map_err(|error| self.take_back(&name, error))
    }

    /// What was written of a copy that could not be started goes again: the next start would start
    /// it. When that can't be done in its time, the answer says so.
    fn take_back(&self, name: &str, error: RootError) -> RootError {
        let Some(journal) = &self.ground.journal else { return error };
        let why = Fault::from(&error);
        let left = if why.code == Code::Stopping {
            // Its thread may not have ended.
            "the host stops".to_owned()
        } else {
            match remove_in_time(&journal.store, name) {
                Ok(()) => return error,
                Err(fault) => fault.to_string(),
            }
        };
        let message = format!(
            "{}; what was written of it could not be taken back ({left}), so it may be there at \
             the next start: `host remove {name}` removes it",
            why.message
        );
        RootError::Daemon(Fault::new(why.code, message))
    }

    /// Starts a daemon of a name that is free. `changing` is held.
    fn take_in(&self, plan: DaemonPlan, first: First) -> Result<(), RootError> {
        let (name, budget_bytes) = (plan.options.name.clone(), plan.options.budget_bytes);
        self.charge(|bill| bill.lines.push(BillLine { name: name.clone(), budget_bytes }))?;
        let images = Images::new(budget_bytes, &plan.guest.shape()).map_err(RootError::from);
        let started = images.and_then(|images| {
            let starting = self.ground.spawn(plan, images, first, None)?;
            starting.wait(self.ground.vitals.stop()).map_err(RootError::Daemon)
        });
        self.insert(started.inspect_err(|_| self.strike(&name))?);
        Ok(())
    }

    /// Takes a daemon and its readers off the bill.
    pub(super) fn strike(&self, name: &str) {
        let mut bill = self.bill.write().unwrap_or_else(PoisonError::into_inner);
        let readers = format!("{name}/");
        bill.lines.retain(|line| line.name != name && !line.name.starts_with(&readers));
    }

    /// Tries once more to start a daemon that could not be started, with the code that made its
    /// state, which `deploy` makes a guest of. It has no readers then. False when `name` is none of
    /// these.
    ///
    /// # Errors
    ///
    /// Why it can't be started.
    pub fn start_unstarted(&self, name: &str, deploy: Deploy<'_>) -> Result<bool, Fault> {
        // One that is merely paused waits for no change of another.
        if !self.is_unstarted(name) {
            return Ok(false);
        }
        // Compiling takes its time; those who change another daemon don't wait for it.
        let guest = self.guest_of_state(name, deploy);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unstarted) = self.why_unstarted(name) else { return Ok(false) };
        let started = guest.and_then(|guest| {
            let Unstarted { options, copied, needs, uses, .. } = unstarted.clone();
            let options = DaemonOptions { readers: 0, ..options };
            let plan = DaemonPlan { copied, needs, uses, ..DaemonPlan::new(guest, options) };
            check_budget(&plan)
                .and_then(|()| self.take_in(plan, First::Open))
                .map_err(|error| Fault::from(&error))
        });
        let mut all = self.unstarted.write().unwrap_or_else(PoisonError::into_inner);
        match &started {
            Ok(()) => drop(all.remove(name)),
            Err(why) => {
                if let Some((_, unstarted)) = all.get_mut(name) {
                    unstarted.why = why.clone();
                }
            }
        }
        started.map(|()| true)
    }
}

/// Removes what a name has, as soon as the journal can be written.
pub(super) fn remove_in_time(store: &Store, name: &str) -> Result<(), JournalFault> {
    let since = Instant::now();
    while store.find_daemon(name).is_some() {
        match store.remove_daemon(name) {
            Ok(()) => break,
            Err(_) if since.elapsed() < TAKE_BACK_MAX => std::thread::sleep(TAKE_BACK_TICK),
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}
