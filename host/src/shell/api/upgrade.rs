//! New code for a daemon: the command, and what is said about it.

use std::path::Path;

use serde_json::{Value, json};

use super::lineage::{Fields, Served, deploy_stored};
use crate::base::error::{Code, Fault};
use crate::base::limits::MODULE_BYTES_MAX;
use crate::pure::upgrade::{Fate, Loss};
use crate::shell::files::Unread;
use crate::tree::{Upgradable, UpgradeOptions, Upgraded};

pub(super) fn upgrade(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let (daemon, path) = (fields.text("daemon")?, fields.text("path")?);
    let options = UpgradeOptions {
        dry_run: fields.flag("dry_run")?,
        accept_loss: fields.flag("accept_loss")?,
    };
    fields.done()?;
    let budget = served.root.budget(&daemon)?;
    let (code, lent) = served.read(Path::new(&path), MODULE_BYTES_MAX, Code::ModuleTooLarge)?;
    let guest = deploy_stored(&served.sandbox, &code, budget)
        .map_err(|fault| fault.clone().saying(format!("{path}: {}", fault.message)))?;
    // The guest has its own copy.
    drop((code, lent));
    let upgraded = served.root.upgrade(&daemon, guest, options)?;
    let mut answer = upgraded_json(&daemon, &upgraded);
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("next_start".to_owned(), next_start(served, &daemon, Path::new(&path)));
    }
    Ok(answer)
}

/// What the next start finds: the file that the daemon was started with, whether that is the new
/// one, and whether the data directory has the new code.
fn next_start(served: &Served, daemon: &str, new: &Path) -> Value {
    let file = served.files.get(daemon);
    let same = file.is_some_and(|file| {
        let whole = |path: &Path| path.canonicalize().ok();
        whole(file).is_some_and(|file| whole(new) == Some(file))
    });
    json!({ "file": file, "is_new": same, "kept": served.data.is_some() })
}

/// Reads a guest's file.
///
/// # Errors
///
/// `E_FILE`, `E_FILE_REFUSED`, `E_MODULE_TOO_LARGE`.
pub fn read_code(path: &Path) -> Result<Vec<u8>, Fault> {
    Unread::open(path, MODULE_BYTES_MAX, Code::ModuleTooLarge)?.read()
}

fn upgraded_json(daemon: &str, upgraded: &Upgraded) -> Value {
    let contracts = &upgraded.contracts;
    json!({
        "upgraded": daemon,
        "dry_run": upgraded.dry_run,
        "from": { "code": upgraded.from.to_hex().as_str(), "version": upgraded.from_version },
        "to": { "code": upgraded.to.to_hex().as_str(), "version": upgraded.to_version },
        "value_bytes": upgraded.value_bytes,
        "memory_bytes": upgraded.memory_bytes,
        "took_us": upgraded.took.as_micros(),
        "sequence": upgraded.sequence,
        "generation": upgraded.generation,
        "contracts": {
            "gone": contracts.gone,
            "changed": contracts.changed,
            "added": contracts.added,
        },
        "loss": loss_json(&upgraded.loss),
    })
}

/// What is lost, or why that is not known.
fn loss_json(loss: &Result<Loss, String>) -> Value {
    let loss = match loss {
        Ok(loss) => loss,
        Err(reason) => return json!({ "compared": false, "reason": reason }),
    };
    let lines = loss.lines.iter().map(|line| {
        let fate = match line.fate {
            Fate::Gone => "gone",
            Fate::Changed => "changed",
        };
        let (path, values) = (&line.path, line.values);
        json!({ "path": path, "fate": fate, "values": values, "first": line.first })
    });
    let renamed = loss.renamed.iter().map(|(old, new)| json!({ "from": old, "to": new }));
    json!({
        "compared": true,
        "message": loss.to_string(),
        "lines": lines.collect::<Vec<_>>(),
        "elsewhere": loss.elsewhere,
        "renamed": renamed.collect::<Vec<_>>(),
    })
}

/// Whether a daemon could be upgraded, and why not; `able` is null before the first trial.
pub(super) fn upgradable_json(upgradable: &Upgradable) -> Value {
    match upgradable {
        Upgradable::Unknown => json!({ "able": null }),
        Upgradable::Yes { version, value_bytes } => {
            json!({ "able": true, "version": version, "value_bytes": value_bytes })
        }
        Upgradable::No(reason) => json!({ "able": false, "reason": reason }),
    }
}
