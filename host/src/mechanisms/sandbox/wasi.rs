//! The part of WASI that makes sense inside a transaction: printing, the clock, random numbers, an
//! empty environment. No sockets, no waiting for time; files are resources.
//!
//! The functions are wasmtime-wasi's own; this module gives them the transaction's clock and
//! entropy and the log as output, and replaces what would block. Streams, what waits for them, and
//! files are in [`super::calls`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::TryRng;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use super::crash::Stop;
use super::state::{SharedDiary, StoreState};
use crate::base::error::Code;
use crate::base::limits::{ENTROPY_BYTES_MAX, LOG_LINE_BYTES_MAX};

/// A context that prints into `diary` and shows the time of `clock`.
pub(super) fn context(diary: &SharedDiary, clock: &Arc<AtomicU64>) -> WasiCtx {
    WasiCtxBuilder::new()
        .stdout(Printer { diary: diary.clone(), error: false })
        .stderr(Printer { diary: diary.clone(), error: true })
        .wall_clock(FrozenClock(clock.clone()))
        .monotonic_clock(FrozenClock(clock.clone()))
        .secure_random(GuestRandom(diary.clone()))
        .insecure_random(GuestRandom(diary.clone()))
        .insecure_random_seed(0)
        .max_random_size(ENTROPY_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// Links WASI, and replaces the functions that wait.
///
/// # Errors
///
/// What the linker says.
pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    let waiting = || {
        let message = "waiting is not possible inside a transaction: its clock stands still";
        Stop::new(Code::HostcallUnsupported, message)
    };
    for version in WASI_VERSIONS {
        let mut clocks = linker.instance(&format!("wasi:clocks/monotonic-clock@{version}"))?;
        for name in ["subscribe-instant", "subscribe-duration"] {
            clocks.func_wrap(name, move |_store, (_when,): (u64,)| {
                wasmtime::Result::<(Resource<DynPollable>,)>::Err(waiting().into())
            })?;
        }
        let mut seed = linker.instance(&format!("wasi:random/insecure-seed@{version}"))?;
        seed.func_wrap("insecure-seed", |mut store, ()| {
            let state: &mut StoreState = store.data_mut();
            state.count_host_call()?;
            Ok((state.diary.with(|diary| (diary.entropy.next_u64(), diary.entropy.next_u64())),))
        })?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

type DynPollable = wasmtime_wasi::p2::DynPollable;

/// The versions of WASI 0.2 under which wasmtime-wasi registers its functions.
pub(super) const WASI_VERSIONS: [&str; 1] = ["0.2.12"];

#[derive(Debug)]
struct FrozenClock(Arc<AtomicU64>);

impl HostWallClock for FrozenClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl HostMonotonicClock for FrozenClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct GuestRandom(SharedDiary);

impl TryRng for GuestRandom {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0.with(|diary| diary.entropy.next_u64()))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Self::Error> {
        self.0.with(|diary| diary.entropy.fill(buffer));
        Ok(())
    }
}

/// Standard output or error, as lines of the log. Never blocks.
#[derive(Clone)]
struct Printer {
    diary: SharedDiary,
    error: bool,
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only the older interface, which isn't linked, asks for this form.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
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
