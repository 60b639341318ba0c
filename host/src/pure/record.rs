//! The record of one commit: the same bytes on disk and on the wire.
//!
//! Integers are little-endian. A record is a header, a payload and a checksum:
//!
//! ```text
//!  offset  bytes  field
//!       0      4  magic "BKRC"
//!       4      2  format version: 2 for a part of a commit, 1 otherwise
//!       6      2  bytes of this header
//!       8      4  flags: 1 payload is LZ4, 2 whole state (not a change), 4 has a key, 8 a part
//!                 that others follow, 16 the last part
//!      12      1  kind of commit
//!      13      3  zero
//!      16      8  daemon, an id that the data directory never gives out again
//!      24      8  fence, 0 = alone
//!      32      8  sequence, gapless per daemon; 0 is the state that `init` made
//!      40     32  checksum of the record before this one, zero for the first
//!      72     32  digest of the guest's code
//!     104      8  request; of a revert the commit that it went back to; of a part that others
//!                 follow its number
//!     112      8  nanoseconds since the Unix epoch
//!     120      8  generation of the instance
//!     128      8  bytes of the guest's memory after the commit
//!     136      4  tries that the request took
//!     140      4  control memories
//!     144      4  changed ranges
//!     148      4  bytes of the idempotency key
//!     152      4  bytes of the reply
//!     156      4  contract, its index plus one; 0 without a request
//!     160     32  hash of the request that the key stands for, zero without a key
//!     192      8  bytes of the payload
//!     200      8  bytes of the payload as stored: fewer when it is LZ4
//!     208         payload
//!      +      32  checksum: BLAKE3 of everything before it
//!
//!  payload: per control memory its bytes (4), then those;
//!           per range its offset (8) and bytes (4);
//!           key; reply; then the bytes of all ranges
//! ```
//!
//! The checksum is also the link of the chain: the next record names it. There is no room for
//! optional fields on purpose: another layout is another format version.
//!
//! A whole state that is too large for one record travels in several parts, all with the commit's
//! sequence, chained as records are; the last one has what is said about the commit. Until it is
//! there nothing has happened.
//!
//! Ranges ascend and don't touch each other out of order: offset + bytes of one is at most the
//! offset of the next. Bytes beyond the memory's size are zero, before and after each commit.

mod encode;

use crate::base::ids::{Generation, RequestId, Sequence};

pub use encode::{Draft, EncodeError, Encoder};

/// First bytes of a record.
pub const MAGIC: [u8; 4] = *b"BKRC";

/// The format of a commit in one record.
pub const FORMAT: u16 = 1;

/// The format of a part of a commit: the same fields, and flags that an earlier host doesn't know.
pub const FORMAT_PART: u16 = 2;

const FORMAT_AT: usize = MAGIC.len();
const HEADER_LENGTH_AT: usize = FORMAT_AT + 2;
const FLAGS_AT: usize = HEADER_LENGTH_AT + 2;
const KIND_AT: usize = FLAGS_AT + 4;
const DAEMON_AT: usize = KIND_AT + 4;
const FENCE_AT: usize = DAEMON_AT + 8;
const SEQUENCE_AT: usize = FENCE_AT + 8;
const PREVIOUS_AT: usize = SEQUENCE_AT + 8;
const CODE_AT: usize = PREVIOUS_AT + HASH_BYTES;
const REQUEST_AT: usize = CODE_AT + HASH_BYTES;
const TIME_AT: usize = REQUEST_AT + 8;
const GENERATION_AT: usize = TIME_AT + 8;
const MEMORY_AT: usize = GENERATION_AT + 8;
const ATTEMPTS_AT: usize = MEMORY_AT + 8;
const CONTROLS_AT: usize = ATTEMPTS_AT + 4;
const RANGES_AT: usize = CONTROLS_AT + 4;
const KEY_BYTES_AT: usize = RANGES_AT + 4;
const REPLY_BYTES_AT: usize = KEY_BYTES_AT + 4;
const CONTRACT_AT: usize = REPLY_BYTES_AT + 4;
const REQUEST_HASH_AT: usize = CONTRACT_AT + 4;
const PAYLOAD_BYTES_AT: usize = REQUEST_HASH_AT + HASH_BYTES;
const STORED_BYTES_AT: usize = PAYLOAD_BYTES_AT + 8;

