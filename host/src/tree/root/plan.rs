//! What a root is started with, and what is checked before it does anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Unstarted;
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::error::{Blame, Code, Fault, printable};
use crate::base::limits::DAEMONS_MAX;
use crate::base::vitals::Vitals;
use crate::mechanisms::journal::{JournalFault, Store};
use crate::mechanisms::memory::{BillError, ImagesError};
use crate::mechanisms::sandbox::{Guest, GuestLog};
use crate::pure::setting::is_name;
use crate::tree::daemon::DaemonOptions;
use crate::tree::service::ResourcePlan;

/// A daemon to start.
#[derive(Clone, Debug)]
pub struct DaemonPlan {
    /// Its guest's code.
    pub guest: Arc<Guest>,
    /// How it treats it.
    pub options: DaemonOptions,
    /// It is a copy of another daemon or of a snapshot: it has no file.
    pub copied: bool,
    /// The resources that it can't do without, by their names.
    pub needs: Vec<String>,
    /// Those that it can do without.
    pub uses: Vec<String>,
    /// It is started when all those of lower layers are ready.
    pub layer: usize,
}

impl DaemonPlan {
    /// A daemon of a guest's file.
    #[must_use]
    pub fn new(guest: Arc<Guest>, options: DaemonOptions) -> Self {
        Self { guest, options, copied: false, needs: Vec::new(), uses: Vec::new(), layer: 0 }
    }

    /// The names of what has a thread of it: its own and those of its readers, or those of the
    /// instances of a stateless one.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let DaemonOptions { name, stateless, readers, .. } = &self.options;
        let own = stateless.is_none().then(|| name.clone());
        let (count, what) = stateless.map_or((*readers, "reader-"), |instances| (instances, ""));
        own.into_iter().chain((0..count).map(move |index| format!("{name}/{what}{index}")))
    }
}

/// Makes the log of a daemon, by its name.
pub type MakeLog = Box<dyn Fn(&str) -> Arc<dyn GuestLog> + Send + Sync>;

/// What the root needs of the world around it.
pub struct RootOptions {
    /// Bytes that all daemons together may take.
    pub memory_limit_bytes: usize,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Seeds.
    pub entropy: Arc<dyn Entropy>,
    /// Makes the log of each daemon, by its name; `None` writes to `tracing`.
    pub logs: Option<MakeLog>,
    /// What makes commits durable; `None` keeps them in memory only.
    pub journal: Option<Arc<Store>>,
    /// What daemons need of the world outside.
    pub resources: Vec<ResourcePlan>,
    /// Daemons with a state that can't be started, whatever is tried here.
    pub unstarted: Vec<Unstarted>,
    /// Where the threads show that they turn, and what ends the host in an emergency.
    pub vitals: Arc<Vitals>,
}

impl RootOptions {
    /// Options with logs to `tracing`.
    #[must_use]
    pub fn new(
        memory_limit_bytes: usize,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            memory_limit_bytes,
            clock,
            entropy,
            logs: None,
            journal: None,
            resources: Vec::new(),
            unstarted: Vec::new(),
            vitals: Arc::default(),
        }
    }
}

impl std::fmt::Debug for RootOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootOptions")
            .field("memory_limit_bytes", &self.memory_limit_bytes)
            .finish_non_exhaustive()
    }
}

/// The root could not start its daemons.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// None, or too many.
    #[error("{0} daemons; 1 to {DAEMONS_MAX} are possible")]
    Count(usize),
    /// A name that can't be used.
    #[error("`{0}` is not a daemon's name: 1 to 64 of a-z, 0-9, - and _")]
    Name(String),
    /// A name twice.
    #[error("two daemons are called `{0}`")]
    Twice(String),
    /// A new name that has an owner.
    #[error("there is a daemon `{0}` already, running or in the data directory")]
    Exists(String),
    /// The budgets don't fit.
    #[error(transparent)]
    Bill(#[from] BillError),
    /// The machine has no thread for crash reports.
    #[error("no thread for crash reports: {0}")]
    Reports(std::io::Error),
    /// A guest's initial memory doesn't fit its budget.
    #[error(
        "daemon `{name}`: its guest starts with {needs} of memory, its budget is {budget}",
        needs = crate::pure::size::show_bytes(*.needs),
        budget = crate::pure::size::show_bytes(*.budget)
    )]
    Memory {
        /// The daemon.
        name: String,
        /// What the guest starts with, in bytes.
        needs: usize,
        /// Its budget, in bytes.
        budget: usize,
    },
    /// The machine has no memory.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// The machine has no threads.
    #[error("no thread for daemon `{name}`: {error}")]
    Thread {
        /// The daemon.
        name: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The machine has no thread for the resources.
    #[error("no thread for the resources: {0}")]
    Resources(std::io::Error),
    /// A daemon's guest could not make its first state, or its state could not be loaded.
    #[error("{0}")]
    Daemon(Fault),
    /// The journal can't be used.
    #[error(transparent)]
    Journal(#[from] JournalFault),
}

impl From<&RootError> for Fault {
    fn from(error: &RootError) -> Self {
        let code = match error {
            RootError::Count(_) | RootError::Name(_) | RootError::Twice(_) => Code::Name,
            RootError::Exists(_) => Code::DaemonExists,
            RootError::Bill(BillError::Over(_)) => Code::Budget,
            RootError::Bill(BillError::OutOfRange { .. }) => Code::BudgetSize,
            // The budget is what the operator gave it.
            RootError::Memory { .. } => {
                return Self::new(Code::MemoryLimit, error.to_string()).blamed_on(Blame::Operator);
            }
            RootError::Images(_) => Code::NoMemory,
            RootError::Thread { .. } | RootError::Reports(_) | RootError::Resources(_) => {
                Code::ProcessLimit
            }
            RootError::Daemon(fault) => return fault.clone(),
            RootError::Journal(fault) => return Self::from(fault),
        };
        Self::new(code, error.to_string())
    }
}

pub(super) fn check_names(plans: &[DaemonPlan], unstarted: &[Unstarted]) -> Result<(), RootError> {
    let threads: usize = plans.iter().map(|plan| plan.names().count()).sum();
    check_count(threads + unstarted.len())?;
    let mut seen = BTreeSet::new();
    let options = plans.iter().map(|plan| &plan.options);
    for options in options.chain(unstarted.iter().map(|one| &one.options)) {
        let name = &options.name;
        if !is_name(name) {
            return Err(RootError::Name(printable(name, 64)));
        }
        if !seen.insert(name) {
            return Err(RootError::Twice(name.clone()));
        }
    }
    Ok(())
}

/// Those that could not be started are among them: a person may start them.
pub(super) fn check_count(count: usize) -> Result<(), RootError> {
    if (1..=DAEMONS_MAX).contains(&count) { Ok(()) } else { Err(RootError::Count(count)) }
}

pub(super) fn check_budget(plan: &DaemonPlan) -> Result<(), RootError> {
    let needs = usize::try_from(plan.guest.facts().memory_minimum_bytes).unwrap_or(usize::MAX);
    let budget = plan.options.budget_bytes;
    if needs > budget {
        return Err(RootError::Memory { name: plan.options.name.clone(), needs, budget });
    }
    Ok(())
}
