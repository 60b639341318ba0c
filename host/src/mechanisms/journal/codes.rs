//! The code of guests, by its digest: a state can be loaded again only with the code that made it.

use std::collections::BTreeSet;

use redb::ReadableTable;

use super::base::{seal, unseal};
use super::store::{CODES, Store, fault, lock};
use super::{FaultKind, JournalFault};
use crate::base::limits::MODULE_BYTES_MAX;

impl Store {
    /// Keeps a guest's code under its digest; does nothing when it is there already.
    ///
    /// # Errors
    ///
    /// [`JournalFault`].
    pub fn put_code(&self, digest: [u8; 32], code: &[u8]) -> Result<(), JournalFault> {
        if code.len() > MODULE_BYTES_MAX {
            let what = format!("code of {} bytes", code.len());
            return Err(JournalFault::new(FaultKind::Misuse, what));
        }
        let _listing = lock(&self.listing);
        let kept = self.at_tables_reading(|read| {
            let codes = read.open_table(CODES).map_err(|error| fault(&error.into()))?;
            Ok(codes.get(digest).map_err(|error| fault(&error.into()))?.is_some())
        })?;
        if kept {
            return Ok(());
        }
        self.check_writable()?;
        self.at_tables(|| {
            let write = self.begin_write()?;
            {
                let mut codes = write.open_table(CODES).map_err(|error| fault(&error.into()))?;
                let sealed = seal(code);
                codes.insert(digest, sealed.as_slice()).map_err(|error| fault(&error.into()))?;
            }
            write.commit().map_err(|error| fault(&error.into()))
        })
    }

    /// The code of that digest, if it is kept.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when it is rotten.
    pub fn code(&self, digest: [u8; 32]) -> Result<Option<Vec<u8>>, JournalFault> {
        self.at_tables_reading(|read| {
            let codes = read.open_table(CODES).map_err(|error| fault(&error.into()))?;
            let Some(sealed) = codes.get(digest).map_err(|error| fault(&error.into()))? else {
                return Ok(None);
            };
            let rotten = || {
                let digest = blake3::Hash::from_bytes(digest).to_hex();
                JournalFault::corrupt(format!("the code {digest} of a guest is rotten"))
            };
            Ok(Some(unseal(sealed.value()).ok_or_else(rotten)?.to_vec()))
        })
    }

    /// Digests of all codes that are kept.
    pub(super) fn codes(&self) -> Result<Vec<[u8; 32]>, JournalFault> {
        self.at_tables_reading(|read| {
            let codes = read.open_table(CODES).map_err(|error| fault(&error.into()))?;
            let mut digests = Vec::new();
            for entry in codes.iter().map_err(|error| fault(&error.into()))? {
                digests.push(entry.map_err(|error| fault(&error.into()))?.0.value());
            }
            Ok(digests)
        })
    }

    /// Drops the codes that made no state that is still kept, but those that are `running`: what
    /// they make next must find its code.
    ///
    /// # Errors
    ///
    /// [`JournalFault`].
    pub fn drop_unused_codes(&self, running: &[[u8; 32]]) -> Result<(), JournalFault> {
        let _listing = lock(&self.listing);
        let inner = self.lock();
        if inner.names_bad.is_some() || inner.tails.values().any(|tail| tail.bad.is_some()) {
            // Which codes a damaged chain needs is not known.
            return Ok(());
        }
        let made = inner.tails.values().flat_map(|tail| &tail.codes);
        let used: BTreeSet<[u8; 32]> = made.chain(running).copied().collect();
        drop(inner);
        if self.codes()?.iter().all(|digest| used.contains(digest)) {
            return Ok(());
        }
        self.at_tables(|| {
            let write = self.begin_write()?;
            {
                let mut codes = write.open_table(CODES).map_err(|error| fault(&error.into()))?;
                codes
                    .retain(|digest, _| used.contains(&digest))
                    .map_err(|error| fault(&error.into()))?;
            }
            write.commit().map_err(|error| fault(&error.into()))
        })
    }
}
