//! The root of the tree: reserves all memory, starts the daemons, hands them requests.
//!
//! It runs no guest code and reads no guest's data: arguments are bound on the caller's thread,
//! guests run on their daemons'.

mod bits;
mod crashes;
mod crew;
mod lent;
mod lineage;
mod plan;
mod promise;
mod readers;
mod root_loop;
mod starting;
mod stop;
mod submit;
mod upgrade;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use self::plan::{check_budget, check_names};
use self::root_loop::RootLoop;
use self::starting::fitting;
use super::child::Child;
use super::crashes::CrashWriter;
use super::crew::{Berth, Crew};
use super::daemon::{Daemon, JournalSeat, World};
use super::durable::Gate;
use super::guest_log::TracedLog;
use super::service::{Board, ResourceView};
use super::worker::{First, Message, Starting, Worker};
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::error::{Code, Fault};
use crate::base::ids::{NodeId, RequestId, RequestIds};
use crate::base::limits::{DAEMON_STACK_BYTES, STOP_GRACE, TRAFFIC_REQUESTS_PART};
use crate::base::room::Room;
use crate::base::vitals::{Kind, Vitals};
use crate::mechanisms::journal::{
    Committer, DaemonKey, Durability, Journal, JournalFault, Metrics, Origin, Store,
};
use crate::mechanisms::memory::{Arena, Bill, BillLine, Images};
use crate::mechanisms::sandbox::{Guest, OutputVersion, Outputs};
use crate::pure::request::{Answer, Request};

pub use bits::Switched;
pub use crashes::{Stand, ThreadDeath, crash_of, last_crashes};
pub use lent::Lent;
pub use lineage::{Depends, Deploy, KeptCommits, RevertTo};
pub use plan::{DaemonPlan, MakeLog, RootError, RootOptions};
pub use root_loop::ThreadExit;
pub use starting::Unstarted;
pub use stop::Unsynced;
pub use view::DaemonView;

/// The journal of a root, with the thread that writes it.
struct RootJournal {
    store: Arc<Store>,
    committer: Committer,
    crashes: CrashWriter,
}

/// What every daemon of a root is started with.
struct Ground {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    logs: Option<MakeLog>,
    outputs: Arc<Outputs>,
    journal: Option<RootJournal>,
    board: Board,
    vitals: Arc<Vitals>,
    next_id: AtomicU64,
    root_loop: RootLoop,
    /// Room for the arguments of requests that wait.
    requests: Room,
    /// Room for answers that clients have to read.
    answers: Room,
}

/// Takes the answer to a request. Runs on a daemon's thread: it must not block.
pub type Reply = Box<dyn FnOnce(Answer) + Send>;

/// All daemons of this process.
pub struct Root {
    /// Also the instances of stateless daemons, as `NAME/0` and so on, and readers, as
    /// `NAME/reader-0` and so on.
    daemons: RwLock<Daemons>,
    crews: BTreeMap<String, Arc<Crew>>,
    /// The readers of daemons, by the names of these.
    readers: BTreeMap<String, Arc<Crew>>,
    /// Daemons with a state that could not be started, by their names.
    unstarted: RwLock<BTreeMap<String, (NodeId, Unstarted)>>,
    bill: RwLock<Bill>,
    /// Held while a daemon is added or removed.
    changing: Mutex<()>,
    ground: Ground,
    request_ids: RequestIds,
    /// Effects have had their time.
    effects_finished: AtomicBool,
}

type Daemons = BTreeMap<String, Arc<Worker>>;

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = read(&self.daemons).keys().cloned().collect();
        f.debug_struct("Root").field("daemons", &names).finish_non_exhaustive()
    }
}

impl Root {
    /// The root's generation: there is never a second one in a process.
    pub const GENERATION: u64 = 1;

