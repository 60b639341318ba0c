//! Which code each daemon is started on, and as which guest.

use std::path::Path;
use std::sync::Arc;

use super::deploy::Deployed;
use super::services::{Listed, admit_read};
use crate::base::error::{Code, Fault};
use crate::mechanisms::journal::Store;
use crate::mechanisms::sandbox::{Guest, Sandbox};
use crate::pure::start_code::{Digest, StartCode, start_code};
use crate::shell::api::{deploy_stored, read_code};
use crate::tree::DaemonOptions;

/// Makes guests for a start.
pub(super) struct Preparing<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) store: Option<&'a Store>,
    /// Take states over to the code of the files.
    pub(super) upgrade: bool,
    pub(super) deployed: Deployed,
}

/// What a daemon is started on.
pub(super) struct Prepared {
    pub(super) guest: Arc<Guest>,
    /// What it is upgraded to then.
    pub(super) upgrade: Option<Arc<Guest>>,
}

impl Prepared {
    fn on(guest: Arc<Guest>) -> Self {
        Self { guest, upgrade: None }
    }
}

impl Preparing<'_> {
    /// The guest of a daemon that has a file.
    pub(super) fn listed(
        &mut self,
        daemon: &Listed,
        options: &DaemonOptions,
    ) -> Result<Prepared, Fault> {
        let (name, path) = (&daemon.name, &daemon.path);
        let budget = options.budget_bytes;
        let stated = self.store.filter(|store| store.has_state(name));
        let Some(store) = stated.filter(|_| options.stateless.is_none()) else {
            if stated.is_some() {
                let text = "is stateless now: the state that it has here is left alone";
                tracing::warn!(daemon = name, "{text}");
            }
            return self.deployed.deploy(self.sandbox, path, budget).map(Prepared::on);
        };
        let file = if path.try_exists().is_ok_and(|exists| !exists) {
            None
        } else {
            Some(read_code(path)?)
        };
        let digest = file.as_ref().map(|bytes| *blake3::hash(bytes).as_bytes());
        let (last, ran) = codes(store, name, digest).map_err(|fault| of_daemon(name, &fault))?;
        let mut files = || match &file {
            Some(bytes) => self.deployed.deploy_read(self.sandbox, path, bytes, budget),
            None => self.deployed.deploy(self.sandbox, path, budget),
        };
        match start_code(digest, last, ran, self.upgrade) {
            StartCode::File => files().map(Prepared::on),
            StartCode::Upgrade => {
                let upgrade = Some(files()?);
                Ok(Prepared { upgrade, ..self.of_state(store, name, budget)? })
            }
            StartCode::KeptFileMissing => {
                let path = path.display();
                let text = "is not there: started on the code that made its state";
                tracing::warn!(daemon = name, "{path} {text}");
                self.of_state(store, name, budget)
            }
            StartCode::KeptFileOlder => {
                let shown = path.display();
                let text = format!(
                    "{shown} is older than the state, which was upgraded: started on the newer \
                     code, which the data directory has. Replace the file by the one of the \
                     upgrade"
                );
                tracing::warn!(daemon = name, "{text}");
                self.of_state(store, name, budget)
            }
            StartCode::Refused => {
                // A file that is cut off or something else is no newer code.
                file.as_ref().map_or(Ok(()), |bytes| admit_read(path, bytes))?;
                Err(refused(name, path, last))
            }
        }
    }

    /// The guest of a daemon that has none: the code that made its state.
    pub(super) fn of_state(
        &self,
        store: &Store,
        name: &str,
        budget: usize,
    ) -> Result<Prepared, Fault> {
        let row = store.find_daemon(name).ok_or_else(|| {
            Fault::new(Code::DaemonUnknown, format!("no daemon `{name}` has state here"))
        })?;
        let code = store.code_of_state(name, row.key).map_err(|fault| Fault::from(&fault));
        let guest = code.and_then(|code| deploy_stored(self.sandbox, &code, budget));
        guest.map(Prepared::on).map_err(|fault| of_daemon(name, &fault))
    }
}

/// The code that made the last commit, and whether the file's is among those that ran.
fn codes(store: &Store, name: &str, file: Option<Digest>) -> Result<(Option<Digest>, bool), Fault> {
    let Some(row) = store.find_daemon(name) else { return Ok((None, false)) };
    let last = store.last_code(row.key).map_err(|fault| Fault::from(&fault))?;
    let ran = file.map_or(Ok(false), |digest| store.ran(row.key, digest));
    Ok((last, ran.map_err(|fault| Fault::from(&fault))?))
}

fn of_daemon(name: &str, fault: &Fault) -> Fault {
    fault.clone().saying(format!("daemon `{name}`: {}", fault.message))
}

fn refused(name: &str, path: &Path, last: Option<Digest>) -> Fault {
    let made = last.map(|digest| blake3::Hash::from_bytes(digest).to_hex());
    let made = made.as_ref().map_or("", |hex| hex.as_str().get(..12).unwrap_or_default());
    let message = format!(
        "{} has code that daemon `{name}` never ran; its state was made by the code {made}. \
         `host run --upgrade` takes the state over, `host resume {name}` goes on without the file",
        path.display()
    );
    Fault::new(Code::CodeChanged, message)
}
