//! Requests and their answers, and the JSON that they are outside.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::json;
use crate::base::error::{Blame, Code, Fault, printable};
use crate::base::ids::{Generation, LeaseId, RequestId, Sequence};
use crate::base::limits::{KEY_BYTES_MAX, MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, RESOURCE_WAIT_MAX};

/// A contract with its arguments bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The daemon's name.
    pub daemon: String,
    /// The contract's name.
    pub contract: String,
    /// Arguments by name: a JSON object.
    pub args: Value,
    /// Same key and same request: one effect, and the first answer again.
    pub key: Option<String>,
    /// Shared by everything that one outside request causes; the request's own id when absent.
    pub correlation: Option<String>,
    /// How long it may wait for resources that are down; refused at once when absent.
    pub wait: Option<Duration>,
}

impl Request {
    /// A request without key and correlation id. `args` is an object of names and values.
    #[must_use]
    pub fn new(daemon: impl Into<String>, contract: impl Into<String>, args: Value) -> Self {
        let (daemon, contract) = (daemon.into(), contract.into());
        Self { daemon, contract, args, key: None, correlation: None, wait: None }
    }

    /// Reads one request line.
    ///
    /// # Errors
    ///
    /// `E_REQUEST` with what is wrong.
    pub fn parse(line: &str) -> Result<Self, Fault> {
        let wrong = |message: String| Fault::new(Code::Request, message);
        if line.len() > REQUEST_BYTES_MAX {
            let bytes = line.len();
            return Err(wrong(format!("{bytes} bytes; {REQUEST_BYTES_MAX} is the most")));
        }
        Self::from_json(json::parse(line).map_err(|error| wrong(error.to_string()))?)
    }

    /// Reads a request that was part of something larger.
    ///
    /// # Errors
    ///
    /// `E_REQUEST` with what is wrong.
    pub fn from_json(value: Value) -> Result<Self, Fault> {
        let wrong = |message: String| Fault::new(Code::Request, message);
        let Value::Object(mut fields) = value else {
            return Err(wrong("a request is a JSON object".to_owned()));
        };
        let request = Self {
            daemon: text(&mut fields, "daemon")?.ok_or_else(|| missing("daemon"))?,
            contract: text(&mut fields, "contract")?.ok_or_else(|| missing("contract"))?,
            args: fields.remove("args").unwrap_or(Value::Null),
            key: text(&mut fields, "key")?,
            correlation: text(&mut fields, "correlation")?,
            wait: wait(&mut fields)?,
        };
        if let Some(name) = fields.keys().next() {
            let name = printable(name, 64);
            return Err(wrong(format!(
                "unknown field `{name}`; a request has daemon, contract, args, key, correlation, wait_ms"
            )));
        }
        Ok(request)
    }

    /// The request as one line.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("daemon".to_owned(), json!(self.daemon));
        fields.insert("contract".to_owned(), json!(self.contract));
        fields.insert("args".to_owned(), self.args.clone());
        if let Some(key) = &self.key {
            fields.insert("key".to_owned(), json!(key));
        }
        if let Some(correlation) = &self.correlation {
            fields.insert("correlation".to_owned(), json!(correlation));
        }
        if let Some(wait) = &self.wait {
            fields.insert("wait_ms".to_owned(), json!(wait.as_millis()));
        }
        Value::Object(fields)
    }
}

fn missing(name: &str) -> Fault {
    Fault::new(Code::Request, format!("the request has no `{name}`"))
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Fault> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if (1..=KEY_BYTES_MAX).contains(&text.len()) => Ok(Some(text)),
        Some(Value::String(_)) => {
            let message = format!("`{name}` must have 1 to {KEY_BYTES_MAX} bytes");
            Err(Fault::new(Code::Request, message))
        }
        Some(_) => Err(Fault::new(Code::Request, format!("`{name}` must be a string"))),
    }
}