    /// Reserves the memory of all daemons, then starts them. One that can't be started is parked
    /// when it has a state; otherwise it ends the start.
    ///
    /// # Errors
    ///
    /// [`RootError`]; what had started is stopped again.
    pub fn start(mut plans: Vec<DaemonPlan>, mut options: RootOptions) -> Result<Self, RootError> {
        let unstarted = std::mem::take(&mut options.unstarted);
        check_names(&plans, &unstarted)?;
        plans.sort_by_key(|plan| plan.layer);
        let (plans, unfit) = fitting(plans, options.journal.as_ref());
        let instances = || plans.iter().flat_map(|plan| plan.names().map(move |name| (plan, name)));
        let lines = instances().map(|(plan, name)| {
            let budget_bytes = plan.options.budget_bytes;
            BillLine { name, budget_bytes }
        });
        let bill = Bill::new(lines.collect(), options.memory_limit_bytes);
        let bill = bill.check()?;
        plans.iter().try_for_each(check_budget)?;
        let shapes: Vec<_> = instances().map(|(plan, _)| plan.guest.shape()).collect();
        let mut arena = Arena::reserve(bill.clone(), &shapes)?;
        tracing::debug!(bytes = bill.total_bytes(), "all memory is reserved");
        let ground = Ground::prepare(options, bill.traffic_bytes)?;
        let last = ground.journal.as_ref().map(|journal| journal.store.last_request());
        let now = ground.clock.unix_nanos();
        let request_ids = RequestIds::starting_at(now, last.unwrap_or(RequestId(0)));
        ground.board.wait_for(&plans, ground.vitals.stop());
        let mut root = Self {
            daemons: RwLock::default(),
            crews: BTreeMap::new(),
            readers: BTreeMap::new(),
            unstarted: RwLock::default(),
            bill: RwLock::new(bill),
            changing: Mutex::default(),
            ground,
            request_ids,
            effects_finished: AtomicBool::new(false),
        };
        unstarted.into_iter().for_each(|one| root.park_unstarted(one));
        unfit.into_iter().try_for_each(|(plan, error)| root.spare(&plan, error))?;
        let images = (0..shapes.len()).map_while(|index| arena.take(index));
        let running: Vec<[u8; 32]> =
            plans.iter().map(|plan| *plan.guest.facts().digest.as_bytes()).collect();
        root.start_all(plans, images)?;
        if let Some(journal) = &root.ground.journal {
            // What is left is dropped at the next start.
            if let Err(fault) = journal.store.drop_unused_codes(&running) {
                tracing::warn!(%fault, "codes that nothing needs are kept");
            }
        }
        Ok(root)
    }

    /// Takes a daemon out and stops it; its memory is free again.
    fn take_out(&self, name: &str, worker: &Worker) {
        self.daemons.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        worker.begin_stop();
        worker.end_stop(STOP_GRACE);
        worker.detach();
        self.strike(name);
        self.ground.outputs.show(name, None);
    }

    /// What a daemon shows others, as they see it; none when it shows nothing.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub fn output(&self, name: &str) -> Result<Option<Arc<OutputVersion>>, Fault> {
        self.worker(name)?;
        Ok(self.ground.outputs.of(name))
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

