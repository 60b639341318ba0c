//! A proxy in front of a server, which breaks connections in one way at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::port::on_free_port;

/// Time between two looks at what is wanted.
const LOOK: Duration = Duration::from_millis(2);

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 64 << 10;

/// How long connections may take to end.
const END_MAX: Duration = Duration::from_secs(20);

/// What a proxy does with connections, those that are open and new ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Passes everything on.
    Pass,
    /// New connections are refused; open ones go on.
    Refuse,
    /// Takes what is sent, and keeps it until there is another fault.
    Stall {
        /// What clients send.
        to_server: bool,
        /// What the server sends.
        to_client: bool,
    },
    /// Takes what new connections send, and keeps it until there is another fault; open ones go on.
    HoldNew,
    /// Passes on what the server sends after this time.
    Delay(Duration),
    /// Resets connections.
    Reset,
    /// Closes connections in order.
    Close,
    /// Passes on so many bytes of what the server sends next, of each connection, and closes it.
    CutAfter(u64),
    /// The next answer of the server becomes this and so many bytes; nothing else follows.
    Flood {
        /// How it begins.
        head: Vec<u8>,
        /// How many bytes follow.
        bytes: u64,
    },
    /// What the server sends becomes something else.
    Garbage,
}

/// Passes connections on to a server. Ends with all of them when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    target: Mutex<SocketAddr>,
    fault: Mutex<(u64, Fault)>,
    listener: Mutex<Option<TcpListener>>,
    open: AtomicUsize,
    ending: AtomicBool,
}

