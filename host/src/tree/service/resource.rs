//! One resource, as the tree sees it: whether it is there, who needs it, and who holds a lease of
//! it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::clock::Clock;
use crate::base::error::{Code, Fault};
use crate::base::ids::{ConnectionId, LeaseId, LeaseIds, NodeId, RequestId, ResourceGeneration};
use crate::mechanisms::providers::{Caller, EffectCounts, Observer, Provider, Shown};
use crate::mechanisms::sandbox::Cancel;
use crate::pure::layers::{Stage, turn};
use crate::pure::lease::{Lease, Leases};
use crate::pure::needs::Slot;
use crate::pure::request::Stale;
use crate::pure::resource::{Change, Status};
use crate::tree::bits::KillBits;
use crate::tree::mailbox::Mailbox;

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
    /// What became of effects that were staged for it.
    pub effects: EffectCounts,
    /// Its leases, oldest first.
    pub leases: Vec<LeaseView>,
    /// The daemons that need it.
    pub needed_by: Vec<String>,
    /// The daemons that can do without it.
    pub used_by: Vec<String>,
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
    /// Its transaction lost a connection, and what that means is not known yet: it waits.
    pub(super) in_doubt: bool,
    pub(super) node: NodeId,
    /// It, or one of its contracts, can't do without.
    pub(super) needs: bool,
    /// It can't do without, whatever it is asked.
    pub(super) whole: bool,
    /// How many daemons start before it in a row.
    pub(super) layer: usize,
    /// It has a thread that follows what it is told, and says when it has.
    pub(super) follows: bool,
    pub(super) stage: Stage,
}

impl Dependent {
    fn down(&self, since_nanos: u64, why: Fault) {
        self.bits.set_down(self.slot, since_nanos, why);
    }

    fn up(&self) {
        self.bits.set_up(self.slot);
    }

    /// It is there again for this one.
    fn tell(&mut self) {
        let starts = self.follows && self.needs && self.mailbox.refuses().is_none();
        self.stage = if starts { Stage::Told } else { Stage::AtRest };
        self.up();
        self.mailbox.nudge();
    }
}

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
    /// Tells those whose turn it is that it is there again, layer by layer.
    fn go_on(&mut self) {
        loop {
            let stages = self.dependents.iter().map(|one| (one.layer, one.stage));
            let Some(layer) = turn(stages) else { return };
            let held = |one: &&mut Dependent| one.layer == layer && one.stage == Stage::Held;
            self.dependents.iter_mut().filter(held).for_each(Dependent::tell);
        }
    }

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
    caller: Caller,
    provider: Arc<dyn Provider>,
    state: Mutex<State>,
}

