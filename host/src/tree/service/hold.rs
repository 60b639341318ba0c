//! One daemon's end of the resources: what it needs and what it uses, and the leases of what it
//! runs.
//!
//! What a daemon *needs* it has a lease of from the beginning of each transaction, and it waits
//! without an instance while that is down. What it merely *uses* it gets a lease of at the first
//! call, and while that is down the call says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::resource::{Dependent, Resource};
use crate::base::error::{Code, Fault};
use crate::base::ids::{LeaseId, NodeId, RequestId, ResourceGeneration};
use crate::base::ticket::{Claim, ticket};
use crate::mechanisms::providers::{Call, Effect, Seat, Staged};
use crate::mechanisms::sandbox::{Cancel, Guest, Outside};
use crate::pure::layers::Stage;
use crate::pure::manifest::example;
use crate::pure::needs::{Slot, Slots};
use crate::pure::resource::operation::{CallError, CallResult, Operation};
use crate::tree::bits::KillBits;
use crate::tree::mailbox::Mailbox;

/// The resources that a daemon needs or uses, and its leases of them.
pub struct Hold {
    daemon: Arc<str>,
    node: NodeId,
    /// How many daemons start before it in a row.
    layer: usize,
    /// First those that it needs.
    resources: Vec<Arc<Resource>>,
    needs: usize,
    /// What each contract needs beside that, of the guest that it was started with.
    contracts: BTreeMap<String, Slots>,
    running: Mutex<Running>,
}

/// What runs, and its leases.
struct Running {
    request: Option<(RequestId, Arc<Cancel>)>,
    held: Vec<Held>,
    /// It commits, so it may stage effects.
    commits: bool,
    staged: Vec<Staged>,
}

/// A lease of the resource at that place.
struct Held {
    place: usize,
    lease: LeaseId,
    /// From its first call on.
    seat: Option<Arc<Seat>>,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("daemon", &self.daemon).finish_non_exhaustive()
    }
}

