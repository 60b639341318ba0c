//! Requests of `wasi:http`, from their first header to when they are sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::component::{Lift, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_io::streams::DynOutputStream;

use super::super::super::host_calls::{Store, charge};
use super::super::super::state::StoreState;
use super::super::begin;
use super::Exchange;
use super::answer::{Awaited, Future};
use super::fields::{self, Entries, Fields};
use super::words::{ErrorCode, Method, Scheme};
use crate::base::limits::{CALL_BYTES_MAX, CALL_TIME_MAX};
use crate::pure::resource::operation::{CallError, HttpRequest, Operation};

/// A request that is being made.
#[derive(Debug)]
struct Outgoing {
    method: Method,
    scheme: Option<Scheme>,
    authority: Option<String>,
    path: Option<String>,
    headers: Entries,
    /// None when it has none, and none has begun.
    body: Option<Shared>,
}

impl Outgoing {
    /// The request, as soon as it has a body.
    fn into_parts(self) -> HttpRequest {
        let scheme = self.scheme.unwrap_or(Scheme::Http);
        let authority = self.authority.unwrap_or_default();
        let path = self.path.unwrap_or_else(|| "/".to_owned());
        HttpRequest {
            method: self.method.word().to_owned(),
            url: format!("{}://{authority}{path}", scheme.word()),
            headers: self.headers,
            body: Vec::new(),
        }
    }
}

/// How far a body is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// It is being written.
    Open,
    /// It is whole.
    Finished,
    /// It was given up before it was whole.
    Dropped,
}

/// A body, of which the request has one end and the guest the other.
#[derive(Debug)]
pub(super) struct Body {
    pipe: MemoryOutputPipe,
    has_stream: bool,
    pub(super) progress: Progress,
    /// Who waits for it to be whole, by its place in the table.
    pub(super) waits: Option<u32>,
    pub(super) exchange: Exchange,
}

/// Both ends are on the thread of the daemon.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Body>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The guest's end of a body.
struct OutgoingBody(Shared);

/// How long a guest wants to wait.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    connect: Option<u64>,
    first_byte: Option<u64>,
    between_bytes: Option<u64>,
}

impl Options {
    /// The first byte of an answer that comes whole comes with its last one.
    fn time(&self) -> Duration {
        let nanos = |limit: Option<u64>| limit.map_or(CALL_TIME_MAX, Duration::from_nanos);
        let time = nanos(self.connect).saturating_add(nanos(self.first_byte));
        time.min(CALL_TIME_MAX)
    }
}

type Request = Resource<Outgoing>;
type Limit = fn(&mut Options) -> &mut Option<u64>;

pub(super) fn link(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.resource("outgoing-request", ResourceType::host::<Outgoing>(), |mut store, rep| {
        store.data_mut().table().delete(Request::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap(
        "[constructor]outgoing-request",
        |mut store: Store<'_>, (headers,): (fields::Handle,)| {
            charge(&mut store, 0)?;
            let table = store.data_mut().table();
            let headers = table.delete(headers)?.entries;
            let request = Outgoing {
                method: Method::Get,
                scheme: None,
                authority: None,
                path: None,
                headers,
                body: None,
            };
            Ok((table.push(request)?,))
        },
    )?;
    part(
        types,
        "method",
        "set-method",
        |request| request.method.clone(),
        |request, method| {
            request.method = method;
        },
    )?;
    part(
        types,
        "scheme",
        "set-scheme",
        |request| request.scheme.clone(),
        |request, scheme| {
            request.scheme = scheme;
        },
    )?;
    part(
        types,
        "authority",
        "set-authority",
        |request| request.authority.clone(),
        |request, authority| request.authority = authority,
    )?;
    part(
        types,
        "path-with-query",
        "set-path-with-query",
        |request| request.path.clone(),
        |request, path| request.path = path,
    )?;
    types.func_wrap(
        "[method]outgoing-request.headers",
        |mut store: Store<'_>, (request,): (Request,)| {
            charge(&mut store, 0)?;
            let table = store.data_mut().table();
            let headers = Fields::fixed(&table.get(&request)?.headers);
            Ok((table.push(headers)?,))
        },
    )?;
    link_body(types)?;
    link_options(types)
}

/// A part of a request that is looked at and set. What is wrong with it shows when it is sent.
fn part<T>(
    types: &mut LinkerInstance<'_, StoreState>,
    get: &str,
    set: &str,
    look: fn(&Outgoing) -> T,
    change: fn(&mut Outgoing, T),
) -> wasmtime::Result<()>
where
    T: Lift + wasmtime::component::Lower + Send + Sync + 'static,
{
    types.func_wrap(
        &format!("[method]outgoing-request.{get}"),
        move |mut store: Store<'_>, (request,): (Request,)| {
            charge(&mut store, 0)?;
            Ok((look(store.data_mut().table().get(&request)?),))
        },
    )?;
    types.func_wrap(
        &format!("[method]outgoing-request.{set}"),
        move |mut store: Store<'_>, (request, value): (Request, T)| {
            charge(&mut store, 0)?;
            change(store.data_mut().table().get_mut(&request)?, value);
            Ok((Ok::<(), ()>(()),))
        },
    )
}

