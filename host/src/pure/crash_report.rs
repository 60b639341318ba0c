//! A crash report: what a crashed request ran on and with, so that it can be run again.
//!
//! On disk it is JSON with a format number, because people read it; bytes are hexadecimal. It holds
//! the seed of that one transaction's random numbers, never the secret of the daemon.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::json;
use super::output::SeenOutput;
use super::record::HASH_BYTES;
use super::request::{Crash, crash_json};
use crate::base::error::{Blame, Code, printable};
use crate::base::ids::{Generation, RequestId, Sequence};

/// The only format of crash reports that this host reads and writes.
pub const REPORT_FORMAT: u32 = 1;

/// Bytes of a request's arguments in a report: almost all requests are smaller, and a thousand
/// reports stay in the size of a small image.
pub const ARGUMENTS_BYTES_MAX: usize = 64 << 10;

/// Bytes of a function's raw name in a report. Mangled names of generic code have a few hundred.
const FRAME_BYTES_MAX: usize = 500;

/// The arguments of a crashed request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Arguments {
    /// All of them, MessagePack.
    Kept(Arc<[u8]>),
    /// More than [`ARGUMENTS_BYTES_MAX`]: left out, so the request can't be run again.
    TooLarge(u64),
}

/// A crash with its circumstances.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CrashReport {
    /// The crashed request. It is the report's id too: ids of requests are never given out twice,
    /// so that no other report ever has the id that a caller was told, even when this one is lost.
    pub id: RequestId,
    /// The daemon's name.
    pub daemon: String,
    /// The daemon's id in its data directory.
    pub daemon_key: u64,
    /// The commit that the last try ran on.
    pub sequence: Sequence,
    /// Hash of that commit's record: after a power cut another commit may have its number.
    pub record: blake3::Hash,
    /// Digest of the guest's code.
    pub code: [u8; HASH_BYTES],
    /// Index of the contract.
    pub contract: u32,
    /// Its name.
    pub contract_name: String,
    /// The arguments.
    pub arguments: Arguments,
    /// Its answer was to be JSON, which may be too large.
    pub shows: bool,
    /// Correlation id; the request's own when `None`.
    pub correlation: Option<String>,
    /// Idempotency key.
    pub key: Option<String>,
    /// What the guest's clock showed: nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// Fuel that it might use.
    pub fuel: u64,
    /// Wall time that it might use.
    pub deadline: Duration,
    /// Bytes of memory that the guest might have.
    pub budget_bytes: u64,
    /// Seed of the transaction's random numbers.
    pub seed: [u8; 32],
    /// What it had seen of other daemons.
    pub seen: Vec<SeenOutput>,
    /// The crash of the last try.
    pub crash: Crash,
}

/// Bytes that are no crash report.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReportError {
    /// Made by a host of another format.
    #[error("a crash report of format {0}; this host reads format {REPORT_FORMAT}")]
    Format(u64),
    /// Not what was written.
    #[error("the crash report is damaged: {0}")]
    Damaged(String),
}

/// The JSON on disk.
#[derive(Deserialize, Serialize)]
struct Stored {
    format: u32,
    id: String,
    daemon: String,
    daemon_key: u64,
    sequence: u64,
    record: String,
    code: String,
    contract: u32,
    contract_name: String,
    /// Hexadecimal; absent when they are too large.
    arguments: Option<String>,
    arguments_bytes: u64,
    #[serde(default)]
    shows: bool,
    correlation: Option<String>,
    key: Option<String>,
    unix_nanos: u64,
    fuel: u64,
    deadline_nanos: u64,
    budget_bytes: u64,
    seed: String,
    #[serde(default)]
    seen: Vec<SeenOutput>,
    crash: StoredCrash,
}

#[derive(Deserialize, Serialize)]
struct StoredCrash {
    code: String,
    /// Reports of before have none: theirs is the code's.
    #[serde(default)]
    blame: Option<Blame>,
    message: String,
    backtrace: Vec<String>,
    fuel_used: u64,
    cards_changed: u32,
    attempt: u32,
    generation: u64,
    poison: bool,
}

