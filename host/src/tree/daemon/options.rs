//! How a daemon treats its guest, and what it needs of the world around it.

use std::sync::Arc;

use serde_json::Value;
use supervisor::policy::{Exhausted, Policy, Restart};

use super::recorder::COMMIT_BYTES_MAX;
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::error::Fault;
use crate::base::limits::RETRIES_DEFAULT;
use crate::mechanisms::sandbox::{GuestLog, Limits, Outputs};
use crate::pure::kept_setup::{KeptSetup, Parts};
use crate::pure::pace::CpuShare;
use crate::pure::policy::OnCrash;
use crate::tree::service::Hold;

/// What a daemon needs of the world around it.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Seeds.
    pub entropy: Arc<dyn Entropy>,
    /// Where the guest's lines go.
    pub log: Arc<dyn GuestLog>,
    /// What the daemons of the host show each other.
    pub outputs: Arc<Outputs>,
    /// The resources that it may use; none when it has none.
    pub hold: Option<Arc<Hold>>,
}

impl World {
    /// What there is not of the resources that the daemon needs.
    pub(super) fn lacking(&self) -> Option<Fault> {
        self.hold.as_ref()?.lacking()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// How a daemon treats its guest.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Its name.
    pub name: String,
    /// Bytes of its guest's memory, at most.
    pub budget_bytes: usize,
    /// What `init` gets: a JSON object.
    pub parameters: Value,
    /// What each transaction may use.
    pub limits: Limits,
    /// What each of `save`, `load` and `check` may use.
    pub upgrade_limits: Limits,
    /// Bytes of the cards that one commit may change, with a journal; at most
    /// [`COMMIT_BYTES_MAX`], which is what a record holds.
    pub commit_bytes_max: usize,
    /// Times that a crashed transaction is tried again.
    pub retries_max: u32,
    /// Try it again also when it had called a resource, which then is called again too.
    pub retry_live: bool,
    /// Which state to go on with after a crash.
    pub on_crash: OnCrash,
    /// How often its thread is started again when it dies, and what then.
    pub restarts: Policy,
    /// Share of one processor.
    pub share: CpuShare,
    /// It has no state: each transaction starts on its first one and changes nothing, and so many
    /// run at once, each in an instance with a budget and a thread of its own.
    pub stateless: Option<u32>,
    /// So many threads run its read-only transactions beside it, each on images of its own that
    /// follow its commits.
    pub readers: u32,
    /// Compare whole images at each commit and roll back: finds holes in the write barrier.
    pub verify: bool,
}

impl DaemonOptions {
    /// Defaults for a daemon of that name and budget.
    #[must_use]
    pub fn new(name: impl Into<String>, budget_bytes: usize) -> Self {
        Self {
            name: name.into(),
            budget_bytes,
            parameters: Value::Object(serde_json::Map::new()),
            limits: Limits::default(),
            upgrade_limits: Limits::UPGRADE,
            commit_bytes_max: COMMIT_BYTES_MAX,
            retries_max: RETRIES_DEFAULT,
            retry_live: false,
            on_crash: OnCrash::default(),
            // A bug of the host at one daemon is no reason to stop the others.
            restarts: Policy::new(Restart::Permanent).with_exhausted(Exhausted::Park),
            share: CpuShare::FULL,
            stateless: None,
            readers: 0,
            verify: false,
        }
    }

    /// What is kept of them for a copy, with the resources that it needs and uses.
    #[must_use]
    pub fn kept(&self, needs: &[String], uses: &[String]) -> KeptSetup {
        let Self { on_crash, restarts, share, limits, .. } = *self;
        let parts = Parts { deadline: limits.deadline, on_crash, restarts, share };
        let mut kept = KeptSetup::new(&parts);
        (kept.needs, kept.uses) = (needs.to_vec(), uses.to_vec());
        (kept.fuel, kept.retries, kept.retry_live) =
            (limits.fuel, self.retries_max, self.retry_live);
        kept.parameters = self.parameters.as_object().cloned().unwrap_or_default();
        kept
    }

    /// The same as they were kept.
    #[must_use]
    pub fn with_kept(self, kept: &KeptSetup) -> Self {
        let Some(Parts { deadline, on_crash, restarts, share }) = kept.parts() else { return self };
        Self {
            limits: Limits { fuel: kept.fuel, deadline },
            on_crash,
            restarts,
            share,
            retries_max: kept.retries,
            retry_live: kept.retry_live,
            parameters: Value::Object(kept.parameters.clone()),
            ..self
        }
    }

    /// The same for a stateless daemon of so many instances, at least one: a crashed transaction
    /// is not tried again.
    #[must_use]
    pub fn stateless(self, instances: u32) -> Self {
        Self { stateless: Some(instances.max(1)), retries_max: 0, ..self }
    }
}
