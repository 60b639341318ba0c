//! Keeps WASI out of guests that do not use it.
//!
//! std's own panic handler can print and reads `RUST_BACKTRACE`, and it is linked into every guest.
//! In wasi-libc that drags in the environment, the standard streams, the terminals, polling: twenty
//! imports, each of which costs at every restart, and resource handles that would have to be
//! acquired again each time. This module defines the few C functions through which std gets there,
//! so that the linker never asks wasi-libc for them: printing goes to the host's log, the
//! environment is empty, aborting traps, and std's clocks are the host's. What a guest uses beyond
//! that (files, sockets, the seed of a `HashMap`) still comes from wasi-libc and std, with its
//! imports.
//!
//! Files can't be written this way, since that is the same C function as printing. No host lets
//! guests do that.

#![expect(unsafe_code, reason = "these are the C functions that std calls")]

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::fmt::Write as _;
use std::slice;

use crate::bindings::bulkhead::guest::log::{self, Output};
use crate::text::Text;

/// wasi-libc's number for a descriptor that is not open.
const EBADF: c_int = 8;

unsafe extern "C" {
    safe fn __errno_location() -> *mut c_int;
}

thread_local! {
    /// The line of standard error that was written last. std says there why it is about to abort.
    static LAST_LINE: RefCell<Text> = const { RefCell::new(Text::new()) };
}

/// One piece of a gathered write, as in `<sys/uio.h>`.
#[repr(C)]
struct IoVec {
    bytes: *const u8,
    length: usize,
}

/// A moment, as in `<time.h>`.
#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: c_long,
}

/// Prints to the host's log; other descriptors are not open.
///
/// # Safety
///
/// `bytes` points to `length` bytes, as `write` of C asks for.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, bytes: *const u8, length: usize) -> isize {
    let output = match descriptor {
        1 => Output::Stdout,
        2 => Output::Stderr,
        _ => return not_open(),
    };
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller vouches for pointer and length.
    let bytes = unsafe { slice::from_raw_parts(bytes, length) };
    if output == Output::Stderr {
        // std's advice to set a variable, which a guest has not.
        if bytes.starts_with(b"note: run with `RUST_BACKTRACE") {
            return length.cast_signed();
        }
        LAST_LINE.with_borrow_mut(|line| line.push_printed(bytes));
    }
    log::print(output, bytes);
    length.cast_signed()
}

/// Writes the first piece that is not empty, which is allowed: callers repeat the rest.
///
/// # Safety
///
/// `pieces` points to `count` pieces, each of which points to its bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(descriptor: c_int, pieces: *const IoVec, count: c_int) -> isize {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller vouches for pointer and count.
    let pieces = unsafe { slice::from_raw_parts(pieces, count) };
    match pieces.iter().find(|piece| piece.length > 0) {
        // SAFETY: the caller vouches for each piece.
        Some(piece) => unsafe { write(descriptor, piece.bytes, piece.length) },
        None => 0,
    }
}

/// There are no environment variables.
#[unsafe(no_mangle)]
extern "C" fn getenv(_name: *const c_char) -> *mut c_char {
    std::ptr::null_mut()
}

/// There are no environment variables; std reads null as an empty list.
#[unsafe(no_mangle)]
extern "C" fn __wasilibc_get_environ() -> *mut *mut c_char {
    std::ptr::null_mut()
}

/// Traps, with the last line of standard error for the host: std says there what is wrong.
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    let mut words = Text::new();
    let _cut = LAST_LINE.with_borrow(|line| match line.as_str().trim() {
        "" => words.write_str("aborted"),
        line => write!(words, "aborted, having printed: {line}"),
    });
    crate::host::panicked(words.as_str());
    core::arch::wasm32::unreachable()
}

/// Traps: a daemon is not the guest's to end.
#[unsafe(no_mangle)]
extern "C" fn exit(_code: c_int) -> ! {
    crate::host::panicked("the guest called exit");
    core::arch::wasm32::unreachable()
}

/// Tells the time of the transaction, whichever clock is asked for.
///
/// # Safety
///
/// `time` points to a `timespec`, as `clock_gettime` of C asks for.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(_clock: *const c_void, time: *mut TimeSpec) -> c_int {
    const NANOS: u64 = 1_000_000_000;
    let now = crate::host::now();
    // A remainder of that division fits in 32 bits.
    let (seconds, nanoseconds) = ((now / NANOS).cast_signed(), (now % NANOS) as c_long);
    // SAFETY: the caller vouches for the pointer.
    unsafe { time.write(TimeSpec { seconds, nanoseconds }) };
    0
}

fn not_open() -> isize {
    // SAFETY: wasi-libc answers where its error number is, which lives as long as the program.
    unsafe { __errno_location().write(EBADF) };
    -1
}
