//! Limits of what requests carry and guests answer.

/// Nesting of arguments and results.
pub const VALUE_DEPTH_MAX: usize = 64;

/// Fuel of one value that is read, checked or written: about what that takes in time.
pub const VALUE_FUEL_PER_STEP: u64 = 20;

/// Fuel of each of its bytes.
pub const VALUE_FUEL_PER_BYTE: u64 = 1;

/// Fuel after which whoever reads a value asks whether it is to go on: some twenty microseconds.
pub const VALUE_FUEL_ASKED: u64 = 50_000;

/// Steps that reading a value may take for each of its bytes, whatever its schema is: enough to try
/// a dozen alternatives of each element, where nothing tells them apart.
pub const VALUE_STEPS_PER_BYTE: u64 = 16;

/// Steps that even the shortest value gets.
pub const VALUE_STEPS_MIN: u64 = 16 << 10;

/// Bytes of a value that a message shows: a line of a terminal has room for more around it.
pub const SHOWN_BYTES_MAX: usize = 60;

/// Bytes in which a message says what may stand somewhere.
pub const EXPECTED_BYTES_MAX: usize = 200;

/// Bytes of one JSON Schema in a guest's description.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;

/// Schemas in one JSON Schema: each costs some hundred bytes, however short it is.
pub const SCHEMA_NODES_MAX: usize = 8 << 10;

/// Alternatives of all unions in one JSON Schema, constants included: unions of unions could have
/// as many as the square of their bytes.
pub const SCHEMA_ALTERNATIVES_MAX: usize = 32 << 10;

/// Contracts in one guest.
pub const CONTRACTS_MAX: usize = 256;

/// Arguments of one contract.
pub const ARGUMENTS_MAX: usize = 64;

/// Bytes of a guest's description: names, documentation and schemas.
pub const DESCRIPTION_BYTES_MAX: usize = 2 << 20;

/// Bytes of the JSON of a guest's answer. Most of the largest replies fit; some become six times as
/// much text, and that is better sent in parts.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes of arguments that are waiting, and of answers that clients have not read, all together:
/// part of the bill. One of the largest answers and many others, and four of the largest requests.
pub const TRAFFIC_BYTES_MAX: usize = 128 << 20;

/// The least of those on a host with little memory.
pub const TRAFFIC_BYTES_MIN: usize = 4 << 20;

/// Part of a host's memory that is for these, one in so many.
pub const TRAFFIC_MEMORY_PART: usize = 8;

/// Part of these that is for arguments, one in so many; the rest is for answers.
pub const TRAFFIC_REQUESTS_PART: usize = 4;

/// Bytes of arguments that nobody counts: a full mailbox of them fits a daemon's part of the bill.
pub const ARGUMENTS_UNCOUNTED_BYTES_MAX: usize = 2 << 10;

/// Bytes of an answer that nobody counts: one for each client fits what the host itself takes.
pub const ANSWER_UNCOUNTED_BYTES_MAX: usize = 8 << 10;

const _: () = assert!(super::REQUEST_BYTES_MAX <= TRAFFIC_BYTES_MAX / TRAFFIC_REQUESTS_PART);
const _: () =
    assert!(ANSWER_BYTES_MAX <= TRAFFIC_BYTES_MAX - TRAFFIC_BYTES_MAX / TRAFFIC_REQUESTS_PART);

/// Bytes of a line of the socket that is read where it arrives: some ten microseconds. Longer ones
/// take room in steps of this, and are read by a thread that may take its time.
pub const LINE_INLINE_BYTES_MAX: usize = 64 << 10;

/// Bytes of a command of the socket that is no request: names, numbers and paths.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;
