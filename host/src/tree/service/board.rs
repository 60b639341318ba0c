//! All resources of a host: what is there, who needs it, and who holds a lease of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hold::{Hold, contract_needs};
use super::plan::ResourcePlan;
use super::resource::{Resource, ResourceView};
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::error::{Code, Fault};
use crate::base::ids::{LeaseIds, NodeId};
use crate::base::limits::RESOURCES_START_WAIT;
use crate::base::stop::StopLatch;
use crate::base::vitals::Vitals;
use crate::mechanisms::providers::{Keeping, Providers, Switch, calls};
use crate::pure::resource::Machine;
use crate::tree::root::DaemonPlan;

/// How often a start looks whether its resources are there.
const RESOURCES_START_TICK: Duration = Duration::from_millis(2);

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
        let (now, leases) = (clock.monotonic_nanos(), Arc::new(LeaseIds::default()));
        let mut resources = Vec::with_capacity(plans.len());
        let mut keepings = Vec::with_capacity(plans.len());
        for ResourcePlan { name, provider, jobs, policy } in plans {
            let machine = if provider.can_die() {
                Machine::new(policy, jobs.len(), now)
            } else {
                Machine::stateless()
            };
            let (caller, incoming) = calls();
            let resource = Arc::new(Resource::new(&name, &provider, clock, &leases, caller));
            let keeping = Keeping {
                name,
                provider,
                jobs,
                machine,
                observer: resource.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
            };
            keepings.push((keeping, incoming));
            resources.push(resource);
        }
        let (providers, switches) = Providers::start(keepings, vitals)?;
        let resources = resources.into_iter().zip(switches);
        let resources =
            resources.map(|(resource, switch)| (resource.name().to_owned(), (resource, switch)));
        Ok(Self { resources: resources.collect(), providers: Some(providers) })
    }

    /// A daemon's end of the resources that it needs or uses; none when there are none.
    ///
    /// # Errors
    ///
    /// `E_RESOURCE_UNKNOWN`, also for what a contract of its guest needs.
    pub(in crate::tree) fn hold(
        &self,
        (daemon, node): (&str, NodeId),
        plan: &DaemonPlan,
    ) -> Result<Option<Arc<Hold>>, Fault> {
        let find = |name: &String| {
            let found = self.find(name).map(|(one, _)| one.clone());
            found.map_err(|fault| {
                let message = format!("daemon `{daemon}` depends on it: {}", fault.message);
                fault.saying(message)
            })
        };
        let DaemonPlan { guest, needs, uses, layer, .. } = plan;
        let needs = needs.iter().map(find).collect::<Result<Vec<_>, Fault>>()?;
        let uses = uses.iter().map(find).collect::<Result<Vec<_>, Fault>>()?;
        if needs.is_empty() && uses.is_empty() {
            return contract_needs(None, daemon, guest, plan.copied).map(|_none| None);
        }
        Ok(Some(Arc::new(Hold::new((daemon, node, *layer), needs, uses, guest)?)))
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
                let message = format!("no manifest of this host has a resource `{name}`");
                Err(Fault::new(Code::ResourceUnknown, message))
            }
        }
    }

    /// The whole name of a resource.
    ///
    /// # Errors
    ///
    /// `E_RESOURCE_UNKNOWN`.
    pub(in crate::tree) fn full_name(&self, name: &str) -> Result<String, Fault> {
        self.find(name).map(|(resource, _)| resource.name().to_owned())
    }

    /// All resources, by name.
    pub(in crate::tree) fn views(&self) -> Vec<ResourceView> {
        self.resources.values().map(|(resource, _)| resource.view()).collect()
    }

    /// Gives what these daemons need a moment to become available: a start is no flood of
    /// restarts. Those that still lack something then begin by waiting.
    pub(in crate::tree) fn wait_for(&self, plans: &[DaemonPlan], stop: &StopLatch) {
        let since = Instant::now();
        let needs = || plans.iter().flat_map(|plan| plan.needs.iter().chain(&plan.uses));
        let there = |name: &String| self.find(name).is_ok_and(|(one, _)| one.stand().0);
        while !needs().all(there) && !stop.is_set() && since.elapsed() < RESOURCES_START_WAIT {
            std::thread::sleep(RESOURCES_START_TICK);
        }
        for (resource, _) in self.resources.values() {
            if let Some(why) = resource.why_down()
                && needs().any(|name| name == resource.name())
            {
                tracing::warn!(
                    resource = resource.name(),
                    why,
                    "not available: who needs it waits"
                );
            }
        }
    }

    /// Takes a resource down and holds it there, or lets go of it.
    ///
    /// # Errors
    ///
    /// `E_RESOURCE_UNKNOWN`; `E_RESOURCE_FIXED`; `E_QUEUE_FULL` while its keeper has not come to
    /// earlier switches.
    pub(in crate::tree) fn switch(&self, name: &str, down: bool) -> Result<String, Fault> {
        let (resource, switch) = self.find(name)?;
        if !resource.provider().can_die() {
            let (name, kind) = (resource.name(), resource.kind());
            let message = format!("resource `{name}` is a {kind} of the host: it is always there");
            return Err(Fault::new(Code::ResourceFixed, message));
        }
        let done = if down { switch.hold() } else { switch.release() };
        done.map_err(|_busy| {
            let message = format!("resource `{}` is being switched already", resource.name());
            Fault::new(Code::QueueFull, message)
        })?;
        Ok(resource.name().to_owned())
    }

    /// Effects that were released and are not over, of resources that are there.
    pub(in crate::tree) fn effects_left(&self) -> u64 {
        let there = self.resources.values().filter(|(resource, _)| resource.stand().0);
        there.map(|(resource, _)| resource.caller().outbox().counts().waiting).sum()
    }

    /// Effects that were released and are not over, of each resource that has some.
    pub(in crate::tree) fn effects_waiting(&self) -> Vec<(String, u64)> {
        let waiting = self.resources.iter().map(|(name, (resource, _))| {
            (name.clone(), resource.caller().outbox().counts().waiting)
        });
        waiting.filter(|(_, waiting)| *waiting > 0).collect()
    }

    /// Lets go of all resources: closes every connection, ends the keepers' thread.
    pub(in crate::tree) fn stop(&self) {
        if let Some(providers) = &self.providers {
            providers.stop();
        }
    }
}
