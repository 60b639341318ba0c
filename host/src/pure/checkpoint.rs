//! A checkpoint: a committed state with what is known of it; and its form as a file, a snapshot.
//!
//! ```text
//!  snapshot: magic "BKSN" (4), format (4), name: bytes (4) and those, sequence (8), generation (8),
//!            time (8), digest of the code (32), memory bytes (8), controls (4), per control: bytes
//!            (4) and those, chunks (8), per chunk: index (8), bytes (4), LZ4 of 64 KiB;
//!            bytes of the code (4) and those; BLAKE3 of everything before (32)
//! ```
//!
//! Chunks ascend; one that is all zero is left out.

use std::convert::Infallible;

use crate::base::error::printable;
use crate::base::ids::{Generation, Sequence};
use crate::base::limits::{BUDGET_MAX_BYTES, MODULE_BYTES_MAX};
use crate::pure::reader::Reader;
use crate::pure::record::{CONTROLS_MAX, HASH_BYTES};

const MAGIC: [u8; 4] = *b"BKSN";

/// The only format of snapshots that this host reads and writes.
pub const SNAPSHOT_FORMAT: u32 = 1;

/// Bytes of memory that are packed together.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes of a daemon's name.
const NAME_BYTES_MAX: usize = 64;

/// A committed state, apart from any daemon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The daemon that it was taken of.
    pub daemon: String,
    /// The commit.
    pub sequence: Sequence,
    /// Generation of the instance that made it.
    pub generation: Generation,
    /// When it was committed; nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// Digest of the code that made it, and that alone can go on with it.
    pub code: [u8; HASH_BYTES],
    /// The guest's memory.
    pub memory: Vec<u8>,
    /// The globals of each core module.
    pub controls: Vec<Vec<u8>>,
}

impl Checkpoint {
    /// BLAKE3 over size, bytes and globals: equal hashes, equal states.
    #[must_use]
    pub fn hash(&self) -> blake3::Hash {
        state_hash(&self.memory, self.controls.iter().map(Vec::as_slice))
    }

    /// What is said of it to people.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts {
            daemon: self.daemon.clone(),
            sequence: self.sequence,
            unix_nanos: self.unix_nanos,
            code: self.code,
            memory_bytes: self.memory.len(),
            hash: self.hash(),
        }
    }

    /// The range of its memory that the daemon shows others, if it shows one.
    #[must_use]
    pub fn output(&self) -> Option<std::ops::Range<usize>> {
        super::output::read(self.controls.first()?, self.memory.len())
    }
}

/// What is said of a checkpoint to people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The daemon that it was taken of.
    pub daemon: String,
    /// The commit.
    pub sequence: Sequence,
    /// When it was committed; nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// Digest of the code that made it.
    pub code: [u8; HASH_BYTES],
    /// Bytes of the guest's memory.
    pub memory_bytes: usize,
    /// Hash of the state.
    pub hash: blake3::Hash,
}

/// BLAKE3 over the size of a memory, its bytes, and the globals of each core module.
#[must_use]
pub fn state_hash<'a>(memory: &[u8], states: impl Iterator<Item = &'a [u8]>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(memory.len() as u64).to_le_bytes());
    hasher.update(memory);
    for state in states {
        hasher.update(&(state.len() as u64).to_le_bytes());
        hasher.update(state);
    }
    hasher.finalize()
}

/// Bytes that are no snapshot.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// Another kind of file.
    #[error("not a snapshot")]
    Foreign,
    /// Made by a host of another format.
    #[error("a snapshot of format {0}; this host reads format {SNAPSHOT_FORMAT}")]
    Format(u32),
    /// Not the bytes that were written.
    #[error("the snapshot is damaged: {0}")]
    Corrupt(&'static str),
}

/// A snapshot's file: the checkpoint, with the code that made it.
#[must_use]
pub fn encode_snapshot(checkpoint: &Checkpoint, code: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let Ok(()) = encode_snapshot_to::<Infallible>(checkpoint, code, |piece| {
        file.extend_from_slice(piece);
        Ok(())
    });
    file
}

