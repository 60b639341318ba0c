//! How the host is, for watchdogs outside: answered without asking any daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::exit;
use crate::base::vitals::Vitals;
use crate::pure::request::fault_json;
use crate::pure::service_state::{self, Resource, ServiceState};
use crate::pure::watchdog::{Finding, Late};
use crate::tree::{DaemonState, DaemonView, Root};

/// What the watchdog saw last.
#[derive(Debug, Default)]
pub struct Health {
    finding: Mutex<Finding>,
}

impl Health {
    pub(super) fn note(&self, finding: Finding) {
        *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = finding;
    }

    /// The answer to `health`, and the status that HTTP has for it.
    pub(super) fn look(
        &self,
        root: &Root,
        vitals: &Arc<Vitals>,
        services: &BTreeMap<String, String>,
    ) -> (Value, u16) {
        let finding = self.finding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let daemons = root.daemons();
        let nodes = daemons.iter().flat_map(DaemonView::nodes);
        let parked = nodes.filter(|node| node.report.state == DaemonState::Parked);
        let parked: Vec<&str> = parked.map(|node| node.name.as_str()).collect();
        let refusal = root.journal_refusal();
        let trouble = root.journal_trouble();
        let reloads = daemons.iter().filter(|d| d.report.state == DaemonState::Restarting);
        let reloads: Vec<&str> = reloads.map(|daemon| daemon.name.as_str()).collect();
        let services = service_states(root, &daemons, services);
        let unwell = services.iter().any(|(_, state, _)| *state != ServiceState::Ready);
        let stop = vitals.stop();
        let state = if !finding.stuck.is_empty() {
            "stuck"
        } else if stop.is_set() {
            "stopping"
        } else if !finding.stalled.is_empty()
            || !parked.is_empty()
            || !reloads.is_empty()
            || trouble.is_some()
            || unwell
        {
            "degraded"
        } else {
            "ok"
        };
        let worst = services.iter().map(|(_, state, _)| *state).max().unwrap_or_default();
        let worst = if parked.is_empty() { worst } else { ServiceState::Gone };
        let status = service_state::of_host(state, worst).http_status();
        let shown = json!({
            "state": state,
            "pid": std::process::id(),
            "daemons": daemons.len(),
            "parked": parked,
            "services": services.iter().map(|(name, state, reasons)| json!({
                "name": name,
                "state": state.as_str(),
                "status": state.http_status(),
                "reasons": reasons,
            })).collect::<Vec<_>>(),
            "restarting": reloads,
            "journal_refuses": refusal.as_ref().map(fault_json),
            "journal_trouble": trouble.as_ref().map(fault_json),
            "stalled": late_json(&finding.stalled),
            "stuck": late_json(&finding.stuck),
            "stopping": stop.reason().map(|reason| reason.to_string()),
        });
        (shown, status)
    }
}

type Service<'a> = (&'a str, ServiceState, Vec<String>);

/// How each service is, from its daemons and the resources that they need. `services` has that of
/// each daemon which belongs to one.
fn service_states<'a>(
    root: &Root,
    daemons: &[DaemonView],
    services: &'a BTreeMap<String, String>,
) -> Vec<Service<'a>> {
    let (resources, now) = (root.resources(), root.clock().monotonic_nanos());
    let names: BTreeSet<&str> = services.values().map(String::as_str).collect();
    let one = |name: &'a str| {
        let its = daemons.iter().filter(|d| services.get(&d.name).is_some_and(|its| its == name));
        let its: Vec<_> = its.map(|d| (d.name.as_str(), of_daemon(d.report.state))).collect();
        let its_resources = resources.iter().filter_map(|view| {
            let (service, short) = view.name.split_once('/')?;
            let needed = !view.needed_by.is_empty();
            let resource = Resource { status: &view.status, needed, given_up: false };
            (service == name).then_some((short, resource))
        });
        let (state, reasons) = service_state::of(&its, &its_resources.collect::<Vec<_>>(), now);
        (name, state, reasons)
    };
    names.into_iter().map(one).collect()
}

fn of_daemon(state: DaemonState) -> service_state::Daemon {
    match state {
        DaemonState::Ready | DaemonState::Running => service_state::Daemon::Ready,
        DaemonState::Waiting => service_state::Daemon::Waiting,
        DaemonState::Starting => service_state::Daemon::Starting,
        DaemonState::Restarting => service_state::Daemon::Restarting,
        DaemonState::Parked | DaemonState::Stopped => service_state::Daemon::GivenUp,
    }
}

fn late_json(late: &[Late]) -> Vec<Value> {
    let shown = |late: &Late| {
        let millis = u64::try_from(late.busy.as_millis()).unwrap_or(u64::MAX);
        json!({ "thread": late.name, "busy_ms": millis })
    };
    late.iter().map(shown).collect()
}

/// The exit code of `host health` for a state.
#[must_use]
pub fn exit_code(state: &str) -> u8 {
    match state {
        "ok" => exit::DONE,
        "stuck" => exit::STUCK,
        _ => exit::UNWELL,
    }
}
