//! HTTP requests to others as a resource, on which a call is a request: HTTP/1.1 without TLS.
//!
//! Each call looks its name up once, and opens a connection of its own to an address that passed:
//! nobody can put another one behind the name in between. Nothing is followed, and no proxy asked.
//! What a server answers, or that it doesn't, is the guest's business and no death; that it can't
//! be reached at all is one, where the manifest wants that checked.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Connection, Line, NoConnection, Opened, Pending, Provider, Sharing};
use crate::base::limits::{
    CALL_BYTES_MAX, CONNECT_TIME_MAX, HTTP_CALL_HEAD_BYTES_MAX, HTTP_CALL_HEADERS_MAX,
    HTTP_CHECK_EVERY, HTTP_LOOKUPS_MAX,
};
use crate::pure::resource::allow::{Host, Reach, Rule, Url, reach};
use crate::pure::resource::operation::{CallError, CallResult, HttpAnswer, HttpRequest};
use crate::pure::resource::operation::{Operation, Reply};
use crate::pure::resource::outgoing::head;

/// Finds the addresses of names.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All of them.
    ///
    /// # Errors
    ///
    /// When there are none.
    fn resolve(&self, name: &str) -> Pending<'_, io::Result<Vec<IpAddr>>>;
}

/// The system's way of finding addresses.
#[derive(Debug)]
pub struct System(Arc<Semaphore>);

impl Default for System {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HTTP_LOOKUPS_MAX)))
    }
}

impl Resolve for System {
    fn resolve(&self, name: &str) -> Pending<'_, io::Result<Vec<IpAddr>>> {
        let (permits, name) = (self.0.clone(), name.to_owned());
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let work = tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                // Also when nobody waits any more: that thread is busy until here.
                drop(permit);
                found.map(|found| found.map(|socket| socket.ip()).collect())
            });
            work.await.map_err(io::Error::other)?
        })
    }
}

/// Those whom daemons may send requests.
#[derive(Debug)]
pub struct Http {
    client: Arc<Client>,
    check: bool,
}

impl Http {
    /// Those of these rules. With `check` it is available while the first server that a rule names
    /// takes connections, else always.
    #[must_use]
    pub fn new(rules: Vec<Rule>, check: bool) -> Self {
        Self::with_resolver(rules, check, Arc::new(System::default()))
    }

    /// The same, with another way of finding addresses.
    #[must_use]
    pub fn with_resolver(rules: Vec<Rule>, check: bool, resolver: Arc<dyn Resolve>) -> Self {
        Self { client: Arc::new(Client { rules, resolver }), check }
    }
}

impl Provider for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn place(&self) -> String {
        let shown: Vec<String> = self.client.rules.iter().map(Rule::shown).collect();
        shown.join(", ")
    }

    fn allows(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| reach(&self.client.rules, &url).is_some())
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, NoConnection>> {
        let server = self.client.rules.iter().find_map(|rule| Some((rule.server()?, rule.reach())));
        let server = server.filter(|_| self.check).map(|(url, reach)| (url.clone(), reach));
        let mut watch = Watch { client: self.client.clone(), server, seen: None };
        Box::pin(async move {
            watch.look().await?;
            Ok(Box::new(watch) as Box<dyn Connection>)
        })
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared(1)
    }

    fn admits(&self, operation: &Operation) -> Result<(), CallError> {
        let Operation::Http(request) = operation else { return Err(CallError::WrongKind) };
        self.client.allowed(request).map(drop)
    }

    fn open(&self) -> Pending<'_, Opened> {
        let line = Requests(self.client.clone());
        Box::pin(async move { Ok(Box::new(line) as Box<dyn Line>) })
    }
}

/// Looks now and then whether a server is there.
struct Watch {
    client: Arc<Client>,
    /// None when nobody wants to know.
    server: Option<(Url, Reach)>,
    /// When it was there last.
    seen: Option<Instant>,
}

impl Watch {
    async fn look(&mut self) -> Result<(), String> {
        let Some((url, reach)) = &self.server else { return Ok(()) };
        match self.client.dial(url, *reach).await {
            Ok(_stream) => {
                self.seen = Some(Instant::now());
                Ok(())
            }
            Err(CallError::Denied(why) | CallError::Refused { message: why, .. }) => Err(why),
            Err(error) => Err(format!("{error:?}")),
        }
    }
}

impl Connection for Watch {
    fn check(&mut self) -> Pending<'_, Result<(), String>> {
        let fresh = self.seen.is_some_and(|seen| seen.elapsed() < HTTP_CHECK_EVERY);
        Box::pin(async move { if fresh { Ok(()) } else { self.look().await } })
    }

    fn job(&mut self, _text: &str) -> Pending<'_, Result<(), String>> {
        Box::pin(async { Err("HTTP has no init jobs".to_owned()) })
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(pending())
    }
}

