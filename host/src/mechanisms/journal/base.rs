//! Base images: a state as chunks, so that old records can go.
//!
//! A chunk that is all zero is not stored. Which chunks belong to a base is said by its head: the
//! newest version of each index up to the base's sequence; the head holds a hash over them all, so
//! that a missing one can't pass for zeros.
//!
//! ```text
//!  chunk:  checksum of the rest (32), LZ4 of 64 KiB (rest)
//!  head:   checksum of the rest (32), format (4), sequence (8), hash of that record (32),
//!          code (32), generation (8), time (8), memory bytes (8), chunks (8), hash over the
//!          chunks (32), kept answers (8), bytes of those (8), controls (4), per control: bytes
//!          (4) and those
//! ```

use super::JournalFault;
use crate::base::ids::Sequence;
use crate::base::limits::{BUDGET_MAX_BYTES, KEY_BYTES_MAX};
use crate::pure::keys::KeptAnswer;
use crate::pure::reader::Reader;
use crate::pure::record::{CONTROLS_MAX, HASH_BYTES};

/// Bytes of a chunk before compression.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Chunks of the largest image.
pub(super) const CHUNKS_MAX: u64 = (BUDGET_MAX_BYTES / CHUNK_BYTES) as u64;

const FORMAT: u32 = 1;

/// What a base says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct BaseHead {
    pub(super) sequence: Sequence,
    pub(super) hash: blake3::Hash,
    pub(super) code: [u8; HASH_BYTES],
    pub(super) generation: u64,
    pub(super) unix_nanos: u64,
    pub(super) memory_bytes: u64,
    pub(super) chunks: u64,
    pub(super) chunks_hash: blake3::Hash,
    pub(super) answers: u64,
    pub(super) answers_bytes: u64,
    pub(super) controls: Vec<Vec<u8>>,
}

impl BaseHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&FORMAT.to_le_bytes());
        body.extend_from_slice(&self.sequence.0.to_le_bytes());
        body.extend_from_slice(self.hash.as_bytes());
        body.extend_from_slice(&self.code);
        body.extend_from_slice(&self.generation.to_le_bytes());
        body.extend_from_slice(&self.unix_nanos.to_le_bytes());
        body.extend_from_slice(&self.memory_bytes.to_le_bytes());
        body.extend_from_slice(&self.chunks.to_le_bytes());
        body.extend_from_slice(self.chunks_hash.as_bytes());
        body.extend_from_slice(&self.answers.to_le_bytes());
        body.extend_from_slice(&self.answers_bytes.to_le_bytes());
        body.extend_from_slice(&length(self.controls.len()).to_le_bytes());
        for control in &self.controls {
            body.extend_from_slice(&length(control.len()).to_le_bytes());
            body.extend_from_slice(control);
        }
        seal(&body)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, JournalFault> {
        let mut reader = Reader(unseal(bytes).ok_or_else(|| bad("base: wrong checksum"))?);
        let head = Self::read(&mut reader).ok_or_else(|| bad("base: cut or unknown format"))?;
        if head.memory_bytes > BUDGET_MAX_BYTES as u64 || head.chunks > CHUNKS_MAX {
            return Err(bad("base: larger than any memory"));
        }
        Ok(head)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.u32()? != FORMAT {
            return None;
        }
        let mut head = Self {
            sequence: Sequence(reader.u64()?),
            hash: reader.hash()?,
            code: reader.array()?,
            generation: reader.u64()?,
            unix_nanos: reader.u64()?,
            memory_bytes: reader.u64()?,
            chunks: reader.u64()?,
            chunks_hash: reader.hash()?,
            answers: reader.u64()?,
            answers_bytes: reader.u64()?,
            controls: Vec::new(),
        };
        let controls =
            usize::try_from(reader.u32()?).ok().filter(|&count| count <= CONTROLS_MAX)?;
        for _ in 0..controls {
            head.controls.push(reader.counted()?.to_vec());
        }
        reader.0.is_empty().then_some(head)
    }
}

/// The hash over all chunks of a base, fed in the order of their indices.
#[derive(Debug, Default)]
pub(super) struct ChunksHash {
    hasher: blake3::Hasher,
    pub(super) count: u64,
}

impl ChunksHash {
    /// Takes a chunk as it is stored.
    pub(super) fn add(&mut self, index: u64, stored: &[u8]) {
        self.hasher.update(&index.to_le_bytes());
        self.hasher.update(stored.get(..HASH_BYTES).unwrap_or_default());
        self.count += 1;
    }

    pub(super) fn finish(&self) -> blake3::Hash {
        self.hasher.finalize()
    }
}

/// Packs a chunk of [`CHUNK_BYTES`]; `None` when all its bytes are zero.
pub(super) fn pack_chunk(chunk: &[u8]) -> Option<Vec<u8>> {
    debug_assert_eq!(chunk.len(), CHUNK_BYTES);
    if chunk.iter().all(|&byte| byte == 0) {
        return None;
    }
    Some(seal(&lz4_flex::block::compress(chunk)))
}

/// Unpacks a chunk into `chunk`, which gets [`CHUNK_BYTES`].
pub(super) fn unpack_chunk(stored: &[u8], chunk: &mut Vec<u8>) -> Result<(), JournalFault> {
    let packed = unseal(stored).ok_or_else(|| bad("base chunk: wrong checksum"))?;
    chunk.resize(CHUNK_BYTES, 0);
    match lz4_flex::block::decompress_into(packed, chunk) {
        Ok(CHUNK_BYTES) => Ok(()),
        _ => Err(bad("base chunk: does not decompress")),
    }
}

/// Packs an answer that outlives its record.
pub(super) fn pack_answer(key: &str, answer: &KeptAnswer) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(answer.request.as_bytes());
    body.extend_from_slice(&answer.sequence.0.to_le_bytes());
    body.extend_from_slice(&answer.attempts.to_le_bytes());
    for part in [key.as_bytes(), &answer.value] {
        body.extend_from_slice(&length(part.len()).to_le_bytes());
        body.extend_from_slice(part);
    }
    seal(&body)
}

/// Unpacks an answer.
pub(super) fn unpack_answer(stored: &[u8]) -> Result<(String, KeptAnswer), JournalFault> {
    let read = |body| {
        let mut reader = Reader(body);
        let request = reader.hash()?;
        let sequence = Sequence(reader.u64()?);
        let attempts = reader.u32()?;
        let key = std::str::from_utf8(reader.counted()?).ok()?;
        let value = reader.counted()?.to_vec();
        let good = key.len() <= KEY_BYTES_MAX && reader.0.is_empty();
        good.then(|| (key.to_owned(), KeptAnswer { request, value, sequence, attempts }))
    };
    unseal(stored).and_then(read).ok_or_else(|| bad("kept answer: wrong checksum or cut"))
}

/// Puts the checksum before `body`.
pub(super) fn seal(body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HASH_BYTES + body.len());
    sealed.extend_from_slice(blake3::hash(body).as_bytes());
    sealed.extend_from_slice(body);
    sealed
}

/// Compares the checksum and returns the body.
pub(super) fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (check, body) = sealed.split_first_chunk::<HASH_BYTES>()?;
    (blake3::hash(body) == *check).then_some(body)
}

fn bad(what: &str) -> JournalFault {
    JournalFault::corrupt(what)
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
