//! Copies of states and the way back: snapshot, restore, fork, revert, and what is kept for them.

use std::sync::{Arc, PoisonError};

use super::starting::{Unstarted, remove_in_time};
use super::{DaemonPlan, Root};
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::base::limits::{COMMITS_LISTED_MAX, WASM_PAGE_BYTES};
use crate::mechanisms::journal::{CommitLine, DaemonKey, RanCode, Store};
use crate::mechanisms::sandbox::Guest;
use crate::pure::checkpoint::{Checkpoint, Facts, Packed, SnapshotError, encode_snapshot};
use crate::tree::daemon::DaemonOptions;
use crate::tree::worker::First;

/// Makes a guest of code that the journal or a snapshot holds. May compile: takes its time.
pub type Deploy<'a> = &'a dyn Fn(&[u8]) -> Result<Arc<Guest>, Fault>;

/// The commits of a daemon that can be had again.
#[derive(Clone, Debug)]
pub struct KeptCommits {
    /// The oldest state that can be loaded.
    pub oldest: Option<Sequence>,
    /// The oldest one that the present code can go back to: all since then were made by it.
    pub own: Option<Sequence>,
    /// The last commits, oldest first; those that were folded away are not among them.
    pub commits: Vec<CommitLine>,
    /// The codes that made them, as far as they are written down.
    pub codes: Vec<RanCode>,
}

impl KeptCommits {
    /// The last `count` commits that a journal keeps of a daemon.
    ///
    /// # Errors
    ///
    /// The journal's.
    pub fn of(store: &Store, key: DaemonKey, count: u64) -> Result<Self, Fault> {
        let fault = |fault| Fault::from(&fault);
        let oldest = store.oldest(key).map_err(fault)?;
        let codes = store.ran_codes(key).map_err(fault)?;
        let several = codes.len() > 1;
        let most = if several { count.max(COMMITS_LISTED_MAX) } else { count };
        let mut commits = store.commits(key, most).map_err(fault)?;
        let own = if several { own_code(&commits) } else { oldest };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        drop(commits.drain(..commits.len().saturating_sub(count)));
        Ok(Self { oldest, own, commits, codes })
    }
}

/// The first of the last commits that one code made.
fn own_code(commits: &[CommitLine]) -> Option<Sequence> {
    let code = commits.last()?.head.code;
    let own = commits.iter().rev().take_while(|line| line.head.code == code);
    own.last().map(|line| line.head.sequence)
}

/// Where a revert goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevertTo {
    /// The state of that commit.
    Commit(Sequence),
    /// So many commits back.
    Last(u64),
}

/// The resources that a restored daemon depends on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Depends {
    /// Those that it can't do without.
    pub needs: Vec<String>,
    /// Those that it can do without.
    pub uses: Vec<String>,
}

impl Root {
    /// The last `count` commits of a daemon that are kept.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_STATELESS`, `E_MEMORY_ONLY`, and the journal's.
    pub fn commits(&self, name: &str, count: u64) -> Result<KeptCommits, Fault> {
        let (store, key) = self.kept(name)?;
        KeptCommits::of(&store, key, count)
    }

    /// A daemon's state now, or at an earlier commit, with its code. Requests wait while the
    /// memory of now is copied.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_STATELESS`, `E_UNAVAILABLE` when it has no state yet, because what it
    /// needs has not been there; with `at` also `E_MEMORY_ONLY`, `E_NO_COMMIT` and the journal's.
    pub fn checkpoint(&self, name: &str, at: Option<Sequence>) -> Result<Checkpoint, Fault> {
        if at.is_none() && self.keeper(name).is_ok() {
            return self.control(name, |daemon| match daemon.parked() {
                Some(reason) if daemon.is_unborn() => Err(reason.clone()),
                _ => Ok(daemon.capture()),
            });
        }
        // An earlier state, or the last one of a daemon that does not run.
        let (store, key) = self.kept(name)?;
        store.checkpoint(name, key, at).map_err(|fault| Fault::from(&fault))
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
        let (checkpoint, code) = self.checkpoint_with_code(name, at)?;
        let file = encode_snapshot(&checkpoint, &code);
        Ok((checkpoint, file))
    }

