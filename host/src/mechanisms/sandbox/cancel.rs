//! What ends calls early, set by other threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Thread, current};

use crate::base::error::Code;
use crate::base::ids::RequestId;
use crate::pure::request::Stale;

/// Which calls of a daemon are to end at the next tick.
///
/// A request is named by its id, which is never given out twice: a cancel that comes too late hits
/// nothing, and never the call after it.
#[derive(Debug, Default)]
pub struct Cancel {
    /// The request whose call a person wants gone; 0 when there is none.
    request: AtomicU64,
    all: AtomicBool,
    /// One more than the request whose lease has ended; 0 when there is none. What a daemon does
    /// for itself, as request 0, can hold leases too.
    stale: AtomicU64,
    cause: Mutex<Option<Stale>>,
    /// The thread of a call that waits, and doesn't tick.
    sleeper: Mutex<Option<Thread>>,
}

/// The wait of a call. Ends when it is dropped.
pub(super) struct Sleep<'a>(&'a Cancel);

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        *self.0.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Cancel {
    /// Ends the call of one request, if it runs.
    pub fn request(&self, request: RequestId) {
        self.request.store(request.0, Ordering::Release);
        self.wake();
    }

    /// Ends whatever runs, for good: the daemon is to stop.
    pub fn all(&self) {
        self.all.store(true, Ordering::Release);
        self.wake();
    }

    /// This thread is about to wait, and looks at [`Cancel::hits`] whenever it is woken.
    pub(super) fn sleep(&self) -> Sleep<'_> {
        *self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(current());
        Sleep(self)
    }

    fn wake(&self) {
        if let Some(sleeper) = &*self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) {
            sleeper.unpark();
        }
    }

    /// Ends the call of one request, because a lease that it holds has ended. The first cause
    /// stays. Whoever calls this must know that the request still holds that lease.
    pub fn stale(&self, request: RequestId, cause: Stale) {
        let mut kept = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = request.0.saturating_add(1);
        if self.stale.load(Ordering::Acquire) != mark {
            *kept = Some(cause);
            self.stale.store(mark, Ordering::Release);
        }
        drop(kept);
        self.wake();
    }

    /// Why a lease of that request ended, if one did; it is forgotten then.
    #[must_use]
    pub fn take_stale(&self, request: RequestId) -> Option<Stale> {
        if self.stale.load(Ordering::Acquire) != request.0.saturating_add(1) {
            return None;
        }
        let mut kept = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        self.stale.store(0, Ordering::Release);
        kept.take()
    }

    /// The code with which the call of that request is to end, if it is. What a daemon does for
    /// itself, as request 0, is cancelled with all.
    #[must_use]
    pub fn hits(&self, request: RequestId) -> Option<Code> {
        let named = self.request.load(Ordering::Acquire);
        if self.all.load(Ordering::Acquire) || (named != 0 && named == request.0) {
            return Some(Code::Cancelled);
        }
        let stale = self.stale.load(Ordering::Acquire);
        (stale == request.0.saturating_add(1)).then_some(Code::HandleStale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::LeaseId;

    fn hit(cancel: &Cancel) -> [Option<Code>; 3] {
        [0, 7, 8].map(|id| cancel.hits(RequestId(id)))
    }

    #[test]
    fn s4_29_a_cancel_hits_the_request_that_it_names_and_no_other() {
        let cancel = Cancel::default();
        let gone = Some(Code::Cancelled);
        assert_eq!(hit(&cancel), [None, None, None]);
        cancel.request(RequestId(7));
        assert_eq!(hit(&cancel), [None, gone, None]);
        cancel.request(RequestId(8));
        assert_eq!(hit(&cancel), [None, None, gone]);
        cancel.all();
        assert_eq!(hit(&cancel), [gone, gone, gone]);
    }

    #[test]
    fn s0_02_a_lease_that_ended_hits_its_request_once_and_keeps_its_first_cause() {
        let cancel = Cancel::default();
        let cause = |why: &str| {
            let resource = "cache".to_owned();
            Stale { resource, lease: LeaseId(3), why: why.to_owned() }
        };
        let stale = Some(Code::HandleStale);
        cancel.stale(RequestId(7), cause("first"));
        cancel.stale(RequestId(7), cause("second"));
        assert_eq!(hit(&cancel), [None, stale, None]);
        assert_eq!(cancel.take_stale(RequestId(8)), None);
        assert_eq!(cancel.take_stale(RequestId(7)), Some(cause("first")));
        assert_eq!((hit(&cancel), cancel.take_stale(RequestId(7))), ([None, None, None], None));
        // What a daemon does for itself.
        cancel.stale(RequestId(0), cause("own"));
        assert_eq!(hit(&cancel), [stale, None, None]);
        assert_eq!(cancel.take_stale(RequestId(0)), Some(cause("own")));
    }
}
