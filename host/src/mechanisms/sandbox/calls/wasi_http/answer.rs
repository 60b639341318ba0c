//! Answers of `wasi:http`, from the request's sending to the last byte.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi_io::poll::{Pollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, InputStream, StreamResult};

use super::super::super::crash::Stop;
use super::super::super::host_calls::{Store, charge};
use super::super::super::state::StoreState;
use super::super::{Begun, Waited};
use super::Exchange;
use super::fields::{self, Entries, Fields};
use super::request::{Progress, Shared};
use super::words::ErrorCode;
use crate::base::ticket::Claimed;
use crate::pure::resource::operation::{CallResult, HttpAnswer, HttpRequest, Reply};

/// What has become of a request.
#[derive(Debug)]
pub(super) enum Awaited {
    /// Its body isn't whole. It has this much time from when it is.
    Unsent(HttpRequest, Duration),
    /// It was sent.
    Asked(Begun),
    /// There is an answer, or there will be none.
    Settled(Begun, Waited),
    /// It was never sent.
    Known(Result<HttpAnswer, ErrorCode>),
    /// The guest has the answer.
    Taken,
}

/// An answer that may not be there yet.
#[derive(Debug)]
pub(super) struct Future {
    pub(super) awaited: Awaited,
    pub(super) body: Option<Shared>,
    pub(super) exchange: Exchange,
}

impl Future {
    /// The request, if it still waits for its body.
    pub(super) fn take_unsent(&mut self) -> Option<(HttpRequest, Duration)> {
        match std::mem::replace(&mut self.awaited, Awaited::Taken) {
            Awaited::Unsent(request, time) => Some((request, time)),
            other => {
                self.awaited = other;
                None
            }
        }
    }

    /// Whether there is something to take. An answer that will not come because a lease has ended
    /// is none: whoever ended it ends the transaction.
    fn look(&mut self) -> bool {
        match std::mem::replace(&mut self.awaited, Awaited::Taken) {
            Awaited::Asked(begun) => {
                let waited = match begun.claim.take() {
                    Claimed::Settled(answer) => Some(Waited::Settled(answer)),
                    _ if Instant::now() >= begun.until => Some(Waited::Late),
                    _ => None,
                };
                match waited {
                    Some(waited) => self.awaited = Awaited::Settled(begun, waited),
                    None => {
                        self.awaited = Awaited::Asked(begun);
                        return false;
                    }
                }
            }
            Awaited::Unsent(request, time) => {
                let body = self.body.as_ref().map(|body| body.lock().progress);
                if body != Some(Progress::Dropped) {
                    self.awaited = Awaited::Unsent(request, time);
                    return false;
                }
                let why = "its body was dropped before it was finished".to_owned();
                self.awaited = Awaited::Known(Err(ErrorCode::InternalError(Some(why))));
            }
            other => self.awaited = other,
        }
        true
    }

    /// What there is to take; none when it was taken.
    fn take(&mut self) -> Result<Option<Result<HttpAnswer, ErrorCode>>, Stop> {
        Ok(match std::mem::replace(&mut self.awaited, Awaited::Taken) {
            Awaited::Settled(begun, waited) => Some(answer(begun.end(waited)?)),
            Awaited::Known(known) => Some(known),
            Awaited::Unsent(..) | Awaited::Asked(_) | Awaited::Taken => None,
        })
    }
}

fn answer(answer: CallResult) -> Result<HttpAnswer, ErrorCode> {
    match answer {
        Ok(Reply::Http(answer)) => Ok(answer),
        Ok(_) => Err(ErrorCode::RequestDenied),
        Err(error) => Err(error.into()),
    }
}

