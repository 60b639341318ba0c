//! What a daemon's thread is in charge of: the daemon, its mailbox, its way to the journal.
//!
//! It outlives the thread. When that dies, of a bug of the host, the next one goes on with the
//! committed state and with the requests that wait; the one that ran is answered.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::bits::KillBits;
use super::child::{Charge, Child, Refused};
use super::crew::Berth;
use super::daemon::{Bound, Daemon, DaemonOptions, Transacted, World};
use super::durable::Gate;
use super::gauges::DaemonState;
use super::mailbox::Mailbox;
use super::worker::{First, Message, TransactedReply};
use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::base::limits::{CONTROL_TIME_MAX, RELOAD_EVERY, WATCH_SLACK};
use crate::base::vitals::Heart;
use crate::mechanisms::memory::Images;
use crate::mechanisms::providers::Staged;
use crate::mechanisms::sandbox::Guest;
use crate::pure::needs::Turn;
use crate::pure::pace::Pace;
use crate::pure::request::Outcome;

/// The first state, or the one of the journal, durable before anybody sees it.
pub(super) fn start(
    guest: Arc<Guest>,
    images: Images,
    options: DaemonOptions,
    world: World,
    gate: Option<&Gate>,
    first: First,
) -> Result<Daemon, Fault> {
    let seat = gate.map(|gate| &gate.seat);
    let mut daemon = match (first, seat) {
        (First::Adopt(checkpoint), seat) => {
            Daemon::adopt(guest, images, options, world, &checkpoint, seat)?
        }
        (First::Follow(following, _), _) => {
            Daemon::reader(guest, images, options, world, following)
        }
        (First::Open, Some(seat)) => Daemon::open(guest, images, options, world, seat)?,
        (First::Open, None) => Daemon::start(guest, images, options, world)?,
    };
    daemon.show_output();
    if let Some(gate) = gate {
        gate.settle(&mut daemon)?;
        daemon.report_crashes_to(gate.reporter.clone());
    }
    show(&mut daemon);
    daemon.publish();
    Ok(daemon)
}

/// A daemon and all that its thread drives it with.
pub(super) struct Duty {
    pub(super) child: Arc<Child>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) bits: Arc<KillBits>,
    pub(super) daemon: Daemon,
    pub(super) world: World,
    pub(super) gate: Option<Gate>,
    pub(super) messages: Receiver<Message>,
    pub(super) heart: Heart,
    pub(super) ending: Ending,
    /// How far it has followed what became of the daemon's needs.
    pub(super) turns: u64,
    /// A request that may wait, and was about to run when something died that it needs.
    pub(super) put_back: Option<Message>,
    /// Where its requests come from, when it is one of the instances of a stateless daemon, or a
    /// reader.
    pub(super) berth: Option<Berth>,
}

/// What is to be known when the thread dies, and after that.
#[derive(Default)]
pub(super) struct Ending {
    /// Who waits for the transaction that runs, and the last commit before it.
    answering: Option<(Sequence, TransactedReply)>,
    /// The panic that ended the thread before.
    panic: Option<String>,
    /// Threads that are still to die when they begin.
    deaths_asked: u32,
}

impl Charge for Duty {
    fn run(&mut self) {
        self.die_if_asked();
        if let Some(panic) = self.ending.panic.clone() {
            self.heart.work(CONTROL_TIME_MAX);
            self.daemon.revive(&panic);
            if let Some(gate) = &self.gate {
                gate.keep_up(&mut self.daemon);
            }
            show(&mut self.daemon);
            self.heart.rest();
            self.ending.panic = None;
        }
        self.serve();
        self.shut_down();
        self.daemon.gauges().set_state(DaemonState::Stopped);
    }

