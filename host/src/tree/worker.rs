//! A daemon's thread: takes messages from a bounded mailbox and drives the daemon.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bits::KillBits;
use super::daemon::{Bound, Daemon, DaemonOptions, Transacted, World};
use super::durable::Gate;
use super::gauges::{DaemonState, Gauges};
use super::root::DaemonPlan;
use crate::base::error::{Code, Fault};
use crate::base::limits::{
    CONTROL_TIME_MAX, DAEMON_STACK_BYTES, LOOP_TICK, MAILBOX_REQUESTS_MAX, WATCH_SLACK,
};
use crate::base::stop::StopLatch;
use crate::base::vitals::Heart;
use crate::mechanisms::journal::DaemonKey;
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::{Cancel, Guest};
use crate::pure::checkpoint::Checkpoint;
use crate::pure::pace::Pace;
use crate::pure::request::Outcome;

/// Takes the end of a request. Runs on the daemon's or the journal's thread: it must not block.
pub(super) type TransactedReply = Box<dyn FnOnce(Transacted) + Send>;

/// What a daemon can be asked.
pub(super) enum Message {
    /// Run a request that was bound to this code.
    Transact(Bound, Arc<Guest>, TransactedReply),
    /// Do something else between two transactions.
    Control(Control),
}

/// Work on the daemon itself, on its thread. It must make durable what it commits, by the gate.
pub(super) type Control = Box<dyn FnOnce(&mut Daemon, Option<&Gate>) + Send>;

/// The root's end of a daemon's thread.
pub(super) struct Worker {
    mailbox: RwLock<Option<SyncSender<Message>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
    pub(super) cancel: Arc<Cancel>,
    pub(super) bits: Arc<KillBits>,
    pub(super) gauges: Arc<Gauges>,
    guest: RwLock<Arc<Guest>>,
    pub(super) options: DaemonOptions,
    /// Its id in the journal, when it has one.
    pub(super) key: Option<DaemonKey>,
    /// Its first state came from elsewhere: it has no file.
    pub(super) copied: bool,
}

/// Where a daemon's first state comes from.
pub(super) enum First {
    /// The journal; the guest's `init` when there is none, or none of this daemon.
    Open,
    /// A checkpoint of another daemon, or of a snapshot.
    Adopt(Checkpoint),
}

/// What a started daemon shares with the root: its numbers, and what cancels.
type Shown = (Arc<Gauges>, Arc<Cancel>);

/// A daemon that is making its first state on its own thread.
pub(super) struct Starting {
    started: Receiver<Result<Shown, Fault>>,
    mailbox: SyncSender<Message>,
    thread: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
    bits: Arc<KillBits>,
    guest: Arc<Guest>,
    options: DaemonOptions,
    key: Option<DaemonKey>,
    copied: bool,
}

