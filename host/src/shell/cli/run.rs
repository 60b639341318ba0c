//! `host run`: daemons up; then a request file, or a socket until Ctrl-C.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::sync::watch;

use super::conduct::conduct;
use super::deploy::{CompileArgs, Deployed, daemon_name, sandbox};
use super::log::{LogFormat, start_log_as};
use super::options::daemon_options;
use super::prepare::{Prepared, Preparing};
use super::services::{self, Listed, is_manifest};
use super::store::{Copied, DataArgs, copies, open_store};
use super::{Output, SocketArgs, print_fault};
use crate::base::clock::SystemClock;
use crate::base::entropy::SystemEntropy;
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Failure};
use crate::base::limits::MEMORY_SHARE_PERCENT;
use crate::base::vitals::Vitals;
use crate::mechanisms::journal::Durability;
use crate::mechanisms::memory::machine_memory_bytes;
use crate::mechanisms::sandbox::Guest;
use crate::pure::ingress::Hosts;
use crate::pure::size::{parse_bytes, show_bytes};
use crate::shell::api::Served;
use crate::shell::exit;
use crate::tree::{
    DaemonOptions, DaemonPlan, DaemonState, ResourcePlan, Root, RootOptions, Unstarted,
    UpgradeOptions,
};

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
    pub(super) files: Vec<PathBuf>,
    /// Most memory of a daemon's guest, like ledger=64MiB [default: 16MiB]
    #[arg(long, value_name = "[NAME=]SIZE")]
    pub(super) budget: Vec<String>,
    /// Most memory of all daemons together [default: half of the machine's]
    #[arg(long, env = "BULKHEAD_MEMORY", value_name = "SIZE")]
    memory: Option<String>,
    /// Fuel per transaction [default: 1_000_000_000, about half a second]
    #[arg(long, value_name = "[NAME=]FUEL")]
    pub(super) fuel: Vec<String>,
    /// Time per transaction [default: 1s]
    #[arg(long, value_name = "[NAME=]TIME")]
    pub(super) deadline: Vec<String>,
    /// Times that a crashed transaction is tried again [default: 1]
    #[arg(long, value_name = "[NAME=]N")]
    pub(super) retries: Vec<String>,
    /// State after a crash: checkpoint, zero, or ask the guest [default: checkpoint]
    #[arg(long, value_name = "[NAME=]POLICY")]
    pub(super) on_crash: Vec<String>,
    /// Deaths of a daemon's thread (bugs of the host) within a time after which it is given up:
    /// parked, or the host stops as in an emergency [default: 10/60s,park]
    #[arg(long, value_name = "[NAME=]N/TIME[,park|,emergency]")]
    pub(super) restarts: Vec<String>,
    /// Share of one processor, from 0.001 to 1.0 [default: 1.0]
    #[arg(long, value_name = "[NAME=]SHARE")]
    pub(super) cpu: Vec<String>,
    /// A parameter for the init of a daemon's guest, or one of a service
    #[arg(long, value_name = "[DAEMON.]KEY=VALUE")]
    pub(super) param: Vec<String>,
    /// Compare whole memory images at each commit: slow, finds bugs of the write barrier
    #[arg(long)]
    pub(super) verify_commits: bool,
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
    /// anything is served; without this the daemon is parked
    #[arg(long)]
    upgrade: bool,
    /// Let an upgrade drop or change what the new code doesn't keep of the state
    #[arg(long, requires = "upgrade")]
    accept_loss: bool,
    /// Let the process end, an operation fail or stall at a fail point: for tests
    #[arg(long, hide = true, value_name = "POINT[:N[:ACTION]]")]
    fail_at: Option<Failure>,
    /// Answer HTTP at this address too, like 127.0.0.1:8080; port 0 is any. No TLS and no login
    #[arg(long, value_name = "ADDRESS", conflicts_with = "requests", value_parser = parse_address)]
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
    if let Some(failure) = args.fail_at {
        failpoint::arm(failure);
    }
    // A mistake in the options must not leave a new data directory behind.
    let found = if args.data.exists() { open_store(&args.data)? } else { None };
    let known = |name: &str| found.as_deref().is_some_and(|store| store.may_have_state(name));
    let (listed, resources) = list(args, &known)?;
    if found.is_none() {
        daemon_options(args, &listed, &[])?;
    }
    let journal = match found {
        Some(store) => Some(store),
        None => open_store(&args.data)?,
    };
    let data = journal.as_ref().map(|store| {
        let path = std::path::absolute(args.data.path());
        let path = path.unwrap_or_else(|_unknown| args.data.path().to_owned());
        (path, store.daemons().is_empty() && store.names_damage().is_none())
    });
    let names: Vec<String> = listed.iter().map(|daemon| daemon.name.clone()).collect();
    let copies = copies(journal.as_deref(), &names);
    let all_options = daemon_options(args, &listed, &copies)?;
    let sandbox = sandbox(&args.compile, vitals.clone())?;
    let store = journal.as_deref();
    let deployed = Deployed::default();
    let mut preparing = Preparing { sandbox: &sandbox, store, upgrade: args.upgrade, deployed };
    let planned = plan_all(&mut preparing, &listed, &copies, all_options, vitals)?;
    let clock = Arc::new(SystemClock::new());
    let mut options = RootOptions::new(memory_limit_bytes, clock, Arc::new(SystemEntropy));
    options.journal = journal;
    options.resources = resources;
    options.unstarted = planned.unstarted;
    options.vitals = vitals.clone();
    let root = Root::start(planned.plans, options).map_err(|error| Fault::from(&error))?;
    upgrade_all(&root, planned.upgrades, args.accept_loss);
    if args.requests.is_some()
        && let Some(fault) = root.daemons().into_iter().find_map(|daemon| {
            (daemon.report.state == DaemonState::Parked).then_some(daemon.report.parked)?
        })
    {
        // Nobody is there to resume it, and requests that are refused are no run of the file.
        return Err(fault);
    }
    let (vitals, health) = (vitals.clone(), Arc::default());
    let files = listed.iter().map(|daemon| (daemon.name.clone(), daemon.path.clone())).collect();
    let services = listed.into_iter();
    let services = services.filter_map(|daemon| Some((daemon.name, daemon.spec?.0))).collect();
    let (attending, closing) = (Arc::default(), watch::Sender::new(false));
    Ok(Served { root, sandbox, vitals, health, services, files, data, attending, closing })
}

