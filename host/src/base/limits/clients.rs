//! Limits of clients: of the socket, and of HTTP.

use std::time::Duration;

use super::HEALTH_WAIT;

/// Commands that wait for a daemon, the disk or the compiler at once; one client has one.
pub const CLIENTS_MAX: usize = 256;

/// Clients beyond those: they may look and switch off, which waits for nothing, so that a person
/// gets through when all others wait.
pub const CLIENTS_RESERVED: usize = 16;

/// Clients of the socket that the system keeps until they are accepted. Most systems allow as many.
pub const SOCKET_BACKLOG: i32 = 4096;

/// Time that any other command waits for one of [`CLIENTS_MAX`] places before it is refused.
pub const CLIENT_PLACE_WAIT: Duration = Duration::from_secs(1);

/// Time that a client has been silent, or slow, before it is let go of for another one: who
/// connects speaks within this, and who waits for a place, as `host health` does, waits little
/// longer.
pub const CLIENT_PATIENCE: Duration = Duration::from_millis(250);

/// The same for one that says nothing, when many come and none finds a free place: it halves for
/// each time that all places have changed hands, down to this. Commands speak at once.
pub const CLIENT_PATIENCE_MIN: Duration = Duration::from_millis(25);

/// Time until the next try to accept a client when the system has refused one, for want of
/// descriptors most likely.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time that a client of the socket may take to read its answer.
pub const CLIENT_ANSWER_TIME_MAX: Duration = HTTP_ANSWER_TIME_MAX;

/// Bytes that are read from a client and thrown away when the last thing was said to it: who sends
/// more than a limit still reads why.
pub const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// Time that this may take.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(5);

/// Calls over HTTP that are being answered at once; more are refused. Fewer where the process may
/// not have twice as many descriptors: the socket must go on accepting.
pub const HTTP_CALLS_MAX: usize = 1024;

/// Connections of HTTP beyond those: whoever asks for the host's health gets through when daemons
/// keep all others waiting.
pub const HTTP_CONNECTIONS_RESERVED: usize = 16;

/// Bytes of the head of an HTTP request. Proxies allow as much.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;

/// Bytes of the buffers of one HTTP connection: a head, and some of a body at a time.
pub const HTTP_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Time that the head of an HTTP request may take, from its first byte, or from the begin of the
/// connection: who sends a byte now and then must not hold a place.
pub const HTTP_HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Time that the body of an HTTP request may take after its head.
pub const HTTP_BODY_TIME_MAX: Duration = Duration::from_secs(20);

/// Time that an HTTP client may take to read its answer.
pub const HTTP_ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Time between an answer and the next request of an HTTP connection: longer than the minute after
/// which proxies close theirs, so that none of them sends a request into a closed one.
pub const HTTP_IDLE_TIME_MAX: Duration = Duration::from_secs(75);

/// What `Retry-After` says, in seconds: most of what is refused is back by then.
pub const HTTP_RETRY_AFTER_SECONDS: u64 = 1;

// Behind as many silent clients as the system keeps there is an answer before `host health` gives
// up: the patience of all halvings is less than twice the first, and then the shortest one holds.
const _: () = {
    let places = (CLIENTS_MAX + CLIENTS_RESERVED) as u128;
    let turns = SOCKET_BACKLOG.unsigned_abs() as u128 / places;
    let time = 2 * CLIENT_PATIENCE.as_millis() + turns * CLIENT_PATIENCE_MIN.as_millis();
    assert!(time < HEALTH_WAIT.as_millis());
};
