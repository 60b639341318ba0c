//! What a guest is, for both sides: generated code implements [`Guest`]; the component's exports
//! and the test harness drive it.

use serde::Serialize;

use crate::rejection::Rejection;
use crate::wire;

/// A guest, as `#[guest]` implements it. Not meant to be written by hand.
#[doc(hidden)]
pub trait Guest: Sized + 'static {
    /// The contracts; the index of `call` is the place in this list.
    const CONTRACTS: &'static [Contract];
    const HOOKS: Hooks;

    fn init(parameters: &[u8]) -> Result<Self, Rejection>;

    /// Runs a contract and appends its encoded value to `reply`.
    fn call(
        &mut self,
        contract: u32,
        arguments: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<(), CallError>;

    fn recover(&mut self, _report: CrashReport) -> Result<Recovery, Rejection> {
        Ok(Recovery::Resume)
    }

    fn on_restore(&mut self, _generation: u64) {}

    /// The version in which the state is handed over; none when it can't be.
    fn upgrade() -> Option<u32>;

    fn save(&self) -> Result<(), Rejection>;

    fn load(version: u32) -> Result<Self, Rejection>;

    fn check(&self) -> Result<(), Rejection> {
        Ok(())
    }

    fn on_stale(&self, _stale: Stale) -> Result<Fallback, Rejection> {
        Ok(Fallback::none())
    }

    fn shutdown(&mut self) -> Result<(), Rejection> {
        Ok(())
    }
}

/// What `describe` tells of one contract. The schemas are functions, since only `describe` pays for
/// them.
#[doc(hidden)]
#[derive(Debug)]
pub struct Contract {
    pub name: &'static str,
    pub documentation: &'static str,
    pub read_only: bool,
    pub needs: &'static [&'static str],
    pub arguments: &'static [Argument],
    pub result: fn() -> String,
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Argument {
    pub name: &'static str,
    pub required: bool,
    pub schema: fn() -> String,
}

#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    pub recover: bool,
    pub on_restore: bool,
    pub on_stale: bool,
    pub shutdown: bool,
    /// No hook: it reads files with std.
    pub files: bool,
}

/// Why a call has no value.
#[doc(hidden)]
#[derive(Debug)]
pub enum CallError {
    Rejected(Rejection),
    BadArguments(String),
    UnknownContract,
}

/// What is known of the crash that a guest is asked to recover from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CrashReport {
    /// The host's stable error code, like `E_FUEL`.
    pub code: String,
    /// The guest's own last words where it had any, else the host's description.
    pub message: String,
    /// The contract that was running; empty when it was none.
    pub contract: String,
    /// Which try of the request it was, from 1.
    pub attempt: u32,
    /// The generation of the instance that crashed.
    pub generation: u64,
    /// What the crashed call had used up.
    pub fuel_used: u64,
}

/// The death of a resource under a transaction, which was rolled back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stale {
    /// The resource.
    pub resource: String,
    /// The lease that the transaction had of it.
    pub lease: u64,
    /// How it died, for people.
    pub why: String,
    /// The contract that was running.
    pub contract: String,
    /// The request.
    pub request_id: String,
}

/// What a request is answered whose transaction was cancelled.
#[derive(Clone, Debug, Default)]
pub struct Fallback(Option<Vec<u8>>);

impl Fallback {
    /// That it was cancelled.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// This value, as the contract would have answered it.
    ///
    /// # Errors
    ///
    /// A rejection with the code `bad_fallback` when the value has no form in MessagePack.
    pub fn value<T: Serialize + ?Sized>(value: &T) -> Result<Self, Rejection> {
        let encoded = wire::encode(value);
        let bytes = encoded.map_err(|error| Rejection::new("bad_fallback", error.to_string()))?;
        Ok(Self(Some(bytes)))
    }

    pub(crate) fn into_bytes(self) -> Option<Vec<u8>> {
        self.0
    }
}

/// What a guest wants done with its state after a crash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recovery {
    /// Go on with the last commit, and what `recover` changed in it.
    Resume,
    /// Start over, as at the first start.
    Zero,
    /// Take no more requests until a person says `resume`.
    Park,
}

/// Names the value type of a fallible answer.
#[doc(hidden)]
pub trait Fallible {
    type Value;
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
}
