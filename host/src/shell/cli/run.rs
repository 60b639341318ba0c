//! `host run`: daemons up; then a request file, or a socket until Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use clap::Args;
use serde_json::{Value, json};

use super::conduct::conduct;
use super::deploy::{CompileArgs, Deployed, daemon_name, sandbox};
use super::settings::{Setting, read_parameters};
use super::store::{DataArgs, copies, deploy_copy, deploy_old, open_store};
use super::{Output, SocketArgs, print_fault, start_log};
use crate::base::clock::SystemClock;
use crate::base::entropy::SystemEntropy;
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Failure};
use crate::base::limits::{BUDGET_DEFAULT_BYTES, MEMORY_SHARE_PERCENT};
use crate::base::vitals::Vitals;
use crate::mechanisms::journal::{DaemonRow, Durability};
use crate::mechanisms::memory::machine_memory_bytes;
use crate::pure::setting::{parse_deadline, parse_fuel, parse_restarts, parse_retries};
use crate::pure::size::{parse_bytes, show_bytes};
use crate::shell::api::Served;
use crate::shell::exit;
use crate::tree::{DaemonOptions, DaemonPlan, Root, RootOptions};

#[derive(Args, Clone, Debug)]
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
    /// Deaths of a daemon's thread (bugs of the host) within a time after which it is given up:
    /// parked, or the host stops as in an emergency [default: 10/60s,park]
    #[arg(long, value_name = "[NAME=]N/TIME[,park|,emergency]")]
    restarts: Vec<String>,
    /// Share of one processor, from 0.001 to 1.0 [default: 1.0]
    #[arg(long, value_name = "[NAME=]SHARE")]
    cpu: Vec<String>,
    /// A parameter for the guest's init
    #[arg(long, value_name = "NAME.KEY=VALUE")]
    param: Vec<String>,
    /// Compare whole memory images at each commit: slow, finds bugs of the write barrier
    #[arg(long)]
    verify_commits: bool,
    /// Time for transactions that run to end when the host stops; the last sync gets as long, and
    /// at least two seconds
    /// [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub(super) stop_grace: Option<String>,
    /// How late a thread of the host itself may be before the host ends as stuck [default: 30s]
    #[arg(long, hide = true, value_name = "TIME")]
    pub(super) watch_slack: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    /// Where a file has other code than the state that is there, upgrade the state to it before
    /// anything is served; without this it is refused
    #[arg(long)]
    upgrade: bool,
    /// Let the process end, an operation fail or stall at a fail point: for tests
    #[arg(long, hide = true, value_name = "POINT[:N[:ACTION]]")]
    fail_at: Option<Failure>,
    /// Run the requests of a file (- for standard input), print the outcome, and end. Meanwhile
    /// there is a socket only where one is given: without, `host stop` and `host ps` don't reach it
    #[arg(long, value_name = "FILE")]
    pub(super) requests: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) socket: SocketArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

pub(super) fn run(args: &RunArgs) -> u8 {
    start_log(if args.requests.is_some() { "error" } else { "info" });
    conduct(args).unwrap_or_else(|fault| {
        print_fault(&fault);
        match fault.code {
            Code::Option | Code::BudgetSize | Code::Name => exit::USAGE,
            _ => exit::FAILED,
        }
    })
}

