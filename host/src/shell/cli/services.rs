//! Services' manifests: read, bound, and checked with their guests before anything starts.

mod plans;

use std::collections::BTreeMap;
use std::env::VarError;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::deploy::compiler;
use super::settings::is_daemon_parameter;
use crate::base::error::{Code, Fault};
use crate::base::limits::{MANIFEST_BYTES_MAX, SERVICES_MAX};
use crate::mechanisms::sandbox::admit_file;
use crate::pure::admission::MAGIC;
use crate::pure::manifest::{
    BoundManifest, BoundText, Complaint, DaemonSpec, Given, Manifest, Place, bind, nearest, parse,
};
use crate::shell::api::read_code;
use crate::shell::files::open;
use crate::tree::ResourcePlan;

/// A service whose manifest is valid.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) file: PathBuf,
    pub(super) manifest: BoundManifest,
    /// What it depends on, as far as this host can provide it.
    resources: Vec<ResourcePlan>,
}

impl Service {
    /// Where a daemon's guest is.
    pub(super) fn guest_path(&self, daemon: &DaemonSpec<BoundText>) -> PathBuf {
        self.beside(daemon.guest.expose())
    }

    /// Relative paths begin in the manifest's directory.
    fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    pub(super) fn mistake(&self, complaint: &Complaint) -> Mistake {
        Mistake::new(&self.file, complaint)
    }
}

/// Something that is wrong with a service, and in which file.
#[derive(Debug)]
pub(super) struct Mistake {
    code: Code,
    file: Option<String>,
    place: Option<Place>,
    message: String,
    shown: String,
}

impl Mistake {
    fn new(file: &Path, complaint: &Complaint) -> Self {
        let file = file.display().to_string();
        Self {
            code: complaint.code,
            shown: complaint.show(&file),
            file: Some(file),
            place: Some(complaint.place),
            message: complaint.message.clone(),
        }
    }

    pub(super) fn general(code: Code, message: String) -> Self {
        Self { code, file: None, place: None, shown: message.clone(), message }
    }

    /// What people get to see.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "code": self.code,
            "file": self.file,
            "line": self.place.map(|place| place.line),
            "column": self.place.map(|place| place.column),
            "message": self.message,
        })
    }
}

/// All mistakes as one error; there is at least one.
pub(super) fn fault(mistakes: &[Mistake]) -> Fault {
    let shown: Vec<&str> = mistakes.iter().map(Mistake::shown).collect();
    let first = mistakes.first().map_or(Code::Manifest, |mistake| mistake.code);
    let manifest = mistakes.iter().any(|mistake| mistake.code == Code::Manifest);
    let code = if manifest { Code::Manifest } else { first };
    let count = match shown.len() {
        1 => String::new(),
        count => format!("{count} mistakes:\n"),
    };
    Fault::new(code, format!("{count}{}", shown.join("\n")))
}

/// True for the file of a service, by its name.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// Reads manifests, gives their parameters values, and admits their guests. Parameters come from
/// `params`, of which those of daemons are left out, and from the environment, which is read here
/// and never again. A daemon whose state is `known` can do without its file.
pub(super) fn read(
    files: &[PathBuf],
    params: &[String],
    known: &dyn Fn(&str) -> bool,
) -> Result<Vec<Service>, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    if files.len() > SERVICES_MAX {
        let message = format!("{} services; at most {SERVICES_MAX} are possible", files.len());
        return Err(vec![Mistake::general(Code::Option, message)]);
    }
    let mut manifests = Vec::new();
    for file in files {
        match read_file(file) {
            Ok(bytes) => manifests.push((file, parse(&bytes))),
            Err(message) => mistakes.push(Mistake::general(Code::File, message)),
        }
    }
    let options = options(params, &manifests, &mut mistakes);
    let mut services = Vec::new();
    for (file, manifest) in manifests {
        let environment = environment(&manifest, &mut mistakes);
        // A service has the options that it knows; another one has the others.
        match bind(&manifest, &Given { options: options.clone(), environment }) {
            Ok(manifest) => {
                services.push(Service { file: file.clone(), manifest, resources: Vec::new() });
            }
            Err(complaints) => {
                mistakes.extend(complaints.iter().map(|complaint| Mistake::new(file, complaint)));
            }
        }
    }
    check_names(&services, &mut mistakes);
    plan_resources(&mut services, &mut mistakes);
    admit_guests(&services, known, &mut mistakes);
    if mistakes.is_empty() { Ok(services) } else { Err(mistakes) }
}

fn read_file(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = MANIFEST_BYTES_MAX as u64 + 1;
    open(file)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    if bytes.starts_with(MAGIC) {
        let file = file.display();
        return Err(format!("{file}: a guest and no manifest; `host inspect {file}` checks it"));
    }
    Ok(bytes)
}