fn wait(fields: &mut Map<String, Value>) -> Result<Option<Duration>, Fault> {
    let most = RESOURCE_WAIT_MAX.as_millis();
    let wrong = || {
        let message = format!("`wait_ms` must be a whole number from 0 to {most}");
        Fault::new(Code::Request, message)
    };
    match fields.remove("wait_ms") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(millis) if u128::from(millis) <= most => Ok(Some(Duration::from_millis(millis))),
            _ => Err(wrong()),
        },
    }
}

/// A guest's or the host's "no": nothing changed, nothing restarted.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The guest's own code, or one of the host's.
    pub code: String,
    /// Who has to change something.
    pub blame: Blame,
    /// For people.
    pub message: String,
    /// The guest's own details, MessagePack.
    pub details: Option<Vec<u8>>,
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        let (code, blame) = (fault.code.as_str().to_owned(), fault.code.blame());
        Self { code, blame, message: fault.message, details: None }
    }
}

/// What is known of a crashed transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Crash {
    /// What happened.
    pub code: Code,
    /// The guest's last words where it had any, else the engine's.
    pub message: String,
    /// Innermost frames first: raw names of functions, see [`super::frames`].
    pub backtrace: Vec<String>,
    /// Fuel used by the last try.
    pub fuel_used: u64,
    /// Cards that the last try had changed, all put back.
    pub cards_changed: u32,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// The generation of the instance that crashed.
    pub generation: Generation,
    /// The same request crashed in the same way on the same checkpoint before: it always will.
    pub poison: bool,
    /// The report that it can be run again from; none without a journal, or when it has none.
    pub report: Option<RequestId>,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.poison {
            f.write_str(" (crashed twice on the same checkpoint: poison, not tried again)")?;
        }
        Ok(())
    }
}

/// The death of a resource under a transaction that held a lease of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stale {
    /// The resource.
    pub resource: String,
    /// The lease.
    pub lease: LeaseId,
    /// How the resource died.
    pub why: String,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, lease, why } = self;
        write!(f, "lease {lease} of resource `{resource}` ended while the request ran: {why}")
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It happened, whole. The value is MessagePack.
    Committed(Vec<u8>),
    /// It never happened, as an answer.
    Rejected(Rejection),
    /// It never happened, as a failure.
    Crashed(Box<Crash>),
    /// It never happened, because a resource died that it held a lease of. What it had asked of
    /// the resource may have been done.
    Cancelled(Box<Stale>),
    /// It was handed to the journal, and whether it is there is not known. Ask again with its key.
    Unknown(Fault),
}

impl Outcome {
    /// The word for it in JSON and tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Committed(_) => "committed",
            Self::Rejected(_) => "rejected",
            Self::Crashed(_) => "crashed",
            Self::Cancelled(_) => "cancelled",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The request.
    pub request: RequestId,
    /// The daemon's name.
    pub daemon: String,
    /// The contract's name.
    pub contract: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The daemon's last commit after it: this request's own when it is a committed change.
    pub sequence: Sequence,
    /// Tries, 0 when nothing was started.
    pub attempts: u32,
}

impl Answer {
    /// A request that was refused before anything started.
    #[must_use]
    pub fn refused(request: RequestId, asked: &Request, sequence: Sequence, fault: Fault) -> Self {
        Self {
            request,
            daemon: printable(&asked.daemon, KEY_BYTES_MAX),
            contract: printable(&asked.contract, KEY_BYTES_MAX),
            outcome: Outcome::Rejected(fault.into()),
            sequence,
            attempts: 0,
        }
    }

    /// The value of a committed request.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        match &self.outcome {
            Outcome::Committed(bytes) => Some(show(bytes)),
            _ => None,
        }
    }

    /// The outcome line.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (value, error) = match &self.outcome {
            Outcome::Committed(bytes) => (show(bytes), Value::Null),
            Outcome::Rejected(rejection) => (Value::Null, rejection_json(rejection)),
            Outcome::Crashed(crash) => (Value::Null, crash_json(crash)),
            Outcome::Cancelled(stale) => (Value::Null, stale_json(stale)),
            Outcome::Unknown(fault) => (Value::Null, fault_json(fault)),
        };
        json!({
            "request": self.request.to_string(),
            "daemon": self.daemon,
            "contract": self.contract,
            "outcome": self.outcome.word(),
            "value": value,
            "error": error,
            "sequence": self.sequence.0,
            "attempts": self.attempts,
        })
    }
}

