//! A server of HTTP that knows bytes and no more, so that it can be as bad as a test wants.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub(in crate::host) const MIB: usize = 1 << 20;

/// A server on this machine, each of whose connections is for one request.
pub(in crate::host) struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    ending: AtomicBool,
    connections: AtomicUsize,
    /// Heads with bodies, as they came.
    requests: Mutex<Vec<String>>,
    done: AtomicUsize,
}

impl Server {
    /// What `answer` writes is the answer; with its end the connection is closed.
    pub(in crate::host) fn start(
        answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), answer)
    }

    pub(in crate::host) fn at(
        address: SocketAddr,
        answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, answer) = (Arc::<Seen>::default(), Arc::new(answer));
        let its = seen.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if its.ending.load(Ordering::SeqCst) {
                    return;
                }
                its.connections.fetch_add(1, Ordering::SeqCst);
                let (its, answer) = (its.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    if let Ok(request) = read_request(&mut stream) {
                        its.requests.lock().unwrap().push(request.clone());
                        answer(&request, &mut stream);
                    }
                    drop(stream);
                    its.done.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, thread: Some(thread) }
    }

    /// One that says always the same.
    pub(in crate::host) fn saying(answer: &'static str) -> Self {
        Self::start(move |_, stream| drop(stream.write_all(answer.as_bytes())))
    }

    /// One that waits until the client goes away.
    pub(in crate::host) fn silent() -> Self {
        Self::start(|_, stream| drop(stream.read(&mut [0])))
    }

    pub(in crate::host) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(in crate::host) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(in crate::host) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Clients that went away, or whose answer is whole.
    pub(in crate::host) fn done(&self) -> usize {
        self.seen.done.load(Ordering::SeqCst)
    }

    /// Requests that came, whole.
    pub(in crate::host) fn requests(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    pub(in crate::host) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(in crate::host) fn last_request(&self) -> String {
        self.seen.requests.lock().unwrap().last().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.seen.ending.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn read_request(stream: &mut TcpStream) -> io::Result<String> {
    let (mut request, mut missing) = (Vec::new(), None);
    while missing.is_none_or(|missing| request.len() < missing) {
        let mut piece = [0; 1 << 16];
        let count = stream.read(&mut piece)?;
        request.extend_from_slice(&piece[..count]);
        let end = request.windows(4).take(MIB).position(|four| four == b"\r\n\r\n");
        if let (None, Some(end)) = (missing, end) {
            let head = String::from_utf8_lossy(&request[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            missing = Some(end + 4 + length.map_or(0, |length| length.parse().unwrap()));
        } else if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8(request).unwrap())
}

/// Writes this again and again, a GiB at most, and answers how many bytes were taken.
pub(in crate::host) fn flood(stream: &mut TcpStream, piece: &[u8]) -> usize {
    let mut written = 0;
    while written < 1 << 30 && stream.write_all(piece).is_ok() {
        written += piece.len();
    }
    written
}
