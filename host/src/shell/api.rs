//! What the commands say to a running host: one JSON object per line, over a socket of this user.
//!
//! | asked | answered |
//! |---|---|
//! | `{"call": REQUEST}` | the outcome line |
//! | `{"call": REQUEST, "text": {"amount": "5"}}` | the same; arguments as texts, read by the contract's schemas |
//! | `{"ps": {"hash": true}}` | root, daemons, transactions |
//! | `{"health": {}}` | how the host is; needs no daemon |
//! | `{"kill": "19a5f3c2b0800012"}` | what was stopped, and how long that took |
//! | `{"disable": {"daemon": "ledger", "contract": "transfer", "cancel": true}}` | the same, and what is switched off now |
//! | `{"enable": {"daemon": "ledger", "contract": "transfer"}}` | what stays off, and how many requests were held |
//! | `{"pause": {"daemon": "ledger", "cancel": true}}` | as `disable` |
//! | `{"resume": "ledger"}` | as `enable` |
//! | `{"commits": {"daemon": "ledger", "last": 20}}` | the commits that are kept, oldest first |
//! | `{"snapshot": {"daemon": "ledger", "at": 7, "path": "/f"}}` | what is in the file |
//! | `{"restore": {"path": "/f", "as": "new", "budget_bytes": 1048576, "needs": [], "uses": ["cache"]}}` | what it runs on |
//! | `{"restore": {"path": "/f", "into": "ledger"}}` | the same, and the new commit |
//! | `{"fork": {"daemon": "ledger", "new": "copy", "at": 7}}` | what it runs on |
//! | `{"revert": {"daemon": "ledger", "to": 7}}`, or `"last"` | where it went, and the new commit |
//! | `{"upgrade": {"daemon": "ledger", "path": "/g.wasm", "dry_run": true}}` | what it does |
//! | `{"remove": "copy"}` | `{"removed": "copy"}` |
//! | `{"crashes": {"daemon": "ledger", "last": 20}}` | the crashes whose reports are kept, of it or of all, oldest first |
//! | `{"crash": "19a5f3c2b0800012"}` | that crash |
//! | `{"replay": {"crash": "19a5f3c2b0800012", "path": "/f"}}` | the report; state and code are in the file |
//! | `{"resources": {}}` | the resources, their leases, and who needs them |
//! | `{"resource": {"name": "bank/cache", "down": true}}` | its whole name; false lets go of it |
//! | `{"simulate_thread_death": "ledger"}` | where it stood before and after |
//! | `{"simulate_crash": "ledger"}` | what was ruined, and how it came back |
//! | anything else | `{"error": {"code": .., "blame": .., "message": ..}}` |

mod bits;
mod client;
mod crashes;
mod lineage;
mod output;
mod resources;
mod server;
mod socket;
mod stored;
mod upgrade;

pub use client::{Client, ClientError};
pub use lineage::{Served, deploy_stored};
pub use server::serve;
pub(super) use server::{Attending, answered};
pub use socket::{Listening, default_socket_path};
pub use stored::answer_stored;
pub use upgrade::read_code;

use serde_json::{Value, json};

use crate::base::error::{Code, Fault};
use crate::base::ids::RequestId;
use crate::base::vitals::{Kind, Vitals};
use crate::mechanisms::journal::{Durability, Metrics};
use crate::pure::request::fault_json;
use crate::shell::sink;
use crate::tree::{DaemonState, DaemonView, Root};

/// An error line.
fn error_line(fault: &Fault) -> Value {
    json!({ "error": fault_json(fault) })
}

/// What `host ps --output json` prints. `hashes` are in the order of `daemons`.
fn ps_json(served: &Served, daemons: &[DaemonView], hashes: &[Option<String>]) -> Value {
    let root = &served.root;
    let now = root.clock().monotonic_nanos();
    let resources = root.resources();
    let shown = daemons.iter().zip(hashes.iter().chain(std::iter::repeat(&None)));
    let transactions = daemons.iter().flat_map(DaemonView::nodes).filter_map(|daemon| {
        daemon.report.running.map(|(request, since)| {
            json!({
                "id": RequestId(request).to_string(),
                "parent": daemon.id,
                "kind": "transaction",
                "state": "running",
                "daemon": daemon.name,
                "contract": daemon.contract,
                "generation": daemon.report.generation,
                "running_us": now.saturating_sub(since) / 1000,
                "leases": resources::leases_of(&resources, daemon.id, RequestId(request)),
            })
        })
    });
    json!({
        "root": {
            "id": crate::base::ids::NodeId::ROOT,
            "kind": "root",
            "state": "running",
            "generation": Root::GENERATION,
            "pid": std::process::id(),
            "reserved_bytes": root.bill().total_bytes(),
            "limit_bytes": root.bill().limit_bytes,
            "log_lines_dropped": sink::dropped(),
            "durability": root.durability().map_or("memory", Durability::as_str),
            "journal": root
                .journal_metrics()
                .zip(root.journal_traffic())
                .map(|(metrics, traffic)| journal_json(&metrics, traffic, root.tables_bytes())),
        },
        "components": components_json(&served.vitals),
        "daemons": shown
            .map(|(daemon, hash)| {
                let mut node = daemon_json(daemon, hash.as_deref());
                if let Some(node) = node.as_object_mut() {
                    let service = served.services.get(&daemon.name);
                    node.insert("service".to_owned(), json!(service));
                }
                node
            })
            .collect::<Vec<_>>(),
        "transactions": transactions.collect::<Vec<_>>(),
    })
}

