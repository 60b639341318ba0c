//! Giving the space back that the tables' file doesn't need.
//!
//! The file grows when records are moved and folded, since pages are never changed in place, and it
//! keeps what it had. Compacting costs a reading and a writing of what is left, so it is done when
//! the file has become [`COMPACT_FACTOR`] times as large as that was the last time, or a daemon was
//! removed: at once when nothing else is to do, and otherwise when it is twice as large as that.
//!
//! While it goes on nobody uses the tables. Appends go on in the log, as far as that reaches.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::base::{seal, unseal};
use super::store::{META, Store, edge, fault, lock};
use super::{FaultKind, JournalFault};
use crate::base::limits::COMPACT_FACTOR;
use crate::pure::reader::Reader;

const COMPACTED_KEY: &str = "compacted";

/// Whether a file of so many bytes is to be compacted, which had `compacted` the last time; never
/// one of no more than `least`.
fn is_due(bytes: u64, compacted: u64, least: u64, idle: bool) -> bool {
    let most = compacted.saturating_mul(COMPACT_FACTOR).max(least);
    bytes > if idle { most } else { most.saturating_mul(2) }
}

impl Store {
    /// Bytes of the tables' file.
    #[must_use]
    pub fn tables_bytes(&self) -> u64 {
        lock(&self.state).as_ref().and_then(|state| state.len().ok()).unwrap_or(0)
    }

    /// See [`super::Journal::compact`].
    pub(super) fn compact_tables(&self, idle: bool) -> Result<bool, JournalFault> {
        let before = self.tables_bytes();
        let compacted = self.compacted.load(Ordering::Relaxed);
        if !is_due(before, compacted, self.options.compact_bytes_min, idle) {
            return Ok(false);
        }
        let _moving = lock(&self.moving);
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut place = lock(&self.database);
        let Some(database) = place.as_mut().and_then(Arc::get_mut) else { return Ok(false) };
        let compacted = edge(|| {
            database.compact().map_err(|error| fault(&error.into()))?;
            let write = database.begin_write().map_err(|error| fault(&error.into()))?;
            {
                let mut meta = write.open_table(META).map_err(|error| fault(&error.into()))?;
                let bytes = seal(&self.tables_bytes().to_le_bytes());
                meta.insert(COMPACTED_KEY, bytes.as_slice()).map_err(|e| fault(&e.into()))?;
            }
            write.commit().map_err(|error| fault(&error.into()))
        });
        drop(place);
        // Also when it failed: it is not tried again before the file has grown once more.
        let after = self.tables_bytes();
        self.compacted.store(after, Ordering::Relaxed);
        if let Err(fault) = compacted {
            if fault.kind != FaultKind::Corrupt {
                let mut inner = self.lock();
                inner.broken.get_or_insert_with(|| fault.clone().in_file(&self.path));
                self.show_refusal(&inner);
            }
            return Err(fault);
        }
        tracing::debug!(before, after, "the tables were compacted");
        Ok(true)
    }

    /// Bytes of the file after it was compacted the last time; 0 when it never was.
    pub(super) fn read_compacted(&self) -> Result<u64, JournalFault> {
        let read = self.begin_read()?;
        let meta = read.open_table(META).map_err(|error| fault(&error.into()))?;
        let bytes = meta.get(COMPACTED_KEY).map_err(|error| fault(&error.into()))?;
        // It decides when to work, and nothing else.
        let bytes = bytes.and_then(|bytes| Reader(unseal(bytes.value())?).u64());
        Ok(bytes.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::COMPACT_BYTES_MIN;

    #[test]
    fn it_is_due_when_the_file_has_grown_and_never_for_a_small_one() {
        let mib = |count: u64| count << 20;
        for (bytes, compacted, idle, due) in [
            (mib(64), 0, true, false),
            (mib(65), 0, true, true),
            (mib(65), 0, false, false),
            (mib(129), 0, false, true),
            (mib(199), mib(100), true, false),
            (mib(201), mib(100), true, true),
            (mib(399), mib(100), false, false),
            (mib(401), mib(100), false, true),
            (u64::MAX, u64::MAX, false, false),
        ] {
            let found = is_due(bytes, compacted, COMPACT_BYTES_MIN, idle);
            assert_eq!(found, due, "{bytes} {compacted} {idle}");
        }
    }
}
