//! Banks that keep their state on disk: the host with its journal, and what it replaces.
//!
//! All run the same requests in the same order for a number of clients, each of which has one
//! request outstanding and sends the next as soon as it has the answer. No contender pays for the
//! clients' threads: the host's clients live in its callbacks, those of the servers in one thread
//! over all connections, those of `SQLite` in the thread that runs it.

pub mod appends;
pub mod place;
pub mod postgres;
pub mod redis;
pub mod rooted;
pub mod sqlite;
mod wire;

use std::time::{Duration, Instant};

use smallbank::mix::Request;

/// What serving some requests came to.
#[derive(Clone, Debug)]
pub struct Served {
    /// Requests.
    pub answers: usize,
    /// From the first request to the last answer.
    pub time: Duration,
    /// Nanoseconds from request to answer of each that changed something.
    latencies: Vec<u64>,
}

impl Served {
    /// How many were answered in a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.time.as_secs_f64()
    }

    /// How many changed something.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that `percent` of the commits don't exceed, in nanoseconds.
    ///
    /// # Panics
    ///
    /// When nothing was committed.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        let place = (latencies.len() * percent / 100).min(latencies.len() - 1);
        latencies[place] as f64
    }
}

/// A bank whose answers are durable.
pub trait DurableBank {
    /// Runs all requests, for that many clients.
    fn serve(&mut self, clients: usize, requests: &[Request]) -> Served;

    /// What all customers have together; none where there are only bytes.
    fn total(&mut self) -> Option<i64>;

    /// Waits until the work is done that the answers have not waited for.
    fn settle(&mut self) {}

    /// Bytes written to its files since it was started, where it counts them.
    fn file_bytes(&self) -> Option<u64> {
        None
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// It changed something.
    Committed,
    /// It read, or was rejected.
    Nothing,
}

impl Ending {
    fn of(request: &Request, answered: bool) -> Self {
        let reads = matches!(request, Request::Balance { .. });
        if answered && !reads { Self::Committed } else { Self::Nothing }
    }
}

/// Takes the time for a single thread that serves all clients itself, the one that has waited
/// longest first. When request `n` is answered, its client sends request `n + clients`.
#[derive(Debug)]
struct Queue {
    clients: usize,
    start: Instant,
    answered: Vec<Duration>,
    latencies: Vec<u64>,
}

impl Queue {
    fn new(clients: usize, requests: usize) -> Self {
        let (answered, latencies) = (Vec::with_capacity(requests), Vec::with_capacity(requests));
        Self { clients, start: Instant::now(), answered, latencies }
    }

    /// The next requests in turn, one for each of `endings`, were answered just now.
    fn answer(&mut self, endings: &[Ending]) {
        let now = self.start.elapsed();
        for ending in endings {
            let sent = self.answered.len().checked_sub(self.clients);
            let sent = sent.map_or(Duration::ZERO, |place| self.answered[place]);
            self.answered.push(now);
            if *ending == Ending::Committed {
                self.latencies.push(nanos(now.saturating_sub(sent)));
            }
        }
    }

    fn served(self) -> Served {
        let (answers, time) = (self.answered.len(), self.start.elapsed());
        Served { answers, time, latencies: self.latencies }
    }
}

/// Letters that don't compress: the same for the same seed.
fn random_text(bytes: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        // Six bits: 64 printable characters from `0` on.
        let six = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 58;
        char::from(b'0' + u8::try_from(six).unwrap_or_default())
    };
    std::iter::repeat_with(letter).take(bytes).collect()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_sends_its_next_request_when_it_has_the_answer() {
        let mut queue = Queue::new(2, 4);
        queue.answer(&[Ending::Committed]);
        queue.answer(&[Ending::Nothing]);
        std::thread::sleep(Duration::from_millis(2));
        queue.answer(&[Ending::Committed, Ending::Committed]);
        let (first, second) = (queue.answered[0], queue.answered[1]);
        let last = queue.answered[3];
        assert_eq!(queue.latencies, [first, last - first, last - second].map(nanos));
        let served = queue.served();
        assert_eq!((served.answers, served.commits()), (4, 3));
        assert!(served.percentile(50) <= served.percentile(99));
    }
}
