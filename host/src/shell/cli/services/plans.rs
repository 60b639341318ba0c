//! What a service's resources are made of. Init jobs and the files that they name are read here,
//! at the start, and never again.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Service, full_name};
use crate::base::error::Code;
use crate::base::limits::INIT_FILE_BYTES_MAX;
use crate::mechanisms::providers::Provider;
use crate::mechanisms::providers::directory::Directory;
use crate::mechanisms::providers::redis::{Jobs, Redis};
use crate::mechanisms::providers::stateless::Stateless;
use crate::pure::manifest::{BoundText, Complaint, ProviderSpec, ResourceSpec};
use crate::pure::resource::words::{Word, words};
use crate::tree::ResourcePlan;

/// What is wrong with a resource: each a complaint.
type Wrong = Vec<Complaint>;

/// A resource as the root keeps it; none, when this host can't provide it.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn plan(
    service: &Service,
    spec: &ResourceSpec<BoundText>,
) -> Result<Option<ResourcePlan>, Wrong> {
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
        ProviderSpec::Redis { url, prefix, connections } => {
            let (names, jobs) = commands(service, &spec.init)?;
            let prefix = prefix.as_ref().map(|prefix| prefix.expose().to_owned());
            let redis = Redis::new(url.expose(), prefix, *connections, jobs)
                .map_err(|message| vec![complaint(service, Code::Manifest, url, &message)])?;
            (Arc::new(redis), names)
        }
        ProviderSpec::Postgres { .. } | ProviderSpec::Http { .. } => return Ok(None),
    };
    Ok(Some(ResourcePlan {
        name: full_name(&service.manifest.service, &spec.name.name),
        provider,
        jobs,
        policy: spec.policy(),
    }))
}

fn complaint(service: &Service, code: Code, text: &BoundText, message: &str) -> Complaint {
    service.manifest.complaint(code, &text.span, message)
}

/// Init jobs that are commands, in order, by the names under which they are shown; with the words
/// of each.
fn commands(service: &Service, init: &[BoundText]) -> Result<(Vec<String>, Jobs), Wrong> {
    let (mut names, mut jobs, mut wrong) = (Vec::new(), Jobs::new(), Wrong::new());
    for job in init {
        match command(service, job.expose()) {
            Ok(words) => {
                // Secrets are not shown; two that differ in these alone are not the same.
                let mut name = job.to_string();
                while jobs.get(&name).is_some_and(|others| *others != words) {
                    name.push('\'');
                }
                names.push(name.clone());
                jobs.insert(name, words);
            }
            Err((code, message)) => wrong.push(complaint(service, code, job, &message)),
        }
    }
    if wrong.is_empty() { Ok((names, jobs)) } else { Err(wrong) }
}

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
    let file = path.metadata().map_err(|error| failed(&error))?;
    if !file.is_file() {
        return Err(failed(&"it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(INIT_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(&error))?;
    match bytes.len() as u64 > INIT_FILE_BYTES_MAX {
        true => Err(failed(&format_args!("it has more than {INIT_FILE_BYTES_MAX} bytes"))),
        false => Ok(bytes),
    }
}
