//! All resources of a host: what is there, who needs it, and who holds a lease of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::hold::Hold;
use super::plan::ResourcePlan;
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::error::{Code, Fault};
use crate::base::ids::{ConnectionId, LeaseId, LeaseIds, NodeId, RequestId, ResourceGeneration};
use crate::base::limits::RESOURCES_START_WAIT;
use crate::base::stop::StopLatch;
use crate::base::vitals::Vitals;
use crate::mechanisms::providers::{Keeping, Observer, Providers, Shown, Switch};
use crate::mechanisms::sandbox::Cancel;
use crate::pure::lease::{Lease, Leases};
use crate::pure::needs::Slot;
use crate::pure::request::Stale;
use crate::pure::resource::{Change, Machine, Status};
use crate::tree::bits::KillBits;
use crate::tree::mailbox::Mailbox;
use crate::tree::root::DaemonPlan;

/// A lease, for whoever looks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseView {
    /// The lease.
    pub id: LeaseId,
    /// The connection that it uses, if it uses one.
    pub connection: Option<ConnectionId>,
    /// Whose it is.
    pub daemon: NodeId,
    /// The request that holds it; 0 for what the daemon does for itself.
    pub request: RequestId,
}

/// A resource, for whoever looks.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceView {
    /// Its name.
    pub name: String,
    /// The word for its kind.
    pub kind: &'static str,
    /// Where it is.
    pub place: String,
    /// Whether it is there, and why not.
    pub status: Status,
    /// Since when, in monotonic nanoseconds.
    pub since_nanos: u64,
    /// Grows with each recovery.
    pub generation: ResourceGeneration,
    /// Deaths so soon after a recovery that the next one waits longer.
    pub flaps: u32,
    /// Its leases, oldest first.
    pub leases: Vec<LeaseView>,
    /// The daemons that need it.
    pub needed_by: Vec<String>,
}

/// What can be cancelled for a lease.
type Holder = Arc<Cancel>;

/// A daemon that needs the resource.
pub(super) struct Dependent {
    pub(super) daemon: Arc<str>,
    /// The resource's place among its needs.
    pub(super) slot: Slot,
    pub(super) bits: Arc<KillBits>,
    pub(super) mailbox: Arc<Mailbox>,
}

/// How often a start looks whether its resources are there.
const RESOURCES_START_TICK: Duration = Duration::from_millis(2);

/// Leases of a resource for which there is room from the start: one per daemon that runs.
const LEASES_ROOM: usize = 16;

struct State {
    shown: Shown,
    generation: ResourceGeneration,
    /// Said by the last change. What `shown` says may be newer: nobody was told of that yet.
    available: bool,
    /// When that was, in monotonic nanoseconds.
    changed_nanos: u64,
    leases: Leases<Holder>,
    dependents: Vec<Dependent>,
}

impl State {
    fn since_nanos(&self) -> u64 {
        match self.shown.status {
            Status::Down { since_nanos, .. } | Status::Held { since_nanos } => since_nanos,
            Status::Available => self.changed_nanos,
        }
    }
}

