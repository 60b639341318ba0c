//! A clock that moves on when nothing else does.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use supervisor::clock::{Chance, Clock, Sleep};

use crate::random::Random;

#[derive(Debug, Default)]
struct Inner {
    now_nanos: u64,
    next_id: u64,
    sleepers: BTreeMap<(u64, u64), Waker>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedClock(Arc<Mutex<Inner>>);

impl SimulatedClock {
    /// Moves on to the next moment for which somebody waits. Called when all tasks do.
    pub(crate) fn move_on(&self) {
        let waker = {
            let mut inner = self.0.lock().unwrap();
            let Some(((at, _), waker)) = inner.sleepers.pop_first() else { return };
            inner.now_nanos = inner.now_nanos.max(at);
            waker
        };
        waker.wake();
    }
}

impl Clock for SimulatedClock {
    fn now_nanos(&self) -> u64 {
        self.0.lock().unwrap().now_nanos
    }

    fn sleep_until(&self, nanos: u64) -> Sleep {
        let mut inner = self.0.lock().unwrap();
        inner.next_id += 1;
        Box::pin(SimulatedSleep { clock: self.clone(), key: (nanos, inner.next_id) })
    }
}

struct SimulatedSleep {
    clock: SimulatedClock,
    key: (u64, u64),
}

impl Future for SimulatedSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.clock.0.lock().unwrap();
        if inner.now_nanos >= self.key.0 {
            return Poll::Ready(());
        }
        inner.sleepers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for SimulatedSleep {
    fn drop(&mut self) {
        let waker = self.clock.0.lock().unwrap().sleepers.remove(&self.key);
        drop(waker);
    }
}

/// Random numbers from a seed.
#[derive(Debug)]
pub(crate) struct SeededChance(pub(crate) Mutex<Random>);

impl Chance for SeededChance {
    fn number(&self) -> u64 {
        self.0.lock().unwrap().next()
    }
}