/// Bytes of a header.
pub const HEADER_BYTES: usize = STORED_BYTES_AT + 8;

/// Bytes of a hash.
pub const HASH_BYTES: usize = blake3::OUT_LEN;

/// Bytes of the smallest record.
pub const RECORD_BYTES_MIN: usize = HEADER_BYTES + HASH_BYTES;

/// Bytes of a payload before compression. A commit that changes more is refused before it is
/// written: a quarter of a gigabyte per transaction is a restore, not a change.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// Control memories of one record: as many as a guest may have core modules.
pub const CONTROLS_MAX: usize = 64;

/// Bytes of one range in the payload, beside its content.
const RANGE_BYTES: usize = 12;

/// LZ4 can't pack more than this many bytes into one.
const LZ4_RATIO_MAX: usize = 255;

const FLAG_LZ4: u32 = 1;
const FLAG_WHOLE: u32 = 2;
const FLAG_KEY: u32 = 4;
const FLAG_MORE: u32 = 8;
const FLAG_LAST: u32 = 16;
const FLAGS_ALL: u32 = FLAG_LZ4 | FLAG_WHOLE | FLAG_KEY;
const FLAGS_PART: u32 = FLAG_MORE | FLAG_LAST;

/// How much of its commit a record is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Part {
    /// All of it.
    #[default]
    Only,
    /// The part of that number, from 0; others follow.
    More(u64),
    /// The last one of several.
    Last,
}

/// What made a commit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `init`: the first state.
    Init,
    /// A transaction.
    Commit,
    /// Back to an earlier commit.
    Revert,
    /// From a snapshot, or a fork of another daemon.
    Restore,
    /// New code took the state over.
    Upgrade,
    /// Started over after a crash, by policy.
    Zero,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Init, Self::Commit, Self::Revert, Self::Restore, Self::Upgrade, Self::Zero];

    /// The byte in the header.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Init => 1,
            Self::Commit => 2,
            Self::Revert => 3,
            Self::Restore => 4,
            Self::Upgrade => 5,
            Self::Zero => 6,
        }
    }

    /// The word that people read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Commit => "commit",
            Self::Revert => "revert",
            Self::Restore => "restore",
            Self::Upgrade => "upgrade",
            Self::Zero => "zero",
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// What a commit says about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// What made it.
    pub kind: Kind,
    /// The record holds the whole state: memory is zero where no range says otherwise.
    pub whole: bool,
    /// The daemon's id in its data directory.
    pub daemon: u64,
    /// 0 = alone.
    pub fence: u64,
    /// Number of the commit.
    pub sequence: Sequence,
    /// Checksum of the record before this one.
    pub previous: blake3::Hash,
    /// Digest of the guest's code.
    pub code: [u8; HASH_BYTES],
    /// The request that it answers.
    pub request: RequestId,
    /// Index of the contract that it ran.
    pub contract: Option<u32>,
    /// When.
    pub unix_nanos: u64,
    /// Generation of the instance.
    pub generation: Generation,
    /// Bytes of the guest's memory after it.
    pub memory_bytes: u64,
    /// Tries that it took.
    pub attempts: u32,
    /// How much of the commit it is.
    pub part: Part,
}

impl Head {
    /// Nothing happens by it: it is a part that others follow.
    #[must_use]
    pub fn is_more(&self) -> bool {
        matches!(self.part, Part::More(_))
    }

    /// What was there before is nothing: it is a whole state, or begins one.
    #[must_use]
    pub fn clears(&self) -> bool {
        self.whole && matches!(self.part, Part::Only | Part::More(0))
    }

    /// The commit whose state a revert brought back.
    #[must_use]
    pub fn reverted_to(&self) -> Option<Sequence> {
        (self.kind == Kind::Revert).then_some(Sequence(self.request.0))
    }

