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
mod paced;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, watch};

use super::api::Served;
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Point};
use crate::base::limits::HTTP_CONNECTIONS_MAX;
use connection::Connection;

/// An address where HTTP is answered.
#[derive(Debug)]
pub(super) struct Ingress {
    /// None when the host stops.
    listener: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    /// Connections that there may be.
    places: Arc<Semaphore>,
}

impl Ingress {
    /// Binds an address.
    ///
    /// # Errors
    ///
    /// `E_HTTP`.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, Fault> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) =
            bound.map_err(|error| Fault::new(Code::Http, format!("--http {address}: {error}")))?;
        Ok(Self {
            listener: Mutex::new(Some(listener)),
            address,
            places: Arc::new(Semaphore::new(places())),
        })
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

/// How many connections there may be: the process keeps half of its descriptors for the rest, and
/// takes as many as the system lets it have.
fn places() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let half = current.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX));
    half.clamp(1, HTTP_CONNECTIONS_MAX)
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
        let Ok(place) = ingress.places.clone().acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: give clients time to go.
                tracing::warn!(%error, "accepting an HTTP client failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        failpoint::pass(Point::AcceptHttp)?;
        let connection = Connection::new(served.clone());
        tokio::spawn(async move {
            connection.attend(stream).await;
            drop(place);
        });
    }
}

async fn is_true(flag: &mut watch::Receiver<bool>) {
    // Without a sender there is no host any more.
    drop(flag.wait_for(|flag| *flag).await);
}
