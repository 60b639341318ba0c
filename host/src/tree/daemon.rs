//! The owner of one guest's state: a plain value that whoever owns it drives.
//!
//! ```text
//!              call                      value, not read-only
//!   +-------+ -----> guest code runs --------------------------> commit ------+
//!   | Ready |            |   \--- value of a read, rejection --> roll back ---+--> answer
//!   +-------+            |                                                    |
//!     ^    ^        trap, fuel, deadline, leak ...                            |
//!     |    |             v                                                    |
//!     |    +--- restart on the last commit, policy ---> retry? ---------------+
//!     | resume           |
//!   +--------+           | can't
//!   | Parked | <---------+
//!   +--------+
//!     a resource that it needs dies: rolled back, Waiting without an instance until it is there
//! ```
//!
//! Invariants:
//!
//! * Between two calls the live image equals the committed one, byte for byte.
//! * The sequence grows by one per commit; the generation by one per instance.
//! * Nothing of a transaction that did not commit is ever seen by another one.

mod bound;
mod crashes;
mod follow;
mod lineage;
mod now;
mod options;
mod output;
mod recorder;
mod recovery;
mod reload;
mod revive;
mod simulate;
mod start;
mod upgrade;
mod values;
mod waiting;

pub use bound::{Arguments, Bound, Transacted};
pub(super) use follow::Following;
pub(super) use lineage::load as load_checkpoint;
pub use options::{DaemonOptions, World};
pub(super) use recorder::check_size;
pub use recorder::{COMMIT_BYTES_MAX, JournalSeat};
pub use simulate::Simulated;
pub use upgrade::{UpgradeOptions, Upgraded};
pub(super) use values::check_result;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::crashes::Reports;
use self::now::Now;
pub(super) use self::output::Showing;
use self::recorder::{Answered, Moment, Recorder};
use self::values::{Spent, not_read};
use super::gauges::{DaemonState, Gauges};
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Point};
use crate::base::ids::{Generation, RequestId, Sequence};
use crate::mechanisms::memory::Images;
use crate::mechanisms::providers::Staged;
use crate::mechanisms::sandbox::{
    CallContext, Called, Cancel, Caught, Environment, Flags, Guest, Held, Instance, Limits,
};
use crate::pure::keys::{KeptAnswer, Keys, Lookup, request_hash};
use crate::pure::line_rate::LineRate;
use crate::pure::output::SeenOutput;
use crate::pure::policy::{CrashedTry, Verdict, after_crash};
use crate::pure::record::Kind;
use crate::pure::request::{Crash, Outcome, Rejection, Shown};
use crate::pure::upgrade::SaveTrials;

/// What a daemon has of its guest at the moment.
#[derive(Debug)]
enum Phase {
    Live(Instance),
    /// Without an instance: waiting for a person, with the reason, or with `E_UNAVAILABLE` for a
    /// resource.
    Parked(Box<(Environment, Fault)>),
    /// Only inside a method, while an instance is being replaced.
    Between,
}

/// The owner of one guest's state.
#[derive(Debug)]
pub struct Daemon {
    guest: Arc<Guest>,
    images: Images,
    phase: Phase,
    options: DaemonOptions,
    world: World,
    gauges: Arc<Gauges>,
    flags: Flags,
    parameters: Vec<u8>,
    keys: Keys,
    /// Hash of the request that runs, when it has a key.
    keyed: Option<blake3::Hash>,
    /// What makes commits durable; none when the state lives in memory only.
    recorder: Option<Recorder>,
    /// Where crashes are reported to; none without a journal.
    reports: Option<Reports>,
    crash_lines: LineRate,
    generation: Generation,
    sequence: Sequence,
    /// What the guest holds of the host's resources between calls; none when there was no instance
    /// yet.
    held: Option<Held>,
    recover_failures: u32,
    host_bugs: u32,
    hash: Option<(Sequence, blake3::Hash)>,
    rested: Duration,
    /// The running request has called a resource: what that did is not undone.
    live: bool,
    /// What the last request wants done outside, if it has committed.
    staged: Vec<Staged>,
    /// What the running request has used.
    spent: Spent,
    /// What of its answer was shown.
    shown: Option<Shown>,
    now: Now,
    trials: SaveTrials,
    /// What it shows since a commit that is not known to be durable.
    showing: Option<Showing>,
    /// What the last try that crashed had seen of other daemons.
    seen: Vec<SeenOutput>,
    /// The committed state is being replaced by another one.
    halfway: bool,
    /// It has no first state yet, because it waits for a resource.
    unborn: bool,
    /// Whose state it reads, when it has none of its own.
    following: Option<Following>,
}

