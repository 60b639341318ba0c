//! The part of WASI that makes sense inside a transaction: printing, the clock, random numbers, an
//! empty environment. No sockets, no waiting for time; files are resources.
//!
//! All that a guest can call is defined here and in [`super::calls`], and charged like the host's
//! other functions: nothing comes from wasmtime-wasi but types. What each function answers is what
//! that has for a program without directories, environment and network.

mod sockets;

use bytes::Bytes;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, Error as IoError};

use super::crash::Stop;
use super::handles::Kept;
use super::host_calls::{Store, charge};
use super::state::{SharedDiary, StoreState};
use crate::base::error::Code;
use crate::base::limits::{ENTROPY_BYTES_MAX, LOG_LINE_BYTES_MAX};

/// The versions of WASI 0.2 under which functions are registered: the newest, which the engine
/// takes for the older ones, too.
pub(super) const WASI_VERSIONS: [&str; 1] = ["0.2.12"];

const NANOS: u64 = 1_000_000_000;

/// Links these parts of WASI.
///
/// # Errors
///
/// What the linker says.
pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    for version in WASI_VERSIONS {
        link_environment(linker, version)?;
        link_standard_streams(linker, version)?;
        link_terminals(linker, version)?;
        link_clocks(linker, version)?;
        link_random(linker, version)?;
        sockets::link(linker, version)?;
        link_error(&mut linker.instance(&format!("wasi:io/error@{version}"))?)?;
    }
    Ok(())
}

fn link_environment(linker: &mut Linker<StoreState>, version: &str) -> wasmtime::Result<()> {
    let mut environment = linker.instance(&format!("wasi:cli/environment@{version}"))?;
    environment.func_wrap("get-environment", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((Vec::<String>::new(),))
    })?;
    environment.func_wrap("initial-cwd", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((None::<String>,))
    })?;
    let mut exit = linker.instance(&format!("wasi:cli/exit@{version}"))?;
    exit.func_wrap("exit", |mut store: Store<'_>, (_status,): (Result<(), ()>,)| {
        charge(&mut store, 0)?;
        let message = "a transaction can't end the program: it ends by returning";
        wasmtime::Result::<()>::Err(Stop::new(Code::HostcallUnsupported, message).into())
    })
}

fn link_standard_streams(linker: &mut Linker<StoreState>, version: &str) -> wasmtime::Result<()> {
    let mut stdin = linker.instance(&format!("wasi:cli/stdin@{version}"))?;
    stdin.func_wrap("get-stdin", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        let handles = &mut store.data_mut().handles;
        let stream: DynInputStream = Box::new(ClosedInputStream);
        let stream = handles.table().push(stream)?;
        handles.note(stream.rep(), Kept::Stdin);
        Ok((stream,))
    })?;
    for (name, which) in [("stdout", Kept::Stdout), ("stderr", Kept::Stderr)] {
        let mut output = linker.instance(&format!("wasi:cli/{name}@{version}"))?;
        output.func_wrap(&format!("get-{name}"), move |mut store: Store<'_>, ()| {
            charge(&mut store, 0)?;
            let diary = store.data().diary.clone();
            let handles = &mut store.data_mut().handles;
            let error = which == Kept::Stderr;
            let stream: DynOutputStream = Box::new(Printer { diary, error });
            let stream = handles.table().push(stream)?;
            handles.note(stream.rep(), which);
            Ok((stream,))
        })?;
    }
    Ok(())
}

/// A terminal, of which there is none.
struct Terminal;

fn link_terminals(linker: &mut Linker<StoreState>, version: &str) -> wasmtime::Result<()> {
    for name in ["terminal-input", "terminal-output"] {
        let mut terminal = linker.instance(&format!("wasi:cli/{name}@{version}"))?;
        terminal.resource(name, ResourceType::host::<Terminal>(), |_store, _rep| Ok(()))?;
    }
    for name in ["terminal-stdin", "terminal-stdout", "terminal-stderr"] {
        let mut terminal = linker.instance(&format!("wasi:cli/{name}@{version}"))?;
        terminal.func_wrap(&format!("get-{name}"), |mut store: Store<'_>, ()| {
            charge(&mut store, 0)?;
            Ok((None::<Resource<Terminal>>,))
        })?;
    }
    Ok(())
}

