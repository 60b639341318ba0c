//! The bytes of one group in the log.
//!
//! ```text
//!  offset  bytes  field
//!       0      8  magic "BKGROUP1"
//!       8     16  id of the directory: frames of another log are none
//!      24      8  number: grows by one per group and is never given twice
//!      32      8  position: bytes of log before it, all laps counted
//!      40      8  bytes of this frame
//!      48      4  records
//!      52      4  zero
//!      56     32  checksum of the group before
//!      88         per record its bytes (4), then those
//!       +     32  checksum: BLAKE3 of everything before it
//! ```
//!
//! A frame begins on a block and fills its last one with zeros: no write ever touches a block that
//! holds something acknowledged.

use super::super::{DirectoryId, Entry};
use crate::pure::record::HASH_BYTES;

/// Frames begin at multiples of this many bytes: a page, so that the system never has to read
/// before it writes, and at least a sector of any disk.
pub(in super::super) const BLOCK_BYTES: u64 = 4096;

/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 88;

/// Bytes beside the records themselves.
const FRAME_BYTES_MIN: usize = HEADER_BYTES + HASH_BYTES;

const MAGIC: [u8; 8] = *b"BKGROUP1";

/// Where a group is, or would be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) struct Cursor {
    /// The group's number.
    pub(in super::super) number: u64,
    /// Bytes of log before it, all laps counted.
    pub(in super::super) position: u64,
    /// Checksum of the group before.
    pub(in super::super) previous: blake3::Hash,
}

/// What a frame's header says. Nothing is checked but its form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) at: Cursor,
    pub(super) frame_bytes: u64,
}

impl Header {
    /// The header in these bytes, if they hold one of that log.
    pub(super) fn read(bytes: &[u8], id: DirectoryId) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (log, rest) = rest.split_first_chunk::<16>()?;
        if *magic != MAGIC || *log != id.0.to_le_bytes() {
            return None;
        }
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (position, rest) = rest.split_first_chunk::<8>()?;
        let (frame_bytes, rest) = rest.split_first_chunk::<8>()?;
        let (_, rest) = rest.split_first_chunk::<8>()?;
        let at = Cursor {
            number: u64::from_le_bytes(*number),
            position: u64::from_le_bytes(*position),
            previous: blake3::Hash::from_bytes(*rest.first_chunk()?),
        };
        Some(Self { at, frame_bytes: u64::from_le_bytes(*frame_bytes) })
    }
}

/// Bytes of the frame that holds these entries, its last block filled.
pub(super) fn frame_bytes(entries: &[Entry<'_>]) -> u64 {
    let records = entries.iter().map(|entry| 4 + entry.record.len() as u64);
    let bytes = records.fold(FRAME_BYTES_MIN as u64, u64::saturating_add);
    bytes.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// Writes the frame of `entries` into `out`, whole blocks, and returns its checksum.
pub(super) fn encode(
    id: DirectoryId,
    at: Cursor,
    entries: &[Entry<'_>],
    out: &mut Vec<u8>,
) -> blake3::Hash {
    out.clear();
    let records: usize = entries.iter().map(|entry| 4 + entry.record.len()).sum();
    let bytes = FRAME_BYTES_MIN + records;
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&at.number.to_le_bytes());
    out.extend_from_slice(&at.position.to_le_bytes());
    out.extend_from_slice(&(bytes as u64).to_le_bytes());
    out.extend_from_slice(&length(entries.len()).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(at.previous.as_bytes());
    debug_assert_eq!(out.len(), HEADER_BYTES);
    for entry in entries {
        out.extend_from_slice(&length(entry.record.len()).to_le_bytes());
        out.extend_from_slice(entry.record);
    }
    let hash = blake3::hash(out);
    out.extend_from_slice(hash.as_bytes());
    debug_assert_eq!(out.len(), bytes);
    let block = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
    out.resize(bytes.next_multiple_of(block), 0);
    hash
}

/// The records of a whole frame, and its checksum; `None` when it isn't what was written at `at`.
pub(super) fn decode(
    bytes: &[u8],
    id: DirectoryId,
    at: Cursor,
) -> Option<(Vec<&[u8]>, blake3::Hash)> {
    let header = Header::read(bytes, id)?;
    let length = usize::try_from(header.frame_bytes).ok()?;
    let frame = bytes.get(..length).filter(|_| header.at == at)?;
    let (checked, hash) = frame.split_last_chunk::<HASH_BYTES>()?;
    let hash = blake3::Hash::from_bytes(*hash);
    if blake3::hash(checked) != hash {
        return None;
    }
    let count = checked.get(HEADER_BYTES - HASH_BYTES - 8..)?.first_chunk::<4>()?;
    let mut rest = checked.get(HEADER_BYTES..)?;
    let mut records = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (record, after) = after.split_at_checked(length)?;
        records.push(record);
        rest = after;
    }
    rest.is_empty().then_some((records, hash))
}

/// A record is at most as long as a payload may be, far below 4 GiB.
fn length(bytes: usize) -> u32 {
    debug_assert!(u32::try_from(bytes).is_ok());
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