/// What the root is to start.
#[derive(Default)]
struct Planned {
    plans: Vec<DaemonPlan>,
    /// What has a state and can't be started.
    unstarted: Vec<Unstarted>,
    /// What is upgraded once it runs: to what, and the file.
    upgrades: Vec<(String, Arc<Guest>, PathBuf)>,
}

/// Makes a guest for each daemon. One that has a state and gets none is parked.
fn plan_all(
    preparing: &mut Preparing<'_>,
    listed: &[Listed],
    copies: &[Copied],
    all_options: Vec<DaemonOptions>,
    vitals: &Vitals,
) -> Result<Planned, Fault> {
    let (mut planned, mut all_options) = (Planned::default(), all_options.into_iter());
    let go_on = || match vitals.stop().is_set() {
        true => Err(Fault::new(Code::Stopping, "the host was stopped while it started")),
        false => Ok(()),
    };
    let store = preparing.store;
    for (daemon, options) in listed.iter().zip(&mut all_options) {
        go_on()?;
        let (layer, needs, uses) = (daemon.layer(), daemon.needs(), daemon.uses());
        let prepared = preparing.listed(daemon, &options);
        // What is stateless now would not be started on the state that it had.
        let stated = options.stateless.is_none()
            && store.is_some_and(|store| store.may_have_state(&daemon.name));
        match prepared {
            Ok(Prepared { guest, upgrade }) => {
                let upgrade = upgrade.map(|to| (daemon.name.clone(), to, daemon.path.clone()));
                planned.upgrades.extend(upgrade);
                let plan = DaemonPlan::new(guest, options);
                planned.plans.push(DaemonPlan { layer, needs, uses, ..plan });
            }
            Err(why) if stated => {
                planned.unstarted.push(Unstarted { options, copied: false, needs, uses, why });
            }
            Err(fault) => return Err(fault),
        }
    }
    for (copy, options) in copies.iter().zip(all_options) {
        go_on()?;
        let Some(store) = store else { continue };
        let setup = copy.setup.as_ref();
        let needs = setup.map(|setup| setup.needs.clone()).unwrap_or_default();
        let uses = setup.map(|setup| setup.uses.clone()).unwrap_or_default();
        let prepared = match copy.unreadable.clone() {
            Some(fault) => Err(fault),
            None => preparing.of_state(store, &copy.name, options.budget_bytes),
        };
        match prepared {
            Ok(Prepared { guest, .. }) => {
                let plan = DaemonPlan::new(guest, options);
                planned.plans.push(DaemonPlan { copied: true, needs, uses, ..plan });
            }
            Err(why) => {
                planned.unstarted.push(Unstarted { options, copied: true, needs, uses, why });
            }
        }
    }
    Ok(planned)
}