impl Starting {
    /// Spawns the thread. Guest code runs there, never on the root's.
    pub(super) fn spawn(
        plan: DaemonPlan,
        images: Images,
        world: World,
        gate: Option<Gate>,
        first: First,
        heart: Heart,
    ) -> io::Result<Self> {
        let DaemonPlan { guest, options, copied } = plan;
        let (mailbox, messages) = sync_channel(MAILBOX_REQUESTS_MAX);
        let (report, started) = sync_channel(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let (its_guest, its_options, its_stopping) =
            (guest.clone(), options.clone(), stopping.clone());
        let bits = Arc::new(KillBits::default());
        let its_bits = bits.clone();
        let key = gate.as_ref().map(|gate| gate.seat.key);
        let thread = std::thread::Builder::new()
            .name(format!("daemon-{}", options.name))
            .stack_size(DAEMON_STACK_BYTES)
            .spawn(move || {
                let gate = gate.as_ref();
                match start(its_guest, images, its_options, world.clone(), gate, first) {
                    Err(fault) => drop(report.send(Err(fault))),
                    Ok(daemon) => {
                        drop(report.send(Ok((daemon.gauges().clone(), daemon.cancel()))));
                        drop(report);
                        serve(daemon, &world, gate, &messages, &its_stopping, &its_bits, &heart);
                    }
                }
            })?;
        Ok(Self { started, mailbox, thread, stopping, bits, guest, options, key, copied })
    }

    /// Waits for the first state.
    ///
    /// # Errors
    ///
    /// The daemon's own; `E_HOST_BUG` when its thread panicked; `E_STOPPING` when the host is to
    /// stop meanwhile.
    pub(super) fn wait(self, stop: &StopLatch) -> Result<Worker, Fault> {
        let name = &self.options.name;
        let (gauges, cancel) = loop {
            match self.started.recv_timeout(LOOP_TICK) {
                Ok(started) => break started?,
                Err(RecvTimeoutError::Timeout) if !stop.is_set() => {}
                Err(RecvTimeoutError::Timeout) => {
                    let message = format!("the host was stopped while daemon `{name}` started");
                    return Err(Fault::new(Code::Stopping, message));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let message = format!("the thread of daemon `{name}` ended");
                    return Err(Fault::new(Code::HostBug, message));
                }
            }
        };
        Ok(Worker {
            mailbox: RwLock::new(Some(self.mailbox)),
            thread: Mutex::new(Some(self.thread)),
            stopping: self.stopping,
            cancel,
            bits: self.bits,
            gauges,
            guest: RwLock::new(self.guest),
            options: self.options,
            key: self.key,
            copied: self.copied,
        })
    }
}

/// The first state, or the one of the journal, durable before anybody sees it.
fn start(
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
        (First::Open, Some(seat)) => Daemon::open(guest, images, options, world, seat)?,
        (First::Open, None) => Daemon::start(guest, images, options, world)?,
    };
    daemon.show_output();
    if let Some(gate) = gate {
        gate.settle(&mut daemon)?;
        daemon.report_crashes_to(gate.reporter.clone());
    }
    show(&mut daemon);
    Ok(daemon)
}

/// The daemon's thread, until its mailbox is closed.
fn serve(
    mut daemon: Daemon,
    world: &World,
    gate: Option<&Gate>,
    messages: &Receiver<Message>,
    stopping: &AtomicBool,
    bits: &KillBits,
    heart: &Heart,
) {
    let options = daemon.options();
    let transaction = options.limits.deadline * (options.retries_max + 1) + WATCH_SLACK;
    let mut pace = Pace::new(daemon.options().share);
    let mut now = world.clock.monotonic_nanos();
    while let Some(message) = next_due(&mut daemon, now, world, messages, stopping, bits) {
        heart.work(match message {
            Message::Transact(..) => transaction,
            Message::Control(_) => CONTROL_TIME_MAX,
        });
        if let Some(gate) = gate {
            gate.keep_up(&mut daemon);
        }
        match message {
            Message::Transact(bound, _, reply) if stopping.load(Ordering::Relaxed) => {
                let request = bound.request;
                let fault =
                    Fault::new(Code::Stopping, format!("request {request} was not started"));
                reply(refused(&daemon, fault));
                heart.rest();
            }
            Message::Transact(bound, guest, reply) => {
                let started = world.clock.monotonic_nanos();
                let transacted = transact(&mut daemon, bound, &guest);
                bits.end(&transacted.outcome);
                let rested = u64::try_from(daemon.rested().as_nanos()).unwrap_or(u64::MAX);
                match gate {
                    Some(gate) => gate.pass(&mut daemon, transacted, reply),
                    None => {
                        show(&mut daemon);
                        reply(transacted);
                    }
                }
                now = world.clock.monotonic_nanos();
                let wait = pace.after(started, now, rested);
                heart.rest();
                if wait > 0 && !stopping.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_nanos(wait));
                }
            }
            Message::Control(work) => {
                work(&mut daemon, gate);
                if gate.is_none() {
                    show(&mut daemon);
                }
                heart.rest();
                now = world.clock.monotonic_nanos();
            }
        }
    }
    daemon.gauges().set_state(DaemonState::Stopped);
}

