//! The root of the tree: reserves all memory, starts the daemons, hands them requests.
//!
//! It runs no guest code and reads no guest's data: arguments are bound on the caller's thread,
//! guests run on their daemons'.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::daemon::{Bound, DaemonOptions, JournalSeat, World};
use super::durable::Gate;
use super::gauges::Report;
use super::guest_log::TracedLog;
use super::worker::{Message, Starting, Worker};
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::error::{Code, Fault};
use crate::base::ids::{NodeId, RequestId, RequestIds, Sequence};
use crate::base::limits::{DAEMONS_MAX, STOP_GRACE};
use crate::mechanisms::journal::{Committer, Durability, JournalFault, Metrics, Store};
use crate::mechanisms::memory::{Arena, Bill, BillError, BillLine, ImagesError};
use crate::mechanisms::sandbox::{Guest, GuestLog};
use crate::pure::request::{Answer, Request};

/// A daemon to start.
#[derive(Clone, Debug)]
pub struct DaemonPlan {
    /// Its guest's code.
    pub guest: Arc<Guest>,
    /// How it treats it.
    pub options: DaemonOptions,
}

/// Makes the log of a daemon, by its name.
pub type MakeLog = Box<dyn Fn(&str) -> Arc<dyn GuestLog>>;

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
}

/// The journal of a root, with the thread that writes it.
struct RootJournal {
    store: Arc<Store>,
    committer: Committer,
}

impl RootOptions {
    /// Options with logs to `tracing`.
    #[must_use]
    pub fn new(
        memory_limit_bytes: usize,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { memory_limit_bytes, clock, entropy, logs: None, journal: None }
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
    /// The budgets don't fit.
    #[error(transparent)]
    Bill(#[from] BillError),
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
            RootError::Bill(BillError::Over(_)) => Code::Budget,
            RootError::Bill(BillError::OutOfRange { .. }) => Code::BudgetSize,
            RootError::Memory { .. } => Code::MemoryLimit,
            RootError::Images(_) | RootError::Thread { .. } => Code::NoMemory,
            RootError::Daemon(fault) => return fault.clone(),
            RootError::Journal(fault) => return Self::from(fault),
        };
        Self::new(code, error.to_string())
    }
}

/// Takes the answer to a request. Runs on a daemon's thread: it must not block.
pub type Reply = Box<dyn FnOnce(Answer) + Send>;

/// One daemon, as `host ps` shows it.
#[derive(Clone, Debug)]
pub struct DaemonView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Bytes of its budget.
    pub budget_bytes: usize,
    /// Its numbers.
    pub report: Report,
}

/// All daemons of this process.
pub struct Root {
    daemons: BTreeMap<String, (NodeId, Worker)>,
    journal: Option<RootJournal>,
    bill: Bill,
    clock: Arc<dyn Clock>,
    request_ids: RequestIds,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").field("daemons", &self.daemons.keys()).finish_non_exhaustive()
    }
}

impl Root {
    /// The root's generation: there is never a second one in a process.
    pub const GENERATION: u64 = 1;

    /// Reserves the memory of all daemons, then starts them; all or none.
    ///
    /// # Errors
    ///
    /// [`RootError`]; what had started is stopped again.
    pub fn start(plans: Vec<DaemonPlan>, options: RootOptions) -> Result<Self, RootError> {
        check_names(&plans)?;
        let lines = plans.iter().map(|plan| BillLine {
            name: plan.options.name.clone(),
            budget_bytes: plan.options.budget_bytes,
        });
        let bill = Bill { lines: lines.collect(), limit_bytes: options.memory_limit_bytes };
        let bill = bill.check()?;
        check_budgets(&plans)?;
        let shapes: Vec<_> = plans.iter().map(|plan| plan.guest.shape()).collect();
        let mut arena = Arena::reserve(bill.clone(), &shapes)?;
        tracing::debug!(bytes = bill.total_bytes(), "all memory is reserved");
        let journal = match options.journal {
            None => None,
            Some(store) => {
                let committer = Committer::start(store.clone(), options.clock.clone())?;
                Some(RootJournal { store, committer })
            }
        };
        let mut starting = Vec::with_capacity(plans.len());
        for (index, plan) in plans.into_iter().enumerate() {
            let name = plan.options.name.clone();
            let log = match &options.logs {
                Some(make) => make(&name),
                None => Arc::new(TracedLog::new(&name)),
            };
            let world =
                World { clock: options.clock.clone(), entropy: options.entropy.clone(), log };
            let Some(images) = arena.take(index) else { return Err(RootError::Count(index)) };
            let gate = journal.as_ref().map(|journal| journal.gate(&name)).transpose()?;
            let spawned = Starting::spawn(plan.guest, images, plan.options, world, gate)
                .map_err(|error| RootError::Thread { name: name.clone(), error })?;
            tracing::debug!(daemon = name, "starting");
            starting.push((name, spawned));
        }
        let mut root = Self {
            daemons: BTreeMap::new(),
            journal,
            bill,
            request_ids: RequestIds::starting_at(options.clock.unix_nanos()),
            clock: options.clock,
        };
        for (id, (name, starting)) in (NodeId::ROOT.0 + 1..).zip(starting) {
            let worker = starting.wait().map_err(RootError::Daemon)?;
            root.daemons.insert(name, (NodeId(id), worker));
        }
        Ok(root)
    }