/// One resource.
pub(super) struct Resource {
    name: String,
    kind: &'static str,
    place: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Resource {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Why `daemon` has to wait for it, if it has to.
    pub(super) fn lacking(&self, daemon: &str) -> Option<Fault> {
        let state = self.lock();
        (!state.available).then(|| self.unavailable(daemon, &state))
    }

    fn unavailable(&self, daemon: &str, state: &State) -> Fault {
        let why = match &state.shown.status {
            Status::Available => "it is about to be available",
            Status::Down { why, .. } => why,
            Status::Held { .. } => "it is held down by a person",
        };
        let message = format!("daemon `{daemon}` needs resource `{}`: {why}", self.name);
        Fault::new(Code::Unavailable, message)
    }

    /// Since when it is down, and what that means to `daemon`; none when it is there.
    pub(super) fn down(&self, slot: Slot, daemon: &str) -> Option<(Slot, u64, Fault)> {
        let state = self.lock();
        let down = !state.available;
        down.then(|| (slot, state.since_nanos(), self.unavailable(daemon, &state)))
    }

    /// From here on the daemon is told what becomes of it, beginning with how it is.
    pub(super) fn attach(&self, dependent: Dependent) {
        let mut state = self.lock();
        if state.available {
            dependent.bits.set_up(dependent.slot);
        } else {
            let why = self.unavailable(&dependent.daemon, &state);
            dependent.bits.set_down(dependent.slot, state.since_nanos(), why);
        }
        state.dependents.push(dependent);
    }

    pub(super) fn detach(&self, daemon: &str) {
        self.lock().dependents.retain(|dependent| *dependent.daemon != *daemon);
    }

    /// A lease for a request, which ends with the resource.
    pub(super) fn lease(
        &self,
        daemon: &str,
        node: NodeId,
        request: RequestId,
        cancel: &Holder,
    ) -> Result<LeaseId, Fault> {
        let mut state = self.lock();
        if !state.available {
            return Err(self.unavailable(daemon, &state));
        }
        let (generation, holder) = (state.generation, cancel.clone());
        let lease = Lease { generation, connection: None, daemon: node, request, holder };
        Ok(state.leases.acquire(lease))
    }

    /// The lease is not needed any more; nothing, if it has ended.
    pub(super) fn give_back(&self, lease: LeaseId) {
        let _ended_before = self.lock().leases.release(lease);
    }

    fn view(&self) -> ResourceView {
        let state = self.lock();
        let leases = state.leases.list().map(|(id, lease)| LeaseView {
            id,
            connection: lease.connection,
            daemon: lease.daemon,
            request: lease.request,
        });
        ResourceView {
            name: self.name.clone(),
            kind: self.kind,
            place: self.place.clone(),
            status: state.shown.status.clone(),
            since_nanos: state.since_nanos(),
            generation: state.generation,
            flaps: state.shown.flaps,
            leases: leases.collect(),
            needed_by: state.dependents.iter().map(|one| one.daemon.to_string()).collect(),
        }
    }
}

impl Observer for Resource {
    fn changed(&self, change: &Change) {
        let mut state = self.lock();
        state.changed_nanos = self.clock.monotonic_nanos();
        match change {
            Change::Up { generation } => {
                state.available = true;
                state.generation = *generation;
                for dependent in &state.dependents {
                    dependent.bits.set_up(dependent.slot);
                }
            }
            Change::Down { since_nanos, why } => {
                state.available = false;
                let (since_nanos, why) = (*since_nanos, why.clone());
                state.shown.status = Status::Down { since_nanos, why: why.clone() };
                for dependent in &state.dependents {
                    let fault = self.unavailable(&dependent.daemon, &state);
                    dependent.bits.set_down(dependent.slot, since_nanos, fault);
                }
                for (lease, ended) in state.leases.take_all() {
                    let (resource, why) = (self.name.clone(), why.clone());
                    ended.holder.stale(ended.request, Stale { resource, lease, why });
                }
            }
        }
        // A daemon that waits for requests looks at its bits when a message comes; one whose
        // mailbox is full looks anyway.
        for dependent in &state.dependents {
            dependent.mailbox.nudge();
        }
    }

    fn show(&self, shown: Shown) {
        self.lock().shown = shown;
    }
}

/// All resources of a host.
pub(in crate::tree) struct Board {
    resources: BTreeMap<String, (Arc<Resource>, Switch)>,
    /// None when there are no resources to keep.
    providers: Option<Providers>,
}

impl Board {
    /// Starts to keep all of these.
    ///
    /// # Errors
    ///
    /// When the machine gives no thread.
    pub(in crate::tree) fn start(
        plans: Vec<ResourcePlan>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
        vitals: &Arc<Vitals>,
    ) -> std::io::Result<Self> {
        if plans.is_empty() {
            return Ok(Self { resources: BTreeMap::new(), providers: None });
        }
        let (now, ids) = (clock.monotonic_nanos(), Arc::new(LeaseIds::default()));
        let mut resources = Vec::with_capacity(plans.len());
        let mut keepings = Vec::with_capacity(plans.len());
        for plan in plans {
            let machine = if plan.provider.can_die() {
                Machine::new(plan.policy, plan.jobs.len(), now)
            } else {
                Machine::stateless()
            };
            let why = "it was not there yet".to_owned();
            let status = Status::Down { since_nanos: now, why };
            let state = State {
                shown: Shown { status, flaps: 0 },
                generation: ResourceGeneration(0),
                available: false,
                changed_nanos: now,
                leases: Leases::new(ids.clone(), LEASES_ROOM),
                dependents: Vec::new(),
            };
            let resource = Arc::new(Resource {
                name: plan.name.clone(),
                kind: plan.provider.kind(),
                place: plan.provider.place(),
                clock: clock.clone(),
                state: Mutex::new(state),
            });
            keepings.push(Keeping {
                name: plan.name,
                provider: plan.provider,
                jobs: plan.jobs,
                machine,
                observer: resource.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
            });
            resources.push(resource);
        }
        let (providers, switches) = Providers::start(keepings, vitals)?;
        let resources = resources.into_iter().zip(switches);
        let resources =
            resources.map(|(resource, switch)| (resource.name.clone(), (resource, switch)));
        Ok(Self { resources: resources.collect(), providers: Some(providers) })
    }