impl Hold {
    pub(super) fn new(
        (daemon, node, layer): (&str, NodeId, usize),
        needs: Vec<Arc<Resource>>,
        uses: Vec<Arc<Resource>>,
        guest: &Guest,
    ) -> Result<Self, Fault> {
        let (count, mut resources) = (needs.len(), needs);
        resources.extend(uses);
        let held = Vec::with_capacity(resources.len());
        let running = Running { request: None, held, commits: false, staged: Vec::new() };
        let running = Mutex::new(running);
        let (daemon, contracts) = (daemon.into(), BTreeMap::new());
        let mut hold = Self { daemon, node, layer, resources, needs: count, contracts, running };
        hold.contracts = hold.contract_needs(guest)?;
        Ok(hold)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn needed(&self) -> &[Arc<Resource>] {
        self.resources.get(..self.needs).unwrap_or_default()
    }

    /// From here on the daemon hears of its resources: its bits say what it lacks, and what each
    /// contract of its guest does.
    pub(in crate::tree) fn attach(&self, bits: &Arc<KillBits>, mailbox: &Arc<Mailbox>) {
        self.attach_as(self.node, bits, mailbox);
    }

    /// The same for what is no daemon with leases of its own, under another node.
    pub(in crate::tree) fn attach_as(
        &self,
        node: NodeId,
        bits: &Arc<KillBits>,
        mailbox: &Arc<Mailbox>,
    ) {
        let contracts = self.contracts.clone();
        let needs = self.slots().take(self.needs).map(|(slot, _)| slot);
        let down = self.slots().filter_map(|(slot, resource)| resource.down(slot, &self.daemon));
        let whole: Slots = needs.collect();
        let needed = contracts.values().copied().fold(whole, Slots::union);
        bits.set_needs(down.collect(), whole, contracts);
        // What changes between that and this is told again here.
        for (slot, resource) in self.slots() {
            let (daemon, bits, mailbox) = (self.daemon.clone(), bits.clone(), mailbox.clone());
            resource.attach(Dependent {
                daemon,
                slot,
                bits,
                mailbox,
                in_doubt: false,
                node,
                needs: needed.contains(slot),
                whole: whole.contains(slot),
                layer: self.layer,
                follows: node == self.node,
                stage: Stage::default(),
            });
        }
    }

    /// The daemon has followed what its bits said up to this turn, or won't follow any.
    pub(in crate::tree) fn at_rest(&self, turns: Option<u64>) {
        for resource in &self.resources {
            resource.at_rest(self.node, turns);
        }
    }

    /// What each contract of a guest needs beside what the whole daemon does.
    ///
    /// # Errors
    ///
    /// `E_RESOURCE_UNKNOWN` when the daemon hasn't got it.
    fn contract_needs(&self, guest: &Guest) -> Result<BTreeMap<String, Slots>, Fault> {
        let mut needs = BTreeMap::new();
        for contract in guest.contracts().iter().filter(|contract| !contract.needs.is_empty()) {
            let slot = |name: &String| {
                let place = self.find(name).map(|(place, _)| place);
                place.and_then(Slot::new).ok_or_else(|| lacks(&self.daemon, &contract.name, name))
            };
            let slots = contract.needs.iter().map(slot).collect::<Result<Slots, Fault>>()?;
            needs.insert(contract.name.clone(), slots);
        }
        Ok(needs)
    }

    fn slots(&self) -> impl Iterator<Item = (Slot, &Arc<Resource>)> {
        let numbered = self.resources.iter().enumerate();
        numbered.filter_map(|(index, resource)| Some((Slot::new(index)?, resource)))
    }

    /// The daemon is gone.
    pub(in crate::tree) fn detach(&self) {
        self.end();
        for resource in &self.resources {
            resource.detach(&self.daemon);
        }
    }

    /// Whether the daemon can't do without this resource.
    pub(in crate::tree) fn needs(&self, resource: &str) -> bool {
        self.needed().iter().any(|needed| needed.name() == resource)
    }

    /// What it lacks at the moment.
    pub(in crate::tree) fn lacking(&self) -> Option<Fault> {
        self.needed().iter().find_map(|resource| resource.lacking(&self.daemon))
    }

    /// Takes a lease of each resource that it needs, and the contract, for a request, or none at
    /// all; those that it has stay. Effects can be staged if it `commits`.
    ///
    /// # Errors
    ///
    /// `E_UNAVAILABLE`.
    pub(in crate::tree) fn begin(
        &self,
        request: RequestId,
        contract: &[String],
        commits: bool,
        cancel: &Arc<Cancel>,
    ) -> Result<(), Fault> {
        let mut running = self.lock();
        running.commits = commits;
        if running.request.as_ref().is_some_and(|(its, _)| *its == request) {
            return Ok(());
        }
        running.request = Some((request, cancel.clone()));
        let its = contract.iter().filter_map(|name| self.find(name));
        let whole = self.needed().iter().enumerate();
        for (place, resource) in whole.chain(its.filter(|(place, _)| *place >= self.needs)) {
            match resource.lease(&self.daemon, self.node, request, cancel) {
                Ok(lease) => running.held.push(Held { place, lease, seat: None }),
                Err(fault) => {
                    self.give_back(&mut running);
                    // Another one may have ended meanwhile; nothing runs that this would cancel.
                    let _ended = cancel.take_stale(request);
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// The effects that were staged so far; they are not the running transaction's any more.
    pub(in crate::tree) fn take_staged(&self) -> Vec<Staged> {
        std::mem::take(&mut self.lock().staged)
    }

    /// Gives all leases back, and forgets staged effects. After that nobody cancels the request for
    /// them any more.
    pub(in crate::tree) fn end(&self) {
        self.give_back(&mut self.lock());
    }

    fn give_back(&self, running: &mut Running) {
        running.request = None;
        running.staged.clear();
        for Held { place, lease, seat } in running.held.drain(..) {
            if let Some(seat) = seat {
                seat.end();
            }
            if let Some(resource) = self.resources.get(place) {
                resource.give_back(lease);
            }
        }
    }

    /// Those of each of its resources that has some; of two with one name the later one counts.
    fn constants(&self) -> impl Iterator<Item = &BTreeMap<String, String>> {
        self.resources.iter().filter_map(|resource| resource.provider().values())
    }

    fn find(&self, name: &str) -> Option<(usize, &Arc<Resource>)> {
        self.resources.iter().enumerate().find(|(_, resource)| resource.short_name() == name)
    }

    /// The seat of the running request at a resource, with a lease of it.
    fn seat(&self, place: usize, resource: &Resource) -> Result<Arc<Seat>, CallError> {
        let mut running = self.lock();
        let Some((request, cancel)) = running.request.clone() else {
            return Err(CallError::Unavailable("no transaction runs".to_owned()));
        };
        let index = match running.held.iter().position(|held| held.place == place) {
            Some(index) => index,
            None => {
                let lease = resource.lease(&self.daemon, self.node, request, &cancel);
                let lease = lease.map_err(|fault| CallError::Unavailable(fault.message))?;
                running.held.push(Held { place, lease, seat: None });
                running.held.len() - 1
            }
        };
        let Some(held) = running.held.get_mut(index) else { return Err(CallError::Died) };
        Ok(held.seat.get_or_insert_with(|| resource.caller().seat(held.lease)).clone())
    }
}

/// `E_RESOURCE_UNKNOWN` for a resource that a contract needs and its daemon doesn't name.
#[must_use]
pub fn lacks(daemon: &str, contract: &str, resource: &str) -> Fault {
    let what = format!("contract `{contract}` needs resource `{resource}`");
    let message = format!("daemon `{daemon}`: {what}, which is in neither `needs` nor `uses`");
    Fault::new(Code::ResourceUnknown, message)
}

/// What each contract of a guest needs beside what its whole daemon does.
///
/// # Errors
///
/// `E_RESOURCE_UNKNOWN` when the daemon hasn't got it.
pub(in crate::tree) fn contract_needs(
    hold: Option<&Arc<Hold>>,
    daemon: &str,
    guest: &Guest,
    copied: bool,
) -> Result<BTreeMap<String, Slots>, Fault> {
    if let Some(hold) = hold {
        return hold.contract_needs(guest);
    }
    let needs = guest.contracts().iter().flat_map(|contract| &contract.needs);
    let needs: BTreeSet<&str> = needs.map(String::as_str).collect();
    if needs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let needs: Vec<&str> = needs.into_iter().collect();
    let names = needs.join(", ");
    let message = if copied {
        format!(
            "daemon `{daemon}`: its guest needs {names}. `host restore` takes each with \
             `--uses SERVICE/NAME`, or `--needs SERVICE/NAME`; `host resources` lists them"
        )
    } else {
        format!(
            "daemon `{daemon}`: its guest needs {names}, and the daemon has no resources. `needs` \
             and `uses` of its manifest name them; `host run {daemon}.toml` runs one like \
             this\n\n{}",
            example(daemon, &needs)
        )
    };
    Err(Fault::new(Code::ResourceUnknown, message))
}

impl Outside for Hold {
    fn call(
        &self,
        resource: &str,
        operation: Operation,
        until: Instant,
    ) -> Result<Claim<CallResult>, CallError> {
        let (place, resource) = self.find(resource).ok_or(CallError::NoSuchResource)?;
        if resource.kind() != operation.kind() {
            return Err(CallError::WrongKind);
        }
        let seat = self.seat(place, resource)?;
        let (ticket, claim) = ticket();
        resource.caller().call(Call { seat, operation, until, ticket })?;
        Ok(claim)
    }

    fn names(&self) -> Vec<String> {
        let named = |one: &Arc<Resource>| format!("`{}` ({})", one.short_name(), one.kind());
        self.resources.iter().map(named).collect()
    }

    fn stage(
        &self,
        resource: &str,
        operation: Operation,
        repeatable: bool,
        bytes: usize,
    ) -> Result<(), CallError> {
        let (_, resource) = self.find(resource).ok_or(CallError::NoSuchResource)?;
        if resource.kind() != operation.kind() {
            return Err(CallError::WrongKind);
        }
        resource.provider().admits(&operation)?;
        let mut running = self.lock();
        let Some((request, _)) = running.request.as_ref().filter(|_| running.commits) else {
            return Err(CallError::Denied("what runs commits nothing".to_owned()));
        };
        let (daemon, request) = (self.daemon.clone(), *request);
        let effect = Effect { operation, repeatable, daemon, request };
        let staged = resource.caller().outbox().stage(effect, bytes)?;
        running.staged.push(staged);
        Ok(())
    }

    fn look(&self, resource: &str) -> Option<(bool, ResourceGeneration)> {
        self.find(resource).map(|(_, resource)| resource.stand())
    }

    fn only(&self, kind: &str) -> Option<String> {
        let mut of_kind = self.resources.iter().filter(|resource| resource.kind() == kind);
        let only = of_kind.next()?;
        of_kind.next().is_none().then(|| only.short_name().to_owned())
    }

    fn for_url(&self, url: &str) -> Option<String> {
        self.only("http").or_else(|| {
            let allows = self.resources.iter().find(|resource| resource.provider().allows(url));
            allows.map(|resource| resource.short_name().to_owned())
        })
    }

    fn is_of_kind(&self, resource: &str, kind: &str) -> bool {
        self.find(resource).is_some_and(|(_, resource)| resource.kind() == kind)
    }

    fn directories(&self) -> Vec<String> {
        let read = self.resources.iter().filter(|resource| resource.provider().is_read());
        read.map(|resource| resource.short_name().to_owned()).collect()
    }

    fn prefix(&self, resource: &str) -> String {
        let found = self.find(resource);
        found.map(|(_, resource)| resource.provider().prefix().to_owned()).unwrap_or_default()
    }

    fn constant(&self, key: &str) -> Option<String> {
        self.constants().filter_map(|values| values.get(key)).last().cloned()
    }

    fn config(&self) -> BTreeMap<String, String> {
        self.constants().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
