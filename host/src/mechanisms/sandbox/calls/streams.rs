//! `wasi:io`: streams, and what waits for them.
//!
//! wasmtime-wasi's own would wait inside of a tokio runtime of its own, with threads that nobody
//! accounts for, and where no cancel and no deadline reaches. Here the thread of the daemon parks,
//! as it does in each other call, and whatever ends a call ends that too.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable, ResourceType};
use wasmtime_wasi_io::bindings::wasi::io::poll::{Host as _, HostPollable};
use wasmtime_wasi_io::bindings::wasi::io::streams::{Host as _, StreamError as WitStreamError};
use wasmtime_wasi_io::bindings::wasi::io::streams::{HostInputStream, HostOutputStream};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, StreamError};

use super::super::crash::Stop;
use super::super::handles::Kept;
use super::super::host_calls::{Store, charge};
use super::super::state::StoreState;
use super::super::wasi::WASI_VERSIONS;
use super::filesystem;
use crate::base::error::Code;
use crate::base::limits::{CALL_TIME_MAX, LOG_LINE_BYTES_MAX};

/// What an operation on a stream comes to.
pub(super) type Streamed<T> = Result<T, WitStreamError>;

type Input = Resource<DynInputStream>;
type Output = Resource<DynOutputStream>;

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    for version in WASI_VERSIONS {
        link_poll(&mut linker.instance(&format!("wasi:io/poll@{version}"))?)?;
        let mut streams = linker.instance(&format!("wasi:io/streams@{version}"))?;
        link_input(&mut streams)?;
        link_output(&mut streams)?;
        link_splice(&mut streams)?;
    }
    Ok(())
}

/// Something that a stream does, when it has been done.
type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Waits for something whose end wakes this thread. What is ready at once doesn't wait.
fn drive<T>(
    state: &mut StoreState,
    start: impl for<'a> FnOnce(&'a mut ResourceTable) -> Doing<'a, T>,
) -> Result<T, Stop> {
    let (cancel, request) = (state.cancel.clone(), state.request);
    let began = Instant::now();
    let deadline = state.deadline(began);
    let mut doing = start(state.table());
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(done) = doing.as_mut().poll(&mut context) {
        return Ok(done);
    }
    let awake = cancel.sleep();
    let ended = loop {
        if let Some(code) = cancel.hits(request) {
            break Err(Stop::new(code, "cancelled while it waited"));
        }
        if let Poll::Ready(done) = doing.as_mut().poll(&mut context) {
            break Ok(done);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Err(Stop::waiting("still waiting at its deadline"));
        }
        // What has waited for that long is ready, whatever became of it.
        std::thread::park_timeout(left.min(CALL_TIME_MAX));
    };
    drop((doing, awake));
    state.waited(began.elapsed());
    ended
}

fn link_poll(poll: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    poll.resource("pollable", ResourceType::host::<DynPollable>(), |mut store, rep| {
        let handles = &mut store.data_mut().handles;
        handles.forget(rep);
        HostPollable::drop(handles.table(), Resource::new_own(rep))
    })?;
    poll.func_wrap("poll", |mut store: Store<'_>, (pollables,): (Vec<Resource<DynPollable>>,)| {
        charge(&mut store, pollables.len())?;
        let ready = drive(store.data_mut(), |table| Box::pin(table.poll(pollables)))??;
        Ok((ready,))
    })?;
    poll.func_wrap(
        "[method]pollable.block",
        |mut store: Store<'_>, (pollable,): (Resource<DynPollable>,)| {
            charge(&mut store, 0)?;
            drive(store.data_mut(), |table| Box::pin(table.block(pollable)))?
        },
    )?;
    poll.func_wrap(
        "[method]pollable.ready",
        |mut store: Store<'_>, (pollable,): (Resource<DynPollable>,)| {
            charge(&mut store, 0)?;
            let ready = drive(store.data_mut(), |table| Box::pin(table.ready(pollable)))??;
            Ok((ready,))
        },
    )
}

/// What waits for a stream.
fn wait_for<T: Pollable>(
    store: &mut Store<'_>,
    stream: Resource<T>,
) -> wasmtime::Result<Resource<DynPollable>> {
    charge(store, 0)?;
    let (handles, of) = (&mut store.data_mut().handles, stream.rep());
    let pollable = subscribe(handles.table(), stream)?;
    handles.note(pollable.rep(), Kept::Pollable(of));
    Ok(pollable)
}

/// What the guest is told of what a stream did.
fn told<T>(store: &mut Store<'_>, done: Result<T, StreamError>) -> wasmtime::Result<Streamed<T>> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(error) => Ok(Err(store.data_mut().table().convert_stream_error(error)?)),
    }
}

