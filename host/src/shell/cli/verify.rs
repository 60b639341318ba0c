//! `host verify`: is a data directory whole?

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::store::{DATA_DEFAULT, open_to_read};
use super::{Output, print, print_fault, start_log};
use crate::mechanisms::journal::DaemonReport;
use crate::shell::exit;

#[derive(Args, Debug)]
#[command(after_help = "\
No host may run on the directory meanwhile. Exit codes: 0 all is good, 1 something is not.")]
pub(super) struct VerifyArgs {
    /// The data directory
    #[arg(env = "BULKHEAD_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) fn verify(args: &VerifyArgs) -> u8 {
    start_log("warn");
    let store = match open_to_read(&args.data) {
        Ok(store) => store,
        Err(fault) => {
            print_fault(&fault);
            return exit::FAILED;
        }
    };
    let report = store.verify();
    match args.output {
        Output::Json => print(
            &json!({
                "good": report.is_good(),
                "torn_bytes": report.torn_bytes,
                "daemons": report.daemons.iter().map(daemon_json).collect::<Vec<_>>(),
                "faults": report.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
            .to_string(),
        ),
        Output::Human => {
            for daemon in &report.daemons {
                print(&daemon_line(daemon));
            }
            if report.torn_bytes > 0 {
                let bytes = report.torn_bytes;
                print(&format!(
                    "dropped {bytes} bytes of a last write that was never acknowledged"
                ));
            }
            for fault in &report.faults {
                print(&format!("damaged: {fault}"));
            }
            let verdict = if report.is_good() { "all is good" } else { "not all is good" };
            print(&format!("{}: {verdict}", args.data.display()));
        }
    }
    if report.is_good() { exit::DONE } else { exit::FAILED }
}

fn daemon_line(daemon: &DaemonReport) -> String {
    let name = &daemon.name;
    match &daemon.found {
        Ok(Some(loaded)) => format!(
            "{name}: good up to commit {}, {} records after the base, {} bytes of memory",
            loaded.sequence, loaded.records, loaded.memory_bytes
        ),
        Ok(None) => format!("{name}: never committed"),
        Err(fault) => format!("{name}: damaged: {fault}"),
    }
}

fn daemon_json(daemon: &DaemonReport) -> Value {
    let mut fields = json!({ "name": daemon.name, "good": daemon.found.is_ok() });
    if let Value::Object(fields) = &mut fields {
        match &daemon.found {
            Ok(Some(loaded)) => {
                fields.insert("sequence".to_owned(), json!(loaded.sequence));
                fields.insert("records".to_owned(), json!(loaded.records));
                fields.insert("memory_bytes".to_owned(), json!(loaded.memory_bytes));
            }
            Ok(None) => {}
            Err(fault) => {
                fields.insert("fault".to_owned(), json!(fault.to_string()));
            }
        }
    }
    fields
}
