//! Memory for copies of states: it counts against the limit as long as it is used.

use std::sync::PoisonError;

use super::{Root, RootError};
use crate::base::error::Fault;
use crate::base::ids::Sequence;
use crate::mechanisms::memory::Bill;

/// Memory that is counted until this is dropped.
#[must_use = "it is counted no longer than this lives"]
pub struct Lent<'a> {
    root: &'a Root,
    bytes: usize,
}

impl std::fmt::Debug for Lent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut bill = self.root.bill.write().unwrap_or_else(PoisonError::into_inner);
        bill.lent_bytes = bill.lent_bytes.saturating_sub(self.bytes);
    }
}

impl Root {
    /// Counts a copy of a daemon's state as it is now; or of one up to a commit, as the journal has
    /// them: a memory may have been larger than it is.
    ///
    /// # Errors
    ///
    /// `E_BUDGET` with the bill when there is no room for one; as [`Root::checkpoint`].
    pub fn lend_for(&self, name: &str, until: Option<Sequence>) -> Result<Lent<'_>, Fault> {
        let bytes = match (until, self.keeper(name)) {
            (None, Ok(running)) => running.gauges.report().memory_bytes,
            (until, _) => {
                let (store, key) = self.kept(name)?;
                store.largest_memory(key, until).map_err(|fault| Fault::from(&fault))?
            }
        };
        self.lend(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Counts so many bytes.
    ///
    /// # Errors
    ///
    /// As [`Root::lend_for`].
    pub fn lend(&self, bytes: usize) -> Result<Lent<'_>, Fault> {
        self.charge(|bill| bill.lent_bytes = bill.lent_bytes.saturating_add(bytes))
            .map_err(|error| Fault::from(&error))?;
        Ok(Lent { root: self, bytes })
    }

    /// Puts something on the bill, unless there is no room for it. Others see at once that it is
    /// taken.
    pub(super) fn charge(&self, put: impl FnOnce(&mut Bill)) -> Result<(), RootError> {
        let mut bill = self.bill.write().unwrap_or_else(PoisonError::into_inner);
        let mut with = bill.clone();
        put(&mut with);
        *bill = with.check()?;
        Ok(())
    }
}
