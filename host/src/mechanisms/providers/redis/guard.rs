//! The stream below the client: it fails when the server sends what must not be kept, and knows why
//! a connection has ended.

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
use crate::pure::resource::resp::{Allowance, Scanner, Wrong};
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
    /// The reason is an answer that was too large.
    too_large: bool,
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
        let seen = Seen { scanner, begun: false, unanswered, reason: None, too_large: false };
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

    /// Whether an error of the client is about an answer that was too large. Only the call whose
    /// answer it was gets that error.
    pub(super) fn is_too_large(&self, error: &str) -> bool {
        let seen = self.seen();
        seen.too_large && seen.reason.as_deref() == Some(error)
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

    fn read(&self, piece: &[u8]) -> io::Result<()> {
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
        match seen.scanner.read(piece) {
            Ok(0) => Ok(()),
            Ok(_) => {
                seen.unanswered.answered();
                Ok(())
            }
            Err(wrong) => {
                seen.too_large = matches!(wrong, Wrong::TooLarge(_));
                let (Wrong::TooLarge(reason) | Wrong::Garbage(reason)) = wrong;
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

/// A stream that is guarded.
pub(super) struct Guarded<S> {
    stream: S,
    shared: Arc<Shared>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, shared: Arc<Shared>) -> Self {
        Self { stream, shared }
    }

    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.shared.fail(&error.to_string()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.noted(result)?;
        let piece = buffer.filled().get(before..).unwrap_or_default();
        if piece.is_empty() && buffer.remaining() > 0 {
            self.shared.closed();
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.shared.read(piece))
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
