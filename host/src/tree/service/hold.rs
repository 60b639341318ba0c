//! One daemon's end of the resources: what it needs, and the leases of what it runs.

use std::sync::{Arc, Mutex, PoisonError};

use super::board::{Dependent, Resource};
use crate::base::error::Fault;
use crate::base::ids::{LeaseId, NodeId, RequestId};
use crate::mechanisms::sandbox::Cancel;
use crate::pure::needs::Slot;
use crate::tree::bits::KillBits;
use crate::tree::mailbox::Mailbox;

/// The resources that a daemon needs, and its leases of them.
pub struct Hold {
    daemon: Arc<str>,
    node: NodeId,
    needs: Vec<Arc<Resource>>,
    /// The leases of the transaction that runs, with the place of their resource.
    leases: Mutex<Vec<(usize, LeaseId)>>,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("daemon", &self.daemon).finish_non_exhaustive()
    }
}

impl Hold {
    pub(super) fn new(daemon: &str, node: NodeId, needs: Vec<Arc<Resource>>) -> Self {
        let leases = Mutex::new(Vec::with_capacity(needs.len()));
        Self { daemon: daemon.into(), node, needs, leases }
    }

    /// From here on the daemon hears of its resources: its bits say what it lacks.
    pub(in crate::tree) fn attach(&self, bits: &Arc<KillBits>, mailbox: &Arc<Mailbox>) {
        let slots = self.slots().map(|(slot, _)| slot);
        let down = self.slots().filter_map(|(slot, resource)| resource.down(slot, &self.daemon));
        bits.set_needs(down.collect(), slots.collect());
        // What changes between that and this is told again here.
        for (slot, resource) in self.slots() {
            let (daemon, bits, mailbox) = (self.daemon.clone(), bits.clone(), mailbox.clone());
            resource.attach(Dependent { daemon, slot, bits, mailbox });
        }
    }

    fn slots(&self) -> impl Iterator<Item = (Slot, &Arc<Resource>)> {
        let numbered = self.needs.iter().enumerate();
        numbered.filter_map(|(index, resource)| Some((Slot::new(index)?, resource)))
    }

    /// The daemon is gone.
    pub(in crate::tree) fn detach(&self) {
        self.end();
        for resource in &self.needs {
            resource.detach(&self.daemon);
        }
    }

    /// Whether the daemon can't do without this resource.
    pub(in crate::tree) fn needs(&self, resource: &str) -> bool {
        self.needs.iter().any(|needed| needed.name() == resource)
    }

    /// What it lacks at the moment.
    pub(in crate::tree) fn lacking(&self) -> Option<Fault> {
        self.needs.iter().find_map(|resource| resource.lacking(&self.daemon))
    }

    /// Takes a lease of each resource for a request, or none at all; those that it has stay.
    ///
    /// # Errors
    ///
    /// `E_UNAVAILABLE`.
    pub(in crate::tree) fn begin(
        &self,
        request: RequestId,
        cancel: &Arc<Cancel>,
    ) -> Result<(), Fault> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if !leases.is_empty() {
            return Ok(());
        }
        for (place, resource) in self.needs.iter().enumerate() {
            match resource.lease(&self.daemon, self.node, request, cancel) {
                Ok(lease) => leases.push((place, lease)),
                Err(fault) => {
                    self.give_back(&mut leases);
                    // Another one may have ended meanwhile; nothing runs that this would cancel.
                    let _ended = cancel.take_stale(request);
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// Gives all leases back. After that nobody cancels the request for them any more.
    pub(in crate::tree) fn end(&self) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        self.give_back(&mut leases);
    }

    fn give_back(&self, leases: &mut Vec<(usize, LeaseId)>) {
        for (place, lease) in leases.drain(..) {
            if let Some(resource) = self.needs.get(place) {
                resource.give_back(lease);
            }
        }
    }
}
