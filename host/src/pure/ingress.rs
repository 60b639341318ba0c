//! HTTP in front of the daemons: what a request's head asks for, and which status an answer has.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::time::Duration;

use super::contract::Args;
use super::request::{Answer, Outcome, Rejection, Request};
use crate::base::error::{Blame, Code, Fault, printable};
use crate::base::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_BODY_TIME_MAX, KEY_BYTES_MAX, RESOURCE_WAIT_MAX,
};
use http::header::{ALLOW, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// How the host is, and so whether to send it requests.
    Health,
    /// Whether it turns at all, and so whether to start it again.
    Liveness,
    /// A request, whose arguments are in the body.
    Call(Box<Request>),
}

/// Why there is no answer of a daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// What is the matter.
    pub fault: Fault,
    /// The methods that there are.
    pub allow: Option<&'static str>,
    /// True when what comes next on the connection can't be read.
    pub is_last: bool,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let fault = Fault::new(Code::Request, message);
        Self { status, fault, allow: None, is_last: false }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    fn last(self) -> Self {
        Self { is_last: true, ..self }
    }

    /// A body of more than [`HTTP_BODY_BYTES_MAX`] bytes.
    #[must_use]
    pub fn too_large() -> Self {
        let message = format!("a body of more than {HTTP_BODY_BYTES_MAX} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message).last()
    }

    /// A body that took longer than [`HTTP_BODY_TIME_MAX`].
    #[must_use]
    pub fn too_slow() -> Self {
        let message = format!("the body was not there after {HTTP_BODY_TIME_MAX:?}");
        Self::new(StatusCode::REQUEST_TIMEOUT, message).last()
    }

    /// No room for the body beside those that are being sent, and what waits: so many bytes.
    #[must_use]
    pub fn crowded(taken: usize) -> Self {
        let message = format!("clients are sending {taken} bytes already");
        let fault = Fault::new(Code::QueueFull, message);
        Self { fault, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "") }.last()
    }

    /// As many calls as there may be are being answered.
    #[must_use]
    pub fn busy() -> Self {
        let fault = Fault::new(Code::QueueFull, "too many calls are being answered already");
        Self { fault, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "") }
    }

    /// A body that ended early, or is none.
    #[must_use]
    pub fn broken(why: &str) -> Self {
        Self::bad(format!("the body could not be read: {why}")).last()
    }

    /// The headers that it has beside those of all answers.
    #[must_use]
    pub fn allow(&self) -> Option<(HeaderName, HeaderValue)> {
        self.allow.map(|methods| (ALLOW, HeaderValue::from_static(methods)))
    }
}

/// The names under which a host is asked: addresses, `localhost`, and those that it is told.
///
/// A page that a browser has loaded can't choose them: any name may be made to point to an address
/// on loopback, and what is sent to it is not of another site then.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hosts(BTreeSet<String>);

impl Hosts {
    /// With these names, each as [`Hosts::name`] reads it.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().cloned().collect())
    }

    /// Reads a name, as `--http-host` has it.
    ///
    /// # Errors
    ///
    /// What is no name.
    pub fn name(text: &str) -> Result<String, String> {
        let authority = text.parse::<Authority>().ok();
        let is_name = authority.is_some_and(|authority| authority.host() == text);
        is_name.then(|| plain(text)).ok_or_else(|| "not the name of a host".to_owned())
    }

    fn has(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = plain(host);
        bare.parse::<IpAddr>().is_ok() || name == "localhost" || self.0.contains(&name)
    }

    /// Looks at both places where a head names a host.
    fn check(&self, head: &Parts) -> Result<(), Refusal> {
        let mut named = head.headers.get_all(HOST).iter();
        let one = named.next();
        if named.next().is_some() || (one.is_none() && head.version == Version::HTTP_11) {
            return Err(Refusal::bad("HTTP/1.1 needs one `Host`"));
        }
        let wrong = || Refusal::bad("`Host` is not the name of a host");
        let one = one.map(|value| Authority::try_from(value.as_bytes()).map_err(|_| wrong()));
        for authority in one.transpose()?.iter().chain(head.uri.authority()) {
            if !self.has(authority) {
                let host = printable(authority.host(), NAME_SHOWN_BYTES);
                let message = format!("`{host}` is not a name of this host; --http-host {host}");
                return Err(Refusal::new(StatusCode::FORBIDDEN, message));
            }
        }
        Ok(())
    }
}

/// A name without case, and without the dot that a whole one may have.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Bytes of a name that are shown to whoever sent it.
const NAME_SHOWN_BYTES: usize = 64;

/// Reads a head.
///
/// # Errors
///
/// Why nothing is asked for. Nothing was started.
pub fn ask(head: &Parts, hosts: &Hosts) -> Result<Ask, Refusal> {
    hosts.check(head)?;
    let mut names = head.uri.path().split('/').skip(1);
    match (names.next(), names.next(), names.next()) {
        (Some("health"), None, None) => {
            is_one_of(&head.method, &[Method::GET, Method::HEAD], "GET, HEAD")?;
            Ok(Ask::Health)
        }
        // A daemon may be called `health` as well: its contracts are asked by POST.
        (Some("health"), Some("ready"), None) if is_look(&head.method) => Ok(Ask::Health),
        (Some("health"), Some("live"), None) if is_look(&head.method) => Ok(Ask::Liveness),
        (Some(daemon), Some(contract), None) if !daemon.is_empty() && !contract.is_empty() => {
            is_one_of(&head.method, &[Method::POST], "POST")?;
            call(head, daemon, contract)
        }
        _ => {
            let message = "there are only POST /DAEMON/CONTRACT, and GET /health, /health/live \
                and /health/ready";
            Err(Refusal::new(StatusCode::NOT_FOUND, message))
        }
    }
}

