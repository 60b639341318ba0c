//! Crash reports, kept for `history` and `replay`. They go straight into the tables: no commit ever
//! waits for one, since commits go into the log.

use std::ops::ControlFlow;

use redb::{ReadableTable, ReadableTableMetadata};

use super::base::{seal, unseal};
use super::store::{CRASHES, Store, fault};
use super::{FaultKind, JournalFault};
use crate::base::ids::RequestId;
use crate::base::limits::{CRASH_REPORT_BYTES_MAX, CRASH_REPORTS_MAX};
use crate::pure::record::Kind;

/// Commits of a daemon that are looked at: some are nobody's request.
const LAST_COMMITS: u64 = 4;

impl Store {
    /// Keeps crash reports under their ids, all or none, with one sync; the oldest go when there
    /// are too many.
    ///
    /// # Errors
    ///
    /// [`JournalFault`]; `Misuse` when one is too large.
    pub fn put_crashes(&self, reports: &[(RequestId, Vec<u8>)]) -> Result<(), JournalFault> {
        if let Some((id, report)) = reports.iter().find(|(_, r)| r.len() > CRASH_REPORT_BYTES_MAX) {
            let what = format!("crash report {id} has {} bytes", report.len());
            return Err(JournalFault::new(FaultKind::Misuse, what));
        }
        if reports.is_empty() {
            return Ok(());
        }
        self.at_tables(|| {
            let write = self.begin_write()?;
            {
                let mut crashes =
                    write.open_table(CRASHES).map_err(|error| fault(&error.into()))?;
                for (id, report) in reports {
                    let sealed = seal(report);
                    crashes
                        .insert(id.0, sealed.as_slice())
                        .map_err(|error| fault(&error.into()))?;
                }
                while crashes.len().map_err(|error| fault(&error.into()))? > CRASH_REPORTS_MAX {
                    crashes.pop_first().map_err(|error| fault(&error.into()))?;
                }
            }
            write.commit().map_err(|error| fault(&error.into()))
        })
    }

    /// The report of that id, if it is still kept.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when it is rotten.
    pub fn crash(&self, id: RequestId) -> Result<Option<Vec<u8>>, JournalFault> {
        self.at_tables_reading(|read| {
            let crashes = read.open_table(CRASHES).map_err(|error| fault(&error.into()))?;
            let Some(sealed) = crashes.get(id.0).map_err(|error| fault(&error.into()))? else {
                return Ok(None);
            };
            let report = unseal(sealed.value())
                .ok_or_else(|| JournalFault::corrupt(format!("crash report {id}: rotten")))?;
            Ok(Some(report.to_vec()))
        })
    }

    /// Shows the kept reports to `visit`, the newest first, until it breaks off. Rotten ones are
    /// passed over: [`Store::verify`] names them.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when the table can't be read.
    pub fn visit_crashes(
        &self,
        mut visit: impl FnMut(RequestId, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), JournalFault> {
        // What was shown is not shown again by a second try.
        let mut shown = u64::MAX;
        self.at_tables_reading(|read| {
            let crashes = read.open_table(CRASHES).map_err(|error| fault(&error.into()))?;
            for entry in crashes.iter().map_err(|error| fault(&error.into()))?.rev() {
                let (id, sealed) = entry.map_err(|error| fault(&error.into()))?;
                let Some(report) = unseal(sealed.value()).filter(|_| id.value() < shown) else {
                    continue;
                };
                shown = id.value();
                if visit(RequestId(id.value()), report).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The highest id of a request that left something here, as far as can be seen: in a report, or
    /// in one of a daemon's last commits. What can't be read is told of by whoever needs it.
    pub fn last_request(&self) -> RequestId {
        let reports = self.crash_ids().unwrap_or_default();
        let commits = self.daemons().into_iter().filter_map(|(_, row)| {
            let commits = self.commits(row.key, LAST_COMMITS).ok()?;
            commits
                .iter()
                .filter(|commit| commit.head.kind != Kind::Revert)
                .map(|c| c.head.request)
                .max()
        });
        commits.chain(reports).max().unwrap_or(RequestId(0))
    }

    /// The ids of all kept reports, ascending.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when the table can't be read.
    pub fn crash_ids(&self) -> Result<Vec<RequestId>, JournalFault> {
        self.at_tables_reading(|read| {
            let crashes = read.open_table(CRASHES).map_err(|error| fault(&error.into()))?;
            let mut ids = Vec::new();
            for entry in crashes.iter().map_err(|error| fault(&error.into()))? {
                ids.push(RequestId(entry.map_err(|error| fault(&error.into()))?.0.value()));
            }
            Ok(ids)
        })
    }
}
