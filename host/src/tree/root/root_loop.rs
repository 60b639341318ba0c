//! The root's loop: one thread that is told of the threads that die, and starts their successors.
//!
//! It runs no guest code and waits for no child: a new thread brings its daemon back by itself.
//! What is done about a death is decided in `pure::supervision`; it is recorded before it is done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::error::Code;
use crate::base::ids::NodeId;
use crate::base::limits::{ROOT_NOTES_MAX, THREAD_EXITS_MAX, WATCH_SLACK};
use crate::base::vitals::{Heart, Kind, Vitals};
use crate::pure::supervision::{Children, Verdict};
use crate::tree::child::{Charge, Child, Death, Note, Refused, Standing};

/// The death of a thread under the root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ThreadExit {
    /// Whose thread it was.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// When, since 1970.
    pub unix_nanos: u64,
    /// Which death of this child it was, from 1.
    pub death: u64,
    /// The text of the panic.
    pub panic: String,
    /// What was done about it.
    pub verdict: Verdict,
    /// How long its successor waits.
    pub delay: Duration,
}

/// The last deaths, oldest first.
#[derive(Debug, Default)]
pub(super) struct Exits(Mutex<VecDeque<ThreadExit>>);

impl Exits {
    fn push(&self, exit: ThreadExit) {
        let mut exits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if exits.len() == THREAD_EXITS_MAX {
            exits.pop_front();
        }
        exits.push_back(exit);
    }

    pub(super) fn list(&self) -> Vec<ThreadExit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The root's end of the loop.
#[derive(Debug)]
pub(super) struct RootLoop {
    notes: SyncSender<Note>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) exits: Arc<Exits>,
}

impl RootLoop {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the machine gives none.
    pub(super) fn start(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        vitals: &Arc<Vitals>,
    ) -> std::io::Result<Self> {
        let (notes, received) = sync_channel(ROOT_NOTES_MAX);
        let exits = Arc::new(Exits::default());
        let mut state = State {
            children: Children::default(),
            down: BTreeMap::new(),
            exits: exits.clone(),
            clock,
            entropy,
            vitals: vitals.clone(),
        };
        let heart = vitals.heart("root", Kind::Loop);
        let thread = Builder::new().name("root".to_owned());
        let thread = thread.spawn(move || state.run(&received, &heart))?;
        Ok(Self { notes, thread: Mutex::new(Some(thread)), exits })
    }

    /// The way to tell the loop.
    pub(super) fn notes(&self) -> SyncSender<Note> {
        self.notes.clone()
    }

    /// From here on nothing is started again, and what waits at children without a thread is
    /// refused. Waits for nobody.
    pub(super) fn refuse_restarts(&self) {
        self.note(Note::Stop);
    }

    /// Ends the thread, when all children have ended.
    pub(super) fn end(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.note(Note::End);
            if thread.join().is_err() {
                tracing::error!("the root's loop had panicked");
            }
        }
    }

    fn note(&self, note: Note) {
        if self.notes.send(note).is_err() {
            tracing::debug!("the root's loop has ended");
        }
    }
}

/// A child without a thread.
struct Down {
    child: Arc<Child>,
    charge: Box<dyn Charge>,
}

struct State {
    children: Children,
    down: BTreeMap<NodeId, Down>,
    exits: Arc<Exits>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    vitals: Arc<Vitals>,
}

impl State {
    fn run(&mut self, notes: &Receiver<Note>, heart: &Heart) {
        loop {
            heart.rest();
            let note = match self.children.next_due_nanos() {
                None => notes.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => {
                    let left = due.saturating_sub(self.clock.monotonic_nanos());
                    notes.recv_timeout(Duration::from_nanos(left))
                }
            };
            heart.work(WATCH_SLACK);
            match note {
                Ok(Note::Died(death)) => self.died(death),
                Ok(Note::Resume(child)) => self.resume(&child),
                Ok(Note::Stop) => self.stop(),
                Ok(Note::End) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            while let Some(id) = self.children.due(self.clock.monotonic_nanos()) {
                self.start(id);
            }
        }
        self.stop();
        for note in notes.try_iter() {
            if let Note::Died(mut death) = note {
                death.charge.refuse(Refused::Over);
            }
        }
    }

    /// Records a death, decides, and lets the decision be known.
    fn died(&mut self, Death { child, charge, panic }: Death) {
        let told = child.is_stopping() || self.vitals.stop().is_set();
        let now = self.clock.monotonic_nanos();
        let verdict = self.children.died(child.id, &child.policy, told, now, self.random());
        let death = child.count_death();
        let delay = match verdict {
            Verdict::RestartAt(at) => Duration::from_nanos(at.saturating_sub(now)),
            _ => Duration::ZERO,
        };
        let name = child.name.as_str();
        tracing::error!(child = name, death, panic, ?verdict, ?delay, "its thread died");
        self.exits.push(ThreadExit {
            node: child.id,
            name: name.to_owned(),
            unix_nanos: self.clock.unix_nanos(),
            death,
            panic: panic.clone(),
            verdict,
            delay,
        });
        let mut down = Down { child: child.clone(), charge };
        match verdict {
            Verdict::RestartAt(_) => child.set_standing(Standing::Waiting),
            Verdict::Over => return down.charge.refuse(Refused::Over),
            Verdict::Park | Verdict::Emergency => {
                let text = format!("its thread died {death} times, the last time of: {panic}");
                // Whoever resumes it must find its mailbox shut already, to open it for good.
                down.charge.refuse(Refused::Parked(&text));
                child.set_standing(Standing::Parked);
                if verdict == Verdict::Emergency {
                    let text = format!("`{name}`: {text}");
                    // Another reason may have been there first.
                    let _first = self.vitals.stop().emergency(Code::Restarts, text);
                }
            }
        }
        self.down.insert(child.id, down);
    }

    /// Gives a child its next thread.
    fn start(&mut self, id: NodeId) {
        let Some(Down { child, charge }) = self.down.remove(&id) else { return };
        if child.is_stopping() || self.vitals.stop().is_set() {
            return self.leave(&child, charge);
        }
        match child.again(charge) {
            Ok(()) => {}
            Err(charge) if child.is_stopping() => self.leave(&child, charge),
            // As if it had died once more: the policy says how often that is tried.
            Err(charge) => {
                let panic = "the machine gave no thread".to_owned();
                self.died(Death { child, charge, panic });
            }
        }
    }

    fn resume(&mut self, child: &Arc<Child>) {
        if self.children.resume(child.id) {
            self.start(child.id);
        }
    }

    fn leave(&mut self, child: &Child, mut charge: Box<dyn Charge>) {
        self.children.forget(child.id);
        charge.refuse(Refused::Over);
    }

    fn stop(&mut self) {
        self.children.stop();
        for (_, mut down) in std::mem::take(&mut self.down) {
            down.charge.refuse(Refused::Over);
        }
    }

    fn random(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.entropy.seed();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}
