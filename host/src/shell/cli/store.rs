//! `host run`'s data directory: where it is, what it means, and the daemons that only it knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::base::entropy::{Entropy, SystemEntropy};
use crate::base::error::{Code, Fault};
use crate::mechanisms::journal::{
    DaemonRow, DirectoryId, Durability, FaultKind, JournalFault, Origin, Store, StoreOptions,
};
use crate::pure::kept_setup::KeptSetup;

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
    /// Where the state is, unless it lives in memory only.
    pub(super) fn path(&self) -> &Path {
        &self.data
    }

    /// True when there may be state already.
    pub(super) fn exists(&self) -> bool {
        self.data.exists()
    }
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
        .map_err(|fault| Fault::new(fault.kind.code(), at(dir, &fault)))
}

/// Opens a data directory that is there, on which no host runs, to change it.
pub(super) fn open_existing(dir: &Path) -> Result<Store, Fault> {
    Store::open_existing(dir, StoreOptions::default()).map_err(|fault| of_directory(dir, &fault))
}

/// Opens a data directory that is there, on which no host runs, and changes nothing of it.
pub(super) fn open_to_read(dir: &Path) -> Result<Store, Fault> {
    Store::open_to_read(dir, StoreOptions::default()).map_err(|fault| of_directory(dir, &fault))
}

fn of_directory(dir: &Path, fault: &JournalFault) -> Fault {
    let hint = match fault.kind {
        FaultKind::Locked => ". Without --data its host is asked",
        _ => "",
    };
    Fault::new(fault.kind.code(), format!("{}{hint}", at(dir, fault)))
}

/// A failure of a directory, with a path, once.
fn at(dir: &Path, fault: &JournalFault) -> String {
    match fault.file {
        Some(_) => fault.to_string(),
        None => format!("{}: {fault}", dir.display()),
    }
}

/// A daemon that was forked or restored.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) name: String,
    pub(super) row: DaemonRow,
    /// How it is run. None when it was made by a host that did not keep that.
    pub(super) setup: Option<KeptSetup>,
    /// Why it is not known how it is run.
    pub(super) unreadable: Option<Fault>,
}

/// The daemons that were forked or restored and that no file names: they are started as well.
/// Those that had a file are left out, and that is said.
pub(super) fn copies(store: Option<&Store>, names: &[String]) -> Vec<Copied> {
    let mut copies = Vec::new();
    let Some(store) = store else { return copies };
    if let Some(damage) = store.names_damage() {
        let code = damage.kind.code();
        tracing::error!(%code, "{damage}: what is missing there is not started");
    }
    for (name, row) in store.daemons() {
        // Without a commit it was made, but never became durable: nobody was told of it.
        if names.contains(&name) || !store.has_state(&name) {
            continue;
        }
        if row.origin == Origin::Init {
            tracing::warn!(
                daemon = name,
                "has state here, but no guest file: not started. `host history {name}` shows it, \
                 `host remove {name}` deletes it"
            );
            continue;
        }
        let (setup, unreadable) = match kept_setup(store, &name, row) {
            Ok(setup) => (setup, None),
            Err(fault) => (None, Some(fault)),
        };
        copies.push(Copied { name, row, setup, unreadable });
    }
    copies
}

fn kept_setup(store: &Store, name: &str, row: DaemonRow) -> Result<Option<KeptSetup>, Fault> {
    let Some(bytes) = store.setup(row.key).map_err(|fault| Fault::from(&fault))? else {
        return Ok(None);
    };
    KeptSetup::decode(&bytes).map(Some).ok_or_else(|| {
        let message = format!("how daemon `{name}` is run was written by another host");
        Fault::new(Code::Format, message)
    })
}
