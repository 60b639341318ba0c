//! Writes records into buffers that are used again and again.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use super::{
    CONTROLS_MAX, FLAG_KEY, FLAG_LAST, FLAG_LZ4, FLAG_MORE, FLAG_WHOLE, FORMAT, FORMAT_PART,
    HASH_BYTES, HEADER_BYTES, Head, Keyed, MAGIC, PAYLOAD_BYTES_AT, PAYLOAD_BYTES_MAX, Part,
    RECORD_BYTES_MIN,
};
use crate::pure::delta::Delta;

/// Payloads below this many bytes are not compressed: it costs more time than hashing them, and a
/// group of the log takes whole blocks anyway.
const LZ4_BYTES_MIN: usize = 512;

/// Inputs below this many bytes may use the compressor's small table.
const SMALL_TABLE_BYTES_MAX: usize = u16::MAX as usize - 1;

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The header's fields.
    pub head: Head,
    /// The key, if the request had one.
    pub keyed: Option<Keyed<'a>>,
    /// The state area of each control memory.
    pub controls: &'a [&'a [u8]],
    /// What changed.
    pub delta: &'a Delta,
}

/// A commit that no record can hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// It changed too much.
    #[error("the commit changes {bytes} bytes; a record holds {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Bytes of its payload.
        bytes: usize,
    },
    /// More control memories than a guest may have.
    #[error("{count} control memories; a record holds {CONTROLS_MAX}")]
    Controls {
        /// How many.
        count: usize,
    },
}

/// Encodes records; keeps its buffers, so that it stops allocating once it has seen the largest.
pub struct Encoder {
    pub(super) payload: Vec<u8>,
    pub(super) packed: Vec<u8>,
    small: CompressTable,
    large: CompressTable,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("payload", &self.payload.capacity()).finish_non_exhaustive()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            payload: Vec::new(),
            packed: Vec::new(),
            small: CompressTable::small(),
            large: CompressTable::large(),
        }
    }

    /// Appends the record of `draft` to `out`, and returns its checksum, which the next record
    /// has to name.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; `out` is then unchanged.
    pub fn encode(
        &mut self,
        draft: &Draft<'_>,
        out: &mut Vec<u8>,
    ) -> Result<blake3::Hash, EncodeError> {
        let sizes = Sizes::of(draft)?;
        self.fill_payload(draft);
        debug_assert_eq!(self.payload.len(), sizes.payload);
        let packed = self.pack();
        let stored = packed.and_then(|length| self.packed.get(..length));
        let mut flags = if stored.is_some() { FLAG_LZ4 } else { 0 };
        if draft.head.whole {
            flags |= FLAG_WHOLE;
        }
        if draft.keyed.is_some() {
            flags |= FLAG_KEY;
        }
        flags |= match draft.head.part {
            Part::Only => 0,
            Part::More(_) => FLAG_MORE,
            Part::Last => FLAG_LAST,
        };
        let stored = stored.unwrap_or(&self.payload);
        let start = out.len();
        out.reserve(stored.len() + RECORD_BYTES_MIN);
        write_header(draft, &sizes, flags, out);
        out.extend_from_slice(&(self.payload.len() as u64).to_le_bytes());
        out.extend_from_slice(&(stored.len() as u64).to_le_bytes());
        debug_assert_eq!(out.len() - start, HEADER_BYTES);
        out.extend_from_slice(stored);
        let hash = blake3::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(hash.as_bytes());
        Ok(hash)
    }

    fn fill_payload(&mut self, draft: &Draft<'_>) {
        let payload = &mut self.payload;
        payload.clear();
        for control in draft.controls {
            payload.extend_from_slice(&length(control.len()).to_le_bytes());
            payload.extend_from_slice(control);
        }
        for (offset, bytes) in draft.delta.runs() {
            payload.extend_from_slice(&offset.to_le_bytes());
            payload.extend_from_slice(&length(bytes.len()).to_le_bytes());
        }
        if let Some(keyed) = &draft.keyed {
            payload.extend_from_slice(keyed.key.as_bytes());
            payload.extend_from_slice(keyed.reply);
        }
        payload.extend_from_slice(draft.delta.bytes());
    }

    /// Compresses the payload; `None` when that doesn't make it smaller.
    fn pack(&mut self) -> Option<usize> {
        if self.payload.len() < LZ4_BYTES_MIN {
            return None;
        }
        let enough = get_maximum_output_size(self.payload.len());
        if self.packed.len() < enough {
            self.packed.resize(enough, 0);
        }
        let small = self.payload.len() < SMALL_TABLE_BYTES_MAX;
        let table = if small { &mut self.small } else { &mut self.large };
        let length = compress_into_with_table(&self.payload, &mut self.packed, table).ok()?;
        (length < self.payload.len()).then_some(length)
    }
}

