//! Crashes of the past, and one on purpose.

use std::ops::ControlFlow;

use super::Root;
use crate::base::error::{Code, Fault};
use crate::base::ids::RequestId;
use crate::mechanisms::journal::Store;
use crate::pure::crash_report::CrashReport;
use crate::tree::daemon::{Daemon, Simulated};
use crate::tree::replay::{ReplayMaterials, replay_materials};

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
        let kept = self.store()?.crash(id).map_err(|fault| Fault::from(&fault))?;
        let no_crash = |what: String| Fault::new(Code::NoCrash, what);
        let bytes = kept.ok_or_else(|| no_crash(format!("no crash report {id} is kept")))?;
        CrashReport::decode(&bytes).map_err(|error| no_crash(format!("{id}: {error}")))
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
}

fn last_crashes(
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
