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
