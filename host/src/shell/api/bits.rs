//! The commands that pause, disable and kill. None of them asks a daemon's thread or the journal,
//! but for starting a parked guest again.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::lineage::{Fields, Served, deploy_stored};
use crate::base::error::{Code, Fault, printable};
use crate::pure::crash_report::parse_id;
use crate::pure::kill_bits::Bits;
use crate::tree::{Stopped, Switched};

pub(super) fn kill(served: &Served, argument: &Value) -> Result<Value, Fault> {
    let id = argument.as_str().and_then(parse_id).ok_or_else(|| {
        let shown = printable(&argument.to_string(), 64);
        let message = format!(
            "`kill`: {shown} is not the id of a transaction: that is a text of 1 to 16 hexadecimal \
             digits"
        );
        Fault::new(Code::Request, message)
    })?;
    let (daemon, stopped) = served.root.kill(id)?;
    match stopped.end {
        // It was about to end when it was cancelled.
        Some(end) if end != Code::Cancelled.as_str() => {
            let message = format!("transaction {id} had ended before it was cancelled: {end}");
            Err(Fault::new(Code::NoTransaction, message))
        }
        _ => Ok(json!({ "killed": id.to_string(), "daemon": daemon, "stopped": stop(&stopped) })),
    }
}

pub(super) fn disable(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let (daemon, contract) = (fields.text("daemon")?, fields.optional_text("contract")?);
    let cancel = fields.flag("cancel")?;
    fields.done()?;
    let switched = served.root.disable(&daemon, contract.as_deref(), cancel)?;
    Ok(answer("disabled", &daemon, contract, &switched))
}

pub(super) fn enable(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let (daemon, contract) = (fields.text("daemon")?, fields.optional_text("contract")?);
    fields.done()?;
    let switched = served.root.enable(&daemon, contract.as_deref())?;
    Ok(answer("enabled", &daemon, contract, &switched))
}

pub(super) fn pause(served: &Served, mut fields: Fields) -> Result<Value, Fault> {
    let (daemon, cancel) = (fields.text("daemon")?, fields.flag("cancel")?);
    fields.done()?;
    let switched = served.root.pause(&daemon, cancel)?;
    Ok(answer("paused", &daemon, None, &switched))
}

pub(super) fn resume(served: &Served, daemon: &str) -> Result<Value, Fault> {
    let deploy = |code: &[u8]| deploy_stored(&served.sandbox, code, usize::MAX);
    let started = served.root.start_unstarted(daemon, &deploy)?;
    let switched = served.root.resume(daemon)?;
    let switched = Switched { was_parked: started || switched.was_parked, ..switched };
    Ok(answer("resumed", daemon, None, &switched))
}

fn answer(done: &str, daemon: &str, contract: Option<String>, switched: &Switched) -> Value {
    let mut answer = Map::new();
    answer.insert(done.to_owned(), json!(daemon));
    answer.insert("contract".to_owned(), json!(contract));
    answer.insert("off".to_owned(), off(&switched.bits));
    answer.insert("held".to_owned(), json!(switched.held));
    answer.insert("stopped".to_owned(), switched.stopped.iter().map(stop).collect());
    let left = switched.left.iter().map(|id| Value::String(id.to_string()));
    answer.insert("left".to_owned(), left.collect());
    answer.insert("was_parked".to_owned(), json!(switched.was_parked));
    Value::Object(answer)
}

/// What is switched off.
pub(super) fn off(bits: &Bits) -> Value {
    json!({ "paused": bits.paused, "disabled": bits.disabled, "contracts": bits.contracts })
}

fn stop(stopped: &Stopped) -> Value {
    let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
    json!({
        "transaction": stopped.request.to_string(),
        "contract": stopped.contract,
        "ran_us": micros(stopped.ran),
        "took_us": micros(stopped.took),
        "end": stopped.end,
    })
}
