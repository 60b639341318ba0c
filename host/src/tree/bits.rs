//! The kill bits of one daemon, shared by its thread and by whoever sets them.
//!
//! They pass neither the mailbox nor the journal: a lock that nobody holds while anything waits is
//! all that there is between a person and the daemon. The decision whether a request starts, and
//! the note that it runs, are made under it at once; so whoever sets a bit and then looks for what
//! runs misses nothing in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::daemon::{Bound, Transacted};
use super::worker::{Message, TransactedReply};
use crate::base::error::{Code, Fault};
use crate::base::ids::{RequestId, Sequence};
use crate::base::limits::MAILBOX_REQUESTS_MAX;
use crate::mechanisms::sandbox::{Cancel, Guest};
use crate::pure::kill_bits::{Arrived, Bits, Fate, Line, Stand};
use crate::pure::needs::{Needs, Slot, Slots, Turn};
use crate::pure::request::Outcome;

/// A transaction that was to be stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stopped {
    /// Its request.
    pub request: RequestId,
    /// The contract.
    pub contract: String,
    /// How long it had run when it was to be stopped.
    pub ran: Duration,
    /// How long it took to stop it, or how long it was waited for.
    pub took: Duration,
    /// `E_CANCELLED`, or how else it ended meanwhile; none when it has not ended.
    pub end: Option<&'static str>,
}

/// The transaction that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) request: RequestId,
    pub(super) contract: String,
    since: Instant,
}

/// The same, as it is noted for every transaction: without a name, and without another reference
/// to the guest, whose counter the callers' threads write to.
#[derive(Clone, Copy)]
struct Started {
    request: RequestId,
    contract: u32,
    since: Instant,
}

/// A transaction that was cancelled, and whose end was not seen yet.
pub(super) struct Stopping {
    number: u64,
    running: Running,
    asked: Instant,
}

/// Somebody waits for the end of a transaction.
#[derive(Debug)]
struct Watch {
    number: u64,
    request: RequestId,
    end: Option<&'static str>,
}

/// Something that the daemon needs, as it is known here.
struct Lost {
    slot: Slot,
    why: Fault,
}

/// A bound request with all that its message holds.
type Waiting = (Bound, Arc<Guest>, TransactedReply);

struct State {
    line: Line<Waiting>,
    running: Option<Started>,
    /// The code that the last transaction was bound to.
    guest: Option<Arc<Guest>>,
    watches: Vec<Watch>,
    watched: u64,
    /// Why the things that it needs are down, those that are.
    lost: Vec<Lost>,
}

/// What was switched off at one daemon, what it holds therefore, and what it runs.
pub(super) struct KillBits {
    state: Mutex<State>,
    /// A transaction that somebody waits for has ended.
    ended: Condvar,
    /// Some requests are refused: all that a request pays for while none are.
    refusing: AtomicBool,
    /// Some requests are held. Written under the lock, by whoever lets requests pass.
    holding: AtomicBool,
    /// Grows whenever something that the daemon needs dies or comes back.
    turns: AtomicU64,
}

impl Default for KillBits {
    fn default() -> Self {
        let line = Line::new(MAILBOX_REQUESTS_MAX);
        let (running, guest, watches) = (None, None, Vec::new());
        let state = State { line, running, guest, watches, watched: 0, lost: Vec::new() };
        Self {
            state: Mutex::new(state),
            ended: Condvar::new(),
            refusing: AtomicBool::new(false),
            holding: AtomicBool::new(false),
            turns: AtomicU64::new(0),
        }
    }
}

