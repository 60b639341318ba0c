//! Reads everything and recomputes every hash.

use super::store::Store;
use super::{DaemonKey, ImageSink, JournalFault, Loaded, SinkError};

/// What reading everything found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Per daemon, by name.
    pub daemons: Vec<DaemonReport>,
    /// Damage that is no daemon's.
    pub faults: Vec<JournalFault>,
    /// Crash reports that are good.
    pub crashes: u64,
    /// Bytes of a last group that was never acknowledged, dropped when the journal was opened.
    pub torn_bytes: u64,
}

impl Report {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.daemons.iter().all(|daemon| daemon.found.is_ok())
    }
}

/// What is there of one daemon.
#[derive(Clone, Debug)]
pub struct DaemonReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub daemon: DaemonKey,
    /// Its last commit, or what is wrong first. `None`: it never committed.
    pub found: Result<Option<Loaded>, JournalFault>,
}

/// Takes everything and keeps nothing: how a state is read only to be checked.
#[derive(Debug)]
pub struct Nowhere;

impl ImageSink for Nowhere {
    fn clear(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn resize(&mut self, _memory_bytes: u64) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }

    fn control(&mut self, _module: usize, _state: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Store {
    /// Reads everything, recomputes all hashes, and says what is good, what isn't, and where.
    /// Never fails: failures are what it reports.
    #[must_use]
    pub fn verify(&self) -> Report {
        let mut report =
            Report { daemons: Vec::new(), faults: Vec::new(), crashes: 0, torn_bytes: 0 };
        {
            let inner = self.lock();
            report.torn_bytes = inner.torn_bytes;
            let known = [&inner.rotten, &inner.names_bad, &inner.damage];
            report.faults.extend(known.into_iter().flatten().cloned());
        }
        for (name, row) in self.daemons() {
            let daemon = row.key;
            let found = self.load_all(daemon, None, &mut Nowhere);
            let found = found.map_err(|fault| fault.of_daemon(daemon));
            report.faults.extend(self.setup(daemon).err());
            report.daemons.push(DaemonReport { name, daemon, found });
        }
        match self.codes() {
            Err(fault) => report.faults.push(fault),
            Ok(codes) => {
                let bad = codes.into_iter().filter_map(|digest| self.code(digest).err());
                report.faults.extend(bad);
            }
        }
        match self.crash_ids() {
            Err(fault) => report.faults.push(fault),
            Ok(ids) => {
                for id in ids {
                    match self.crash(id) {
                        Ok(_) => report.crashes += 1,
                        Err(fault) => report.faults.push(fault),
                    }
                }
            }
        }
        report
    }
}