    /// Binds a request and hands it to its daemon. `reply` gets exactly one answer: at once, on
    /// this thread, when the request is refused; later, on the daemon's thread, otherwise.
    pub fn submit(&self, request: Request, reply: Reply) {
        let id = self.request_ids.next();
        let worker = match self.daemons.get(&request.daemon) {
            Some((_, worker)) => worker,
            None => {
                let fault = self.unknown_daemon(&request.daemon);
                return reply(Answer::refused(id, &request, Sequence::default(), fault));
            }
        };
        let bound = match bind(worker, id, &request) {
            Ok(bound) => bound,
            Err(fault) => {
                let sequence = Sequence(worker.gauges.report().sequence);
                return reply(Answer::refused(id, &request, sequence, fault));
            }
        };
        let (daemon, contract) = (request.daemon, request.contract);
        // Both ends of a failed hand-over need the reply: the message carries it, and brings it
        // back.
        let answer = Box::new(move |transacted: super::daemon::Transacted| {
            let super::daemon::Transacted { outcome, sequence, attempts } = transacted;
            reply(Answer { request: id, daemon, contract, outcome, sequence, attempts });
        });
        if let Err((fault, Message::Transact(_, reply))) =
            worker.send(Message::Transact(bound, answer))
        {
            let outcome = crate::pure::request::Outcome::Rejected(fault.into());
            let sequence = Sequence(worker.gauges.report().sequence);
            reply(super::daemon::Transacted { outcome, sequence, attempts: 0 });
        }
    }

    /// Submits a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// `E_HOST_BUG` when the daemon's thread ended without one.
    pub fn call(&self, request: Request) -> Result<Answer, Fault> {
        let (reply, answer) = sync_channel(1);
        self.submit(request, Box::new(move |answer| drop(reply.send(answer))));
        answer.recv().map_err(|_| Fault::new(Code::HostBug, "the daemon ended without an answer"))
    }

    fn unknown_daemon(&self, name: &str) -> Fault {
        let name = crate::base::error::printable(name, 64);
        let names: Vec<&str> = self.daemons.keys().map(String::as_str).collect();
        let known = crate::base::error::printable(&names.join(", "), 300);
        Fault::new(Code::DaemonUnknown, format!("no daemon `{name}`; there are {known}"))
    }

    fn worker(&self, name: &str) -> Result<&Worker, Fault> {
        self.daemons.get(name).map(|(_, worker)| worker).ok_or_else(|| self.unknown_daemon(name))
    }

    /// All daemons, by name.
    #[must_use]
    pub fn daemons(&self) -> Vec<DaemonView> {
        self.daemons
            .iter()
            .map(|(name, (id, worker))| DaemonView {
                id: *id,
                name: name.clone(),
                budget_bytes: worker.options.budget_bytes,
                report: worker.gauges.report(),
            })
            .collect()
    }

