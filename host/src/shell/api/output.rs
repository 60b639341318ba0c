//! The command that shows what a daemon shows others.

use std::io::Write;

use serde_json::{Value, json};

use super::lineage::{Fields, Served};
use crate::base::error::Fault;
use crate::base::ids::Sequence;
use crate::pure::json::from_message_pack;
use crate::shell::files::Target;

/// The version that other daemons see now, as a value when it is one; all its bytes in a file, when
/// one is asked for.
pub(super) fn output(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let daemon = fields.text("daemon")?;
    let path = fields.optional_text("path")?;
    fields.done()?;
    let target = path.as_deref().map(|path| served.target(path)).transpose()?;
    let version = served.root.output(&daemon)?;
    let shown = version.as_ref().map(|version| (version.sequence, &version.bytes[..]));
    output_json(&daemon, shown, target.as_ref())
}

/// What is said of a version, by the number of its commit and its bytes.
pub(super) fn output_json(
    daemon: &str,
    shown: Option<(Sequence, &[u8])>,
    target: Option<&Target>,
) -> Result<Value, Fault> {
    let (sequence, bytes) = (shown.map(|shown| shown.0), shown.map_or(&[][..], |shown| shown.1));
    if let Some(target) = target {
        target.write(|file| file.write_all(bytes))?;
    }
    Ok(json!({
        "daemon": daemon,
        "sequence": sequence,
        "bytes": bytes.len(),
        "value": from_message_pack(bytes).ok(),
        "path": target.map(Target::path),
    }))
}