impl Daemon {
    /// Runs one request to its end. Never panics, whatever the guest does.
    pub fn transact(&mut self, bound: &Bound) -> Transacted {
        self.rested = Duration::ZERO;
        self.live = false;
        self.staged.clear();
        self.shown = None;
        let started = self.now.look(self.world.clock.as_ref());
        self.spent = Spent::begin(started, self.options.limits);
        let mut transacted = match self.read_arguments(bound) {
            Ok(None) => self.run(bound, started),
            Ok(Some(read)) => self.run(&read, started),
            Err(fault) => self.refuse(fault),
        };
        if bound.show.is_some() {
            self.show_rest(bound, &mut transacted);
        }
        transacted
    }

    /// The same, with its arguments read.
    fn run(&mut self, bound: &Bound, started: u64) -> Transacted {
        let hash = bound.key.as_ref().map(|_| {
            let name = self.guest.contract_at(bound.contract).map_or("", |contract| &contract.name);
            request_hash(name, bound.arguments.packed())
        });
        self.keyed = hash;
        if let (Some(key), Some(hash)) = (&bound.key, &hash) {
            match self.keys.look_up(key, hash) {
                Lookup::New => {}
                Lookup::Answered(kept) => {
                    let outcome = Outcome::Committed(kept.value.clone());
                    // Nothing is started: that says whose answer it is.
                    return Transacted {
                        outcome,
                        sequence: kept.sequence,
                        attempts: 0,
                        shown: None,
                    };
                }
                Lookup::Conflict => {
                    let message = "this key was used for another request";
                    return self.refuse(Fault::new(Code::KeyConflict, message));
                }
            }
        }
        if let Some(fault) = self.no_instance() {
            return self.refuse(fault);
        }
        if let Some(fault) = self.journal_refuses(bound) {
            return self.refuse(fault);
        }
        if let Err(fault) = self.take_leases(bound) {
            return self.refuse(fault);
        }
        Gauges::set(&self.gauges.running_since, started);
        Gauges::set(&self.gauges.running, bound.request.0);
        self.gauges.set_state(DaemonState::Running);
        let (outcome, attempts) = self.tries(bound);
        let ended = self.world.clock.monotonic_nanos();
        Gauges::add(&self.gauges.busy_nanos, ended.saturating_sub(started));
        Gauges::set(&self.gauges.running, 0);
        self.show_state();
        Transacted { outcome, sequence: self.sequence, attempts, shown: None }
    }

    fn refuse(&self, fault: Fault) -> Transacted {
        Gauges::add(&self.gauges.rejected, 1);
        Transacted::refused(fault, self.sequence)
    }

    fn tries(&mut self, bound: &Bound) -> (Outcome, u32) {
        let mut previous: Option<CrashedTry> = None;
        let mut attempt = 1;
        loop {
            let checkpoint = self.sequence.0;
            let stand = self.stand();
            let mut crash = match self.try_once(bound, attempt) {
                Ok(outcome) => return (outcome, attempt),
                Err(crash) => crash,
            };
            let current = CrashedTry { code: crash.code, checkpoint };
            let mut verdict = after_crash(previous, current, attempt, self.retries_max());
            if verdict == Verdict::Retry
                && (self.parked().is_some() || self.take_leases(bound).is_err())
            {
                verdict = Verdict::GiveUp;
            }
            if verdict != Verdict::Retry
                && let Some(stale) = self.give_back_leases(bound.request)
            {
                return (self.cancelled(bound, stale), attempt);
            }
            match verdict {
                Verdict::Retry => {
                    previous = Some(current);
                    attempt += 1;
                }
                Verdict::GiveUp | Verdict::Poison => {
                    crash.poison = verdict == Verdict::Poison;
                    Gauges::add(&self.gauges.crashed, 1);
                    if let Some(stand) = stand {
                        self.report(bound, &mut crash, stand);
                    }
                    self.tell_of(bound, &crash);
                    return (Outcome::Crashed(Box::new(crash)), attempt);
                }
            }
        }
    }

    /// What was done outside would be done again.
    fn retries_max(&self) -> u32 {
        let once = self.live && !self.options.retry_live;
        if once { 0 } else { self.options.retries_max }
    }

