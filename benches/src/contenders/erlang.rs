//! Erlang/OTP: a supervisor restarts a worker of blank state, which answers.

use std::path::Path;
use std::process::{Command, Stdio};

use super::helper::Helper;

/// What becomes of the crash reports that OTP makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reports {
    /// None are made: the fastest that OTP can be.
    Quiet,
    /// They are formatted and written, here to nowhere: what OTP does by default.
    Written,
}

/// Starts the Erlang node, or says why there is none.
///
/// # Errors
///
/// What to do about it.
pub fn start(reports: Reports) -> Result<Helper, String> {
    let mut erl = Command::new("erl");
    if erl.arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Err("erl not found: apt-get install erlang-base".to_owned());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("erlang/restart.escript");
    let word = match reports {
        Reports::Quiet => "quiet",
        Reports::Written => "reports",
    };
    Helper::start_quietly("escript", [script.as_os_str(), word.as_ref()])
        .map_err(|error| format!("escript: {error}"))
}
