//! A process per task: fork, the child writes to one page and exits, the parent waits.
//!
//! It runs in a helper process that holds nothing but the memory in question, because a fork pays
//! for all memory that its process has touched, and for this one that is all the other contenders'.

#![expect(unsafe_code, reason = "fork is not a safe function")]

use std::hint::black_box;
use std::io;
use std::time::Instant;

use super::MIB;
use super::helper::{Helper, serve};
use crate::race::nanos;

/// The word by which the benchmark's program knows that it is the helper.
pub const COMMAND: &str = "fork-helper";

const PAGE_BYTES: usize = 4096;

/// Starts the helper, which holds that much memory.
///
/// # Errors
///
/// When this program can't be started again.
pub fn start(mib: usize) -> io::Result<Helper> {
    Helper::start(std::env::current_exe()?, [COMMAND, &mib.to_string()])
}

/// What the helper does.
///
/// # Errors
///
/// When its pipes break.
pub fn help(mib: usize) -> io::Result<()> {
    let mut memory = vec![0_u8; mib * MIB];
    memory.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
    let mut page = 0;
    serve(move || {
        page = (page + PAGE_BYTES) % memory.len();
        let start = Instant::now();
        fork_and_wait(&mut memory[page]);
        nanos(start.elapsed())
    })
}

fn fork_and_wait(byte: &mut u8) {
    // SAFETY: this process has one thread, so the child finds no lock held by a thread that it
    // lacks; it only writes a byte of its own memory and leaves by `_exit`, which runs no code of
    // ours.
    let child = unsafe { libc::fork() };
    if child == 0 {
        *black_box(byte) = 2;
        // SAFETY: has no preconditions and does not return.
        unsafe { libc::_exit(0) }
    }
    assert!(child > 0, "fork: {}", io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: `child` is a child of this process that nobody else waits for, `status` is writable.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(waited == child && status == 0, "waitpid: {}", io::Error::last_os_error());
}