fn link_body(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.resource("outgoing-body", ResourceType::host::<OutgoingBody>(), |mut store, rep| {
        let body = Resource::<OutgoingBody>::new_own(rep);
        let OutgoingBody(body) = store.data_mut().table().delete(body)?;
        body.lock().progress = Progress::Dropped;
        Ok(())
    })?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store: Store<'_>, (request,): (Request,)| {
            charge(&mut store, 0)?;
            let state = store.data_mut();
            let exchange = state.exchanges.begin();
            let request = state.table().get_mut(&request)?;
            let (None, Some(exchange)) = (&request.body, exchange) else {
                return Ok((Err::<Resource<OutgoingBody>, ()>(()),));
            };
            let body = Shared(Arc::new(Mutex::new(Body {
                pipe: MemoryOutputPipe::new(CALL_BYTES_MAX),
                has_stream: false,
                progress: Progress::Open,
                waits: None,
                exchange,
            })));
            request.body = Some(body.clone());
            Ok((Ok(state.table().push(OutgoingBody(body))?),))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-body.write",
        |mut store: Store<'_>, (body,): (Resource<OutgoingBody>,)| {
            charge(&mut store, 0)?;
            let table = store.data_mut().table();
            let mut its = table.get(&body)?.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            if its.has_stream {
                return Ok((Err::<Resource<DynOutputStream>, ()>(()),));
            }
            its.has_stream = true;
            let stream: DynOutputStream = Box::new(its.pipe.clone());
            drop(its);
            Ok((Ok(table.push_child(stream, &body)?),))
        },
    )?;
    types.func_wrap(
        "[static]outgoing-body.finish",
        |mut store: Store<'_>,
         (body, trailers): (Resource<OutgoingBody>, Option<fields::Handle>)| {
            Ok((finish(&mut store, body, trailers)?,))
        },
    )
}

/// Makes a body whole, and sends the request that waits for that.
fn finish(
    store: &mut Store<'_>,
    body: Resource<OutgoingBody>,
    trailers: Option<fields::Handle>,
) -> wasmtime::Result<Result<(), ErrorCode>> {
    charge(store, 0)?;
    let table = store.data_mut().table();
    let OutgoingBody(body) = table.delete(body)?;
    let trailers = trailers.map(|trailers| table.delete(trailers)).transpose()?;
    if trailers.is_some_and(|trailers| !trailers.entries.is_empty()) {
        body.lock().progress = Progress::Dropped;
        let why = "trailers can't be sent".to_owned();
        return Ok(Err(ErrorCode::InternalError(Some(why))));
    }
    let waits = {
        let mut body = body.lock();
        body.progress = Progress::Finished;
        body.waits.take()
    };
    let Some(waits) = waits else { return Ok(Ok(())) };
    let future = Resource::<Future>::new_own(waits);
    if let Some((request, time)) = store.data_mut().table().get_mut(&future)?.take_unsent() {
        let sent = send(store, request, Some(&body), time)?;
        store.data_mut().table().get_mut(&future)?.awaited = sent;
    }
    Ok(Ok(()))
}