    fn died(&mut self, panic: &str) {
        self.heart.rest();
        self.daemon.gauges().set_state(DaemonState::Restarting);
        self.daemon.drop_leases();
        self.at_rest(None);
        if let Some(berth) = &self.berth {
            berth.leave();
        }
        self.ending.panic = Some(panic.to_owned());
        let Some((before, reply)) = self.ending.answering.take() else { return };
        let transacted = self.daemon.died_in(before, panic);
        self.bits.end(&transacted.outcome);
        reply(transacted);
    }

    fn refuse(&mut self, why: Refused<'_>) {
        let name = &self.daemon.options().name;
        let (fault, shut) = match why {
            Refused::Parked(text) => {
                let fault = Fault::new(Code::Restarts, format!("daemon `{name}`: {text}"));
                let shut = Fault::new(Code::Parked, format!("parked: {fault}"));
                let shut = shut.blamed_on(fault.blame);
                self.mailbox.shut(shut.clone());
                self.daemon.gauges().set_parked(Some(fault.clone()));
                (fault, shut)
            }
            Refused::Over => {
                self.mailbox.close();
                let fault = Fault::new(Code::Stopping, format!("daemon `{name}` is gone"));
                (fault.clone(), fault)
            }
        };
        // What is held stays so while a person may still let it go.
        let over = matches!(why, Refused::Over);
        let held = std::iter::from_fn(|| if over { self.bits.next(true) } else { None });
        let left = self.berth.as_ref().map(|berth| berth.gone(shut, over)).unwrap_or_default();
        let leader = self.berth.as_ref().and_then(|berth| berth.crew.leader.as_ref());
        let waits = self.put_back.take().into_iter().chain(self.messages.try_iter());
        for message in waits.chain(held).chain(left) {
            let Message::Transact(bound, guest, reply) = message else { continue };
            let refused = refused(&self.daemon, fault.clone());
            self.bits.end(&refused.outcome);
            match leader.filter(|_| !over) {
                // What a reader doesn't run, the daemon does.
                Some(leader) => leader.run(Message::Transact(bound, guest, reply)),
                None => reply(refused),
            }
        }
        if over {
            self.daemon.gauges().set_state(DaemonState::Stopped);
        }
    }
}

impl Duty {
    fn is_stopping(&self) -> bool {
        self.child.is_stopping()
    }

    /// Serves until the mailbox is closed.
    fn serve(&mut self) {
        let options = self.daemon.options();
        let transaction = options.limits.deadline * (options.retries_max + 1) + WATCH_SLACK;
        let mut pace = Pace::new(self.daemon.options().share);
        while let Some(message) = self.next_due() {
            self.heart.work(match message {
                Message::Transact(..) => transaction,
                Message::Control(_) | Message::Wake | Message::Die(_) => CONTROL_TIME_MAX,
            });
            if let Some(gate) = &self.gate {
                gate.keep_up(&mut self.daemon);
            }
            match message {
                Message::Transact(bound, _, reply) if self.is_stopping() => {
                    let request = bound.request;
                    let message = format!("request {request} was not started");
                    reply(refused(&self.daemon, Fault::new(Code::Stopping, message)));
                    self.heart.rest();
                }
                Message::Transact(bound, guest, reply) => {
                    let Some((bound, guest, reply)) = self.take_on((bound, guest, reply)) else {
                        self.heart.rest();
                        continue;
                    };
                    let started = self.world.clock.monotonic_nanos();
                    self.transact(bound, &guest, reply);
                    let rested = self.daemon.rested().as_nanos();
                    let rested = u64::try_from(rested).unwrap_or(u64::MAX);
                    let now = self.world.clock.monotonic_nanos();
                    let wait = pace.after(started, now, rested);
                    self.heart.rest();
                    if wait > 0 && !self.is_stopping() {
                        std::thread::sleep(Duration::from_nanos(wait));
                    }
                }
                Message::Control(work) => {
                    work(&mut self.daemon, self.gate.as_ref());
                    if self.gate.is_none() {
                        show(&mut self.daemon);
                    }
                    self.heart.rest();
                }
                Message::Wake => self.heart.rest(),
                Message::Die(times) => {
                    self.ending.deaths_asked = times;
                    self.die_if_asked();
                }
            }
        }
    }

