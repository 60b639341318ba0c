//! Requests and their answers, and the JSON that they are outside.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::contract::Args;
use super::json;
use super::value::json::JsonText;
use super::value::{Head, Source as _, Whole};
use crate::base::error::{Blame, Code, Fault, plain_lines, printable};
use crate::base::ids::{Generation, LeaseId, RequestId, Sequence};
use crate::base::limits::{KEY_BYTES_MAX, MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, RESOURCE_WAIT_MAX};
use crate::base::room::Taken;

/// What is asked of a daemon. Its arguments are text, which nobody reads before the daemon does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The daemon's name.
    pub daemon: String,
    /// The contract's name.
    pub contract: String,
    /// Arguments by name.
    pub args: Args,
    /// Same key and same request: one effect, and the first answer again.
    pub key: Option<String>,
    /// Shared by everything that one outside request causes; the request's own id when absent.
    pub correlation: Option<String>,
    /// How long it may wait for resources that are down; refused at once when absent.
    pub wait: Option<Duration>,
    /// Whether the daemon is to write its answer as JSON, for [`Answer::shown`].
    pub show: bool,
}

impl Request {
    /// A request without key and correlation id.
    #[must_use]
    pub fn new(
        daemon: impl Into<String>,
        contract: impl Into<String>,
        args: impl Into<Args>,
    ) -> Self {
        let (daemon, contract, args) = (daemon.into(), contract.into(), args.into());
        Self { daemon, contract, args, ..Self::default() }
    }

    /// The same with its answer as JSON.
    #[must_use]
    pub fn shown(self) -> Self {
        Self { show: true, ..self }
    }

    /// Reads the head of one request line, and over its arguments.
    ///
    /// # Errors
    ///
    /// `E_REQUEST` with what is wrong.
    pub fn parse(line: &str) -> Result<Self, Fault> {
        if line.len() > REQUEST_BYTES_MAX {
            let bytes = line.len();
            return Err(wrong(format!("{bytes} bytes; {REQUEST_BYTES_MAX} is the most")));
        }
        let (mut daemon, mut contract, mut args, mut key) = (None, None, None, None);
        let (mut correlation, mut wait) = (None, None);
        json::fields(line, "a request", |name, value| {
            match name {
                "daemon" => daemon = text(value, "daemon")?,
                "contract" => contract = text(value, "contract")?,
                "args" => args = Some(Args::json(value)),
                "key" => key = text(value, "key")?,
                "correlation" => correlation = text(value, "correlation")?,
                "wait_ms" => wait = wait_of(value)?,
                other => {
                    let name = printable(other, 64);
                    return Err(wrong(format!(
                        "unknown field `{name}`; a request has daemon, contract, args, key, correlation, wait_ms"
                    )));
                }
            }
            Ok(())
        })?;
        let daemon = daemon.ok_or_else(|| missing("daemon"))?;
        let contract = contract.ok_or_else(|| missing("contract"))?;
        let args = args.unwrap_or_default();
        Ok(Self { daemon, contract, args, key, correlation, wait, show: false })
    }

    /// The request as one line.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut fields = Map::new();
        fields.insert("contract".to_owned(), json!(self.contract));
        if let Some(key) = &self.key {
            fields.insert("key".to_owned(), json!(key));
        }
        if let Some(correlation) = &self.correlation {
            fields.insert("correlation".to_owned(), json!(correlation));
        }
        if let Some(wait) = &self.wait {
            fields.insert("wait_ms".to_owned(), json!(wait.as_millis()));
        }
        fields.insert("daemon".to_owned(), json!(self.daemon));
        let args = self.args.text();
        with_field(&Value::Object(fields), "args", if args.is_empty() { "null" } else { args })
    }
}

impl Request {
    /// The command of the socket that asks for it.
    #[must_use]
    pub fn to_command(&self) -> String {
        if !self.args.are_texts() {
            return format!("{{\"call\":{}}}", self.to_line());
        }
        let without = Self { args: Args::default(), ..self.clone() };
        format!("{{\"call\":{},\"text\":{}}}", without.to_line(), self.args.text())
    }
}

/// A JSON object, and one field more.
fn with_field(object: &Value, name: &str, value: &str) -> String {
    let mut line = object.to_string();
    let more = line.len() > "{}".len();
    line.pop();
    let comma = if more { "," } else { "" };
    line.push_str(&format!("{comma}\"{name}\":{value}}}"));
    line
}

fn wrong(message: String) -> Fault {
    Fault::new(Code::Request, message)
}

fn missing(name: &str) -> Fault {
    Fault::new(Code::Request, format!("the request has no `{name}`"))
}

fn text(value: &str, name: &str) -> Result<Option<String>, Fault> {
    match JsonText::new(value).head() {
        Ok(Head::Null) => Ok(None),
        Ok(Head::Text(text)) if (1..=KEY_BYTES_MAX).contains(&text.len()) => {
            Ok(Some(text.into_owned()))
        }
        Ok(Head::Text(_)) => Err(wrong(format!("`{name}` must have 1 to {KEY_BYTES_MAX} bytes"))),
        _ => Err(wrong(format!("`{name}` must be a string"))),
    }
}

fn wait_of(value: &str) -> Result<Option<Duration>, Fault> {
    let most = RESOURCE_WAIT_MAX.as_millis();
    match JsonText::new(value).head() {
        Ok(Head::Null) => Ok(None),
        Ok(Head::Integer(Whole::Positive(millis))) if millis <= most => {
            Ok(Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))))
        }
        _ => Err(wrong(format!("`wait_ms` must be a whole number from 0 to {most}"))),
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
        let (code, blame) = (fault.code.as_str().to_owned(), fault.blame);
        Self { code, blame, message: fault.message, details: None }
    }
}

