//! Under an actor of ractor, which starts its child again when it fails: what its examples do.

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc;

use crate::{Crew, MAILBOX, Message, Ups};

type Up = mpsc::Sender<ActorRef<Message>>;

struct Worker;

impl Actor for Worker {
    type Msg = Message;
    type State = ();
    type Arguments = Up;

    async fn pre_start(&self, this: ActorRef<Message>, up: Up) -> Result<(), ActorProcessingErr> {
        up.send(this).await?;
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Crash => Err("crash".into()),
            Message::Ping(reply) => reply.send(()).map_err(|()| "nobody asked".into()),
        }
    }
}

struct Parent;

impl Actor for Parent {
    type Msg = Message;
    type State = Up;
    type Arguments = Up;

    async fn pre_start(&self, this: ActorRef<Message>, up: Up) -> Result<Up, ActorProcessingErr> {
        Actor::spawn_linked(None, Worker, up.clone(), this.get_cell()).await?;
        Ok(up)
    }

    async fn handle_supervisor_evt(
        &self,
        this: ActorRef<Message>,
        event: SupervisionEvent,
        up: &mut Up,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            Actor::spawn_linked(None, Worker, up.clone(), this.get_cell()).await?;
        }
        Ok(())
    }
}

pub(crate) struct Ractors {
    ups: Ups<ActorRef<Message>>,
    worker: ActorRef<Message>,
}

pub(crate) async fn start() -> Ractors {
    let (up, mut ups) = mpsc::channel(MAILBOX);
    Actor::spawn(None, Parent, up).await.expect("a parent");
    let worker = ups.recv().await.expect("a worker");
    Ractors { ups, worker }
}

impl Crew for Ractors {
    async fn send(&self, message: Message) {
        self.worker.cast(message).expect("a worker");
    }

    async fn restarted(&mut self) {
        self.worker = self.ups.recv().await.expect("a worker");
    }
}
