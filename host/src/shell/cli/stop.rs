//! `host stop` and `host health`.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::lineage::text;
use super::{Output, SocketArgs, print, print_fault};
use crate::base::error::{Code, Fault};
use crate::base::limits::{HEALTH_WAIT, STOP_TICK, STOP_WAIT};
use crate::shell::api::Client;
use crate::shell::exit;
use crate::shell::health::exit_code;
use crate::shell::place::{self, Process, Run, State};

#[derive(Args, Debug)]
#[command(after_help = "\
Transactions that run get the host's --stop-grace, then they are cancelled; what was answered is
durable. It works while the host starts, and when it answers nobody. A host that stops in order
exits with 0, by --emergency with 6, and with 7 when something did not end in its time.")]
pub(super) struct StopArgs {
    /// Cancel what runs at once, and let the host exit with 6, so that it is started again
    #[arg(long, value_name = "REASON")]
    emergency: Option<String>,
    /// Longest time to wait for the end [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
States: ok; degraded: a daemon is parked, a resource that daemons need is down, the journal refuses
commits or its disk stalls; starting; stopping; stuck: a part of the host doesn't turn. A service
has the status that HTTP has for it: 200, 503 while a part comes back by itself, 410 when it
won't.
Exit codes: 0 ok, 5 no host, 8 degraded, starting or stopping, 9 stuck.")]
pub(super) struct HealthArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

/// The run file of a host that is alive.
fn living(socket: &Path) -> Result<Run, u8> {
    let found = place::look(socket).map_err(|error| {
        print_fault(&Fault::from(&error));
        exit::FAILED
    })?;
    found.filter(|run| place::is_alive(socket, &run.process)).ok_or_else(|| {
        let message = format!("no host runs on {}", socket.display());
        print_fault(&Fault::new(Code::Socket, message));
        exit::NO_HOST
    })
}

pub(super) fn stop(args: &StopArgs) -> u8 {
    let start = Instant::now();
    let socket = args.socket.path();
    let host = match living(&socket) {
        Ok(run) => run.process,
        Err(code) => return code,
    };
    if let Err(error) = place::ask_to_stop(&socket, &host, args.emergency.as_deref()) {
        print_fault(&Fault::from(&error));
        return exit::FAILED;
    }
    let wait = args.wait.unwrap_or(STOP_WAIT);
    while place::is_alive(&socket, &host) {
        if start.elapsed() >= wait {
            let message = format!("process {} has not ended after {wait:?}", host.pid);
            print_fault(&Fault::new(Code::StopForced, message));
            return exit::FAILED;
        }
        std::thread::sleep(STOP_TICK);
    }
    let ended = place::look(&socket).ok().flatten();
    let ended = ended.filter(|run| run.process == host && run.state == State::Ended);
    report(args.output, &host, ended.as_ref(), start.elapsed())
}

fn report(output: Output, host: &Process, ended: Option<&Run>, time: Duration) -> u8 {
    let code = ended.and_then(|run| run.code);
    let reason = ended.and_then(|run| run.reason.clone());
    if output == Output::Json {
        let seconds = time.as_secs_f64();
        let line =
            json!({ "stopped": host.pid, "seconds": seconds, "code": code, "reason": reason });
        print(&line.to_string());
    } else {
        let how = match (code, reason) {
            (Some(code), Some(reason)) => format!("{reason}; exit code {code}"),
            _ => "without a word: killed, or forced".to_owned(),
        };
        print(&format!("process {} ended after {:.2} s: {how}", host.pid, time.as_secs_f64()));
    }
    match code {
        Some(exit::DONE | exit::EMERGENCY) => exit::DONE,
        _ => exit::FAILED,
    }
}

pub(super) fn health(args: &HealthArgs) -> u8 {
    let socket = args.socket.path();
    let run = match living(&socket) {
        Ok(run) => run,
        Err(code) => return code,
    };
    let answered = Client::connect_within(&socket, HEALTH_WAIT)
        .and_then(|mut client| client.ask(&json!({ "health": {} })));
    let health = match (answered, run.state) {
        (Ok(mut answer), _) if answer.get("health").is_some() => {
            answer.get_mut("health").map(Value::take).unwrap_or_default()
        }
        (_, State::Starting | State::Binding) => {
            json!({ "state": "starting", "pid": run.process.pid })
        }
        (_, State::Stopping | State::Ended) => {
            json!({ "state": "stopping", "pid": run.process.pid })
        }
        _ => json!({ "state": "stuck", "pid": run.process.pid, "stuck": [{ "thread": "api" }] }),
    };
    let state = health.get("state").and_then(Value::as_str).unwrap_or("stuck");
    match args.output {
        Output::Json => print(&health.to_string()),
        Output::Human => print(&for_people(state, &health)),
    }
    exit_code(state)
}

/// The state, and what is the matter.
fn for_people(state: &str, health: &Value) -> String {
    let list = |name: &str, field: Option<&str>| {
        let values = health.get(name).and_then(Value::as_array).into_iter().flatten();
        let texts = values.filter_map(|value| field.map_or(Some(value), |field| value.get(field)));
        texts.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![state.to_owned()];
    for (name, field, what) in [
        ("parked", None, "parked"),
        ("restarting", None, "is being started again"),
        ("stalled", Some("thread"), "waits for the disk"),
        ("stuck", Some("thread"), "does not turn"),
    ] {
        let names = list(name, field);
        if !names.is_empty() {
            lines.push(format!("  {what}: {names}"));
        }
    }
    for service in health.get("services").and_then(Value::as_array).into_iter().flatten() {
        let reasons = service.get("reasons").and_then(Value::as_array).into_iter().flatten();
        let reasons: Vec<&str> = reasons.filter_map(Value::as_str).collect();
        if !reasons.is_empty() {
            let (name, status) = (text(service, "name"), text(service, "status"));
            lines.push(format!("  service {name} ({status}): {}", reasons.join("; ")));
        }
    }
    let journal = [("journal_refuses", "refuses"), ("journal_trouble", "is in trouble")];
    let journal = journal.iter().find_map(|(name, what)| {
        let text = health.get(*name)?.get("message")?.as_str()?;
        Some(format!("  the journal {what}: {text}"))
    });
    lines.extend(journal);
    lines.extend(
        health.get("stopping").and_then(Value::as_str).map(|text| format!("  stopping: {text}")),
    );
    lines.join("\n")
}
