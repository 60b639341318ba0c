//! Standard output and error as the host's streams, for guests without the feature `lean`.

#![expect(unsafe_code, reason = "wasi-libc is C")]

use std::ffi::c_int;

unsafe extern "C" {
    fn write(descriptor: c_int, bytes: *const u8, length: usize) -> isize;
}

/// Makes wasi-libc acquire the handles of the standard streams, which it otherwise does on first
/// use.
///
/// It keeps their numbers in memory, and memory outlives the instance: every instance has to
/// acquire the same ones in the same order, before the guest's own code does.
pub(crate) fn acquire() {
    for descriptor in [1, 2] {
        // SAFETY: no byte is read through the pointer, and it is not null.
        let _nothing_written = unsafe { write(descriptor, std::ptr::dangling(), 0) };
    }
}
