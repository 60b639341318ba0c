//! Exit codes of the binary. A script may rely on them.

/// Done; the request was committed; the guest is admissible.
pub const DONE: u8 = 0;

/// The request was rejected, or the command failed for a reason that it printed.
pub const FAILED: u8 = 1;

/// The command line can't be used.
pub const USAGE: u8 = 2;

/// The request crashed and was rolled back.
pub const CRASHED: u8 = 3;

/// Whether the request was committed is not known.
pub const UNKNOWN: u8 = 4;

/// No host answers on the socket.
pub const NO_HOST: u8 = 5;

/// The host ended by an emergency: a service manager should start it again.
pub const EMERGENCY: u8 = 6;

/// The host had to leave before its stop was complete: something did not end in its time, or a
/// second signal asked for it. What was acknowledged is durable; what was under way is unknown.
pub const FORCED: u8 = 7;

/// `host health`: the host answers, but it is degraded or stopping.
pub const UNWELL: u8 = 8;

/// `host health`: the host is there, but stuck.
pub const STUCK: u8 = 9;

/// It was done, and the answer could not be written to standard output.
pub const UNWRITTEN: u8 = 10;