    /// Kept answers of this commit and later ones are void with this record: what they told of is
    /// not in the state any more. `None` voids nothing.
    #[must_use]
    pub fn voids_from(&self) -> Option<Sequence> {
        match self.kind {
            Kind::Commit | Kind::Upgrade => None,
            Kind::Init | Kind::Restore | Kind::Zero => Some(Sequence(0)),
            Kind::Revert => self.reverted_to().map(Sequence::next),
        }
    }
}

/// An idempotency key and what it stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keyed<'a> {
    /// The key.
    pub key: &'a str,
    /// Hash of the request.
    pub request: blake3::Hash,
    /// The answer, MessagePack.
    pub reply: &'a [u8],
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} at byte {offset} of the record")]
pub struct RecordError {
    /// What is wrong.
    pub what: &'static str,
    /// Where, in bytes from the record's start.
    pub offset: usize,
}

/// Whether these bytes are a part of a commit that others follow, if they are a record.
#[must_use]
pub fn is_more(record: &[u8]) -> bool {
    let flags = record.get(FLAGS_AT..).and_then(|rest| rest.first_chunk());
    let format = record.get(FORMAT_AT..).and_then(|rest| rest.first_chunk());
    format.copied().map(u16::from_le_bytes) == Some(FORMAT_PART)
        && flags.copied().map(u32::from_le_bytes).is_some_and(|flags| flags & FLAG_MORE != 0)
}

/// A decoded record; borrows its payload.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it says about itself.
    pub head: Head,
    /// The key, when it has one.
    pub keyed: Option<Keyed<'a>>,
    /// Its checksum: what the next record names.
    pub hash: blake3::Hash,
    controls: &'a [u8],
    ranges: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Checks and decodes `record`; `scratch` holds the payload when it was compressed.
    ///
    /// # Errors
    ///
    /// [`RecordError`] for anything but the bytes that [`Encoder::encode`] made.
    pub fn decode(record: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Self, RecordError> {
        let frame = Frame::of(record)?;
        let body = record.get(..record.len() - HASH_BYTES).unwrap_or_default();
        if blake3::hash(body) != frame.hash {
            return Err(fail("wrong checksum", record.len() - HASH_BYTES));
        }
        let stored = body.get(HEADER_BYTES..).unwrap_or_default();
        let payload = if frame.flags & FLAG_LZ4 == 0 {
            stored
        } else {
            scratch.clear();
            scratch.resize(frame.payload_bytes, 0);
            let length = lz4_flex::block::decompress_into(stored, scratch)
                .map_err(|_| fail("payload that does not decompress", HEADER_BYTES))?;
            if length != frame.payload_bytes {
                return Err(fail("payload of another length than announced", HEADER_BYTES));
            }
            scratch.as_slice()
        };
        frame.split(payload)
    }

    /// The bytes of each control memory's state area, in order.
    pub fn controls(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.controls;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (state, after) = after.split_at_checked(length)?;
            rest = after;
            Some(state)
        })
    }

    /// The changed ranges, ascending: offset and new bytes.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let mut bytes = self.bytes;
        self.ranges.chunks_exact(RANGE_BYTES).map_while(move |range| {
            let (offset, length) = read_range(range)?;
            let (content, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            Some((offset, content))
        })
    }

    /// Bytes in all ranges.
    #[must_use]
    pub fn changed_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// A record's header, checked for itself; the checksum is read but not compared.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// What it says about itself.
    pub head: Head,
    /// The checksum that it carries.
    pub hash: blake3::Hash,
    flags: u32,
    controls: usize,
    ranges: usize,
    key_bytes: usize,
    reply_bytes: usize,
    request_hash: blake3::Hash,
    payload_bytes: usize,
}