/// `NAME=VALUE`s, each of which some service must know.
fn options(
    params: &[String],
    manifests: &[(&PathBuf, Manifest)],
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, String> {
    let known: Vec<&str> =
        manifests.iter().flat_map(|(_, manifest)| manifest.parameters()).collect();
    let mut options = BTreeMap::new();
    for text in params.iter().filter(|text| !is_daemon_parameter(text)) {
        let Some((name, value)) = text.split_once('=') else {
            let message = "--param: write NAME=VALUE, or DAEMON.KEY=VALUE".to_owned();
            mistakes.push(Mistake::general(Code::Option, message));
            continue;
        };
        if !known.contains(&name) {
            let message = format!("--param {name}: no service has this parameter");
            let message = format!("{message}; {}", nearest(name, &known));
            mistakes.push(Mistake::general(Code::Parameter, message));
        }
        if options.insert(name.to_owned(), value.to_owned()).is_some() {
            let message = format!("--param {name} is given twice");
            mistakes.push(Mistake::general(Code::Option, message));
        }
    }
    options
}

/// The variables that a manifest names, and no others.
fn environment(manifest: &Manifest, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for name in manifest.variables() {
        match std::env::var(name) {
            Ok(value) => {
                environment.insert(name.to_owned(), value);
            }
            Err(VarError::NotPresent) => {}
            Err(VarError::NotUnicode(_)) => {
                let message = format!("the environment's {name} is not UTF-8");
                mistakes.push(Mistake::general(Code::Parameter, message));
            }
        }
    }
    environment
}

/// Names of services and of daemons are those of the whole host.
fn check_names(services: &[Service], mistakes: &mut Vec<Mistake>) {
    let (mut names, mut daemons) = (BTreeMap::new(), BTreeMap::new());
    for service in services {
        let (manifest, file) = (&service.manifest, service.file.display());
        if let Some(other) = names.insert(&manifest.service, file.to_string()) {
            let message = format!("the service in {other} is called so too");
            let complaint = manifest.complaint(Code::Manifest, &manifest.service_span, &message);
            mistakes.push(service.mistake(&complaint));
        }
        for daemon in &manifest.daemons {
            if let Some(other) = daemons.insert(&daemon.name.name, file.to_string()) {
                let message = format!("there is a daemon `{}` in {other} too", daemon.name.name);
                let complaint = manifest.complaint(Code::Manifest, &daemon.name.span, &message);
                mistakes.push(service.mistake(&complaint));
            }
        }
    }
}

/// Reads each guest's file once and looks whether it may run; it is not compiled.
fn admit_guests(services: &[Service], known: &dyn Fn(&str) -> bool, mistakes: &mut Vec<Mistake>) {
    let mut admitted: BTreeMap<PathBuf, Result<(), Fault>> = BTreeMap::new();
    for service in services {
        for daemon in &service.manifest.daemons {
            let path = service.guest_path(daemon);
            let is_missing = path.try_exists().is_ok_and(|exists| !exists);
            if is_missing && daemon.stateless.is_none() && known(&daemon.name.name) {
                continue;
            }
            let result = admitted.entry(path.clone()).or_insert_with(|| admit_path(&path));
            if let Err(fault) = result {
                let complaint =
                    service.manifest.complaint(fault.code, &daemon.guest.span, &fault.message);
                mistakes.push(service.mistake(&complaint));
            }
        }
    }
}

fn admit_path(path: &Path) -> Result<(), Fault> {
    admit_read(path, &read_code(path)?)
}

/// Whether a file that was read is a guest.
pub(super) fn admit_read(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    admit_file(compiler(), bytes).map_err(|error| {
        let fault = Fault::from(&error);
        let message = format!("{}: {}", path.display(), fault.message);
        fault.saying(message)
    })
}

/// A daemon to start: from a file, or out of a manifest.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// What the manifest says of it, and the service's name.
    pub(super) spec: Option<(String, DaemonSpec<BoundText>)>,
}

impl Listed {
    /// How many others start before it in a row.
    pub(super) fn layer(&self) -> usize {
        self.spec.as_ref().map_or(0, |(_, spec)| spec.layer)
    }

    /// The resources that it can't do without.
    pub(super) fn needs(&self) -> Vec<String> {
        let Some((service, spec)) = &self.spec else { return Vec::new() };
        spec.needs.iter().map(|need| full_name(service, &need.name)).collect()
    }

    /// The resources that it can do without.
    pub(super) fn uses(&self) -> Vec<String> {
        let Some((service, spec)) = &self.spec else { return Vec::new() };
        spec.uses.iter().map(|used| full_name(service, &used.name)).collect()
    }
}

/// The daemons of all services; none may be called as a guest's file is.
pub(super) fn daemons(
    services: Vec<Service>,
    files: &[(String, PathBuf)],
) -> Result<Vec<Listed>, Fault> {
    let (mut mistakes, mut listed) = (Vec::new(), Vec::new());
    for service in services {
        for daemon in &service.manifest.daemons {
            let name = daemon.name.name.clone();
            if let Some((_, path)) = files.iter().find(|(other, _)| *other == name) {
                let message = format!("the daemon of {} is called `{name}` too", path.display());
                let span = &daemon.name.span;
                let complaint = service.manifest.complaint(Code::Manifest, span, &message);
                mistakes.push(service.mistake(&complaint));
            }
            let path = service.guest_path(daemon);
            let spec = Some((service.manifest.service.clone(), daemon.clone()));
            listed.push(Listed { name, path, spec });
        }
    }
    if mistakes.is_empty() { Ok(listed) } else { Err(fault(&mistakes)) }
}

/// What these services depend on, as the root keeps it.
pub(super) fn resources(services: &[Service]) -> Vec<ResourcePlan> {
    services.iter().flat_map(|service| service.resources.iter().cloned()).collect()
}

fn plan_resources(services: &mut [Service], mistakes: &mut Vec<Mistake>) {
    for service in services {
        for spec in &service.manifest.resources {
            match plans::plan(service, spec) {
                Ok(plan) => service.resources.push(plan),
                Err(wrong) => mistakes.extend(wrong.iter().map(|wrong| service.mistake(wrong))),
            }
        }
    }
}

/// The name of a resource in the whole host.
pub(super) fn full_name(service: &str, resource: &str) -> String {
    format!("{service}/{resource}")
}