/// The host's own threads: what else stands under the root. One that died and has a successor says
/// so; the others end the host when they die.
fn components_json(vitals: &Vitals) -> Vec<Value> {
    let pulses = vitals.pulses();
    let own = pulses.iter().filter(|pulse| pulse.kind != Kind::Daemon);
    let shown = own.map(|pulse| {
        let restarts = pulse.restarts();
        json!({
            "id": pulse.name,
            "parent": crate::base::ids::NodeId::ROOT,
            "kind": "component",
            "name": pulse.name,
            "state": if pulse.read().1.is_some() { "running" } else { "waiting" },
            "generation": restarts + 1,
            "restarts": restarts,
            "last_exit": (restarts > 0).then(|| json!({ "code": Code::HostBug })),
        })
    });
    shown.collect()
}

/// What the journal has done, and what that cost.
fn journal_json(metrics: &Metrics, (written_bytes, syncs): (u64, u64), tables_bytes: u64) -> Value {
    let sync = &metrics.sync_micros;
    json!({
        "written_bytes": written_bytes,
        "tables_bytes": tables_bytes,
        "syncs": syncs,
        "groups": metrics.groups,
        "records": metrics.records,
        "bytes": metrics.bytes,
        "sync_p50_us": sync.value_at_quantile(0.5),
        "sync_p99_us": sync.value_at_quantile(0.99),
        "fold_debt_records": metrics.fold.records,
        "fold_debt_bytes": metrics.fold.bytes,
        "failed": metrics.failed.as_ref().map(ToString::to_string),
    })
}

/// One daemon's numbers.
#[must_use]
pub fn daemon_json(daemon: &DaemonView, hash: Option<&str>) -> Value {
    let report = &daemon.report;
    let waits = report.state == DaemonState::Waiting;
    let micros = |time: std::time::Duration| time.as_nanos() as f64 / 1000.0;
    json!({
        "id": daemon.id,
        "parent": crate::base::ids::NodeId::ROOT,
        "kind": "daemon",
        "name": daemon.name,
        "state": report.state.as_str(),
        "states": daemon.states.iter().map(|state| state.as_str()).collect::<Vec<_>>(),
        "parked": report.parked.as_ref().filter(|_| !waits).map(fault_json),
        "waits_for": report.parked.as_ref().filter(|_| waits).map(fault_json),
        "off": bits::off(&daemon.bits),
        "held": daemon.held,
        "instances": daemon
            .instances
            .iter()
            .map(|instance| member_json(daemon, "instance", instance))
            .collect::<Vec<_>>(),
        "readers": daemon
            .readers
            .iter()
            .map(|reader| member_json(daemon, "reader", reader))
            .collect::<Vec<_>>(),
        "live_instances": report.instances,
        "generation": report.generation,
        "sequence": report.sequence,
        "restarts": report.restarts,
        "thread_deaths": daemon.deaths,
        "last_exit": report.last_exit.as_ref().map(|exit| json!({
            "code": exit.code,
            "generation": exit.generation,
            "time": lineage::time(exit.unix_nanos),
        })),
        "restart_p50_us": micros(report.restart_times.p50),
        "restart_p99_us": micros(report.restart_times.p99),
        "committed": report.committed,
        "read": report.read,
        "rejected": report.rejected,
        "crashed": report.crashed,
        "cancelled": report.cancelled,
        "resource_restarts": report.resource_restarts,
        "fuel": report.fuel,
        "busy_us": micros(report.busy),
        "cards_changed": report.cards_changed,
        "bytes_changed": report.bytes_changed,
        "budget_bytes": daemon.budget_bytes,
        "memory_bytes": report.memory_bytes,
        "memory_peak_bytes": report.memory_peak_bytes,
        "log_lines_dropped": report.lines_dropped,
        "upgradable": upgrade::upgradable_json(&report.upgradable),
        "crash_reports": report.crash_reports.made,
        "crash_reports_repeated": report.crash_reports.repeated,
        "crash_reports_left_out": report.crash_reports.left_out,
        "crash_reports_dropped": report.crash_reports.dropped,
        "committed_hash": hash,
    })
}

/// One instance of a stateless daemon, or one reader, under its daemon.
fn member_json(daemon: &DaemonView, kind: &str, member: &DaemonView) -> Value {
    let mut node = daemon_json(member, None);
    if let Some(node) = node.as_object_mut() {
        node.insert("parent".to_owned(), json!(daemon.id));
        node.insert("kind".to_owned(), json!(kind));
    }
    node
}
