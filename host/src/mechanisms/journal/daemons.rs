//! The list of daemons that have state here.

use std::sync::atomic::Ordering;

use redb::{ReadableTable, Table};

use super::base::{seal, unseal};
use super::setups::forget;
use super::store::{
    ANSWERS, BASES, CHUNKS, DAEMONS, Inner, PARTS, RECORDS, Store, Tail, fault, lock,
};
use super::{DaemonKey, FaultKind, JournalFault};
use crate::base::error::printable;
use crate::base::limits::DAEMONS_KEPT_MAX;
use crate::pure::reader::Reader;

/// Where a daemon's first state came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Its guest's `init`; the guest is a file that is named at each start.
    Init,
    /// Another daemon's state, or a snapshot's. It has no file: it is started from what is stored.
    Copy,
}

/// A daemon that has state here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DaemonRow {
    /// Its id.
    pub key: DaemonKey,
    /// Where its first state came from.
    pub origin: Origin,
    /// Bytes of its budget when it was made.
    pub budget_bytes: u64,
}

impl DaemonRow {
    fn encode(self, name: &str) -> Vec<u8> {
        let mut body = self.key.0.to_le_bytes().to_vec();
        body.extend_from_slice(&self.budget_bytes.to_le_bytes());
        body.extend_from_slice(&u32::from(self.origin == Origin::Copy).to_le_bytes());
        body.extend_from_slice(name.as_bytes());
        seal(&body)
    }

    pub(super) fn decode(name: &str, value: &[u8]) -> Option<Self> {
        let mut reader = Reader(unseal(value)?);
        let (key, budget_bytes) = (DaemonKey(reader.u64()?), reader.u64()?);
        let origin = match reader.u32()? {
            0 => Origin::Init,
            1 => Origin::Copy,
            _ => return None,
        };
        (reader.0 == name.as_bytes()).then_some(Self { key, origin, budget_bytes })
    }
}

/// Begins the place of a removed daemon in the list. No daemon is called like that: a name has no
/// slash.
const REMOVED: &str = "removed/";

/// After all of those: `0` follows `/`.
const REMOVED_END: &str = "removed0";

/// A removed daemon's place in the list: its id is never given out again, its name may be.
fn removed_name(key: DaemonKey) -> String {
    format!("{REMOVED}{key}")
}

/// True for the places of removed daemons.
pub(super) fn is_removed(name: &str) -> bool {
    name.starts_with(REMOVED)
}

/// Keeps the place of a daemon that goes and had the highest id: the highest one is always among
/// the rows. Of others no place is needed.
fn keep_id(table: &mut Table<'_, &str, &[u8]>, row: DaemonRow) -> Result<(), JournalFault> {
    let all = REMOVED..REMOVED_END;
    table.retain_in(all, |_, _| false).map_err(|error| fault(&error.into()))?;
    let removed = removed_name(row.key);
    let value = row.encode(&removed);
    table.insert(removed.as_str(), value.as_slice()).map_err(|error| fault(&error.into()))?;
    Ok(())
}

impl Store {
    /// All daemons that have state here, by name.
    #[must_use]
    pub fn daemons(&self) -> Vec<(String, DaemonRow)> {
        self.lock().names.iter().map(|(name, row)| (name.clone(), *row)).collect()
    }

    /// The daemon called `name`, if it has a place here.
    #[must_use]
    pub fn find_daemon(&self, name: &str) -> Option<DaemonRow> {
        self.lock().names.get(name).copied()
    }

    /// A fault of a daemon, with its name.
    pub(super) fn named(&self, fault: JournalFault) -> JournalFault {
        let state = self.lock();
        let mut names = state.names.iter();
        let name = names.find(|(_, row)| Some(row.key) == fault.daemon);
        let name = name.map(|(name, _)| name.clone());
        JournalFault { name: fault.name.or(name), ..fault }
    }