    /// The code of a daemon's guest.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub fn guest(&self, name: &str) -> Result<&Arc<Guest>, Fault> {
        Ok(&self.worker(name)?.guest)
    }

    /// Hash of a daemon's committed state; none when it doesn't answer within `wait`, because a
    /// long transaction runs.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_QUEUE_FULL`.
    pub fn committed_hash(
        &self,
        name: &str,
        wait: Duration,
    ) -> Result<Option<blake3::Hash>, Fault> {
        let hash = self.ask(name, Message::Hash)?;
        Ok(hash.recv_timeout(wait).ok())
    }

    /// Starts a parked guest again on its last commit.
    ///
    /// # Errors
    ///
    /// Why it stays parked.
    pub fn resume(&self, name: &str) -> Result<(), Fault> {
        let resumed = self.ask(name, Message::Resume)?;
        resumed.recv().unwrap_or_else(|_| Err(Fault::new(Code::HostBug, "the daemon is gone")))
    }

    fn ask<T>(
        &self,
        name: &str,
        message: impl FnOnce(SyncSender<T>) -> Message,
    ) -> Result<std::sync::mpsc::Receiver<T>, Fault> {
        let (reply, answer) = sync_channel(1);
        self.worker(name)?.send(message(reply)).map_err(|(fault, _)| fault)?;
        Ok(answer)
    }

    /// Ends the running transaction of a daemon, if there is one, within a tick.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub fn cancel(&self, name: &str) -> Result<(), Fault> {
        self.worker(name)?.cancel();
        Ok(())
    }

    /// What was reserved, for whom.
    #[must_use]
    pub fn bill(&self) -> &Bill {
        &self.bill
    }

    /// The clock that requests are timed by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Stops all daemons: waiting requests are refused, running ones get [`STOP_GRACE`] and are
    /// then cancelled. Dropping the root does the same.
    pub fn stop(&mut self) {
        for (_, worker) in self.daemons.values_mut() {
            worker.begin_stop();
        }
        for (_, worker) in self.daemons.values_mut() {
            worker.end_stop(STOP_GRACE);
        }
        // After the last daemon: what they handed over is still made durable and answered.
        if let Some(journal) = self.journal.take() {
            journal.committer.stop();
        }
    }

    /// What an acknowledgement means; none when commits live in memory only.
    #[must_use]
    pub fn durability(&self) -> Option<Durability> {
        self.journal.as_ref().map(|journal| journal.store.durability())
    }

    /// What the journal has done so far; none when commits live in memory only.
    #[must_use]
    pub fn journal_metrics(&self) -> Option<Metrics> {
        self.journal.as_ref().map(|journal| journal.committer.metrics())
    }
}

impl RootJournal {
    fn gate(&self, name: &str) -> Result<Gate, JournalFault> {
        let key = self.store.daemon(name)?;
        let seat = JournalSeat { journal: self.store.clone(), key };
        Ok(Gate { seat, submitter: self.committer.submitter() })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.stop();
    }
}

fn check_names(plans: &[DaemonPlan]) -> Result<(), RootError> {
    if plans.is_empty() || plans.len() > DAEMONS_MAX {
        return Err(RootError::Count(plans.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for plan in plans {
        let name = &plan.options.name;
        let usable = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !usable {
            return Err(RootError::Name(crate::base::error::printable(name, 64)));
        }
        if !seen.insert(name) {
            return Err(RootError::Twice(name.clone()));
        }
    }
    Ok(())
}

fn check_budgets(plans: &[DaemonPlan]) -> Result<(), RootError> {
    for plan in plans {
        let needs = usize::try_from(plan.guest.facts().memory_minimum_bytes).unwrap_or(usize::MAX);
        let budget = plan.options.budget_bytes;
        if needs > budget {
            return Err(RootError::Memory { name: plan.options.name.clone(), needs, budget });
        }
    }
    Ok(())
}

/// Finds the contract and binds the arguments, on the caller's thread.
fn bind(worker: &Worker, id: RequestId, request: &Request) -> Result<Bound, Fault> {
    let contract = worker.guest.contract(&request.contract).ok_or_else(|| {
        let names: Vec<&str> =
            worker.guest.contracts().iter().map(|contract| contract.name.as_str()).collect();
        let (name, asked) = (&worker.options.name, &request.contract);
        let asked = crate::base::error::printable(asked, 64);
        let known = crate::base::error::printable(&names.join(", "), 300);
        let message = format!("daemon `{name}` has no contract `{asked}`; it has {known}");
        Fault::new(Code::ContractUnknown, message)
    })?;
    let arguments = contract
        .bind(&request.args)
        .map_err(|error| Fault::new(Code::Args, format!("`{}`: {error}", contract.name)))?;
    Ok(Bound {
        request: id,
        contract: contract.index,
        arguments: arguments.into(),
        key: request.key.as_deref().map(Arc::from),
        correlation: request.correlation.as_deref().map(Arc::from),
    })
}
