//! The log, on standard error: what is shown of it, and how.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::eprint;
use crate::base::error::{Code, Fault, printable};
use crate::mechanisms::journal::catches_panics;
use crate::shell::sink;

/// The variable that says what is shown.
const VARIABLE: &str = "BULKHEAD_LOG";

/// What a word alone may be, beside a level: whose lines all are shown. Any other one is a level
/// that was mistyped, most likely.
const TARGETS: [&str; 5] = ["host", "guest", "crash", "supervisor", "off"];

/// How log lines are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// For programs: one JSON object per line
    Json,
}

/// Panics that become errors of the journal are told as such, and not as panics. A host tells of
/// the others as of everything else: without waiting for whoever reads it.
pub(super) fn tell_of_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if catches_panics() {
            return;
        }
        if !sink::has_errors() {
            return usual(panic);
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        let backtrace = Backtrace::capture();
        let frames = match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        let text = format!("thread `{name}`: {panic}{frames}");
        match JSON.get() {
            Some(()) => tracing::error!("{text}"),
            None => eprint(&text),
        }
    }));
}

/// Refuses a filter in the environment that would hide what somebody wants to see.
///
/// # Errors
///
/// `E_OPTION`.
pub(super) fn check_filter() -> Result<(), Fault> {
    given_filter().map(drop).map_err(|why| {
        let message =
            format!("{VARIABLE}: {why}; write a level, or a list like `info,guest=debug`");
        Fault::new(Code::Option, message)
    })
}

fn given_filter() -> Result<Option<EnvFilter>, String> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.to_str().ok_or("it is not UTF-8")?;
    read_filter(text).map(Some)
}

fn read_filter(text: &str) -> Result<EnvFilter, String> {
    for word in text.split(',').map(str::trim) {
        let is_word = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_level = word.parse::<tracing::Level>().is_ok();
        if is_word && !is_level && !TARGETS.contains(&word) {
            let (word, known) = (printable(word, 64), TARGETS.join(", "));
            return Err(format!("`{word}` is neither a level nor one of {known}"));
        }
    }
    let read = EnvFilter::builder().parse(text);
    read.map_err(|error| printable(&error.to_string(), 200))
}

/// Starts logging to standard error; `default` holds unless `BULKHEAD_LOG` says otherwise.
pub(super) fn start_log(default: &str) {
    start_log_as(default, LogFormat::Text);
}

/// The same, in a format.
pub(super) fn start_log_as(default: &str, format: LogFormat) {
    // What can't be read was refused before.
    let filter = given_filter().ok().flatten().unwrap_or_else(|| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| sink::Errors)
        .with_ansi(colours)
        // Nobody may read it any more: a host whose terminal is gone still stops in order.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => {
            let json =
                log.json().flatten_event(true).with_current_span(false).with_span_list(false);
            JSON.set(()).ok();
            json.try_init()
        }
    };
    debug_assert!(started.is_ok(), "logging starts once");
}

/// Set when standard error has nothing but JSON.
static JSON: OnceLock<()> = OnceLock::new();

/// Tells of an error in the log, where that is read by programs; false where people read it.
pub(super) fn logs_fault(fault: &Fault) -> bool {
    let is_json = JSON.get().is_some();
    if is_json {
        tracing::error!(code = %fault.code, blame = %fault.blame, "{}", fault.message);
    }
    is_json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_whole_or_refused() {
        for good in ["info", "WARN", "off", "info,guest=debug", "host::tree=trace,error", "guest"] {
            assert!(read_filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "info,guest=debgu", "=", "info,,warn", "guest=debug,wran", "a=b=c", "["]
        {
            assert!(read_filter(bad).is_err(), "{bad}");
        }
        // What is not understood is shown as far as it helps.
        for long in ["x".repeat(1 << 20), format!("a={}", "x".repeat(1 << 20)), "[".repeat(1 << 20)]
        {
            let why = read_filter(&long).unwrap_err();
            assert!(why.len() < 300, "{} bytes", why.len());
        }
        let escapes = read_filter("\u{1b}[2J\n").unwrap_err();
        assert!(!escapes.contains(char::is_control), "{escapes}");
    }
}
