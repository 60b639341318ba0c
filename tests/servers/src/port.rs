//! Ports for servers that tests start.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the system gives to clients. A port of theirs may be taken while its server is
/// down; and who connects again and again to one that nobody listens on reaches itself one day.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// How many ports are tried: other tests may take one between the look and the server's start.
const TRIES: u32 = 50;

/// Starts something on a port that is free.
///
/// # Panics
///
/// With the last reason, when it starts on none.
pub(crate) fn on_free_port<T>(what: &str, start: impl Fn(u16) -> Result<T, String>) -> T {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut last = "no port is free".to_owned();
    for _ in 0..TRIES {
        let own = std::process::id().wrapping_mul(97);
        let number = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let Ok(port) = u16::try_from(FIRST + number % COUNT) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            continue;
        }
        match start(port) {
            Ok(started) => return started,
            Err(error) => last = error,
        }
    }
    panic!("{what} does not start: {last}")
}
