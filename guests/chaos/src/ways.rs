//! The ways to die.

use guest_sdk::prelude::*;

/// A way to die.
#[data]
#[serde(rename_all = "snake_case")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// Executes `unreachable`.
    Unreachable,
    /// Writes outside its memory.
    OutOfBounds,
    /// Divides by zero without looking.
    DivideByZero,
    /// Calls itself without end.
    StackOverflow,
    /// Computes without end.
    Spin,
    /// Allocates until there is no more.
    Allocate,
    /// Grows its memory until that fails.
    Grow,
    /// Panics.
    Panic,
    /// Writes to both standard streams, then panics.
    PrintThenPanic,
    /// Dies after the first half of a move between two balances.
    HalfMoved,
    /// Returns as if nothing were wrong, with a host resource left open.
    LeakHandle,
    /// Calls the host without end.
    HostcallStorm,
}

impl How {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Unreachable,
        Self::OutOfBounds,
        Self::DivideByZero,
        Self::StackOverflow,
        Self::Spin,
        Self::Allocate,
        Self::Grow,
        Self::Panic,
        Self::PrintThenPanic,
        Self::HalfMoved,
        Self::LeakHandle,
        Self::HostcallStorm,
    ];
}

/// Dies. Only [`How::LeakHandle`] returns.
#[cfg(not(target_family = "wasm"))]
#[expect(clippy::panic, reason = "a native process has only this way that a test survives")]
pub(crate) fn die(how: How) {
    if how != How::LeakHandle {
        panic!("died on request: {how:?}");
    }
}

#[cfg(target_family = "wasm")]
pub(crate) use wasm::die;

#[cfg(target_family = "wasm")]
#[expect(clippy::panic, reason = "that is what the guest is for")]
mod wasm {
    use core::arch::wasm32;
    use std::hint::black_box;
    use std::num::NonZeroU32;

    use guest_sdk::prelude::*;

    use super::How;

    #[expect(unsafe_code, reason = "the one import that nothing in the SDK makes")]
    #[link(wasm_import_module = "wasi:cli/stdout@0.2.0")]
    unsafe extern "C" {
        /// Answers the handle of a stream, owned from then on.
        #[link_name = "get-stdout"]
        safe fn get_stdout() -> i32;
    }

    const ALLOCATION_BYTES: usize = 64 * 1024;

    /// Dies. Only [`How::LeakHandle`] returns.
    pub(crate) fn die(how: How) {
        match how {
            How::Unreachable | How::HalfMoved => wasm32::unreachable(),
            How::OutOfBounds => write_out_of_bounds(),
            How::DivideByZero => divide_by_zero(),
            How::StackOverflow => {
                black_box(recurse(black_box(0)));
            }
            How::Spin => loop {
                black_box(0);
            },
            How::Allocate => loop {
                black_box(vec![1_u8; ALLOCATION_BYTES].leak());
            },
            How::Grow => {
                while wasm32::memory_grow::<0>(1) != usize::MAX {}
                wasm32::unreachable()
            }
            How::Panic => panic!("died on request"),
            How::PrintThenPanic => {
                println!("about to panic");
                eprintln!("about to panic, on standard error");
                panic!("died on request, after printing");
            }
            How::LeakHandle => {
                black_box(get_stdout());
            }
            How::HostcallStorm => loop {
                black_box(clock::now());
            },
        }
    }

    #[expect(unsafe_code, reason = "safe Rust has no such access")]
    fn write_out_of_bounds() {
        let outside = black_box(usize::MAX - 7) as *mut u64;
        // SAFETY: unsound on purpose. No linear memory reaches to its last byte, so the access
        // traps before it touches anything.
        unsafe { outside.write_volatile(1) };
    }

    #[expect(unsafe_code, reason = "safe Rust looks before it divides")]
    fn divide_by_zero() {
        // SAFETY: unsound on purpose. `black_box` hides the value from the compiler, so it emits
        // the division, and that traps.
        let zero = unsafe { NonZeroU32::new_unchecked(black_box(0)) };
        black_box(black_box(7) / zero);
    }

    #[expect(unconditional_recursion, reason = "that is what it is for")]
    fn recurse(depth: u64) -> u64 {
        let frame = black_box([depth; 16]);
        recurse(depth + 1).wrapping_add(frame.iter().sum())
    }
}