    /// The id of the daemon called `name`; a new, durable one when there is none, with that origin
    /// and budget. A name whose first commit never became durable is as good as new.
    ///
    /// # Errors
    ///
    /// [`JournalFault`], also when the list of names is damaged and the name might be in it.
    pub fn daemon(
        &self,
        name: &str,
        origin: Origin,
        budget_bytes: u64,
    ) -> Result<DaemonKey, JournalFault> {
        let _listing = lock(&self.listing);
        let key = {
            let inner = self.lock();
            let old = inner.names.get(name).copied();
            if let Some(row) = old
                && (row == DaemonRow { origin, budget_bytes, ..row } || inner.has_state(row.key))
            {
                return Ok(row.key);
            }
            if let Some(fault) = inner.names_bad.as_ref().or(inner.poisoned.as_ref()) {
                return Err(fault.clone());
            }
            if inner.names.len() >= DAEMONS_KEPT_MAX {
                let what = format!(
                    "{DAEMONS_KEPT_MAX} names have state here; take some out with `host remove`"
                );
                return Err(JournalFault::new(FaultKind::Directory, what));
            }
            old.map_or(DaemonKey(inner.highest + 1), |old| old.key)
        };
        let row = DaemonRow { key, origin, budget_bytes };
        // First: a place that finds no space is this daemon's failure, and nobody else's.
        self.hints()?.reserve(key)?;
        self.write_row(name, row)?;
        let mut inner = self.lock();
        inner.highest = inner.highest.max(key.0);
        inner.names.insert(name.to_owned(), row);
        inner.tails.entry(key).or_default();
        Ok(key)
    }

    fn write_row(&self, name: &str, row: DaemonRow) -> Result<(), JournalFault> {
        self.at_tables(|| {
            let write = self.begin_write()?;
            {
                let mut table = write.open_table(DAEMONS).map_err(|e| fault(&e.into()))?;
                let value = row.encode(name);
                table.insert(name, value.as_slice()).map_err(|error| fault(&error.into()))?;
            }
            write.commit().map_err(|error| fault(&error.into()))
        })
    }

