//! Crash reports, kept for `history` and `replay`.

use redb::{ReadableTable, ReadableTableMetadata};

use super::base::{seal, unseal};
use super::store::{CRASHES, Store, fault};
use super::{FaultKind, JournalFault};

/// Reports that are kept, the oldest dropped first.
const CRASHES_MAX: u64 = 1000;

/// Bytes of a report.
const CRASH_BYTES_MAX: usize = 1 << 20;

impl Store {
    /// Keeps a crash report, JSON, and returns its id. Ids grow and are never reused.
    ///
    /// # Errors
    ///
    /// [`JournalFault`].
    pub fn put_crash(&self, report: &[u8]) -> Result<u64, JournalFault> {
        if report.len() > CRASH_BYTES_MAX {
            let what = format!("a crash report of {} bytes", report.len());
            return Err(JournalFault::new(FaultKind::Misuse, what));
        }
        self.at_tables(|| {
            let write = self.begin_write()?;
            let id = {
                let mut crashes =
                    write.open_table(CRASHES).map_err(|error| fault(&error.into()))?;
                let last = crashes.last().map_err(|error| fault(&error.into()))?;
                let id = last.map_or(1, |(id, _)| id.value().saturating_add(1));
                let sealed = seal(report);
                crashes.insert(id, sealed.as_slice()).map_err(|error| fault(&error.into()))?;
                if crashes.len().map_err(|error| fault(&error.into()))? > CRASHES_MAX {
                    crashes.pop_first().map_err(|error| fault(&error.into()))?;
                }
                id
            };
            write.commit().map_err(|error| fault(&error.into()))?;
            Ok(id)
        })
    }

    /// The report of that id, if it is still kept.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when it is rotten.
    pub fn crash(&self, id: u64) -> Result<Option<Vec<u8>>, JournalFault> {
        self.at_tables(|| {
            let read = self.begin_read()?;
            let crashes = read.open_table(CRASHES).map_err(|error| fault(&error.into()))?;
            let Some(sealed) = crashes.get(id).map_err(|error| fault(&error.into()))? else {
                return Ok(None);
            };
            let report = unseal(sealed.value())
                .ok_or_else(|| JournalFault::corrupt(format!("crash report {id}: rotten")))?;
            Ok(Some(report.to_vec()))
        })
    }

    /// The ids of all kept reports, ascending.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when the table can't be read.
    pub fn crash_ids(&self) -> Result<Vec<u64>, JournalFault> {
        self.at_tables(|| {
            let read = self.begin_read()?;
            let crashes = read.open_table(CRASHES).map_err(|error| fault(&error.into()))?;
            let mut ids = Vec::new();
            for entry in crashes.iter().map_err(|error| fault(&error.into()))? {
                ids.push(entry.map_err(|error| fault(&error.into()))?.0.value());
            }
            Ok(ids)
        })
    }
}