/// The same, handed to `write` piece by piece: none is much larger than a chunk, but the code.
///
/// # Errors
///
/// The first that `write` answers.
pub fn encode_snapshot_to<E>(
    checkpoint: &Checkpoint,
    code: &[u8],
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut hasher = blake3::Hasher::new();
    let mut emit = |piece: &mut Vec<u8>| {
        hasher.update(piece);
        let written = write(piece);
        piece.clear();
        written
    };
    let mut piece = head(checkpoint);
    let chunks = || {
        let chunks = (0_u64..).zip(checkpoint.memory.chunks(CHUNK_BYTES));
        chunks.filter(|(_, chunk)| chunk.iter().any(|&byte| byte != 0))
    };
    piece.extend_from_slice(&(chunks().count() as u64).to_le_bytes());
    emit(&mut piece)?;
    let mut padded = Vec::with_capacity(CHUNK_BYTES);
    for (index, chunk) in chunks() {
        padded.clear();
        padded.extend_from_slice(chunk);
        padded.resize(CHUNK_BYTES, 0);
        piece.extend_from_slice(&index.to_le_bytes());
        counted(&mut piece, &lz4_flex::block::compress(&padded));
        emit(&mut piece)?;
    }
    piece.extend_from_slice(&length(code.len()).to_le_bytes());
    emit(&mut piece)?;
    hasher.update(code);
    write(code)?;
    write(hasher.finalize().as_bytes())
}

/// All that is before the number of chunks.
fn head(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&SNAPSHOT_FORMAT.to_le_bytes());
    counted(&mut file, checkpoint.daemon.as_bytes());
    let Checkpoint { sequence, generation, unix_nanos, .. } = *checkpoint;
    for number in [sequence.0, generation.0, unix_nanos] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&checkpoint.code);
    file.extend_from_slice(&(checkpoint.memory.len() as u64).to_le_bytes());
    file.extend_from_slice(&length(checkpoint.controls.len()).to_le_bytes());
    for control in &checkpoint.controls {
        counted(&mut file, control);
    }
    file
}

/// Reads a snapshot's file: the checkpoint and the code.
///
/// # Errors
///
/// [`SnapshotError`] for anything but the bytes that [`encode_snapshot`] made.
pub fn decode_snapshot(file: &[u8]) -> Result<(Checkpoint, &[u8]), SnapshotError> {
    Packed::check(file)?.unpack()
}

/// A snapshot's file with the right checksum, whose state is still packed: a small file may hold a
/// large one.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    body: &'a [u8],
    bytes: usize,
}

impl<'a> Packed<'a> {
    /// Looks at a file.
    ///
    /// # Errors
    ///
    /// As [`decode_snapshot`].
    pub fn check(file: &'a [u8]) -> Result<Self, SnapshotError> {
        let mut reader = Reader(file);
        if reader.array() != Some(MAGIC) {
            return Err(SnapshotError::Foreign);
        }
        match reader.u32() {
            Some(SNAPSHOT_FORMAT) => {}
            Some(format) => return Err(SnapshotError::Format(format)),
            None => return Err(SnapshotError::Corrupt("it is cut")),
        }
        let Some((body, hash)) = file.split_last_chunk::<HASH_BYTES>() else {
            return Err(SnapshotError::Corrupt("it is cut"));
        };
        if blake3::hash(body) != *hash {
            return Err(SnapshotError::Corrupt("wrong checksum, or it is cut"));
        }
        let body = body.get(8..).unwrap_or_default();
        let head = Head::read(&mut Reader(body)).ok_or(OUT_OF_RANGE)?;
        let controls = head.controls.iter().map(|control| control.len()).sum::<usize>();
        Ok(Self { body, bytes: head.memory_bytes.saturating_add(controls) })
    }

    /// Bytes of the state.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The checkpoint, in memory of its own, and the code.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Corrupt`] for a field out of range.
    pub fn unpack(&self) -> Result<(Checkpoint, &'a [u8]), SnapshotError> {
        let mut reader = Reader(self.body);
        read(&mut reader).filter(|_| reader.0.is_empty()).ok_or(OUT_OF_RANGE)
    }
}

const OUT_OF_RANGE: SnapshotError = SnapshotError::Corrupt("a field is out of range");

/// All that is before the number of chunks.
struct Head<'a> {
    daemon: String,
    sequence: Sequence,
    generation: Generation,
    unix_nanos: u64,
    code: [u8; HASH_BYTES],
    memory_bytes: usize,
    controls: Vec<&'a [u8]>,
}

impl<'a> Head<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let name = reader.counted().filter(|name| name.len() <= NAME_BYTES_MAX)?;
        let daemon = printable(std::str::from_utf8(name).ok()?, NAME_BYTES_MAX);
        let sequence = reader.sequence()?;
        let generation = Generation(reader.u64()?);
        let unix_nanos = reader.u64()?;
        let code = reader.array()?;
        let memory_bytes = reader.u64()?;
        let memory_bytes = usize::try_from(memory_bytes).ok().filter(|&b| b <= BUDGET_MAX_BYTES)?;
        let count = usize::try_from(reader.u32()?).ok().filter(|&count| count <= CONTROLS_MAX)?;
        let controls = (0..count).map(|_| reader.counted()).collect::<Option<_>>()?;
        Some(Self { daemon, sequence, generation, unix_nanos, code, memory_bytes, controls })
    }
}

