//! The directories of a guest that reads files with std.

#![expect(unsafe_code, reason = "wasi-libc is C")]

unsafe extern "C" {
    safe fn __wasilibc_populate_preopens();
}

/// Makes wasi-libc acquire the handle of `/`, which it otherwise does on first use.
///
/// It keeps the number in memory, and memory outlives the instance: every instance has to acquire
/// it again, before the guest's own code does.
pub(crate) fn acquire() {
    __wasilibc_populate_preopens();
}
