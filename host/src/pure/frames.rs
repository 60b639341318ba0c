//! Backtraces for people: readable names, and no frames of the panic's own machinery.

use crate::base::error::printable;
use crate::base::limits::BACKTRACE_FRAMES_MAX;

/// Bytes of one function's name in a report.
const NAME_BYTES_MAX: usize = 200;

/// What stands between a panic and the trap that ends it, innermost first.
const PANIC_MACHINERY: [&str; 12] = [
    "abort",
    "alloc::alloc::handle_alloc_error",
    "core::ops::function",
    "core::option::",
    "core::panicking",
    "core::result::",
    "guest_sdk::panic",
    "std::alloc",
    "std::panicking",
    "std::process::abort",
    "std::sys",
    "__rustc",
];

/// The frames that say where it happened, at most [`BACKTRACE_FRAMES_MAX`], from raw names as the
/// guest's name section has them, innermost first.
#[must_use]
pub fn readable(raw: &[String]) -> Vec<String> {
    let names: Vec<String> = raw
        .iter()
        .map(|name| printable(&format!("{:#}", rustc_demangle::demangle(name)), NAME_BYTES_MAX))
        .collect();
    let is_machinery =
        |name: &String| PANIC_MACHINERY.iter().any(|prefix| name.starts_with(prefix));
    let start = names.iter().take_while(|name| is_machinery(name)).count();
    // A backtrace that is nothing else is shown as it is.
    let start = if start == names.len() { 0 } else { start };
    names.into_iter().skip(start).take(BACKTRACE_FRAMES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::BACKTRACE_FRAMES_CAPTURED_MAX;

    #[test]
    fn a_backtrace_begins_where_the_guest_panicked() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let panicked = names(&["guest_sdk::panic::tell_host", "core::panicking::panic", "a", "b"]);
        assert_eq!(readable(&panicked), ["a", "b"]);
        assert_eq!(readable(&names(&["a", "core::panicking::x"])).len(), 2);
        assert_eq!(readable(&names(&["std::sys::x"])).len(), 1);
        let mangled = names(&["_ZN6ledger8transfer17h0123456789abcdefE"]);
        assert_eq!(readable(&mangled), ["ledger::transfer"]);
        let deep = vec!["recurse".to_owned(); BACKTRACE_FRAMES_CAPTURED_MAX];
        assert_eq!(readable(&deep).len(), BACKTRACE_FRAMES_MAX);
    }
}
