//! Stateless daemons: their instances; and what the root finds under a name.

use std::sync::Arc;

use super::{DaemonPlan, Root, RootError, read};
use crate::base::error::{Code, Fault, printable};
use crate::base::ids::{Generation, Sequence};
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::Guest;
use crate::pure::checkpoint::Checkpoint;
use crate::pure::kill_bits::Bits;
use crate::tree::bits::KillBits;
use crate::tree::crew::{Berth, Crew};
use crate::tree::daemon::Daemon;
use crate::tree::mailbox::Unsent;
use crate::tree::worker::{First, Message, Starting, Worker};

/// A daemon, as far as requests to it go.
pub(super) enum Asked {
    /// With a state, and one instance.
    One(Arc<Worker>),
    /// With a state, and readers of it.
    Led(Arc<Worker>, Arc<Crew>),
    /// Stateless.
    Crew(Arc<Crew>),
}

impl Asked {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::One(worker) | Self::Led(worker, _) => &worker.options.name,
            Self::Crew(crew) => &crew.name,
        }
    }

    /// What of it is refused.
    pub(super) fn bits(&self) -> &KillBits {
        match self {
            Self::One(worker) | Self::Led(worker, _) => &worker.bits,
            Self::Crew(crew) => &crew.bits,
        }
    }

    pub(super) fn guest(&self) -> Arc<Guest> {
        match self {
            Self::One(worker) | Self::Led(worker, _) => worker.guest(),
            Self::Crew(crew) => crew.guest.clone(),
        }
    }

    /// Its last commit.
    pub(super) fn sequence(&self) -> Sequence {
        match self {
            Self::One(worker) | Self::Led(worker, _) => Sequence(worker.gauges.report().sequence),
            Self::Crew(_) => Sequence::default(),
        }
    }

    /// Hands a request over.
    ///
    /// # Errors
    ///
    /// As [`Worker::send`] and [`Crew::send`].
    pub(super) fn send(&self, message: Message) -> Result<(), Box<Unsent>> {
        match self {
            Self::One(worker) => worker.send(message),
            Self::Led(worker, crew) if crew.reads(&message) => match crew.send(message) {
                Err(unsent) if unsent.fault.code != Code::QueueFull => worker.send(unsent.message),
                sent => sent,
            },
            Self::Led(worker, _) => worker.send(message),
            Self::Crew(crew) => crew.send(message),
        }
    }

    /// Changes what is switched off; answers that, and how many requests were held before.
    pub(super) fn change(&self, mut change: impl FnMut(&mut Bits)) -> (Bits, usize) {
        match self {
            Self::One(worker) => worker.bits.change(change),
            Self::Led(worker, crew) => {
                let (bits, held) = worker.bits.change(&mut change);
                let (_same, more) = crew.change(change);
                (bits, held + more)
            }
            Self::Crew(crew) => crew.change(change),
        }
    }

    /// Lets it look for requests that are held no more.
    pub(super) fn wake(&self) {
        match self {
            Self::One(worker) => worker.wake(),
            Self::Led(worker, crew) => {
                worker.wake();
                crew.wake();
            }
            Self::Crew(crew) => crew.wake(),
        }
    }

    /// Whether an answer can be kept under a key.
    ///
    /// # Errors
    ///
    /// `E_STATELESS`.
    pub(super) fn keeps_answers(&self) -> Result<(), Fault> {
        match self {
            Self::One(_) | Self::Led(..) => Ok(()),
            Self::Crew(crew) => Err(stateless(&crew.name, "so no answer is kept under a key")),
        }
    }
}

/// What a member of a crew is.
fn one_of(crew: &Crew) -> &'static str {
    if crew.leader.is_some() { "a reader" } else { "one instance" }
}

fn stateless(name: &str, therefore: &str) -> Fault {
    Fault::new(Code::Stateless, format!("daemon `{name}` is stateless, {therefore}"))
}

