//! The control plane: the socket's server, a component under a supervisor on a thread of its own.
//!
//! A panic or an error of the server ends neither the host nor the clients that are connected: the
//! next generation accepts. When it fails again and again, the host stops as in an emergency.

use std::sync::Arc;
use std::time::Duration;

use supervisor::{
    BoxError, Emergency, Escalation, Exhausted, Irrecoverable, Manageable, Policy, Reporter,
    Restart, Signals, Supervisor, Task,
};
use tokio::sync::Notify;

use super::api::{Listening, Served, serve};
use crate::base::error::Code;
use crate::base::failpoint::{self, Point};
use crate::base::limits::API_BEAT;
use crate::base::stop::StopLatch;
use crate::base::vitals::{Heart, Pulse};

/// Serves the socket until it is told to end. `slack` is the time that a beat may take.
///
/// # Errors
///
/// When there is no runtime, or the server failed more often than its policy allows.
pub(super) fn serve_until(
    listening: Listening,
    served: &Arc<Served>,
    ending: &Notify,
    heart: &Heart,
    slack: Duration,
) -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Server {
        listening: Arc::new(listening),
        served: served.clone(),
        pulse: heart.pulse().clone(),
        generations: 0,
    };
    let policy = Policy::new(Restart::Permanent).with_exhausted(Exhausted::Emergency);
    let supervisor = Supervisor::new(server).name("api").policy(policy);
    let supervisor = supervisor.emergency(Arc::new(Latch(served.vitals.stop().clone())));
    let ended = runtime.block_on(async {
        let supervised = supervisor.spawn().await?;
        let beat = async {
            loop {
                heart.work(slack);
                // A beat does nothing that could fail.
                drop(failpoint::pass(Point::ControlPlane));
                tokio::time::sleep(API_BEAT).await;
            }
        };
        tokio::select! {
            ended = supervised.ended() => ended.map(|_end| ()).map_err(BoxError::from),
            () = ending.notified() => Ok(()),
            () = beat => Ok(()),
        }
    });
    // Commands that wait for a disk or a compiler are not waited for.
    runtime.shutdown_background();
    ended
}

/// Accepts clients.
struct Server {
    listening: Arc<Listening>,
    served: Arc<Served>,
    pulse: Arc<Pulse>,
    generations: u64,
}

impl Manageable for Server {
    async fn start(&mut self, _reports: Reporter, mut signals: Signals) -> Result<Task, BoxError> {
        if self.generations > 0 {
            self.pulse.note_restart();
        }
        self.generations += 1;
        let (listening, served) = (self.listening.clone(), self.served.clone());
        Ok(Task::new(async move {
            tokio::select! {
                ended = serve(&listening, served) => ended.map_err(BoxError::from),
                () = signals.cancelled() => Ok(()),
            }
        }))
    }

    async fn handle_irrecoverable(&mut self, _error: &Irrecoverable) -> Result<(), BoxError> {
        // The supervisor has written it down; the clients are served on.
        Ok(())
    }
}

/// Stops the host when the server can't be kept up.
#[derive(Debug)]
struct Latch(Arc<StopLatch>);

impl Emergency for Latch {
    fn emergency(&self, reason: &Escalation) {
        // Another reason may have been there first.
        let _first = self.0.emergency(Code::Restarts, reason.to_string());
    }
}
