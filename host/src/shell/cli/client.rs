//! Commands that ask a running host: they end by the same latch and the same signals as the host.
//!
//! What they asked for is not undone: only the asking ends.

use std::sync::Arc;

use super::print_fault;
use crate::base::error::{Code, Fault};
use crate::base::limits::WATCH_SLACK;
use crate::base::stop::Reason;
use crate::base::vitals::Kind;
use crate::shell::exit;
use crate::shell::main_loop::MainLoop;
use crate::shell::signals::Signals;

/// Runs `command` on a thread of its own and answers its exit code, or `cut_short` when a signal
/// comes before it has one.
pub(super) fn client(cut_short: u8, command: impl FnOnce() -> u8 + Send + 'static) -> u8 {
    run(cut_short, command).unwrap_or_else(|fault| {
        print_fault(&fault);
        exit::FAILED
    })
}

fn run(cut_short: u8, command: impl FnOnce() -> u8 + Send + 'static) -> Result<u8, Fault> {
    let signals =
        Signals::take().map_err(|error| Fault::new(Code::Engine, format!("signals: {error}")))?;
    let main = MainLoop::new(Arc::default(), signals, None, WATCH_SLACK);
    let running = main.spawn("command", Kind::Api, move |_heart| command())?;
    Ok(main.until(&running).unwrap_or_else(|| match main.reason() {
        Reason::Signal(number) => {
            let message = format!(
                "signal {number} ended this command; the host goes on with what it was asked for"
            );
            print_fault(&Fault::new(Code::NoAnswer, message));
            cut_short
        }
        // The command's own panic has said what happened.
        Reason::Asked | Reason::Emergency(_) => exit::FAILED,
    }))
}