#[async_trait]
impl Pollable for Future {
    async fn ready(&mut self) {
        // What settles it wakes the thread.
        poll_fn(|_| if self.look() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// An answer.
struct Incoming {
    status: u16,
    headers: Entries,
    body: Option<IncomingBody>,
}

/// Its body.
struct IncomingBody {
    bytes: Option<Vec<u8>>,
    exchange: Exchange,
}

/// A body that is being read.
struct Reading {
    pipe: MemoryInputPipe,
    _exchange: Exchange,
}

#[async_trait]
impl Pollable for Reading {
    async fn ready(&mut self) {}
}

impl InputStream for Reading {
    fn read(&mut self, size: usize) -> StreamResult<bytes::Bytes> {
        self.pipe.read(size)
    }
}

/// Trailers, of which there are none. True when they were taken.
struct Trailers(bool);

#[async_trait]
impl Pollable for Trailers {
    async fn ready(&mut self) {}
}

type Got<T> = Option<Result<Result<T, ErrorCode>, ()>>;

pub(super) fn link(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    let future = ResourceType::host::<Future>();
    types.resource("future-incoming-response", future, |mut store, rep| {
        let future = Resource::<Future>::new_own(rep);
        let future = store.data_mut().table().delete(future)?;
        if let Some(body) = future.body {
            // Its place in the table may be another one's from here on.
            body.lock().waits = None;
        }
        Ok(())
    })?;
    types.func_wrap(
        "[method]future-incoming-response.subscribe",
        |mut store: Store<'_>, (future,): (Resource<Future>,)| {
            charge(&mut store, 0)?;
            Ok((subscribe(store.data_mut().table(), future)?,))
        },
    )?;
    types.func_wrap(
        "[method]future-incoming-response.get",
        |mut store: Store<'_>,
         (future,): (Resource<Future>,)|
         -> wasmtime::Result<(Got<Resource<Incoming>>,)> {
            charge(&mut store, 0)?;
            let future = store.data_mut().table().get_mut(&future)?;
            if !future.look() {
                return Ok((None,));
            }
            let exchange = future.exchange.clone();
            let (status, headers, bytes) = match future.take()? {
                None => return Ok((Some(Err(())),)),
                Some(Err(code)) => return Ok((Some(Ok(Err(code))),)),
                Some(Ok(HttpAnswer { status, headers, body })) => (status, headers, body),
            };
            charge(&mut store, bytes.len())?;
            let body = Some(IncomingBody { bytes: Some(bytes), exchange });
            let answer = Incoming { status, headers, body };
            Ok((Some(Ok(Ok(store.data_mut().table().push(answer)?))),))
        },
    )?;
    link_answer(types)?;
    link_body(types)
}

fn link_answer(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.resource("incoming-response", ResourceType::host::<Incoming>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<Incoming>::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap(
        "[method]incoming-response.status",
        |mut store: Store<'_>, (answer,): (Resource<Incoming>,)| {
            charge(&mut store, 0)?;
            Ok((store.data_mut().table().get(&answer)?.status,))
        },
    )?;
    types.func_wrap(
        "[method]incoming-response.headers",
        |mut store: Store<'_>, (answer,): (Resource<Incoming>,)| {
            charge(&mut store, 0)?;
            let table = store.data_mut().table();
            let headers = Fields::fixed(&table.get(&answer)?.headers);
            Ok((table.push(headers)?,))
        },
    )?;
    types.func_wrap(
        "[method]incoming-response.consume",
        |mut store: Store<'_>, (answer,): (Resource<Incoming>,)| {
            charge(&mut store, 0)?;
            let table = store.data_mut().table();
            Ok((match table.get_mut(&answer)?.body.take() {
                Some(body) => Ok::<_, ()>(table.push(body)?),
                None => Err(()),
            },))
        },
    )
}

fn link_body(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.resource("incoming-body", ResourceType::host::<IncomingBody>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<IncomingBody>::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap(
        "[method]incoming-body.stream",
        |mut store: Store<'_>, (body,): (Resource<IncomingBody>,)| {
            charge(&mut store, 0)?;
            let table = store.data_mut().table();
            let its = table.get_mut(&body)?;
            let Some(bytes) = its.bytes.take() else {
                return Ok((Err::<Resource<DynInputStream>, ()>(()),));
            };
            let pipe = MemoryInputPipe::new(bytes);
            let stream = Reading { pipe, _exchange: its.exchange.clone() };
            let stream: DynInputStream = Box::new(stream);
            Ok((Ok(table.push_child(stream, &body)?),))
        },
    )?;
    types.func_wrap(
        "[static]incoming-body.finish",
        |mut store: Store<'_>, (body,): (Resource<IncomingBody>,)| {
            charge(&mut store, 0)?;
            let table = store.data_mut().table();
            drop(table.delete(body)?);
            Ok((table.push(Trailers(false))?,))
        },
    )?;
    types.resource("future-trailers", ResourceType::host::<Trailers>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<Trailers>::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap(
        "[method]future-trailers.subscribe",
        |mut store: Store<'_>, (trailers,): (Resource<Trailers>,)| {
            charge(&mut store, 0)?;
            Ok((subscribe(store.data_mut().table(), trailers)?,))
        },
    )?;
    types.func_wrap(
        "[method]future-trailers.get",
        |mut store: Store<'_>,
         (trailers,): (Resource<Trailers>,)|
         -> wasmtime::Result<(Got<Option<fields::Handle>>,)> {
            charge(&mut store, 0)?;
            let Trailers(taken) = store.data_mut().table().get_mut(&trailers)?;
            let again = std::mem::replace(taken, true);
            Ok((Some(if again { Err(()) } else { Ok(Ok(None)) }),))
        },
    )
}
