//! Copies of states and the way back: snapshot, restore, fork, revert, and what is kept for them.

use std::sync::Arc;

use super::{DaemonPlan, Root};
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::mechanisms::journal::{CommitLine, DaemonKey, Store};
use crate::mechanisms::sandbox::Guest;
use crate::pure::checkpoint::{Checkpoint, decode_snapshot, encode_snapshot};
use crate::tree::daemon::DaemonOptions;
use crate::tree::worker::First;

/// Makes a guest of code that the journal or a snapshot holds. May compile: takes its time.
pub type Deploy<'a> = &'a dyn Fn(&[u8]) -> Result<Arc<Guest>, Fault>;

/// The commits of a daemon that can be had again.
#[derive(Clone, Debug)]
pub struct KeptCommits {
    /// The oldest state that can be loaded.
    pub oldest: Option<Sequence>,
    /// The last commits, oldest first; those that were folded away are not among them.
    pub commits: Vec<CommitLine>,
}

/// Where a revert goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevertTo {
    /// The state of that commit.
    Commit(Sequence),
    /// So many commits back.
    Last(u64),
}

impl Root {
    /// The last `count` commits of a daemon that are kept.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_STATELESS`, `E_MEMORY_ONLY`, and the journal's.
    pub fn commits(&self, name: &str, count: u64) -> Result<KeptCommits, Fault> {
        let (store, key) = self.kept(name)?;
        let oldest = store.oldest(key).map_err(|fault| Fault::from(&fault))?;
        let commits = store.commits(key, count).map_err(|fault| Fault::from(&fault))?;
        Ok(KeptCommits { oldest, commits })
    }

    /// A daemon's state now, or at an earlier commit, with its code. Requests wait while the
    /// memory of now is copied.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_STATELESS`, `E_UNAVAILABLE` when it has no state yet, because what it
    /// needs has not been there; with `at` also `E_MEMORY_ONLY`, `E_NO_COMMIT` and the journal's.
    pub fn checkpoint(&self, name: &str, at: Option<Sequence>) -> Result<Checkpoint, Fault> {
        self.keeper(name)?;
        match at {
            None => self.control(name, |daemon| match daemon.parked() {
                Some(reason) if daemon.is_unborn() => Err(reason.clone()),
                _ => Ok(daemon.capture()),
            }),
            Some(at) => {
                let (store, key) = self.kept(name)?;
                store.checkpoint(name, key, Some(at)).map_err(|fault| Fault::from(&fault))
            }
        }
    }

    /// A daemon's state now or at an earlier commit, with the bytes of its snapshot.
    ///
    /// # Errors
    ///
    /// As [`Root::checkpoint`].
    pub fn snapshot(
        &self,
        name: &str,
        at: Option<Sequence>,
    ) -> Result<(Checkpoint, Vec<u8>), Fault> {
        let checkpoint = self.checkpoint(name, at)?;
        let code = self.code_of(name, &checkpoint)?;
        let file = encode_snapshot(&checkpoint, &code);
        Ok((checkpoint, file))
    }

    /// Starts a daemon `new` on the state of `name`, now or at an earlier commit. Its memory is
    /// reserved now; with a journal it is there again at the next start.
    ///
    /// # Errors
    ///
    /// As [`Root::checkpoint`]; `E_DAEMON_EXISTS`, `E_BUDGET`, `E_NAME`, and what a start may
    /// fail with.
    pub fn fork(
        &self,
        name: &str,
        new: &str,
        at: Option<Sequence>,
        deploy: Deploy<'_>,
    ) -> Result<Checkpoint, Fault> {
        let source = self.keeper(name)?;
        let options = DaemonOptions { name: new.to_owned(), ..source.options.clone() };
        let checkpoint = self.checkpoint(name, at)?;
        let running = source.guest();
        let guest = if *running.facts().digest.as_bytes() == checkpoint.code {
            running
        } else {
            deploy(&self.code_of(name, &checkpoint)?)?
        };
        let (needs, uses) = (source.needs.clone(), source.uses.clone());
        let plan = DaemonPlan { copied: true, needs, uses, ..DaemonPlan::new(guest, options) };
        self.adopt(plan, checkpoint)
    }

