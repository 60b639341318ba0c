//! The control plane: the socket's server, and that of HTTP where there is one, components under a
//! supervisor on a thread of their own.
//!
//! A panic or an error of a server ends neither the host nor the clients that are connected: the
//! next generation accepts. When one fails again and again, the host stops as in an emergency.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use supervisor::{
    BoxError, Child, Emergency, Escalation, Exhausted, Group, Irrecoverable, Manageable, Policy,
    Reporter, Restart, Signals, Strategy, Supervisor, Task,
};
use tokio::runtime::{self, Runtime};
use tokio::sync::Notify;

use super::api::{self, Listening, Served};
use super::ingress::{self, Ingress};
use crate::base::error::Code;
use crate::base::failpoint::{self, Point};
use crate::base::limits::{API_BEAT, COMMAND_THREADS, COMMAND_THREADS_KEPT};
use crate::base::stop::StopLatch;
use crate::base::vitals::{Heart, Kind, Pulse};

/// Serves the socket and HTTP until it is told to end. `slack` is the time that a beat may take.
///
/// # Errors
///
/// When there is no runtime, or a server failed more often than its policy allows.
pub(super) fn serve_until(
    (listening, ingress): (Listening, Option<Ingress>),
    served: &Arc<Served>,
    ending: &Notify,
    heart: &Heart,
    slack: Duration,
) -> Result<(), BoxError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("command")
        .thread_keep_alive(COMMAND_THREADS_KEPT)
        .build()?;
    let (listening, same) = (Arc::new(listening), served.clone());
    let socket = Server::new(heart.pulse(), move || {
        let (listening, served) = (listening.clone(), same.clone());
        Box::pin(async move { api::serve(&listening, served).await })
    });
    let mut group = Group::new(Strategy::OneForOne).with(child("api", socket))?;
    // It beats with the thread, and is seen by itself.
    let front = ingress.map(|ingress| (Arc::new(ingress), served.vitals.heart("http", Kind::Api)));
    if let Some((ingress, heart)) = &front {
        let (ingress, same) = (ingress.clone(), served.clone());
        let server = Server::new(heart.pulse(), move || {
            let (ingress, served) = (ingress.clone(), same.clone());
            Box::pin(async move { ingress::serve(&ingress, served).await })
        });
        group = group.with(child("http", server))?;
    }
    let supervisor = Supervisor::group(group).name("control-plane");
    let supervisor = supervisor.emergency(Arc::new(Latch(served.vitals.stop().clone())));
    keep_threads(&runtime);
    let ended = runtime.block_on(async {
        let supervised = supervisor.spawn().await?;
        let beat = async {
            loop {
                heart.work(slack);
                if let Some((_, heart)) = &front {
                    heart.work(slack);
                }
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

/// Starts the threads of commands that wait, all at once; idle ones stay. So commands are carried
/// out when the system gives this process no more threads, and one that takes long holds up none of
/// the others.
fn keep_threads(runtime: &Runtime) {
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock();
    for _ in 0..COMMAND_THREADS {
        let gate = gate.clone();
        drop(runtime.spawn_blocking(move || drop(gate.lock())));
    }
    drop(shut);
}

fn child(name: &str, server: impl Manageable) -> Child {
    let policy = Policy::new(Restart::Permanent).with_exhausted(Exhausted::Emergency);
    Child::new(name, server).policy(policy)
}

type Serving = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Accepts clients.
struct Server<F> {
    serve: F,
    pulse: Arc<Pulse>,
    generations: u64,
}

impl<F: Fn() -> Serving + Send + 'static> Server<F> {
    fn new(pulse: &Arc<Pulse>, serve: F) -> Self {
        Self { serve, pulse: pulse.clone(), generations: 0 }
    }
}

impl<F: Fn() -> Serving + Send + 'static> Manageable for Server<F> {
    async fn start(&mut self, _reports: Reporter, mut signals: Signals) -> Result<Task, BoxError> {
        if self.generations > 0 {
            self.pulse.note_restart();
        }
        self.generations += 1;
        let serving = (self.serve)();
        Ok(Task::new(async move {
            tokio::select! {
                ended = serving => ended.map_err(BoxError::from),
                () = signals.cancelled() => Ok(()),
            }
        }))
    }

    async fn handle_irrecoverable(&mut self, _error: &Irrecoverable) -> Result<(), BoxError> {
        // The supervisor has written it down; the clients are served on.
        Ok(())
    }
}

/// Stops the host when a server can't be kept up.
#[derive(Debug)]
struct Latch(Arc<StopLatch>);

impl Emergency for Latch {
    fn emergency(&self, reason: &Escalation) {
        // Another reason may have been there first.
        let _first = self.0.emergency(Code::Restarts, reason.to_string());
    }
}
