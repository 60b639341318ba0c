//! What a daemon shows others: a range of its guest's memory.
//!
//! The range is part of the committed state: two words, address and size, in the state area of the
//! guest's first core module, where the write barrier leaves room for them. So it is rolled back,
//! made durable, restored and copied like everything else, and what is shown follows from any
//! checkpoint.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::base::ids::Sequence;
use crate::base::limits::OUTPUT_BYTES_MAX;

/// Where the two words are in the state area: little endian, address first.
pub const SLOT: Range<usize> = 4..12;

/// What a transaction has seen of one daemon.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SeenOutput {
    /// The daemon.
    pub daemon: String,
    /// The commit that it showed; none when it showed nothing.
    pub sequence: Option<Sequence>,
}

/// A range that can't be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RangeError {
    /// Not all of it is memory.
    #[error("{size} bytes at {address:#x} are not all in the memory of {memory_bytes} bytes")]
    Outside {
        /// Where it begins.
        address: u32,
        /// Its bytes.
        size: u32,
        /// Bytes of the memory.
        memory_bytes: usize,
    },
    /// More than may be shown.
    #[error("{size} bytes are more than the {OUTPUT_BYTES_MAX} that a daemon may show")]
    TooLarge {
        /// Its bytes.
        size: u32,
    },
}

/// Whether a guest with so much memory may show this range. A size of 0 shows nothing.
///
/// # Errors
///
/// [`RangeError`].
pub fn check(address: u32, size: u32, memory_bytes: usize) -> Result<(), RangeError> {
    let bytes = usize::try_from(size).unwrap_or(usize::MAX);
    if bytes > OUTPUT_BYTES_MAX {
        return Err(RangeError::TooLarge { size });
    }
    let begin = usize::try_from(address).unwrap_or(usize::MAX);
    if begin.checked_add(bytes).is_none_or(|end| end > memory_bytes) {
        return Err(RangeError::Outside { address, size, memory_bytes });
    }
    Ok(())
}

/// Notes the range in a state area; false when it has no room, which no rewritten guest's lacks.
#[must_use]
pub fn write(state: &mut [u8], address: u32, size: u32) -> bool {
    let Some(slot) = state.get_mut(SLOT) else { return false };
    let words = (u64::from(size) << 32) | u64::from(address);
    slot.copy_from_slice(&words.to_le_bytes());
    true
}

/// The range in a state area, when it has one, of a memory of so many bytes.
#[must_use]
pub fn read(state: &[u8], memory_bytes: usize) -> Option<Range<usize>> {
    let (address, size) = state.get(SLOT)?.split_first_chunk::<4>()?;
    let (address, size) = (u32::from_le_bytes(*address), u32::from_le_bytes(*size.first_chunk()?));
    if size == 0 || check(address, size, memory_bytes).is_err() {
        return None;
    }
    let begin = usize::try_from(address).ok()?;
    Some(begin..begin + usize::try_from(size).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_outside_of_memory() {
        let most = u32::try_from(OUTPUT_BYTES_MAX).unwrap();
        let memory = 2 * OUTPUT_BYTES_MAX;
        let end = u32::try_from(memory).unwrap();
        for (address, size, shown) in [
            (0, 1, true),
            (16, most, true),
            (end - 1, 1, true),
            (end, 0, true),
            (end, 1, false),
            (end - most, most, true),
            (end - most + 1, most, false),
            (0, most + 1, false),
            (u32::MAX, u32::MAX, false),
            (u32::MAX, 1, false),
        ] {
            let mut state = [7; 16];
            assert!(write(&mut state, address, size));
            assert!(state[..4] == [7; 4] && state[12..] == [7; 4]);
            assert_eq!(check(address, size, memory).is_ok(), shown, "{size} at {address}");
            let begin = address as usize;
            let range = (shown && size > 0).then(|| begin..begin + size as usize);
            assert_eq!(read(&state, memory), range);
        }
        assert!(!write(&mut [0; 11], 1, 1));
        assert_eq!(read(&[0; 11], memory), None);
    }
}