fn read(
    store: &mut Store<'_>,
    stream: Input,
    bytes: u64,
    waits: bool,
) -> wasmtime::Result<Streamed<Vec<u8>>> {
    charge(store, 0)?;
    if let Some(read) = filesystem::read_stream(store, stream.rep(), bytes)? {
        return Ok(read);
    }
    let read = if waits {
        drive(store.data_mut(), |table| {
            Box::pin(HostInputStream::blocking_read(table, stream, bytes))
        })?
    } else {
        HostInputStream::read(store.data_mut().table(), stream, bytes)
    };
    if let Ok(read) = &read {
        charge(store, read.len())?;
    }
    told(store, read)
}

fn link_input(streams: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    streams.resource(
        "input-stream",
        ResourceType::host::<DynInputStream>(),
        |mut store, rep| {
            let state = store.data_mut();
            state.file_streams.remove(&rep);
            state.handles.forget(rep);
            state.table().delete(Input::new_own(rep))?;
            Ok(())
        },
    )?;
    for (name, waits) in [("read", false), ("blocking-read", true)] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            move |mut store: Store<'_>, (stream, bytes): (Input, u64)| {
                Ok((read(&mut store, stream, bytes, waits)?,))
            },
        )?;
    }
    streams.func_wrap(
        "[method]input-stream.subscribe",
        |mut store: Store<'_>, (stream,): (Input,)| Ok((wait_for(&mut store, stream)?,)),
    )?;
    for (name, waits) in [("skip", false), ("blocking-skip", true)] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            move |mut store: Store<'_>, (stream, bytes): (Input, u64)| {
                let read = read(&mut store, stream, bytes, waits)?;
                Ok((read.map(|read| read.len() as u64),))
            },
        )?;
    }
    Ok(())
}

/// Writes, and waits until that is done where it is to.
fn write(
    store: &mut Store<'_>,
    stream: Output,
    bytes: Vec<u8>,
    waits: bool,
) -> wasmtime::Result<Streamed<()>> {
    charge(store, bytes.len())?;
    let written = if waits {
        drive(store.data_mut(), |table| {
            Box::pin(HostOutputStream::blocking_write_and_flush(table, stream, bytes))
        })?
    } else {
        HostOutputStream::write(store.data_mut().table(), stream, bytes)
    };
    told(store, written)
}

fn link_output(streams: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    streams.resource(
        "output-stream",
        ResourceType::host::<DynOutputStream>(),
        |mut store, rep| {
            let handles = &mut store.data_mut().handles;
            handles.forget(rep);
            handles.table().delete(Output::new_own(rep))?;
            Ok(())
        },
    )?;
    streams.func_wrap(
        "[method]output-stream.check-write",
        |mut store: Store<'_>, (stream,): (Output,)| {
            charge(&mut store, 0)?;
            let room = HostOutputStream::check_write(store.data_mut().table(), stream);
            Ok((told(&mut store, room)?,))
        },
    )?;
    streams.func_wrap(
        "[method]output-stream.subscribe",
        |mut store: Store<'_>, (stream,): (Output,)| Ok((wait_for(&mut store, stream)?,)),
    )?;
    for (name, waits) in [("write", false), ("blocking-write-and-flush", true)] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            move |mut store: Store<'_>, (stream, bytes): (Output, Vec<u8>)| {
                Ok((write(&mut store, stream, bytes, waits)?,))
            },
        )?;
    }
    for (name, waits) in [("write-zeroes", false), ("blocking-write-zeroes-and-flush", true)] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            move |mut store: Store<'_>, (stream, bytes): (Output, u64)| {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                if bytes > LOG_LINE_BYTES_MAX {
                    // Such a write is made at once, so there has to be a bound to it.
                    let message = format!("more than {LOG_LINE_BYTES_MAX} zeroes in one write");
                    return Err(Stop::new(Code::HostcallLimit, message).into());
                }
                Ok((write(&mut store, stream, vec![0; bytes], waits)?,))
            },
        )?;
    }
    for (name, waits) in [("flush", false), ("blocking-flush", true)] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            move |mut store: Store<'_>, (stream,): (Output,)| {
                charge(&mut store, 0)?;
                let flushed = if waits {
                    drive(store.data_mut(), |table| {
                        Box::pin(HostOutputStream::blocking_flush(table, stream))
                    })?
                } else {
                    HostOutputStream::flush(store.data_mut().table(), stream)
                };
                Ok((told(&mut store, flushed)?,))
            },
        )?;
    }
    Ok(())
}

fn link_splice(streams: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    for (name, waits) in [("splice", false), ("blocking-splice", true)] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            move |mut store: Store<'_>, (to, from, bytes): (Output, Input, u64)| {
                let room = HostOutputStream::check_write(store.data_mut().table(), borrow(&to));
                let room = match told(&mut store, room)? {
                    Ok(room) => room.min(bytes),
                    Err(error) => return Ok((Err(error),)),
                };
                let read = match read(&mut store, from, room, waits)? {
                    Ok(read) => read,
                    Err(error) => return Ok((Err(error),)),
                };
                let count = read.len() as u64;
                Ok((write(&mut store, to, read, false)?.map(|()| count),))
            },
        )?;
    }
    Ok(())
}

fn borrow(stream: &Output) -> Output {
    Resource::new_borrow(stream.rep())
}
