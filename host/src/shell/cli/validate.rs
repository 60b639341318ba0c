//! `host validate`: services' manifests read whole, and nothing started.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::deploy::{CompileArgs, Deployed, sandbox};
use super::services::{Mistake, Service, fault, read};
use super::settings::{is_daemon_parameter, read_parameters};
use super::{Output, print, print_fault, start_log, tell_fault};
use crate::base::error::{Code, Fault};
use crate::base::limits::BUDGET_DEFAULT_BYTES;
use crate::mechanisms::sandbox::Guest;
use crate::pure::manifest::DaemonSpec;
use crate::shell::exit;
use crate::tree::lacks;

#[derive(Args, Debug)]
#[command(after_help = "\
Reads the manifests with their parameters, as `host run` would, and checks the files of their
guests: they are compiled, and asked what they need, but not started. What it can't tell: whether a
guest's init takes its parameters, whether resources answer, and whether all budgets fit the memory.
Exit codes: 0 valid, 1 not valid, 2 wrong usage.")]
pub(super) struct ValidateArgs {
    /// The services' manifests
    #[arg(required = true, value_name = "SERVICE.toml")]
    files: Vec<PathBuf>,
    /// The value of a service's parameter, or of one for a daemon's init
    #[arg(long, value_name = "[DAEMON.]NAME=VALUE")]
    param: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    compile: CompileArgs,
}

pub(super) fn validate(args: &ValidateArgs) -> u8 {
    start_log("warn");
    let read = read(&args.files, &args.param, &|_name| false);
    if let Err(wrong) = check_daemon_parameters(args, read.as_deref().unwrap_or_default()) {
        print_fault(&wrong);
        return exit::USAGE;
    }
    let read = read.and_then(|services| {
        let mistakes = check_guests(&args.compile, &services);
        if mistakes.is_empty() { Ok(services) } else { Err(mistakes) }
    });
    if args.output == Output::Json {
        print(&report(&read).to_string());
    }
    match read {
        Ok(services) => {
            for service in services.iter().filter(|_| args.output == Output::Human) {
                print(&summary(service));
            }
            exit::DONE
        }
        Err(mistakes) => {
            tell_fault(&fault(&mistakes));
            exit::FAILED
        }
    }
}

/// What is wrong with guests that only the compiled code tells: their memory, and the resources
/// that their contracts need.
fn check_guests(compile: &CompileArgs, services: &[Service]) -> Vec<Mistake> {
    let sandbox = match sandbox(compile, Arc::default()) {
        Ok(sandbox) => sandbox,
        Err(fault) => return vec![Mistake::general(fault.code, fault.message)],
    };
    let mut mistakes = Vec::new();
    for service in services {
        for daemon in &service.manifest.daemons {
            let budget = daemon.budget_bytes.unwrap_or(BUDGET_DEFAULT_BYTES);
            let path = service.guest_path(daemon);
            // Each by itself: one may have the same code, and less memory.
            let wrong = match Deployed::default().deploy(&sandbox, &path, budget) {
                Ok(guest) => lacking(daemon, &guest),
                Err(fault) => vec![fault],
            };
            mistakes.extend(wrong.into_iter().map(|fault| {
                let at = &daemon.guest.span;
                service.mistake(&service.manifest.complaint(fault.code, at, &fault.message))
            }));
        }
    }
    mistakes
}

/// The resources that contracts of a guest need, and its daemon doesn't have.
fn lacking<T>(daemon: &DaemonSpec<T>, guest: &Guest) -> Vec<Fault> {
    let has = |name: &str| {
        let mut named = daemon.needs.iter().chain(&daemon.uses);
        named.any(|one| one.name == name)
    };
    let contracts = guest.contracts().iter();
    let needs = contracts.flat_map(|one| one.needs.iter().map(|needed| (&one.name, needed)));
    let lacked = needs.filter(|(_, needed)| !has(needed));
    lacked.map(|(contract, needed)| lacks(&daemon.name.name, contract, needed)).collect()
}

/// Parameters of daemons that no service has; not asked when the services are not known.
fn check_daemon_parameters(args: &ValidateArgs, services: &[Service]) -> Result<(), Fault> {
    let given = args.param.iter().filter(|text| is_daemon_parameter(text)).cloned();
    let given: Vec<String> = given.collect();
    let daemons = services.iter().flat_map(|service| &service.manifest.daemons);
    let names: Vec<String> = daemons.map(|daemon| daemon.name.name.clone()).collect();
    match read_parameters(&given, &names) {
        Err(fault) if !services.is_empty() || fault.code != Code::Option => Err(fault),
        _ => Ok(()),
    }
}

fn summary(service: &Service) -> String {
    let manifest = &service.manifest;
    let (resources, daemons) = (manifest.resources.len(), manifest.daemons.len());
    let many = |count: usize| if count == 1 { "" } else { "s" };
    format!(
        "{}: service {} is valid: {resources} resource{}, {daemons} daemon{}",
        service.file.display(),
        manifest.service,
        many(resources),
        many(daemons)
    )
}

fn report(read: &Result<Vec<Service>, Vec<Mistake>>) -> Value {
    let mistakes = read.as_ref().err().map(Vec::as_slice).unwrap_or_default();
    let services = read.as_ref().map(Vec::as_slice).unwrap_or_default();
    json!({
        "valid": read.is_ok(),
        "services": services.iter().map(service_json).collect::<Vec<_>>(),
        "mistakes": mistakes.iter().map(Mistake::json).collect::<Vec<_>>(),
    })
}

fn service_json(service: &Service) -> Value {
    let manifest = &service.manifest;
    let resources = manifest
        .resources
        .iter()
        .map(|resource| json!({ "name": resource.name.name, "provider": resource.kind() }));
    let daemons = manifest
        .daemons
        .iter()
        .map(|daemon| json!({ "name": daemon.name.name, "guest": service.guest_path(daemon) }));
    json!({
        "file": service.file,
        "name": manifest.service,
        "resources": resources.collect::<Vec<_>>(),
        "daemons": daemons.collect::<Vec<_>>(),
    })
}
