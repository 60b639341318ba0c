//! `host validate`: services' manifests read whole, and nothing started.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::services::{Mistake, Service, fault, read};
use super::settings::{is_daemon_parameter, read_parameters};
use super::{Output, print, print_fault, start_log};
use crate::base::error::{Code, Fault};
use crate::shell::exit;

#[derive(Args, Debug)]
#[command(after_help = "\
Reads the manifests with their parameters, as `host run` would, and the files of their guests, which
are checked but not compiled.
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
}

pub(super) fn validate(args: &ValidateArgs) -> u8 {
    start_log("warn");
    let read = read(&args.files, &args.param, &|_name| false);
    if let Err(wrong) = check_daemon_parameters(args, read.as_deref().unwrap_or_default()) {
        print_fault(&wrong);
        return exit::USAGE;
    }
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
            print_fault(&fault(&mistakes));
            exit::FAILED
        }
    }
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
