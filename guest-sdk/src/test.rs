//! Runs a guest's transactions natively, so that its logic is tested with plain `cargo test`.
//!
//! A [`Harness`] does what the host does, as far as a guest can tell: arguments and results make
//! the trip through their wire form, what is rejected or panics is undone, and read-only contracts
//! change nothing. There are no budgets and no fuel.
//!
//! ```
//! use guest_sdk::prelude::*;
//! use guest_sdk::test::{Harness, Outcome, json};
//!
//! #[derive(Clone, Default)]
//! struct Counter {
//!     value: u64,
//! }
//!
//! #[guest]
//! impl Counter {
//!     pub fn increment(&mut self, by: u64) -> u64 {
//!         assert!(by < 100, "too much at once");
//!         self.value += by;
//!         self.value
//!     }
//! }
//!
//! let mut counter = Harness::<Counter>::new(json!({}));
//! assert_eq!(counter.call("increment", json!({"by": 2})), Outcome::Committed(json!(2)));
//! let outcome = counter.call("increment", json!({"by": 100}));
//! assert_eq!(outcome, Outcome::Crashed("too much at once".to_owned()));
//! assert_eq!(counter.state().value, 2);
//! ```

mod unknown;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
pub use serde_json::{Value, json};

use crate::guest::{CallError, Contract, CrashReport, Guest, Recovery, Stale};
use crate::host::simulated::{self, Answers, Simulated};
use crate::rejection::Rejection;
use crate::staged::Effect;
use crate::wire;
use crate::{http, redis, resource, sql};

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a call may have failed"]
pub enum Outcome {
    /// The changes are kept; this is the result.
    Committed(Value),
    /// The guest said no; its changes are undone.
    Rejected(Rejection),
    /// The arguments could not be decoded; the guest did not run.
    BadArguments(String),
    /// The guest panicked with this message; its changes are undone.
    Crashed(String),
}

impl Outcome {
    /// The value of a committed call.
    ///
    /// # Panics
    ///
    /// When the call did anything else.
    #[track_caller]
    #[expect(clippy::panic, reason = "it fails the test")]
    pub fn committed(self) -> Value {
        match self {
            Self::Committed(value) => value,
            other => panic!("the call did not commit: {other:?}"),
        }
    }

    /// The rejection of a rejected call.
    ///
    /// # Panics
    ///
    /// When the call did anything else.
    #[track_caller]
    #[expect(clippy::panic, reason = "it fails the test")]
    pub fn rejected(self) -> Rejection {
        match self {
            Self::Rejected(rejection) => rejection,
            other => panic!("the call was not rejected: {other:?}"),
        }
    }
}

/// A guest with its state, and a host for it. See the [module](self).
#[derive(Debug)]
pub struct Harness<G> {
    guest: G,
    answers: Answers,
}

impl<G: Guest + Clone> Harness<G> {
    /// Starts the guest.
    ///
    /// # Panics
    ///
    /// When its `init` rejects the parameters.
    #[must_use]
    #[track_caller]
    #[expect(clippy::panic, reason = "it fails the test")]
    pub fn new(parameters: Value) -> Self {
        match Self::start(parameters) {
            Ok(harness) => harness,
            Err(rejection) => panic!("the guest does not start: {rejection}"),
        }
    }

    /// Starts the guest, where that may fail.
    ///
    /// # Errors
    ///
    /// The rejection of its `init`.
    #[track_caller]
    pub fn start(parameters: Value) -> Result<Self, Rejection> {
        let answers = Answers::new();
        simulated::with(|host| host.clone_from(&answers));
        let guest = G::init(&to_wire(&parameters))?;
        Ok(Self { guest, answers })
    }

    /// From here on the guest has a resource of that name and of kind `redis`, which answers its
    /// commands so. A script comes as the command `EVAL`.
    pub fn set_redis(
        &mut self,
        resource: &str,
        answer: impl Fn(&[Vec<u8>]) -> Result<redis::Value, resource::CallError> + 'static,
    ) {
        let answer = Simulated::Redis(Rc::new(answer));
        self.answers.resources.insert(resource.to_owned(), answer);
    }

    /// From here on the guest has a resource of that name and of kind `postgres`, which answers its
    /// statements so.
    pub fn set_sql(
        &mut self,
        resource: &str,
        answer: impl Fn(&str, &[sql::Value]) -> Result<sql::Rows, resource::CallError> + 'static,
    ) {
        let answer = Simulated::Sql(Rc::new(answer));
        self.answers.resources.insert(resource.to_owned(), answer);
    }