    /// A daemon's state now or at an earlier commit, with the code that made it.
    ///
    /// # Errors
    ///
    /// As [`Root::checkpoint`].
    pub fn checkpoint_with_code(
        &self,
        name: &str,
        at: Option<Sequence>,
    ) -> Result<(Checkpoint, Arc<[u8]>), Fault> {
        let checkpoint = self.checkpoint(name, at)?;
        let code = self.code_of(name, &checkpoint)?;
        Ok((checkpoint, code))
    }

    /// Bytes of a daemon's budget.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_STATELESS`.
    pub fn budget(&self, name: &str) -> Result<usize, Fault> {
        Ok(self.keeper(name)?.options.budget_bytes)
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
    ) -> Result<Arc<Checkpoint>, Fault> {
        let source = self.keeper(name)?;
        let _lent = self.lend_for(name, at)?;
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

    /// Starts a daemon on the state of a snapshot. `options` say how, its name among them. There
    /// has to be room for the state while it is unpacked; the snapshot itself is the caller's.
    ///
    /// # Errors
    ///
    /// `E_SNAPSHOT`, and as [`Root::fork`].
    pub fn restore(
        &self,
        snapshot: &[u8],
        options: DaemonOptions,
        deploy: Deploy<'_>,
    ) -> Result<Arc<Checkpoint>, Fault> {
        self.restore_using(snapshot, options, &Depends::default(), deploy)
    }

    /// The same for a daemon that depends on resources.
    ///
    /// # Errors
    ///
    /// As [`Root::restore`]; `E_RESOURCE_UNKNOWN`.
    pub fn restore_using(
        &self,
        snapshot: &[u8],
        options: DaemonOptions,
        depends: &Depends,
        deploy: Deploy<'_>,
    ) -> Result<Arc<Checkpoint>, Fault> {
        let names = |names: &[String]| {
            let names = names.iter().map(|name| self.ground.board.full_name(name));
            names.collect::<Result<Vec<_>, Fault>>()
        };
        let (needs, uses) = (names(&depends.needs)?, names(&depends.uses)?);
        let packed = Packed::check(snapshot).map_err(not_one)?;
        let _lent = self.lend(packed.bytes())?;
        let (checkpoint, code) = unpacked(&packed)?;
        let plan = DaemonPlan::new(deploy(code)?, options);
        self.adopt(DaemonPlan { copied: true, needs, uses, ..plan }, checkpoint)
    }

    /// Lets a daemon that runs go on with the state of a snapshot, as a commit of its own; answers
    /// that state, and the commit's number. What it had can be reverted to.
    ///
    /// # Errors
    ///
    /// `E_SNAPSHOT`, `E_DAEMON_UNKNOWN`, `E_STATELESS`; `E_CODE_CHANGED` when other code made the
    /// snapshot, and as [`Root::revert`]. The daemon is then as it was.
    pub fn restore_into(&self, name: &str, snapshot: &[u8]) -> Result<(Facts, Sequence), Fault> {
        self.keeper(name)?;
        let packed = Packed::check(snapshot).map_err(not_one)?;
        let _lent = self.lend(packed.bytes())?;
        let (mut checkpoint, _code) = unpacked(&packed)?;
        let facts = checkpoint.facts();
        let sequence = self.control(name, move |daemon| daemon.restore(&mut checkpoint))?;
        Ok((facts, sequence))
    }

    /// Answers the checkpoint that was adopted. A copy has no readers.
    fn adopt(
        &self,
        mut plan: DaemonPlan,
        checkpoint: Checkpoint,
    ) -> Result<Arc<Checkpoint>, Fault> {
        plan.options.readers = 0;
        let checkpoint = Arc::new(checkpoint);
        self.add(plan, First::Adopt(checkpoint.clone()))
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
        let until = match to {
            RevertTo::Commit(to) => to,
            RevertTo::Last(_) => Sequence(u64::MAX),
        };
        let _lent = self.lend_for(name, Some(until))?;
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
            let checkpoint = store.checkpoint(&name_of, key, Some(to));
            let mut checkpoint = checkpoint.map_err(|fault| Fault::from(&fault))?;
            daemon.revert(&mut checkpoint).map(|sequence| (to, sequence))
        })
    }

    /// Stops a daemon that was forked or restored and deletes its state; or deletes the state of
    /// one that no file of this start has.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`; `E_DAEMON_FILE` for a daemon that runs and has a guest's file; the
    /// journal's.
    pub fn remove(&self, name: &str) -> Result<(), Fault> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let unstarted = self.why_unstarted(name);
        let worker = match (self.worker(name), self.kept(name)) {
            (Ok(worker), _) => Some(worker),
            (Err(_), Ok(_)) => None,
            (Err(fault), Err(_)) => return Err(fault),
        };
        let copied = worker.as_ref().map(|worker| worker.copied);
        if copied.or(unstarted.map(|unstarted| unstarted.copied)) == Some(false) {
            let message = format!("daemon `{name}` is of a guest's file; only copies are removed");
            return Err(Fault::new(Code::DaemonFile, message));
        }
        if let Some(worker) = &worker {
            self.take_out(name, worker);
        }
        let journal = self.ground.journal.as_ref();
        let removed = journal.map_or(Ok(()), |journal| remove_in_time(&journal.store, name));
        if let Err(fault) = removed {
            let why = Fault::from(&fault);
            // It is stopped, and its state is there: it can be removed again, or started.
            if let Some(worker) = worker {
                self.park_unstarted(Unstarted::once(&worker, why.clone()));
            }
            return Err(why);
        }
        self.unstarted.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    /// The code that made a checkpoint.
    fn code_of(&self, name: &str, checkpoint: &Checkpoint) -> Result<Arc<[u8]>, Fault> {
        let running = self.worker(name).map(|worker| worker.guest());
        if let Ok(running) = running
            && *running.facts().digest.as_bytes() == checkpoint.code
        {
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

    /// The code that made the last commit of a daemon, as a guest.
    pub(super) fn guest_of_state(
        &self,
        name: &str,
        deploy: Deploy<'_>,
    ) -> Result<Arc<Guest>, Fault> {
        let (store, key) = self.kept(name)?;
        deploy(&store.code_of_state(name, key).map_err(|fault| Fault::from(&fault))?)
    }

    /// Where a daemon's history is, whether it runs or not.
    pub(super) fn kept(&self, name: &str) -> Result<(Arc<Store>, DaemonKey), Fault> {
        let keeper = self.keeper(name);
        let memory_only = || Fault::new(Code::MemoryOnly, "this host has no data directory");
        let Some(journal) = &self.ground.journal else {
            return keeper.and_then(|_running| Err(memory_only()));
        };
        let key = match keeper {
            Ok(worker) => worker.key.ok_or_else(memory_only)?,
            Err(fault) => journal.store.find_daemon(name).ok_or(fault)?.key,
        };
        Ok((journal.store.clone(), key))
    }
}

/// What a snapshot holds: a memory of whole pages, as every guest's is.
fn unpacked<'a>(packed: &Packed<'a>) -> Result<(Checkpoint, &'a [u8]), Fault> {
    let (checkpoint, code) = packed.unpack().map_err(not_one)?;
    if !checkpoint.memory.len().is_multiple_of(WASM_PAGE_BYTES) {
        return Err(Fault::new(Code::Snapshot, "the snapshot's memory is not of whole pages"));
    }
    Ok((checkpoint, code))
}

fn not_one(error: SnapshotError) -> Fault {
    Fault::new(Code::Snapshot, error.to_string())
}
