//! Waiting for a resource, and what a transaction that loses one comes to.
//!
//! A daemon that can't do without a resource has no instance while the resource is down: no guest
//! code runs before it is back, and nothing that the guest remembered of it is left. So each
//! recovery starts it exactly once. One that can do without goes on in a next generation at once.

use super::recovery::RECOVER_LIMITS;
use super::{Bound, Daemon, Phase, own_context};
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Point};
use crate::base::ids::RequestId;
use crate::mechanisms::providers::Staged;
use crate::pure::request::{Outcome, Stale};
use crate::tree::gauges::{DaemonState, Gauges};

/// Losing a lease in a row, with the resource there all the time, that a start takes.
const STALE_STARTS_MAX: u32 = 3;

/// What a daemon does for itself holds leases under this id.
const OWN: RequestId = RequestId(0);

impl Daemon {
    /// Waits for a resource.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.parked().is_some_and(|reason| reason.code == Code::Unavailable)
    }

    /// Has no state yet, since what it needs has not been there, or a reader has followed nobody.
    pub(in crate::tree) fn is_unborn(&self) -> bool {
        self.unborn || self.has_seen_nothing()
    }

    /// What a request is answered while there is no instance.
    pub(super) fn no_instance(&self) -> Option<Fault> {
        let reason = self.parked()?;
        if self.is_waiting() {
            return Some(reason.clone());
        }
        let message = format!("daemon `{}` is parked: {reason}", self.options.name);
        Some(Fault::new(Code::Parked, message).blamed_on(reason.blame))
    }

    /// Takes a lease of each resource that it needs, for a request; those that it has stay.
    pub(super) fn take_leases(&self, bound: &Bound) -> Result<(), Fault> {
        let Some(hold) = &self.world.hold else { return Ok(()) };
        let contract = self.guest.contract_at(bound.contract);
        let needs = contract.map(|contract| contract.needs.as_slice()).unwrap_or_default();
        let commits = contract.is_some_and(|contract| !contract.read_only);
        let commits = commits && self.keeps_state();
        hold.begin(bound.request, needs, commits, &self.flags.cancel)
    }

    /// The same for what it does for itself.
    fn take_own_leases(&self) -> Result<(), Fault> {
        self.world
            .hold
            .as_ref()
            .map_or(Ok(()), |hold| hold.begin(OWN, &[], false, &self.flags.cancel))
    }

    /// Gives back all leases; answers which of them ended before.
    pub(super) fn give_back_leases(&self, request: RequestId) -> Option<Stale> {
        self.world.hold.as_ref()?.end();
        drop(failpoint::pass(Point::LeasesGivenBack));
        // After that nobody names this request any more.
        self.flags.cancel.take_stale(request)
    }

    /// The effects that the running request has staged; they end with it unless they are taken.
    pub(super) fn take_staged_of_request(&self) -> Vec<Staged> {
        self.world.hold.as_ref().map(|hold| hold.take_staged()).unwrap_or_default()
    }

    /// The effects of the last request, if it has committed: they are released when its commit is
    /// durable.
    pub(in crate::tree) fn take_staged(&mut self) -> Vec<Staged> {
        std::mem::take(&mut self.staged)
    }

    /// Gives back what a thread left that died.
    pub(in crate::tree) fn drop_leases(&self) {
        if let Some(hold) = &self.world.hold {
            hold.end();
        }
    }

    /// Ends a transaction whose lease ended: it is no crash.
    pub(super) fn cancelled(&mut self, bound: &Bound, stale: Stale) -> Outcome {
        self.images.roll_back();
        Gauges::add(&self.gauges.cancelled, 1);
        let needed = self.world.hold.as_ref().is_some_and(|hold| hold.needs(&stale.resource));
        let went_on = if needed {
            self.wait_for(Fault::new(Code::Unavailable, stale.to_string()));
            Ok(None)
        } else {
            self.again()
                .and_then(|()| self.tell_restored())
                .and_then(|()| self.react(bound, &stale))
        };
        match went_on {
            Ok(Some(reaction)) => return reaction,
            Ok(None) => {}
            Err(reason) => self.park(reason),
        }
        Outcome::Cancelled(Box::new(stale))
    }

    /// What the guest answers after all, if it does: a fallback, or a no of its own. A read:
    /// nothing of it stays.
    ///
    /// # Errors
    ///
    /// When it crashed, and could not be started again.
    fn react(&mut self, bound: &Bound, stale: &Stale) -> Result<Option<Outcome>, Fault> {
        if !self.guest.hooks().on_stale {
            return Ok(None);
        }
        self.renew().map_err(|caught| Fault::new(caught.code, caught.message))?;
        let context = own_context(&self.world);
        let name = self.guest.contract_at(bound.contract).map_or("", |contract| &contract.name);
        let (name, limits) = (name.to_owned(), RECOVER_LIMITS);
        let Phase::Live(instance) = &mut self.phase else { return Ok(None) };
        let reaction = instance.on_stale(stale, &name, bound.request, &context, &limits);
        let answered = reaction.and_then(|reaction| {
            if let Some(Ok(value)) = &reaction {
                self.check_fallback(bound, value)?;
            }
            self.put_back()?;
            Ok(reaction)
        });
        match answered {
            Ok(None) => Ok(None),
            Ok(Some(Ok(value))) => {
                Gauges::add(&self.gauges.read, 1);
                Ok(Some(Outcome::Committed(value)))
            }
            Ok(Some(Err(rejection))) => {
                Gauges::add(&self.gauges.rejected, 1);
                Ok(Some(Outcome::Rejected(rejection)))
            }
            Err(caught) => {
                tracing::warn!(daemon = self.options.name, code = %caught.code, "on-stale failed");
                self.images.roll_back();
                self.again().map(|()| None)
            }
        }
    }

    /// Runs the guest's last transaction, if it has one: the host stops. What that commits has to
    /// be made durable.
    pub(in crate::tree) fn shut_down(&mut self) {
        if !self.guest.hooks().shutdown || self.journal_refusal().is_some() {
            return;
        }
        self.now.look(self.world.clock.as_ref());
        let context = own_context(&self.world);
        let limits = self.options.limits;
        if let Err(caught) = self.renew() {
            return self.idle(Fault::new(caught.code, caught.message));
        }
        if self.take_own_leases().is_err() {
            return;
        }
        let Phase::Live(instance) = &mut self.phase else { return };
        let ended = instance.shutdown(&context, &limits);
        let lost = self.give_back_leases(OWN);
        let committed = match (ended, lost) {
            (_, Some(stale)) => Err(stale.to_string()),
            (Ok(Ok(())), None) => self
                .replacing(|daemon| daemon.commit(None))
                .map_err(|caught| format!("{}: {}", caught.code, caught.message)),
            (Ok(Err(no)), None) => Err(format!("{}: {}", no.code, no.message)),
            (Err(caught), None) => Err(format!("{}: {}", caught.code, caught.message)),
        };
        if let Err(why) = committed {
            self.images.roll_back();
            tracing::warn!(daemon = self.options.name, why, "its shutdown was undone");
        }
        // Nothing runs on it any more, whatever state the instance is in.
        self.idle(Fault::new(Code::Stopping, "the host stops"));
    }

    /// Drops the instance until what it needs is there: between two transactions. One that waits
    /// for a person goes on doing so.
    pub(in crate::tree) fn wait_for(&mut self, why: Fault) {
        if self.parked().is_none() || self.is_waiting() {
            self.idle(why);
        }
    }

    /// Without an instance, for this reason.
    pub(super) fn idle(&mut self, why: Fault) {
        self.images.roll_back();
        self.let_go(why);
        self.show_state();
    }

    /// All that it needs is there: starts it, if it waits. What that commits has to be made
    /// durable.
    pub(in crate::tree) fn go_on(&mut self) {
        if !self.is_waiting() {
            return;
        }
        if self.is_reader() {
            return self.follow_on();
        }
        self.now.look(self.world.clock.as_ref());
        self.gauges.set_state(DaemonState::Restarting);
        match self.start_with_leases() {
            Ok(()) => {
                Gauges::add(&self.gauges.resource_restarts, 1);
                self.gauges.set_parked(None);
            }
            Err(reason) => self.park(reason),
        }
        self.show_state();
    }

    /// A new instance on the last commit, or the first one, with leases of what it needs.
    ///
    /// # Errors
    ///
    /// `E_UNAVAILABLE` when something isn't there, or is lost meanwhile; `E_HANDLE_STALE` when that
    /// happened again and again while everything was there.
    pub(super) fn start_with_leases(&mut self) -> Result<(), Fault> {
        let mut lost = String::new();
        for _ in 0..STALE_STARTS_MAX {
            self.take_own_leases()?;
            let started = if self.unborn { self.start_over() } else { self.start_on_checkpoint() };
            match self.give_back_leases(OWN) {
                None => return started,
                Some(stale) => lost = stale.to_string(),
            }
            self.idle(Fault::new(Code::Unavailable, lost.clone()));
        }
        let text = format!("{STALE_STARTS_MAX} starts in a row lost a lease; the last: {lost}");
        Err(Fault::new(Code::HandleStale, text))
    }
}