/// Reads all options before anything is compiled, then deploys and starts.
pub(super) fn start(args: &RunArgs, vitals: &Arc<Vitals>) -> Result<Served, Fault> {
    let memory_limit_bytes = match &args.memory {
        Some(text) => parse_bytes(text)
            .map_err(|error| Fault::new(Code::BudgetSize, format!("--memory: {error}")))?,
        None => machine_memory_bytes() / 100 * MEMORY_SHARE_PERCENT,
    };
    let mut names = args.guests.iter().map(|p| daemon_name(p)).collect::<Result<Vec<_>, _>>()?;
    if !args.data.exists() {
        // A mistake in the options must not leave a new data directory behind.
        daemon_options(args, &names, &[])?;
    }
    if let Some(failure) = args.fail_at {
        failpoint::arm(failure);
    }
    let journal = open_store(&args.data)?;
    let copies = copies(journal.as_deref(), &names);
    names.extend(copies.iter().map(|(name, _)| name.clone()));
    let mut all_options = daemon_options(args, &names, &copies)?.into_iter();
    let sandbox = sandbox(&args.compile, vitals.clone())?;
    let (mut plans, mut upgrades) = (Vec::new(), Vec::new());
    let mut deployed = Deployed::default();
    for (path, options) in args.guests.iter().zip(&mut all_options) {
        if vitals.stop().is_set() {
            return Err(Fault::new(Code::Stopping, "the host was stopped while it started"));
        }
        let mut guest = deployed.deploy(&sandbox, path)?;
        if let Some(store) = journal.as_ref().filter(|_| args.upgrade)
            && let Some(old) = deploy_old(&sandbox, store, &options.name, &guest)?
        {
            upgrades.push((options.name.clone(), std::mem::replace(&mut guest, old)));
        }
        plans.push(DaemonPlan::new(guest, options));
    }
    for ((name, row), options) in copies.iter().zip(all_options) {
        let Some(store) = &journal else { continue };
        if let Some(guest) = deploy_copy(&sandbox, store, name, *row)? {
            plans.push(DaemonPlan { copied: true, ..DaemonPlan::new(guest, options) });
        }
    }
    let clock = Arc::new(SystemClock::new());
    let mut options = RootOptions::new(memory_limit_bytes, clock, Arc::new(SystemEntropy));
    options.journal = journal;
    options.vitals = vitals.clone();
    let root = Root::start(plans, options).map_err(|error| Fault::from(&error))?;
    for (name, guest) in upgrades {
        let upgraded = root.upgrade(&name, guest, false).map_err(|fault| {
            Fault::new(fault.code, format!("daemon `{name}`: {}", fault.message))
        })?;
        tracing::info!(daemon = name, sequence = upgraded.sequence.0, "upgraded");
    }
    let (vitals, health) = (vitals.clone(), Arc::default());
    Ok(Served { root, sandbox, vitals, health, attending: AtomicUsize::new(0) })
}

/// The options of each daemon; the budget of a copy is that of its origin unless it is given.
fn daemon_options(
    args: &RunArgs,
    names: &[String],
    copies: &[(String, DaemonRow)],
) -> Result<Vec<DaemonOptions>, Fault> {
    let budgets = Setting::read("budget", &args.budget, Code::BudgetSize, |text| {
        parse_bytes(text).map_err(|error| error.to_string())
    })?;
    let fuel = Setting::read("fuel", &args.fuel, Code::Option, parse_fuel)?;
    let deadline = Setting::read("deadline", &args.deadline, Code::Option, parse_deadline)?;
    let retries = Setting::read("retries", &args.retries, Code::Option, parse_retries)?;
    let on_crash = Setting::read("on-crash", &args.on_crash, Code::Option, str::parse)?;
    let restarts = Setting::read("restarts", &args.restarts, Code::Option, parse_restarts)?;
    let cpu = Setting::read("cpu", &args.cpu, Code::Option, str::parse)?;
    budgets.check_names("budget", names)?;
    fuel.check_names("fuel", names)?;
    deadline.check_names("deadline", names)?;
    retries.check_names("retries", names)?;
    on_crash.check_names("on-crash", names)?;
    restarts.check_names("restarts", names)?;
    cpu.check_names("cpu", names)?;
    let mut parameters = read_parameters(&args.param, names)?;
    Ok(names
        .iter()
        .map(|name| {
            let copied = copies.iter().find(|(copy, _)| copy == name);
            let budget = copied.map_or(BUDGET_DEFAULT_BYTES, |(_, row)| {
                usize::try_from(row.budget_bytes).unwrap_or(usize::MAX)
            });
            let budget = budgets.of(name).unwrap_or(budget);
            let mut options = DaemonOptions::new(name, budget);
            options.limits.fuel = fuel.of(name).unwrap_or(options.limits.fuel);
            options.limits.deadline = deadline.of(name).unwrap_or(options.limits.deadline);
            options.retries_max = retries.of(name).unwrap_or(options.retries_max);
            options.on_crash = on_crash.of(name).unwrap_or(options.on_crash);
            options.restarts = restarts.of(name).unwrap_or(options.restarts);
            options.share = cpu.of(name).unwrap_or(options.share);
            options.parameters = Value::Object(parameters.remove(name).unwrap_or_default());
            options.verify = args.verify_commits;
            options
        })
        .collect())
}

pub(super) fn greeting(output: Output, root: &Root, path: &Path) -> String {
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
        Some(Durability::Fsync) => "an answered commit survives a power cut (fsync)".to_owned(),
        Some(Durability::Os) => {
            "an answered commit survives the end of this process (os)".to_owned()
        }
        None => "the state lives in memory only".to_owned(),
    });
    lines.push(format!("listening on {}; Ctrl-C stops", path.display()));
    lines.join("\n")
}
