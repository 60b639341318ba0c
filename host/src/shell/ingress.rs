//! HTTP in front of the daemons, where `host run --http` asks for it.
//!
//! ```text
//!   accept --> connection: hyper --> ask (pure) --> Root::submit --> answer with its status
//!                 ^                                                        |
//!                 +-- paced: who is late is let go of <--------------------+
//! ```
//!
//! It runs on the control plane's thread, which waits for no daemon. Everything that a client may
//! take has a limit: connections, bytes of heads and bodies, time for each. A stop closes the
//! listener and the idle connections at once, and the others behind their answers.

mod connection;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::api::Served;
use super::clients::Clients;
use super::room;
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Point};
use crate::base::limits::{ACCEPT_PAUSE, HTTP_CONNECTIONS_RESERVED};
use crate::pure::ingress::Hosts;
use connection::{Connection, USUAL};

/// An address where HTTP is answered.
#[derive(Debug)]
pub(super) struct Ingress {
    /// None when the host stops.
    listener: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    clients: Arc<Clients>,
    shared: Shared,
}

/// What clients share.
#[derive(Clone, Debug)]
struct Shared {
    /// Calls that may be under way.
    calls: Arc<Semaphore>,
    hosts: Arc<Hosts>,
}

impl Ingress {
    /// Binds an address.
    ///
    /// # Errors
    ///
    /// `E_HTTP`.
    pub(super) fn bind(address: SocketAddr, hosts: Hosts) -> Result<Self, Fault> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) =
            bound.map_err(|error| Fault::new(Code::Http, format!("--http {address}: {error}")))?;
        let calls = room::http_calls();
        let shared = Shared { calls: Arc::new(Semaphore::new(calls)), hosts: Arc::new(hosts) };
        let clients = Clients::new(calls + HTTP_CONNECTIONS_RESERVED.min(calls));
        Ok(Self { listener: Mutex::new(Some(listener)), address, clients, shared })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn listen(&self) -> std::io::Result<Option<tokio::net::TcpListener>> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = listener.as_ref().map(TcpListener::try_clone).transpose()?;
        listener.map(tokio::net::TcpListener::from_std).transpose()
    }

    fn close(&self) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Accepts clients until the future is dropped, or until the host stops.
///
/// # Errors
///
/// When the listener can't be used at all; errors of single clients are logged.
///
/// # Cancel safety
///
/// The connections that there are live on.
pub(super) async fn serve(ingress: &Ingress, served: Arc<Served>) -> std::io::Result<()> {
    let mut closing = served.closing.subscribe();
    tokio::select! {
        biased;
        () = is_true(&mut closing) => {
            ingress.close();
            // It is told to end when the last answers have left.
            std::future::pending().await
        }
        ended = accept(ingress, &served) => ended,
    }
}

async fn accept(ingress: &Ingress, served: &Arc<Served>) -> std::io::Result<()> {
    let Some(listener) = ingress.listen()? else { return std::future::pending().await };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely.
                tracing::warn!(%error, "accepting an HTTP client failed");
                ingress.clients.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failpoint::pass(Point::AcceptHttp)?;
        let seat = ingress.clients.seat(USUAL).await;
        let connection =
            Connection::new(served.clone(), ingress.shared.clone(), seat.stage.clone());
        tokio::spawn(seat.serve(connection.attend(stream)));
    }
}

async fn is_true(flag: &mut watch::Receiver<bool>) {
    // Without a sender there is no host any more.
    drop(flag.wait_for(|flag| *flag).await);
}
