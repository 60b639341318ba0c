//! Keeps one resource: carries out what its state machine says, and tells it what came of that.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::delivery::Delivery;
use super::pool::Pool;
use super::{Connection, Incoming, NoConnection, Pending, Provider};
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::ids::{ConnectionId, ConnectionIds, LeaseId};
use crate::pure::resource::{Action, Change, Event, Machine, Status};

/// What a keeper shows of its resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Whether it is there, since when, and why not.
    pub status: Status,
    /// Deaths so soon after a recovery that the next one waits longer.
    pub flaps: u32,
}

/// Is told what becomes of one resource, in order. Runs on the keepers' thread: it must not wait.
pub trait Observer: Send + Sync {
    /// The resource is there, or gone.
    fn changed(&self, change: &Change);

    /// What to show from here on.
    fn show(&self, shown: Shown);

    /// A transaction uses this connection from here on; false when its lease has ended.
    fn uses(&self, lease: LeaseId, connection: ConnectionId) -> bool;

    /// A connection died that transactions used, for this reason. What that means for the resource
    /// is not known yet: it is told by [`Observer::changed`], or by [`Observer::cleared`].
    fn connection_died(&self, connection: ConnectionId, why: &str);

    /// The resource is there: connections that died meant nothing for it.
    fn cleared(&self);
}

/// What a keeper works with.
pub struct Keeping {
    /// The resource's name, for logs.
    pub name: String,
    /// How it is reached.
    pub provider: Arc<dyn Provider>,
    /// Run in order, each time before it counts as available.
    pub jobs: Vec<String>,
    /// What decides.
    pub machine: Machine,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping").field("name", &self.name).finish_non_exhaustive()
    }
}

type Link = Option<Box<dyn Connection>>;

/// A keeper at work. Outlives a panic of its task: the next one goes on with it.
pub(super) struct Keeper {
    keeping: Keeping,
    pool: Pool,
    delivery: Delivery,
    switches: mpsc::Receiver<Event>,
    link: Link,
    /// An operation, which has the connection meanwhile.
    busy: Option<Pending<'static, (Link, Event)>>,
    /// When to look again, in monotonic nanoseconds.
    due: Option<u64>,
    /// A connection of transactions died, and what that means is not known yet.
    in_doubt: bool,
}

impl Keeper {
    pub(super) fn new(
        keeping: Keeping,
        incoming: Incoming,
        ids: Arc<ConnectionIds>,
        switches: mpsc::Receiver<Event>,
    ) -> Self {
        // One that can't die is told once that it lives.
        let due = keeping.machine.due_nanos().or(Some(0));
        let Incoming { calls, effects } = incoming;
        let (provider, observer) = (keeping.provider.clone(), keeping.observer.clone());
        let delivery = Delivery::new(&keeping.name, provider.clone(), effects);
        let pool = Pool::new(provider, observer, ids, calls);
        let (link, busy, in_doubt) = (None, None, false);
        Self { keeping, pool, delivery, switches, link, busy, due, in_doubt }
    }

    /// The task before this one panicked: whatever it was doing is not believed.
    pub(super) fn doubt(&mut self) {
        (self.link, self.busy) = (None, None);
        self.delivery.drop_step("its keeper panicked");
        self.on(Event::CheckFailed("its keeper panicked".to_owned()));
        self.pool.clear();
    }

    /// Keeps the resource until it is told to stop.
    pub(super) async fn keep(&mut self) {
        loop {
            let event = self.next().await;
            let stop = event == Event::Stop;
            self.on(event);
            if stop {
                return;
            }
        }
    }