impl CrashReport {
    /// The report as it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (arguments, arguments_bytes) = match &self.arguments {
            Arguments::Kept(bytes) => (Some(hex(bytes)), bytes.len() as u64),
            Arguments::TooLarge(bytes) => (None, *bytes),
        };
        let crash = &self.crash;
        let stored = Stored {
            format: REPORT_FORMAT,
            id: self.id.to_string(),
            daemon: self.daemon.clone(),
            daemon_key: self.daemon_key,
            sequence: self.sequence.0,
            record: hex(self.record.as_bytes()),
            code: hex(&self.code),
            contract: self.contract,
            contract_name: self.contract_name.clone(),
            arguments,
            arguments_bytes,
            shows: self.shows,
            correlation: self.correlation.clone(),
            key: self.key.clone(),
            unix_nanos: self.unix_nanos,
            fuel: self.fuel,
            deadline_nanos: u64::try_from(self.deadline.as_nanos()).unwrap_or(u64::MAX),
            budget_bytes: self.budget_bytes,
            seed: hex(&self.seed),
            seen: self.seen.clone(),
            crash: StoredCrash {
                code: crash.code.as_str().to_owned(),
                blame: Some(crash.blame),
                message: crash.message.clone(),
                backtrace: crash.backtrace.iter().map(|name| frame(name)).collect(),
                fuel_used: crash.fuel_used,
                cards_changed: crash.cards_changed,
                attempt: crash.attempt,
                generation: crash.generation.0,
                poison: crash.poison,
            },
        };
        // Texts and numbers alone: there is nothing in it that JSON can't say.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads a stored report.
    ///
    /// # Errors
    ///
    /// [`ReportError`] for anything but what [`CrashReport::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReportError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format == u64::from(REPORT_FORMAT) => {}
            Some(format) => return Err(ReportError::Format(format)),
            None => return Err(damaged(&"it has no format")),
        }
        let stored: Stored = serde_json::from_value(value).map_err(|error| damaged(&error))?;
        let id = parse_id(&stored.id).ok_or_else(|| damaged(&"its id"))?;
        let arguments = match &stored.arguments {
            Some(text) => Arguments::Kept(unhex(text)?.into()),
            None => Arguments::TooLarge(stored.arguments_bytes),
        };
        let crash = stored.crash;
        let code: Code = crash.code.parse().map_err(|error| damaged(&error))?;
        Ok(Self {
            id,
            daemon: stored.daemon,
            daemon_key: stored.daemon_key,
            sequence: Sequence(stored.sequence),
            record: blake3::Hash::from_bytes(unhex_array(&stored.record)?),
            code: unhex_array(&stored.code)?,
            contract: stored.contract,
            contract_name: stored.contract_name,
            arguments,
            shows: stored.shows,
            correlation: stored.correlation,
            key: stored.key,
            unix_nanos: stored.unix_nanos,
            fuel: stored.fuel,
            deadline: Duration::from_nanos(stored.deadline_nanos),
            budget_bytes: stored.budget_bytes,
            seed: unhex_array(&stored.seed)?,
            seen: stored.seen,
            crash: Crash {
                code,
                blame: crash.blame.unwrap_or_else(|| code.blame()),
                message: crash.message,
                backtrace: crash.backtrace,
                fuel_used: crash.fuel_used,
                cards_changed: crash.cards_changed,
                attempt: crash.attempt,
                generation: Generation(crash.generation),
                poison: crash.poison,
                report: Some(id),
            },
        })
    }

    /// The report for people and programs that don't run it again: without its seed.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let arguments = match &self.arguments {
            Arguments::Kept(bytes) => json::from_message_pack(bytes).unwrap_or(Value::Null),
            Arguments::TooLarge(_) => Value::Null,
        };
        json!({
            "crash": self.id.to_string(),
            "daemon": self.daemon,
            "sequence": self.sequence,
            "unix_nanos": self.unix_nanos,
            "contract": self.contract_name,
            "arguments": arguments,
            "replayable": matches!(self.arguments, Arguments::Kept(_)),
            "correlation": self.correlation,
            "key": self.key,
            "attempts": self.crash.attempt,
            "fuel_limit": self.fuel,
            "budget_bytes": self.budget_bytes,
            "seen": self.seen,
            "code": hex(&self.code),
            "error": crash_json(&self.crash),
        })
    }
}

/// Reads the id of a crash as it is written everywhere: up to 16 hexadecimal digits.
#[must_use]
pub fn parse_id(text: &str) -> Option<RequestId> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(RequestId)
}

/// In what a crash differs from the one that it repeats, in words; nothing: it is the same crash.
///
/// What is ended by time is ended anywhere: only the code counts then. `same_fuel` is false when
/// the repetition was given another amount of fuel, which an `E_FUEL` has all used.
#[must_use]
pub fn differences(first: &Crash, again: &Crash, same_fuel: bool) -> Vec<&'static str> {
    let timed = matches!(first.code, Code::Deadline | Code::Cancelled);
    let starved = first.code == Code::Fuel && !same_fuel;
    let frames = |crash: &Crash| -> Vec<String> {
        let count = first.backtrace.len().min(again.backtrace.len());
        crash.backtrace.iter().take(count).map(|name| frame(name)).collect()
    };
    let exact = !timed && !starved;
    let checks = [
        ("code", first.code != again.code),
        ("message", exact && first.message != again.message),
        ("backtrace", exact && frames(first) != frames(again)),
        ("fuel", exact && first.fuel_used != again.fuel_used),
        ("changed cards", exact && first.cards_changed != again.cards_changed),
    ];
    checks.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn frame(name: &str) -> String {
    printable(name, FRAME_BYTES_MAX)
}