    /// One try. After a crash the guest is running again, or parked.
    fn try_once(&mut self, bound: &Bound, attempt: u32) -> Result<Outcome, Crash> {
        if let Err(caught) = self.renew() {
            return Err(self.crash(caught, bound.contract, attempt, 0));
        }
        let Phase::Live(instance) = &mut self.phase else {
            let fault = Fault::new(Code::Parked, "parked between two tries");
            return Ok(Outcome::Rejected(fault.into()));
        };
        let context = CallContext {
            request: bound.request,
            correlation: bound.correlation.clone(),
            attempt,
            unix_nanos: self.now.unix_nanos,
        };
        let Some(arguments) = bound.arguments.shared() else {
            return Err(not_read(self.generation, attempt));
        };
        let limits = self.spent.try_once(attempt);
        let called = instance.call(bound.contract, arguments, context, &limits);
        drop(failpoint::pass(Point::GuestReturned));
        let usage = instance.usage();
        self.spent.call(usage.fuel);
        self.live |= usage.live_calls > 0;
        self.rested += usage.rested;
        Gauges::add(&self.gauges.fuel, usage.fuel);
        Gauges::add(&self.gauges.lines_dropped, u64::from(usage.lines_dropped));
        if matches!(called, Called::Caught(_)) {
            self.seen = instance.seen();
        }
        let staged = self.take_staged_of_request();
        let stale = match called {
            // It may be tried again, under the same leases.
            Called::Caught(_) => self.flags.cancel.take_stale(bound.request),
            _ => self.give_back_leases(bound.request),
        };
        if let Some(stale) = stale {
            // Those that are left of other resources.
            let _also_stale = self.give_back_leases(bound.request);
            return Ok(self.cancelled(bound, stale));
        }
        let settled = match called {
            Called::Returned(value) => {
                let settled = self.settle(bound, attempt, value);
                // It may be rejected at last, for want of room for its answer.
                if matches!(settled, Ok(Outcome::Committed(_))) {
                    self.staged = staged;
                }
                settled
            }
            Called::Rejected(rejection) => self.reject(rejection),
            Called::BadArguments(message) => self.reject(Fault::new(Code::Args, message).into()),
            Called::Caught(caught) => Err(caught),
        };
        let fuel = self.spent.fuel();
        settled.map_err(|caught| self.crash(caught, bound.contract, attempt, fuel))
    }

    /// Commits the changes of a call that returned, or puts them back when it was a read. One
    /// without a state of its own has nothing but reads.
    fn settle(&mut self, bound: &Bound, attempt: u32, value: Vec<u8>) -> Result<Outcome, Caught> {
        let request = self.keyed;
        let read_only = match self.check_value(bound, &value)? {
            Ok(read_only) => read_only,
            Err(fault) => return self.reject(fault.into()),
        };
        let keeps_state = self.keeps_state();
        if !keeps_state {
            // What a commit shows of others.
            self.host_bugs = 0;
        }
        if read_only || !keeps_state {
            self.put_back()?;
            self.keep_answer(bound, attempt, &value);
            Gauges::add(&self.gauges.read, 1);
        } else {
            self.replacing(|daemon| {
                daemon.commit(Some(Answered { bound, attempt, value: &value, request }))?;
                daemon.keep_answer(bound, attempt, &value);
                Ok(())
            })?;
            Gauges::add(&self.gauges.committed, 1);
        }
        Ok(Outcome::Committed(value))
    }

    /// Keeps the answer to a request with a key, for when it is asked again.
    fn keep_answer(&mut self, bound: &Bound, attempts: u32, value: &[u8]) {
        if let (Some(key), Some(request)) = (&bound.key, self.keyed) {
            let (value, sequence) = (value.to_vec(), self.sequence);
            self.keys.keep(key, KeptAnswer { request, value, sequence, attempts });
        }
    }

    fn reject(&mut self, rejection: Rejection) -> Result<Outcome, Caught> {
        self.put_back()?;
        Gauges::add(&self.gauges.rejected, 1);
        Ok(Outcome::Rejected(rejection))
    }

    /// Applies the running instance's changes: from here on they are the state.
    fn commit(&mut self, answered: Option<Answered<'_>>) -> Result<(), Caught> {
        self.note_output()?;
        if self.options.verify {
            self.images
                .verify_marks()
                .map_err(|mismatch| Caught::new(Code::Barrier, mismatch.to_string()))?;
        }
        let changed = match &mut self.recorder {
            None => self.images.commit(),
            Some(recorder) => recorder.commit(&mut self.images, self.options.commit_bytes_max)?,
        };
        if self.options.verify {
            self.images
                .verify()
                .map_err(|mismatch| Caught::new(Code::Barrier, mismatch.to_string()))?;
        }
        self.sequence = self.sequence.next();
        self.record(Kind::Commit, answered)?;
        if changed.output {
            self.show_output();
        }
        self.recover_failures = 0;
        self.host_bugs = 0;
        Gauges::set(&self.gauges.sequence, self.sequence.0);
        Gauges::add(&self.gauges.cards_changed, u64::from(changed.cards));
        Gauges::add(&self.gauges.bytes_changed, changed.bytes);
        self.show_memory();
        Ok(())
    }