fn is_look(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn is_one_of(method: &Method, known: &[Method], allow: &'static str) -> Result<(), Refusal> {
    if known.contains(method) {
        return Ok(());
    }
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("only {allow}"));
    Err(Refusal { allow: Some(allow), ..refusal })
}

fn call(head: &Parts, daemon: &str, contract: &str) -> Result<Ask, Refusal> {
    if head.uri.query().is_some() {
        return Err(Refusal::bad("arguments are a JSON object in the body, not a query"));
    }
    let headers = &head.headers;
    if is_cross_site(headers) {
        let message = "a page of another site asked a browser to send this";
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    }
    let correlation = match (word(headers, "correlation-id")?, word(headers, "x-correlation-id")?) {
        (Some(_), Some(_)) => {
            let message = "there are `Correlation-Id` and `X-Correlation-Id`";
            return Err(Refusal::bad(message));
        }
        (one, other) => one.or(other),
    };
    let key = word(headers, "idempotency-key")?;
    let request = Request::new(daemon, contract, Args::default()).shown();
    Ok(Ask::Call(Box::new(Request { key, correlation, wait: wait(headers)?, ..request })))
}

/// True when a browser says that it sends this for a page of another site: pages may send such
/// requests without that anybody is asked. What is no browser sends neither header.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = text(ORIGIN) else { return false };
    let host = ["http://", "https://"].iter().find_map(|s| origin.strip_prefix(s.as_bytes()));
    host.is_none() || host != text(HOST)
}

/// The text of a header that is there at most once; in quotes or not.
fn word(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = |what: &str| Refusal::bad(format!("`{name}` {what}"));
    if values.next().is_some() {
        return Err(wrong("is given twice"));
    }
    let text = value.to_str().map_err(|_| wrong("must be plain ASCII"))?;
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(text);
    if !(1..=KEY_BYTES_MAX).contains(&text.len()) {
        return Err(wrong(&format!("must have 1 to {KEY_BYTES_MAX} bytes")));
    }
    Ok(Some(text.to_owned()))
}

/// The preference `wait` of RFC 7240, in seconds. The first one counts, other preferences are
/// ignored. One that is no number is refused: whoever mistypes it must not wait in vain.
fn wait(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let texts = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds = texts.flat_map(|text| text.split(',')).find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then_some(value)
    });
    let Some(seconds) = seconds else { return Ok(None) };
    if seconds.is_empty() || !seconds.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::bad("`Prefer: wait=SECONDS` takes a whole number of seconds"));
    }
    let seconds = Duration::from_secs(seconds.parse().unwrap_or(u64::MAX));
    Ok(Some(seconds.min(RESOURCE_WAIT_MAX)))
}

/// Takes a body for the arguments, unread.
///
/// # Errors
///
/// A body that is no text.
pub fn arguments(body: Vec<u8>) -> Result<Args, Refusal> {
    let text = String::from_utf8(body).map_err(|_| Refusal::bad("the body is not UTF-8"))?;
    Ok(Args::json(text))
}

/// The status of an answer.
#[must_use]
pub fn status(answer: &Answer) -> StatusCode {
    match &answer.outcome {
        Outcome::Committed(_) => StatusCode::OK,
        Outcome::Rejected(rejection) => rejected(rejection, answer.attempts),
        Outcome::Crashed(crash) if crash.code == Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Outcome::Crashed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Outcome::Cancelled(_) => StatusCode::SERVICE_UNAVAILABLE,
        // What stands between the client and what it wants to know has no answer from there.
        Outcome::Unknown(_) => StatusCode::BAD_GATEWAY,
    }
}

/// A guest's "no" has any code that the guest likes, the host's has one of its own.
fn rejected(rejection: &Rejection, attempts: u32) -> StatusCode {
    let is_guests = attempts > 0 && rejection.blame == Blame::Caller;
    match rejection.code.parse() {
        Ok(Code::Args) => StatusCode::BAD_REQUEST,
        Ok(code) if !is_guests => refused(code),
        // The guest passes on what it was told of a resource. What may have been done is not to
        // be sent again unseen.
        Err(_) if is_guests => StatusCode::UNPROCESSABLE_ENTITY,
        Err(_) if rejection.code == "call_timed_out" => StatusCode::GATEWAY_TIMEOUT,
        Err(_) if rejection.blame == Blame::Environment => StatusCode::SERVICE_UNAVAILABLE,
        Err(_) if rejection.blame != Blame::Caller => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn refused(code: Code) -> StatusCode {
    match code {
        Code::Request | Code::Args => StatusCode::BAD_REQUEST,
        Code::DaemonUnknown | Code::ContractUnknown => StatusCode::NOT_FOUND,
        Code::KeyConflict => StatusCode::UNPROCESSABLE_ENTITY,
        Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable
        | Code::HandleStale
        | Code::Parked
        | Code::Restarts
        | Code::Disabled
        | Code::Stopping
        | Code::Cancelled
        | Code::StoreFull
        | Code::StoreIo
        | Code::StorePoisoned => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// True when the same request may be answered otherwise in a moment.
#[must_use]
pub fn comes_back(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests;
