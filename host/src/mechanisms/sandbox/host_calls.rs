//! The functions of `bulkhead:guest` that guests may call.
//!
//! Each call costs fuel in proportion to what it does, besides a count per transaction; arguments
//! are copied out of the guest once, under wasmtime's hostcall fuel, before they are looked at.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::bindings::{WitLevel, WitOutput, WitVersion};
use super::state::{Level, StoreState};
use crate::base::error::printable;
use crate::base::limits::{HOSTCALL_FUEL, HOSTCALL_FUEL_PER_BYTE, MESSAGE_BYTES_MAX};

/// The version of the interfaces, as in `wit/guest.wit`.
pub(super) const VERSION: &str = "0.1.0";

pub(super) type Store<'a> = StoreContextMut<'a, StoreState>;

/// Links the functions.
///
/// # Errors
///
/// What the linker says.
pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    // An interface of types alone: nothing to define, but the name must be there.
    linker.instance(&format!("bulkhead:guest/types@{VERSION}"))?;
    link_log(linker)?;
    link_context(linker)?;
    link_handover(linker)?;
    link_outputs(linker)?;
    let mut clock = linker.instance(&format!("bulkhead:guest/clock@{VERSION}"))?;
    clock.func_wrap("now", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data().diary.with(|diary| diary.context.unix_nanos),))
    })?;
    let mut entropy = linker.instance(&format!("bulkhead:guest/entropy@{VERSION}"))?;
    entropy.func_wrap("next", |mut store: Store<'_>, ()| {
        charge(&mut store, 8)?;
        Ok((store.data().diary.with(|diary| diary.entropy.next_u64()),))
    })
}

fn link_log(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut log = linker.instance(&format!("bulkhead:guest/log@{VERSION}"))?;
    log.func_wrap(
        "write",
        |mut store: Store<'_>, (level, target, message): (WitLevel, String, String)| {
            charge(&mut store, target.len() + message.len())?;
            let level = match level {
                WitLevel::Trace => Level::Trace,
                WitLevel::Debug => Level::Debug,
                WitLevel::Info => Level::Info,
                WitLevel::Warn => Level::Warn,
                WitLevel::Error => Level::Error,
            };
            store.data().diary.with(|diary| diary.log(level, &target, &message));
            Ok(())
        },
    )?;
    log.func_wrap("print", |mut store: Store<'_>, (to, bytes): (WitOutput, Vec<u8>)| {
        charge(&mut store, bytes.len())?;
        store.data().diary.with(|diary| diary.print(to == WitOutput::Stderr, &bytes));
        Ok(())
    })?;
    log.func_wrap("panicked", |mut store: Store<'_>, (message,): (String,)| {
        charge(&mut store, message.len())?;
        let words = printable(&message, MESSAGE_BYTES_MAX);
        store.data().diary.with(|diary| diary.last_words = Some(words));
        Ok(())
    })
}

fn link_context(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut context = linker.instance(&format!("bulkhead:guest/context@{VERSION}"))?;
    context.func_wrap("request-id", |mut store: Store<'_>, ()| {
        charge(&mut store, 16)?;
        Ok((store.data().diary.with(|diary| diary.context.request.to_string()),))
    })?;
    context.func_wrap("correlation-id", |mut store: Store<'_>, ()| {
        charge(&mut store, 16)?;
        Ok((store.data().diary.with(|diary| match &diary.context.correlation {
            Some(correlation) => correlation.to_string(),
            None => diary.context.request.to_string(),
        }),))
    })?;
    context.func_wrap("attempt", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data().diary.with(|diary| diary.context.attempt),))
    })?;
    context.func_wrap("generation", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data().diary.with(|diary| diary.generation.0),))
    })
}

fn link_handover(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut handover = linker.instance(&format!("bulkhead:guest/handover@{VERSION}"))?;
    handover.func_wrap("write", |mut store: Store<'_>, (bytes,): (Vec<u8>,)| {
        charge(&mut store, bytes.len())?;
        Ok(store.data_mut().passage.write(bytes)?)
    })?;
    handover.func_wrap("read", |mut store: Store<'_>, (max,): (u32,)| {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let bytes = store.data_mut().passage.read(max)?;
        charge(&mut store, bytes.len())?;
        Ok((bytes,))
    })
}

fn link_outputs(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut outputs = linker.instance(&format!("bulkhead:guest/outputs@{VERSION}"))?;
    outputs.func_wrap("show", |mut store: Store<'_>, (address, size): (u32, u32)| {
        charge(&mut store, 0)?;
        store.data_mut().shown = Some((address, size));
        Ok(())
    })?;
    outputs.func_wrap("look", |mut store: Store<'_>, (daemon,): (String,)| {
        charge(&mut store, daemon.len())?;
        let output = store.data_mut().output_of(&daemon)?;
        Ok((output.map(|output| WitVersion {
            sequence: output.sequence.0,
            size: u32::try_from(output.bytes.len()).unwrap_or(u32::MAX),
        }),))
    })?;
    outputs.func_wrap("read", |mut store: Store<'_>, (daemon, offset, max): (String, u32, u32)| {
        let output = store.data_mut().output_of(&daemon)?;
        let bytes = output.map_or(&[][..], |output| &output.bytes);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(offset..).unwrap_or_default();
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let piece = rest.get(..max.min(rest.len())).unwrap_or_default().to_vec();
        charge(&mut store, daemon.len() + piece.len())?;
        Ok((piece,))
    })
}

/// Books a host call that moves `bytes`, in fuel and in the count.
pub(super) fn charge(store: &mut Store<'_>, bytes: usize) -> wasmtime::Result<()> {
    store.data_mut().count_host_call()?;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let cost = HOSTCALL_FUEL.saturating_add(bytes.saturating_mul(HOSTCALL_FUEL_PER_BYTE));
    match store.get_fuel()?.checked_sub(cost) {
        Some(rest) => store.set_fuel(rest),
        None => {
            store.set_fuel(0)?;
            Err(wasmtime::Trap::OutOfFuel.into())
        }
    }
}
