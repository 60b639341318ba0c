//! Appending a group: each entry must continue its daemon's chain; then the group is written and
//! noted, or nothing more is taken.

use std::collections::BTreeMap;

use super::backend::Which;
use super::chain::Chain;
use super::hints::Hint;
use super::store::{Inner, Store, lock};
use super::{DaemonKey, Entry, FaultKind, JournalFault, Synced};
use crate::pure::record::{Frame, HASH_BYTES};

/// Where a daemon's chain ends after some entries of a group, and the group's last commit of it,
/// with the digest of the code that made it.
type Step = (Chain, Option<(Hint, [u8; HASH_BYTES])>);

type Tails = BTreeMap<DaemonKey, Step>;

impl Store {
    /// See [`super::Journal::append`].
    pub(super) fn append_group(&self, entries: &[Entry<'_>]) -> Result<Synced, JournalFault> {
        let _appending = lock(&self.appending);
        let tails = {
            let inner = self.lock();
            if let Some(poisoned) = &inner.poisoned {
                return Err(poisoned.clone());
            }
            Self::check_entries(&inner, entries)?
        };
        let written = self.write_group(entries, &tails);
        let mut inner = self.lock();
        if let Err(fault) = written {
            return Err(self.poison(&mut inner, fault));
        }
        for (daemon, (chain, new)) in tails {
            if let Some(tail) = inner.tails.get_mut(&daemon) {
                tail.chain = chain;
                tail.codes.extend(new.map(|(_, code)| code));
                tail.reopened = false;
            }
        }
        self.show_refusal(&inner);
        Ok(Synced::after_sync())
    }

    /// Each entry must continue its daemon's chain.
    fn check_entries(inner: &Inner, entries: &[Entry<'_>]) -> Result<Tails, JournalFault> {
        let mut tails = Tails::new();
        for entry in entries {
            let misuse = |what: &str| {
                let fault = JournalFault::new(FaultKind::Misuse, what);
                fault.of_daemon(entry.daemon).at(entry.sequence)
            };
            let tail = inner.tails.get(&entry.daemon).ok_or_else(|| misuse("no such daemon"))?;
            if let Some(bad) = &tail.bad {
                return Err(bad.clone());
            }
            let frame = Frame::of(entry.record).map_err(|error| misuse(&error.to_string()))?;
            let (chain, new) = tails.entry(entry.daemon).or_insert((tail.chain, None));
            let taken = chain.take(entry.daemon, entry.sequence, &frame.head, frame.hash);
            if taken.is_err() && tail.reopened {
                // It continues something that is gone: its daemon does not know yet.
                let what = "the journal was opened again since";
                let fault = JournalFault::new(FaultKind::Poisoned, what);
                return Err(fault.of_daemon(entry.daemon).at(entry.sequence));
            }
            taken.map_err(|what| misuse(&format!("it does not continue the chain: {what}")))?;
            if !frame.head.is_more() {
                *new = chain.last.map(|last| (last, frame.head.code));
            }
        }
        Ok(tails)
    }

    /// Writes a group into the log and notes it; into the tables when it is too large for the log.
    fn write_group(&self, entries: &[Entry<'_>], tails: &Tails) -> Result<(), JournalFault> {
        let log = self.log()?;
        self.files.still_there(Which::Log)?;
        if log.takes(entries) {
            while !log.has_room(entries) {
                // Where nothing is left to move, others may have moved it since that look.
                if !self.move_groups(u64::MAX)? && !log.has_room(entries) {
                    let what = "a log without groups has no room";
                    return Err(JournalFault::new(FaultKind::Misuse, what));
                }
            }
            log.append(entries)?;
        } else {
            self.drain()?;
            self.insert_large(entries)?;
        }
        let hints = self.hints()?;
        let mut last = tails.iter().filter_map(|(&daemon, (_, new))| Some((daemon, (*new)?)));
        last.try_for_each(|(daemon, (hint, _))| hints.write(daemon, hint))
    }
}