/// Sends requests, any number at a time. Each has its own connection, which ends with it.
struct Requests(Arc<Client>);

impl Line for Requests {
    fn call(&mut self, operation: Operation, until: Instant) -> Pending<'static, CallResult> {
        let client = self.0.clone();
        Box::pin(async move {
            let Operation::Http(request) = operation else { return Err(CallError::WrongKind) };
            match timeout_at(until, client.send(request)).await {
                Ok(answer) => answer.map(Reply::Http),
                Err(_) => Err(CallError::TimedOut),
            }
        })
    }

    fn died(&mut self) -> Pending<'_, String> {
        Box::pin(pending())
    }
}

#[derive(Debug)]
struct Client {
    rules: Vec<Rule>,
    resolver: Arc<dyn Resolve>,
}

impl Client {
    async fn send(&self, request: HttpRequest) -> Result<HttpAnswer, CallError> {
        let (url, reach, head) = self.allowed(&request)?;
        let stream = self.dial(&url, reach).await?;
        let body = Full::new(Bytes::from(request.body));
        exchange(stream, head.map(|()| body)).await
    }

    /// Where a request goes, how far that may be, and its head.
    fn allowed(&self, request: &HttpRequest) -> Result<(Url, Reach, Request<()>), CallError> {
        let url = Url::parse(&request.url).map_err(CallError::Denied)?;
        let Some(reach) = reach(&self.rules, &url) else {
            return Err(CallError::Denied("no rule allows this URL".to_owned()));
        };
        let head = head(request, &url)?;
        Ok((url, reach, head))
    }

    /// A connection to a server, at an address that a request of this reach may go to.
    async fn dial(&self, url: &Url, reach: Reach) -> Result<TcpStream, CallError> {
        let addresses = match url.host() {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let found = self.resolver.resolve(name).await;
                found.map_err(|error| refused("lookup", &error))?
            }
        };
        reach.check(&addresses).map_err(CallError::Denied)?;
        let mut why = refused("lookup", &io::Error::other("the name has no address"));
        for address in addresses {
            let connected = TcpStream::connect((address, url.port()));
            match timeout(CONNECT_TIME_MAX, connected).await {
                Ok(Ok(stream)) => {
                    // Without it the end of a request may wait for a timer of the kernel.
                    drop(stream.set_nodelay(true));
                    return Ok(stream);
                }
                Ok(Err(error)) => why = refused("connect", &error),
                Err(_) => why = refused("connect", &io::Error::from(io::ErrorKind::TimedOut)),
            }
        }
        Err(why)
    }
}

fn refused(code: &str, error: &dyn Error) -> CallError {
    let mut message = error.to_string();
    if let Some(source) = error.source() {
        message = format!("{message}: {source}");
    }
    CallError::Refused { code: code.to_owned(), message }
}

/// Sends a request and reads the answer. The connection ends with this, whatever it is doing.
async fn exchange(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
) -> Result<HttpAnswer, CallError> {
    let mut client = http1::Builder::new();
    client.max_header_size(HTTP_CALL_HEAD_BYTES_MAX).max_headers(HTTP_CALL_HEADERS_MAX);
    let (mut sender, connection) =
        client.handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let carried = async {
        // What it ends with the answer says, too.
        drop(connection.await);
        pending::<Infallible>().await
    };
    let answered = async {
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        read(response).await
    };
    tokio::select! {
        answer = answered => answer,
        never = carried => match never {},
    }
}

async fn read(response: Response<Incoming>) -> Result<HttpAnswer, CallError> {
    let (head, mut incoming) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused("no-http", &io::Error::other("it goes on in another protocol")));
    }
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > CALL_BYTES_MAX {
        return Err(too_large(CALL_BYTES_MAX));
    }
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        // Trailers are left out.
        let Ok(data) = frame.map_err(|error| failed(&error))?.into_data() else { continue };
        if data.len() > CALL_BYTES_MAX.saturating_sub(body.len()) {
            return Err(too_large(CALL_BYTES_MAX));
        }
        body.extend_from_slice(&data);
    }
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    Ok(HttpAnswer { status: head.status.as_u16(), headers: headers.collect(), body })
}

fn failed(error: &hyper::Error) -> CallError {
    if error.is_parse_too_large() {
        too_large(HTTP_CALL_HEAD_BYTES_MAX)
    } else if error.is_parse() {
        refused("no-http", error)
    } else {
        refused("closed", error)
    }
}

fn too_large(most: usize) -> CallError {
    CallError::TooLarge(u64::try_from(most).unwrap_or(u64::MAX))
}
