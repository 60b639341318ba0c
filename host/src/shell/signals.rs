//! Signals: the first one asks for a stop, a second one forces it.
//!
//! | signal | does |
//! |---|---|
//! | SIGINT, SIGTERM | stop in order; the second of them ends the process from its handler |
//! | SIGHUP | the same, unless it was ignored at the start, as under `nohup` |
//! | SIGPIPE | nothing: a reader that went away is an error of that one write |
//!
//! Standard input is not read, so that it may be closed at any time; `--requests -` ends with it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use super::exit;

/// What came from outside.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The last signal's number; 0 while there was none.
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn take() -> io::Result<Self> {
        let (last, came) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            // Handlers run in this order: the first signal finds that none came yet.
            flag::register_conditional_shutdown(signal, i32::from(exit::FORCED), came.clone())?;
            flag::register(signal, came.clone())?;
            flag::register_usize(signal, last.clone(), usize::try_from(signal).unwrap_or(1))?;
        }
        Ok(Self { last })
    }

    /// The number of the signal that came, if one did.
    pub(super) fn came(&self) -> Option<u8> {
        let last = self.last.load(Ordering::Acquire);
        (last != 0).then(|| u8::try_from(last).unwrap_or(u8::MAX))
    }
}

/// Lets a write beyond the largest file that this process may make (`ulimit -f`) fail as any other
/// write does, instead of ending the process.
///
/// # Errors
///
/// The system's.
pub(super) fn survive_large_files() -> io::Result<()> {
    flag::register(SIGXFSZ, Arc::default()).map(|_id| ())
}

/// Lets the first Ctrl-C end this process at once, with an exit code: for a command that only shows
/// things.
///
/// # Errors
///
/// The system's.
pub(super) fn end_by_interrupt(code: u8) -> io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    flag::register_conditional_shutdown(SIGINT, i32::from(code), always)?;
    Ok(())
}

/// True when whoever started this process wants it to survive the signal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal - 1) != 0)
}
