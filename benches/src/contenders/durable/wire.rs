//! Clients of a server: one connection each, all of them on one thread.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use smallbank::mix::Request;

use super::{Ending, Served, nanos};

/// Bytes read at once; an answer is far shorter.
const READ_BYTES: usize = 4096;

/// A server's answer to a request of the bank.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    /// A number.
    Value(i64),
    /// The bank's own "no".
    Rejected,
}

/// What is said on a connection.
pub(super) trait Protocol {
    /// Appends a request.
    fn request(&self, request: &Request, out: &mut Vec<u8>);

    /// The answer at the start of `bytes`, with its length; `None` until it is there as a whole.
    ///
    /// # Errors
    ///
    /// The server's.
    fn reply(&self, bytes: &[u8]) -> Result<Option<(Reply, usize)>, String>;
}

/// A connection with the bytes that were read from it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    incoming: Vec<u8>,
}

impl Connection {
    pub(super) fn open(socket: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
        Ok(Self { stream, incoming: Vec::new() })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| error.to_string())
    }

    /// Reads what is there; waits when nothing is.
    fn receive(&mut self) -> Result<(), String> {
        let mut bytes = [0; READ_BYTES];
        let count = self.stream.read(&mut bytes).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the server has closed the connection".to_owned());
        }
        self.incoming.extend_from_slice(&bytes[..count]);
        Ok(())
    }

    fn take<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, String>,
    ) -> Result<Option<T>, String> {
        let Some((value, length)) = parse(&self.incoming)? else { return Ok(None) };
        self.incoming.drain(..length);
        Ok(Some(value))
    }

    /// Waits for something whole.
    pub(super) fn wait<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, String>,
    ) -> Result<T, String> {
        loop {
            if let Some(value) = self.take(&parse)? {
                return Ok(value);
            }
            self.receive()?;
        }
    }
}

/// Runs all requests on the first `clients` connections: each has one request outstanding.
///
/// # Errors
///
/// The server's, and the system's.
pub(super) fn serve(
    protocol: &impl Protocol,
    connections: &mut [Connection],
    requests: &[Request],
) -> Result<Served, String> {
    // What goes over the wire is made before the time starts.
    let mut encoded = Vec::new();
    let bounds: Vec<usize> = requests
        .iter()
        .map(|request| {
            protocol.request(request, &mut encoded);
            encoded.len()
        })
        .collect();
    let bytes = |place: usize| {
        let start = place.checked_sub(1).map_or(0, |before| bounds[before]);
        &encoded[start..bounds[place]]
    };
    let mut latencies = Vec::with_capacity(requests.len());
    let start = Instant::now();
    // For each connection the place of its request, and when it was sent.
    let mut sent = Vec::with_capacity(connections.len());
    for (place, connection) in connections.iter_mut().enumerate().take(requests.len()) {
        sent.push((place, Instant::now()));
        connection.send(bytes(place))?;
    }
    let (mut next, mut answers) = (sent.len(), 0);
    while answers < requests.len() {
        for client in ready(connections)? {
            let connection = &mut connections[client];
            connection.receive()?;
            let Some(reply) = connection.take(|bytes| protocol.reply(bytes))? else { continue };
            let (place, since) = sent[client];
            answers += 1;
            let answered = reply != Reply::Rejected;
            if Ending::of(&requests[place], answered) == Ending::Committed {
                latencies.push(nanos(since.elapsed()));
            }
            if next < requests.len() {
                sent[client] = (next, Instant::now());
                connection.send(bytes(next))?;
                next += 1;
            }
        }
    }
    Ok(Served { answers, time: start.elapsed(), latencies })
}

/// Which connections have something to read; waits until there is one.
fn ready(connections: &[Connection]) -> Result<Vec<usize>, String> {
    let mut polled: Vec<PollFd<'_>> = connections
        .iter()
        .map(|connection| PollFd::new(&connection.stream, PollFlags::IN))
        .collect();
    poll(&mut polled, None).map_err(|error| error.to_string())?;
    let ready = polled.iter().enumerate().filter(|(_, polled)| !polled.revents().is_empty());
    Ok(ready.map(|(client, _)| client).collect())
}