    /// A daemon's end of the resources that it needs; none when it needs none.
    ///
    /// # Errors
    ///
    /// `E_RESOURCE_UNKNOWN`.
    pub(in crate::tree) fn hold(
        &self,
        daemon: &str,
        node: NodeId,
        needs: &[String],
    ) -> Result<Option<Arc<Hold>>, Fault> {
        let needs = needs.iter().map(|name| self.find(name).map(|(one, _)| one.clone()));
        let needs = needs.collect::<Result<Vec<_>, Fault>>()?;
        Ok((!needs.is_empty()).then(|| Arc::new(Hold::new(daemon, node, needs))))
    }

    /// By its whole name, or by its own when no other service has one of that name.
    fn find(&self, name: &str) -> Result<&(Arc<Resource>, Switch), Fault> {
        if let Some(found) = self.resources.get(name) {
            return Ok(found);
        }
        let same = |full: &&String| full.rsplit('/').next() == Some(name);
        let mut named = self.resources.keys().filter(same);
        match (named.next().and_then(|full| self.resources.get(full)), named.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => {
                let message = format!("several services have a resource `{name}`: SERVICE/NAME");
                Err(Fault::new(Code::ResourceUnknown, message))
            }
            (None, _) => {
                let name = crate::base::error::printable(name, 64);
                Err(Fault::new(Code::ResourceUnknown, format!("no resource `{name}`")))
            }
        }
    }

    /// All resources, by name.
    pub(in crate::tree) fn views(&self) -> Vec<ResourceView> {
        self.resources.values().map(|(resource, _)| resource.view()).collect()
    }

    /// Gives what these daemons need a moment to become available: a start is no flood of
    /// restarts. Those that still lack something then begin by waiting.
    pub(in crate::tree) fn wait_for(&self, plans: &[DaemonPlan], stop: &StopLatch) {
        let since = Instant::now();
        let needs = || plans.iter().flat_map(|plan| &plan.needs);
        let there = |name: &String| self.find(name).is_ok_and(|(one, _)| one.lock().available);
        while !needs().all(there) && !stop.is_set() && since.elapsed() < RESOURCES_START_WAIT {
            std::thread::sleep(RESOURCES_START_TICK);
        }
        for (resource, _) in self.resources.values() {
            let state = resource.lock();
            if let Status::Down { why, .. } = &state.shown.status
                && needs().any(|name| *name == resource.name)
            {
                tracing::warn!(resource = resource.name, why, "not available: who needs it waits");
            }
        }
    }

    /// Takes a resource down and holds it there, or lets go of it.
    ///
    /// # Errors
    ///
    /// `E_RESOURCE_UNKNOWN`; `E_QUEUE_FULL` while its keeper has not come to earlier switches.
    pub(in crate::tree) fn switch(&self, name: &str, down: bool) -> Result<String, Fault> {
        let (resource, switch) = self.find(name)?;
        let done = if down { switch.hold() } else { switch.release() };
        done.map_err(|_busy| {
            let message = format!("resource `{}` is being switched already", resource.name);
            Fault::new(Code::QueueFull, message)
        })?;
        Ok(resource.name.clone())
    }

    /// Lets go of all resources: closes every connection, ends the keepers' thread.
    pub(in crate::tree) fn stop(&self) {
        if let Some(providers) = &self.providers {
            providers.stop();
        }
    }
}