impl KillBits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a new request is taken; it `waits` for resources, or doesn't. On the caller's
    /// thread.
    ///
    /// # Errors
    ///
    /// `E_DISABLED`, `E_UNAVAILABLE`.
    pub(super) fn admit(&self, name: &str, contract: &str, waits: bool) -> Result<(), Fault> {
        if !self.refusing.load(Ordering::Acquire) {
            return Ok(());
        }
        let state = self.lock();
        let fate = state.line.fate(Stand::New, contract, waits, false);
        let Fate::Refuse(code) = fate else { return Ok(()) };
        if code == Code::Unavailable {
            return Err(state.lacking(contract));
        }
        let bits = state.line.bits();
        let message = if bits.disabled {
            format!("daemon `{name}` is disabled")
        } else {
            format!("contract `{contract}` of daemon `{name}` is disabled")
        };
        Err(Fault::new(code, message))
    }

    /// Lets a message pass, or one that waited longer, or holds it. On the daemon's thread.
    pub(super) fn pass(&self, message: Message, at: Sequence, stopping: bool) -> Option<Message> {
        let Message::Transact(bound, guest, reply) = message else { return Some(message) };
        let mut state = self.lock();
        if state.line.lets_all_pass() {
            return Some(state.start((bound, guest, reply)));
        }
        let its = guest.clone();
        let contract = contract_of(&its, bound.contract);
        let until = bound.wait_until_nanos;
        match state.line.arrive(contract, until, (bound, guest, reply), stopping) {
            Arrived::Next(next) => Some(state.start(next)),
            Arrived::Held => {
                self.holding.store(true, Ordering::Relaxed);
                None
            }
            Arrived::Full((_, _, reply)) => {
                drop(state);
                let text = format!("{MAILBOX_REQUESTS_MAX} requests are held already");
                let fault = Fault::new(Code::QueueFull, text);
                reply(Transacted::refused(fault, at));
                None
            }
        }
    }

    /// The next request that is held no more. On the daemon's thread, between two transactions.
    pub(super) fn next(&self, stopping: bool) -> Option<Message> {
        if !stopping && !self.holding.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        // One that was let pass, and then refused because the host stops, has ended as well.
        if state.finish("refused") {
            self.ended.notify_all();
        }
        let next = state.line.next(stopping);
        self.holding.store(state.line.held() > 0, Ordering::Relaxed);
        next.map(|next| state.start(next))
    }

    /// The transaction that was started last has ended. On the daemon's thread.
    pub(super) fn end(&self, outcome: &Outcome) {
        let end = match outcome {
            Outcome::Crashed(crash) => crash.code.as_str(),
            outcome => outcome.word(),
        };
        if self.lock().finish(end) {
            self.ended.notify_all();
        }
    }

    /// The transaction that was started last is run by another daemon; answers whether somebody
    /// waits for its end here. On the daemon's thread.
    pub(super) fn pass_on(&self) -> bool {
        let watched = self.lock().finish("not started");
        if watched {
            self.ended.notify_all();
        }
        watched
    }

    /// Changes the bits; answers them, and how many requests were held before.
    pub(super) fn change(&self, change: impl FnOnce(&mut Bits)) -> (Bits, usize) {
        let mut state = self.lock();
        state.line.change(change);
        let bits = state.line.bits().clone();
        self.refusing.store(state.refuses_some(), Ordering::Release);
        (bits, state.line.held())
    }

    /// The whole daemon needs these, and contracts need more; this is what is down.
    pub(super) fn set_needs(
        &self,
        down: Vec<(Slot, u64, Fault)>,
        needs: Slots,
        contracts: BTreeMap<String, Slots>,
    ) {
        let mut state = self.lock();
        let since: Vec<_> = down.iter().map(|(slot, since, _)| (*slot, *since)).collect();
        state.line.change_needs(|now| *now = Needs::new(needs, contracts, since));
        state.lost = down.into_iter().map(|(slot, _, why)| Lost { slot, why }).collect();
        self.needs_changed(&state);
    }

    /// Other code has contracts with other needs.
    pub(super) fn rebind(&self, contracts: BTreeMap<String, Slots>) {
        let mut state = self.lock();
        state.line.change_needs(|needs| needs.rebind(contracts));
        self.needs_changed(&state);
    }

    /// Whether the daemon lacks something that all of it needs.
    pub(super) fn lacks(&self) -> bool {
        self.lock().line.needs().waits_for().is_some()
    }

    /// Something that it needs went down, in monotonic nanoseconds.
    pub(super) fn set_down(&self, slot: Slot, since_nanos: u64, why: Fault) {
        let mut state = self.lock();
        state.line.change_needs(|needs| needs.set_down(slot, since_nanos));
        state.lost.retain(|lost| lost.slot != slot);
        state.lost.push(Lost { slot, why });
        self.needs_changed(&state);
    }

    /// Something that it needs is there.
    pub(super) fn set_up(&self, slot: Slot) {
        let mut state = self.lock();
        state.line.change_needs(|needs| needs.set_up(slot));
        state.lost.retain(|lost| lost.slot != slot);
        self.needs_changed(&state);
    }

    fn needs_changed(&self, state: &State) {
        self.refusing.store(state.refuses_some(), Ordering::Release);
        self.turns.fetch_add(1, Ordering::Release);
    }

    /// A number that changes with all that [`KillBits::turn`] may say.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// What the daemon is to do next, with the number of that turn, and why; none when it is where
    /// it should be.
    pub(super) fn turn(&self) -> Option<(Turn, u64, Fault)> {
        let state = self.lock();
        let (turn, number) = state.line.needs().turn()?;
        Some((turn, number, state.lacking("")))
    }

    /// The daemon has done its turn of this number.
    pub(super) fn turned(&self, number: u64) {
        self.lock().line.change_needs(|needs| needs.turned(number));
    }

    /// The next request that has waited for too long, and why. On the daemon's thread.
    pub(super) fn expired(&self, now_nanos: u64) -> Option<(TransactedReply, Fault)> {
        if !self.holding.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let (bound, guest, reply) = state.line.expired(now_nanos)?;
        Some((reply, state.lacking(contract_of(&guest, bound.contract))))
    }

    /// When the next one has, in monotonic nanoseconds.
    pub(super) fn next_expiry_nanos(&self) -> Option<u64> {
        let holding = self.holding.load(Ordering::Relaxed);
        holding.then(|| self.lock().line.next_expiry_nanos()).flatten()
    }

    /// The bits, how many requests are held, and what runs.
    pub(super) fn look(&self) -> (Bits, usize, Option<Running>) {
        let state = self.lock();
        (state.line.bits().clone(), state.line.held(), state.running())
    }

    /// How many requests are held.
    pub(super) fn held(&self) -> usize {
        if self.holding.load(Ordering::Relaxed) { self.lock().line.held() } else { 0 }
    }

    /// Cancels what runs, if it is `wanted`, and waits for its end; none when it isn't.
    pub(super) fn stop(
        &self,
        cancel: &Cancel,
        wait: Duration,
        wanted: impl FnOnce(&Running) -> bool,
    ) -> Option<Stopped> {
        Some(self.see_end(self.begin_stop(cancel, wanted)?, wait))
    }

    /// Cancels what runs, if it is `wanted`. [`KillBits::see_end`] has to be called then.
    pub(super) fn begin_stop(
        &self,
        cancel: &Cancel,
        wanted: impl FnOnce(&Running) -> bool,
    ) -> Option<Stopping> {
        let mut state = self.lock();
        let running = state.running().filter(wanted)?;
        // Under the lock, so that it is the cancel of what runs that stays.
        cancel.request(running.request);
        let number = state.watched;
        state.watched += 1;
        state.watches.push(Watch { number, request: running.request, end: None });
        Some(Stopping { number, running, asked: Instant::now() })
    }

    /// Waits for the end of what was cancelled, `wait` from then on.
    pub(super) fn see_end(&self, stopping: Stopping, wait: Duration) -> Stopped {
        let Stopping { number, running, asked } = stopping;
        let mut state = self.lock();
        let end = loop {
            let place = state.watches.iter().position(|watch| watch.number == number);
            let end = place.and_then(|place| state.watches.get(place)?.end);
            let left = wait.saturating_sub(asked.elapsed());
            if end.is_some() || left.is_zero() {
                state.watches.retain(|watch| watch.number != number);
                break end;
            }
            let woken = self.ended.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        };
        Stopped {
            request: running.request,
            contract: running.contract,
            ran: asked.duration_since(running.since),
            took: asked.elapsed(),
            end,
        }
    }
}