    /// The code of a daemon's guest.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub fn guest(&self, name: &str) -> Result<Arc<Guest>, Fault> {
        Ok(self.asked(name)?.guest())
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
        let hash = self.ask(name, |daemon| Ok(daemon.committed_hash()))?;
        Ok(hash.recv_timeout(wait).ok().and_then(Result::ok))
    }

    /// Makes a daemon's next host call panic: how tests provoke a host bug.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub fn panic_in_next_host_call(&self, name: &str) -> Result<(), Fault> {
        self.control(name, |daemon| {
            daemon.panic_in_next_host_call();
            Ok(())
        })
    }

    /// The last deaths of threads under the root, oldest first.
    #[must_use]
    pub fn thread_exits(&self) -> Vec<ThreadExit> {
        self.ground.root_loop.exits.list()
    }

    /// Lets a daemon's thread die, as a bug of the host would, and the `more` next ones as soon as
    /// they begin: how tests provoke it.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_QUEUE_FULL`.
    pub fn let_thread_die(&self, name: &str, more: u32) -> Result<(), Fault> {
        let died = self.worker(name)?.send(Message::Die(more.saturating_add(1)));
        died.map_err(|unsent| unsent.fault)
    }

    /// Runs `work` on a daemon's thread, between two transactions, and waits for its end. What it
    /// committed is durable then.
    fn control<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Daemon) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let worker = self.worker(name)?;
        let bug = || Fault::new(Code::HostBug, "the daemon ended without an answer");
        // Messages are dropped after the mailbox was shut for what was the reason.
        let dropped = |_| Err(worker.refuses().unwrap_or_else(bug));
        self.ask(name, work)?.recv().unwrap_or_else(dropped)
    }

    fn ask<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Daemon) -> Result<T, Fault> + Send + 'static,
    ) -> Result<Receiver<Result<T, Fault>>, Fault> {
        let (reply, answer) = sync_channel(1);
        let control = Message::Control(Box::new(move |daemon, gate| {
            let done = work(daemon);
            let settled = gate.map_or(Ok(()), |gate| gate.settle(daemon));
            // Whoever asked may have stopped waiting.
            drop(reply.try_send(done.and_then(|done| settled.map(|()| done))));
        }));
        self.worker(name)?.send(control).map_err(|unsent| unsent.fault)?;
        Ok(answer)
    }

    /// What was reserved, for whom.
    #[must_use]
    pub fn bill(&self) -> Bill {
        read(&self.bill).clone()
    }

    /// The clock that requests are timed by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.ground.clock
    }

    /// Stops all daemons: waiting requests are refused, running ones get [`STOP_GRACE`]
    /// together and are then cancelled. Dropping the root does the same.
    pub fn stop(&mut self) {
        self.refuse_requests();
        let daemons = read(&self.daemons);
        let begun = Instant::now();
        for worker in daemons.values() {
            worker.end_stop(STOP_GRACE.saturating_sub(begun.elapsed()));
        }
        drop(daemons);
        self.ground.root_loop.end();
        // After the last daemon: what they handed over is still made durable and answered.
        self.close_journal();
        let _logged = self.finish_effects(|| true);
        self.ground.board.stop();
    }

    /// The resources that daemons depend on, by name.
    #[must_use]
    pub fn resources(&self) -> Vec<ResourceView> {
        self.ground.board.views()
    }

    /// Takes a resource down and holds it there, or lets go of it so that it comes back as after
    /// any death; answers its whole name. For drills. Doesn't wait for what comes of it.
    ///
    /// # Errors
    ///
    /// `E_RESOURCE_UNKNOWN`; `E_QUEUE_FULL` while earlier switches are not dealt with.
    pub fn switch_resource(&self, name: &str, down: bool) -> Result<String, Fault> {
        self.ground.board.switch(name, down)
    }

    /// What an acknowledgement means; none when commits live in memory only.
    #[must_use]
    pub fn durability(&self) -> Option<Durability> {
        self.ground.journal.as_ref().map(|journal| journal.store.durability())
    }

    /// Bytes written to the journal's file and syncs, since the start; none when commits live in
    /// memory only.
    #[must_use]
    pub fn journal_traffic(&self) -> Option<(u64, u64)> {
        self.ground.journal.as_ref().map(|journal| journal.store.traffic())
    }

    /// Bytes of the file of the journal's tables; 0 when commits live in memory only.
    #[must_use]
    pub fn tables_bytes(&self) -> u64 {
        self.ground.journal.as_ref().map_or(0, |journal| journal.store.tables_bytes())
    }

    /// What the journal has done so far; none when commits live in memory only.
    #[must_use]
    pub fn journal_metrics(&self) -> Option<Metrics> {
        self.ground.journal.as_ref().map(|journal| journal.committer.metrics())
    }
}