fn link_clocks(linker: &mut Linker<StoreState>, version: &str) -> wasmtime::Result<()> {
    let now = |store: &Store<'_>| store.data().diary.with(|diary| diary.context.unix_nanos);
    let mut wall = linker.instance(&format!("wasi:clocks/wall-clock@{version}"))?;
    wall.func_wrap("now", move |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        let nanos = now(&store);
        let nanoseconds = u32::try_from(nanos % NANOS).unwrap_or_default();
        Ok((Datetime { seconds: nanos / NANOS, nanoseconds },))
    })?;
    wall.func_wrap("resolution", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((Datetime { seconds: 0, nanoseconds: 1 },))
    })?;
    let mut monotonic = linker.instance(&format!("wasi:clocks/monotonic-clock@{version}"))?;
    monotonic.func_wrap("now", move |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((now(&store),))
    })?;
    monotonic.func_wrap("resolution", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((1_u64,))
    })?;
    for name in ["subscribe-instant", "subscribe-duration"] {
        monotonic.func_wrap(name, |mut store: Store<'_>, (_when,): (u64,)| {
            charge(&mut store, 0)?;
            let message = "waiting is not possible inside a transaction: its clock stands still";
            let stop = Stop::new(Code::HostcallUnsupported, message);
            wasmtime::Result::<(Resource<DynPollable>,)>::Err(stop.into())
        })?;
    }
    Ok(())
}

type DynPollable = wasmtime_wasi::p2::DynPollable;

fn link_random(linker: &mut Linker<StoreState>, version: &str) -> wasmtime::Result<()> {
    let next = |store: &Store<'_>| store.data().diary.with(|diary| diary.entropy.next_u64());
    for (interface, kind) in [("random", "random"), ("insecure", "insecure-random")] {
        let mut random = linker.instance(&format!("wasi:random/{interface}@{version}"))?;
        random.func_wrap(
            &format!("get-{kind}-bytes"),
            |mut store: Store<'_>, (len,): (u64,)| {
                let bytes = usize::try_from(len).unwrap_or(usize::MAX);
                charge(&mut store, bytes)?;
                if bytes > ENTROPY_BYTES_MAX {
                    let message = format!("more than {ENTROPY_BYTES_MAX} random bytes in one call");
                    return Err(Stop::new(Code::HostcallLimit, message).into());
                }
                let mut filled = vec![0; bytes];
                store.data().diary.with(|diary| diary.entropy.fill(&mut filled));
                Ok((filled,))
            },
        )?;
        random.func_wrap(&format!("get-{kind}-u64"), move |mut store: Store<'_>, ()| {
            charge(&mut store, 8)?;
            Ok((next(&store),))
        })?;
    }
    let mut seed = linker.instance(&format!("wasi:random/insecure-seed@{version}"))?;
    seed.func_wrap("insecure-seed", move |mut store: Store<'_>, ()| {
        charge(&mut store, 16)?;
        Ok(((next(&store), next(&store)),))
    })
}

fn link_error(errors: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    errors.resource("error", ResourceType::host::<IoError>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<IoError>::new_own(rep))?;
        Ok(())
    })?;
    errors.func_wrap(
        "[method]error.to-debug-string",
        |mut store: Store<'_>, (error,): (Resource<IoError>,)| {
            let text = format!("{:?}", store.data_mut().table().get(&error)?);
            charge(&mut store, text.len())?;
            Ok((text,))
        },
    )
}

/// Standard output or error, as lines of the log. Never blocks.
#[derive(Clone)]
struct Printer {
    diary: SharedDiary,
    error: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}

impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.diary.with(|diary| diary.print(self.error, &bytes));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LOG_LINE_BYTES_MAX)
    }
}