    /// From here on the guest has a resource of that name and of kind `http`, which answers its
    /// requests so.
    pub fn set_http(
        &mut self,
        resource: &str,
        answer: impl Fn(&http::Request) -> Result<http::Response, resource::CallError> + 'static,
    ) {
        let answer = Simulated::Http(Rc::new(answer));
        self.answers.resources.insert(resource.to_owned(), answer);
    }

    /// From here on the guest has an empty directory of that name.
    pub fn set_directory(&mut self, resource: &str) {
        self.answers.resources.insert(resource.to_owned(), Simulated::Files(Rc::default()));
    }

    /// What the guest has appended to a file of a directory, also in calls that were undone.
    #[must_use]
    pub fn file(&self, resource: &str, path: &str) -> Vec<u8> {
        match self.answers.resources.get(resource) {
            Some(Simulated::Files(files)) => files.borrow().get(path).cloned().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// What the guest has staged in calls that committed since this was last asked, and for which
    /// resource, in order. The test's resources don't hear of it.
    pub fn take_staged(&mut self) -> Vec<(String, Effect)> {
        std::mem::take(&mut self.answers.staged)
    }

    /// From here on this resource is down, for this reason. A guest that needs it would not even
    /// begin; one that uses it sees its calls fail.
    pub fn set_down(&mut self, resource: &str, why: &str) {
        let down = Simulated::Down(why.to_owned());
        self.answers.resources.insert(resource.to_owned(), down);
    }

    /// Runs one transaction. `arguments` is an object by name, or an array in order.
    ///
    /// # Panics
    ///
    /// When the guest has no such contract, or its result has no form in JSON.
    #[track_caller]
    #[expect(clippy::panic, reason = "it fails the test")]
    pub fn call(&mut self, contract: &str, arguments: Value) -> Outcome {
        let Some((index, found)) = find::<G>(contract) else {
            let names: Vec<&str> = G::CONTRACTS.iter().map(|contract| contract.name).collect();
            panic!("there is no contract {contract:?}; the guest has {}", names.join(", "));
        };
        if let Some(message) = unknown_field(found, &arguments) {
            return Outcome::BadArguments(message);
        }
        let arguments = match wire::encode(&arguments) {
            Ok(arguments) => arguments,
            Err(error) => return Outcome::BadArguments(error.to_string()),
        };
        let before = self.guest.clone();
        let mut reply = Vec::new();
        self.answers.commits = !found.read_only;
        let result = self.run(|guest| guest.call(index, &arguments, &mut reply));
        self.answers.commits = false;
        if found.read_only || !matches!(result, Ok(Ok(_))) {
            self.guest = before;
        } else {
            self.answers.shown = simulated::with(|host| host.shown.clone());
            self.answers.staged = simulated::with(|host| std::mem::take(&mut host.staged));
        }
        match result {
            Ok(Ok(())) => Outcome::Committed(from_wire(&reply)),
            Ok(Err(CallError::Rejected(rejection))) => Outcome::Rejected(rejection),
            Ok(Err(CallError::BadArguments(message))) => Outcome::BadArguments(message),
            Ok(Err(CallError::UnknownContract)) => {
                panic!("{contract:?} has no place in the dispatch")
            }
            Err(message) => Outcome::Crashed(message),
        }
    }

    /// Restarts the guest as after a crash, without asking it: a new generation is told of.
    ///
    /// # Panics
    ///
    /// When the guest does.
    pub fn restart(&mut self) {
        self.answers.generation += 1;
        self.answers.attempt = 1;
        let generation = self.answers.generation;
        simulated::with(|host| host.clone_from(&self.answers));
        self.guest.on_restore(generation);
    }

    /// Asks the guest's `recover` about a crash, and undoes what it changed unless it says resume.
    ///
    /// # Errors
    ///
    /// The message of a panic in `recover`, or `Ok` with the rejection that it answered.
    pub fn recover(&mut self, report: CrashReport) -> Result<Result<Recovery, Rejection>, String> {
        let before = self.guest.clone();
        let answer = self.run(|guest| guest.recover(report));
        if !matches!(answer, Ok(Ok(Recovery::Resume))) {
            self.guest = before;
        }
        answer
    }

    /// What a request to `contract` is answered whose transaction a resource's death cancelled;
    /// none when the guest leaves it at that. Changes nothing.
    pub fn stale(&mut self, contract: &str, resource: &str) -> Option<Outcome> {
        let stale = Stale {
            resource: resource.to_owned(),
            lease: 1,
            why: "a test took it away".to_owned(),
            contract: contract.to_owned(),
            request_id: self.answers.request_id.clone(),
        };
        let before = self.guest.clone();
        let answer = self.run(|guest| guest.on_stale(stale));
        self.guest = before;
        match answer {
            Ok(Ok(fallback)) => {
                fallback.into_bytes().map(|bytes| Outcome::Committed(from_wire(&bytes)))
            }
            Ok(Err(rejection)) => Some(Outcome::Rejected(rejection)),
            Err(message) => Some(Outcome::Crashed(message)),
        }
    }

    /// Runs the guest's last transaction, as when its host stops.
    pub fn shutdown(&mut self) -> Outcome {
        let before = self.guest.clone();
        let ended = self.run(|guest| guest.shutdown());
        if !matches!(ended, Ok(Ok(()))) {
            self.guest = before;
        }
        match ended {
            Ok(Ok(())) => Outcome::Committed(Value::Null),
            Ok(Err(rejection)) => Outcome::Rejected(rejection),
            Err(message) => Outcome::Crashed(message),
        }
    }

    /// The state as the guest hands it over to new code. A test may keep the bytes, to see that
    /// later code still loads them.
    ///
    /// # Errors
    ///
    /// The rejection of its `save`; `not_upgradable` for a guest without `#[state]`.
    pub fn save(&mut self) -> Result<Vec<u8>, Rejection> {
        simulated::with(|host| host.clone_from(&self.answers));
        simulated::hand_over(Vec::new());
        self.guest.save()?;
        Ok(simulated::handed_over())
    }

    /// Starts the guest with what a guest of some version handed over, and checks it.
    ///
    /// # Errors
    ///
    /// The rejection of its `load`, or of its check.
    pub fn load(version: u32, value: &[u8]) -> Result<Self, Rejection> {
        Self::take_over(version, value, Answers::new())
    }

    fn take_over(version: u32, value: &[u8], answers: Answers) -> Result<Self, Rejection> {
        simulated::with(|host| host.clone_from(&answers));
        simulated::hand_over(value.to_vec());
        let mut guest = G::load(version)?;
        guest.on_restore(answers.generation);
        guest.check()?;
        let mut harness = Self { guest, answers };
        // As the host does: code that can't be upgraded any more would be the last one.
        harness.save()?;
        Ok(harness)
    }

    /// Upgrades the guest to other code, as `host upgrade` would; this one keeps its state.
    ///
    /// # Errors
    ///
    /// The rejection of the old code's `save`, or of the new code's `load` or check.
    ///
    /// # Panics
    ///
    /// When the code of either does.
    pub fn upgrade<N: Guest + Clone>(&mut self) -> Result<Harness<N>, Rejection> {
        let value = self.save()?;
        let mut answers = self.answers.clone();
        answers.generation += 1;
        Harness::take_over(G::upgrade().unwrap_or_default(), &value, answers)
    }

    /// The state as it is now.
    #[must_use]
    pub fn state(&self) -> &G {
        &self.guest
    }

    /// Sets what another daemon shows, as of one of its commits.
    ///
    /// # Panics
    ///
    /// When the value has no form in MessagePack.
    #[track_caller]
    #[expect(clippy::panic, reason = "it fails the test")]
    pub fn set_output<T: Serialize + ?Sized>(&mut self, daemon: &str, sequence: u64, value: &T) {
        let bytes = wire::encode(value).unwrap_or_else(|error| panic!("no wire form: {error}"));
        self.answers.outputs.insert(daemon.to_owned(), (sequence, bytes));
    }

    /// What the guest has shown in calls that committed; none when it shows nothing.
    ///
    /// # Panics
    ///
    /// When it is no `T`.
    #[must_use]
    #[track_caller]
    #[expect(clippy::panic, reason = "it fails the test")]
    pub fn shown<T: DeserializeOwned>(&self) -> Option<T> {
        let shown = &self.answers.shown;
        let decoded = (!shown.is_empty()).then(|| wire::decode(shown));
        decoded.map(|value| value.unwrap_or_else(|error| panic!("what it shows: {error}")))
    }

    /// Sets the time that the guest sees, in nanoseconds since the Unix epoch.
    ///
    /// It is that of [`clock`](crate::clock). `SystemTime::now` and `chrono::Utc::now` are the
    /// host's clock in a guest as well, but in a native test they ask the machine, which no harness
    /// can change. What is to be tested asks
    /// [`clock::system_time`](crate::clock::system_time), with chrono
    /// `DateTime::<Utc>::from(clock::system_time())`.
    pub fn set_clock(&mut self, now: u64) {
        self.answers.now = now;
    }

    /// Sets what the guest's random numbers are drawn from.
    pub fn set_entropy(&mut self, seed: u64) {
        self.answers.entropy = seed;
    }

    /// Sets the ids of the requests to come.
    pub fn set_request(&mut self, request_id: &str, correlation_id: &str) {
        request_id.clone_into(&mut self.answers.request_id);
        correlation_id.clone_into(&mut self.answers.correlation_id);
    }

    /// Sets which try of their request the calls to come are, from 1.
    pub fn set_attempt(&mut self, attempt: u32) {
        self.answers.attempt = attempt;
    }

    /// Runs guest code under this harness's host; the error is the message of a panic.
    fn run<R>(&mut self, code: impl FnOnce(&mut G) -> R) -> Result<R, String> {
        simulated::with(|host| host.clone_from(&self.answers));
        // Whoever calls puts the state back after a panic, so nobody sees it half changed.
        let result = catch_unwind(AssertUnwindSafe(|| code(&mut self.guest)));
        self.answers.entropy = simulated::with(|host| host.entropy);
        result.map_err(|payload| message_of(&*payload))
    }
}

fn find<G: Guest>(name: &str) -> Option<(u32, &'static Contract)> {
    (0_u32..).zip(G::CONTRACTS).find(|(_, contract)| contract.name == name)
}

/// Which field no argument has, if there is one; by its place.
fn unknown_field(contract: &Contract, arguments: &Value) -> Option<String> {
    contract.arguments.iter().enumerate().find_map(|(place, argument)| {
        let value = arguments.get(argument.name).or_else(|| arguments.get(place))?;
        let found = unknown::unknown(&(argument.schema)(), value)?;
        Some(format!("`{}`: argument `{}`: {found}", contract.name, argument.name))
    })
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
}

#[track_caller]
#[expect(clippy::panic, reason = "it fails the test")]
fn to_wire(value: &Value) -> Vec<u8> {
    wire::encode(value).unwrap_or_else(|error| panic!("{value} has no wire form: {error}"))
}

#[track_caller]
#[expect(clippy::panic, reason = "it fails the test")]
fn from_wire(reply: &[u8]) -> Value {
    let shown: Result<Shown, String> = wire::decode(reply);
    shown.unwrap_or_else(|error| panic!("the result has no form in JSON: {error}")).0
}

/// A value as the host shows it.
struct Shown(Value);

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShownVisitor)
    }
}