/// Upgrades what was asked for. One that fails is parked on its old code: nobody asked for that.
fn upgrade_all(root: &Root, upgrades: Vec<(String, Arc<Guest>, PathBuf)>, accept_loss: bool) {
    let options = UpgradeOptions { dry_run: false, accept_loss };
    for (name, guest, path) in upgrades {
        match root.upgrade(&name, guest, options) {
            Ok(upgraded) => {
                tracing::info!(daemon = name, sequence = upgraded.sequence.0, "upgraded");
            }
            Err(fault) => {
                let message = format!(
                    "daemon `{name}`: the upgrade to {} failed: {fault}. `host resume {name}` goes \
                     on with the old code",
                    path.display()
                );
                // One that could not be started is parked already.
                drop(root.park(&name, Fault::new(Code::CodeChanged, message)));
            }
        }
    }
}

/// The daemons to start, in the order of the command line. All manifests are read whole, and what
/// is wrong with any of them is said, before anything else is done. A daemon whose state is `known`
/// can do without its file.
fn list(
    args: &RunArgs,
    known: &dyn Fn(&str) -> bool,
) -> Result<(Vec<Listed>, Vec<ResourcePlan>), Fault> {
    let (manifests, guests): (Vec<_>, Vec<_>) =
        args.files.iter().cloned().partition(|path| is_manifest(path));
    let named = |path: PathBuf| daemon_name(&path).map(|name| (name, path));
    let guests = guests.into_iter().map(named).collect::<Result<Vec<_>, _>>()?;
    let params: &[String] = if manifests.is_empty() { &[] } else { &args.param };
    let services = services::read(&manifests, params, known);
    let services = services.map_err(|wrong| services::fault(&wrong))?;
    let resources = services::resources(&services);
    let mut listed = services::daemons(services, &guests)?;
    listed.extend(guests.into_iter().map(|(name, path)| Listed { name, path, spec: None }));
    Ok((listed, resources))
}

/// An address with its port. The only name that means the same everywhere is `localhost`.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let here = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    here.as_deref().unwrap_or(text).parse().map_err(|_| {
        "write an address of this machine and a port, like 127.0.0.1:8080, [::1]:8080 or \
         localhost:8080"
            .to_owned()
    })
}

pub(super) fn greeting(
    output: Output,
    served: &Served,
    path: &Path,
    http: Option<SocketAddr>,
) -> String {
    let (root, daemons) = (&served.root, served.root.daemons());
    if output == Output::Json {
        let names: Vec<&str> = daemons.iter().map(|daemon| daemon.name.as_str()).collect();
        let pid = std::process::id();
        let data = served.data.as_ref();
        return json!({
            "listening": path,
            "http": http,
            "pid": pid,
            "daemons": names,
            "data": data.map(|(path, _)| path),
            "data_is_new": data.map(|(_, is_new)| is_new),
        })
        .to_string();
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
        if let Some(why) = daemon.report.parked.as_ref() {
            lines.push(format!("   {} {why}", daemon.report.state.as_str()));
        }
    }
    lines.push(match root.durability() {
        Some(Durability::Fsync) => "an answered commit survives a power cut (fsync)".to_owned(),
        Some(Durability::Os) => {
            "an answered commit survives the end of this process (os)".to_owned()
        }
        None => "the state lives in memory only".to_owned(),
    });
    if let Some((path, is_new)) = &served.data {
        let path = path.display();
        lines.push(match is_new {
            true => format!("the state is new, in {path}"),
            false => format!("the state is in {path}"),
        });
    }
    if let Some(http) = http {
        lines.push(format!("HTTP for whoever reaches it: POST http://{http}/DAEMON/CONTRACT"));
    }
    lines.push(format!("listening on {}; Ctrl-C stops", path.display()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_or_localhost() {
        for (text, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(parse_address(text).unwrap().to_string(), address);
        }
        for bad in
            ["localhost", "8080", ":8080", "example.org:80", "localhost:x", "localhost:99999"]
        {
            assert!(parse_address(bad).unwrap_err().contains("localhost:8080"), "{bad}");
        }
    }
}