impl Root {
    /// The daemon that requests to `name` are for.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub(super) fn asked(&self, name: &str) -> Result<Asked, Fault> {
        if let Some(crew) = self.crews.get(name) {
            return Ok(Asked::Crew(crew.clone()));
        }
        let worker = self.worker(name)?;
        if let Some(berth) = &worker.berth {
            let (crew, is) = (&berth.crew.name, one_of(&berth.crew));
            let message = format!("`{name}` is {is} of daemon `{crew}`: ask that");
            return Err(Fault::new(Code::DaemonUnknown, message));
        }
        Ok(match self.readers.get(name) {
            Some(crew) => Asked::Led(worker, crew.clone()),
            None => Asked::One(worker),
        })
    }

    /// A daemon with one thread, or one of the instances of a stateless one.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`; `E_PARKED` for one that could not be started; `E_STATELESS` for a
    /// stateless daemon as a whole.
    pub(super) fn worker(&self, name: &str) -> Result<Arc<Worker>, Fault> {
        let daemons = read(&self.daemons);
        if let Some(worker) = daemons.get(name) {
            return Ok(worker.clone());
        }
        if self.crews.contains_key(name) {
            let therefore = format!("so it has no history; its instances are `{name}/0` and so on");
            return Err(stateless(name, &therefore));
        }
        if let Some(unstarted) = self.why_unstarted(name) {
            return Err(unstarted.refusal());
        }
        let journal = self.ground.journal.as_ref();
        if journal.is_some_and(|journal| journal.store.has_state(name)) {
            let message = format!("daemon `{name}` has state here, but no file: it does not run");
            return Err(Fault::new(Code::DaemonUnknown, message));
        }
        let name = printable(name, 64);
        let own = daemons.iter().filter(|(_, worker)| worker.berth.is_none());
        let mut names: Vec<&str> = own.map(|(name, _)| name.as_str()).collect();
        names.extend(self.crews.keys().map(String::as_str));
        names.sort_unstable();
        let known = printable(&names.join(", "), 300);
        Err(Fault::new(Code::DaemonUnknown, format!("no daemon `{name}`; there are {known}")))
    }

    /// A daemon that keeps a state.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_STATELESS`.
    pub(super) fn keeper(&self, name: &str) -> Result<Arc<Worker>, Fault> {
        let worker = self.worker(name)?;
        match &worker.berth {
            None => Ok(worker),
            Some(berth) if berth.crew.leader.is_some() => {
                let (crew, is) = (&berth.crew.name, one_of(&berth.crew));
                let message = format!("`{name}` is {is} of daemon `{crew}`, which has the history");
                Err(Fault::new(Code::Stateless, message))
            }
            Some(_) => Err(stateless(name, "so it has no history")),
        }
    }

    /// The threads behind a daemon.
    pub(super) fn workers(&self, asked: &Asked) -> Vec<Arc<Worker>> {
        match asked {
            Asked::One(worker) => vec![worker.clone()],
            Asked::Led(worker, crew) => {
                let mut workers = self.members(crew);
                workers.insert(0, worker.clone());
                workers
            }
            Asked::Crew(crew) => self.members(crew),
        }
    }

    /// The threads of a crew, in the order of their numbers.
    pub(super) fn members(&self, crew: &Arc<Crew>) -> Vec<Arc<Worker>> {
        let daemons = read(&self.daemons);
        let its = |worker: &&Arc<Worker>| {
            worker.berth.as_ref().is_some_and(|berth| Arc::ptr_eq(&berth.crew, crew))
        };
        let mut members: Vec<_> = daemons.values().filter(its).cloned().collect();
        members.sort_by_key(|worker| worker.child.id);
        members
    }

    /// Starts the instances of a stateless daemon, one per pair of images. The first one makes the
    /// first state, the others begin with a copy of it; when that can't be made yet, because
    /// something that it needs is not there, each makes its own.
    pub(super) fn start_crew(
        &mut self,
        plan: &DaemonPlan,
        images: Vec<Images>,
    ) -> Result<(), RootError> {
        let (name, size) = (plan.options.name.as_str(), images.len());
        let crew = Crew::new(self.ground.next_id(), name, plan.guest.clone(), size, None);
        self.crews.insert(name.to_owned(), crew.clone());
        let mut starting = Vec::with_capacity(size);
        let started = self.spawn_crew(&crew, plan, images, &mut starting);
        let rest = self.insert_started(starting);
        started.and(rest)
    }

    fn spawn_crew(
        &self,
        crew: &Arc<Crew>,
        plan: &DaemonPlan,
        images: Vec<Images>,
        starting: &mut Vec<Starting>,
    ) -> Result<(), RootError> {
        let mut genesis: Option<Arc<Checkpoint>> = None;
        for ((index, name), images) in plan.names().enumerate().zip(images) {
            let mut plan = plan.clone();
            plan.options.name.clone_from(&name);
            let first = genesis.clone().map_or(First::Open, First::Adopt);
            let berth = Berth::new(crew, index);
            let started = self.ground.spawn(plan, images, first, Some(berth))?;
            if index > 0 {
                starting.push(started);
                continue;
            }
            self.insert_started([started])?;
            genesis = self.control(&name, genesis_of).map_err(RootError::Daemon)?;
        }
        Ok(())
    }
}

/// The first state, as an instance's own that has not begun; none while there is none.
fn genesis_of(daemon: &mut Daemon) -> Result<Option<Arc<Checkpoint>>, Fault> {
    let made = || Checkpoint { generation: Generation(0), ..daemon.capture() };
    Ok((!daemon.is_unborn()).then(|| Arc::new(made())))
}