impl State {
    fn refuses_some(&self) -> bool {
        self.line.bits().refuses_some() || !self.line.needs().all_met()
    }

    /// Why what `contract` needs isn't there.
    fn lacking(&self, contract: &str) -> Fault {
        let missing = self.line.needs().missing(contract).map(|(slot, _)| slot);
        let why = self.lost.iter().find(|lost| Some(lost.slot) == missing);
        let meanwhile =
            || Fault::new(Code::Unavailable, "something that it needs was gone meanwhile");
        why.map_or_else(meanwhile, |lost| lost.why.clone())
    }

    /// Nothing runs any more; answers whether somebody waits for that.
    fn finish(&mut self, end: &'static str) -> bool {
        let Some(running) = self.running.take() else { return false };
        let mut watched = false;
        for watch in self.watches.iter_mut().filter(|watch| watch.request == running.request) {
            watch.end = Some(end);
            watched = true;
        }
        watched
    }

    /// What runs, with its name.
    fn running(&self) -> Option<Running> {
        let Started { request, contract, since } = self.running?;
        let guest = self.guest.as_ref();
        let contract = guest.map_or("", |guest| contract_of(guest, contract)).to_owned();
        Some(Running { request, contract, since })
    }

    /// From here on it counts as running.
    fn start(&mut self, (bound, guest, reply): Waiting) -> Message {
        let (request, contract, since) = (bound.request, bound.contract, Instant::now());
        self.running = Some(Started { request, contract, since });
        if !self.guest.as_ref().is_some_and(|last| Arc::ptr_eq(last, &guest)) {
            self.guest = Some(guest.clone());
        }
        Message::Transact(bound, guest, reply)
    }
}

fn contract_of(guest: &Guest, index: u32) -> &str {
    guest.contract_at(index).map_or("", |contract| &contract.name)
}