struct ShownVisitor;

impl<'de> Visitor<'de> for ShownVisitor {
    type Value = Shown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shown, E> {
        Ok(Shown(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shown, E> {
        Ok(Shown(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shown, E> {
        Ok(Shown(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shown, E> {
        Ok(Shown(match value {
            value if value.is_nan() => "nan".into(),
            f64::INFINITY => "inf".into(),
            f64::NEG_INFINITY => "-inf".into(),
            value => value.into(),
        }))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shown, E> {
        Ok(Shown(value.into()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Shown, E> {
        Ok(Shown(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Shown, E> {
        Ok(Shown(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shown, A::Error> {
        let mut values = Vec::new();
        while let Some(Shown(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Shown(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shown, A::Error> {
        let mut values = serde_json::Map::new();
        while let Some((name, Shown(value))) = map.next_entry()? {
            values.insert(name, value);
        }
        Ok(Shown(values.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_the_host_does() {
        let shown = |value: &[f64]| from_wire(&wire::encode(value).unwrap());
        let value = [1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        assert_eq!(shown(&value), json!([1.5, "nan", "inf", "-inf"]));
        assert_eq!(
            from_wire(b"\x82\xa1a\xc4\x02\x01\x02\xa1b\xc0"),
            json!({"a": [1, 2], "b": null})
        );
    }
}
