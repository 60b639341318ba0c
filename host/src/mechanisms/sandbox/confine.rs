//! Takes from the compiler's process what it doesn't need, before it looks at a stranger's bytes.
//!
//! A mistake in a parser or a compiler must not give a guest more than the guest has. So the
//! process keeps its standard streams, memory, threads of its own and the time; files, sockets,
//! other programs and other processes are out of its reach, and no setuid program would help it.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

/// What the process may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// Time of the processor, in seconds.
    pub cpu_seconds: u64,
}

/// System calls that need no look at their arguments: memory, threads, waiting, open descriptors.
const ALLOWED: [libc::c_long; 27] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
];

/// Confines this process for good.
///
/// # Errors
///
/// What can't be had, in the system's words: a kernel, or a container around it, may not let a
/// process filter its own system calls. Limits of time and memory hold then all the same.
pub fn confine(bounds: Bounds) -> Result<(), String> {
    // Whoever asked for the code may be killed: nobody else wants it.
    let orphaned = set_parent_process_death_signal(Some(Signal::KILL));
    orphaned.map_err(|error| format!("prctl: {error}"))?;
    let limit = |resource, maximum| {
        let rlimit = Rlimit { current: Some(maximum), maximum: Some(maximum) };
        setrlimit(resource, rlimit).map_err(|error| format!("setrlimit: {error}"))
    };
    limit(Resource::As, bounds.memory_bytes)?;
    limit(Resource::Cpu, bounds.cpu_seconds)?;
    limit(Resource::Core, 0)?;
    let filter = filter().map_err(|error| format!("seccomp: {error}"))?;
    // Sets no_new_privs, too.
    apply_filter_all_threads(&filter).map_err(|error| format!("seccomp: {error}"))
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&number| (number, Vec::new())).collect();
    rules.insert(libc::SYS_write, Vec::new());
    rules.insert(libc::SYS_writev, Vec::new());
    // Threads, and no processes. What can't be looked into, `clone3`, is as if it did not exist:
    // then the C library takes this one.
    let thread = u64::try_from(libc::CLONE_THREAD).unwrap_or_default();
    rules.insert(libc::SYS_clone, vec![only(0, LONG, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // An abort is a signal that a process sends itself.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![only(0, INT, SeccompCmpOp::Eq, own)?]);
    // Asked for the size of a stack; of itself alone.
    rules.insert(libc::SYS_prlimit64, vec![only(0, INT, SeccompCmpOp::Eq, 0)?]);
    let refused = SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or_default());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()
}

const INT: SeccompCmpArgLen = SeccompCmpArgLen::Dword;
const LONG: SeccompCmpArgLen = SeccompCmpArgLen::Qword;

/// A rule on one argument of a system call.
fn only(
    argument: u8,
    size: SeccompCmpArgLen,
    compare: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, size, compare, value)?])
}
