//! The commands that look at resources, and switch them for drills.

use serde_json::{Value, json};

use super::lineage::{Fields, Served};
use crate::base::error::Fault;
use crate::base::ids::{NodeId, RequestId};
use crate::pure::resource::Status;
use crate::tree::{DaemonView, ResourceView};

pub(super) fn list(served: &Served, fields: Fields) -> Result<Value, Fault> {
    fields.done()?;
    let now = served.root.clock().monotonic_nanos();
    let daemons = served.root.daemons();
    let resources = served.root.resources();
    let shown = resources.iter().map(|resource| {
        let leases = resource.leases.iter().map(|lease| {
            let mut nodes = daemons.iter().flat_map(DaemonView::nodes);
            let daemon = nodes.find(|node| node.id == lease.daemon);
            json!({
                "lease": lease.id,
                "connection": lease.connection,
                "daemon": daemon.map(|daemon| &daemon.name),
                "request": lease.request.to_string(),
            })
        });
        let leases: Vec<Value> = leases.collect();
        resource_json(resource, &leases, now)
    });
    Ok(json!({ "resources": shown.collect::<Vec<_>>() }))
}

/// The leases that a request holds.
pub(super) fn leases_of(
    resources: &[ResourceView],
    daemon: NodeId,
    request: RequestId,
) -> Vec<Value> {
    let leases = resources.iter().flat_map(|resource| {
        let its = resource.leases.iter();
        its.map(move |lease| (resource, lease))
    });
    let its = leases.filter(|(_, lease)| (lease.daemon, lease.request) == (daemon, request));
    its.map(|(resource, lease)| json!({ "lease": lease.id, "resource": resource.name })).collect()
}

fn resource_json(resource: &ResourceView, leases: &[Value], now: u64) -> Value {
    let (state, why) = match &resource.status {
        Status::Available => ("available", None),
        Status::Down { why, .. } => ("down", Some(why.as_str())),
        Status::Held { .. } => ("held", Some("a person holds it")),
    };
    json!({
        "name": resource.name,
        "kind": resource.kind,
        "place": resource.place,
        "state": state,
        "why": why,
        "since_ms": now.saturating_sub(resource.since_nanos) / 1_000_000,
        "generation": resource.generation,
        "flaps": resource.flaps,
        "effects": {
            "waiting": resource.effects.waiting,
            "done": resource.effects.done,
            "failed": resource.effects.failed,
            "unknown": resource.effects.unknown,
            "lost": resource.effects.lost,
        },
        "leases": leases,
        "needed_by": resource.needed_by,
        "used_by": resource.used_by,
    })
}

pub(super) fn switch(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let (name, down) = (fields.text("name")?, fields.flag("down")?);
    fields.done()?;
    let name = served.root.switch_resource(&name, down)?;
    Ok(json!({ "resource": name, "down": down }))
}
