//! What the tests of the host share: built guests, a rig around one daemon, hostile guests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: what goes wrong here fails the test that asked"
)]

mod fake;
mod hostile;
mod process;
mod rig;
mod tree;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use host::mechanisms::sandbox::{DeployError, Guest, Sandbox, SandboxOptions};

pub use fake::Fake;
pub use hostile::{BUMP, Hostile, RUN, VALUE, hostile};
pub use process::{Holdings, in_own_process, threads, until};
pub use rig::{Line, Lines, Rig, RigOptions, bind, bound};
pub use tree::{REAL, REHEARSAL, Tree, limit_for, plan, request};

/// The example guests.
pub const GUESTS: [&str; 8] =
    ["chaos", "compute", "counter", "ledger", "limits", "rates", "smallbank", "sql"];

/// Guests that only tests run.
pub const TEST_GUESTS: [&str; 8] =
    ["caller", "fetcher", "keyvalue", "ledger-next", "reader", "stock", "stock-next", "values"];

/// The repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The file of a built guest.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn guest(name: &str) -> Vec<u8> {
    let folder = if TEST_GUESTS.contains(&name) { "tests/guests" } else { "guests" };
    let path = repository().join(folder).join(name).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; run `cargo xtask guests` first", path.display())
    })
}

/// One sandbox for the whole test process.
#[must_use]
pub fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(SandboxOptions::default()).unwrap())
}

/// An example guest, compiled once per test process.
///
/// # Panics
///
/// When it was not built, or is refused.
#[must_use]
pub fn deployed(name: &str) -> Arc<Guest> {
    type Cell = Arc<OnceLock<Arc<Guest>>>;
    static DEPLOYED: OnceLock<Mutex<HashMap<String, Cell>>> = OnceLock::new();
    let cell = {
        let mut guests = DEPLOYED.get_or_init(Mutex::default).lock().unwrap();
        guests.entry(name.to_owned()).or_default().clone()
    };
    // Outside the lock: two guests may be compiled at once.
    cell.get_or_init(|| deploy(&guest(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
        .clone()
}

/// The same program as [`deployed`], from a file with other bytes: what a new build looks like.
///
/// # Panics
///
/// As [`deployed`].
#[must_use]
pub fn rebuilt(name: &str, build: u8) -> Vec<u8> {
    // A custom section of one byte, with a name of five.
    [&guest(name), &b"\x00\x07\x05build"[..], &[build]].concat()
}

/// Deploys bytes in the shared sandbox.
///
/// # Errors
///
/// What the host says.
pub fn deploy(bytes: &[u8]) -> Result<Arc<Guest>, DeployError> {
    sandbox().deploy(bytes)
}

/// A number from the environment, for longer runs of a test.
#[must_use]
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}
