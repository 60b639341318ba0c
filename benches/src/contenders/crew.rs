//! Threads that each own something and work on it when told to, all at once.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// The crew. Its threads end when it is dropped.
#[derive(Debug)]
pub struct Crew {
    workers: Vec<Worker>,
    /// Units of work that each thread does when told to.
    count: u32,
}

#[derive(Debug)]
struct Worker {
    // Taken by `drop`, which tells the thread to end.
    go: Option<Sender<()>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// What a thread of the crew is told.
#[derive(Debug)]
pub struct Turns {
    go: Receiver<()>,
    done: Sender<()>,
}

impl Turns {
    /// Works each time that the crew is told to.
    pub fn each(self, mut work: impl FnMut()) {
        while self.done.send(()).is_ok() && self.go.recv().is_ok() {
            work();
        }
    }
}

impl Crew {
    /// Starts that many threads. Each runs `body`, which makes what it owns, then takes its turns,
    /// of `count` units of work each.
    pub fn start(owners: usize, count: u32, body: impl Fn(Turns) + Clone + Send + 'static) -> Self {
        let workers = (0..owners)
            .map(|_| {
                let (go, go_receiver) = channel();
                let (done_sender, done) = channel();
                let body = body.clone();
                let thread = std::thread::spawn(move || {
                    body(Turns { go: go_receiver, done: done_sender });
                });
                done.recv().expect("the thread is ready");
                Worker { go: Some(go), done, thread: Some(thread) }
            })
            .collect();
        Self { workers, count }
    }

    /// Lets the first `owners` threads work, and answers the units of work done in a second.
    ///
    /// # Panics
    ///
    /// When one of them has panicked.
    #[must_use]
    pub fn per_second(&self, owners: usize) -> f64 {
        let start = Instant::now();
        for worker in self.workers.iter().take(owners) {
            worker.go.as_ref().and_then(|go| go.send(()).ok()).expect("the thread listens");
        }
        for worker in self.workers.iter().take(owners) {
            worker.done.recv().expect("the thread has done its work");
        }
        owners as f64 * f64::from(self.count) / start.elapsed().as_secs_f64()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            drop(worker.go.take());
            if worker.thread.take().is_some_and(|thread| thread.join().is_err()) {
                eprintln!("a thread of the crew panicked");
            }
        }
    }
}
