//! What there is to see of the daemons.

use std::sync::Arc;

use super::{Root, Unstarted, read};
use crate::base::ids::NodeId;
use crate::mechanisms::journal::Journal;
use crate::pure::kill_bits::Bits;
use crate::tree::crew::Crew;
use crate::tree::gauges::{DaemonState, Report};
use crate::tree::worker::Worker;

/// One daemon, as `host ps` shows it.
#[derive(Clone, Debug)]
pub struct DaemonView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Bytes of its budget; of those of all its instances, if it has several.
    pub budget_bytes: usize,
    /// Its numbers; those of all its instances together.
    pub report: Report,
    /// What it was lately, newest last; none for a stateless one as a whole.
    pub states: Vec<DaemonState>,
    /// How often its thread died.
    pub deaths: u64,
    /// What a person switched off.
    pub bits: Bits,
    /// Requests that are held therefore.
    pub held: usize,
    /// The contract that the running transaction is of.
    pub contract: Option<String>,
    /// The instances of a stateless daemon, which run its transactions; none for others.
    pub instances: Vec<Self>,
    /// Those that run read-only transactions beside it, with numbers of their own.
    pub readers: Vec<Self>,
}

impl DaemonView {
    fn of(name: &str, worker: &Worker) -> Self {
        let (bits, held, running) = worker.bits.look();
        Self {
            id: worker.child.id,
            name: name.to_owned(),
            budget_bytes: worker.options.budget_bytes,
            report: worker.report(),
            states: worker.gauges.states(),
            deaths: worker.child.deaths(),
            bits,
            held,
            contract: running.map(|running| running.contract),
            instances: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// One that could not be started; its last commit is number `sequence`.
    fn of_unstarted(id: NodeId, unstarted: Unstarted, sequence: u64) -> Self {
        let Unstarted { options, why, .. } = unstarted;
        let (state, parked) = (DaemonState::Parked, Some(why));
        Self {
            id,
            name: options.name,
            budget_bytes: options.budget_bytes,
            report: Report { state, parked, sequence, ..Report::default() },
            states: vec![state],
            deaths: 0,
            bits: Bits::default(),
            held: 0,
            contract: None,
            instances: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// With its readers. What their line holds it holds.
    fn with_readers(self, crew: &Crew, readers: Vec<Self>) -> Self {
        let held = self.held + crew.bits.held();
        Self { held: held + readers.iter().map(|one| one.held).sum::<usize>(), readers, ..self }
    }

    fn of_crew(crew: &Crew, instances: Vec<Self>) -> Self {
        let (bits, held, _) = crew.bits.look();
        Self {
            id: crew.id,
            name: crew.name.clone(),
            budget_bytes: instances.iter().map(|instance| instance.budget_bytes).sum(),
            report: together(&instances),
            states: Vec::new(),
            deaths: instances.iter().map(|instance| instance.deaths).sum(),
            bits,
            held: held + instances.iter().map(|instance| instance.held).sum::<usize>(),
            contract: None,
            instances,
            readers: Vec::new(),
        }
    }

    /// What has threads of it: its instances, or itself and its readers.
    pub fn nodes(&self) -> impl Iterator<Item = &Self> {
        let own = self.instances.is_empty().then_some(self);
        own.into_iter().chain(&self.instances).chain(&self.readers)
    }
}

impl Root {
    /// All daemons, by name.
    #[must_use]
    pub fn daemons(&self) -> Vec<DaemonView> {
        let mut views: Vec<DaemonView> = {
            let daemons = read(&self.daemons);
            let own = daemons.iter().filter(|(_, worker)| worker.berth.is_none());
            own.map(|(name, worker)| DaemonView::of(name, worker)).collect()
        };
        let with_readers = |view: DaemonView| match self.readers.get(&view.name) {
            Some(crew) => view.with_readers(crew, self.member_views(crew)),
            None => view,
        };
        views = views.into_iter().map(with_readers).collect();
        views.extend(self.crews.values().map(|crew| self.crew_view(crew)));
        views.extend(self.all_unstarted().into_iter().map(|(id, unstarted)| {
            let sequence = self
                .kept(&unstarted.options.name)
                .map_or(0, |(store, key)| store.durable(key).map_or(0, |sequence| sequence.0));
            DaemonView::of_unstarted(id, unstarted, sequence)
        }));
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    fn crew_view(&self, crew: &Arc<Crew>) -> DaemonView {
        DaemonView::of_crew(crew, self.member_views(crew))
    }

    fn member_views(&self, crew: &Arc<Crew>) -> Vec<DaemonView> {
        let members = self.members(crew);
        members.iter().map(|worker| DaemonView::of(&worker.options.name, worker)).collect()
    }
}

/// The numbers of several instances as those of one daemon. It is as well as the instance that is
/// best off: that one takes the requests.
fn together(instances: &[DaemonView]) -> Report {
    const BEST_FIRST: [DaemonState; 7] = [
        DaemonState::Running,
        DaemonState::Ready,
        DaemonState::Waiting,
        DaemonState::Restarting,
        DaemonState::Starting,
        DaemonState::Parked,
        DaemonState::Stopped,
    ];
    let reports = || instances.iter().map(|instance| &instance.report);
    let sum = |number: fn(&Report) -> u64| reports().map(number).sum();
    let most = |number: fn(&Report) -> u64| reports().map(number).max().unwrap_or(0);
    let is = |state: &DaemonState| reports().any(|report| report.state == *state);
    let state = BEST_FIRST.into_iter().find(is).unwrap_or(DaemonState::Stopped);
    let mut all = Report { state, ..Report::default() };
    all.parked = reports().find(|report| report.state == state).and_then(|one| one.parked.clone());
    all.generation = most(|one| one.generation);
    all.committed = sum(|one| one.committed);
    all.read = sum(|one| one.read);
    all.rejected = sum(|one| one.rejected);
    all.crashed = sum(|one| one.crashed);
    all.cancelled = sum(|one| one.cancelled);
    all.restarts = sum(|one| one.restarts);
    all.resource_restarts = sum(|one| one.resource_restarts);
    all.instances = sum(|one| one.instances);
    all.fuel = sum(|one| one.fuel);
    all.busy = reports().map(|one| one.busy).sum();
    all.memory_bytes = sum(|one| one.memory_bytes);
    all.memory_peak_bytes = sum(|one| one.memory_peak_bytes);
    all.lines_dropped = sum(|one| one.lines_dropped);
    all.restart_times.count = sum(|one| one.restart_times.count);
    // Of the instance that takes longest: percentiles don't add up.
    all.restart_times.p50 = reports().map(|one| one.restart_times.p50).max().unwrap_or_default();
    all.restart_times.p99 = reports().map(|one| one.restart_times.p99).max().unwrap_or_default();
    let exits = reports().filter_map(|one| one.last_exit);
    all.last_exit = exits.max_by_key(|exit| exit.unix_nanos);
    all
}