/// An error as JSON: code, blame, message.
#[must_use]
pub fn fault_json(fault: &Fault) -> Value {
    json!({
        "code": fault.code,
        "blame": fault.code.blame(),
        "message": fault.message,
    })
}

fn rejection_json(rejection: &Rejection) -> Value {
    let mut error = json!({
        "code": rejection.code,
        "blame": rejection.blame,
        "message": rejection.message,
    });
    if let (Some(details), Value::Object(fields)) = (&rejection.details, &mut error) {
        fields.insert("details".to_owned(), show(details));
    }
    error
}

fn stale_json(stale: &Stale) -> Value {
    json!({
        "code": Code::HandleStale,
        "blame": Code::HandleStale.blame(),
        "message": stale.to_string(),
        "resource": stale.resource,
        "lease": stale.lease,
    })
}

/// A crash as JSON.
pub(super) fn crash_json(crash: &Crash) -> Value {
    json!({
        "crash": crash.report.map(|id| id.to_string()),
        "code": crash.code,
        "blame": crash.code.blame(),
        "message": crash.to_string(),
        "poison": crash.poison,
        "backtrace": super::frames::readable(&crash.backtrace),
        "fuel_used": crash.fuel_used,
        "cards_changed": crash.cards_changed,
        "generation": crash.generation,
    })
}

/// A MessagePack value as JSON; one that has no JSON form is shown as the reason why.
fn show(bytes: &[u8]) -> Value {
    json::from_message_pack(bytes)
        .unwrap_or_else(|error| Value::from(printable(&error.to_string(), MESSAGE_BYTES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_are_read_and_written_back() {
        let line =
            r#"{"daemon":"ledger","contract":"deposit","args":{"account":"ann"},"key":"k1"}"#;
        let request = Request::parse(line).unwrap();
        assert_eq!(request.key.as_deref(), Some("k1"));
        assert_eq!(Request::parse(&request.to_json().to_string()), Ok(request));
    }

    #[test]
    fn bad_request_lines_say_what_is_wrong() {
        for (line, expected) in [
            ("", "EOF"),
            ("[]", "JSON object"),
            (r#"{"contract":"a"}"#, "no `daemon`"),
            (r#"{"daemon":"a"}"#, "no `contract`"),
            (r#"{"daemon":1,"contract":"a"}"#, "`daemon` must be a string"),
            (r#"{"daemon":"a","contract":"b","arg":{}}"#, "unknown field `arg`"),
            (r#"{"daemon":"a","contract":"b","key":""}"#, "`key` must have"),
            (r#"{"daemon":"a","daemon":"b"}"#, "twice"),
        ] {
            let fault = Request::parse(line).unwrap_err();
            assert_eq!(fault.code, Code::Request);
            assert!(fault.message.contains(expected), "{line}: {}", fault.message);
        }
    }

    #[test]
    fn an_answer_shows_value_or_error() {
        let asked = Request { daemon: "d".into(), contract: "c".into(), ..Request::default() };
        let fault = Fault::new(Code::Args, "argument `x` is missing");
        let refused = Answer::refused(RequestId(10), &asked, Sequence(4), fault);
        let line = refused.to_json();
        assert_eq!(line["outcome"], "rejected");
        assert_eq!(line["error"]["code"], "E_ARGS");
        assert_eq!(line["error"]["blame"], "caller");
        assert_eq!(line["sequence"], 4);
        assert_eq!(line["request"], "000000000000000a");
        let outcome = Outcome::Committed(vec![0x05]);
        let committed = Answer { outcome, attempts: 1, ..refused };
        assert_eq!(committed.to_json()["value"], 5);
        assert_eq!(committed.to_json()["error"], Value::Null);
    }
}