    /// Runs one request to its end and lets its answer go when it is durable.
    fn transact(&mut self, bound: Bound, guest: &Arc<Guest>, reply: TransactedReply) {
        let patient = bound.wait_until_nanos.is_some().then(|| bound.clone());
        // Kept where the end of this thread finds it.
        self.ending.answering = Some((self.daemon.sequence(), reply));
        let transacted = if Arc::ptr_eq(guest, self.daemon.guest()) {
            self.daemon.transact(&bound)
        } else {
            match self.daemon.rebind(bound, guest) {
                Ok(bound) => self.daemon.transact(&bound),
                Err(fault) => refused(&self.daemon, fault),
            }
        };
        self.bits.end(&transacted.outcome);
        let Some((_, reply)) = self.ending.answering.take() else { return };
        if let Some(bound) = patient
            && lacked_something(&transacted)
        {
            self.put_back = Some(Message::Transact(bound, guest.clone(), reply));
            return;
        }
        match &self.gate {
            Some(gate) => gate.pass(&mut self.daemon, transacted, reply),
            None => {
                show(&mut self.daemon);
                self.daemon.take_staged().into_iter().for_each(Staged::release);
                reply(transacted);
            }
        }
        self.daemon.publish();
    }

    /// The guest's last transaction, when the host stops: that of the daemon itself, if it has
    /// readers.
    fn shut_down(&mut self) {
        if !self.is_stopping() || self.daemon.is_reader() {
            return;
        }
        self.heart.work(self.daemon.options().limits.deadline + WATCH_SLACK);
        self.daemon.shut_down();
        let settled = self.gate.as_ref().map_or(Ok(()), |gate| gate.settle(&mut self.daemon));
        if let Err(fault) = settled {
            tracing::warn!(daemon = self.daemon.options().name, %fault, "its end is not durable");
        }
        self.heart.rest();
    }

    /// Lets the daemon wait while it lacks something, and go on when it doesn't.
    fn mind_needs(&mut self) {
        let turns = self.bits.turns();
        if (turns == self.turns && !self.daemon.is_waiting()) || self.is_stopping() {
            return;
        }
        self.turns = turns;
        while let Some((turn, number, lacking)) = self.bits.turn() {
            match turn {
                Turn::Wait => self.daemon.wait_for(lacking),
                Turn::Start => self.go_on(),
            }
            self.bits.turned(number);
        }
        // It lost what it used of a resource, and not the resource.
        if self.daemon.is_waiting() && !self.bits.lacks() {
            self.go_on();
        }
        self.at_rest(Some(turns));
    }

    /// Those that start after it may go on.
    fn at_rest(&self, turns: Option<u64>) {
        if let Some(hold) = &self.world.hold {
            hold.at_rest(turns);
        }
    }

    fn go_on(&mut self) {
        self.heart.work(CONTROL_TIME_MAX);
        self.daemon.go_on();
        let settled = self.gate.as_ref().map_or(Ok(()), |gate| gate.settle(&mut self.daemon));
        if let Err(fault) = settled {
            // Whoever asks for something next hears of it.
            tracing::warn!(daemon = self.daemon.options().name, %fault, "its start is not durable");
        }
        if self.gate.is_none() {
            show(&mut self.daemon);
        }
        self.heart.rest();
    }

    /// The lines in which requests wait for a resource.
    fn lines(&self) -> impl Iterator<Item = &KillBits> {
        let shared = self.berth.as_ref().map(|berth| berth.crew.bits.as_ref());
        [Some(self.bits.as_ref()), shared].into_iter().flatten()
    }

