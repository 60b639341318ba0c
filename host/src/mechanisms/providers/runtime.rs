//! The thread of the keepers. Each keeper is a component of its own: a panic in a provider's code
//! takes its resource down and starts the keeper again, and no other one notices.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use supervisor::{
    BoxError, Exhausted, Irrecoverable, Manageable, Policy, Reporter, Restart, Signals, Supervised,
    Supervisor, Task,
};
use tokio::sync::{Notify, mpsc};

use super::calls::Incoming;
use super::keeper::{Keeper, Keeping};
use crate::base::ids::ConnectionIds;
use crate::base::limits::{API_BEAT, RESOURCE_SWITCHES_MAX, WATCH_SLACK};
use crate::base::vitals::{Heart, Kind, Vitals};
use crate::pure::resource::Event;

/// Switches one resource off and on, for drills.
#[derive(Clone, Debug)]
pub struct Switch(mpsc::Sender<Event>);

impl Switch {
    /// Takes the resource down, and holds it there.
    ///
    /// # Errors
    ///
    /// When the keeper has not come to what it was told before, or has ended.
    pub fn hold(&self) -> Result<(), Busy> {
        self.0.try_send(Event::Hold).map_err(|_| Busy)
    }

    /// Lets go of it: it comes back as after any death.
    ///
    /// # Errors
    ///
    /// As [`Switch::hold`].
    pub fn release(&self) -> Result<(), Busy> {
        self.0.try_send(Event::Release).map_err(|_| Busy)
    }
}

/// The keeper takes no more at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Busy;

/// All keepers of a host, on their thread.
pub struct Providers {
    ending: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers").finish_non_exhaustive()
    }
}

impl Providers {
    /// Starts to keep all of these, each with what comes to it; answers a switch for each, in the
    /// same order.
    ///
    /// # Errors
    ///
    /// When the machine gives no thread.
    pub fn start(
        keepings: Vec<(Keeping, Incoming)>,
        vitals: &Arc<Vitals>,
    ) -> io::Result<(Self, Vec<Switch>)> {
        let ending = Arc::new(Notify::new());
        let mut switches = Vec::with_capacity(keepings.len());
        let ids = Arc::new(ConnectionIds::default());
        let keepers = keepings.into_iter().map(|(keeping, incoming)| {
            let (sender, receiver) = mpsc::channel(RESOURCE_SWITCHES_MAX);
            switches.push(Switch(sender));
            (keeping.name.clone(), Keeper::new(keeping, incoming, ids.clone(), receiver))
        });
        let keepers: Vec<_> = keepers.collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("providers-disk")
            .build()?;
        let heart = vitals.heart("providers", Kind::Api);
        let its_end = ending.clone();
        let thread = Builder::new().name("providers".to_owned()).spawn(move || {
            runtime.block_on(keep_all(keepers, &its_end, &heart));
            // What waits for a disk that is gone is not waited for.
            runtime.shutdown_background();
        })?;
        Ok((Self { ending, thread: Mutex::new(Some(thread)) }, switches))
    }

    /// Lets go of all resources and ends the thread. Closes every connection.
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.ending.notify_one();
            if thread.join().is_err() {
                tracing::error!("the keepers' thread had panicked");
            }
        }
    }
}

impl Drop for Providers {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn keep_all(keepers: Vec<(String, Keeper)>, ending: &Notify, heart: &Heart) {
    let mut kept: Vec<Supervised> = Vec::with_capacity(keepers.len());
    for (name, keeper) in keepers {
        let component = Component { keeper: Arc::new(tokio::sync::Mutex::new(keeper)), tasks: 0 };
        let policy = Policy::new(Restart::Permanent).with_exhausted(Exhausted::Park);
        match Supervisor::new(component).name(&name).policy(policy).spawn().await {
            Ok(supervised) => kept.push(supervised),
            Err(error) => tracing::error!(resource = name, %error, "it has no keeper"),
        }
    }
    let beat = async {
        loop {
            heart.work(WATCH_SLACK);
            tokio::time::sleep(API_BEAT).await;
        }
    };
    tokio::select! {
        () = ending.notified() => {}
        () = beat => {}
    }
    for supervised in &kept {
        supervised.cancel();
    }
}

/// One keeper as a component.
struct Component {
    keeper: Arc<tokio::sync::Mutex<Keeper>>,
    tasks: u64,
}

impl Manageable for Component {
    async fn start(&mut self, _reports: Reporter, mut signals: Signals) -> Result<Task, BoxError> {
        let (keeper, first) = (self.keeper.clone(), self.tasks == 0);
        self.tasks += 1;
        Ok(Task::new(async move {
            let mut keeper = keeper.lock().await;
            if !first {
                keeper.doubt();
            }
            tokio::select! {
                () = keeper.keep() => {}
                () = signals.cancelled() => {}
            }
            Ok(())
        }))
    }

    async fn handle_irrecoverable(&mut self, _error: &Irrecoverable) -> Result<(), BoxError> {
        Ok(())
    }
}