impl Frame {
    /// Reads a header, in constant time.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when a field is out of range or the length is not the announced one.
    pub fn of(record: &[u8]) -> Result<Self, RecordError> {
        let too_short = fail("end of data", record.len());
        if record.len() < RECORD_BYTES_MIN {
            return Err(too_short);
        }
        let fields = Fields(record);
        if record.first_chunk() != Some(&MAGIC) {
            return Err(fail("no record", 0));
        }
        let format = fields.u16(FORMAT_AT);
        if usize::from(fields.u16(HEADER_LENGTH_AT)) != HEADER_BYTES {
            return Err(fail("wrong length of the header", HEADER_LENGTH_AT));
        }
        let (flags, request) = (fields.u32(FLAGS_AT), fields.u64(REQUEST_AT));
        let part = part_of(format, flags, request)?;
        let kind = fields.array::<1>(KIND_AT).first().copied().and_then(Kind::of);
        let Some(kind) = kind else { return Err(fail("unknown kind", KIND_AT)) };
        if fields.array::<3>(KIND_AT + 1) != [0; 3] {
            return Err(fail("reserved bytes that are not zero", KIND_AT + 1));
        }
        let payload_bytes = fields.length(PAYLOAD_BYTES_AT, PAYLOAD_BYTES_MAX)?;
        let stored_bytes = fields.length(STORED_BYTES_AT, PAYLOAD_BYTES_MAX)?;
        if stored_bytes != record.len() - RECORD_BYTES_MIN {
            return Err(fail("another length than announced", STORED_BYTES_AT));
        }
        let packed = flags & FLAG_LZ4 != 0;
        let possible = if packed {
            stored_bytes < payload_bytes && payload_bytes / LZ4_RATIO_MAX <= stored_bytes
        } else {
            stored_bytes == payload_bytes
        };
        if !possible {
            return Err(fail("impossible length of the payload", PAYLOAD_BYTES_AT));
        }
        let head = Head {
            kind,
            whole: flags & FLAG_WHOLE != 0,
            daemon: fields.u64(DAEMON_AT),
            fence: fields.u64(FENCE_AT),
            sequence: Sequence(fields.u64(SEQUENCE_AT)),
            previous: fields.hash(PREVIOUS_AT),
            code: fields.array(CODE_AT),
            request: RequestId(if flags & FLAG_MORE == 0 { request } else { 0 }),
            contract: fields.u32(CONTRACT_AT).checked_sub(1),
            unix_nanos: fields.u64(TIME_AT),
            generation: Generation(fields.u64(GENERATION_AT)),
            memory_bytes: fields.u64(MEMORY_AT),
            attempts: fields.u32(ATTEMPTS_AT),
            part,
        };
        Ok(Self {
            head,
            hash: fields.hash(record.len() - HASH_BYTES),
            flags,
            controls: fields.count(CONTROLS_AT, CONTROLS_MAX)?,
            ranges: fields.count(RANGES_AT, payload_bytes / RANGE_BYTES)?,
            key_bytes: fields.count(KEY_BYTES_AT, payload_bytes)?,
            reply_bytes: fields.count(REPLY_BYTES_AT, payload_bytes)?,
            request_hash: fields.hash(REQUEST_HASH_AT),
            payload_bytes,
        })
    }

