//! The clients of a server: so many at once, each with a place.
//!
//! When all places are taken and another client comes, [`make_room`] says who is let go of for it;
//! whoever is being answered is not. So clients that say nothing, or that send or read slowly,
//! can't keep anybody out.

mod paced;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::limits::CLIENTS_RESERVED;
use crate::pure::places::{Room, make_room, patience};

pub(super) use paced::{Handing, Paced, Stage, Times};

/// Who has a place.
#[derive(Debug)]
pub(super) struct Clients {
    count_max: usize,
    seated: Mutex<Vec<Arc<Stage>>>,
    left: Notify,
    /// Clients that found no free place since the last one that did.
    crowd: AtomicUsize,
}

/// A client's place; free when it is dropped.
#[derive(Debug)]
pub(in crate::shell) struct Seat {
    clients: Arc<Clients>,
    pub(super) stage: Arc<Stage>,
}

impl Clients {
    pub(super) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self {
            count_max,
            seated: Mutex::default(),
            left: Notify::new(),
            crowd: AtomicUsize::new(0),
        })
    }

    /// Places beside those that are kept for what can't wait.
    pub(super) fn open_to_all(&self) -> usize {
        self.count_max - CLIENTS_RESERVED.min(self.count_max / 2)
    }

    /// True when all of these are taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.seated().len() > self.open_to_all()
    }

    /// A place for a client, as soon as there is one.
    ///
    /// # Cancel safety
    ///
    /// Whoever was let go of for it is gone.
    pub(super) async fn seat(self: &Arc<Self>, times: Times) -> Seat {
        let stage = Stage::new(times);
        if self.takes(&stage) {
            self.crowd.store(0, Ordering::Relaxed);
            return Seat { clients: self.clone(), stage };
        }
        self.crowd.fetch_add(1, Ordering::Relaxed);
        while !self.takes(&stage) {
            let later = self.make_room();
            tokio::select! {
                () = self.left.notified() => {}
                () = tokio::time::sleep_until(later) => {}
            }
        }
        Seat { clients: self.clone(), stage }
    }

    /// Lets go of a client, if there is one that may go. Answers when to look again.
    pub(super) fn make_room(&self) -> Instant {
        let now = Instant::now();
        let seated = self.seated();
        let shown = seated.iter().map(|stage| {
            let (doing, since) = stage.doing();
            (stage, doing, now.saturating_duration_since(since))
        });
        let patience = patience(self.crowd.load(Ordering::Relaxed), self.count_max);
        match make_room(shown, patience) {
            Room::LetGo(stage) => {
                stage.let_go();
                now + patience
            }
            Room::Later(later) => now + later,
        }
    }

    fn takes(&self, stage: &Arc<Stage>) -> bool {
        let mut seated = self.seated();
        let takes = seated.len() < self.count_max;
        if takes {
            seated.push(stage.clone());
        }
        takes
    }

    fn seated(&self) -> MutexGuard<'_, Vec<Arc<Stage>>> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Serves the client, until it is let go of.
    pub(super) async fn serve(self, serving: impl Future<Output = ()>) {
        tokio::select! {
            // First: what came for one that is let go of is not begun.
            biased;
            () = self.stage.is_let_go() => tracing::debug!("let go of a client: others need room"),
            () = serving => {}
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clients.seated().retain(|stage| !Arc::ptr_eq(stage, &self.stage));
        self.clients.left.notify_one();
    }
}
