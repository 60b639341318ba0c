//! The options of each daemon: from the command line, its manifest, or what is kept of a copy.

use std::time::Duration;

use serde_json::Value;
use supervisor::policy::Policy;

use super::run::RunArgs;
use super::services::{Listed, is_manifest};
use super::settings::{Setting, is_daemon_parameter, read_parameters};
use super::store::Copied;
use crate::base::error::{Code, Fault};
use crate::base::limits::{BUDGET_DEFAULT_BYTES, BUDGET_MAX_BYTES, BUDGET_MIN_BYTES};
use crate::pure::manifest::{BoundText, DaemonSpec};
use crate::pure::pace::CpuShare;
use crate::pure::policy::OnCrash;
use crate::pure::setting::{parse_deadline, parse_fuel, parse_restarts, parse_retries};
use crate::pure::size::{parse_bytes, show_bytes};
use crate::tree::DaemonOptions;

/// The options of each daemon. Those of a copy are the ones that it was made with, unless others
/// are given for it by name.
pub(super) fn daemon_options(
    args: &RunArgs,
    listed: &[Listed],
    copies: &[Copied],
) -> Result<Vec<DaemonOptions>, Fault> {
    let own = listed.iter().map(|daemon| &daemon.name);
    let names: Vec<String> = own.chain(copies.iter().map(|copy| &copy.name)).cloned().collect();
    let given = Given::read(args, &names)?;
    let mut parameters = read_parameters(&daemon_parameters(args), &names)?;
    let own = listed.iter().map(|daemon| match &daemon.spec {
        Some((_, spec)) => of_manifest(&daemon.name, spec),
        None => (DaemonOptions::new(&daemon.name, BUDGET_DEFAULT_BYTES), Own::default()),
    });
    let all = own.chain(copies.iter().map(of_copy)).map(|(mut options, own)| {
        given.apply(&mut options, &own);
        let more = parameters.remove(&options.name).unwrap_or_default();
        if let Value::Object(init) = &mut options.parameters {
            init.extend(more);
        }
        options.verify = args.verify_commits;
        options
    });
    Ok(all.collect())
}

/// A daemon's budget; one out of range is refused before anything is asked of its guest.
pub(super) fn parse_budget(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    if (BUDGET_MIN_BYTES..=BUDGET_MAX_BYTES).contains(&bytes) {
        return Ok(bytes);
    }
    let (least, most) = (show_bytes(BUDGET_MIN_BYTES), show_bytes(BUDGET_MAX_BYTES));
    Err(format!("it is out of range; {least} to {most} is possible"))
}

/// What a daemon has for itself: it comes before what is given for all.
#[derive(Default)]
struct Own {
    budget: Option<usize>,
    fuel: Option<u64>,
    deadline: Option<Duration>,
    retries: Option<u32>,
    on_crash: Option<OnCrash>,
    restarts: Option<Policy>,
    cpu: Option<CpuShare>,
}

fn of_manifest(name: &str, spec: &DaemonSpec<BoundText>) -> (DaemonOptions, Own) {
    let mut options = DaemonOptions::new(name, BUDGET_DEFAULT_BYTES);
    if let Some(instances) = spec.stateless {
        options = options.stateless(instances);
    }
    options.readers = spec.readers;
    options.retry_live = spec.retry_live;
    options.parameters = Value::Object(spec.parameters.expose().clone());
    let own = Own {
        budget: spec.budget_bytes,
        fuel: spec.fuel,
        deadline: spec.deadline,
        retries: spec.retries,
        on_crash: spec.on_crash,
        restarts: spec.restarts,
        cpu: spec.cpu,
    };
    (options, own)
}

fn of_copy(copy: &Copied) -> (DaemonOptions, Own) {
    let budget = usize::try_from(copy.row.budget_bytes).unwrap_or(usize::MAX);
    let options = DaemonOptions::new(&copy.name, budget);
    let Some(kept) = &copy.setup else {
        return (options, Own { budget: Some(budget), ..Own::default() });
    };
    let options = options.with_kept(kept);
    let own = Own {
        budget: Some(budget),
        fuel: Some(options.limits.fuel),
        deadline: Some(options.limits.deadline),
        retries: Some(options.retries_max),
        on_crash: Some(options.on_crash),
        restarts: Some(options.restarts),
        cpu: Some(options.share),
    };
    (options, own)
}

/// What the command line gives, for all or by name.
struct Given {
    budget: Setting<usize>,
    fuel: Setting<u64>,
    deadline: Setting<Duration>,
    retries: Setting<u32>,
    on_crash: Setting<OnCrash>,
    restarts: Setting<Policy>,
    cpu: Setting<CpuShare>,
}

impl Given {
    fn read(args: &RunArgs, names: &[String]) -> Result<Self, Fault> {
        let budget = parse_budget;
        let given = Self {
            budget: Setting::read("budget", &args.budget, Code::BudgetSize, budget)?,
            fuel: Setting::read("fuel", &args.fuel, Code::Option, parse_fuel)?,
            deadline: Setting::read("deadline", &args.deadline, Code::Option, parse_deadline)?,
            retries: Setting::read("retries", &args.retries, Code::Option, parse_retries)?,
            on_crash: Setting::read("on-crash", &args.on_crash, Code::Option, str::parse)?,
            restarts: Setting::read("restarts", &args.restarts, Code::Option, parse_restarts)?,
            cpu: Setting::read("cpu", &args.cpu, Code::Option, str::parse)?,
        };
        given.budget.check_names("budget", names)?;
        given.fuel.check_names("fuel", names)?;
        given.deadline.check_names("deadline", names)?;
        given.retries.check_names("retries", names)?;
        given.on_crash.check_names("on-crash", names)?;
        given.restarts.check_names("restarts", names)?;
        given.cpu.check_names("cpu", names)?;
        Ok(given)
    }

    fn apply(&self, options: &mut DaemonOptions, own: &Own) {
        let name = options.name.clone();
        let limits = &mut options.limits;
        options.budget_bytes = self.budget.of(&name, own.budget).unwrap_or(options.budget_bytes);
        limits.fuel = self.fuel.of(&name, own.fuel).unwrap_or(limits.fuel);
        limits.deadline = self.deadline.of(&name, own.deadline).unwrap_or(limits.deadline);
        options.retries_max = self.retries.of(&name, own.retries).unwrap_or(options.retries_max);
        options.on_crash = self.on_crash.of(&name, own.on_crash).unwrap_or(options.on_crash);
        options.restarts = self.restarts.of(&name, own.restarts).unwrap_or(options.restarts);
        options.share = self.cpu.of(&name, own.cpu).unwrap_or(options.share);
    }
}

/// Those of `--param` that are meant for daemons: without a service all of them.
fn daemon_parameters(args: &RunArgs) -> Vec<String> {
    let services = args.files.iter().any(|path| is_manifest(path));
    args.param.iter().filter(|text| !services || is_daemon_parameter(text)).cloned().collect()
}