/// The next message that isn't held, none at the end.
fn next_due(
    daemon: &mut Daemon,
    now: u64,
    world: &World,
    messages: &Receiver<Message>,
    stopping: &AtomicBool,
    bits: &KillBits,
) -> Option<Message> {
    let is_stopping = || stopping.load(Ordering::Relaxed);
    loop {
        if let Some(held) = bits.next(is_stopping()) {
            return Some(held);
        }
        // Without a mailbox there is nobody left to let go what is held.
        let Some(message) = next(daemon, now, world, messages, stopping) else {
            return bits.next(true);
        };
        if let Some(message) = bits.pass(message, daemon.sequence(), is_stopping()) {
            return Some(message);
        }
    }
}

/// The next message, none at the end. Now and then the guest's `save` is tried in between.
fn next(
    daemon: &mut Daemon,
    mut now: u64,
    world: &World,
    messages: &Receiver<Message>,
    stopping: &AtomicBool,
) -> Option<Message> {
    loop {
        match daemon.save_trial_wait(now) {
            Some(Duration::ZERO) if !stopping.load(Ordering::Relaxed) => drop(daemon.try_save()),
            None | Some(Duration::ZERO) => return messages.recv().ok(),
            Some(wait) => match messages.recv_timeout(wait) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            },
        }
        now = world.clock.monotonic_nanos();
    }
}

fn transact(daemon: &mut Daemon, bound: Bound, guest: &Arc<Guest>) -> Transacted {
    if Arc::ptr_eq(guest, daemon.guest()) {
        return daemon.transact(&bound);
    }
    match daemon.rebind(bound, guest) {
        Ok(bound) => daemon.transact(&bound),
        Err(fault) => refused(daemon, fault),
    }
}

/// Lets other daemons see what this one shows; all its commits are as durable as they get.
fn show(daemon: &mut Daemon) {
    if let Some(showing) = daemon.take_showing() {
        showing.show();
    }
}

fn refused(daemon: &Daemon, fault: Fault) -> Transacted {
    let outcome = Outcome::Rejected(fault.into());
    Transacted { outcome, sequence: daemon.sequence(), attempts: 0 }
}

impl Worker {
    /// Puts a message into the mailbox.
    ///
    /// # Errors
    ///
    /// `E_QUEUE_FULL`, or `E_STOPPING` when the daemon is gone; the message comes back.
    pub(super) fn send(&self, message: Message) -> Result<(), (Fault, Message)> {
        let name = &self.options.name;
        let stopping =
            |message| (Fault::new(Code::Stopping, format!("daemon `{name}` is gone")), message);
        let mailbox = self.mailbox.read().unwrap_or_else(PoisonError::into_inner);
        let Some(mailbox) = mailbox.as_ref() else { return Err(stopping(message)) };
        mailbox.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => {
                let text =
                    format!("daemon `{name}`: {MAILBOX_REQUESTS_MAX} messages are waiting already");
                (Fault::new(Code::QueueFull, text), message)
            }
            TrySendError::Disconnected(message) => stopping(message),
        })
    }

    /// Closes the mailbox: what waits in it is refused, what runs may end.
    pub(super) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        *self.mailbox.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets the thread look for requests that are held no more.
    pub(super) fn wake(&self) {
        // A full mailbox keeps it awake, and a closed one ends it.
        drop(self.send(Message::Control(Box::new(|_, _| {}))));
    }

    /// The code that runs now.
    pub(super) fn guest(&self) -> Arc<Guest> {
        self.guest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other code runs from here on.
    pub(super) fn set_guest(&self, guest: Arc<Guest>) {
        *self.guest.write().unwrap_or_else(PoisonError::into_inner) = guest;
    }

    /// Waits for the thread; after `grace` the running transaction is cancelled.
    pub(super) fn end_stop(&self, grace: Duration) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let start = Instant::now();
        while !thread.is_finished() {
            if start.elapsed() >= grace {
                self.cancel.all();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.join().is_err() {
            tracing::error!(daemon = self.options.name, "the daemon's thread had panicked");
        }
    }

    /// True when the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends what runs at the next tick, and whatever would run after it: for a stop.
    pub(super) fn cancel(&self) {
        self.cancel.all();
    }
}
