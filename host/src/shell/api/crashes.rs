//! The commands about crashes: those of the past, the way to run one again, and one on purpose.

use std::io::Write;

use serde_json::{Value, json};

use super::lineage::{Fields, Served, time, write_snapshot};
use crate::base::error::{Code, Fault, printable};
use crate::base::ids::RequestId;
use crate::base::limits::CRASH_REPORTS_MAX;
use crate::pure::crash_report::{CrashReport, parse_id};
use crate::pure::output::SeenOutput;
use crate::pure::supervision::Verdict;
use crate::tree::{Stand, ThreadExit};

pub(super) fn crashes(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.optional_text("daemon")?;
    let count = fields.number("last")?.unwrap_or(CRASH_REPORTS_MAX);
    fields.done()?;
    let count = usize::try_from(count.min(CRASH_REPORTS_MAX)).unwrap_or(usize::MAX);
    let root = &served.root;
    let reports = match &daemon {
        Some(daemon) if root.keeps_crashes() => root.crashes(daemon, count)?,
        Some(daemon) => root.guest(daemon).map(|_known| Vec::new())?,
        None if root.keeps_crashes() => root.all_crashes(count)?,
        None => Vec::new(),
    };
    let crashes: Vec<Value> = reports.iter().map(crash_json).collect();
    let exits = root.thread_exits();
    let wanted = |exit: &&ThreadExit| daemon.as_ref().is_none_or(|daemon| *daemon == exit.name);
    let exits = exits.iter().rev().filter(wanted).take(count).map(exit_json);
    let mut exits: Vec<Value> = exits.collect();
    exits.reverse();
    let kept = root.keeps_crashes();
    Ok(json!({ "daemon": daemon, "kept": kept, "crashes": crashes, "thread_deaths": exits }))
}

/// The death of a thread under the root.
fn exit_json(exit: &ThreadExit) -> Value {
    let delay_ms = u64::try_from(exit.delay.as_millis()).unwrap_or(u64::MAX);
    json!({
        "node": exit.node,
        "name": exit.name,
        "time": time(exit.unix_nanos),
        "unix_nanos": exit.unix_nanos,
        "death": exit.death,
        "code": Code::HostBug,
        "panic": exit.panic,
        "then": match exit.verdict {
            Verdict::RestartAt(_) => "restarted",
            Verdict::Park => "parked",
            Verdict::Emergency => "emergency",
            Verdict::Over => "over",
        },
        "delay_ms": delay_ms,
    })
}

/// One crash, whole.
pub(super) fn crash(served: &Served, argument: &Value) -> Result<Value, Fault> {
    let text = argument.as_str().map_or_else(|| argument.to_string(), str::to_owned);
    let report = served.root.crash(read_id(&text)?)?;
    Ok(json!({ "crash": crash_json(&report) }))
}

pub(super) fn read_id(text: &str) -> Result<RequestId, Fault> {
    parse_id(text).ok_or_else(|| {
        let shown = printable(text, 64);
        let what = "is not the id of a crash: that is a text of 1 to 16 hexadecimal digits";
        Fault::new(Code::Request, format!("`{shown}` {what}"))
    })
}

pub(super) fn crash_json(report: &CrashReport) -> Value {
    let mut crash = report.to_json();
    if let Value::Object(fields) = &mut crash {
        fields.insert("time".to_owned(), json!(time(report.unix_nanos)));
    }
    crash
}

/// Hands out what a crash is run again with: the report in the answer, state and code in a file,
/// and what it saw of other daemons in files beside that.
pub(super) fn replay(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let text = fields.text("crash")?;
    let path = fields.text("path")?;
    fields.done()?;
    let id = read_id(&text)?;
    let target = served.target(&path)?;
    let materials = served.root.replay_materials(id)?;
    write_snapshot(&target, &materials.checkpoint, &materials.code)?;
    for (place, (_, output)) in materials.seen.iter().enumerate() {
        let target = served.target(&format!("{path}-seen-{place}"))?;
        target.write(|file| file.write_all(&output.bytes))?;
    }
    let seen = materials.seen.iter();
    let seen: Vec<SeenOutput> = seen
        .map(|(daemon, output)| SeenOutput {
            daemon: daemon.clone(),
            sequence: Some(output.sequence),
        })
        .collect();
    let report: Value = serde_json::from_slice(&materials.report.encode()).unwrap_or_default();
    Ok(json!({ "report": report, "path": path, "seen": seen }))
}

pub(super) fn simulate_thread(served: &Served, daemon: &str) -> Result<Value, Fault> {
    let death = served.root.simulate_thread_death(daemon)?;
    let stand = |stand: &Stand| {
        json!({
            "sequence": stand.sequence,
            "generation": stand.generation,
            "hash": stand.hash.to_hex().as_str(),
        })
    };
    Ok(json!({
        "daemon": daemon,
        "before": stand(&death.before),
        "after": stand(&death.after),
        "thread_deaths": death.deaths,
        "took_us": death.took.as_nanos() as f64 / 1000.0,
    }))
}

pub(super) fn simulate(served: &Served, daemon: &str) -> Result<Value, Fault> {
    let simulated = served.root.simulate_crash(daemon)?;
    Ok(json!({
        "daemon": daemon,
        "sequence": simulated.sequence,
        "hash": simulated.hash.to_hex().as_str(),
        "ruined_hash": simulated.ruined.to_hex().as_str(),
        "cards": simulated.cards,
        "trap": simulated.trap,
        "recovery_us": simulated.recovery.as_nanos() as f64 / 1000.0,
        "generation": simulated.generation,
    }))
}
