//! What the system has to let a host have before it begins: descriptors, threads, memory. One that
//! has too little of them would find that out in the middle of something.

use std::sync::{Arc, Mutex};
use std::thread::Builder;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::error::{Code, Fault};
use crate::base::limits::{
    CLIENTS_MAX, CLIENTS_RESERVED, DESCRIPTORS_MIN, HOST_MEMORY_BYTES, HTTP_CALLS_MAX,
    MEMORY_RESERVATION_BYTES, THREADS_MIN,
};

/// Takes as many descriptors as the system lets this process have, and looks whether these, its
/// threads and its memory are enough to begin.
///
/// # Errors
///
/// `E_PROCESS_LIMIT`, `E_NO_MEM`.
pub(super) fn take() -> Result<(), Fault> {
    let limit = getrlimit(Resource::Nofile);
    // What it has may be enough.
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok();
    let files = descriptors();
    if files < DESCRIPTORS_MIN {
        let message = format!(
            "the host may open {files} files and needs {DESCRIPTORS_MIN}: ulimit -n, or \
             LimitNOFILE="
        );
        return Err(Fault::new(Code::ProcessLimit, message));
    }
    let memory = getrlimit(Resource::Data).current.map_or(usize::MAX, clamped);
    if memory < HOST_MEMORY_BYTES {
        let message = format!(
            "the host may have {memory} bytes of data and needs {HOST_MEMORY_BYTES}, and the \
             budgets: ulimit -d"
        );
        return Err(Fault::new(Code::NoMemory, message));
    }
    let space = getrlimit(Resource::As).current.map_or(usize::MAX, clamped);
    if space < MEMORY_RESERVATION_BYTES {
        let message = format!(
            "the host may have {space} bytes of address space, and each daemon takes more than \
             {MEMORY_RESERVATION_BYTES}: ulimit -v"
        );
        return Err(Fault::new(Code::NoMemory, message));
    }
    threads().map_err(|error| {
        let message = format!(
            "the host can't start {THREADS_MIN} threads ({error}): ulimit -u, or TasksMax="
        );
        Fault::new(Code::ProcessLimit, message)
    })
}

/// Starts so many threads at once, and lets them go.
fn threads() -> std::io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock();
    let one = |_| {
        let gate = gate.clone();
        // They do nothing but wait, for which the smallest stack is enough.
        Builder::new().stack_size(16 << 10).spawn(move || drop(gate.lock()))
    };
    let started = (0..THREADS_MIN).map(one).collect::<std::io::Result<Vec<_>>>();
    drop(shut);
    started?.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

/// Files that this process may have open.
fn descriptors() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, clamped)
}

fn clamped(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Calls over HTTP that there may be: half of the descriptors are for the rest.
pub(super) fn http_calls() -> usize {
    (descriptors() / 2).clamp(1, HTTP_CALLS_MAX)
}

/// Clients of the socket that there may be: a quarter of the descriptors, where there are few.
pub(super) fn clients() -> usize {
    (descriptors() / 4).clamp(1, CLIENTS_MAX + CLIENTS_RESERVED)
}
