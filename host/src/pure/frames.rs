//! Backtraces for people: readable names, and no frames of the panic's own machinery.

use crate::base::error::printable;
use crate::base::limits::BACKTRACE_FRAMES_MAX;

/// Bytes of one function's name in a report.
const NAME_BYTES_MAX: usize = 200;

/// What stands between a panic and the trap that ends it, innermost first.
const PANIC_MACHINERY: [&str; 24] = [
    "abort",
    "alloc::alloc::handle_alloc_error",
    "alloc::raw_vec::",
    "barrier::",
    "core::cell::panic",
    "core::ops::function",
    "core::option::",
    "core::panicking",
    "core::result::",
    "core::slice::copy_from_slice",
    "core::slice::index::",
    "core::str::slice_error_fail",
    "guest_sdk::lean::abort",
    "guest_sdk::panic",
    "rust_begin_unwind",
    "rust_panic",
    "std::alloc",
    "std::panicking",
    "std::process::abort",
    "std::rt",
    "std::sys",
    "__rust",
    "__wasilibc",
    "_abort",
];

/// What the checks in collections end with.
const CHECK_FAILED: &str = "assert_failed";

/// The frames that say where it happened, at most [`BACKTRACE_FRAMES_MAX`], from raw names as the
/// guest's name section has them, innermost first.
#[must_use]
pub fn readable(raw: &[String]) -> Vec<String> {
    let names: Vec<String> = raw
        .iter()
        .map(|name| printable(&format!("{:#}", rustc_demangle::demangle(name)), NAME_BYTES_MAX))
        .collect();
    let is_machinery = |name: &String| {
        PANIC_MACHINERY.iter().any(|prefix| name.starts_with(prefix))
            || name.ends_with(CHECK_FAILED)
    };
    let start = names.iter().take_while(|name| is_machinery(name)).count();
    // A backtrace that is nothing else is shown as it is.
    let start = if start == names.len() { 0 } else { start };
    names.into_iter().skip(start).take(BACKTRACE_FRAMES_MAX).collect()
}

/// All frames, from raw names and where in each function's code they are, innermost first. A run
/// of the same frame is one line with a count: what is left of an endless recursion.
#[must_use]
pub fn full(raw: &[String], offsets: &[Option<usize>]) -> Vec<String> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for (index, name) in raw.iter().enumerate() {
        let mut line = printable(&format!("{:#}", rustc_demangle::demangle(name)), NAME_BYTES_MAX);
        if let Some(offset) = offsets.get(index).copied().flatten() {
            line.push_str(&format!(" +{offset:#x}"));
        }
        match lines.last_mut() {
            Some((last, count)) if *last == line => *count += 1,
            _ => lines.push((line, 1)),
        }
    }
    let shown = |(line, count): (String, usize)| match count {
        1 => line,
        _ => format!("{line} ({count} times)"),
    };
    lines.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_backtrace_has_all_frames_and_counts_repeated_ones() {
        let raw = ["_ZN6ledger8transfer17h0123456789abcdefE", "a", "a", "a", "b"];
        let raw: Vec<String> = raw.map(str::to_owned).to_vec();
        let lines = full(&raw, &[None, Some(1), Some(1), Some(32), Some(3)]);
        assert_eq!(lines, ["ledger::transfer", "a +0x1 (2 times)", "a +0x20", "b +0x3"]);
        assert_eq!(full(&raw, &[]), ["ledger::transfer", "a (3 times)", "b"]);
    }

    use crate::base::limits::BACKTRACE_FRAMES_CAPTURED_MAX;

    #[test]
    fn a_backtrace_begins_where_the_guest_panicked() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let panicked = names(&["guest_sdk::panic::tell_host", "core::panicking::panic", "a", "b"]);
        assert_eq!(readable(&panicked), ["a", "b"]);
        let out_of_memory = names(&[
            "barrier::import",
            "abort",
            "__rustc::__rdl_alloc_error_handler",
            "alloc::alloc::handle_alloc_error",
            "alloc::raw_vec::handle_error",
            "alloc::raw_vec::RawVec<T,A>::grow_one",
            "a",
        ]);
        assert_eq!(readable(&out_of_memory), ["a"]);
        let unwound = names(&[
            "guest_sdk::panic::tell_host",
            "std::panicking::panic_with_hook",
            "std::sys::backtrace::__rust_end_short_backtrace",
            "__rustc::rust_begin_unwind",
            "core::panicking::panic_fmt",
            "core::slice::index::slice_index_fail",
            "alloc::vec::Vec<T,A>::remove::assert_failed",
            "b",
            "core::slice::sort::merge",
        ]);
        assert_eq!(readable(&unwound), ["b", "core::slice::sort::merge"]);
        assert_eq!(readable(&names(&["a", "core::panicking::x"])).len(), 2);
        assert_eq!(readable(&names(&["std::sys::x"])).len(), 1);
        let mangled = names(&["_ZN6ledger8transfer17h0123456789abcdefE"]);
        assert_eq!(readable(&mangled), ["ledger::transfer"]);
        let deep = vec!["recurse".to_owned(); BACKTRACE_FRAMES_CAPTURED_MAX];
        assert_eq!(readable(&deep).len(), BACKTRACE_FRAMES_MAX);
    }
}
