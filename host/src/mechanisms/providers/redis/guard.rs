//! The stream below the client: what must not be kept goes no further, and it knows why a
//! connection has ended.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::limits::{
    REPLY_BYTES_MAX, REPLY_DEPTH_MAX, REPLY_LINE_BYTES_MAX, REPLY_VALUES_MAX,
};
use crate::pure::resource::resp::{Allowance, Garbage, Scanner};
use crate::pure::resource::unanswered::Unanswered;

/// What a connection's calls and its stream know of each other.
pub(super) struct Shared {
    opened: Instant,
    seen: Mutex<Seen>,
    give_up: Notify,
}

struct Seen {
    scanner: Scanner,
    /// Something has come.
    begun: bool,
    unanswered: Unanswered,
    /// Why it has ended, or is about to.
    reason: Option<String>,
}

impl Shared {
    pub(super) fn new() -> Self {
        let scanner = Scanner::new(Allowance {
            bytes: REPLY_BYTES_MAX,
            values: REPLY_VALUES_MAX,
            depth: REPLY_DEPTH_MAX,
            line_bytes: REPLY_LINE_BYTES_MAX,
        });
        let unanswered = Unanswered::default();
        let seen = Seen { scanner, begun: false, unanswered, reason: None };
        Self { opened: Instant::now(), seen: Mutex::new(seen), give_up: Notify::new() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection has ended, if it is known.
    pub(super) fn reason(&self) -> Option<String> {
        self.seen().reason.clone()
    }

    /// The reason when it has ended.
    pub(super) fn why_ended(&self) -> String {
        self.reason().unwrap_or_else(|| "the connection was closed".to_owned())
    }

    /// A call that was sent then has waited long enough. The connection is given up after some.
    pub(super) fn late(&self, sent: Instant) {
        let since = |time: Instant| time.saturating_duration_since(self.opened);
        let (sent, now): (Duration, Duration) = (since(sent), since(Instant::now()));
        let is_enough = self.seen().unanswered.late(sent, now);
        if is_enough {
            self.fail("the last calls had no answer in time");
            self.give_up.notify_one();
        }
    }

    /// Ends when the connection is given up.
    pub(super) async fn given_up(&self) {
        self.give_up.notified().await;
    }

    /// The first reason stays.
    fn fail(&self, reason: &str) {
        self.seen().reason.get_or_insert_with(|| reason.to_owned());
    }

    /// Takes what came; appends what the client gets of it.
    fn read(&self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut seen = self.seen();
        if let Some(reason) = &seen.reason {
            return Err(io::Error::other(reason.clone()));
        }
        // Answers nothing: it comes unasked, and the server closes.
        if !std::mem::replace(&mut seen.begun, true) && piece.starts_with(FULL.as_bytes()) {
            let reason = FULL.trim_start_matches('-').to_owned();
            seen.reason = Some(reason.clone());
            return Err(io::Error::other(reason));
        }
        match seen.scanner.read(piece, out) {
            Ok(0) => Ok(()),
            Ok(_) => {
                seen.unanswered.answered();
                Ok(())
            }
            Err(Garbage(reason)) => {
                seen.reason = Some(reason.clone());
                Err(io::Error::other(reason))
            }
        }
    }

    fn closed(&self) {
        let is_between = self.seen().scanner.is_between();
        self.fail(match is_between {
            true => "the server closed the connection",
            false => "the server closed the connection in the middle of an answer",
        });
    }
}

/// How a server begins that has as many clients as it takes.
const FULL: &str = "-ERR max number of clients reached";

/// Bytes that are read from a server at a time.
const PIECE_BYTES: usize = 16 << 10;

/// A stream that is guarded.
pub(super) struct Guarded<S> {
    stream: S,
    shared: Arc<Shared>,
    piece: Box<[u8]>,
    /// What the client gets next, from that byte on.
    out: Vec<u8>,
    taken: usize,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, shared: Arc<Shared>) -> Self {
        let piece = vec![0; PIECE_BYTES].into_boxed_slice();
        Self { stream, shared, piece, out: Vec::new(), taken: 0 }
    }

    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.shared.fail(&error.to_string()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // No bytes would be the end. The stream below gives way to others when it has given many.
        while this.taken == this.out.len() {
            (this.out, this.taken) = (Vec::new(), 0);
            let mut read = ReadBuf::new(&mut this.piece);
            let result = ready!(Pin::new(&mut this.stream).poll_read(context, &mut read));
            let piece = read.filled();
            if result.is_ok() && piece.is_empty() {
                this.shared.closed();
                return Poll::Ready(Ok(()));
            }
            let result = result.and_then(|()| this.shared.read(piece, &mut this.out));
            this.noted(result)?;
        }
        let left = this.out.get(this.taken..).unwrap_or_default();
        let now = left.get(..buffer.remaining().min(left.len())).unwrap_or_default();
        buffer.put_slice(now);
        this.taken += now.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.noted(result))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
