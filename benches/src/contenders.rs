//! What is measured: the host, driven in several ways, and what it replaces.

pub mod calls;
pub mod compute;
pub mod crew;
pub mod daemon;
pub mod dependents;
pub mod durable;
pub mod erlang;
pub mod fleet;
pub mod fork;
pub mod helper;
pub mod instance;
pub mod native;
pub mod pooled;
pub mod readers;
pub mod rooted;
pub mod sqlite;
pub mod storm;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::base::clock::SystemClock;
use host::base::entropy::SystemEntropy;
use host::mechanisms::sandbox::{Guest, NoLog, Sandbox};
use host::tree::RootOptions;

/// Where the component of a guest is.
#[must_use]
pub fn component_path(guest: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).join("guests").join(format!("{guest}.wasm"))
}

/// The component of a guest, as it was built.
///
/// # Panics
///
/// When it was not.
#[must_use]
pub fn component(guest: &str) -> Vec<u8> {
    let path = component_path(guest);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask guests`", path.display()))
}

/// A guest, deployed.
///
/// # Panics
///
/// When the host refuses it.
#[must_use]
pub fn deploy(sandbox: &Sandbox, guest: &str) -> Arc<Guest> {
    sandbox.deploy(&component(guest)).unwrap_or_else(|error| panic!("{guest}: {error}"))
}

/// What a root needs whose daemons log nothing and keep their state in memory.
#[must_use]
pub fn quiet_root() -> RootOptions {
    RootOptions {
        logs: Some(Box::new(|_| Arc::new(NoLog))),
        ..RootOptions::new(usize::MAX, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
    }
}

/// Bytes of a MiB.
pub const MIB: usize = 1 << 20;

/// A budget for an image of that many bytes: some room to spare, as people do.
#[must_use]
pub fn budget_for(image_bytes: usize) -> usize {
    (image_bytes + image_bytes / 4 + 2 * MIB).next_multiple_of(64 << 10)
}
