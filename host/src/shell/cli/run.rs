//! `host run`: daemons up; then a request file, or a socket until Ctrl-C.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::conduct::conduct;
use super::deploy::{CompileArgs, Deployed, daemon_name, sandbox};
use super::log::{LogFormat, start_log_as};
use super::services::{self, Listed, is_manifest};
use super::settings::{Setting, is_daemon_parameter, read_parameters};
use super::store::{DataArgs, copies, deploy_copy, deploy_old, open_store};
use super::{Output, SocketArgs, print_fault};
use crate::base::clock::SystemClock;
use crate::base::entropy::SystemEntropy;
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Failure};
use crate::base::limits::{BUDGET_DEFAULT_BYTES, MEMORY_SHARE_PERCENT};
use crate::base::vitals::Vitals;
use crate::mechanisms::journal::{DaemonRow, Durability};
use crate::mechanisms::memory::machine_memory_bytes;
use crate::pure::ingress::Hosts;
use crate::pure::manifest::{BoundText, DaemonSpec};
use crate::pure::setting::{parse_deadline, parse_fuel, parse_restarts, parse_retries};
use crate::pure::size::{parse_bytes, show_bytes};
use crate::shell::api::Served;
use crate::shell::exit;
use crate::tree::{DaemonOptions, DaemonPlan, ResourcePlan, Root, RootOptions, UpgradeOptions};

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
NAME=VALUE holds for one daemon, VALUE alone for all; options may be repeated. For daemons of a
service NAME=VALUE comes before what its manifest says, and that before VALUE alone. All manifests
and their guests are checked before anything starts, as by `host validate`.

