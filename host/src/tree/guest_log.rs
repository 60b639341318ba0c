//! A guest's lines, into the host's log: each with daemon, request, correlation id and generation.

use crate::mechanisms::sandbox::{GuestLine, GuestLog, Level};

/// Hands lines to `tracing`, under the target `guest`.
#[derive(Debug)]
pub(super) struct TracedLog {
    daemon: String,
}

impl TracedLog {
    /// For the guest of that daemon.
    pub(super) fn new(daemon: &str) -> Self {
        Self { daemon: daemon.to_owned() }
    }
}

impl GuestLog for TracedLog {
    fn line(&self, line: &GuestLine<'_>) {
        let request = line.request;
        let own = request.to_string();
        let correlation = line.correlation.unwrap_or(&own);
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    target: "guest",
                    tracing::Level::$level,
                    daemon = %self.daemon,
                    %request,
                    correlation,
                    attempt = line.attempt,
                    generation = line.generation.0,
                    from = line.target,
                    "{}",
                    line.message
                )
            };
        }
        match line.level {
            Level::Trace => event!(TRACE),
            Level::Debug => event!(DEBUG),
            Level::Info => event!(INFO),
            Level::Warn => event!(WARN),
            Level::Error => event!(ERROR),
        }
    }
}
