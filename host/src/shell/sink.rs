//! Standard output and standard error of a host: descriptors that others read, or don't.
//!
//! Lines go through a bounded queue to a thread of their own, and nobody else waits for the
//! descriptor: neither a transaction, nor a stop, nor a panic. What finds no room is dropped and
//! counted, and that is said when there is room again.

use std::collections::VecDeque;
use std::io::{self, ErrorKind::BrokenPipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::base::error::plain_lines;
use crate::base::limits::{LOG_WAITING_BYTES_MAX, STOP_TICK};

/// Standard error, once a host has its own thread for it.
static ERRORS: OnceLock<Sink> = OnceLock::new();
/// Standard output, the same.
static ANSWERS: OnceLock<Sink> = OnceLock::new();
/// Some answer could not be written.
static LOST: AtomicBool = AtomicBool::new(false);

const ANSWERS_NAME: &str = "stdout";

/// Takes lines for a descriptor.
#[derive(Clone, Debug)]
pub(super) struct Sink(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// Bytes of these, and of what is being written.
    bytes: usize,
    /// Lines that found no room, ever.
    dropped: u64,
    /// Those of them that were told of.
    told: u64,
}

impl Sink {
    /// Starts the thread of a descriptor.
    fn start(name: &str, descriptor: OwnedFd) -> io::Result<Self> {
        let sink = Self(Arc::default());
        let its = sink.clone();
        let notes = name == ANSWERS_NAME;
        Builder::new()
            .name(name.to_owned())
            .spawn(move || its.write_all(descriptor.as_fd(), notes))?;
        Ok(sink)
    }

    /// Takes a line, or drops it. Never waits.
    fn put(&self, line: &[u8]) {
        let mut queue = self.queue();
        match queue.bytes.checked_add(line.len()) {
            Some(bytes) if bytes <= LOG_WAITING_BYTES_MAX => {
                queue.bytes = bytes;
                queue.lines.push_back(line.to_vec());
                self.0.came.notify_one();
            }
            _ => queue.dropped += 1,
        }
    }

    /// Lines that found no room.
    fn dropped(&self) -> u64 {
        self.queue().dropped
    }

    /// Waits until all is written, at most for `time`.
    fn flush(&self, time: Duration) {
        let since = Instant::now();
        while self.queue().bytes > 0 && since.elapsed() < time {
            std::thread::sleep(STOP_TICK);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: it ends with the process.
    fn write_all(&self, descriptor: BorrowedFd<'_>, are_answers: bool) {
        loop {
            let line = self.next();
            let written = write(descriptor, &line);
            let is_lost = written.as_ref().is_err_and(|error| error.kind() != BrokenPipe);
            if are_answers {
                note_lost(written);
            }
            let mut queue = self.queue();
            queue.bytes -= line.len();
            // A host whose terminal or disk is gone goes on all the same. To tell of it there would
            // fail as well; a reader that has gone wanted no more.
            queue.dropped += u64::from(is_lost);
            queue.told += u64::from(is_lost);
            let untold = if queue.bytes == 0 { queue.dropped - queue.told } else { 0 };
            queue.told += untold;
            drop(queue);
            if untold > 0 {
                tracing::warn!(lines = untold, "nobody read what was written: lines were dropped");
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            match queue.lines.pop_front() {
                Some(line) => return line,
                None => queue = self.0.came.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Writes to a descriptor that may be one which doesn't wait.
fn write(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// From now on nobody but a thread of its own waits for standard error.
///
/// # Errors
///
/// When the machine gives no thread.
pub(super) fn take_errors() -> io::Result<()> {
    take(&ERRORS, "stderr", io::stderr().as_fd())
}

/// The same, for standard output.
///
/// # Errors
///
/// When the machine gives no thread.
pub(super) fn take_answers() -> io::Result<()> {
    take(&ANSWERS, ANSWERS_NAME, io::stdout().as_fd())
}

fn take(sink: &OnceLock<Sink>, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let started = Sink::start(name, descriptor.try_clone_to_owned()?)?;
    assert!(sink.set(started).is_ok(), "a process takes {name} once");
    Ok(())
}

/// Prints a line of an answer, or nothing when nobody reads it any more (`host ps | head`).
pub(super) fn print(text: &str) {
    note_lost(put(&ANSWERS, io::stdout().as_fd(), text));
}

/// Says something on standard error.
pub(super) fn eprint(text: &str) {
    drop(put(&ERRORS, io::stderr().as_fd(), text));
}

fn put(sink: &OnceLock<Sink>, descriptor: BorrowedFd<'_>, text: &str) -> io::Result<()> {
    let line = plain_lines(format!("{text}\n"));
    match sink.get() {
        Some(sink) => {
            sink.put(line.as_bytes());
            Ok(())
        }
        None => write(descriptor, line.as_bytes()),
    }
}

/// Notes that an answer could not be written. A reader that has gone wanted no more of it.
fn note_lost(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != BrokenPipe
        && !LOST.swap(true, Ordering::Relaxed)
    {
        eprint(&format!("error: the answer could not be written: {error}"));
    }
}

/// True when some answer could not be written.
pub(super) fn has_lost_answers() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// True when a thread of its own has standard error.
pub(super) fn has_errors() -> bool {
    ERRORS.get().is_some()
}

/// Lines that were dropped, of both.
pub(super) fn dropped() -> u64 {
    [&ERRORS, &ANSWERS].into_iter().filter_map(OnceLock::get).map(Sink::dropped).sum()
}

/// Gives what was said a moment to be written, before the process ends.
pub(super) fn flush(time: Duration) {
    for sink in [&ERRORS, &ANSWERS].into_iter().filter_map(OnceLock::get) {
        sink.flush(time);
    }
}

/// Where the log's lines go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errors;

impl io::Write for Errors {
    /// Called once for each line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The log's own colours stay.
        let text = String::from_utf8_lossy(line);
        let plain: Vec<String> = text.split('\x1b').map(|part| plain_lines(part.into())).collect();
        let plain = plain.join("\x1b");
        match ERRORS.get() {
            Some(sink) => sink.put(plain.as_bytes()),
            None => write(io::stderr().as_fd(), plain.as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};

    use super::*;

    /// A pipe with a sink at its end that lives as long as the process.
    fn sink(waits: bool) -> (PipeReader, Sink) {
        let (reads, writes) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&writes, !waits).unwrap();
        (reads, Sink::start("test", writes.into()).unwrap())
    }

    #[test]
    fn a_pipe_that_nobody_reads_keeps_nobody_waiting_and_what_is_dropped_is_counted() {
        for waits in [true, false] {
            let (mut reads, sink) = sink(waits);
            let line = |number: u64| format!("{number:>1023}\n");
            // The pipe and the queue, and as much again.
            let lines = 2 * (LOG_WAITING_BYTES_MAX as u64 + (64 << 10)) / 1024;
            for number in 0..lines {
                sink.put(line(number).as_bytes());
            }
            let dropped = sink.dropped();
            assert!(dropped > 0 && dropped < lines);
            sink.flush(Duration::from_millis(10));
            // All others are there, whole and in order.
            let mut text = String::new();
            let kept = (lines - dropped) * 1024;
            reads.by_ref().take(kept).read_to_string(&mut text).unwrap();
            let numbers = text.lines().map(|line| line.trim().parse::<u64>().unwrap());
            assert!(numbers.is_sorted() && text.len() as u64 == kept);
            sink.flush(Duration::from_secs(600));
            assert_eq!(sink.queue().bytes, 0);
            sink.put(b"room again\n");
            let mut last = [0; 11];
            reads.read_exact(&mut last).unwrap();
            assert_eq!((&last, sink.dropped()), (b"room again\n", dropped));
        }
    }

    #[test]
    fn a_descriptor_that_is_gone_is_written_to_in_vain() {
        let (reads, sink) = sink(true);
        drop(reads);
        sink.put(b"nobody\n");
        sink.flush(Duration::from_secs(600));
        assert_eq!(sink.queue().bytes, 0);
        assert_eq!(sink.dropped(), 0);
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let sink = Sink::start("test", full.into()).unwrap();
        for _ in 0..3 {
            sink.put(b"no room\n");
        }
        sink.flush(Duration::from_secs(600));
        assert_eq!(sink.dropped(), 3);
    }
}
