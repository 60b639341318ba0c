//! Bounds what a peer may answer. Clients of servers keep an answer, or a row of one, until all of
//! it is there; what bounds it has to be below them, before the bytes take memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a peer has sent since its last complete answer, and how many it may. Clones are of
/// the same stream.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    read: AtomicU64,
    most: AtomicU64,
    over: AtomicBool,
}

impl Meter {
    /// Of a stream on which an answer may have so many bytes.
    #[must_use]
    pub fn new(most: u64) -> Self {
        let (read, most) = (AtomicU64::new(0), AtomicU64::new(most));
        Self(Arc::new(Counts { read, most, over: AtomicBool::new(false) }))
    }

    /// The most bytes until the next [`Meter::reset`], from now on: several answers may be owed.
    pub fn allow(&self, most: u64) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// An answer is complete: what comes now belongs to another one.
    pub fn reset(&self) {
        self.0.read.store(0, Ordering::Relaxed);
    }

    /// Why the stream failed, if an answer was too large.
    #[must_use]
    pub fn over(&self) -> Option<String> {
        self.0.over.load(Ordering::Relaxed).then(|| self.reason())
    }

    fn reason(&self) -> String {
        format!("an answer of more than {} bytes", self.0.most.load(Ordering::Relaxed))
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        let bytes = bytes as u64;
        let read = self.0.read.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if read > self.0.most.load(Ordering::Relaxed) {
            self.0.over.store(true, Ordering::Relaxed);
        }
        match self.over() {
            // Once it has lost its place in what is sent, it is not used again.
            Some(reason) => Err(io::Error::new(io::ErrorKind::FileTooLarge, reason)),
            None => Ok(()),
        }
    }
}

/// A stream that fails when its peer answers more than its [`Meter`] allows.
#[derive(Debug)]
pub struct Metered<S> {
    stream: S,
    meter: Meter,
}

impl<S> Metered<S> {
    /// This stream, counted by that meter.
    pub fn new(stream: S, meter: Meter) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.meter.count(0)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.meter.count(buffer.filled().len().saturating_sub(before)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn c5_an_answer_over_the_allowance_fails_the_stream_for_good() {
        run(async {
            let (near, mut far) = tokio::io::duplex(100);
            let meter = Meter::new(4);
            let mut stream = Metered::new(near, meter.clone());
            far.write_all(b"12345").await.unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!((&answer, meter.over()), (b"1234", None));
            let error = stream.read_u8().await.unwrap_err();
            assert_eq!(error.to_string(), "an answer of more than 4 bytes");
            assert_eq!(meter.over().as_deref(), Some("an answer of more than 4 bytes"));

            // Its place in the answer is lost: a reset comes too late, and nothing more is read.
            meter.reset();
            far.write_all(b"6").await.unwrap();
            stream.read_u8().await.unwrap_err();
        });
    }

    #[test]
    fn each_complete_answer_has_the_whole_allowance() {
        run(async {
            let (near, mut far) = tokio::io::duplex(100);
            let meter = Meter::new(4);
            let mut stream = Metered::new(near, meter.clone());
            let mut answer = [0; 4];
            for _ in 0..3 {
                far.write_all(b"1234").await.unwrap();
                stream.read_exact(&mut answer).await.unwrap();
                meter.reset();
            }
            // Two are owed.
            meter.allow(8);
            far.write_all(b"12345678").await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(meter.over(), None);
        });
    }

    #[test]
    fn what_is_written_and_the_end_pass_uncounted() {
        run(async {
            let (near, mut far) = tokio::io::duplex(100);
            let mut stream = Metered::new(near, Meter::new(0));
            stream.write_all(b"12345").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut sent = Vec::new();
            far.read_to_end(&mut sent).await.unwrap();
            assert_eq!(sent, b"12345");
            drop(far);
            assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
        });
    }
}
