//! `host replay`: runs a crashed request again, in this process, alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::call::fetch;
use super::deploy::{CompileArgs, replay_sandbox};
use super::store::open_to_read;
use super::{Output, SocketArgs, eprint, print, print_fault, start_log};
use crate::base::error::{Code, Fault};
use crate::base::ids::RequestId;
use crate::mechanisms::sandbox::{GuestLine, GuestLog, Limits, OutputVersion};
use crate::pure::checkpoint::decode_snapshot;
use crate::pure::crash_report::{CrashReport, differences, parse_id};
use crate::pure::frames::full;
use crate::pure::json::from_message_pack;
use crate::pure::output::SeenOutput;
use crate::pure::request::Crash;
use crate::pure::setting::{parse_deadline, parse_fuel};
use crate::shell::api::deploy_stored;
use crate::shell::exit;
use crate::tree::{ReplayMaterials, Replayed, replay as run_again, replay_materials};

#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is committed, and the running host goes on: it only hands out the state and the code. Same
code, memory, arguments, clock, random numbers, ids and limits; only time itself is not the same, so
that a missed deadline may not be missed again. What the guest logs goes to standard error.

Exit codes: 0 it did not crash this time, 1 it could not be run, 2 wrong usage, 3 it crashed again,
5 no host answers.")]
pub(super) struct ReplayArgs {
    /// The crash's id, from the answer to the request or from `host history`
    #[arg(value_name = "CRASH-ID", value_parser = crash_id)]
    crash: RequestId,
    /// Take it from a data directory that no host runs on
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Give it another amount of fuel
    #[arg(long, value_parser = parse_fuel)]
    fuel: Option<u64>,
    /// Give it another time
    #[arg(long, value_name = "TIME", value_parser = parse_deadline)]
    deadline: Option<Duration>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

fn crash_id(text: &str) -> Result<RequestId, String> {
    parse_id(text).ok_or_else(|| "an id has 1 to 16 hexadecimal digits".to_owned())
}

/// Shows the guest's lines as they come.
struct Live;

impl GuestLog for Live {
    fn line(&self, line: &GuestLine<'_>) {
        eprint(&format!("  {}: {}", line.target, line.message));
    }
}

pub(super) fn replay(args: &ReplayArgs) -> u8 {
    start_log("warn");
    let materials = match &args.data {
        Some(dir) => from_directory(dir, args.crash).map_err(|fault| failed(&fault)),
        None => from_host(args),
    };
    let ran = materials.and_then(|materials| {
        run(args, &materials).map(|ran| (materials, ran)).map_err(|fault| failed(&fault))
    });
    match ran {
        Ok((materials, (limits, replayed))) => show(args, &materials, &limits, &replayed),
        Err(code) => code,
    }
}

fn failed(fault: &Fault) -> u8 {
    print_fault(fault);
    exit::FAILED
}

fn from_directory(dir: &Path, id: RequestId) -> Result<ReplayMaterials, Fault> {
    replay_materials(&open_to_read(dir)?, id)
}

/// The running host writes state and code into a directory that only this user can enter.
fn from_host(args: &ReplayArgs) -> Result<ReplayMaterials, u8> {
    let file = |error: std::io::Error| failed(&Fault::new(Code::File, error.to_string()));
    let dir = tempfile::tempdir().map_err(file)?;
    let path = dir.path().join("snapshot");
    let crash = args.crash.to_string();
    let answer = fetch(&args.socket, &json!({ "replay": { "crash": crash, "path": path } }))?;
    let report = answer.get("report").unwrap_or(&Value::Null).to_string();
    let report = CrashReport::decode(report.as_bytes())
        .map_err(|error| failed(&Fault::new(Code::Format, error.to_string())))?;
    let snapshot = std::fs::read(&path).map_err(file)?;
    let (checkpoint, code) = decode_snapshot(&snapshot)
        .map_err(|error| failed(&Fault::new(Code::Snapshot, error.to_string())))?;
    let code = code.to_vec();
    let named = answer.get("seen").cloned().unwrap_or(Value::Array(Vec::new()));
    let named: Vec<SeenOutput> = serde_json::from_value(named)
        .map_err(|error| failed(&Fault::new(Code::Format, error.to_string())))?;
    let mut seen = Vec::with_capacity(named.len());
    for (place, SeenOutput { daemon, sequence }) in named.into_iter().enumerate() {
        let Some(sequence) = sequence else { continue };
        let bytes = std::fs::read(dir.path().join(format!("snapshot-seen-{place}")));
        let bytes = bytes.map_err(file)?.into();
        seen.push((daemon, Arc::new(OutputVersion { sequence, bytes })));
    }
    Ok(ReplayMaterials { report, checkpoint, code, seen })
}

fn run(args: &ReplayArgs, materials: &ReplayMaterials) -> Result<(Limits, Replayed), Fault> {
    let guest = deploy_stored(&replay_sandbox(&args.compile)?, &materials.code, usize::MAX)?;
    let asked = materials.limits();
    let fuel = args.fuel.unwrap_or(asked.fuel);
    let limits = Limits { fuel, deadline: args.deadline.unwrap_or(asked.deadline) };
    let report = &materials.report;
    eprint(&format!(
        "`{}` of daemon `{}` again, on commit {}, try {}, generation {}",
        report.contract_name,
        report.daemon,
        report.sequence,
        report.crash.attempt,
        report.crash.generation
    ));
    Ok((limits, run_again(&guest, materials, &limits, Arc::new(Live))?))
}

fn show(args: &ReplayArgs, of: &ReplayMaterials, limits: &Limits, replayed: &Replayed) -> u8 {
    let (shown, text, code) = match replayed {
        Replayed::Crashed { crash, offsets } => {
            let differs = differences(&of.report.crash, crash, limits.fuel == of.report.fuel);
            let frames = full(&crash.backtrace, offsets);
            let shown = json!({
                "replayed": "crashed",
                "same": differs.is_empty(),
                "differs": differs,
                "code": crash.code,
                "message": crash.message,
                "fuel_used": crash.fuel_used,
                "cards_changed": crash.cards_changed,
                "backtrace": frames,
            });
            (shown, crash_text(&of.report.crash, crash, &differs, &frames), exit::CRASHED)
        }
        Replayed::Returned(value) => {
            let value = from_message_pack(value).unwrap_or_else(|e| Value::from(e.to_string()));
            let text = format!("it did not crash this time: {value}");
            (json!({ "replayed": "returned", "value": value }), text, exit::DONE)
        }
        Replayed::Rejected(rejection) => {
            let (code, message) = (&rejection.code, &rejection.message);
            let text = format!("it did not crash this time: rejected with {code}: {message}");
            let shown = json!({ "replayed": "rejected", "code": code, "message": message });
            (shown, text, exit::DONE)
        }
    };
    match args.output {
        Output::Json => print(&shown.to_string()),
        Output::Human => print(&text),
    }
    code
}

fn crash_text(first: &Crash, crash: &Crash, differs: &[&str], frames: &[String]) -> String {
    let Crash { code, message, fuel_used, cards_changed, .. } = crash;
    let mut lines = vec![match differs {
        [] => format!("the same crash again: {code}: {message}"),
        _ => format!("it crashed, with another {}: {code}: {message}", differs.join(", ")),
    }];
    if !differs.is_empty() {
        lines.push(format!("  the first time: {}: {}", first.code, first.message));
    }
    lines.push(format!("  {fuel_used} of fuel used, {cards_changed} cards changed"));
    lines.extend(frames.iter().map(|frame| format!("  at {frame}")));
    lines.join("\n")
}
