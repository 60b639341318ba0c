//! The root's end of a daemon's thread: its bounded mailbox, its start and its end.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::bits::KillBits;
use super::child::{Child, Standing};
use super::crew::Berth;
use super::daemon::{Bound, Daemon, DaemonOptions, Following, Transacted, World};
use super::durable::Gate;
use super::duty::{self, Duty};
use super::gauges::{DaemonState, Gauges, Report};
use super::mailbox::{Mailbox, Unsent};
use super::readers::Leader;
use super::root::DaemonPlan;
use super::service::Hold;
use crate::base::error::{Code, Fault};
use crate::base::limits::{LOOP_TICK, MAILBOX_REQUESTS_MAX};
use crate::base::stop::StopLatch;
use crate::base::vitals::Heart;
use crate::mechanisms::journal::DaemonKey;
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::{Cancel, Guest};
use crate::pure::checkpoint::Checkpoint;

/// Takes the end of a request. Runs on the daemon's or the journal's thread: it must not block.
pub(super) type TransactedReply = Box<dyn FnOnce(Transacted) + Send>;

/// What a daemon can be asked.
pub(super) enum Message {
    /// Run a request that was bound to this code.
    Transact(Bound, Arc<Guest>, TransactedReply),
    /// Do something else between two transactions.
    Control(Control),
    /// Look around: something beside the mailbox has changed.
    Wake,
    /// Let the thread die, and so many next ones when they begin: how tests provoke it.
    Die(u32),
}

/// Work on the daemon itself, on its thread. It must make durable what it commits, by the gate.
pub(super) type Control = Box<dyn FnOnce(&mut Daemon, Option<&Gate>) + Send>;

/// The root's end of a daemon's thread.
pub(super) struct Worker {
    mailbox: Arc<Mailbox>,
    pub(super) child: Arc<Child>,
    pub(super) cancel: Arc<Cancel>,
    pub(super) bits: Arc<KillBits>,
    pub(super) gauges: Arc<Gauges>,
    guest: RwLock<Arc<Guest>>,
    pub(super) options: DaemonOptions,
    /// Its id in the journal, when it has one.
    pub(super) key: Option<DaemonKey>,
    /// Its first state came from elsewhere: it has no file.
    pub(super) copied: bool,
    /// The resources that it can't do without.
    pub(super) needs: Vec<String>,
    /// Those that it can.
    pub(super) uses: Vec<String>,
    hold: Option<Arc<Hold>>,
    /// Its place, when it is one of the instances of a stateless daemon, or a reader.
    pub(super) berth: Option<Berth>,
    /// Its way to the journal, if it has one; its readers take the same.
    pub(super) gate: Option<Gate>,
}

/// Where a daemon's first state comes from.
pub(super) enum First {
    /// The journal; the guest's `init` when there is none, or none of this daemon.
    Open,
    /// A checkpoint of another daemon, or of a snapshot.
    Adopt(Arc<Checkpoint>),
    /// The one that another daemon has committed, for reading; with the way to its journal.
    Follow(Following, Option<Gate>),
}

/// What a started daemon shares with the root: its numbers, and what cancels.
type Shown = (Arc<Gauges>, Arc<Cancel>);

/// A daemon that is making its first state on its own thread.
pub(super) struct Starting {
    started: Receiver<Result<Shown, Fault>>,
    mailbox: Arc<Mailbox>,
    child: Arc<Child>,
    bits: Arc<KillBits>,
    /// What is started.
    pub(super) plan: DaemonPlan,
    key: Option<DaemonKey>,
    hold: Option<Arc<Hold>>,
    berth: Option<Berth>,
    gate: Option<Gate>,
}

