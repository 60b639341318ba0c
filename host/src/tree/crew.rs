//! A stateless daemon, or the readers of one with a state: several instances, each on its own
//! thread and images, which take requests out of one bounded line.
//!
//! ```text
//!   request ---> line, held ones beside it ---> whichever instance is idle ---> answer
//!                  one lock: what is let pass        its own bits, leases,
//!                  is noted to run under it          thread, restarts
//! ```
//!
//! Instances pull; nobody hands out. One that finds nothing notes under the lock that it is idle,
//! and is woken through its own mailbox; so no thread stands between a request and its instance,
//! and an instance that is busy, that died, or that is parked keeps nobody waiting whom another
//! one could serve.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bits::KillBits;
use super::mailbox::{Mailbox, Unsent};
use super::readers::{Leader, Renewal, is_read};
use super::service::Hold;
use super::worker::Message;
use crate::base::error::{Code, Fault};
use crate::base::ids::{NodeId, Sequence};
use crate::base::limits::MAILBOX_REQUESTS_MAX;
use crate::mechanisms::sandbox::Guest;
use crate::pure::kill_bits::Bits;

/// How it is with one instance, as far as requests go.
enum Place {
    /// It takes requests, or will when its thread is there again.
    Serving,
    /// It waits for a resource, or for a person: it refuses what comes when no other one serves.
    Without,
    /// It has no thread and gets none, for this reason.
    Gone(Fault),
}

struct Member {
    /// None until it is being started.
    mailbox: Option<Arc<Mailbox>>,
    place: Place,
    /// Other code, which it goes on with when it gets around to it.
    renewal: Option<Renewal>,
}

struct State {
    queue: VecDeque<Message>,
    members: Vec<Member>,
    /// Those that sleep, the last one to do so at the end: it is the warmest.
    idle: Vec<usize>,
    closed: bool,
}

/// What the instances of one daemon share.
pub(super) struct Crew {
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) guest: Arc<Guest>,
    /// What is refused or held, for the daemon as a whole. What runs is in its instances' own.
    pub(super) bits: Arc<KillBits>,
    /// Whose readers they are, if they are.
    pub(super) leader: Option<Leader>,
    state: Mutex<State>,
}

