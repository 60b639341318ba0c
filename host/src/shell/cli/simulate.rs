//! `host simulate-crash`: the promise, shown on a daemon that runs, or on a copy of it in a second
//! host that is killed.

mod second;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::second::Second;
use super::call::fetch;
use super::table::{Align, Table};
use super::{Output, SocketArgs, print, print_fault, start_log};
use crate::base::entropy::{Entropy, EntropyStream, SystemEntropy};
use crate::base::error::{Code, Fault};
use crate::pure::drill::{Kill, State};
use crate::shell::exit;

/// Most kills: each takes about a second.
const KILLS_MAX: u32 = 1000;

/// Shortest and longest time in microseconds from the first acknowledgement to the kill.
const KILL_AFTER_MICROS: (u64, u64) = (100, 250_000);

#[derive(Args, Debug)]
#[command(after_help = "\
Without --host the daemon that runs is crashed between two requests: random bytes over live memory
and globals, a trap, a restart on the last commit. The state is compared before and after.

With --thread it loses its thread between two requests; the root gives it another one, as it does
after any bug of the host. That counts: the second one in a row waits, the third longer, and after
as many as --restarts says the daemon is parked.

With --host nothing happens to the running host: a second one is started on a copy of the daemon, in
a directory that is deleted afterwards, makes commits, and is killed (SIGKILL) at random moments.
The daemon's resources are down there: it asks nothing of the real ones.