impl Ground {
    /// Starts what daemons stand on: the root's loop, and with a journal its threads.
    fn prepare(options: RootOptions, traffic_bytes: usize) -> Result<Self, RootError> {
        let RootOptions { clock, entropy, logs, journal, resources, vitals, .. } = options;
        let root_loop = RootLoop::start(clock.clone(), entropy.clone(), &vitals)
            .map_err(|error| RootError::Thread { name: "root".to_owned(), error })?;
        let next_id = AtomicU64::new(NodeId::ROOT.0 + 1);
        let journal = match journal {
            None => None,
            Some(store) => {
                let committer = Committer::start(store.clone(), clock.clone(), &vitals)?;
                let id = NodeId(next_id.fetch_add(1, Ordering::Relaxed));
                let child = CrashWriter::child(id, root_loop.notes());
                let crashes = CrashWriter::start(store.clone(), child, &vitals);
                let crashes = crashes.map_err(RootError::Reports)?;
                Some(RootJournal { store, committer, crashes })
            }
        };
        let board = Board::start(resources, &clock, &entropy, &vitals);
        let board = board.map_err(RootError::Resources)?;
        let outputs = Arc::default();
        let requests = traffic_bytes / TRAFFIC_REQUESTS_PART;
        let answers = Room::new(traffic_bytes - requests);
        let requests = Room::new(requests);
        Ok(Self {
            board,
            clock,
            entropy,
            logs,
            outputs,
            journal,
            vitals,
            next_id,
            root_loop,
            requests,
            answers,
        })
    }

    fn next_id(&self) -> NodeId {
        NodeId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts a daemon's thread, which makes or loads its first state. An instance of a stateless
    /// one has a `berth`, and no journal; a reader has its daemon's.
    fn spawn(
        &self,
        plan: DaemonPlan,
        images: Images,
        first: First,
        berth: Option<Berth>,
    ) -> Result<Starting, RootError> {
        let name = plan.options.name.clone();
        let log = match &self.logs {
            Some(make) => make(&name),
            None => Arc::new(TracedLog::new(&name)),
        };
        let (clock, entropy) = (self.clock.clone(), self.entropy.clone());
        let id = self.next_id();
        let dependent = berth.as_ref().map_or(&name, |berth| &berth.crew.name);
        let hold = self.board.hold((dependent, id), &plan);
        let hold = hold.map_err(RootError::Daemon)?;
        let world = World { clock, entropy, log, outputs: self.outputs.clone(), hold };
        let gate = match (&first, self.journal.as_ref().filter(|_| berth.is_none())) {
            (First::Follow(_, gate), _) => gate.clone(),
            (first, Some(journal)) => Some(journal.gate(&plan, matches!(first, First::Adopt(_)))?),
            (_, None) => None,
        };
        tracing::debug!(daemon = name, "starting");
        let thread = format!("daemon-{name}");
        let heart = self.vitals.heart(&thread, Kind::Daemon);
        let (policy, notes) = (plan.options.restarts, self.root_loop.notes());
        let child = Child::new(id, &name, thread, DAEMON_STACK_BYTES, policy, notes);
        Starting::spawn(plan, images, world, gate, first, (child, heart), berth)
            .map_err(|error| RootError::Thread { name, error })
    }
}

impl RootJournal {
    /// The last commit of a daemon that is durable.
    fn durable(&self, key: DaemonKey) -> u64 {
        Journal::durable(self.store.as_ref(), key).map_or(0, |sequence| sequence.0)
    }

    /// The daemon's place in the journal, with its code there before any state that it makes; and
    /// before the first state of a copy, how it is run.
    fn gate(&self, plan: &DaemonPlan, adopting: bool) -> Result<Gate, JournalFault> {
        let origin = if plan.copied { Origin::Copy } else { Origin::Init };
        let budget = plan.options.budget_bytes as u64;
        let key = self.store.daemon(&plan.options.name, origin, budget)?;
        self.store.put_code(*plan.guest.facts().digest.as_bytes(), plan.guest.code())?;
        if adopting {
            let setup = plan.options.kept(&plan.needs, &plan.uses);
            self.store.put_setup(key, &setup.encode())?;
        }
        let seat = JournalSeat { journal: self.store.clone(), key };
        Ok(Gate::new(seat, self.committer.submitter(), self.crashes.reporter()))
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Root {
    fn drop(&mut self) {
        self.stop();
    }
}