    /// Writes the record of the commit that was just applied.
    fn record(&mut self, kind: Kind, answered: Option<Answered<'_>>) -> Result<(), Caught> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        let moment = Moment {
            sequence: self.sequence,
            generation: self.generation,
            unix_nanos: self.now.unix_nanos,
        };
        recorder.record(kind, &self.images, moment, answered)
    }

    /// Writes the record of a revert, whose change the recorder was given before.
    fn record_revert(&mut self, to: Sequence) -> Result<(), Caught> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        let moment = Moment {
            sequence: self.sequence,
            generation: self.generation,
            unix_nanos: self.now.unix_nanos,
        };
        recorder.record_revert(to, &self.images, moment)
    }

    /// The records of the commits since the last call, oldest first: what must be durable before
    /// their answers leave the host.
    pub fn take_records(&mut self) -> Vec<(Sequence, Vec<u8>)> {
        std::iter::from_fn(|| self.take_record()).collect()
    }

    /// The oldest of those records.
    pub(super) fn take_record(&mut self) -> Option<(Sequence, Vec<u8>)> {
        self.recorder.as_mut()?.take()
    }

    /// Where buffers of records go that are not needed any more; none when it makes no records.
    pub(super) fn spare_buffers(&mut self) -> Option<&mut Vec<Vec<u8>>> {
        self.recorder.as_mut().map(Recorder::spare)
    }

    /// Replaces an instance that would get other handles than one that was just started. Whatever
    /// calls the guest for a reason of its own begins with this.
    fn renew(&mut self) -> Result<(), Caught> {
        match &self.phase {
            Phase::Live(instance) if instance.is_worn() => self.replace_instance(),
            _ => Ok(()),
        }
    }

    /// Undoes the running instance's changes without replacing it.
    fn put_back(&mut self) -> Result<(), Caught> {
        if self.images.live_size() != self.images.committed_size() {
            // The instance thinks that its memory is larger than it is now: make another one.
            return self.replace_instance();
        }
        self.images.roll_back();
        self.verify_put_back()
    }

    fn verify_put_back(&self) -> Result<(), Caught> {
        if !self.options.verify {
            return Ok(());
        }
        self.images.verify().map_err(|mismatch| Caught::new(Code::Barrier, mismatch.to_string()))
    }

    /// What ends the running transaction at the next tick.
    #[must_use]
    pub fn cancel(&self) -> Arc<Cancel> {
        self.flags.cancel.clone()
    }

    /// Makes the next host call panic: how tests provoke a host bug.
    pub fn panic_in_next_host_call(&self) {
        self.flags.panic_in_host_call.store(true, Ordering::Relaxed);
    }

    /// The numbers that it shows.
    #[must_use]
    pub fn gauges(&self) -> &Arc<Gauges> {
        &self.gauges
    }

    /// Its guest.
    #[must_use]
    pub fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &DaemonOptions {
        &self.options
    }

    /// Changes what each further transaction may use.
    pub fn set_limits(&mut self, limits: Limits) {
        self.options.limits = limits;
    }

    /// Time that the last request was made to rest, so that the daemon keeps its share.
    #[must_use]
    pub fn rested(&self) -> Duration {
        self.rested
    }

    /// Its last commit.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The generation of its instance.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Why it has no instance, if it has none: it is parked, or waits for a resource.
    #[must_use]
    pub fn parked(&self) -> Option<&Fault> {
        match &self.phase {
            Phase::Parked(parked) => Some(&parked.1),
            _ => None,
        }
    }

    /// Its images, for tests and tools that compare states.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// BLAKE3 of the committed state. Computed at most once per commit; a gigabyte takes a second.
    pub fn committed_hash(&mut self) -> blake3::Hash {
        match self.hash {
            Some((sequence, hash)) if sequence == self.sequence => hash,
            _ => {
                let hash = self.images.committed_hash();
                self.hash = Some((self.sequence, hash));
                hash
            }
        }
    }

    fn show_state(&self) {
        let state = match self.parked() {
            None => DaemonState::Ready,
            Some(_) if self.is_waiting() => DaemonState::Waiting,
            Some(_) => DaemonState::Parked,
        };
        Gauges::set(&self.gauges.generation, self.generation.0);
        Gauges::set(&self.gauges.sequence, self.sequence.0);
        self.gauges.set_state(state);
        self.show_memory();
    }

    fn show_memory(&self) {
        let bytes = self.images.committed_size() as u64;
        Gauges::set(&self.gauges.memory_bytes, bytes);
        if bytes > self.gauges.memory_peak_bytes.load(Ordering::Relaxed) {
            Gauges::set(&self.gauges.memory_peak_bytes, bytes);
        }
    }
}

/// The context of what a daemon does for itself: restarts, recovery.
fn own_context(world: &World) -> CallContext {
    CallContext {
        request: RequestId(0),
        correlation: None,
        attempt: 1,
        unix_nanos: world.clock.unix_nanos(),
    }
}
