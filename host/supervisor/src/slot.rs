//! Where one generation of a component leaves its report.
//!
//! ```text
//!   open, empty -- report --> open, reported -- taken --> open, over
//!        |                          |                          |
//!        +---------- close ---------+--------------------------+----> closed
//! ```
//!
//! Each generation has a slot of its own, so a report can't reach another one. A report is taken in
//! if the slot is open, and is then seen by the supervisor exactly once: when it waits for one, or
//! when it closes the slot after the generation's end. One that is not taken in is given an error.

use std::task::{Context, Poll, Waker};

use super::sync::{Mutex, PoisonError};
use crate::error::{BoxError, Generation, ReportError};

#[derive(Debug)]
pub(crate) struct Slot {
    generation: Generation,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    closed: bool,
    reported: bool,
    report: Option<BoxError>,
    /// The supervisor, if it waits.
    waker: Option<Waker>,
}

impl Slot {
    pub(crate) fn new(generation: Generation) -> Self {
        Self { generation, inner: Mutex::new(Inner::default()) }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn report(&self, error: BoxError) -> Result<(), ReportError> {
        let waker = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.closed {
                return Err(ReportError::Stale(self.generation));
            }
            if inner.reported {
                return Err(ReportError::Twice(self.generation));
            }
            inner.reported = true;
            inner.report = Some(error);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Ready with the report, once.
    pub(crate) fn poll_report(&self, context: &mut Context<'_>) -> Poll<BoxError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = inner.report.take() {
            return Poll::Ready(report);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes nothing in from now on. Returns a report that nobody has seen.
    pub(crate) fn close(&self) -> Option<BoxError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
        inner.waker = None;
        inner.report.take()
    }
}