    /// Deletes a daemon's state for good. Whoever runs it must have stopped.
    ///
    /// # Errors
    ///
    /// [`JournalFault`]; `Directory` when there is no such daemon.
    pub fn remove_daemon(&self, name: &str) -> Result<(), JournalFault> {
        let _listing = lock(&self.listing);
        let Some(row) = self.find_daemon(name) else {
            let what = format!("no daemon `{name}` has state here");
            return Err(JournalFault::new(FaultKind::Directory, what));
        };
        self.check_writable()?;
        // None of its records may be moved into the tables after it has gone.
        self.drain()?;
        let mut job = lock(&self.job);
        let (daemon, highest) = (row.key.0, self.lock().highest);
        self.at_tables(|| {
            let write = self.begin_write()?;
            {
                let mut table = write.open_table(DAEMONS).map_err(|e| fault(&e.into()))?;
                table.remove(name).map_err(|error| fault(&error.into()))?;
                if daemon == highest {
                    keep_id(&mut table, row)?;
                }
                let pairs = (daemon, 0)..=(daemon, u64::MAX);
                for table in [RECORDS, ANSWERS] {
                    let mut table = write.open_table(table).map_err(|e| fault(&e.into()))?;
                    table.retain_in(pairs.clone(), |_, _| false).map_err(|e| fault(&e.into()))?;
                }
                let mut chunks = write.open_table(CHUNKS).map_err(|e| fault(&e.into()))?;
                let mut parts = write.open_table(PARTS).map_err(|e| fault(&e.into()))?;
                let all = (daemon, 0, 0)..=(daemon, u64::MAX, u64::MAX);
                for table in [&mut chunks, &mut parts] {
                    table.retain_in(all.clone(), |_, _| false).map_err(|e| fault(&e.into()))?;
                }
                let mut bases = write.open_table(BASES).map_err(|e| fault(&e.into()))?;
                bases.remove(daemon).map_err(|error| fault(&error.into()))?;
            }
            forget(&write, daemon)?;
            write.commit().map_err(|error| fault(&error.into()))
        })?;
        *job = job.take().filter(|job| job.daemon() != row.key);
        // What it leaves behind is worth a look, though the file has not grown.
        self.compacted.store(0, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.names.remove(name);
        inner.tails.remove(&row.key);
        Ok(())
    }

    /// At a start: forgets the names whose first commit never became durable. Nobody was told of
    /// them, and their ids were never in a commit.
    pub(super) fn drop_unborn(&self, inner: &mut Inner) -> Result<(), JournalFault> {
        let unborn = |tail: &Tail| tail.bad.is_none() && tail.chain.last.is_none();
        let unborn = |row: &DaemonRow| inner.tails.get(&row.key).is_some_and(unborn);
        let names: Vec<String> = inner
            .names
            .iter()
            .filter(|(_, row)| unborn(row))
            .map(|(name, _)| name.clone())
            .collect();
        if names.is_empty() || inner.names_bad.is_some() {
            return Ok(());
        }
        let write = self.begin_write()?;
        {
            let mut table = write.open_table(DAEMONS).map_err(|e| fault(&e.into()))?;
            for name in &names {
                table.remove(name.as_str()).map_err(|error| fault(&error.into()))?;
            }
            // A lower one may have been removed while this one held the highest id.
            let mut gone = names.iter().filter_map(|name| inner.names.get(name));
            if let Some(row) = gone.find(|row| row.key.0 == inner.highest) {
                keep_id(&mut table, *row)?;
            }
        }
        write.commit().map_err(|error| fault(&error.into()))?;
        for name in names {
            tracing::debug!(daemon = name, "it never committed: its name is free");
            if let Some(row) = inner.names.remove(&name) {
                inner.tails.remove(&row.key);
            }
        }
        Ok(())
    }

    /// Whether a daemon called `name` has committed anything here, or might have.
    #[must_use]
    pub fn has_state(&self, name: &str) -> bool {
        let inner = self.lock();
        inner.names.get(name).is_some_and(|row| inner.has_state(row.key))
    }

    /// Whether a daemon called `name` has committed anything here, as far as can be told: a name
    /// that is not known may be one that can't be read.
    #[must_use]
    pub fn may_have_state(&self, name: &str) -> bool {
        let inner = self.lock();
        let unknown = || inner.names_bad.is_some();
        inner.names.get(name).map_or_else(unknown, |row| inner.has_state(row.key))
    }

    /// Why the list of daemons can't be trusted, if it can't.
    #[must_use]
    pub fn names_damage(&self) -> Option<JournalFault> {
        self.lock().names_bad.clone()
    }

    /// Gives a daemon's state another name. Whoever runs it must have stopped.
    ///
    /// # Errors
    ///
    /// [`JournalFault`]; `Directory` when there is no such daemon, or one of the new name.
    pub fn rename_daemon(&self, name: &str, new: &str) -> Result<(), JournalFault> {
        let _listing = lock(&self.listing);
        let row = {
            let inner = self.lock();
            if let Some(fault) = inner.names_bad.as_ref().or(inner.poisoned.as_ref()) {
                return Err(fault.clone());
            }
            if inner.names.contains_key(new) {
                let what = format!("a daemon `{new}` has state here already");
                return Err(JournalFault::new(FaultKind::Directory, what));
            }
            inner.names.get(name).copied()
        };
        let no_such = || {
            let what = format!("no daemon `{name}` has state here");
            JournalFault::new(FaultKind::Directory, what)
        };
        let row = row.ok_or_else(no_such)?;
        self.at_tables(|| {
            let write = self.begin_write()?;
            {
                let mut table = write.open_table(DAEMONS).map_err(|e| fault(&e.into()))?;
                table.remove(name).map_err(|error| fault(&error.into()))?;
                let value = row.encode(new);
                table.insert(new, value.as_slice()).map_err(|error| fault(&error.into()))?;
            }
            write.commit().map_err(|error| fault(&error.into()))
        })?;
        let mut inner = self.lock();
        inner.names.remove(name);
        inner.names.insert(new.to_owned(), row);
        Ok(())
    }

    /// Reads the list; a damaged entry makes every unknown name suspect.
    pub(super) fn read_daemons(
        &self,
        read: &redb::ReadTransaction,
        inner: &mut Inner,
    ) -> Result<(), JournalFault> {
        let daemons = read.open_table(DAEMONS).map_err(|error| fault(&error.into()))?;
        for entry in daemons.iter().map_err(|error| fault(&error.into()))? {
            let (name, value) = entry.map_err(|error| fault(&error.into()))?;
            let Some(row) = DaemonRow::decode(name.value(), value.value()) else {
                let name = printable(name.value(), 64);
                let what = format!("the list of daemons is rotten at `{name}`");
                inner.names_bad = Some(JournalFault::corrupt(what));
                continue;
            };
            inner.highest = inner.highest.max(row.key.0);
            if !is_removed(name.value()) {
                inner.names.insert(name.value().to_owned(), row);
            }
        }
        // One that is rotten is missing, too.
        if inner.names_bad.is_none() && self.hints()?.beyond(inner.highest)? {
            inner.names_bad = Some(JournalFault::corrupt("the list of daemons lacks one"));
        }
        Ok(())
    }
}
