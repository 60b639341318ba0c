//! What ends calls early, set by other threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::ids::RequestId;

/// Which calls of a daemon are to end at the next tick with `E_CANCELLED`.
///
/// A request is named by its id, which is never given out twice: a cancel that comes too late hits
/// nothing, and never the call after it.
#[derive(Debug, Default)]
pub struct Cancel {
    /// The request whose call is to end; 0 when there is none.
    request: AtomicU64,
    all: AtomicBool,
}

impl Cancel {
    /// Ends the call of one request, if it runs.
    pub fn request(&self, request: RequestId) {
        self.request.store(request.0, Ordering::Release);
    }

    /// Ends whatever runs, for good: the daemon is to stop.
    pub fn all(&self) {
        self.all.store(true, Ordering::Release);
    }

    /// True when the call of that request is to end. What a daemon does for itself, as request 0,
    /// ends with all.
    #[must_use]
    pub fn hits(&self, request: RequestId) -> bool {
        let named = self.request.load(Ordering::Acquire);
        self.all.load(Ordering::Acquire) || (named != 0 && named == request.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_29_a_cancel_hits_the_request_that_it_names_and_no_other() {
        let cancel = Cancel::default();
        let hit = |cancel: &Cancel| [0, 7, 8].map(|id| cancel.hits(RequestId(id)));
        assert_eq!(hit(&cancel), [false, false, false]);
        cancel.request(RequestId(7));
        assert_eq!(hit(&cancel), [false, true, false]);
        cancel.request(RequestId(8));
        assert_eq!(hit(&cancel), [false, false, true]);
        cancel.all();
        assert_eq!(hit(&cancel), [true, true, true]);
    }
}