fn read<'a>(reader: &mut Reader<'a>) -> Option<(Checkpoint, &'a [u8])> {
    let head = Head::read(reader)?;
    let mut memory = vec![0; head.memory_bytes];
    let mut next = 0;
    for _ in 0..reader.u64()? {
        let index = usize::try_from(reader.u64()?).ok().filter(|&index| index >= next)?;
        next = index + 1;
        read_chunk(reader.counted()?, index, &mut memory)?;
    }
    let file = reader.counted().filter(|code| code.len() <= MODULE_BYTES_MAX)?;
    let Head { daemon, sequence, generation, unix_nanos, code, .. } = head;
    if blake3::hash(file) != code {
        return None;
    }
    let controls = head.controls.iter().map(|control| control.to_vec()).collect();
    let checkpoint =
        Checkpoint { daemon, sequence, generation, unix_nanos, code, memory, controls };
    Some((checkpoint, file))
}

fn read_chunk(packed: &[u8], index: usize, memory: &mut [u8]) -> Option<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let length = lz4_flex::block::decompress_into(packed, &mut chunk).ok()?;
    let start = index.checked_mul(CHUNK_BYTES)?;
    let place = memory.get_mut(start..)?;
    let inside = place.len().min(CHUNK_BYTES);
    place.get_mut(..inside)?.copy_from_slice(chunk.get(..inside)?);
    let rest_is_zero = chunk.get(inside..)?.iter().all(|&byte| byte == 0);
    (length == CHUNK_BYTES && rest_is_zero).then_some(())
}

fn counted(file: &mut Vec<u8>, bytes: &[u8]) {
    file.extend_from_slice(&length(bytes.len()).to_le_bytes());
    file.extend_from_slice(bytes);
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(memory_bytes: usize) -> (Checkpoint, Vec<u8>) {
        let code = b"some code".to_vec();
        let mut memory = vec![0; memory_bytes];
        for (at, byte) in memory.iter_mut().enumerate().filter(|(at, _)| at % 70_001 < 300) {
            *byte = u8::try_from(at % 251).unwrap();
        }
        let checkpoint = Checkpoint {
            daemon: "ledger".to_owned(),
            sequence: Sequence(7),
            generation: Generation(3),
            unix_nanos: 9,
            code: *blake3::hash(&code).as_bytes(),
            memory,
            controls: vec![vec![1, 2, 3], Vec::new()],
        };
        (checkpoint, code)
    }

    #[test]
    fn a_snapshot_holds_its_checkpoint() {
        for memory_bytes in [0, 1, CHUNK_BYTES, 5 * CHUNK_BYTES, 300_001] {
            let (checkpoint, code) = checkpoint(memory_bytes);
            let file = encode_snapshot(&checkpoint, &code);
            let packed = Packed::check(&file).unwrap();
            assert_eq!(packed.bytes(), memory_bytes + 3, "its memory and its controls");
            let (found, found_code) = decode_snapshot(&file).unwrap();
            assert_eq!(found.hash(), checkpoint.hash());
            assert!(found == checkpoint && found_code == code, "{memory_bytes} bytes");
        }
    }

    #[test]
    fn any_flipped_byte_and_any_cut_is_found() {
        let (checkpoint, code) = checkpoint(100_000);
        let file = encode_snapshot(&checkpoint, &code);
        for at in 0..file.len() {
            let mut rotten = file.clone();
            rotten[at] ^= 1 << (at % 8);
            assert!(decode_snapshot(&rotten).is_err(), "byte {at}");
            assert!(decode_snapshot(&file[..at]).is_err(), "cut at {at}");
        }
        let mut longer = file;
        longer.push(0);
        assert!(decode_snapshot(&longer).is_err());
    }

    /// Fields out of range behind a right checksum: nobody but a forger writes them.
    #[test]
    fn a_forged_snapshot_is_refused_without_harm() {
        let (checkpoint, code) = checkpoint(100_000);
        let file = encode_snapshot(&checkpoint, &code);
        let body = file.len() - HASH_BYTES;
        for at in 8..body.min(400) {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut forged = file[..body].to_vec();
                forged[at] = byte;
                let hash = blake3::hash(&forged);
                forged.extend_from_slice(hash.as_bytes());
                // Some bytes may be anything; none may panic or allocate without bounds.
                drop(decode_snapshot(&forged));
            }
        }
    }
}