    /// Starts a daemon on the state of a snapshot. `options` say how, its name among them.
    ///
    /// # Errors
    ///
    /// `E_SNAPSHOT`, and as [`Root::fork`].
    pub fn restore(
        &self,
        snapshot: &[u8],
        options: DaemonOptions,
        deploy: Deploy<'_>,
    ) -> Result<Checkpoint, Fault> {
        let (checkpoint, code) = decode_snapshot(snapshot)
            .map_err(|error| Fault::new(Code::Snapshot, error.to_string()))?;
        self.adopt(
            DaemonPlan { copied: true, ..DaemonPlan::new(deploy(&code)?, options) },
            checkpoint,
        )
    }

    /// Answers the checkpoint that was adopted. A copy has no readers.
    fn adopt(&self, mut plan: DaemonPlan, checkpoint: Checkpoint) -> Result<Checkpoint, Fault> {
        plan.options.readers = 0;
        self.add(plan, First::Adopt(Arc::new(checkpoint.clone())))
            .map_err(|error| Fault::from(&error))
            .map(|()| checkpoint)
    }

    /// Takes a daemon back to an earlier commit, as a commit of its own; answers where it went and
    /// the sequence of the new commit.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_STATELESS`, `E_MEMORY_ONLY`, `E_NO_COMMIT`, `E_CODE_CHANGED` when
    /// other code made that commit, and the journal's. The daemon is then as it was.
    pub fn revert(&self, name: &str, to: RevertTo) -> Result<(Sequence, Sequence), Fault> {
        let (store, key) = self.kept(name)?;
        let name_of = name.to_owned();
        // On the daemon's thread, so that `Last` counts from a commit that is still the last one.
        self.control(name, move |daemon| {
            let now = daemon.sequence();
            let to = match to {
                RevertTo::Commit(to) => to,
                RevertTo::Last(count) => Sequence(now.0.checked_sub(count).ok_or_else(|| {
                    let message = format!("commit {now} is the last one, so not {count} go back");
                    Fault::new(Code::NoCommit, message)
                })?),
            };
            let checkpoint =
                store.checkpoint(&name_of, key, Some(to)).map_err(|fault| Fault::from(&fault))?;
            daemon.revert(&checkpoint).map(|sequence| (to, sequence))
        })
    }

    /// Stops a daemon that was forked or restored and deletes its state; or deletes the state of
    /// one that doesn't run here any more.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`; `E_DAEMON_FILE` for a daemon that runs and has a guest's file; the
    /// journal's.
    pub fn remove(&self, name: &str) -> Result<(), Fault> {
        let _changing = self.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let worker = match self.worker(name) {
            Err(unknown) => {
                let journal = self.ground.journal.as_ref();
                let kept = journal.filter(|journal| journal.store.has_state(name));
                let Some(journal) = kept else { return Err(unknown) };
                return journal.store.remove_daemon(name).map_err(|fault| Fault::from(&fault));
            }
            Ok(worker) => worker,
        };
        if !worker.copied {
            let message = format!("daemon `{name}` is of a guest's file; only copies are removed");
            return Err(Fault::new(Code::DaemonFile, message));
        }
        self.take_out(name, &worker);
        if let Some(journal) = &self.ground.journal {
            journal.store.remove_daemon(name).map_err(|fault| Fault::from(&fault))?;
        }
        Ok(())
    }

    /// The code that made a checkpoint.
    fn code_of(&self, name: &str, checkpoint: &Checkpoint) -> Result<Arc<[u8]>, Fault> {
        let running = self.worker(name)?.guest();
        if *running.facts().digest.as_bytes() == checkpoint.code {
            return Ok(running.code().clone());
        }
        let stored = match &self.ground.journal {
            Some(journal) => journal.store.code(checkpoint.code),
            None => Ok(None),
        };
        let stored = stored.map_err(|fault| Fault::from(&fault))?;
        stored.map(Into::into).ok_or_else(|| {
            let digest = blake3::Hash::from_bytes(checkpoint.code).to_hex();
            Fault::new(Code::NoCommit, format!("the code {digest} that made it is not kept"))
        })
    }

    pub(super) fn kept(&self, name: &str) -> Result<(Arc<Store>, DaemonKey), Fault> {
        let worker = self.keeper(name)?;
        let memory_only = || Fault::new(Code::MemoryOnly, "this host has no data directory");
        let journal = self.ground.journal.as_ref().ok_or_else(memory_only)?;
        Ok((journal.store.clone(), worker.key.ok_or_else(memory_only)?))
    }
}
