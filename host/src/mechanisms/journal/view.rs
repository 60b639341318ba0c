//! Reading while the tables can't be used: from what the disk holds, with nothing written to it.

use std::sync::{Arc, PoisonError};

use super::JournalFault;
use super::options::StoreOptions;
use super::store::{Store, closed, lock};

impl Store {
    /// Reads something, which may move what the log holds. While the tables can't be used, and when
    /// they fail in the middle of it, it is read once more: from what the disk holds, without
    /// writing anything.
    pub(super) fn reading<T>(
        &self,
        mut read: impl FnMut(&Self) -> Result<T, JournalFault>,
    ) -> Result<T, JournalFault> {
        if self.tables_work() {
            let done = read(self);
            // A write that fails, its own or one of others, is no reason not to read.
            if done.is_ok() || self.tables_work() {
                return done;
            }
        }
        // Nothing is opened again meanwhile, so nothing is moved or overwritten.
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let poisoned = self.lock().poisoned.is_some();
        let mut kept = lock(&self.view);
        // Nothing is appended to one that is poisoned: it stays what it is.
        let view = kept.take().filter(|_| poisoned).map_or_else(|| self.new_view(), Ok)?;
        if poisoned {
            *kept = Some(view.clone());
        }
        drop(kept);
        read(&view)
    }

    fn tables_work(&self) -> bool {
        lock(&self.database).is_some() && self.lock().broken.is_none()
    }

    fn new_view(&self) -> Result<Arc<Self>, JournalFault> {
        let Some(files) = self.files.view() else { return Err(closed()) };
        let options = StoreOptions { check_pages: false, ..self.options };
        let view = Self::from_files(files, options, Some(self.id), self.id, Arc::default());
        view.map(Arc::new).map_err(|fault| fault.in_file(&self.path))
    }
}