impl Starting {
    /// Spawns the thread. Guest code runs there, never on the root's.
    pub(super) fn spawn(
        plan: DaemonPlan,
        images: Images,
        world: World,
        gate: Option<Gate>,
        first: First,
        (child, heart): (Arc<Child>, Heart),
        berth: Option<Berth>,
    ) -> io::Result<Self> {
        let (guest, options) = (plan.guest.clone(), plan.options.clone());
        let (sender, messages) = sync_channel(MAILBOX_REQUESTS_MAX);
        let mailbox = Arc::new(Mailbox::new(&options.name, sender));
        let bits = Arc::new(KillBits::default());
        // What readers have seen is not theirs.
        let key = gate.as_ref().filter(|_| berth.is_none()).map(|gate| gate.seat.key);
        if let Some(hold) = &world.hold {
            hold.attach(&bits, &mailbox);
        }
        if let Some(berth) = &berth {
            berth.join(&mailbox, world.hold.as_deref());
        }
        let (report, started) = sync_channel(1);
        let starting = Self {
            started,
            mailbox: mailbox.clone(),
            child: child.clone(),
            bits: bits.clone(),
            plan,
            key,
            hold: world.hold.clone(),
            berth: berth.clone(),
            gate: gate.clone(),
        };
        let its = child.clone();
        child.begin(move || {
            let start = duty::start(guest, images, options, world.clone(), gate.as_ref(), first);
            let daemon = match start {
                Ok(daemon) => daemon,
                Err(fault) => {
                    drop(report.send(Err(fault)));
                    return None;
                }
            };
            drop(report.send(Ok((daemon.gauges().clone(), daemon.cancel()))));
            let (child, ending) = (its, Default::default());
            Some(Box::new(Duty {
                child,
                mailbox,
                bits,
                daemon,
                world,
                gate,
                messages,
                heart,
                ending,
                turns: 0,
                put_back: None,
                berth,
            }))
        })?;
        Ok(starting)
    }

    /// Waits for the first state.
    ///
    /// # Errors
    ///
    /// The daemon's own; `E_HOST_BUG` when its thread panicked; `E_STOPPING` when the host is to
    /// stop meanwhile.
    pub(super) fn wait(self, stop: &StopLatch) -> Result<Worker, Fault> {
        let (gauges, cancel) = match self.shown(stop) {
            Ok(shown) => shown,
            Err(fault) => {
                // Nobody is left who would follow what its resources do.
                self.hold.iter().for_each(|hold| hold.detach());
                return Err(fault);
            }
        };
        let DaemonPlan { guest, options, copied, needs, uses, .. } = self.plan;
        Ok(Worker {
            mailbox: self.mailbox,
            child: self.child,
            cancel,
            bits: self.bits,
            gauges,
            guest: RwLock::new(guest),
            options,
            key: self.key,
            copied,
            needs,
            uses,
            hold: self.hold,
            berth: self.berth,
            gate: self.gate,
        })
    }
}

impl Starting {
    /// Waits for what it shares with the root.
    fn shown(&self, stop: &StopLatch) -> Result<Shown, Fault> {
        let name = &self.plan.options.name;
        loop {
            match self.started.recv_timeout(LOOP_TICK) {
                Ok(started) => return started,
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
        }
    }
}

impl Worker {
    /// Its end towards its readers.
    pub(super) fn leader(&self) -> Leader {
        Leader::new(&self.mailbox, &self.gauges)
    }

    /// Its end of the resources, if it has any.
    pub(super) fn hold(&self) -> Option<&Arc<Hold>> {
        self.hold.as_ref()
    }

    /// Its resources tell it nothing more.
    pub(super) fn detach(&self) {
        if let Some(hold) = &self.hold {
            hold.detach();
        }
    }

    /// Why the mailbox takes nothing at this moment, if so.
    pub(super) fn refuses(&self) -> Option<Fault> {
        self.mailbox.refuses()
    }

    /// Puts a message into the mailbox.
    ///
    /// # Errors
    ///
    /// `E_QUEUE_FULL`; `E_PARKED` when the daemon has no thread any more, `E_STOPPING` when it is
    /// gone; the message comes back.
    pub(super) fn send(&self, message: Message) -> Result<(), Box<Unsent>> {
        self.mailbox.send(message)
    }

    /// Closes the mailbox: what waits in it is refused, what runs may end.
    pub(super) fn begin_stop(&self) {
        self.child.stop();
        self.mailbox.close();
    }

    /// Takes messages again after its threads died too often, and asks for a new one.
    pub(super) fn resume_thread(&self) {
        self.mailbox.open();
        if let Some(berth) = &self.berth {
            berth.back();
        }
        self.child.ask_to_resume();
    }

    /// Its numbers; what its thread does is part of its state.
    pub(super) fn report(&self) -> Report {
        let mut report = self.gauges.report();
        report.state = match self.child.standing() {
            Standing::Up => report.state,
            Standing::Waiting => DaemonState::Restarting,
            Standing::Parked => DaemonState::Parked,
        };
        report
    }

    /// Lets the thread look for requests that are held no more.
    pub(super) fn wake(&self) {
        self.mailbox.nudge();
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
        let Some(thread) = self.child.take_thread() else { return };
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

    /// Ends what runs at the next tick, and whatever would run after it: for a stop.
    pub(super) fn cancel(&self) {
        self.cancel.all();
    }
}