    /// The next thing that happens. Cancel safe: what is under way stays in `self`.
    async fn next(&mut self) -> Event {
        let now = self.keeping.clock.monotonic_nanos();
        let wait = self.due.map(|due| Duration::from_nanos(due.saturating_sub(now)));
        let (link, busy) = (&mut self.link, &mut self.busy);
        let happened = async {
            match (busy.as_mut(), link.as_mut()) {
                (Some(busy), _) => busy.await,
                // The connection that watches the other side: who closed it may have lost all
                // that it knew, so that counts as a death however soon it answers again.
                (None, Some(link)) => (None, Event::CheckFailed(link.died().await)),
                (None, None) => pending().await,
            }
        };
        tokio::select! {
            biased;
            switch = self.switches.recv() => switch.unwrap_or(Event::Stop),
            (back, event) = happened => {
                (self.link, self.busy) = (back, None);
                event
            }
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => {
                self.due = None;
                Event::Due
            }
            why = self.pool.run() => Event::ConnectionDied(why),
            why = self.delivery.run() => Event::ConnectionDied(why),
        }
    }

    fn on(&mut self, event: Event) {
        let keeping = &mut self.keeping;
        let (now, random) = (keeping.clock.monotonic_nanos(), keeping.entropy.seed());
        let random = random.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let actions = keeping.machine.on(event, now, random);
        for action in actions {
            self.act(action);
        }
        let in_doubt = self.keeping.machine.is_in_doubt();
        if self.in_doubt && !in_doubt {
            // When it is down they know.
            self.keeping.observer.cleared();
            self.pool.clear_of_doubt();
        }
        self.in_doubt = in_doubt;
        if !in_doubt {
            self.delivery.clear_of_doubt();
        }
        let machine = &self.keeping.machine;
        let shown = Shown { status: machine.status(), flaps: machine.flaps() };
        self.keeping.observer.show(shown);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect => {
                self.link = None;
                self.busy = Some(Box::pin(connect(self.keeping.provider.clone())));
            }
            Action::RunJob(index) => {
                let job = self.keeping.jobs.get(index).cloned().unwrap_or_default();
                self.busy = Some(Box::pin(run_job(self.link.take(), job)));
            }
            Action::Check => self.busy = Some(Box::pin(check(self.link.take()))),
            Action::Probe => {
                let provider = self.keeping.provider.clone();
                self.busy = Some(Box::pin(probe(self.link.take(), provider)));
            }
            Action::Disconnect => (self.link, self.busy) = (None, None),
            Action::Announce(change) => {
                match &change {
                    Change::Up { generation } => {
                        self.delivery.resume();
                        tracing::info!(resource = self.keeping.name, %generation, "available");
                    }
                    Change::Down { why, .. } => {
                        self.delivery.pause(why);
                        tracing::warn!(resource = self.keeping.name, why, "not available");
                    }
                }
                self.keeping.observer.changed(&change);
                self.pool.clear();
            }
            Action::WakeAt(at) => self.due = Some(at),
        }
    }
}

// How long each of these may take is the machine's to say: it lets go of what is late.

async fn connect(provider: Arc<dyn Provider>) -> (Link, Event) {
    match provider.connect().await {
        Ok(link) => (Some(link), Event::Connected),
        Err(none) => (None, Event::ConnectFailed(none.to_string())),
    }
}

async fn check(link: Link) -> (Link, Event) {
    let Some(mut link) = link else { return (None, Event::CheckFailed(NO_LINK.to_owned())) };
    let event = link.check().await.map_or_else(Event::CheckFailed, |()| Event::CheckPassed);
    (Some(link), event)
}

/// A check, and a connection more: others have died.
async fn probe(link: Link, provider: Arc<dyn Provider>) -> (Link, Event) {
    match check(link).await {
        (link, Event::CheckPassed) => match provider.connect().await {
            // Whoever says that it has too many connections is there.
            Ok(_) | Err(NoConnection::Full(_)) => (link, Event::CheckPassed),
            Err(NoConnection::Failed(why)) => (link, Event::CheckFailed(why)),
        },
        failed => failed,
    }
}

async fn run_job(link: Link, job: String) -> (Link, Event) {
    let Some(mut link) = link else { return (None, Event::JobFailed(NO_LINK.to_owned())) };
    let done = link.job(&job).await;
    let failed = |why| Event::JobFailed(format!("`{job}`: {why}"));
    (Some(link), done.map_or_else(failed, |()| Event::JobDone))
}

const NO_LINK: &str = "the connection is gone";