    fn split(self, payload: &[u8]) -> Result<Record<'_>, RecordError> {
        let end = |left: &[u8]| HEADER_BYTES + payload.len() - left.len();
        let mut rest = payload;
        for _ in 0..self.controls {
            let length = rest.split_first_chunk::<4>();
            let Some((length, after)) = length else { return Err(fail("cut state", end(rest))) };
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let Some((_, after)) = after.split_at_checked(length) else {
                return Err(fail("cut state", end(rest)));
            };
            rest = after;
        }
        let (controls, rest) = payload
            .split_at_checked(payload.len() - rest.len())
            .ok_or_else(|| fail("cut state", HEADER_BYTES))?;
        let (ranges, rest) = rest
            .split_at_checked(self.ranges.saturating_mul(RANGE_BYTES))
            .ok_or_else(|| fail("cut list of ranges", end(rest)))?;
        let (key, rest) =
            rest.split_at_checked(self.key_bytes).ok_or_else(|| fail("cut key", end(rest)))?;
        let (reply, bytes) =
            rest.split_at_checked(self.reply_bytes).ok_or_else(|| fail("cut reply", end(rest)))?;
        let (mut reached, mut total) = (0_u64, 0_usize);
        for range in ranges.chunks_exact(RANGE_BYTES) {
            let Some((offset, length)) = read_range(range) else {
                return Err(fail("impossible range", end(rest)));
            };
            let stop = offset.checked_add(length as u64);
            let inside = stop.is_some_and(|stop| stop <= self.head.memory_bytes);
            if length == 0 || offset < reached || !inside {
                return Err(fail("range out of order or bounds", end(rest)));
            }
            reached = stop.unwrap_or(u64::MAX);
            total = total.saturating_add(length);
        }
        if total != bytes.len() {
            return Err(fail("bytes that belong to no range", end(bytes)));
        }
        let keyed = if self.flags & FLAG_KEY != 0 {
            let key = std::str::from_utf8(key).map_err(|_| fail("key that is no text", end(rest)));
            Some(Keyed { key: key?, request: self.request_hash, reply })
        } else if key.is_empty() && reply.is_empty() {
            None
        } else {
            return Err(fail("a reply without a key", end(rest)));
        };
        Ok(Record { head: self.head, keyed, hash: self.hash, controls, ranges, bytes })
    }
}

/// How much of its commit a record of that format is.
fn part_of(format: u16, flags: u32, request: u64) -> Result<Part, RecordError> {
    let known = match format {
        FORMAT => FLAGS_ALL,
        FORMAT_PART => FLAGS_ALL | FLAGS_PART,
        _ => return Err(fail("unknown format version", FORMAT_AT)),
    };
    if flags & !known != 0 {
        return Err(fail("unknown flag", FLAGS_AT));
    }
    match (format, flags & FLAGS_PART, flags & FLAG_WHOLE) {
        (FORMAT, ..) => Ok(Part::Only),
        (_, _, 0) => Err(fail("a part of a change", FLAGS_AT)),
        (_, FLAG_MORE, _) => Ok(Part::More(request)),
        (_, FLAG_LAST, _) => Ok(Part::Last),
        _ => Err(fail("neither a part nor the last one", FLAGS_AT)),
    }
}

fn fail(what: &'static str, offset: usize) -> RecordError {
    RecordError { what, offset }
}

fn read_range(range: &[u8]) -> Option<(u64, usize)> {
    let (offset, length) = range.split_first_chunk::<8>()?;
    let length = u32::from_le_bytes(*length.first_chunk::<4>()?);
    Some((u64::from_le_bytes(*offset), usize::try_from(length).ok()?))
}

/// Fields of a header that is known to be long enough: missing bytes would read as zero.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        debug_assert!(at + N <= self.0.len());
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn hash(&self, at: usize) -> blake3::Hash {
        blake3::Hash::from_bytes(self.array(at))
    }

    fn count(&self, at: usize, max: usize) -> Result<usize, RecordError> {
        let count = usize::try_from(self.u32(at)).ok().filter(|&count| count <= max);
        count.ok_or_else(|| fail("too large a count", at))
    }

    fn length(&self, at: usize, max: usize) -> Result<usize, RecordError> {
        let length = usize::try_from(self.u64(at)).ok().filter(|&length| length <= max);
        length.ok_or_else(|| fail("too large a length", at))
    }
}

// What the table says.
const _: () = assert!(DAEMON_AT == 16);
const _: () = assert!(PREVIOUS_AT == 40);
const _: () = assert!(MEMORY_AT == 128);
const _: () = assert!(REQUEST_HASH_AT == 160);
const _: () = assert!(HEADER_BYTES == 208);
// Lengths inside the payload are 32-bit.
const _: () = assert!(PAYLOAD_BYTES_MAX < u32::MAX as usize);
// A header's length is 16-bit.
const _: () = assert!(HEADER_BYTES < u16::MAX as usize);

#[cfg(test)]
mod tests;
