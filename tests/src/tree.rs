//! A root with daemons on their threads, as `host run` has them.

use std::sync::Arc;
use std::time::Duration;

use host::base::clock::SystemClock;
use host::base::entropy::SeededEntropy;
use host::base::error::Code;
use host::base::limits::TRAFFIC_BYTES_MIN;
use host::mechanisms::journal::Store;
use host::mechanisms::memory::Bill;
use host::mechanisms::sandbox::{Guest, GuestLog, NoLog};
use host::pure::request::{Answer, Outcome, Request};
use host::tree::{
    DaemonOptions, DaemonPlan, DaemonView, MakeLog, ResourcePlan, Root, RootError, RootOptions,
    Unstarted, UpgradeOptions,
};
use serde_json::Value;

use crate::rig::Lines;

/// A rehearsal of an upgrade in which nothing may be lost.
pub const REHEARSAL: UpgradeOptions = UpgradeOptions { dry_run: true, accept_loss: false };

/// An upgrade in which nothing may be lost.
pub const REAL: UpgradeOptions = UpgradeOptions { dry_run: false, accept_loss: false };

/// A root, and the lines of all its daemons.
#[derive(Debug)]
pub struct Tree {
    /// The root.
    pub root: Root,
    /// What its guests logged; nothing is kept unless asked for.
    pub lines: Arc<Lines>,
}

/// A daemon to start: the images are always compared, the deadline is long.
#[must_use]
pub fn plan(name: &str, guest: &Arc<Guest>, change: impl FnOnce(&mut DaemonOptions)) -> DaemonPlan {
    let mut options = DaemonOptions::new(name, 4 << 20);
    options.verify = true;
    options.limits.deadline = Duration::from_secs(60);
    change(&mut options);
    DaemonPlan::new(guest.clone(), options)
}

/// A request without key or correlation id.
#[must_use]
pub fn request(daemon: &str, contract: &str, args: Value) -> Request {
    Request::new(daemon, contract, args)
}

/// The smallest limit in which daemons have so many bytes.
#[must_use]
pub fn limit_for(bytes: usize) -> usize {
    // Both grow with it, the first one slower.
    let lacks = |limit: &usize| bytes + Bill::new(Vec::new(), *limit).traffic_bytes > *limit;
    let (mut short, mut enough) = (bytes, 2 * bytes + TRAFFIC_BYTES_MIN);
    while enough - short > 1 {
        let between = short + (enough - short) / 2;
        *(if lacks(&between) { &mut short } else { &mut enough }) = between;
    }
    enough
}

impl Tree {
    /// Starts the daemons, with at most `memory_limit_bytes`, and keeps their lines.
    ///
    /// # Errors
    ///
    /// The root's.
    pub fn try_start(plans: Vec<DaemonPlan>, memory_limit_bytes: usize) -> Result<Self, RootError> {
        let lines = Arc::new(Lines::default());
        let root = start(plans, memory_limit_bytes, lines.clone(), None)?;
        Ok(Self { root, lines })
    }

    /// Starts the daemons, and keeps their lines.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn start(plans: Vec<DaemonPlan>) -> Self {
        Self::try_start(plans, usize::MAX).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts the daemons; what they log is forgotten.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn start_quietly(plans: Vec<DaemonPlan>) -> Self {
        let root = start(plans, usize::MAX, Arc::new(NoLog), None);
        let root = root.unwrap_or_else(|error| panic!("{error}"));
        Self { root, lines: Arc::default() }
    }