fn link_options(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.resource("request-options", ResourceType::host::<Options>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<Options>::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap("[constructor]request-options", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data_mut().table().push(Options::default())?,))
    })?;
    let limits: [(&str, Limit); 3] = [
        ("connect-timeout", |options| &mut options.connect),
        ("first-byte-timeout", |options| &mut options.first_byte),
        ("between-bytes-timeout", |options| &mut options.between_bytes),
    ];
    for (name, limit) in limits {
        types.func_wrap(
            &format!("[method]request-options.{name}"),
            move |mut store: Store<'_>, (options,): (Resource<Options>,)| {
                charge(&mut store, 0)?;
                Ok((*limit(store.data_mut().table().get_mut(&options)?),))
            },
        )?;
        types.func_wrap(
            &format!("[method]request-options.set-{name}"),
            move |mut store: Store<'_>, (options, value): (Resource<Options>, Option<u64>)| {
                charge(&mut store, 0)?;
                *limit(store.data_mut().table().get_mut(&options)?) = value;
                Ok((Ok::<(), ()>(()),))
            },
        )?;
    }
    Ok(())
}

pub(super) fn link_handler(handler: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    handler.func_wrap(
        "handle",
        |mut store: Store<'_>,
         (request, options): (Request, Option<Resource<Options>>)|
         -> wasmtime::Result<(Result<Resource<Future>, ErrorCode>,)> {
            charge(&mut store, 0)?;
            let state = store.data_mut();
            let request = state.table().delete(request)?;
            let options = options.map(|options| state.table().delete(options)).transpose()?;
            let time = options.unwrap_or_default().time();
            let body = request.body.clone();
            let exchange = match &body {
                Some(body) => Some(body.lock().exchange.clone()),
                None => state.exchanges.begin(),
            };
            let Some(exchange) = exchange else {
                return Ok((Err(ErrorCode::ConnectionLimitReached),));
            };
            let request = request.into_parts();
            let is_open = body.as_ref().is_some_and(|body| body.lock().progress == Progress::Open);
            let awaited = if is_open {
                Awaited::Unsent(request, time)
            } else {
                send(&mut store, request, body.as_ref(), time)?
            };
            let future = Future { awaited, body: body.clone(), exchange };
            let future = store.data_mut().table().push(future)?;
            if let Some(body) = body.filter(|_| is_open) {
                body.lock().waits = Some(future.rep());
            }
            Ok((Ok(future),))
        },
    )
}

/// Sends a request whose body is whole, or says why not.
fn send(
    store: &mut Store<'_>,
    mut request: HttpRequest,
    body: Option<&Shared>,
    time: Duration,
) -> wasmtime::Result<Awaited> {
    let refused = |code| Ok(Awaited::Known(Err(code)));
    if let Some(body) = body {
        let body = body.lock();
        if body.progress == Progress::Dropped {
            let why = "its body was dropped before it was finished".to_owned();
            return refused(ErrorCode::InternalError(Some(why)));
        }
        request.body = body.pipe.contents().to_vec();
    }
    let length = request.body.len();
    let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
    let fits = |value: &[u8]| value == length.to_string().as_bytes();
    if request.headers.iter().any(|(name, value)| is_length(name) && !fits(value)) {
        return refused(ErrorCode::RequestBodySize(Some(length as u64)));
    }
    request.headers.retain(|(name, _)| !is_length(name));
    store.data().resources_are_there()?;
    let outside = store.data().outside.clone();
    let Some(resource) = outside.and_then(|outside| outside.for_url(&request.url)) else {
        return refused(ErrorCode::RequestDenied);
    };
    let bytes = request.bytes();
    Ok(match begin(store, &resource, Operation::Http(request), bytes, time)? {
        Ok(begun) => Awaited::Asked(begun),
        Err(CallError::TooLarge(most)) => {
            Awaited::Known(Err(ErrorCode::RequestBodySize(Some(most))))
        }
        Err(error) => Awaited::Known(Err(error.into())),
    })
}
