//! `host run`: daemons up; then a request file, or a socket until Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::deploy::{CompileArgs, daemon_name, deploy, sandbox};
use super::settings::{Setting, parse_deadline, parse_fuel, parse_retries, read_parameters};
use super::{Output, SocketArgs, print, print_fault, requests, start_log};
use crate::base::clock::SystemClock;
use crate::base::entropy::{Entropy, SystemEntropy};
use crate::base::error::{Code, Fault};
use crate::base::limits::{BUDGET_DEFAULT_BYTES, MEMORY_SHARE_PERCENT};
use crate::mechanisms::journal::{DirectoryId, Durability, Store, StoreOptions};
use crate::mechanisms::memory::machine_memory_bytes;
use crate::pure::size::{parse_bytes, show_bytes};
use crate::shell::api::{Listening, serve};
use crate::shell::exit;
use crate::tree::{DaemonOptions, DaemonPlan, Root, RootOptions};

#[derive(Args, Debug)]
#[command(after_help = "\
NAME=VALUE holds for one daemon, VALUE alone for all; options may be repeated.

A request line, for --requests:
  {\"daemon\": \"ledger\", \"contract\": \"transfer\", \"args\": {\"from\": \"ann\", \"to\": \"bob\", \"amount\": 5}}
with \"key\" (idempotency) and \"correlation\" if wanted. With --output json there is an outcome line
for each, in order, and at the end one with the daemons' numbers.")]
pub(super) struct RunArgs {
    /// Guests; each becomes a daemon named after its file
    #[arg(required = true, value_name = "GUEST.wasm")]
    guests: Vec<PathBuf>,
    /// Most memory of a daemon's guest, like ledger=64MiB [default: 16MiB]
    #[arg(long, value_name = "[NAME=]SIZE")]
    budget: Vec<String>,
    /// Most memory of all daemons together [default: half of the machine's]
    #[arg(long, env = "BULKHEAD_MEMORY", value_name = "SIZE")]
    memory: Option<String>,
    /// Fuel per transaction [default: 1_000_000_000, about half a second]
    #[arg(long, value_name = "[NAME=]FUEL")]
    fuel: Vec<String>,
    /// Time per transaction [default: 1s]
    #[arg(long, value_name = "[NAME=]TIME")]
    deadline: Vec<String>,
    /// Times that a crashed transaction is tried again [default: 1]
    #[arg(long, value_name = "[NAME=]N")]
    retries: Vec<String>,
    /// State after a crash: checkpoint, zero, or ask the guest [default: checkpoint]
    #[arg(long, value_name = "[NAME=]POLICY")]
    on_crash: Vec<String>,
    /// Share of one processor, from 0.001 to 1.0 [default: 1.0]
    #[arg(long, value_name = "[NAME=]SHARE")]
    cpu: Vec<String>,
    /// A parameter for the guest's init
    #[arg(long, value_name = "NAME.KEY=VALUE")]
    param: Vec<String>,
    /// Compare whole memory images at each commit: slow, finds bugs of the write barrier
    #[arg(long)]
    verify_commits: bool,
    /// Keep the state in this directory: a commit is answered when it is durable there, and the
    /// next start goes on with it. Without it the state lives in memory only
    #[arg(long, env = "BULKHEAD_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// What an acknowledgement means, with --data: fsync survives a power cut, os only the end of
    /// this process
    #[arg(long, value_enum, default_value_t = DurabilityArg::Fsync, requires = "data")]
    durability: DurabilityArg,
    /// Run the requests of a file (- for standard input), print the outcome, and end
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum DurabilityArg {
    /// Synced to the disk
    Fsync,
    /// Handed to the operating system
    Os,
}

pub(super) fn run(args: &RunArgs) -> u8 {
    start_log(if args.requests.is_some() { "error" } else { "info" });
    match start(args).and_then(|root| go(args, root)) {
        Ok(code) => code,
        Err(fault) => {
            print_fault(&fault);
            match fault.code {
                Code::Option | Code::BudgetSize | Code::Name => exit::USAGE,
                _ => exit::FAILED,
            }
        }
    }
}

/// Reads all options before anything is compiled, then deploys and starts.
fn start(args: &RunArgs) -> Result<Root, Fault> {
    let memory_limit_bytes = match &args.memory {
        Some(text) => parse_bytes(text)
            .map_err(|error| Fault::new(Code::BudgetSize, format!("--memory: {error}")))?,
        None => machine_memory_bytes() / 100 * MEMORY_SHARE_PERCENT,
    };
    let names = args.guests.iter().map(|p| daemon_name(p)).collect::<Result<Vec<_>, _>>()?;
    let all_options = daemon_options(args, &names)?;
    let journal = args.data.as_deref().map(|dir| open_store(dir, args.durability)).transpose()?;
    let sandbox = sandbox(&args.compile)?;
    let mut plans = Vec::new();
    for (path, options) in args.guests.iter().zip(all_options) {
        plans.push(DaemonPlan::new(deploy(&sandbox, path)?, options));
    }
    let clock = Arc::new(SystemClock::new());
    let mut options = RootOptions::new(memory_limit_bytes, clock, Arc::new(SystemEntropy));
    options.journal = journal;
    Root::start(plans, options).map_err(|error| Fault::from(&error))
}

fn open_store(dir: &Path, durability: DurabilityArg) -> Result<Arc<Store>, Fault> {
    let durability = match durability {
        DurabilityArg::Fsync => Durability::Fsync,
        DurabilityArg::Os => Durability::Os,
    };
    let options = StoreOptions { durability, ..StoreOptions::default() };
    let mut id = [0; 16];
    id.copy_from_slice(SystemEntropy.seed().first_chunk::<16>().unwrap_or(&[0; 16]));
    let id = DirectoryId(u128::from_le_bytes(id));
    Store::open(dir, options, id).map(Arc::new).map_err(|fault| {
        Fault::new(fault.kind.code(), format!("--data {}: {fault}", dir.display()))
    })
}

fn daemon_options(args: &RunArgs, names: &[String]) -> Result<Vec<DaemonOptions>, Fault> {
    let budgets = Setting::read("budget", &args.budget, Code::BudgetSize, |text| {
        parse_bytes(text).map_err(|error| error.to_string())
    })?;
    let fuel = Setting::read("fuel", &args.fuel, Code::Option, parse_fuel)?;
    let deadline = Setting::read("deadline", &args.deadline, Code::Option, parse_deadline)?;
    let retries = Setting::read("retries", &args.retries, Code::Option, parse_retries)?;
    let on_crash = Setting::read("on-crash", &args.on_crash, Code::Option, str::parse)?;
    let cpu = Setting::read("cpu", &args.cpu, Code::Option, str::parse)?;
    budgets.check_names("budget", names)?;
    fuel.check_names("fuel", names)?;
    deadline.check_names("deadline", names)?;
    retries.check_names("retries", names)?;
    on_crash.check_names("on-crash", names)?;
    cpu.check_names("cpu", names)?;
    let mut parameters = read_parameters(&args.param, names)?;
    Ok(names
        .iter()
        .map(|name| {
            let budget = budgets.of(name).unwrap_or(BUDGET_DEFAULT_BYTES);
            let mut options = DaemonOptions::new(name, budget);
            options.limits.fuel = fuel.of(name).unwrap_or(options.limits.fuel);
            options.limits.deadline = deadline.of(name).unwrap_or(options.limits.deadline);
            options.retries_max = retries.of(name).unwrap_or(options.retries_max);
            options.on_crash = on_crash.of(name).unwrap_or(options.on_crash);
            options.share = cpu.of(name).unwrap_or(options.share);
            options.parameters = Value::Object(parameters.remove(name).unwrap_or_default());
            options.verify = args.verify_commits;
            options
        })
        .collect())
}

fn go(args: &RunArgs, root: Root) -> Result<u8, Fault> {
    match &args.requests {
        Some(file) => requests::run(&root, file, args.output),
        None => listen(args, root),
    }
}

/// Serves the socket until a signal asks for the end.
fn listen(args: &RunArgs, root: Root) -> Result<u8, Fault> {
    let listening = Listening::bind(&args.socket.path()).map_err(|error| Fault::from(&error))?;
    print(&greeting(args.output, &root, &listening));
    let broken = |error: std::io::Error| Fault::new(Code::Socket, error.to_string());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let root = Arc::new(root);
    let served = runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            served = serve(&listening, root.clone()) => served,
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    });
    // New clients find nobody; clients that wait get their answers from daemons that end.
    drop(listening);
    tracing::info!("stopping");
    runtime.shutdown_background();
    drop(root);
    served.map_err(broken)?;
    Ok(exit::DONE)
}

fn greeting(output: Output, root: &Root, listening: &Listening) -> String {
    let path = listening.path();
    let daemons = root.daemons();
    if output == Output::Json {
        let names: Vec<&str> = daemons.iter().map(|daemon| daemon.name.as_str()).collect();
        let pid = std::process::id();
        return json!({ "listening": path, "pid": pid, "daemons": names }).to_string();
    }
    let mut lines = vec![format!(
        "root, pid {}: {} reserved of {}",
        std::process::id(),
        show_bytes(root.bill().total_bytes()),
        show_bytes(root.bill().limit_bytes)
    )];
    for daemon in &daemons {
        lines.push(format!(
            "+- {:<16} daemon {}, generation {}, {} of {}",
            daemon.name,
            daemon.id,
            daemon.report.generation,
            show_bytes(usize::try_from(daemon.report.memory_bytes).unwrap_or(usize::MAX)),
            show_bytes(daemon.budget_bytes)
        ));
    }
    lines.push(match root.durability() {
        Some(durability) => format!("commits are durable: {}", durability.as_str()),
        None => "the state lives in memory only; --data DIR keeps it".to_owned(),
    });
    lines.push(format!("listening on {}; Ctrl-C stops", path.display()));
    lines.join("\n")
}
