//! Where a command is asked: a running host, or a data directory that no host uses.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::call::fetch;
use super::store::{DATA_DEFAULT, open_existing, open_to_read};
use super::{Output, SocketArgs, print, print_fault, start_log};
use crate::base::error::Fault;
use crate::mechanisms::journal::Store;
use crate::shell::api::answer_stored;
use crate::shell::exit;

#[derive(Args, Clone, Debug)]
pub(super) struct PlaceArgs {
    /// Ask this data directory, which no host uses, instead of a running host
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Who answers.
pub(super) enum Asked<'a> {
    Host(&'a SocketArgs),
    Stored(Box<Store>),
}

impl PlaceArgs {
    /// True when a data directory is asked.
    pub(super) fn is_stored(&self) -> bool {
        self.data.is_some()
    }

    /// Opens the data directory, if one is asked; the error is printed.
    pub(super) fn open(&self, changes: bool) -> Result<Asked<'_>, u8> {
        let Some(dir) = &self.data else { return Ok(Asked::Host(&self.socket)) };
        start_log("warn");
        let store = if changes { open_existing(dir) } else { open_to_read(dir) };
        store.map(|store| Asked::Stored(Box::new(store))).map_err(|fault| told(&fault))
    }

    /// Asks once; an error is printed.
    pub(super) fn fetch(&self, command: &Value) -> Result<Value, u8> {
        self.open(false)?.fetch(command)
    }

    /// The same for what changes something.
    pub(super) fn change(&self, command: &Value) -> Result<Value, u8> {
        self.open(true)?.fetch(command)
    }
}

impl Asked<'_> {
    /// Asks; an error is printed.
    pub(super) fn fetch(&self, command: &Value) -> Result<Value, u8> {
        match self {
            Self::Host(socket) => fetch(socket, command),
            Self::Stored(store) => answer_stored(store, command).map_err(|fault| told(&fault)),
        }
    }
}

fn told(fault: &Fault) -> u8 {
    print_fault(fault);
    exit::FAILED
}

#[derive(Args, Debug)]
#[command(after_help = "\
No host may run on the directory meanwhile. A daemon of a file is found by the file's name or the
manifest's, so rename that as well.")]
pub(super) struct RenameArgs {
    /// The daemon's name
    daemon: String,
    /// What it is called from now on
    new: String,
    /// The data directory
    #[arg(long, env = "BULKHEAD_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) fn rename(args: &RenameArgs) -> u8 {
    start_log("warn");
    let asked = json!({ "rename": { "daemon": args.daemon, "new": args.new } });
    match renamed(&args.data, &asked) {
        Err(fault) => told(&fault),
        Ok(answer) => {
            print(&match args.output {
                Output::Json => answer.to_string(),
                Output::Human => format!("daemon `{}` is `{}` now", args.daemon, args.new),
            });
            exit::DONE
        }
    }
}

fn renamed(dir: &Path, asked: &Value) -> Result<Value, Fault> {
    answer_stored(&open_existing(dir)?, asked)
}
