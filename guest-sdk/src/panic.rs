//! A guest's last words.
//!
//! A panic tells the host its message and place, then traps; the transaction is rolled back.
//! Without this hook std would print to standard error, and the host would only see a trap.

use std::fmt::{self, Write as _};
use std::panic::PanicHookInfo;

use crate::text::Text;

/// Makes every later panic tell the host. The hook is a plain function, so nothing is allocated.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(tell_host));
}

fn tell_host(info: &PanicHookInfo<'_>) {
    let mut words = Text::new();
    // Writing fails when there is no room left, and then it is long enough.
    let _cut = write_words(&mut words, info);
    crate::host::panicked(words.as_str());
    // Ends the instance at once: the state is going to be put back, so nothing needs unwinding.
    core::arch::wasm32::unreachable()
}

fn write_words(words: &mut Text, info: &PanicHookInfo<'_>) -> fmt::Result {
    words.write_str(info.payload_as_str().unwrap_or("panicked"))?;
    match info.location() {
        Some(location) => write!(words, " ({}:{})", location.file(), location.line()),
        None => Ok(()),
    }
}
