//! Runs a crashed request again, alone, on the very commit that it crashed on.
//!
//! Same code, memory, arguments, clock, seed of random numbers, ids, attempt and generation: what a
//! guest computes from these it computes again. Only time itself is not repeated, so that a missed
//! deadline may not be missed again.

use std::sync::Arc;

use super::daemon::{COMMIT_BYTES_MAX, check_result, check_size, load_checkpoint};
use crate::base::error::{Code, Fault};
use crate::base::ids::{RequestId, Sequence};
use crate::mechanisms::journal::Store;
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::{
    CallContext, Called, Caught, Environment, Guest, GuestLog, Instance, Limits, OutputVersion,
    Outputs, StartCause,
};
use crate::pure::checkpoint::Checkpoint;
use crate::pure::crash_report::{Arguments, CrashReport};
use crate::pure::request::{Crash, Rejection};

/// What a crashed request is run again with.
#[derive(Clone)]
pub struct ReplayMaterials {
    /// Its report.
    pub report: CrashReport,
    /// The commit that it ran on.
    pub checkpoint: Checkpoint,
    /// The guest's code.
    pub code: Vec<u8>,
    /// What it had seen of other daemons.
    pub seen: Vec<(String, Arc<OutputVersion>)>,
}

impl std::fmt::Debug for ReplayMaterials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the megabytes of state and code.
        f.debug_struct("ReplayMaterials").field("report", &self.report).finish_non_exhaustive()
    }
}

impl ReplayMaterials {
    /// What the request might use when it crashed.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { fuel: self.report.fuel, deadline: self.report.deadline }
    }
}

/// How a request ended when it was run again. Nothing is ever committed.
#[derive(Clone, Debug)]
pub enum Replayed {
    /// It crashed.
    Crashed {
        /// The crash, with a backtrace of all its frames.
        crash: Crash,
        /// Per frame, where in its function's rewritten code, in bytes, if that is known.
        offsets: Vec<Option<usize>>,
    },
    /// It returned a value, MessagePack.
    Returned(Vec<u8>),
    /// The guest said no.
    Rejected(Rejection),
}

/// Finds what a crashed request is run again with.
///
/// # Errors
///
/// `E_NO_CRASH`, `E_NO_COMMIT` when the commit or the code is not kept any more, and the store's.
pub fn replay_materials(store: &Store, id: RequestId) -> Result<ReplayMaterials, Fault> {
    let no_crash = |message: String| Fault::new(Code::NoCrash, message);
    let no_commit = |message: String| Fault::new(Code::NoCommit, message);
    let bytes = store.crash(id).map_err(|fault| Fault::from(&fault))?;
    let bytes = bytes.ok_or_else(|| no_crash(format!("no report of crash {id} is kept")))?;
    let report = CrashReport::decode(&bytes)
        .map_err(|error| Fault::new(Code::StoreCorrupt, format!("crash {id}: {error}")))?;
    if let Arguments::TooLarge(bytes) = report.arguments {
        let message = format!("the report of crash {id} was made without the {bytes} bytes of its");
        return Err(no_crash(format!("{message} arguments, so it can't be run again")));
    }
    let (name, sequence) = (&report.daemon, report.sequence);
    let row = store.find_daemon(name).filter(|row| row.key.0 == report.daemon_key);
    let row = row.ok_or_else(|| no_commit(format!("daemon `{name}` was removed since")))?;
    let (checkpoint, record) = store
        .checkpoint_with_hash(name, row.key, Some(sequence))
        .map_err(|fault| Fault::from(&fault))?;
    if record != report.record {
        let message = format!("commit {sequence} of `{name}` is not the one that it crashed on");
        return Err(no_commit(format!("{message}: that one was lost before it was durable")));
    }
    let code = store.code(report.code).map_err(|fault| Fault::from(&fault))?;
    let code = code.ok_or_else(|| {
        let digest = blake3::Hash::from_bytes(report.code).to_hex();
        no_commit(format!("the code {digest} that crashed is not kept"))
    })?;
    let seen = report.seen.iter().filter_map(|seen| {
        let output = seen_output(store, &seen.daemon, seen.sequence?);
        Some(output.map(|output| (seen.daemon.clone(), Arc::new(output))))
    });
    let seen = seen.collect::<Result<_, _>>()?;
    Ok(ReplayMaterials { report, checkpoint, code, seen })
}

