//! The host, through the imports of the world.

use crate::bindings::bulkhead::guest as world;
use crate::log::Level;

pub(crate) fn log(level: Level, target: &str, message: &str) {
    let level = match level {
        Level::Trace => world::log::Level::Trace,
        Level::Debug => world::log::Level::Debug,
        Level::Info => world::log::Level::Info,
        Level::Warn => world::log::Level::Warn,
        Level::Error => world::log::Level::Error,
    };
    world::log::write(level, target, message);
}

pub(crate) fn panicked(message: &str) {
    world::log::panicked(message);
}

pub(crate) fn now() -> u64 {
    world::clock::now()
}

pub(crate) fn random() -> u64 {
    world::entropy::next()
}

pub(crate) fn request_id() -> String {
    world::context::request_id()
}

pub(crate) fn correlation_id() -> String {
    world::context::correlation_id()
}

pub(crate) fn attempt() -> u32 {
    world::context::attempt()
}

pub(crate) fn generation() -> u64 {
    world::context::generation()
}

pub(crate) fn handover_write(bytes: &[u8]) {
    world::handover::write(bytes);
}

pub(crate) fn handover_read(max: usize) -> Vec<u8> {
    world::handover::read(u32::try_from(max).unwrap_or(u32::MAX))
}

/// From the next commit on these bytes are shown; none for nothing. They must stay where they are.
pub(crate) fn show(bytes: &[u8]) {
    // On wasm32 both fit; a buffer of zero bytes has no address worth telling.
    let address = u32::try_from(bytes.as_ptr().addr()).unwrap_or(u32::MAX);
    world::outputs::show(address, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
}

pub(crate) fn look(daemon: &str) -> Option<(u64, u32)> {
    world::outputs::look(daemon).map(|version| (version.sequence, version.size))
}

pub(crate) fn read_output(daemon: &str, offset: u32, max: u32) -> Vec<u8> {
    world::outputs::read(daemon, offset, max)
}