Exit codes: 0 all is as it was, 1 it is not, or it could not be tried, 5 no host answers.")]
pub(super) struct SimulateArgs {
    /// The daemon's name
    daemon: String,
    /// Kill a second host that runs a copy of the daemon
    #[arg(long)]
    host: bool,
    /// Let the daemon's thread in the running host die, as a bug of the host would
    #[arg(long, conflicts_with = "host")]
    thread: bool,
    /// How often, with --host
    #[arg(long, value_name = "N", default_value_t = 10, requires = "host",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(KILLS_MAX)))]
    kills: u32,
    /// Requests that the copy runs, over and over, as for `host run` [default: reverts to the last
    /// commit, which any guest can do]
    #[arg(long, value_name = "FILE", requires = "host")]
    requests: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn simulate(args: &SimulateArgs) -> u8 {
    if args.thread {
        return kill_thread(args);
    }
    if !args.host {
        return crash_daemon(args);
    }
    start_log("warn");
    match crash_host(args) {
        Ok(true) => exit::DONE,
        Ok(false) => exit::FAILED,
        Err(Failed::Fault(fault)) => {
            print_fault(&fault);
            exit::FAILED
        }
        Err(Failed::Told(code)) => code,
    }
}

/// Why nothing could be tried.
enum Failed {
    /// To be printed.
    Fault(Fault),
    /// Printed already; the exit code.
    Told(u8),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn kill_thread(args: &SimulateArgs) -> u8 {
    let answer = match fetch(&args.socket, &json!({ "simulate_thread_death": args.daemon })) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let of = |when: &str, name: &str| {
        let value = answer.get(when).and_then(|stand| stand.get(name)).unwrap_or(&Value::Null);
        value.as_str().map_or_else(|| value.to_string(), |text| text.chars().take(12).collect())
    };
    let commit =
        |when: &str| format!("commit {}, state {}", of(when, "sequence"), of(when, "hash"));
    let same = of("before", "sequence") == of("after", "sequence");
    let lost = same && of("before", "hash") != of("after", "hash");
    if args.output == Output::Json {
        print(&answer.to_string());
    } else {
        let micros = answer.get("took_us").and_then(Value::as_f64).unwrap_or(0.0);
        print(&format!(
            "daemon `{}`: {}; its thread died\nback after {micros:.1} us, generation {}: {}, {}",
            args.daemon,
            commit("before"),
            of("after", "generation"),
            commit("after"),
            if lost {
                "NOT the same"
            } else if same {
                "the same"
            } else {
                "and it went on"
            }
        ));
    }
    if lost { exit::FAILED } else { exit::DONE }
}

fn crash_daemon(args: &SimulateArgs) -> u8 {
    let answer = match fetch(&args.socket, &json!({ "simulate_crash": args.daemon })) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    if args.output == Output::Json {
        print(&answer.to_string());
        return exit::DONE;
    }
    let text = |name: &str| match answer.get(name) {
        Some(Value::String(text)) => text.chars().take(12).collect(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    let micros = answer.get("recovery_us").and_then(Value::as_f64).unwrap_or(0.0);
    print(&format!(
        "daemon `{}`: commit {}, state {}\n\
         wrote random bytes over {} cards and all globals: state {}; then it trapped\n\
         running again after {micros:.1} us, generation {}: state {}, the same",
        args.daemon,
        text("sequence"),
        text("hash"),
        text("cards"),
        text("ruined_hash"),
        text("generation"),
        text("hash"),
    ));
    exit::DONE
}

/// One kill, and what was there after it.
struct Round {
    killed_after: Duration,
    /// The last acknowledged commit.
    acknowledged: u64,
    /// How many were acknowledged.
    acknowledgements: u64,
    recovered: State,
    /// What is wrong; nothing: all is good.
    wrong: Vec<String>,
}

fn crash_host(args: &SimulateArgs) -> Result<bool, Failed> {
    let requests = args.requests.as_deref().map(|file| requests(file, &args.daemon)).transpose()?;
    let file = |error: std::io::Error| Fault::new(Code::File, error.to_string());
    let dir = tempfile::Builder::new().prefix("bulkhead-").tempdir().map_err(file)?;
    let path = dir.path().join("snapshot");
    let asked = json!({ "snapshot": { "daemon": args.daemon, "path": path } });
    fetch(&args.socket, &asked).map_err(Failed::Told)?;
    let ps = fetch(&args.socket, &json!({ "ps": { "hash": false } })).map_err(Failed::Told)?;
    let budget = second::find(&ps, &args.daemon);
    let budget = budget.and_then(|daemon| daemon.get("budget_bytes")).and_then(Value::as_u64);
    let snapshot = std::fs::read(&path).map_err(file)?;
    let resources = fetch(&args.socket, &json!({ "resources": {} })).map_err(Failed::Told)?;
    let resources = resources_of(&resources, &args.daemon);
    let mut second = Second::plant(dir.path(), &args.daemon, &snapshot, budget, &resources)?;
    let mut random = EntropyStream::new(SystemEntropy.seed());
    let mut rounds = Vec::new();
    for _ in 0..args.kills {
        rounds.push(kill(&mut second, requests.as_deref(), &mut random)?);
        if rounds.last().is_some_and(|round| !round.wrong.is_empty()) {
            break;
        }
    }
    Ok(report(args.output, &rounds))
}

/// Names and kinds of the resources that a daemon depends on.
fn resources_of<'a>(answer: &'a Value, daemon: &str) -> Vec<(&'a str, &'a str)> {
    let all = answer.get("resources").and_then(Value::as_array);
    let its = all.into_iter().flatten().filter(|resource| {
        ["needed_by", "used_by"].iter().any(|by| {
            let daemons = resource.get(*by).and_then(Value::as_array);
            daemons.is_some_and(|daemons| daemons.iter().any(|one| one == daemon))
        })
    });
    let mut named = Vec::new();
    for resource in its {
        let text = |field: &str| resource.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = text("name").rsplit('/').next().unwrap_or_default();
        // A guest knows them by these names alone.
        if named.iter().all(|(other, _)| *other != name) {
            named.push((name, text("kind")));
        }
    }
    named
}

/// The lines of a request file, for the copy.
fn requests(file: &Path, daemon: &str) -> Result<Vec<String>, Fault> {
    let failed =
        |error: std::io::Error| Fault::new(Code::File, format!("{}: {error}", file.display()));
    let mut requests = Vec::new();
    for line in std::fs::read_to_string(file).map_err(failed)?.lines() {
        let request = crate::pure::request::Request::parse(line)?;
        if request.daemon == daemon {
            requests.push(format!("{{\"call\":{}}}", request.to_line()));
        }
    }
    if requests.is_empty() {
        let message = format!("{}: no request for daemon `{daemon}`", file.display());
        return Err(Fault::new(Code::Request, message));
    }
    Ok(requests)
}

fn kill(
    second: &mut Second,
    requests: Option<&[String]>,
    random: &mut EntropyStream,
) -> Result<Round, Fault> {
    let left = second.last().cloned();
    let started = second.start()?;
    let (least, most) = KILL_AFTER_MICROS;
    let after = Duration::from_micros(least + random.next_u64() % (most - least));
    let load = second.load_and_kill(requests, after)?;
    let recovered = second.recover()?;
    let kill = Kill {
        left: left.as_ref(),
        started: &started,
        attempts: load.attempts,
        acknowledged: load.last,
        recovered: &recovered.state,
        only_reverts: requests.is_none(),
        changes_itself: second.changes_itself(),
    };
    let mut wrong = kill.wrong();
    wrong.extend(recovered.damage.iter().cloned());
    let acknowledged = load.last.max(started.sequence);
    let (killed_after, acknowledgements) = (load.killed_after, load.acknowledgements);
    Ok(Round { killed_after, acknowledged, acknowledgements, recovered: recovered.state, wrong })
}

/// Prints what was found; true when all is good.
fn report(output: Output, rounds: &[Round]) -> bool {
    let good = rounds.iter().all(|round| round.wrong.is_empty());
    let commits: u64 = rounds.iter().map(|round| round.acknowledgements).sum();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    if output == Output::Json {
        let kills = rounds.iter().map(|round| {
            json!({
                "killed_after_us": micros(round.killed_after),
                "acknowledged": round.acknowledged,
                "recovered": round.recovered.sequence,
                "hash": round.recovered.hash,
                "wrong": round.wrong,
            })
        });
        let kills: Vec<Value> = kills.collect();
        print(&json!({ "pass": good, "acknowledgements": commits, "kills": kills }).to_string());
        return good;
    }
    let mut table = Table::new(&[
        ("KILL", Align::Right),
        ("AFTER", Align::Right),
        ("ACKNOWLEDGED", Align::Right),
        ("RECOVERED", Align::Right),
        ("STATE", Align::Left),
        ("CHAIN", Align::Left),
    ]);
    for (number, round) in (1..).zip(rounds) {
        table.row(vec![
            i32::to_string(&number),
            format!("{:.1} ms", micros(round.killed_after) / 1000.0),
            round.acknowledged.to_string(),
            round.recovered.sequence.to_string(),
            round.recovered.hash.chars().take(12).collect(),
            if round.wrong.is_empty() { "good".to_owned() } else { "NOT GOOD".to_owned() },
        ]);
    }
    print(&table.to_string());
    for wrong in rounds.iter().flat_map(|round| &round.wrong) {
        print(&format!("  {wrong}"));
    }
    let kills = rounds.len();
    print(&match good {
        true => format!("PASS: {kills} kills, {commits} acknowledged commits, none lost"),
        false => "FAIL".to_owned(),
    });
    good
}