A request line, for --requests:
  {\"daemon\": \"ledger\", \"contract\": \"transfer\", \"args\": {\"from\": \"ann\", \"to\": \"bob\", \"amount\": 5}}
with \"key\" (idempotency) and \"correlation\" if wanted. With --output json there is an outcome line
for each, in order, and at the end one with the daemons' numbers.

HTTP, with --http: `POST /DAEMON/CONTRACT` with the arguments as a JSON object, or without a body,
answers the outcome line. `Idempotency-Key`, `Correlation-Id` or `X-Correlation-Id`, and `Prefer:
wait=SECONDS` are the request's key, correlation and wait. 200 committed; 422 rejected by the guest;
400 or 404 not understood; 403 asked for under a name that is not this host's, or by a page of
another site; 429 and 503 come back in a moment; 500 crashed, nothing happened; 502 not
known whether it happened: ask again with the same key. `GET /health` answers what `host health`
says, with 200, 503, or 410 when a person has to do something. There is neither TLS nor a login, so
whoever reaches the address may call each contract: put a proxy in front.")]
pub(super) struct RunArgs {
    /// Guests, each of which becomes a daemon named after its file, and services
    #[arg(required = true, value_name = "GUEST.wasm|SERVICE.toml")]
    files: Vec<PathBuf>,
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
    /// A parameter for the init of a daemon's guest, or one of a service
    #[arg(long, value_name = "[DAEMON.]KEY=VALUE")]
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
    /// Let an upgrade drop or change what the new code doesn't keep of the state
    #[arg(long, requires = "upgrade")]
    accept_loss: bool,
    /// Let the process end, an operation fail or stall at a fail point: for tests
    #[arg(long, hide = true, value_name = "POINT[:N[:ACTION]]")]
    fail_at: Option<Failure>,
    /// Answer HTTP at this address too, like 127.0.0.1:8080; port 0 is any. No TLS and no login
    #[arg(long, value_name = "ADDRESS", conflicts_with = "requests")]
    pub(super) http: Option<SocketAddr>,
    /// A name under which HTTP is asked for, beside addresses and localhost; may be repeated.
    /// Others are refused, since a page that a browser has loaded may have chosen them
    #[arg(long, value_name = "NAME", requires = "http", value_parser = Hosts::name)]
    pub(super) http_host: Vec<String>,
    /// Run the requests of a file (- for standard input), print the outcome, and end. Meanwhile
    /// there is a socket only where one is given: without, `host stop` and `host ps` don't reach it
    #[arg(long, value_name = "FILE")]
    pub(super) requests: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(super) output: Output,
    /// How log lines are written, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(flatten)]
    pub(super) socket: SocketArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

pub(super) fn run(args: &RunArgs) -> u8 {
    // The outcomes of a file's requests say which of them crashed.
    let default = if args.requests.is_some() { "error,crash=off" } else { "info" };
    start_log_as(default, args.log_format);
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
    let (listed, resources) = list(args)?;
    if !args.data.exists() {
        // A mistake in the options must not leave a new data directory behind.
        daemon_options(args, &listed, &[])?;
    }
    if let Some(failure) = args.fail_at {
        failpoint::arm(failure);
    }
    let journal = open_store(&args.data)?;
    let names: Vec<String> = listed.iter().map(|daemon| daemon.name.clone()).collect();
    let copies = copies(journal.as_deref(), &names);
    let mut all_options = daemon_options(args, &listed, &copies)?.into_iter();
    let sandbox = sandbox(&args.compile, vitals.clone())?;
    let (mut plans, mut upgrades) = (Vec::new(), Vec::new());
    let mut deployed = Deployed::default();
    for (daemon, options) in listed.iter().zip(&mut all_options) {
        if vitals.stop().is_set() {
            return Err(Fault::new(Code::Stopping, "the host was stopped while it started"));
        }
        let mut guest = deployed.deploy(&sandbox, &daemon.path)?;
        let keeps_state = options.stateless.is_none();
        if let Some(store) = journal.as_ref().filter(|_| args.upgrade && keeps_state)
            && let Some(old) = deploy_old(&sandbox, store, &options.name, &guest)?
        {
            upgrades.push((options.name.clone(), std::mem::replace(&mut guest, old)));
        }
        let (layer, needs, uses) = (daemon.layer(), daemon.needs(), daemon.uses());
        plans.push(DaemonPlan { layer, needs, uses, ..DaemonPlan::new(guest, options) });
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
    options.resources = resources;
    options.vitals = vitals.clone();
    let root = Root::start(plans, options).map_err(|error| Fault::from(&error))?;
    for (name, guest) in upgrades {
        let options = UpgradeOptions { dry_run: false, accept_loss: args.accept_loss };
        let upgraded = root.upgrade(&name, guest, options).map_err(|fault| {
            Fault::new(fault.code, format!("daemon `{name}`: {}", fault.message))
        })?;
        tracing::info!(daemon = name, sequence = upgraded.sequence.0, "upgraded");
    }
    let (vitals, health) = (vitals.clone(), Arc::default());
    let services = listed.into_iter();
    let services = services.filter_map(|daemon| Some((daemon.name, daemon.spec?.0))).collect();
    let (attending, closing) = (Arc::default(), watch::Sender::new(false));
    Ok(Served { root, sandbox, vitals, health, services, attending, closing })
}

/// The daemons to start, in the order of the command line. All manifests are read whole, and what
/// is wrong with any of them is said, before anything else is done.
fn list(args: &RunArgs) -> Result<(Vec<Listed>, Vec<ResourcePlan>), Fault> {
    let (manifests, guests): (Vec<_>, Vec<_>) =
        args.files.iter().cloned().partition(|path| is_manifest(path));
    let named = |path: PathBuf| daemon_name(&path).map(|name| (name, path));
    let guests = guests.into_iter().map(named).collect::<Result<Vec<_>, _>>()?;
    let params: &[String] = if manifests.is_empty() { &[] } else { &args.param };
    let services = services::read(&manifests, params).map_err(|wrong| services::fault(&wrong))?;
    let resources = services::resources(&services);
    let mut listed = services::daemons(services, &guests)?;
    listed.extend(guests.into_iter().map(|(name, path)| Listed { name, path, spec: None }));
    Ok((listed, resources))
}

/// The options of each daemon; the budget of a copy is that of its origin unless it is given.
fn daemon_options(
    args: &RunArgs,
    listed: &[Listed],
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
    let own = listed.iter().map(|daemon| (&daemon.name, daemon.spec.as_ref(), None));
    let copied = copies.iter().map(|(name, row)| (name, None, Some(row)));
    let daemons: Vec<_> = own.chain(copied).collect();
    let names: Vec<String> = daemons.iter().map(|(name, ..)| (*name).clone()).collect();
    budgets.check_names("budget", &names)?;
    fuel.check_names("fuel", &names)?;
    deadline.check_names("deadline", &names)?;
    retries.check_names("retries", &names)?;
    on_crash.check_names("on-crash", &names)?;
    restarts.check_names("restarts", &names)?;
    cpu.check_names("cpu", &names)?;
    let mut parameters = read_parameters(&daemon_parameters(args), &names)?;
    let options = |(name, spec, copied): (&String, Option<&(String, _)>, Option<&DaemonRow>)| {
        let spec: Option<&DaemonSpec<BoundText>> = spec.map(|(_, spec)| spec);
        let budget = copied.map_or(BUDGET_DEFAULT_BYTES, |row| {
            usize::try_from(row.budget_bytes).unwrap_or(usize::MAX)
        });
        let budget = budgets.of(name, spec.and_then(|spec| spec.budget_bytes)).unwrap_or(budget);
        let mut options = DaemonOptions::new(name, budget);
        if let Some(instances) = spec.and_then(|spec| spec.stateless) {
            options = options.stateless(instances);
        }
        options.readers = spec.map_or(0, |spec| spec.readers);
        let limits = &mut options.limits;
        limits.fuel = fuel.of(name, spec.and_then(|spec| spec.fuel)).unwrap_or(limits.fuel);
        let given = deadline.of(name, spec.and_then(|spec| spec.deadline));
        limits.deadline = given.unwrap_or(limits.deadline);
        let given = retries.of(name, spec.and_then(|spec| spec.retries));
        options.retries_max = given.unwrap_or(options.retries_max);
        options.retry_live = spec.is_some_and(|spec| spec.retry_live);
        let given = on_crash.of(name, spec.and_then(|spec| spec.on_crash));
        options.on_crash = given.unwrap_or(options.on_crash);
        let given = restarts.of(name, spec.and_then(|spec| spec.restarts));
        options.restarts = given.unwrap_or(options.restarts);
        options.share = cpu.of(name, spec.and_then(|spec| spec.cpu)).unwrap_or(options.share);
        let mut init = spec.map(|spec| spec.parameters.expose().clone()).unwrap_or_default();
        init.extend(parameters.remove(name).unwrap_or_default());
        options.parameters = Value::Object(init);
        options.verify = args.verify_commits;
        options
    };
    Ok(daemons.into_iter().map(options).collect())
}

/// Those of `--param` that are meant for daemons: without a service all of them.
fn daemon_parameters(args: &RunArgs) -> Vec<String> {
    let services = args.files.iter().any(|path| is_manifest(path));
    args.param.iter().filter(|text| !services || is_daemon_parameter(text)).cloned().collect()
}

pub(super) fn greeting(
    output: Output,
    root: &Root,
    path: &Path,
    http: Option<SocketAddr>,
) -> String {
    let daemons = root.daemons();
    if output == Output::Json {
        let names: Vec<&str> = daemons.iter().map(|daemon| daemon.name.as_str()).collect();
        let pid = std::process::id();
        let greeting = json!({ "listening": path, "http": http, "pid": pid, "daemons": names });
        return greeting.to_string();
    }
    let mut lines = vec![format!(
        "root, pid {}: {} reserved of {}",
        std::process::id(),
        show_bytes(root.bill().total_bytes()),
        show_bytes(root.bill().limit_bytes)
    )];
    for daemon in &daemons {
        lines.push(format!(
            "+- {:<16} daemon {}, {}, generation {}, {} of {}",
            daemon.name,
            daemon.id,
            daemon.report.state.as_str(),
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
    if let Some(http) = http {
        lines.push(format!("HTTP for whoever reaches it: POST http://{http}/DAEMON/CONTRACT"));
    }
    lines.push(format!("listening on {}; Ctrl-C stops", path.display()));
    lines.join("\n")
}