    /// Refuses the requests that have waited long enough for a resource.
    fn refuse_expired(&self) {
        let now = self.world.clock.monotonic_nanos();
        for line in self.lines() {
            while let Some((reply, fault)) = line.expired(now) {
                reply(refused(&self.daemon, fault));
            }
        }
    }

    /// The next message that isn't held, none at the end.
    fn next_due(&mut self) -> Option<Message> {
        loop {
            self.renew();
            self.mind_needs();
            // What was done besides transactions is settled.
            self.daemon.publish();
            self.refuse_expired();
            if let Some(message) = self.put_back.take() {
                let at = self.daemon.sequence();
                match self.bits.pass(message, at, self.is_stopping()) {
                    None => continue,
                    passed => return passed,
                }
            }
            if let Some(held) = self.bits.next(self.is_stopping()) {
                return Some(held);
            }
            if let Some(request) = self.next_of_crew(self.is_stopping()) {
                return Some(request);
            }
            let Some(message) = self.next() else {
                // Without a mailbox there is nobody left to let go what is held.
                return self.bits.next(true).or_else(|| self.next_of_crew(true));
            };
            if let (false, Some(berth)) = (matches!(message, Message::Wake), &self.berth) {
                berth.leave();
            }
            let at = self.daemon.sequence();
            if let Some(message) = self.bits.pass(message, at, self.is_stopping()) {
                // While it waited for this one, what it needs may have come.
                self.mind_needs();
                return Some(message);
            }
        }
    }

    /// The next request of the line that it shares with other instances, if it is one of several.
    fn next_of_crew(&self, stopping: bool) -> Option<Message> {
        let starts = || self.daemon.is_reader() && self.daemon.is_waiting() && !self.bits.lacks();
        let up = self.daemon.parked().is_none() || starts();
        self.berth.as_ref()?.next(&self.bits, up, stopping)
    }

    /// The next message, none at the end. Now and then the guest's `save` is tried in between, and
    /// requests that have waited long enough are refused.
    fn next(&mut self) -> Option<Message> {
        loop {
            let now = self.world.clock.monotonic_nanos();
            let expiry = self.lines().filter_map(KillBits::next_expiry_nanos).min();
            let expiry = expiry.map(|at| Duration::from_nanos(at.saturating_sub(now)));
            let trial = match self.daemon.save_trial_wait(now) {
                Some(Duration::ZERO) if !self.is_stopping() => {
                    drop(self.daemon.try_save());
                    continue;
                }
                Some(Duration::ZERO) => None,
                wait => wait,
            };
            // Nobody has to ask before its state is loaded again.
            let reload = self.daemon.may_reload().then_some(RELOAD_EVERY);
            let Some(wait) = expiry.into_iter().chain(trial).chain(reload).min() else {
                return self.messages.recv().ok();
            };
            match self.messages.recv_timeout(wait) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if reload == Some(wait) => {
                    return Some(Message::Wake);
                }
                Err(RecvTimeoutError::Timeout) => self.refuse_expired(),
            }
        }
    }

    fn die_if_asked(&mut self) {
        if let Some(fewer) = self.ending.deaths_asked.checked_sub(1) {
            self.ending.deaths_asked = fewer;
            // Without the message that a real panic prints.
            std::panic::resume_unwind(Box::new("it was asked to die"));
        }
    }
}

/// Lets other daemons see what this one shows; all its commits are as durable as they get.
fn show(daemon: &mut Daemon) {
    if let Some(showing) = daemon.take_showing() {
        showing.show();
    }
}

/// Whether a request was not started because something that it needs had just died.
fn lacked_something(transacted: &Transacted) -> bool {
    let unavailable = Code::Unavailable.as_str();
    let refused = matches!(&transacted.outcome, Outcome::Rejected(no) if no.code == unavailable);
    refused && transacted.attempts == 0
}

fn refused(daemon: &Daemon, fault: Fault) -> Transacted {
    Transacted::refused(fault, daemon.sequence())
}