struct Sizes {
    payload: usize,
    key: usize,
    reply: usize,
}

impl Sizes {
    fn of(draft: &Draft<'_>) -> Result<Self, EncodeError> {
        let count = draft.controls.len();
        if count > CONTROLS_MAX {
            return Err(EncodeError::Controls { count });
        }
        let controls = draft
            .controls
            .iter()
            .fold(0_usize, |sum, control| sum.saturating_add(control.len() + 4));
        let (key, reply) = draft.keyed.map_or((0, 0), |keyed| (keyed.key.len(), keyed.reply.len()));
        let payload = [key, reply, draft.delta.runs_count().saturating_mul(super::RANGE_BYTES)]
            .into_iter()
            .fold(controls.saturating_add(draft.delta.bytes().len()), usize::saturating_add);
        if payload > PAYLOAD_BYTES_MAX {
            return Err(EncodeError::TooLarge { bytes: payload });
        }
        Ok(Self { payload, key, reply })
    }
}

/// Everything up to the lengths of the payload.
fn write_header(draft: &Draft<'_>, sizes: &Sizes, flags: u32, out: &mut Vec<u8>) {
    let start = out.len();
    let head = &draft.head;
    out.extend_from_slice(&MAGIC);
    let format = if head.part == Part::Only { FORMAT } else { FORMAT_PART };
    out.extend_from_slice(&format.to_le_bytes());
    out.extend_from_slice(&HEADER_LENGTH.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&[head.kind.byte(), 0, 0, 0]);
    out.extend_from_slice(&head.daemon.to_le_bytes());
    out.extend_from_slice(&head.fence.to_le_bytes());
    out.extend_from_slice(&head.sequence.0.to_le_bytes());
    out.extend_from_slice(head.previous.as_bytes());
    out.extend_from_slice(&head.code);
    let request = if let Part::More(number) = head.part { number } else { head.request.0 };
    out.extend_from_slice(&request.to_le_bytes());
    out.extend_from_slice(&head.unix_nanos.to_le_bytes());
    out.extend_from_slice(&head.generation.0.to_le_bytes());
    out.extend_from_slice(&head.memory_bytes.to_le_bytes());
    out.extend_from_slice(&head.attempts.to_le_bytes());
    out.extend_from_slice(&length(draft.controls.len()).to_le_bytes());
    out.extend_from_slice(&length(draft.delta.runs_count()).to_le_bytes());
    out.extend_from_slice(&length(sizes.key).to_le_bytes());
    out.extend_from_slice(&length(sizes.reply).to_le_bytes());
    let contract = head.contract.map_or(0, |contract| contract.saturating_add(1));
    out.extend_from_slice(&contract.to_le_bytes());
    let request = draft.keyed.map_or([0; HASH_BYTES], |keyed| *keyed.request.as_bytes());
    out.extend_from_slice(&request);
    debug_assert_eq!(out.len() - start, PAYLOAD_BYTES_AT);
}

#[expect(clippy::cast_possible_truncation, reason = "asserted beside its definition")]
const HEADER_LENGTH: u16 = HEADER_BYTES as u16;

/// Lengths are below [`PAYLOAD_BYTES_MAX`], as [`Sizes::of`] has checked.
fn length(bytes: usize) -> u32 {
    debug_assert!(bytes <= PAYLOAD_BYTES_MAX);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