impl Proxy {
    /// Starts one on 127.0.0.1, in front of `target`.
    ///
    /// # Panics
    ///
    /// When it can't listen.
    #[must_use]
    pub fn start(target: SocketAddr) -> Self {
        let (addr, listener) = on_free_port("a proxy", |port| {
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            Ok((addr, listen(addr)?))
        });
        let shared = Arc::new(Shared {
            addr,
            target: Mutex::new(target),
            fault: Mutex::new((0, Fault::Pass)),
            listener: Mutex::new(Some(listener)),
            open: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        });
        let its = shared.clone();
        Self { shared, thread: Some(spawn(move || accept_all(&its))) }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// New connections lead there from now on.
    pub fn lead_to(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// Does this from now on. When it ends connections, they have ended when this returns.
    ///
    /// # Panics
    ///
    /// When it can't listen again on its port, or connections don't end.
    pub fn set(&self, fault: Fault) {
        let mut listener = lock(&self.shared.listener);
        match (&fault, listener.is_some()) {
            (Fault::Refuse, _) => *listener = None,
            (_, true) => {}
            (_, false) => {
                let again = listen(self.shared.addr).unwrap_or_else(|error| panic!("{error}"));
                *listener = Some(again);
            }
        }
        drop(listener);
        let ends = matches!(fault, Fault::Reset | Fault::Close);
        {
            let mut now = lock(&self.shared.fault);
            *now = (now.0 + 1, fault);
        }
        if ends {
            self.wait_for_ends();
        }
    }

    fn wait_for_ends(&self) {
        let start = Instant::now();
        while self.connections() > 0 {
            assert!(start.elapsed() < END_MAX, "connections of a proxy don't end");
            sleep(LOOK);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("a proxy's thread had panicked");
        }
        self.wait_for_ends();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(addr: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(addr).map_err(|error| format!("{addr}: {error}"))?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(listener)
}

fn accept_all(shared: &Arc<Shared>) {
    while !shared.ending.load(Ordering::SeqCst) {
        let accepted = lock(&shared.listener).as_ref().map(TcpListener::accept);
        match accepted {
            Some(Ok((client, _))) => join(shared, client),
            _ => sleep(LOOK),
        }
    }
}

/// Connects a client to the server, and passes on what they send, on two threads.
fn join(shared: &Arc<Shared>, client: TcpStream) {
    // A server that is not there is shown by a connection that ends at once.
    let target = *lock(&shared.target);
    let Ok(server) = TcpStream::connect(target) else { return reset(&client) };
    for stream in [&client, &server] {
        let set = [
            stream.set_nonblocking(false),
            stream.set_nodelay(true),
            stream.set_read_timeout(Some(LOOK)),
            stream.set_write_timeout(Some(LOOK)),
        ];
        if set.iter().any(Result::is_err) {
            return;
        }
    }
    shared.open.fetch_add(1, Ordering::SeqCst);
    let (ended, born) = (AtomicBool::new(false), lock(&shared.fault).0);
    let link = Arc::new(Link { shared: shared.clone(), client, server, born, ended });
    let other = link.clone();
    spawn(move || Pump { link, to_client: false, seen: 0, passed: 0 }.run());
    spawn(move || Pump { link: other, to_client: true, seen: 0, passed: 0 }.run());
}

fn reset(stream: &TcpStream) {
    // One that has gone already needs no reset.
    let _gone = set_socket_linger(stream, Some(Duration::ZERO));
}

/// A connection of a client and the one to the server. Closed when both pumps have let it go.
#[derive(Debug)]
struct Link {
    shared: Arc<Shared>,
    client: TcpStream,
    server: TcpStream,
    /// The number of the fault when it was opened.
    born: u64,
    ended: AtomicBool,
}

impl Drop for Link {
    fn drop(&mut self) {
        // Before it is closed, but whoever waits for the end must not miss the close itself.
        if lock(&self.shared.fault).1 == Fault::Reset {
            reset(&self.client);
        } else {
            let _gone = self.client.shutdown(std::net::Shutdown::Both);
        }
        let _gone = self.server.shutdown(std::net::Shutdown::Both);
    }
}

/// Passes on what one side sends.
struct Pump {
    link: Arc<Link>,
    to_client: bool,
    /// Which fault was seen last, and bytes passed on since.
    seen: u64,
    passed: u64,
}

impl Pump {
    fn run(mut self) {
        let mut piece = vec![0; PIECE_BYTES];
        while self.fault().is_some() {
            let from = if self.to_client { &self.link.server } else { &self.link.client };
            let mut from = from;
            let length = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if is_late(&error) => continue,
                Err(_) => break,
            };
            // As it is now: it may have changed while nothing came.
            let whole = piece.get(..length).unwrap_or_default();
            if self.fault().and_then(|fault| self.pass(&fault, whole)).is_none() {
                break;
            }
        }
        self.link.ended.store(true, Ordering::SeqCst);
        let Self { link, .. } = self;
        let shared = link.shared.clone();
        if let Some(link) = Arc::into_inner(link) {
            drop(link);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// What is to be done now; nothing, once the connection has to end.
    fn fault(&mut self) -> Option<Fault> {
        let shared = &self.link.shared;
        let (number, fault) = lock(&shared.fault).clone();
        if number != self.seen {
            (self.seen, self.passed) = (number, 0);
        }
        let ends = matches!(fault, Fault::Reset | Fault::Close)
            || shared.ending.load(Ordering::SeqCst)
            || self.link.ended.load(Ordering::SeqCst);
        (!ends).then_some(fault)
    }

    /// Passes a piece on, or something else; nothing, when the connection has to end.
    fn pass(&mut self, fault: &Fault, piece: &[u8]) -> Option<()> {
        match (fault, self.to_client) {
            (Fault::Stall { to_server, to_client }, side) => {
                if !(if side { *to_client } else { *to_server }) {
                    return self.write(piece);
                }
                self.hold(piece)
            }
            (Fault::HoldNew, false) if self.link.born == self.seen => self.hold(piece),
            (Fault::Delay(delay), true) => {
                let start = Instant::now();
                while start.elapsed() < *delay {
                    sleep(LOOK);
                    self.fault()?;
                }
                self.write(piece)
            }
            (Fault::CutAfter(bytes), true) => {
                let left = bytes.saturating_sub(self.passed);
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                self.write(piece.get(..length).unwrap_or_default())?;
                self.passed += piece.len() as u64;
                (self.passed <= *bytes).then_some(())
            }
            (Fault::Flood { head, bytes }, true) => {
                if self.passed == 0 {
                    self.passed = 1;
                    self.flood(head, *bytes)?;
                }
                Some(())
            }
            (Fault::Garbage, true) => {
                let garbage: Vec<u8> = piece.iter().map(|byte| byte ^ 0xa5).collect();
                self.write(&garbage)
            }
            _ => self.write(piece),
        }
    }

    /// Passes a piece on when there is another fault, as that one says.
    fn hold(&mut self, piece: &[u8]) -> Option<()> {
        let number = self.seen;
        loop {
            sleep(LOOK);
            let fault = self.fault()?;
            if self.seen != number {
                return self.pass(&fault, piece);
            }
        }
    }

    fn flood(&mut self, head: &[u8], bytes: u64) -> Option<()> {
        self.write(head)?;
        let (filler, mut left) = (vec![b'x'; PIECE_BYTES], bytes);
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            self.write(filler.get(..length)?)?;
            left -= length as u64;
        }
        Some(())
    }

    /// Writes all of it; nothing, when the connection has to end.
    fn write(&mut self, mut piece: &[u8]) -> Option<()> {
        while !piece.is_empty() {
            self.fault()?;
            let to = if self.to_client { &self.link.client } else { &self.link.server };
            let mut to = to;
            match to.write(piece) {
                Ok(length) => piece = piece.get(length..)?,
                Err(error) if is_late(&error) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
