//! `host upgrade`: other code on a daemon's state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::lineage::{absolute, bytes, command, short, text};
use super::{Output, SocketArgs};

#[derive(Args, Debug)]
#[command(after_help = "\
The running code hands its state over as a value, in a rehearsal of the new code on memory of its
own. If saving, loading or the new code's check fails, the daemon runs on as it was; so it does when
values of the state would be lost, unless --accept-loss says that they may. Its requests wait
meanwhile. The data directory has the new code then: a start with the old file goes on with it.
Exit codes: 0 upgraded, or could be, 1 not, 2 wrong usage, 5 no host answers.")]
pub(super) struct UpgradeArgs {
    /// The daemon's name
    daemon: String,
    /// The file of the new code
    #[arg(value_name = "GUEST.wasm")]
    guest: PathBuf,
    /// Rehearse it, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Let the new code drop or change what it doesn't keep of the state
    #[arg(long)]
    accept_loss: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    socket: SocketArgs,
}

pub(super) fn upgrade(args: &UpgradeArgs) -> u8 {
    let path = match absolute(&args.guest) {
        Ok(path) => path,
        Err(code) => return code,
    };
    let asked = json!({
        "upgrade": {
            "daemon": args.daemon,
            "path": path,
            "dry_run": args.dry_run,
            "accept_loss": args.accept_loss,
        }
    });
    command(&args.socket, &asked, |answer| match args.output {
        Output::Json => answer.to_string(),
        Output::Human => show(&args.daemon, &args.guest, answer),
    })
}

fn show(daemon: &str, guest: &Path, answer: &Value) -> String {
    let side = |name: &str| {
        let side = answer.get(name).unwrap_or(&Value::Null);
        format!("{} (version {})", short(side, "code"), text(side, "version"))
    };
    let took = answer.get("took_us").and_then(Value::as_u64).unwrap_or(0);
    let dry_run = answer.get("dry_run") == Some(&Value::Bool(true));
    let did = if dry_run {
        "could be upgraded; nothing was changed".to_owned()
    } else {
        format!("is upgraded; that is commit {}", text(answer, "sequence"))
    };
    let mut lines = vec![
        format!("daemon `{daemon}` {did}"),
        format!("  code      {} -> {}", side("from"), side("to")),
        format!(
            "  state     {} as a value, {} of memory; requests waited {:?}",
            bytes(answer, "value_bytes"),
            bytes(answer, "memory_bytes"),
            Duration::from_micros(took)
        ),
    ];
    let contracts = answer.get("contracts").unwrap_or(&Value::Null);
    for change in ["gone", "changed", "added"] {
        let names = contracts.get(change).and_then(Value::as_array);
        let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            lines.push(format!("  contracts {change}: {}", names.join(", ")));
        }
    }
    lines.extend(show_loss(answer.get("loss").unwrap_or(&Value::Null)));
    if !dry_run {
        lines.push(format!("  next      {}", next(guest, answer)));
    }
    lines.join("\n")
}

fn show_loss(loss: &Value) -> Vec<String> {
    let words = |name: &str| loss.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut lines = Vec::new();
    if loss.get("compared") == Some(&Value::Bool(false)) {
        lines.push(format!("  loss      not known: {}", words("reason")));
    } else if !words("message").is_empty() {
        lines.push(format!("  loss      {}", words("message")));
    }
    let renamed = loss.get("renamed").and_then(Value::as_array);
    for names in renamed.into_iter().flatten() {
        lines.push(format!("  renamed   {} -> {}", text(names, "from"), text(names, "to")));
    }
    lines
}

/// What to change for the next start.
fn next(guest: &Path, answer: &Value) -> String {
    let next = answer.get("next_start").unwrap_or(&Value::Null);
    let is = |field: &str| next.get(field) == Some(&Value::Bool(true));
    let file = next.get("file").and_then(Value::as_str);
    match (file, is("is_new"), is("kept")) {
        (Some(file), true, _) => format!("nothing to change: {file} is the new file"),
        (Some(file), false, true) => format!(
            "put {} in the place of {file}; until then a start goes on with the new code, which \
             the data directory has, and says that the file is older",
            guest.display()
        ),
        (Some(file), false, false) => {
            format!("start with {}: this host keeps no state, and {file} is older", guest.display())
        }
        (None, _, true) => "nothing to change: the data directory has the code".to_owned(),
        (None, _, false) => "this host keeps no state".to_owned(),
    }
}