/// What is known of a crashed transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Crash {
    /// What happened.
    pub code: Code,
    /// Who has to change something.
    pub blame: Blame,
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
    /// Tries, 0 when nothing was started: it was refused, or answered by its key.
    pub attempts: u32,
    /// The value of a committed request, or the details of a rejection, as JSON; where that was
    /// asked for.
    pub shown: Option<Shown>,
}

/// JSON that is on its way to a client; it takes its room until it is dropped.
#[derive(Clone, Debug)]
pub struct Shown(Arc<(String, Option<Taken>)>);

impl Shown {
    /// A text, and its room where it has some. No terminal obeys what a guest has put into it.
    #[must_use]
    pub fn new(text: String, room: Option<Taken>) -> Self {
        Self(Arc::new((plain_lines(text), room)))
    }

    /// The JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.0
    }
}

impl AsRef<[u8]> for Shown {
    fn as_ref(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// An outcome line in its parts: only the one in the middle is as large as a guest likes.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What comes first.
    pub head: String,
    /// The guest's own.
    pub shown: Option<Shown>,
    /// What comes last.
    pub tail: &'static str,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        f.write_str(self.shown.as_ref().map_or("", Shown::as_str))?;
        f.write_str(self.tail)
    }
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
            shown: None,
        }
    }

    /// The value of a committed request. Made here, unless the daemon has shown it.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        match (&self.outcome, &self.shown) {
            (Outcome::Committed(_), Some(shown)) => serde_json::from_str(shown.as_str()).ok(),
            (Outcome::Committed(bytes), None) => Some(show(bytes)),
            _ => None,
        }
    }

    /// It was committed before: this is the answer that was kept for its key.
    #[must_use]
    pub fn by_key(&self) -> bool {
        matches!(self.outcome, Outcome::Committed(_)) && self.attempts == 0
    }

    /// The outcome line, with a value or details that were not shown made here.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let line = match (&self.outcome, &self.shown) {
            (Outcome::Committed(bytes), None) => Some(show(bytes).to_string()),
            (Outcome::Rejected(Rejection { details: Some(details), .. }), None) => {
                Some(show(details).to_string())
            }
            _ => None,
        };
        let shown = line.map(|text| Shown::new(text, None)).or_else(|| self.shown.clone());
        let line = Self { shown, ..self.clone() }.into_line().to_string();
        serde_json::from_str(&line).unwrap_or(Value::Null)
    }

    /// The outcome line, with what was shown in it.
    #[must_use]
    pub fn into_line(self) -> Line {
        let error = match &self.outcome {
            Outcome::Committed(_) => Value::Null,
            Outcome::Rejected(rejection) => rejection_json(rejection),
            Outcome::Crashed(crash) => crash_json(crash),
            Outcome::Cancelled(stale) => stale_json(stale),
            Outcome::Unknown(fault) => fault_json(fault),
        };
        let by_key = self.by_key();
        let fields = json!({
            "request": self.request.to_string(),
            "daemon": self.daemon,
            "contract": self.contract,
            "outcome": self.outcome.word(),
            "sequence": self.sequence.0,
            "attempts": self.attempts,
            "by_key": by_key,
        });
        let (open, shown, tail) = match (&self.outcome, self.shown) {
            (Outcome::Rejected(_), Some(details)) => {
                let error = error.to_string();
                let error = error.strip_suffix('}').unwrap_or_default();
                let open = format!(",\"value\":null,\"error\":{error},\"details\":");
                (open, Some(details), "}}")
            }
            (Outcome::Committed(_), Some(value)) => {
                (",\"error\":null,\"value\":".to_owned(), Some(value), "}")
            }
            _ => (format!(",\"error\":{error},\"value\":null"), None, "}"),
        };
        let mut head = fields.to_string();
        head.pop();
        head.push_str(&open);
        Line { head, shown, tail }
    }
}

/// An error as JSON: code, blame, message.
#[must_use]
pub fn fault_json(fault: &Fault) -> Value {
    json!({
        "code": fault.code,
        "blame": fault.blame,
        "message": fault.message,
    })
}

fn rejection_json(rejection: &Rejection) -> Value {
    json!({
        "code": rejection.code,
        "blame": rejection.blame,
        "message": rejection.message,
    })
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
        "blame": crash.blame,
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
        assert_eq!(Request::parse(&request.to_line()), Ok(request));
    }

    #[test]
    fn bad_request_lines_say_what_is_wrong() {
        for (line, expected) in [
            ("", "the end of the text"),
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
        assert_eq!(committed.to_json()["by_key"], false);
        let again = Answer { attempts: 0, ..committed.clone() };
        assert_eq!(again.to_json()["by_key"], true);
        // Of an answer that came to nothing, nothing is shown.
        let shown = Some(Shown::new("5".to_owned(), None));
        let fault = Fault::new(Code::StoreIo, "no");
        let unknown = Answer { outcome: Outcome::Unknown(fault), shown, ..committed };
        assert_eq!(unknown.to_json()["error"]["code"], "E_STORE_IO");
        let details = Some(vec![0xc0]);
        let rejection = Rejection { details, ..Rejection::from(Fault::new(Code::Args, "no")) };
        let rejected = Answer { outcome: Outcome::Rejected(rejection), ..unknown };
        assert_eq!(rejected.to_json()["error"]["details"], 5);
    }
}
