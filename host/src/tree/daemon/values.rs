//! What callers send and guests answer, read and written on the daemon's thread.
//!
//! It is part of the transaction: it costs fuel, it ends at the deadline, and a cancel ends it. So
//! nobody else waits while a large value is read, and whoever sends one pays for it.

use super::recovery::RECOVER_LIMITS;
use super::{Arguments, Bound, Daemon, Transacted};
use crate::base::clock::Clock;
use crate::base::error::{Code, Fault};
use crate::base::ids::{Generation, RequestId};
use crate::base::limits::{ANSWER_BYTES_MAX, ANSWER_UNCOUNTED_BYTES_MAX, EPOCH_TICK};
use crate::base::room::Room;
use crate::mechanisms::sandbox::{Cancel, Caught, Guest, Limits};
use crate::pure::contract::{BindError, CheckError, Contract, Meter, show_any};
use crate::pure::request::{Crash, Outcome, Rejection, Shown};
use crate::tree::gauges::Gauges;

/// What a request has used, and what it may.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    limits: Limits,
    started_nanos: u64,
    /// Which try runs; 0 before the first one.
    attempt: u32,
    /// Fuel of reading its arguments.
    read: u64,
    /// Fuel of the try that runs.
    tried: u64,
}

impl Spent {
    /// Nothing yet.
    pub(super) fn begin(started_nanos: u64, limits: Limits) -> Self {
        Self { limits, started_nanos, ..Self::default() }
    }

    /// Another try begins; answers what it may use.
    pub(super) fn try_once(&mut self, attempt: u32) -> Limits {
        (self.attempt, self.tried) = (attempt, 0);
        Limits { fuel: self.limits.fuel.saturating_sub(self.read), ..self.limits }
    }

    /// The guest has used so much.
    pub(super) fn call(&mut self, fuel: u64) {
        self.tried = self.tried.saturating_add(fuel);
    }

    /// Fuel of the try that runs.
    pub(super) fn fuel(&self) -> u64 {
        self.tried
    }

    /// Fuel that a try of the same request may use beside reading its arguments.
    pub(super) fn fuel_of_try(&self) -> u64 {
        self.limits.fuel.saturating_sub(self.read)
    }
}

/// Ends the reading of a value.
struct Watch<'a> {
    clock: &'a dyn Clock,
    cancel: &'a Cancel,
    request: RequestId,
    fuel_left: u64,
    until_nanos: u64,
}

impl Watch<'_> {
    fn ask(&mut self, fuel: u64) -> Option<Code> {
        if let Some(code) = self.cancel.hits(self.request) {
            return Some(code);
        }
        match self.fuel_left.checked_sub(fuel) {
            None => return Some(Code::Fuel),
            Some(left) => self.fuel_left = left,
        }
        (self.clock.monotonic_nanos() > self.until_nanos).then_some(Code::Deadline)
    }
}

