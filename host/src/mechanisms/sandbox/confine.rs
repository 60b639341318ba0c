//! Takes from the compiler's process what it doesn't need, before it looks at a stranger's bytes.
//!
//! A mistake in a parser or a compiler must not give a guest more than the guest has. So the
//! process keeps its standard streams, memory, threads of its own and the time; files, sockets,
//! other programs and other processes are out of its reach, and no setuid program would help it.

use std::collections::BTreeMap;

use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::set_no_new_privs;
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

/// Confines this process for good. Each step is tried, whatever became of the others.
///
/// # Errors
///
/// What can't be had, in the system's words: a kernel, or a container around it, may not let a
/// process filter its own system calls. The rest holds then all the same.
pub fn confine(bounds: Bounds) -> Result<(), String> {
    let steps = [
        // Whoever asked for the code may be killed: nobody else wants it.
        named("prctl", set_parent_process_death_signal(Some(Signal::KILL))),
        named("setrlimit", lower(Resource::As, bounds.memory_bytes)),
        named("setrlimit", lower(Resource::Cpu, bounds.cpu_seconds)),
        named("setrlimit", lower(Resource::Core, 0)),
        // The filter would set it, too, if there is to be one.
        named("prctl", set_no_new_privs(true)),
        // Last: after it no limit can be set.
        named("seccomp", filter().map_err(Into::into).and_then(|f| apply_filter_all_threads(&f))),
    ];
    let missing: Vec<String> = steps.into_iter().filter_map(Result::err).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

fn named<E: std::fmt::Display>(call: &str, result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| format!("{call}: {error}"))
}

/// Sets a limit for good. One that is lower already stays: asking for more than the hard limit is
/// an error, and asking for more than the soft one is not why this is called.
fn lower(resource: Resource, maximum: u64) -> rustix::io::Result<()> {
    let at_most = |limit: Option<u64>| Some(limit.map_or(maximum, |limit| limit.min(maximum)));
    let Rlimit { current, maximum: hard } = getrlimit(resource);
    setrlimit(resource, Rlimit { current: at_most(current), maximum: at_most(hard) })
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
    // Asked for the size of a stack. Only of itself, and without new limits: it keeps those that it
    // has.
    let itself = SeccompCondition::new(0, INT, SeccompCmpOp::Eq, 0)?;
    let no_new_limits = SeccompCondition::new(2, LONG, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![itself, no_new_limits])?]);
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
