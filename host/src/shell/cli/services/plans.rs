//! What a service's resources are made of. Init jobs and the files that they name are read here,
//! at the start, and never again.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Service, full_name};
use crate::base::error::Code;
use crate::base::limits::INIT_FILE_BYTES_MAX;
use crate::mechanisms::providers::Provider;
use crate::mechanisms::providers::directory::Directory;
use crate::mechanisms::providers::http::Http;
use crate::mechanisms::providers::postgres::Postgres;
use crate::mechanisms::providers::redis::Redis;
use crate::mechanisms::providers::stateless::Stateless;
use crate::pure::manifest::{AllowRule, BoundText, Complaint, ProviderSpec, ResourceSpec};
use crate::pure::resource::allow::Rule;
use crate::pure::resource::words::{Word, words};
use crate::shell::files::open;
use crate::tree::ResourcePlan;

/// What is wrong with a resource: each a complaint.
type Wrong = Vec<Complaint>;

/// A resource as the root keeps it.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn plan(
    service: &Service,
    spec: &ResourceSpec<BoundText>,
) -> Result<ResourcePlan, Wrong> {
    let (provider, jobs): (Arc<dyn Provider>, _) = match &spec.provider {
        ProviderSpec::Directory { path, access } => {
            (Arc::new(Directory::new(service.beside(path.expose()), *access)), Vec::new())
        }
        ProviderSpec::Clock | ProviderSpec::Entropy => {
            (Arc::new(Stateless::new(spec.kind())), Vec::new())
        }
        ProviderSpec::Config { values } => {
            let values = values.iter().map(|(key, text)| (key.clone(), text.expose().to_owned()));
            (Arc::new(Stateless::config(values.collect())), Vec::new())
        }
        ProviderSpec::Redis { url, prefix, connections, writes } => {
            let (names, jobs) = jobs(service, &spec.init, command)?;
            let prefix = prefix.as_ref().map(|prefix| prefix.expose().to_owned());
            let redis = Redis::new(url.expose(), prefix, *connections, jobs)
                .map_err(|message| vec![complaint(service, Code::Manifest, url, &message)])?;
            (Arc::new(if *writes { redis } else { redis.to_read() }), names)
        }
        ProviderSpec::Postgres { url, connections, writes } => {
            let (names, jobs) = jobs(service, &spec.init, statements)?;
            let postgres = Postgres::new(url.expose(), *connections, jobs)
                .map_err(|message| vec![complaint(service, Code::Manifest, url, &message)])?;
            (Arc::new(if *writes { postgres } else { postgres.to_read() }), names)
        }
        ProviderSpec::Http { allow, check } => {
            let rule = |allowed: &AllowRule<BoundText>| {
                Rule::parse(allowed.url.expose(), allowed.private).map_err(|message| {
                    vec![complaint(service, Code::Manifest, &allowed.url, &message)]
                })
            };
            let rules = allow.iter().map(rule).collect::<Result<_, _>>()?;
            (Arc::new(Http::new(rules, *check)), Vec::new())
        }
    };
    Ok(ResourcePlan {
        name: full_name(&service.manifest.service, &spec.name.name),
        provider,
        jobs,
        policy: spec.policy(),
    })
}

fn complaint(service: &Service, code: Code, text: &BoundText, message: &str) -> Complaint {
    service.manifest.complaint(code, &text.span, message)
}

/// What a job runs, by the name under which it is shown.
type Jobs<T> = BTreeMap<String, T>;

/// Reads one job, or says what is wrong with it.
type Reader<T> = fn(&Service, &str) -> Result<T, (Code, String)>;

/// The names of init jobs, in order; with what each runs.
fn jobs<T: PartialEq>(
    service: &Service,
    init: &[BoundText],
    read: Reader<T>,
) -> Result<(Vec<String>, Jobs<T>), Wrong> {
    let (mut names, mut jobs, mut wrong) = (Vec::new(), Jobs::new(), Wrong::new());
    for job in init {
        match read(service, job.expose()) {
            Ok(content) => {
                // Secrets are not shown; two that differ in these alone are not the same.
                let mut name = job.to_string();
                while jobs.get(&name).is_some_and(|other| *other != content) {
                    name.push('\'');
                }
                names.push(name.clone());
                jobs.insert(name, content);
            }
            Err((code, message)) => wrong.push(complaint(service, code, job, &message)),
        }
    }
    if wrong.is_empty() { Ok((names, jobs)) } else { Err(wrong) }
}

/// Statements: the job's text, or all of a file if that is `@` and its name.
fn statements(service: &Service, text: &str) -> Result<String, (Code, String)> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let path = service.beside(path);
    let bytes = read_file(&path).map_err(|why| (Code::File, why))?;
    String::from_utf8(bytes).map_err(|error| (Code::File, format!("{}: {error}", path.display())))
}

/// The words of a command.
fn command(service: &Service, text: &str) -> Result<Vec<Vec<u8>>, (Code, String)> {
    let words = words(text).map_err(|message| (Code::Manifest, message))?.into_iter();
    let resolved = words.map(|word| match word {
        Word::Text(text) => Ok(text.into_bytes()),
        Word::File(path) => read_file(&service.beside(&path)).map_err(|why| (Code::File, why)),
    });
    resolved.collect()
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let mut bytes = Vec::new();
    open(path)
        .and_then(|file| file.take(INIT_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(&error))?;
    match bytes.len() as u64 > INIT_FILE_BYTES_MAX {
        true => Err(failed(&format_args!("it has more than {INIT_FILE_BYTES_MAX} bytes"))),
        false => Ok(bytes),
    }
}