/// What a daemon showed at some commit.
fn seen_output(store: &Store, name: &str, sequence: Sequence) -> Result<OutputVersion, Fault> {
    let gone = || {
        let message = format!("what daemon `{name}` showed at commit {sequence} is not kept");
        Fault::new(Code::NoCommit, message)
    };
    let row = store.find_daemon(name).ok_or_else(gone)?;
    let (checkpoint, _) = store
        .checkpoint_with_hash(name, row.key, Some(sequence))
        .map_err(|fault| Fault::from(&fault))?;
    let range = checkpoint.output().and_then(|range| checkpoint.memory.get(range));
    Ok(OutputVersion { sequence, bytes: range.ok_or_else(gone)?.into() })
}

/// Runs the request again with `limits`, in an instance of `guest`, which must be made of the code
/// that crashed.
///
/// # Errors
///
/// `E_NO_CRASH` without arguments, `E_CODE_CHANGED` for another guest, `E_NO_MEM`, and what an
/// instance's start may fail with.
pub fn replay(
    guest: &Arc<Guest>,
    materials: &ReplayMaterials,
    limits: &Limits,
    log: Arc<dyn GuestLog>,
) -> Result<Replayed, Fault> {
    let ReplayMaterials { report, checkpoint, .. } = materials;
    let Arguments::Kept(arguments) = &report.arguments else {
        return Err(Fault::new(Code::NoCrash, "its arguments are not kept"));
    };
    if *guest.facts().digest.as_bytes() != report.code {
        return Err(Fault::new(Code::CodeChanged, "the guest is not the one that crashed"));
    }
    let budget = usize::try_from(report.budget_bytes).unwrap_or(usize::MAX);
    let mut images = Images::new(budget, &guest.shape())
        .map_err(|error| Fault::new(Code::NoMemory, error.to_string()))?;
    load_checkpoint(&report.daemon, &mut images, checkpoint)?;
    let context = CallContext {
        request: report.id,
        correlation: report.correlation.as_deref().map(Arc::from),
        attempt: report.crash.attempt,
        unix_nanos: report.unix_nanos,
    };
    let generation = report.crash.generation;
    let outputs = Arc::new(Outputs::default());
    for (daemon, output) in &materials.seen {
        outputs.show(daemon, Some(output.clone()));
    }
    let environment = Environment::repeating(log, outputs, report.seed, budget);
    let started = Instance::again(guest, &mut images, environment, None, generation, &context);
    let mut instance = started.map_err(|error| match error.cause {
        StartCause::Crashed(caught) => Fault::new(caught.code, caught.message),
        StartCause::Rejected(rejection) => Fault::new(Code::Init, rejection.message),
    })?;
    let called = instance.call(report.contract, arguments, context, limits);
    let mut fuel_used = instance.usage().fuel;
    let fuel_max = limits.fuel;
    let caught = match called {
        Called::Caught(caught) => caught,
        Called::Rejected(rejection) => return Ok(Replayed::Rejected(rejection)),
        Called::BadArguments(message) => {
            return Ok(Replayed::Rejected(Fault::new(Code::Args, message).into()));
        }
        Called::Returned(value) => {
            match settle(guest, report, &images, &value, (&mut fuel_used, fuel_max)) {
                Ok(()) => return Ok(Replayed::Returned(value)),
                Err(caught) => caught,
            }
        }
    };
    let Caught { code, blame, message, backtrace, offsets } = caught;
    let crash = Crash {
        code,
        blame,
        message,
        backtrace,
        fuel_used,
        cards_changed: images.roll_back().cards,
        attempt: report.crash.attempt,
        generation,
        poison: false,
        report: Some(report.id),
    };
    Ok(Replayed::Crashed { crash, offsets })
}

/// What a daemon checks before it commits.
fn settle(
    guest: &Guest,
    report: &CrashReport,
    images: &Images,
    value: &[u8],
    (fuel_used, fuel_max): (&mut u64, u64),
) -> Result<(), Caught> {
    let fuel_left = fuel_max.saturating_sub(*fuel_used);
    let (contract, shows) = (report.contract, report.shows);
    let (read_only, fuel) = check_result(guest, contract, value, shows, fuel_left);
    *fuel_used = fuel_used.saturating_add(fuel);
    if read_only? {
        return Ok(());
    }
    images.verify_marks().map_err(|hole| Caught::new(Code::Barrier, hole.to_string()))?;
    check_size(images, COMMIT_BYTES_MAX)
}
