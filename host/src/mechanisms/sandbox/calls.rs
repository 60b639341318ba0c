//! Calls of a guest to its resources: the thread of its daemon parks until there is an answer.
//!
//! The engine's meters don't reach into a host call, so each wait ends by itself: with the answer,
//! with the death of the resource, with a cancel, or with the transaction's deadline. A lease that
//! has ended is never an answer: the guest is stopped, so that it can't commit half of something.

mod files;
mod filesystem;
mod http;
mod keyvalue;
mod redis;
mod settings;
mod sql;
mod staged;
mod streams;
mod types;
mod wasi_http;

use std::time::{Duration, Instant};

use wasmtime::component::Linker;

use super::crash::Stop;
use super::host_calls::{Store, charge};
use super::state::StoreState;
use crate::base::error::{Blame, Code, printable};
use crate::base::limits::{CALL_BYTES_MAX, CALL_TIME_MAX};
use crate::base::sdk_codes::blame;
use crate::base::ticket::{Claim, Claimed};
use crate::pure::resource::operation::{CallError, CallResult, Operation};

pub(super) use self::filesystem::{FileStream, is_root};
pub(super) use self::wasi_http::Exchanges;

/// Links all interfaces to resources, and those of WASI that wait or reach outside.
///
/// # Errors
///
/// What the linker says.
pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    types::link(linker)?;
    redis::link(linker)?;
    sql::link(linker)?;
    files::link(linker)?;
    http::link(linker)?;
    staged::link(linker)?;
    keyvalue::link(linker)?;
    settings::link(linker)?;
    streams::link(linker)?;
    filesystem::link(linker)?;
    wasi_http::link(linker)
}

/// Most bytes of a resource's name that a guest made up, in a message.
const NAME_BYTES_SHOWN: usize = 100;

/// What a resource answered, that a guest may pass on as its rejection.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) blame: Blame,
    /// What the guest does not know of it.
    pub(super) about: Option<String>,
}

/// A call that is under way. Dropping it gives the answer up.
#[derive(Debug)]
struct Begun {
    resource: String,
    claim: Claim<CallResult>,
    until: Instant,
    /// The transaction has to have ended by then, too.
    is_last: bool,
}

impl Begun {
    /// What its end means to the guest.
    fn end(&self, ended: Waited) -> Result<CallResult, Stop> {
        let resource = &self.resource;
        match ended {
            Waited::Ended(code) => {
                let text = format!("cancelled while it waited for resource `{resource}`");
                Err(Stop::new(code, text))
            }
            // Whoever of the two looked at the time first.
            Waited::Late | Waited::Settled(Err(CallError::TimedOut)) if self.is_last => {
                let text = format!("still waiting for resource `{resource}` at its deadline");
                Err(Stop::waiting(text))
            }
            Waited::Late => Ok(Err(CallError::TimedOut)),
            Waited::Settled(answer) => Ok(answer),
        }
    }
}

/// Asks a resource, and waits. `bytes` is what the guest hands over.
fn ask(
    store: &mut Store<'_>,
    resource: &str,
    operation: Operation,
    bytes: usize,
) -> wasmtime::Result<CallResult> {
    let began = Instant::now();
    let begun = match begin(store, resource, operation, bytes, CALL_TIME_MAX)? {
        Ok(begun) => begun,
        Err(error) => return Ok(Err(told(store.data_mut(), resource, error))),
    };
    let state = store.data_mut();
    let ended = wait(state, &begun.claim, begun.until);
    state.waited(began.elapsed());
    Ok(begun.end(ended)?.map_err(|error| told(state, resource, error)))
}

/// An error that the guest is told.
fn told(state: &mut StoreState, resource: &str, error: CallError) -> CallError {
    if let Some(code) = error.passed_on() {
        let about = match error {
            CallError::NoSuchResource | CallError::WrongKind => {
                let resources = state.outside.as_ref().map(|outside| outside.names());
                Some(which(resource, &resources.unwrap_or_default()))
            }
            _ => None,
        };
        state.told.insert(code, Told { blame: blame(code), about });
    }
    error
}

/// Which resource was asked for, and those that there are.
fn which(resource: &str, resources: &[String]) -> String {
    let asked = printable(resource, NAME_BYTES_SHOWN);
    match resources {
        [] => format!("it asked for `{asked}`, and has no resources"),
        _ => format!("it asked for `{asked}`, and has {}", resources.join(", ")),
    }
}

/// Asks a resource, which has this much time to answer.
fn begin(
    store: &mut Store<'_>,
    resource: &str,
    operation: Operation,
    bytes: usize,
    time: Duration,
) -> wasmtime::Result<Result<Begun, CallError>> {
    charge(store, resource.len().saturating_add(bytes))?;
    let state = store.data_mut();
    if bytes > CALL_BYTES_MAX {
        return Ok(Err(CallError::TooLarge(CALL_BYTES_MAX as u64)));
    }
    state.resources_are_there()?;
    let Some(outside) = state.outside.clone() else { return Ok(Err(CallError::NoSuchResource)) };
    if operation.is_live() {
        state.live_calls = state.live_calls.saturating_add(1);
    }
    let began = Instant::now();
    let deadline = state.deadline(began);
    let until = deadline.min(began + time);
    let claim = match outside.call(resource, operation, until) {
        Ok(claim) => claim,
        // Its lease has ended, or is about to.
        Err(CallError::Died | CallError::NotSent(_)) => gone(),
        Err(error) => return Ok(Err(error)),
    };
    Ok(Ok(Begun { resource: resource.to_owned(), claim, until, is_last: deadline <= until }))
}

/// A claim to which no answer will come.
fn gone() -> Claim<CallResult> {
    crate::base::ticket::ticket().1
}

/// How a wait ended.
#[derive(Debug)]
enum Waited {
    Settled(CallResult),
    /// Somebody wants the transaction gone, with this code.
    Ended(Code),
    Late,
}

/// Parks this thread. A claim that nobody will settle any more is one whose lease has ended:
/// whoever ended it says so.
fn wait(state: &StoreState, claim: &Claim<CallResult>, until: Instant) -> Waited {
    let _awake = state.cancel.sleep();
    loop {
        if let Some(code) = state.cancel.hits(state.request) {
            return Waited::Ended(code);
        }
        if let Claimed::Settled(answer) = claim.take() {
            return Waited::Settled(answer);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Waited::Late;
        }
        std::thread::park_timeout(left);
    }
}
