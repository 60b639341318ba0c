//! How the host is, for watchdogs outside: answered without asking any daemon.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::exit;
use crate::base::vitals::Vitals;
use crate::pure::request::fault_json;
use crate::pure::watchdog::{Finding, Late};
use crate::tree::{DaemonState, Root};

/// What the watchdog saw last.
#[derive(Debug, Default)]
pub struct Health {
    finding: Mutex<Finding>,
}

impl Health {
    pub(super) fn note(&self, finding: Finding) {
        *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = finding;
    }

    /// The answer to `health`.
    pub(super) fn json(&self, root: &Root, vitals: &Arc<Vitals>) -> Value {
        let finding = self.finding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let daemons = root.daemons();
        let parked = daemons.iter().filter(|daemon| daemon.report.state == DaemonState::Parked);
        let parked: Vec<&str> = parked.map(|daemon| daemon.name.as_str()).collect();
        let refusal = root.journal_refusal();
        let stop = vitals.stop();
        let state = if !finding.stuck.is_empty() {
            "stuck"
        } else if stop.is_set() {
            "stopping"
        } else if !finding.stalled.is_empty() || !parked.is_empty() || refusal.is_some() {
            "degraded"
        } else {
            "ok"
        };
        json!({
            "state": state,
            "pid": std::process::id(),
            "daemons": daemons.len(),
            "parked": parked,
            "journal_refuses": refusal.as_ref().map(fault_json),
            "stalled": late_json(&finding.stalled),
            "stuck": late_json(&finding.stuck),
            "stopping": stop.reason().map(|reason| reason.to_string()),
        })
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
