//! `host run`'s data directory: where it is, what it means, and the daemons that only it knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::base::entropy::{Entropy, SystemEntropy};
use crate::base::error::{Code, Fault};
use crate::mechanisms::journal::{
    DaemonRow, DirectoryId, Durability, JournalFault, Origin, Store, StoreOptions,
};
use crate::mechanisms::sandbox::{Guest, Sandbox};
use crate::shell::api::deploy_stored;

/// Where the state is kept unless `--data` says otherwise: beside the guests that it belongs to.
pub(super) const DATA_DEFAULT: &str = "bulkhead-data";

#[derive(Args, Clone, Debug)]
pub(super) struct DataArgs {
    /// Keep the state in this directory; the next start goes on with it
    #[arg(long, env = "BULKHEAD_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,
    /// What an acknowledgement means: the commit survives a power cut (fsync), the end of this
    /// process (os), or nothing (memory)
    #[arg(long, value_enum, default_value_t = DurabilityArg::Fsync)]
    durability: DurabilityArg,
    /// Keep the state in memory only: short for --durability memory
    #[arg(long, conflicts_with = "durability")]
    memory_only: bool,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum DurabilityArg {
    /// Synced to the disk
    Fsync,
    /// Handed to the operating system
    Os,
    /// Committed in memory
    Memory,
}

impl DataArgs {
    /// True when there may be state already.
    pub(super) fn exists(&self) -> bool {
        self.data.exists()
    }
}

/// Opens a data directory that is there, on which no host runs, to change it.
pub(super) fn open_existing(dir: &Path) -> Result<Store, JournalFault> {
    Store::open_existing(dir, StoreOptions::default())
}

/// Opens a data directory that is there, on which no host runs, and changes nothing of it.
pub(super) fn open_to_read(dir: &Path) -> Result<Store, JournalFault> {
    Store::open_to_read(dir, StoreOptions::default())
}

/// Opens the data directory; none when the state is to live in memory only.
pub(super) fn open_store(args: &DataArgs) -> Result<Option<Arc<Store>>, Fault> {
    let durability = match args.durability {
        DurabilityArg::Fsync if !args.memory_only => Durability::Fsync,
        DurabilityArg::Os if !args.memory_only => Durability::Os,
        _ => return Ok(None),
    };
    open(&args.data, durability).map(Some)
}

fn open(dir: &Path, durability: Durability) -> Result<Arc<Store>, Fault> {
    let options = StoreOptions { durability, ..StoreOptions::default() };
    let mut id = [0; 16];
    id.copy_from_slice(SystemEntropy.seed().first_chunk::<16>().unwrap_or(&[0; 16]));
    let id = DirectoryId(u128::from_le_bytes(id));
    Store::open(dir, options, id)
        .map(Arc::new)
        .map_err(|fault| Fault::new(fault.kind.code(), format!("{}: {fault}", dir.display())))
}

/// The daemons that were forked or restored and that no file names: they are started as well.
/// Those that had a file are left out, and that is said.
pub(super) fn copies(store: Option<&Store>, names: &[String]) -> Vec<(String, DaemonRow)> {
    let mut copies = Vec::new();
    for (name, row) in store.map(Store::daemons).unwrap_or_default() {
        if names.contains(&name) {
            continue;
        }
        match row.origin {
            Origin::Copy => copies.push((name, row)),
            Origin::Init => {
                tracing::warn!(daemon = name, "has state here, but no guest file: not started");
            }
        }
    }
    copies
}

/// The code that made a daemon's state, when it is other code than the file's.
pub(super) fn deploy_old(
    sandbox: &Sandbox,
    store: &Store,
    name: &str,
    guest: &Guest,
) -> Result<Option<Arc<Guest>>, Fault> {
    let Some(row) = store.find_daemon(name) else { return Ok(None) };
    let last = store.last_code(row.key).map_err(|fault| Fault::from(&fault))?;
    if last == Some(*guest.facts().digest.as_bytes()) {
        return Ok(None);
    }
    deploy_copy(sandbox, store, name, row)
}

/// The code of a daemon that has no file.
pub(super) fn deploy_copy(
    sandbox: &Sandbox,
    store: &Store,
    name: &str,
    row: DaemonRow,
) -> Result<Option<Arc<Guest>>, Fault> {
    let failed = |fault: &Fault| Fault::new(fault.code, format!("daemon `{name}`: {fault}"));
    let digest = store.last_code(row.key).map_err(|fault| failed(&Fault::from(&fault)))?;
    // It was made, but its first commit never became durable: nobody was told of it.
    let Some(digest) = digest else { return Ok(None) };
    let code = store.code(digest).map_err(|fault| failed(&Fault::from(&fault)))?;
    let Some(code) = code else {
        let message = format!("daemon `{name}`: the code that made its state is not kept");
        return Err(Fault::new(Code::StoreCorrupt, message));
    };
    deploy_stored(sandbox, &code).map(Some).map_err(|fault| failed(&fault))
}
