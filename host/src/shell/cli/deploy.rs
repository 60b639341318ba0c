//! From files to guests, for `run` and `inspect`: reading, naming, the compiler's process,
//! progress.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::THIS_PROGRAM;
use crate::base::entropy::{Entropy, SystemEntropy};
use crate::base::error::{Code, Fault};
use crate::base::vitals::Vitals;
use crate::mechanisms::sandbox::{CacheDir, CompileMode, Guest, Sandbox, SandboxOptions};
use crate::shell::api::read_code;

#[derive(Args, Clone, Debug)]
pub(super) struct CompileArgs {
    /// Where compiled code is kept [default: bulkhead in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, env = "BULKHEAD_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Compile anew each time, wherever compiled code is kept
    #[arg(long)]
    no_cache: bool,
}

/// Sets up the engine with a cache and a compiler in a process of its own.
pub(super) fn sandbox(args: &CompileArgs, vitals: Arc<Vitals>) -> Result<Sandbox, Fault> {
    sandbox_with(args, false, vitals)
}

/// The same, with backtraces of all frames.
pub(super) fn replay_sandbox(args: &CompileArgs) -> Result<Sandbox, Fault> {
    sandbox_with(args, true, Arc::default())
}

fn sandbox_with(
    args: &CompileArgs,
    full_backtraces: bool,
    vitals: Arc<Vitals>,
) -> Result<Sandbox, Fault> {
    let compile = compiler();
    let cache = cache(args);
    let options =
        SandboxOptions { compile, cache, full_backtraces, vitals, ..SandboxOptions::default() };
    Sandbox::new(options).map_err(|error| Fault::new(Code::Engine, error.to_string()))
}

/// This program, as a process that reads guests' files.
pub(super) fn compiler() -> CompileMode {
    CompileMode::Child(PathBuf::from(THIS_PROGRAM))
}

/// The cache; without one, guests are compiled at each start, and that is said.
fn cache(args: &CompileArgs) -> Option<CacheDir> {
    if args.no_cache {
        return None;
    }
    let dir = args.cache_dir.clone().or_else(default_cache_dir)?;
    match CacheDir::open(&dir, SystemEntropy.seed()) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!("{error}; guests are compiled at each start");
            None
        }
    }
}

fn default_cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(base.join("bulkhead"))
}

/// A daemon is named after its file.
pub(super) fn daemon_name(path: &Path) -> Result<String, Fault> {
    path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned).ok_or_else(|| {
        let message = format!("{}: no daemon can be named after this file", path.display());
        Fault::new(Code::Name, message)
    })
}

/// Guests by the hash of their files: daemons of the same code share it, and it is deployed once.
#[derive(Debug, Default)]
pub(super) struct Deployed(BTreeMap<[u8; 32], Arc<Guest>>);

impl Deployed {
    /// Deploys one file, unless that was done before.
    pub(super) fn deploy(
        &mut self,
        sandbox: &Sandbox,
        path: &Path,
        budget: usize,
    ) -> Result<Arc<Guest>, Fault> {
        self.deploy_read(sandbox, path, &read_code(path)?, budget)
    }

    /// The same, of a file that was read.
    pub(super) fn deploy_read(
        &mut self,
        sandbox: &Sandbox,
        path: &Path,
        bytes: &[u8],
        budget: usize,
    ) -> Result<Arc<Guest>, Fault> {
        let hash = *blake3::hash(bytes).as_bytes();
        if let Some(guest) = self.0.get(&hash) {
            return Ok(guest.clone());
        }
        let guest = deploy_bytes(sandbox, path, bytes, budget)?;
        self.0.insert(hash, guest.clone());
        Ok(guest)
    }
}

/// Deploys one file.
pub(super) fn deploy(sandbox: &Sandbox, path: &Path) -> Result<Arc<Guest>, Fault> {
    deploy_bytes(sandbox, path, &read_code(path)?, usize::MAX)
}

/// With a line of progress when it takes more than a second.
fn deploy_bytes(
    sandbox: &Sandbox,
    path: &Path,
    bytes: &[u8],
    budget: usize,
) -> Result<Arc<Guest>, Fault> {
    let progress = progress(format!("compiling {}", path.display()));
    let deployed = sandbox.deploy_within(bytes, budget);
    progress.finish_and_clear();
    deployed.map_err(|error| {
        let fault = Fault::from(&error);
        let message = format!("{}: {}", path.display(), fault.message);
        fault.saying(message)
    })
}

/// A spinner on standard error, shown on terminals only.
pub(super) fn progress(message: String) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        // Nor is there a thread for it.
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
