//! Limits of calls to resources, and of what is staged for them.

use std::time::Duration;

/// Time that one call of a resource may take: a transaction holds its daemon meanwhile.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes that one call may carry to a resource, and bytes that it may answer: both are copied
/// through the guest's memory.
pub const CALL_BYTES_MAX: usize = 8 << 20;

/// Time between two tries to open a connection to a server that has as many as it takes: others
/// give theirs back whenever they like.
pub const OPEN_AGAIN: Duration = Duration::from_millis(100);

/// Time before its own end at which a call hears that the server had no room for it: guests wait
/// for ten seconds, and a machine with much to do needs some time to say so.
pub const NO_ROOM_TOLD: Duration = Duration::from_secs(1);

/// Time after which a call that should have ended takes its connection with it.
pub const CALL_GRACE: Duration = Duration::from_secs(2);

/// Bytes that a server may send around the values of an answer: some hundred for each column, a few
/// for each row.
pub const CALL_FRAMING_BYTES_MAX: usize = 1 << 20;

/// Time that a server has to end a statement that is cancelled: one that needs longer has lost its
/// connection.
pub const CANCEL_TIME_MAX: Duration = Duration::from_secs(1);

/// Time that a server has to bring a connection back to its first state, between two transactions.
pub const RESET_TIME_MAX: Duration = Duration::from_secs(1);

/// Bytes of the head of a request of HTTP that a guest sends, and of the head of its answer: no
/// server that is well sends, or takes, more.
pub const HTTP_CALL_HEAD_BYTES_MAX: usize = 64 << 10;

/// Headers of a request of HTTP that a guest sends, and of its answer: servers take as many.
pub const HTTP_CALL_HEADERS_MAX: usize = 100;

/// Bytes of a URL that a guest asks for: few servers take longer ones.
pub const URL_BYTES_MAX: usize = 8 << 10;

/// Time between two connections that are made to see whether an HTTP server is there: it pays for
/// each.
pub const HTTP_CHECK_EVERY: Duration = Duration::from_secs(5);

/// Bytes of a file that one call reads: a guest asks again for more.
pub const FILE_READ_BYTES_MAX: usize = 64 << 10;

/// Names in a directory that a guest can list: they are in the host's memory all at once.
pub const DIRECTORY_NAMES_MAX: usize = 10_000;

/// Calls to the files of one directory at once, each by a thread that a hung disk may keep; more
/// wait.
pub const FILE_CALLS_MAX: usize = 8;

/// Requests of `wasi:http` that a transaction may have under way, with bodies of up to
/// [`CALL_BYTES_MAX`] each way.
pub const HTTP_EXCHANGES_MAX: usize = 8;

/// Names of HTTP servers that are looked up at once, each by a thread that can't be told to stop;
/// more wait.
pub const HTTP_LOOKUPS_MAX: usize = 8;

/// Values in the answer to one call: each costs more than its bytes.
pub const CALL_VALUES_MAX: usize = 100_000;

/// Calls that wait for one resource's keeper; more are refused.
pub const CALLS_QUEUED_MAX: usize = 1024;

/// Time that a data directory is waited for which this process itself has just let go: a child that
/// was forked meanwhile holds the lock until it runs its program.
pub const OWN_LOCK_WAIT: Duration = Duration::from_secs(1);

/// Time between two tries then.
pub const OWN_LOCK_TICK: Duration = Duration::from_millis(1);

/// Bytes of a value that a guest can compare and swap: each handle keeps what was seen.
pub const CAS_BYTES_MAX: usize = 1 << 20;

/// Keys that one page of a listing asks the store for: about a page of a terminal, ten times.
pub const KEYS_LISTED_MAX: u32 = 1000;

/// Calls of a shared connection that may go without an answer, one after the other, before the
/// connection is given up: one is bad luck.
pub const LATE_CALLS_MAX: u32 = 3;

/// Bytes of an answer that the client of a shared connection is given: more than
/// [`CALL_BYTES_MAX`], which counts values alone. The rest of a larger one is read and thrown away,
/// so that others on the connection don't lose it.
pub const REPLY_BYTES_MAX: u64 = 2 * CALL_BYTES_MAX as u64;

/// Values of such an answer; the same holds for it and [`CALL_VALUES_MAX`].
pub const REPLY_VALUES_MAX: u64 = 2 * CALL_VALUES_MAX as u64;

/// Lists in each other in such an answer: scripts may nest them, and nobody does.
pub const REPLY_DEPTH_MAX: usize = 64;

/// Bytes of a status or an error in such an answer.
pub const REPLY_LINE_BYTES_MAX: u64 = 64 << 10;

/// Bytes of a file that an init job of a resource names.
pub const INIT_FILE_BYTES_MAX: u64 = 1 << 20;

/// Effects that wait for one resource, those of transactions under way too: a queue that is longer
/// is not worked off soon. One more is refused while it is staged.
pub const EFFECTS_WAITING_MAX: u32 = 1024;

/// Bytes of these.
pub const EFFECTS_WAITING_BYTES_MAX: usize = 16 << 20;

/// Times that one effect is sent, with its resource there each time.
pub const EFFECT_TRIES_MAX: u32 = 8;

/// The same while its resource says that it can't do what it is for, and passes its checks: about
/// ten minutes, in which a person makes room on a disk.
pub const EFFECT_UNFIT_TRIES_MAX: u32 = 64;

const _: () = assert!(EFFECT_TRIES_MAX < EFFECT_UNFIT_TRIES_MAX);

/// Wait before an effect is sent for the second time; it doubles each time.
pub const EFFECT_DELAY: Duration = Duration::from_millis(100);

/// Longest such wait: others stand behind it.
pub const EFFECT_DELAY_MAX: Duration = Duration::from_secs(10);

/// Time that a stop gives effects whose resources are there.
pub const EFFECTS_STOP_MAX: Duration = Duration::from_secs(2);