impl Resource {
    /// One that is not there yet.
    pub(super) fn new(
        name: &str,
        provider: &Arc<dyn Provider>,
        clock: &Arc<dyn Clock>,
        ids: &Arc<LeaseIds>,
        caller: Caller,
    ) -> Self {
        let now = clock.monotonic_nanos();
        let status = Status::Down { since_nanos: now, why: "it was not there yet".to_owned() };
        let state = State {
            shown: Shown { status, flaps: 0 },
            generation: ResourceGeneration(0),
            available: false,
            changed_nanos: now,
            leases: Leases::new(ids.clone(), LEASES_ROOM),
            dependents: Vec::new(),
        };
        Self {
            name: name.to_owned(),
            kind: provider.kind(),
            place: provider.place(),
            clock: clock.clone(),
            caller,
            provider: provider.clone(),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its name in its own service, by which guests call it.
    pub(super) fn short_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn provider(&self) -> &dyn Provider {
        self.provider.as_ref()
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether it may be used, and which generation of it.
    pub(super) fn stand(&self) -> (bool, ResourceGeneration) {
        let state = self.lock();
        (state.available, state.generation)
    }

    /// Why it is down, if it is.
    pub(super) fn why_down(&self) -> Option<String> {
        match &self.lock().shown.status {
            Status::Down { why, .. } => Some(why.clone()),
            Status::Available | Status::Held { .. } => None,
        }
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
            dependent.up();
        } else {
            let why = self.unavailable(&dependent.daemon, &state);
            dependent.down(state.since_nanos(), why);
        }
        state.dependents.push(dependent);
    }

    pub(super) fn detach(&self, daemon: &str) {
        let mut state = self.lock();
        state.dependents.retain(|dependent| *dependent.daemon != *daemon);
        state.go_on();
    }

    /// That one has followed what it was told up to this turn, or won't follow any: those after it
    /// may go on.
    pub(super) fn at_rest(&self, node: NodeId, turns: Option<u64>) {
        let mut state = self.lock();
        // Told again meanwhile, it comes again.
        let told = |one: &&mut Dependent| {
            let followed = turns.is_none_or(|turns| turns == one.bits.turns());
            one.node == node && one.stage == Stage::Told && followed
        };
        let Some(dependent) = state.dependents.iter_mut().find(told) else { return };
        dependent.stage = Stage::AtRest;
        state.go_on();
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

    pub(super) fn view(&self) -> ResourceView {
        let state = self.lock();
        let leases = state.leases.list().map(|(id, lease)| LeaseView {
            id,
            connection: lease.connection,
            daemon: lease.daemon,
            request: lease.request,
        });
        let of = |whole: bool| {
            let its = state.dependents.iter().filter(|dependent| dependent.whole == whole);
            let mut names: Vec<String> = its.map(|one| one.daemon.to_string()).collect();
            // All instances of a stateless daemon say the same.
            names.dedup();
            names
        };
        let (needed_by, used_by) = (of(true), of(false));
        ResourceView {
            name: self.name.clone(),
            kind: self.kind,
            place: self.place.clone(),
            status: state.shown.status.clone(),
            since_nanos: state.since_nanos(),
            generation: state.generation,
            flaps: state.shown.flaps,
            effects: self.caller.outbox().counts(),
            leases: leases.collect(),
            needed_by,
            used_by,
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
                for dependent in &mut state.dependents {
                    dependent.in_doubt = false;
                    dependent.stage = Stage::Held;
                }
                state.go_on();
                return;
            }
            Change::Down { since_nanos, why } => {
                state.available = false;
                let (since_nanos, why) = (*since_nanos, why.clone());
                state.shown.status = Status::Down { since_nanos, why: why.clone() };
                for dependent in &state.dependents {
                    let fault = self.unavailable(&dependent.daemon, &state);
                    dependent.down(since_nanos, fault);
                }
                state.dependents.iter_mut().for_each(|one| one.stage = Stage::AtRest);
                for (lease, ended) in state.leases.take_all() {
                    self.end_lease(lease, &ended, &why);
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

    fn uses(&self, lease: LeaseId, connection: ConnectionId) -> bool {
        self.lock().leases.connect(lease, connection)
    }

    fn connection_died(&self, connection: ConnectionId, why: &str) {
        let (mut state, now) = (self.lock(), self.clock.monotonic_nanos());
        let ended = state.leases.take_connection(connection);
        // Who needs it must not be started again before it is known whether it is there: it would
        // be started twice for one death.
        for dependent in &mut state.dependents {
            if ended.iter().any(|(_, lease)| lease.daemon == dependent.node) {
                dependent.in_doubt = true;
                let text = format!("resource `{}`: connection {connection}: {why}", self.name);
                dependent.down(now, Fault::new(Code::Unavailable, text));
                dependent.mailbox.nudge();
            }
        }
        for (lease, ended) in ended {
            self.end_lease(lease, &ended, &format!("connection {connection}: {why}"));
        }
    }

    fn cleared(&self) {
        let mut state = self.lock();
        if !state.available {
            return;
        }
        for dependent in state.dependents.iter_mut().filter(|dependent| dependent.in_doubt) {
            dependent.in_doubt = false;
            dependent.up();
            dependent.mailbox.nudge();
        }
    }
}

impl Resource {
    fn end_lease(&self, lease: LeaseId, ended: &Lease<Holder>, why: &str) {
        let (resource, why) = (self.name.clone(), why.to_owned());
        tracing::info!(resource, %lease, request = %ended.request, why, "a lease has ended");
        ended.holder.stale(ended.request, Stale { resource, lease, why });
    }
}
