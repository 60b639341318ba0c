//! A resource whose life a test decides.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use host::mechanisms::providers::{Connection, Pending, Provider};
use host::pure::resource::Policy;
use host::tree::ResourcePlan;
use supervisor::Backoff;

/// A resource whose life a test decides.
#[derive(Clone, Debug, Default)]
pub struct Fake(Arc<State>);

#[derive(Debug, Default)]
struct State {
    up: AtomicBool,
    /// Connections of an earlier one are dead.
    life: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
    jobs: Mutex<Vec<String>>,
    fails_jobs: AtomicBool,
    open: AtomicUsize,
}

impl Fake {
    /// One that is there.
    #[must_use]
    pub fn alive() -> Self {
        let fake = Self::default();
        fake.revive();
        fake
    }

    /// It is there from here on.
    pub fn revive(&self) {
        self.0.up.store(true, Ordering::SeqCst);
    }

    /// It dies, and all connections know at once.
    pub fn kill(&self) {
        self.0.up.store(false, Ordering::SeqCst);
        self.0.life.fetch_add(1, Ordering::SeqCst);
        let mut wakers = self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.drain(..).for_each(Waker::wake);
    }

    /// Its init jobs fail, or work.
    pub fn fail_jobs(&self, fails: bool) {
        self.0.fails_jobs.store(fails, Ordering::SeqCst);
    }

    /// The init jobs that were run so far.
    #[must_use]
    pub fn jobs(&self) -> Vec<String> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::SeqCst)
    }

    /// It as a resource of that name, with these init jobs. It is connected again at once, and a
    /// recovery has to last a millisecond.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn plan(&self, name: &str, jobs: &[&str]) -> ResourcePlan {
        let (millisecond, most) = (Duration::from_millis(1), Duration::from_millis(10));
        let backoff = Backoff::new(millisecond, 2, most, 0).unwrap();
        ResourcePlan {
            name: name.to_owned(),
            provider: Arc::new(self.clone()),
            jobs: jobs.iter().map(|&job| job.to_owned()).collect(),
            policy: Policy::new(backoff, millisecond),
        }
    }
}

impl Provider for Fake {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, String>> {
        let state = self.0.clone();
        Box::pin(async move {
            if !state.up.load(Ordering::SeqCst) {
                return Err("nobody is there".to_owned());
            }
            state.open.fetch_add(1, Ordering::SeqCst);
            let life = state.life.load(Ordering::SeqCst);
            Ok(Box::new(FakeConnection { state, life }) as Box<dyn Connection>)
        })
    }
}

struct FakeConnection {
    state: Arc<State>,
    life: u64,
}

impl Drop for FakeConnection {
    fn drop(&mut self) {
        self.state.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeConnection {
    fn lives(&self) -> bool {
        self.state.life.load(Ordering::SeqCst) == self.life
    }
}

impl Connection for FakeConnection {
    fn check(&mut self) -> Pending<'_, Result<(), String>> {
        Box::pin(async { if self.lives() { Ok(()) } else { Err("it is gone".to_owned()) } })
    }

    fn job(&mut self, text: &str) -> Pending<'_, Result<(), String>> {
        let text = text.to_owned();
        Box::pin(async move {
            if self.state.fails_jobs.load(Ordering::SeqCst) {
                return Err("it says no".to_owned());
            }
            self.state.jobs.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            Ok(())
        })
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(poll_fn(|context| {
            let mut wakers = self.state.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.lives() {
                return Poll::Ready("it was killed".to_owned());
            }
            wakers.push(context.waker().clone());
            Poll::Pending
        }))
    }
}