fn damaged(reason: &dyn std::fmt::Display) -> ReportError {
    ReportError::Damaged(printable(&reason.to_string(), 200))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, ReportError> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks();
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|&[high, low]| u8::try_from(digit(high)? << 4 | digit(low)?).ok())
        .collect();
    bytes.filter(|_| rest.is_empty()).ok_or_else(|| damaged(&"bytes that are not hexadecimal"))
}

fn unhex_array(text: &str) -> Result<[u8; 32], ReportError> {
    unhex(text)?.try_into().map_err(|_| damaged(&"a hash or seed of another length"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Some crash.
    pub(crate) fn report(arguments: Arguments) -> CrashReport {
        CrashReport {
            id: RequestId(0x19a5_f3c2_b080_0012),
            daemon: "ledger".to_owned(),
            daemon_key: 3,
            sequence: Sequence(41),
            record: blake3::hash(b"record"),
            code: *blake3::hash(b"code").as_bytes(),
            contract: 1,
            contract_name: "transfer".to_owned(),
            arguments,
            shows: true,
            correlation: Some("c-\u{e9}".to_owned()),
            key: None,
            unix_nanos: 1_700_000_000_123_456_789,
            fuel: 1_000_000,
            deadline: Duration::from_millis(1500),
            budget_bytes: 16 << 20,
            seed: [7; 32],
            seen: vec![SeenOutput { daemon: "rates".to_owned(), sequence: Some(Sequence(8)) }],
            crash: Crash {
                code: Code::Unreachable,
                blame: Blame::Environment,
                message: "index 9\nout of range".to_owned(),
                backtrace: vec!["_ZN6ledger8transfer17h0123456789abcdefE".to_owned()],
                fuel_used: 12_345,
                cards_changed: 3,
                attempt: 2,
                generation: Generation(9),
                poison: true,
                report: Some(RequestId(0x19a5_f3c2_b080_0012)),
            },
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        for arguments in [Arguments::Kept([0x91, 5, 255].into()), Arguments::TooLarge(1 << 20)] {
            let report = report(arguments);
            assert_eq!(CrashReport::decode(&report.encode()), Ok(report));
        }
    }

    #[test]
    fn any_cut_and_any_changed_byte_is_read_or_refused_without_harm() {
        let bytes = report(Arguments::Kept([0x91, 5].into())).encode();
        for at in 0..bytes.len() {
            assert!(CrashReport::decode(&bytes[..at]).is_err(), "cut at {at}");
            for change in [1, 0x20, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                // The store's checksum finds these; here none may panic.
                drop(CrashReport::decode(&changed));
            }
        }
        let newer = String::from_utf8(bytes).unwrap().replace("\"format\":1", "\"format\":2");
        assert_eq!(CrashReport::decode(newer.as_bytes()), Err(ReportError::Format(2)));
    }

    #[test]
    fn the_largest_report_fits_the_store() {
        let mut report = report(Arguments::Kept(vec![0xff; ARGUMENTS_BYTES_MAX].into()));
        let frames = crate::base::limits::BACKTRACE_FRAMES_CAPTURED_MAX;
        report.crash.backtrace = vec!["\u{1}".repeat(5000); frames];
        report.crash.message = "\"".repeat(crate::base::limits::MESSAGE_BYTES_MAX);
        assert!(report.encode().len() <= crate::base::limits::CRASH_REPORT_BYTES_MAX);
    }

    #[test]
    fn what_people_see_has_no_seed() {
        let shown = report(Arguments::Kept([0x91, 5].into())).to_json();
        assert_eq!(shown["crash"], "19a5f3c2b0800012");
        assert_eq!(shown["arguments"], json!([5]));
        assert_eq!(shown["error"]["backtrace"], json!(["ledger::transfer"]));
        assert!(!shown.to_string().contains(&hex(&[7; 32])));
    }

    #[test]
    fn the_same_crash_is_told_from_another_one() {
        let first = report(Arguments::TooLarge(0)).crash;
        assert_eq!(differences(&first, &first, true), [""; 0]);
        let other = Crash { fuel_used: 1, message: "else".to_owned(), ..first.clone() };
        assert_eq!(differences(&first, &other, true), ["message", "fuel"]);
        let deeper = [first.backtrace.clone(), vec!["main".to_owned()]].concat();
        assert!(
            differences(&first, &Crash { backtrace: deeper, ..first.clone() }, true).is_empty()
        );
        let elsewhere = Crash { backtrace: vec!["main".to_owned()], ..first.clone() };
        assert_eq!(differences(&first, &elsewhere, true), ["backtrace"]);
        for (code, same_fuel) in [(Code::Deadline, true), (Code::Fuel, false)] {
            let (first, other) = (Crash { code, ..first.clone() }, Crash { code, ..other.clone() });
            assert!(differences(&first, &other, same_fuel).is_empty(), "{code}");
        }
    }

    #[test]
    fn ids_are_hexadecimal_as_they_are_shown() {
        let id = RequestId(0xfe);
        assert_eq!(parse_id(&id.to_string()), Some(id));
        assert_eq!(parse_id("fe"), Some(id));
        for bad in ["", "+f", "0x1", "g", "00000000000000001"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
