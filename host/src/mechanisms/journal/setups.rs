//! What is kept of daemons beside their states: how copies are run, and which codes a daemon ran.
//!
//! Both tables came after the first hosts of this format. A directory without them is read as one
//! with empty ones; hosts that don't know them leave them alone.

use redb::{TableDefinition, TableError};

use super::base::{seal, unseal};
use super::store::{Store, fault};
use super::{DaemonKey, JournalFault};
use crate::base::limits::RAN_CODES_MAX;
use crate::pure::reader::Reader;
use crate::pure::record::HASH_BYTES;

/// daemon -> how it is run.
pub(super) const SETUPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("setups");
/// (daemon, digest) -> when it ran first among its codes, and the names of its contracts.
pub(super) const RAN: TableDefinition<'_, (u64, [u8; HASH_BYTES]), &[u8]> =
    TableDefinition::new("ran");

/// A code that a daemon ran.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RanCode {
    /// Its digest.
    pub digest: [u8; HASH_BYTES],
    /// Grows with each code of the daemon.
    pub number: u64,
    /// The names of its contracts, in their order.
    pub contracts: Vec<String>,
}

impl RanCode {
    fn encode(&self) -> Vec<u8> {
        let mut body = self.number.to_le_bytes().to_vec();
        body.extend_from_slice(self.contracts.join("\n").as_bytes());
        seal(&body)
    }

    fn decode(digest: [u8; HASH_BYTES], value: &[u8]) -> Option<Self> {
        let mut reader = Reader(unseal(value)?);
        let number = reader.u64()?;
        let names = std::str::from_utf8(reader.0).ok()?;
        let contracts = names.split('\n').filter(|name| !name.is_empty());
        Some(Self { digest, number, contracts: contracts.map(str::to_owned).collect() })
    }
}

/// None for a table that no host has made yet.
fn made<T>(opened: Result<T, TableError>) -> Result<Option<T>, JournalFault> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(fault(&error.into())),
    }
}

impl Store {
    /// Keeps how a daemon is run.
    ///
    /// # Errors
    ///
    /// [`JournalFault`].
    pub fn put_setup(&self, daemon: DaemonKey, setup: &[u8]) -> Result<(), JournalFault> {
        self.at_tables(|| {
            let write = self.begin_write()?;
            {
                let mut setups = write.open_table(SETUPS).map_err(|e| fault(&e.into()))?;
                let sealed = seal(setup);
                setups.insert(daemon.0, sealed.as_slice()).map_err(|e| fault(&e.into()))?;
            }
            write.commit().map_err(|error| fault(&error.into()))
        })
    }

    /// How a daemon is run, if that is kept.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when it is rotten.
    pub fn setup(&self, daemon: DaemonKey) -> Result<Option<Vec<u8>>, JournalFault> {
        self.at_tables_reading(|read| {
            let Some(setups) = made(read.open_table(SETUPS))? else { return Ok(None) };
            let Some(sealed) = setups.get(daemon.0).map_err(|error| fault(&error.into()))? else {
                return Ok(None);
            };
            let rotten = || JournalFault::corrupt("how it is run is rotten").of_daemon(daemon);
            Ok(Some(unseal(sealed.value()).ok_or_else(rotten)?.to_vec()))
        })
    }

    /// The codes that a daemon ran, oldest first, as far as they are written down. What is rotten
    /// is left out: a code that is not known is treated as new, which loses nothing.
    ///
    /// # Errors
    ///
    /// [`JournalFault`] when the table can't be read.
    pub fn ran_codes(&self, daemon: DaemonKey) -> Result<Vec<RanCode>, JournalFault> {
        self.at_tables_reading(|read| {
            let Some(table) = made(read.open_table(RAN))? else { return Ok(Vec::new()) };
            let all = (daemon.0, [0; HASH_BYTES])..=(daemon.0, [u8::MAX; HASH_BYTES]);
            let mut codes = Vec::new();
            for entry in table.range(all).map_err(|error| fault(&error.into()))? {
                let (key, value) = entry.map_err(|error| fault(&error.into()))?;
                codes.extend(RanCode::decode(key.value().1, value.value()));
            }
            codes.sort_by_key(|code| code.number);
            Ok(codes)
        })
    }

    /// Whether a daemon ran this code: it is written down, or made a commit that is kept.
    ///
    /// # Errors
    ///
    /// As [`Store::ran_codes`].
    pub fn ran(&self, daemon: DaemonKey, digest: [u8; HASH_BYTES]) -> Result<bool, JournalFault> {
        let kept = self.lock().tails.get(&daemon).is_some_and(|tail| tail.codes.contains(&digest));
        Ok(kept || self.ran_codes(daemon)?.iter().any(|code| code.digest == digest))
    }

    /// Writes down that a daemon runs this code, unless that was done before. Of more than
    /// [`RAN_CODES_MAX`] the oldest is forgotten.
    ///
    /// # Errors
    ///
    /// [`JournalFault`].
    pub fn note_code(
        &self,
        daemon: DaemonKey,
        digest: [u8; HASH_BYTES],
        contracts: Vec<String>,
    ) -> Result<(), JournalFault> {
        let codes = self.ran_codes(daemon)?;
        if codes.iter().any(|code| code.digest == digest) {
            return Ok(());
        }
        let number = codes.last().map_or(0, |code| code.number) + 1;
        let code = RanCode { digest, number, contracts };
        let over = (codes.len() + 1).saturating_sub(RAN_CODES_MAX);
        self.at_tables(|| {
            let write = self.begin_write()?;
            {
                let mut table = write.open_table(RAN).map_err(|error| fault(&error.into()))?;
                let value = code.encode();
                table
                    .insert((daemon.0, digest), value.as_slice())
                    .map_err(|error| fault(&error.into()))?;
                for old in codes.iter().take(over) {
                    table.remove((daemon.0, old.digest)).map_err(|error| fault(&error.into()))?;
                }
            }
            write.commit().map_err(|error| fault(&error.into()))
        })
    }
}

/// Deletes what is kept of a daemon.
pub(super) fn forget(write: &redb::WriteTransaction, daemon: u64) -> Result<(), JournalFault> {
    let mut setups = write.open_table(SETUPS).map_err(|error| fault(&error.into()))?;
    setups.remove(daemon).map_err(|error| fault(&error.into()))?;
    let mut ran = write.open_table(RAN).map_err(|error| fault(&error.into()))?;
    let all = (daemon, [0; HASH_BYTES])..=(daemon, [u8::MAX; HASH_BYTES]);
    ran.retain_in(all, |_, _| false).map_err(|error| fault(&error.into()))
}