    /// Starts the daemons, and hands `log` what they log.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn logging(plans: Vec<DaemonPlan>, log: Arc<dyn GuestLog>) -> Self {
        let root = start(plans, usize::MAX, log, None).unwrap_or_else(|error| panic!("{error}"));
        Self { root, lines: Arc::default() }
    }

    /// Starts the daemons with resources; what they log is forgotten.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn with_resources(
        plans: Vec<DaemonPlan>,
        resources: Vec<ResourcePlan>,
        journal: Option<Arc<Store>>,
    ) -> Self {
        let tree = Self::try_with(plans, resources, journal);
        tree.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same in memory, where that may fail.
    ///
    /// # Errors
    ///
    /// The root's.
    pub fn try_with_resources(
        plans: Vec<DaemonPlan>,
        resources: Vec<ResourcePlan>,
    ) -> Result<Self, RootError> {
        Self::try_with(plans, resources, None)
    }

    /// Starts the daemons beside others that can't be started; what they log is forgotten.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn beside(plans: Vec<DaemonPlan>, unstarted: Vec<Unstarted>) -> Self {
        let logs: MakeLog = Box::new(|_name| Arc::new(NoLog));
        let options = RootOptions { logs: Some(logs), unstarted, ..options(usize::MAX) };
        let root = Root::start(plans, options).unwrap_or_else(|error| panic!("{error}"));
        Self { root, lines: Arc::default() }
    }

    fn try_with(
        plans: Vec<DaemonPlan>,
        resources: Vec<ResourcePlan>,
        journal: Option<Arc<Store>>,
    ) -> Result<Self, RootError> {
        let logs: MakeLog = Box::new(|_name| Arc::new(NoLog));
        let options = RootOptions { logs: Some(logs), journal, resources, ..options(usize::MAX) };
        Ok(Self { root: Root::start(plans, options)?, lines: Arc::default() })
    }

    /// Starts the daemons over a journal; what they log is forgotten.
    ///
    /// # Panics
    ///
    /// When they don't start.
    #[must_use]
    pub fn durable(plans: Vec<DaemonPlan>, journal: Arc<Store>) -> Self {
        Self::try_durable(plans, journal).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, where that may fail.
    ///
    /// # Errors
    ///
    /// The root's.
    pub fn try_durable(plans: Vec<DaemonPlan>, journal: Arc<Store>) -> Result<Self, RootError> {
        let root = start(plans, usize::MAX, Arc::new(NoLog), Some(journal))?;
        Ok(Self { root, lines: Arc::default() })
    }

    /// Runs a request to its end.
    ///
    /// # Panics
    ///
    /// When the host has a bug.
    #[must_use]
    pub fn call(&self, daemon: &str, contract: &str, args: Value) -> Answer {
        self.root.call(request(daemon, contract, args)).unwrap()
    }

    /// The value of a request that must be committed.
    ///
    /// # Panics
    ///
    /// When it isn't.
    #[must_use]
    pub fn committed(&self, daemon: &str, contract: &str, args: Value) -> Value {
        let answer = self.call(daemon, contract, args);
        answer.value().unwrap_or_else(|| panic!("{daemon} {contract}: {:?}", answer.outcome))
    }

    /// The code of a request that is refused, rejected or crashes; empty when it is committed.
    #[must_use]
    pub fn code(&self, daemon: &str, contract: &str, args: Value) -> String {
        code(&self.call(daemon, contract, args).outcome)
    }

    /// One daemon's numbers.
    ///
    /// # Panics
    ///
    /// When there is no such daemon.
    #[must_use]
    pub fn view(&self, daemon: &str) -> DaemonView {
        let views = self.root.daemons();
        views.into_iter().find(|view| view.name == daemon).unwrap()
    }

    /// Hash of a daemon's committed state.
    ///
    /// # Panics
    ///
    /// When it doesn't answer.
    #[must_use]
    pub fn hash(&self, daemon: &str) -> String {
        let hash = self.root.committed_hash(daemon, Duration::from_secs(60)).unwrap();
        hash.unwrap().to_hex().to_string()
    }
}

fn start(
    plans: Vec<DaemonPlan>,
    memory_limit_bytes: usize,
    log: Arc<dyn GuestLog>,
    journal: Option<Arc<Store>>,
) -> Result<Root, RootError> {
    Root::start(
        plans,
        RootOptions {
            logs: Some(Box::new(move |_name| log.clone())),
            journal,
            ..options(memory_limit_bytes)
        },
    )
}

fn options(memory_limit_bytes: usize) -> RootOptions {
    let clock = Arc::new(SystemClock::new());
    RootOptions::new(memory_limit_bytes, clock, Arc::new(SeededEntropy::new(7)))
}

/// The code of an outcome; empty when it is committed.
pub(crate) fn code(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Committed(_) => String::new(),
        Outcome::Rejected(rejection) => rejection.code.clone(),
        Outcome::Crashed(crash) => crash.code.as_str().to_owned(),
        Outcome::Cancelled(_) => Code::HandleStale.as_str().to_owned(),
        Outcome::Unknown(fault) => fault.code.as_str().to_owned(),
    }
}
