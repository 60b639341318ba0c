//! `host output`: what a daemon shows others.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::lineage::{absolute, text};
use super::stored::PlaceArgs;
use super::{Output, print};
use crate::shell::exit;

#[derive(Args, Debug)]
pub(super) struct OutputArgs {
    /// The daemon's name
    daemon: String,
    /// Write its bytes to this file
    #[arg(short = 'o', long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) fn output(args: &OutputArgs) -> u8 {
    let path = match args.out.as_deref().map(absolute).transpose() {
        Ok(path) => path,
        Err(code) => return code,
    };
    let asked = json!({ "output": { "daemon": args.daemon, "path": path } });
    let answer = match args.place.fetch(&asked) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    match args.output {
        Output::Json => print(&answer.to_string()),
        Output::Human => print(&shown(&answer)),
    }
    exit::DONE
}

fn shown(answer: &Value) -> String {
    let daemon = text(answer, "daemon");
    if answer.get("sequence").is_none_or(Value::is_null) {
        return format!("daemon `{daemon}` shows nothing");
    }
    let (sequence, bytes) = (text(answer, "sequence"), text(answer, "bytes"));
    let of = format!("{bytes} bytes as of commit {sequence}");
    match (answer.get("path"), answer.get("value")) {
        (Some(Value::String(path)), _) => format!("{of} of `{daemon}`: {path}"),
        (_, Some(value)) if !value.is_null() => value.to_string(),
        _ => format!("{of} that are no MessagePack value; -o FILE writes them to a file"),
    }
}