impl Daemon {
    /// Reads or writes a value for the running request; answers the fuel of that, too.
    fn metered<T>(
        &self,
        request: RequestId,
        work: impl FnOnce(&mut Meter<'_>) -> Result<T, CheckError>,
    ) -> (Result<T, CheckError>, u64) {
        let Spent { limits, started_nanos, attempt, .. } = self.spent;
        let time = (limits.deadline * attempt.max(1)).saturating_add(self.rested + EPOCH_TICK);
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let fuel_left = self.spent.fuel_of_try().saturating_sub(self.spent.fuel());
        let mut watch = Watch {
            clock: self.world.clock.as_ref(),
            cancel: &self.flags.cancel,
            request,
            fuel_left,
            until_nanos: started_nanos.saturating_add(time),
        };
        let mut ask = |fuel| watch.ask(fuel);
        let mut meter = Meter::new(&mut ask);
        let done = work(&mut meter);
        let spent = meter.spent();
        match done {
            Ok(_) if spent > fuel_left => (Err(CheckError::Ended(Code::Fuel)), spent),
            done => (done, spent),
        }
    }

    /// Reads arguments that nobody has read yet.
    ///
    /// # Errors
    ///
    /// `E_ARGS`; `E_FUEL`, `E_DEADLINE`, `E_CANCELLED` when that was ended. Nothing was started.
    pub(super) fn read_arguments(&mut self, bound: &Bound) -> Result<Option<Bound>, Fault> {
        let Arguments::Unread(args) = &bound.arguments else { return Ok(None) };
        let guest = self.guest.clone();
        let contract = guest
            .contract_at(bound.contract)
            .ok_or_else(|| Fault::new(Code::HostBug, "a contract out of range was bound"))?;
        let (read, fuel) = self.metered(bound.request, |meter| {
            contract.bind(args, meter).map_err(|error| match error {
                BindError::Ended(code) => CheckError::Ended(code),
                error => CheckError::Unfit { path: String::new(), problem: error.to_string() },
            })
        });
        self.spent.read = fuel;
        Gauges::add(&self.gauges.fuel, fuel);
        match read {
            Ok(bytes) => {
                Ok(Some(Bound { arguments: Arguments::Packed(bytes.into()), ..bound.clone() }))
            }
            Err(CheckError::Ended(code)) => {
                let (name, bytes) = (&contract.name, args.bytes());
                let message = format!("`{name}`: reading {bytes} bytes of arguments was ended");
                Err(Fault::new(code, message))
            }
            Err(CheckError::Unfit { problem, .. }) => {
                Err(Fault::new(Code::Args, format!("`{}`: {problem}", contract.name)))
            }
        }
    }

    /// Whether a value that the guest has returned fits, and whether its contract only reads; where
    /// it is to be shown, that is done at once.
    ///
    /// # Errors
    ///
    /// `E_RESULT_SHAPE`, `E_ANSWER_TOO_LARGE` and what ended the check; inside of it `E_QUEUE_FULL`
    /// when there is no room for the answer.
    pub(super) fn check_value(
        &mut self,
        bound: &Bound,
        value: &[u8],
    ) -> Result<Result<bool, Fault>, Caught> {
        let guest = self.guest.clone();
        let contract = contract_of(&guest, bound.contract)?;
        let shows = bound.show.is_some();
        let (checked, fuel) = self.metered(bound.request, |meter| match shows {
            true => contract.result.show(value, ANSWER_BYTES_MAX, meter).map(Some),
            false => contract.result.check(value, meter).map(|()| None),
        });
        self.spent.call(fuel);
        Gauges::add(&self.gauges.fuel, fuel);
        let text = checked.map_err(|error| caught(contract, &error))?;
        if let (Some(text), Some(room)) = (text, &bound.show) {
            match counted(text, room) {
                Ok(shown) => self.shown = Some(shown),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(contract.read_only))
    }

    /// Whether what a guest answers in place of a transaction fits. It may use as much for that as
    /// for finding it.
    ///
    /// # Errors
    ///
    /// As [`Daemon::check_value`].
    pub(super) fn check_fallback(&mut self, bound: &Bound, value: &[u8]) -> Result<(), Caught> {
        self.spent = Spent::begin(self.world.clock.monotonic_nanos(), RECOVER_LIMITS);
        let guest = self.guest.clone();
        let contract = contract_of(&guest, bound.contract)?;
        let (checked, fuel) =
            self.metered(bound.request, |meter| contract.result.check(value, meter));
        self.spent.call(fuel);
        checked.map_err(|error| caught(contract, &error))
    }

    /// Shows what was not shown yet: a value that was kept, or the details of a rejection. Nothing
    /// was committed for these.
    pub(super) fn show_rest(&mut self, bound: &Bound, transacted: &mut Transacted) {
        // One of a try that then failed is of no use.
        let shown = self.shown.take();
        transacted.shown = shown.filter(|_| matches!(transacted.outcome, Outcome::Committed(_)));
        let Some(room) = &bound.show else { return };
        let guest = self.guest.clone();
        let result = guest.contract_at(bound.contract).map(|contract| &contract.result);
        let (shown, _fuel) = match &transacted.outcome {
            Outcome::Committed(value) if transacted.shown.is_none() => {
                self.metered(bound.request, |meter| match result {
                    Some(result) => result
                        .show(value, ANSWER_BYTES_MAX, meter)
                        .or_else(|error| of_other_code(error, value, meter)),
                    None => show_any(value, ANSWER_BYTES_MAX, meter),
                })
            }
            Outcome::Rejected(Rejection { details: Some(details), .. }) => {
                self.metered(bound.request, |meter| show_any(details, ANSWER_BYTES_MAX, meter))
            }
            _ => return,
        };
        let shown = match shown {
            Ok(text) => counted(text, room),
            Err(CheckError::Ended(code)) => Err(Fault::new(code, "the answer was not shown")),
            Err(error @ CheckError::Unfit { .. }) => {
                let problem = serde_json::Value::from(error.to_string());
                Ok(Shown::new(problem.to_string(), None))
            }
        };
        match shown {
            Ok(shown) => transacted.shown = Some(shown),
            Err(fault) => *transacted = Transacted::refused(fault, transacted.sequence),
        }
    }
}

/// A value that was kept may be older than the code.
fn of_other_code(
    error: CheckError,
    value: &[u8],
    meter: &mut Meter<'_>,
) -> Result<String, CheckError> {
    match error {
        CheckError::Unfit { .. } => show_any(value, ANSWER_BYTES_MAX, meter),
        ended => Err(ended),
    }
}

/// With its room, unless it is so small that nobody counts.
fn counted(text: String, room: &Room) -> Result<Shown, Fault> {
    if text.len() <= ANSWER_UNCOUNTED_BYTES_MAX {
        return Ok(Shown::new(text, None));
    }
    let bytes = text.len();
    match room.take(bytes) {
        Some(taken) => Ok(Shown::new(text, Some(taken))),
        None => {
            let taken = room.taken();
            let message = format!(
                "no room for {bytes} bytes of answer: clients have {taken} bytes still to read"
            );
            Err(Fault::new(Code::QueueFull, message))
        }
    }
}

fn contract_of(guest: &Guest, contract: u32) -> Result<&Contract, Caught> {
    let found = guest.contract_at(contract);
    found.ok_or_else(|| Caught::new(Code::HostBug, "a contract out of range was bound"))
}

fn caught(contract: &Contract, error: &CheckError) -> Caught {
    let name = &contract.name;
    match error {
        CheckError::Ended(Code::AnswerTooLarge) => {
            let text =
                format!("the result of `{name}`: more than {ANSWER_BYTES_MAX} bytes of JSON");
            Caught::new(Code::AnswerTooLarge, text)
        }
        CheckError::Ended(code) => {
            Caught::new(*code, format!("while the result of `{name}` was being checked"))
        }
        error @ CheckError::Unfit { .. } => {
            Caught::new(Code::ResultShape, format!("the result of `{name}`: {error}"))
        }
    }
}

/// Whether the result of a call fits, as JSON too where it was to be shown, and whether its
/// contract only reads; and the fuel of that. For whoever runs a request again, without a deadline.
pub(in crate::tree) fn check_result(
    guest: &Guest,
    contract: u32,
    value: &[u8],
    shows: bool,
    fuel_max: u64,
) -> (Result<bool, Caught>, u64) {
    let contract = match contract_of(guest, contract) {
        Ok(contract) => contract,
        Err(caught) => return (Err(caught), 0),
    };
    let mut left = fuel_max;
    let mut ask = |fuel| match left.checked_sub(fuel) {
        None => Some(Code::Fuel),
        Some(less) => {
            left = less;
            None
        }
    };
    let mut meter = Meter::new(&mut ask);
    let checked = match shows {
        true => contract.result.show(value, ANSWER_BYTES_MAX, &mut meter).map(drop),
        false => contract.result.check(value, &mut meter),
    };
    let spent = meter.spent();
    let checked = match checked {
        Ok(()) if spent > fuel_max => Err(CheckError::Ended(Code::Fuel)),
        checked => checked,
    };
    let read_only = checked.map(|()| contract.read_only);
    (read_only.map_err(|error| caught(contract, &error)), spent)
}

/// No request comes to a try without its arguments.
pub(super) fn not_read(generation: Generation, attempt: u32) -> Crash {
    Crash {
        code: Code::HostBug,
        blame: Code::HostBug.blame(),
        message: "the arguments were not read".to_owned(),
        backtrace: Vec::new(),
        fuel_used: 0,
        cards_changed: 0,
        attempt,
        generation,
        poison: false,
        report: None,
    }
}
