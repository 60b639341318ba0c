//! Crashes of the past, and one on purpose.

use std::ops::ControlFlow;
use std::time::Duration;

use super::Root;
use crate::base::error::{Code, Fault};
use crate::base::ids::{Generation, RequestId, Sequence};
use crate::mechanisms::journal::Store;
use crate::pure::crash_report::CrashReport;
use crate::tree::daemon::{Daemon, Simulated};
use crate::tree::replay::{ReplayMaterials, replay_materials};

/// Where a daemon stands between two transactions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stand {
    /// Its last commit.
    pub sequence: Sequence,
    /// The generation of its instance.
    pub generation: Generation,
    /// Hash of its committed state.
    pub hash: blake3::Hash,
}

/// What the death of a daemon's thread came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ThreadDeath {
    /// Before.
    pub before: Stand,
    /// After. Requests that waited run later, so only what they commit is missing here.
    pub after: Stand,
    /// How often its thread has died by now.
    pub deaths: u64,
    /// From the death to the daemon that is back, and has hashed its state.
    pub took: Duration,
}

impl Root {
    /// The last `count` crashes of a daemon whose reports are kept, oldest first.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_MEMORY_ONLY`, and the journal's.
    pub fn crashes(&self, name: &str, count: usize) -> Result<Vec<CrashReport>, Fault> {
        let (store, key) = self.kept(name)?;
        last_crashes(&store, count, |report| report.daemon_key == key.0)
    }

    /// The last `count` crashes of all daemons whose reports are kept, oldest first; also of
    /// daemons that are gone.
    ///
    /// # Errors
    ///
    /// `E_MEMORY_ONLY`, and the journal's.
    pub fn all_crashes(&self, count: usize) -> Result<Vec<CrashReport>, Fault> {
        last_crashes(self.store()?, count, |_| true)
    }

    /// The crash of that id.
    ///
    /// # Errors
    ///
    /// `E_MEMORY_ONLY`, `E_NO_CRASH`, and the journal's.
    pub fn crash(&self, id: RequestId) -> Result<CrashReport, Fault> {
        crash_of(self.store()?, id)
    }

    /// Whether crashed requests are written down: only with a data directory.
    #[must_use]
    pub fn keeps_crashes(&self) -> bool {
        self.ground.journal.is_some()
    }

    fn store(&self) -> Result<&Store, Fault> {
        let memory_only = || Fault::new(Code::MemoryOnly, "this host has no data directory");
        Ok(&self.ground.journal.as_ref().ok_or_else(memory_only)?.store)
    }

    /// All that it takes to run a crashed request again: its report, the commit that it ran on, and
    /// the guest's code.
    ///
    /// # Errors
    ///
    /// `E_MEMORY_ONLY`, `E_NO_CRASH`, `E_NO_COMMIT` when the commit or the code is not kept any
    /// more, and the journal's.
    pub fn replay_materials(&self, id: RequestId) -> Result<ReplayMaterials, Fault> {
        replay_materials(self.store()?, id)
    }

    /// Ruins the running instance of a daemon, its live memory and globals, between two
    /// transactions, traps, and recovers as from any crash.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_PARKED`; `E_HOST_BUG` when the state is not what it was.
    pub fn simulate_crash(&self, name: &str) -> Result<Simulated, Fault> {
        self.control(name, Daemon::simulate_crash)
    }

    /// Lets a daemon's thread die, as a bug of the host would, and waits until the next one has
    /// brought it back. It counts as any death: too many of them, and the daemon is given up.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_QUEUE_FULL`; `E_PARKED` and `E_STOPPING` when it is not brought back.
    pub fn simulate_thread_death(&self, name: &str) -> Result<ThreadDeath, Fault> {
        let look = |daemon: &mut Daemon| {
            let (sequence, generation) = (daemon.sequence(), daemon.generation());
            Ok(Stand { sequence, generation, hash: daemon.committed_hash() })
        };
        let before = self.control(name, look)?;
        let started = self.ground.clock.monotonic_nanos();
        self.let_thread_die(name, 0)?;
        // Waits in the mailbox, which outlives the thread.
        let after = self.control(name, look)?;
        let took = self.ground.clock.monotonic_nanos().saturating_sub(started);
        let deaths = self.worker(name)?.child.deaths();
        Ok(ThreadDeath { before, after, deaths, took: Duration::from_nanos(took) })
    }
}

/// The crash of that id.
///
/// # Errors
///
/// `E_NO_CRASH`, and the journal's.
pub fn crash_of(store: &Store, id: RequestId) -> Result<CrashReport, Fault> {
    let kept = store.crash(id).map_err(|fault| Fault::from(&fault))?;
    let no_crash = |what: String| Fault::new(Code::NoCrash, what);
    let bytes = kept.ok_or_else(|| no_crash(format!("no crash report {id} is kept")))?;
    CrashReport::decode(&bytes).map_err(|error| no_crash(format!("{id}: {error}")))
}

/// The last `count` crashes that are `wanted` and whose reports are kept, oldest first.
///
/// # Errors
///
/// The journal's.
pub fn last_crashes(
    store: &Store,
    count: usize,
    wanted: impl Fn(&CrashReport) -> bool,
) -> Result<Vec<CrashReport>, Fault> {
    let mut reports = Vec::new();
    store
        .visit_crashes(|id, bytes| {
            if reports.len() >= count {
                return ControlFlow::Break(());
            }
            match CrashReport::decode(bytes) {
                Ok(report) if wanted(&report) => reports.push(report),
                Ok(_) => {}
                Err(error) => tracing::warn!(%id, %error, "a crash report is passed over"),
            }
            ControlFlow::Continue(())
        })
        .map_err(|fault| Fault::from(&fault))?;
    reports.reverse();
    Ok(reports)
}
