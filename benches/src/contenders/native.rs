//! Native components under a supervisor: this project's, or ractor's.

use std::path::{Path, PathBuf};

use super::helper::Helper;

/// Where `cargo xtask bench` builds the program of `benches/native`.
fn program() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| own.parent().unwrap_or(own).join("target"));
    target.join("native/release/native")
}

/// Starts the process whose components are supervised by `whose`.
///
/// # Errors
///
/// What to do about it.
pub fn start(whose: &str) -> Result<Helper, String> {
    let program = program();
    Helper::start(&program, [whose])
        .map_err(|error| format!("{}: {error}; `cargo xtask bench` builds it", program.display()))
}