impl Crew {
    /// Of a stateless daemon, or with a `leader` of the readers of that.
    pub(super) fn new(
        id: NodeId,
        name: &str,
        guest: Arc<Guest>,
        size: usize,
        leader: Option<Leader>,
    ) -> Arc<Self> {
        let member = || Member { mailbox: None, place: Place::Serving, renewal: None };
        let state = State {
            queue: VecDeque::new(),
            members: std::iter::repeat_with(member).take(size).collect(),
            idle: Vec::with_capacity(size),
            closed: false,
        };
        let (name, bits, state) = (name.to_owned(), Arc::default(), Mutex::new(state));
        Arc::new(Self { id, name, guest, bits, leader, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request into the line.
    ///
    /// # Errors
    ///
    /// `E_QUEUE_FULL`; `E_PARKED` when no instance has a thread any more, `E_STOPPING` when the
    /// daemon is gone; the message comes back.
    pub(super) fn send(&self, message: Message) -> Result<(), Box<Unsent>> {
        let mut state = self.lock();
        if let Some(fault) = self.refuses(&state) {
            return Err(Unsent::new(fault, message));
        }
        state.queue.push_back(message);
        let woken = state.wake_one();
        drop(state);
        nudge(woken);
        Ok(())
    }

    /// Whether a request to the daemon is one for its readers at this moment.
    pub(super) fn reads(&self, message: &Message) -> bool {
        let Message::Transact(bound, guest, _) = message else { return false };
        is_read(bound, guest)
            && self.leader.as_ref().is_some_and(Leader::serves)
            && self.lock().some_serve()
    }

    /// Gives each member other code, in the order of their numbers.
    pub(super) fn renew(&self, renewals: impl Iterator<Item = Renewal>) {
        for (member, renewal) in self.lock().members.iter_mut().zip(renewals) {
            member.renewal = Some(renewal);
        }
        self.wake();
    }

    fn refuses(&self, state: &State) -> Option<Fault> {
        let name = &self.name;
        if state.closed {
            return Some(Fault::new(Code::Stopping, format!("daemon `{name}` is gone")));
        }
        if let Some(fault) = state.all_gone() {
            return Some(fault.clone());
        }
        // What is held was in the line before: both together are bounded.
        let waiting = state.queue.len() + self.bits.held();
        (waiting >= MAILBOX_REQUESTS_MAX).then(|| {
            let text = format!("daemon `{name}`: {waiting} requests are waiting already");
            Fault::new(Code::QueueFull, text)
        })
    }

    /// Changes what is switched off; answers that, and how many requests were held before. What
    /// was let pass before shows at its instance when this returns.
    pub(super) fn change(&self, change: impl FnOnce(&mut Bits)) -> (Bits, usize) {
        let _nothing_passes_meanwhile = self.lock();
        self.bits.change(change)
    }

    /// Lets all instances look for requests that are held no more.
    pub(super) fn wake(&self) {
        for mailbox in self.lock().mailboxes() {
            mailbox.nudge();
        }
    }

    /// Takes nothing more, for good. The instances, as they end, refuse what waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// The next request that may run, noted to run in the bits of the instance that takes it.
    fn take(&self, state: &mut State, own: &KillBits, stopping: bool) -> Option<Message> {
        loop {
            let at = Sequence::default();
            let passed = match self.bits.next(stopping) {
                Some(held) => Some(held),
                None => self.bits.pass(state.queue.pop_front()?, at, stopping),
            };
            // One that may wait for a resource which has just died stays at the instance.
            if let Some(message) = passed.and_then(|message| own.pass(message, at, stopping)) {
                return Some(message);
            }
        }
    }
}

impl State {
    fn wake_one(&mut self) -> Option<Arc<Mailbox>> {
        self.members.get(self.idle.pop()?)?.mailbox.clone()
    }

    /// Somebody was woken for a request and can't take it.
    fn pass_on(&mut self) -> Option<Arc<Mailbox>> {
        if self.queue.is_empty() { None } else { self.wake_one() }
    }

    fn mailboxes(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.members.iter().filter_map(|member| member.mailbox.as_ref())
    }

    fn set_place(&mut self, index: usize, place: Place) {
        if let Some(member) = self.members.get_mut(index) {
            member.place = place;
        }
    }

    fn some_serve(&self) -> bool {
        self.members.iter().any(|member| matches!(member.place, Place::Serving))
    }

    /// Why no instance has a thread any more, if none has.
    fn all_gone(&self) -> Option<&Fault> {
        let mut why = None;
        for member in &self.members {
            let Place::Gone(fault) = &member.place else { return None };
            why = Some(fault);
        }
        why
    }
}

/// An instance's end of its crew.
#[derive(Clone)]
pub(super) struct Berth {
    pub(super) crew: Arc<Crew>,
    index: usize,
}

impl Berth {
    pub(super) fn new(crew: &Arc<Crew>, index: usize) -> Self {
        Self { crew: crew.clone(), index }
    }

    /// The instance is being started. The first one hears of resources for the whole daemon, too.
    pub(super) fn join(&self, mailbox: &Arc<Mailbox>, hold: Option<&Hold>) {
        if let Some(member) = self.crew.lock().members.get_mut(self.index) {
            member.mailbox = Some(mailbox.clone());
        }
        if let Some(hold) = hold.filter(|_| self.index == 0) {
            // Not as that instance: what it alone loses is no matter of the others.
            hold.attach_as(self.crew.id, &self.crew.bits, mailbox);
        }
    }

    /// The next request for this instance; without one it is to sleep at its own mailbox. One that
    /// isn't `up`, since it is parked or waits, takes none while others serve. On its thread.
    pub(super) fn next(&self, own: &KillBits, up: bool, stopping: bool) -> Option<Message> {
        let mut state = self.crew.lock();
        state.idle.retain(|&idle| idle != self.index);
        state.set_place(self.index, if up { Place::Serving } else { Place::Without });
        let (next, woken) = if !up && !stopping && state.some_serve() {
            (None, state.pass_on())
        } else {
            let next = self.crew.take(&mut state, own, stopping);
            // Somebody has to be awake when one that is held has waited for long enough.
            let watch = next.is_some() && self.crew.bits.next_expiry_nanos().is_some();
            if next.is_none() && !stopping {
                state.idle.push(self.index);
            }
            (next, if watch { state.wake_one() } else { None })
        };
        drop(state);
        nudge(woken);
        next
    }

    /// The instance does something else first, or its thread dies: what it was woken for is for
    /// another one.
    pub(super) fn leave(&self) {
        let mut state = self.crew.lock();
        let asleep = state.idle.iter().position(|&idle| idle == self.index);
        let woken = match asleep {
            Some(place) => {
                state.idle.remove(place);
                None
            }
            None => state.pass_on(),
        };
        drop(state);
        nudge(woken);
    }

    /// Nobody runs the instance any more. Answers what is left to refuse, when no other one is
    /// there to do it; requests that a person holds only if it is `over`.
    pub(super) fn gone(&self, why: Fault, over: bool) -> Vec<Message> {
        let mut state = self.crew.lock();
        state.idle.retain(|&idle| idle != self.index);
        state.set_place(self.index, Place::Gone(why));
        if state.all_gone().is_none() {
            // If none of the others serves, it is now on them to refuse.
            state.mailboxes().for_each(|mailbox| mailbox.nudge());
            return Vec::new();
        }
        let held = std::iter::from_fn(|| if over { self.crew.bits.next(true) } else { None });
        let held: Vec<Message> = held.collect();
        state.queue.drain(..).chain(held).collect()
    }

    /// Other code for this reader, if there is some that it hasn't got.
    pub(super) fn take_renewal(&self) -> Option<Renewal> {
        self.crew.lock().members.get_mut(self.index)?.renewal.take()
    }

    /// The instance gets a thread again.
    pub(super) fn back(&self) {
        self.crew.lock().set_place(self.index, Place::Serving);
    }
}

fn nudge(woken: Option<Arc<Mailbox>>) {
    if let Some(mailbox) = woken {
        mailbox.nudge();
    }
}
