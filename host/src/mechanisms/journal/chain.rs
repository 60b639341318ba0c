//! The chain of a daemon's records: what the next one must be.
//!
//! ```text
//!  commit 3 <--- commit 4, part 0 <--- part 1 <--- last part <--- commit 5
//! ```
//!
//! A state in parts that was not brought to its end is begun again with its first one, or given up:
//! the next commit names the one before it.

use super::DaemonKey;
use super::hints::Hint;
use crate::base::ids::Sequence;
use crate::base::limits::BUDGET_MAX_BYTES;
use crate::pure::record::{HASH_BYTES, Head, Part};

/// Where a daemon's records end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Chain {
    /// The last commit; `None` before the first.
    pub(super) last: Option<Hint>,
    /// The last part after it, by number and checksum, of a commit that isn't whole yet.
    part: Option<(u64, blake3::Hash)>,
}

impl Chain {
    /// A chain that ends with a commit.
    pub(super) fn at(last: Option<Hint>) -> Self {
        Self { last, part: None }
    }

    /// Takes the next record, with its checksum, which is to be this daemon's commit `sequence`.
    ///
    /// # Errors
    ///
    /// Why it isn't the next one; then the chain is what it was.
    pub(super) fn take(
        &mut self,
        daemon: DaemonKey,
        sequence: Sequence,
        head: &Head,
        hash: blake3::Hash,
    ) -> Result<(), &'static str> {
        if head.daemon != daemon.0 {
            return Err("record of another daemon");
        }
        if head.sequence != sequence {
            return Err("record of another commit");
        }
        if head.memory_bytes > BUDGET_MAX_BYTES as u64 {
            return Err("record of a memory that can't be");
        }
        let (next, before) = match self.last {
            Some(last) => (last.sequence.next(), last.hash),
            None => (Sequence(0), blake3::Hash::from_bytes([0; HASH_BYTES])),
        };
        if sequence != next {
            return Err("records before it are missing");
        }
        let previous = match (head.part, self.part) {
            (Part::Only | Part::More(0), _) => before,
            (Part::More(number), Some((part, hash))) if part.checked_add(1) == Some(number) => hash,
            (Part::Last, Some((_, hash))) => hash,
            (Part::More(_) | Part::Last, _) => return Err("parts before it are missing"),
        };
        if head.previous != previous {
            return Err("record that does not follow the one before");
        }
        if self.last.is_none() && !head.whole {
            return Err("first record without a whole state");
        }
        *self = match head.part {
            Part::More(number) => Self { part: Some((number, hash)), ..*self },
            Part::Only | Part::Last => Self::at(Some(Hint { sequence, hash })),
        };
        Ok(())
    }
}
