//! A connection on which everything has its time: a head, the reading of an answer, the rest until
//! the next request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::base::limits::{HTTP_ANSWER_TIME_MAX, HTTP_HEAD_TIME_MAX, HTTP_IDLE_TIME_MAX};
use crate::shell::api::Attending;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) head: Duration,
    pub(super) answer: Duration,
    pub(super) idle: Duration,
}

impl Times {
    pub(super) const USUAL: Self =
        Self { head: HTTP_HEAD_TIME_MAX, answer: HTTP_ANSWER_TIME_MAX, idle: HTTP_IDLE_TIME_MAX };
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// A head is being read; the first one from the connection's begin.
    Head,
    /// The request has what it needs, and is answered in its own time.
    Busy,
    /// The answer is being written.
    Answered,
    /// Nothing.
    Idle,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// There from a head to the end of its answer: a stop waits for that.
    attending: Option<Attending>,
}

impl State {
    fn turn(&mut self, phase: Phase) {
        (self.phase, self.since) = (phase, Instant::now());
    }
}

/// What a connection is doing, known to both who moves its bytes and who answers.
#[derive(Debug)]
pub(super) struct Stage {
    times: Times,
    state: Mutex<State>,
}

impl Stage {
    pub(super) fn new(times: Times) -> Arc<Self> {
        let state = State { phase: Phase::Head, since: Instant::now(), attending: None };
        Arc::new(Self { times, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole head is there.
    pub(super) fn begin(&self, attending: Attending) {
        let mut state = self.state();
        state.turn(Phase::Busy);
        state.attending = Some(attending);
    }

    /// The answer is handed over, all of it.
    fn answered(&self) {
        self.state().turn(Phase::Answered);
    }

    /// Nothing is left to be written.
    fn flushed(&self) {
        let mut state = self.state();
        if state.phase == Phase::Answered {
            state.turn(Phase::Idle);
            drop(state.attending.take());
        }
    }

    /// Bytes came.
    fn came(&self) {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            state.turn(Phase::Head);
        }
    }

    /// When the client is late.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        let time = match state.phase {
            Phase::Head => self.times.head,
            Phase::Busy => return None,
            Phase::Answered => self.times.answer,
            Phase::Idle => self.times.idle,
        };
        state.since.checked_add(time)
    }
}

/// Goes with an answer's body, which is dropped when all of it is handed over.
#[derive(Debug)]
pub(super) struct Handing(pub(super) Arc<Stage>);

impl Drop for Handing {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// Moves bytes, and fails when its client is late.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    stage: Arc<Stage>,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, stage: Arc<Stage>) -> Self {
        let alarm = Box::pin(tokio::time::sleep_until(Instant::now()));
        Self { stream, stage, alarm }
    }

    /// Ready when the client is late; else it wakes the task when it will be.
    fn late<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(deadline) = self.stage.deadline() else { return Poll::Pending };
        if self.alarm.deadline() != deadline {
            self.alarm.as_mut().reset(deadline);
        }
        ready!(self.alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                if buffer.filled().len() > before {
                    self.stage.came();
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.late(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => self.late(cx),
            written => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Pending => self.late(cx),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called by hyper when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.stage.flushed();
        // Whoever only wrote has set no alarm for what comes now.
        drop(self.late::<()>(cx));
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
