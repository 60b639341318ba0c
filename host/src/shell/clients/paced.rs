//! A connection on which everything has its time: a head, the reading of an answer, the rest until
//! the next request, and the end, at which what still comes is read and thrown away: a connection
//! that is closed with unread bytes is reset, and the client loses the answer that it was sent.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::base::limits::{DISCARDED_BYTES_MAX, LINGER_TIME_MAX};
use crate::pure::places::Doing;
use crate::shell::api::Attending;

/// Bytes that are thrown away at a time.
const DISCARDED_PIECE_BYTES: usize = 4 << 10;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::shell) struct Times {
    pub(in crate::shell) head: Duration,
    pub(in crate::shell) answer: Duration,
    pub(in crate::shell) idle: Duration,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Nothing has come yet; the first head's time runs.
    New,
    /// A head is being read; the first one from the connection's begin.
    Head,
    /// A body is being read, in a time that its reader knows.
    Body,
    /// The request has what it needs, and is answered in its own time.
    Busy,
    /// The answer is being written.
    Answered,
    /// Nothing.
    Idle,
    /// All is said; what the client still sends is thrown away.
    Closing,
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

/// What a connection is doing, known to who moves its bytes, who answers, and who makes room.
#[derive(Debug)]
pub(in crate::shell) struct Stage {
    times: Times,
    state: Mutex<State>,
    let_go: Notify,
}

impl Stage {
    pub(in crate::shell) fn new(times: Times) -> Arc<Self> {
        let state = State { phase: Phase::New, since: Instant::now(), attending: None };
        Arc::new(Self { times, state: Mutex::new(state), let_go: Notify::new() })
    }

    /// What its client is doing, and since when.
    pub(super) fn doing(&self) -> (Doing, Instant) {
        let state = self.state();
        let doing = match state.phase {
            Phase::New | Phase::Idle | Phase::Closing => Doing::Nothing,
            Phase::Head | Phase::Body => Doing::Sending,
            Phase::Busy => Doing::Waiting,
            Phase::Answered => Doing::Taking,
        };
        (doing, state.since)
    }

    pub(super) fn let_go(&self) {
        self.let_go.notify_one();
    }

    pub(super) async fn is_let_go(&self) {
        self.let_go.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that the client has to say is there.
    pub(in crate::shell) fn begin(&self, attending: Attending) {
        let mut state = self.state();
        state.turn(Phase::Busy);
        state.attending = Some(attending);
    }

    /// There is more to read before that.
    pub(in crate::shell) fn reading(&self) {
        self.state().turn(Phase::Body);
    }

    /// It is all there now.
    pub(in crate::shell) fn read(&self) {
        self.state().turn(Phase::Busy);
    }

    /// The answer is handed over, all of it.
    pub(in crate::shell) fn answered(&self) {
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
        match state.phase {
            Phase::New => state.phase = Phase::Head,
            Phase::Idle => state.turn(Phase::Head),
            Phase::Head | Phase::Body | Phase::Busy | Phase::Answered | Phase::Closing => {}
        }
    }

    /// When the client is late.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        let time = match state.phase {
            Phase::New | Phase::Head => self.times.head,
            Phase::Body | Phase::Busy => return None,
            Phase::Answered => self.times.answer,
            Phase::Idle => self.times.idle,
            Phase::Closing => LINGER_TIME_MAX,
        };
        state.since.checked_add(time)
    }
}

/// Goes with an answer's body, which is dropped when all of it is handed over.
#[derive(Debug)]
pub(in crate::shell) struct Handing(pub(in crate::shell) Arc<Stage>);

impl Drop for Handing {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// What a connection goes over.
pub(in crate::shell) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Ready when the connection was broken off; else it wakes the task when something comes. One
    /// whose client has only said that it will send no more is whole: it still gets its answer.
    fn poll_broken(&self, _cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }
}

/// What was asked here is done in any case, and the answer finds out who has gone.
impl Wire for UnixStream {}

impl Wire for TcpStream {
    fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // Nothing is read: what has come is for when the answer has left.
        let error = match ready!(self.poll_read_ready(cx)) {
            Ok(()) => self.take_error().unwrap_or_else(Some),
            Err(error) => Some(error),
        };
        error.map_or(Poll::Pending, Poll::Ready)
    }
}

/// Moves bytes, and fails when its client is late.
#[derive(Debug)]
pub(in crate::shell) struct Paced<S> {
    stream: S,
    stage: Arc<Stage>,
    alarm: Pin<Box<Sleep>>,
    /// Bytes that were thrown away, once the end was said.
    discarded: Option<usize>,
}

impl<S> Paced<S> {
    pub(in crate::shell) fn new(stream: S, stage: Arc<Stage>) -> Self {
        let alarm = Box::pin(tokio::time::sleep_until(Instant::now()));
        Self { stream, stage, alarm, discarded: None }
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

impl<S: Wire> AsyncWrite for Paced<S> {
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
        if let Poll::Ready(broken) = self.stream.poll_broken(cx) {
            return Poll::Ready(Err(broken));
        }
        self.stage.flushed();
        // Whoever only wrote has set no alarm for what comes now.
        drop(self.late::<()>(cx));
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.discarded.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.stage.state().turn(Phase::Closing);
        }
        let mut bytes = self.discarded.unwrap_or(0);
        while bytes <= DISCARDED_BYTES_MAX {
            let mut space = [MaybeUninit::uninit(); DISCARDED_PIECE_BYTES];
            let mut piece = ReadBuf::uninit(&mut space);
            self.discarded = Some(bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => bytes += piece.filled().len(),
                // Its end, whichever.
                Poll::Ready(_) => break,
                Poll::Pending => return self.late(cx).map(|_late: io::Result<()>| Ok(())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
