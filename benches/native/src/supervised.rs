//! Under the project's own supervisor.

use supervisor::{
    BoxError, Irrecoverable, Manageable, Policy, Reporter, Restart, Signals, Supervisor, Task,
};
use tokio::sync::mpsc;

use crate::{Crew, MAILBOX, Message, Ups};

type Mailbox = mpsc::Sender<Message>;

struct Worker {
    up: mpsc::Sender<Mailbox>,
}

impl Manageable for Worker {
    async fn start(&mut self, _: Reporter, _: Signals) -> Result<Task, BoxError> {
        let (sender, mut receiver) = mpsc::channel(MAILBOX);
        let up = self.up.clone();
        Ok(Task::new(async move {
            up.send(sender).await?;
            while let Some(message) = receiver.recv().await {
                match message {
                    Message::Crash => return Err("crash".into()),
                    Message::Ping(reply) => reply.send(()).map_err(|()| "nobody asked")?,
                }
            }
            Ok(())
        }))
    }

    async fn handle_irrecoverable(&mut self, _: &Irrecoverable) -> Result<(), BoxError> {
        Ok(())
    }
}

pub(crate) struct Supervised {
    ups: Ups<Mailbox>,
    mailbox: Mailbox,
}

pub(crate) async fn start() -> Supervised {
    let (up, mut ups) = mpsc::channel(MAILBOX);
    let policy = Policy::new(Restart::Permanent).with_backoff(None).with_intensity(None);
    Supervisor::new(Worker { up }).policy(policy).spawn().await.expect("a runtime");
    let mailbox = ups.recv().await.expect("a worker");
    Supervised { ups, mailbox }
}

impl Crew for Supervised {
    async fn send(&self, message: Message) {
        self.mailbox.send(message).await.expect("a worker");
    }

    async fn restarted(&mut self) {
        self.mailbox = self.ups.recv().await.expect("a worker");
    }
}
