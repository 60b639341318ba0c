//! The compiler's process: what the host says to it, and what it answers.
//!
//! ```text
//!   host                                compiler, confined
//!     -- order, file -------------------> admits and rewrites it
//!     <- what was found, and its key ---   or why it is refused
//!        (looks into its cache)
//!     -- go ----------------------------> compiles it
//!     <- code --------------------------
//! ```
//!
//! The end of standard input in place of "go" says that nothing is to be compiled. A stranger's
//! bytes are parsed in there alone, under limits of time and memory, and whoever waits may kill it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use super::compile::{self, CompileError, CompileMode};
use super::confine::{Bounds, confine};
use super::deploy::DeployError;
use super::engine::{SandboxOptions, config};
use super::prepare::{Prepared, prepare};
use crate::base::children;
use crate::base::error::{Blame, Fault, printable};
use crate::base::limits::{COMPILER_ANSWER_BYTES_MAX, MODULE_BYTES_MAX};
use crate::base::stop::StopLatch;
use crate::pure::admission::MAGIC;

/// What a compiler is told before it gets the file.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Order {
    signals: bool,
    full_backtraces: bool,
    card_shift: u32,
    memory_bytes: u64,
    cpu_seconds: u64,
    /// Bytes of the file.
    bytes: usize,
}

/// What it answers first.
#[derive(Debug, Deserialize, Serialize)]
enum Answer {
    Refused { code: String, message: String },
    Prepared { prepared: Box<Prepared>, key: [u8; 32] },
}

/// What the host has of it in the end.
pub(super) enum Built {
    /// Nothing was to be compiled: the key was known.
    Known,
    Code(Vec<u8>),
}

const GO: u8 = 1;

/// What the compiler's process does: it reads an order and a file from standard input and answers
/// on standard output.
///
/// # Errors
///
/// What the compiler or the system says; a file that is refused is an answer, and no error.
pub fn compile_in_this_process() -> Result<(), CompileError> {
    let io = |error: io::Error| CompileError::Process { program: PathBuf::new(), error };
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let order: Order = receive(&mut input).map_err(io)?;
    let engine = Engine::new(&config(order.signals, order.full_backtraces))
        .map_err(|error| CompileError::Refused(format!("{error:#}")))?;
    let Order { memory_bytes, cpu_seconds, .. } = order;
    if let Err(why) = confine(Bounds { memory_bytes, cpu_seconds }) {
        // It goes on: the limits on time still hold, as the host sees to them.
        eprintln!("not confined: {why}");
    }
    let mut file = Vec::new();
    let bytes = order.bytes.min(MODULE_BYTES_MAX + 1) as u64;
    input.by_ref().take(bytes).read_to_end(&mut file).map_err(io)?;
    let (prepared, rewritten) = match prepare(&file, order.card_shift) {
        Ok(prepared) => prepared,
        Err(error) => {
            let Fault { code, message, .. } = Fault::from(&error);
            let answer = Answer::Refused { code: code.as_str().to_owned(), message };
            return send(&mut output, &answer).map_err(io);
        }
    };
    let key = compile::key(&engine, order.full_backtraces, &rewritten);
    let answer = Answer::Prepared { prepared: Box::new(prepared), key: *key.as_bytes() };
    send(&mut output, &answer).map_err(io)?;
    let mut go = [0];
    if input.read(&mut go).map_err(io)? == 0 {
        return Ok(());
    }
    let code = compile::precompile(&engine, &rewritten)?;
    output.write_all(&code).and_then(|()| output.flush()).map_err(io)
}

/// Has a file admitted, rewritten and, unless `is_known` says that its code is there, compiled.
pub(super) fn build_in_child(
    program: &Path,
    file: &[u8],
    options: &SandboxOptions,
    is_known: impl FnOnce(&blake3::Hash) -> bool + Send,
) -> Result<(Prepared, blake3::Hash, Built), DeployError> {
    let failed = |error| CompileError::Process { program: program.to_owned(), error };
    let _own = children::own();
    let mut child = Command::new(program)
        .arg("compile-guest")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let thread = || Builder::new().name("compiling".to_owned());
        let talk = move || {
            let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            talk(stdin, stdout, file, options, is_known)
        };
        let started = thread().spawn_scoped(scope, talk).and_then(|talk| {
            Ok((talk, thread().spawn_scoped(scope, move || read_all(stderr, 4096))?))
        });
        let (talk, words) = match started {
            Ok(threads) => threads,
            Err(error) => {
                // The machine gives no more threads.
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                return Err(failed(error).into());
            }
        };
        let stop = options.vitals.stop();
        let limits = options.compile_limits;
        let status = wait_at_most(&mut child, limits.time, stop).map_err(failed)?;
        let talked = talk.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let words = String::from_utf8_lossy(&words.join().unwrap_or_default()).into_owned();
        match status {
            None if stop.is_set() => Err(CompileError::Stopped.into()),
            None => {
                let message = format!("it took longer than {:?}", limits.time);
                Err(CompileError::Limit(message).into())
            }
            Some(status) if status.success() => match talked.map_err(failed)? {
                (Answer::Refused { code, message }, _) => Err(refused(file, &code, message)),
                (Answer::Prepared { prepared, key }, built) => {
                    if !words.is_empty() {
                        tracing::warn!(words = printable(words.trim(), 200), "the compiler");
                    }
                    Ok((*prepared, blake3::Hash::from_bytes(key), built))
                }
            },
            Some(status) if status.code() == Some(1) => {
                Err(CompileError::Refused(printable(words.trim(), 1000)).into())
            }
            Some(status) if status.code() == Some(PANICKED) => {
                Err(failed(io::Error::other(printable(words.trim(), 1000))).into())
            }
            Some(status) => Err(ended(program, status, limits.memory_bytes).into()),
        }
    })
}

/// What a compiler ends with that can't have a thread, or that has a bug.
const PANICKED: i32 = 101;

/// What a compiler died of: its own limit on memory, or one that the system has for the host.
fn ended(program: &Path, status: ExitStatus, memory_bytes: u64) -> CompileError {
    let limits = [Resource::Data, Resource::As].map(|resource| getrlimit(resource).current);
    match limits.into_iter().flatten().min().filter(|bytes| *bytes < memory_bytes) {
        Some(bytes) => {
            let why = format!("it ended ({status}): the system lets the host have {bytes} bytes");
            CompileError::Process { program: program.to_owned(), error: io::Error::other(why) }
        }
        None => CompileError::Limit(format!(
            "the compiler's process ended by its limits ({status}; {} MiB of memory)",
            memory_bytes >> 20
        )),
    }
}

/// Whether a file may be a guest. It is not compiled.
///
/// # Errors
///
/// Why it may not.
pub fn admit_file(compile: CompileMode, file: &[u8]) -> Result<(), DeployError> {
    let options = SandboxOptions { compile, ..SandboxOptions::default() };
    match &options.compile {
        CompileMode::Child(program) if file.len() <= MODULE_BYTES_MAX => {
            build_in_child(program, file, &options, |_| true).map(drop)
        }
        _ => prepare(file, options.card_shift).map(drop),
    }
}

/// The host's side of the conversation.
fn talk(
    mut stdin: ChildStdin,
    mut stdout: impl Read,
    file: &[u8],
    options: &SandboxOptions,
    is_known: impl FnOnce(&blake3::Hash) -> bool,
) -> io::Result<(Answer, Built)> {
    let order = Order {
        signals: options.signals,
        full_backtraces: options.full_backtraces,
        card_shift: options.card_shift,
        memory_bytes: options.compile_limits.memory_bytes,
        cpu_seconds: 2 * options.compile_limits.time.as_secs().max(1),
        bytes: file.len(),
    };
    send(&mut stdin, &order)?;
    stdin.write_all(file)?;
    stdin.flush()?;
    let answer: Answer = receive(&mut stdout)?;
    match &answer {
        Answer::Prepared { key, .. } if !is_known(&blake3::Hash::from_bytes(*key)) => {
            stdin.write_all(&[GO])?;
            drop(stdin);
            let code = read_all(Some(stdout), 8 * MODULE_BYTES_MAX as u64);
            Ok((answer, Built::Code(code)))
        }
        _ => Ok((answer, Built::Known)),
    }
}

fn refused(file: &[u8], code: &str, message: String) -> DeployError {
    match code.parse() {
        // Whoever named a file of another kind has to name another one.
        Ok(code) if !file.starts_with(MAGIC) => {
            DeployError::Refused(Fault::new(code, message).blamed_on(Blame::Operator))
        }
        Ok(code) => DeployError::Refused(Fault::new(code, message)),
        Err(_) => DeployError::Barrier(message),
    }
}

/// Sends a value with its length before it.
fn send(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let bytes = rmp_serde::to_vec_named(value).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if u64::from(length) > COMPILER_ANSWER_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let bytes = read_all(Some(from), u64::from(length));
    rmp_serde::from_slice(&bytes).map_err(io::Error::other)
}

fn read_all(stream: Option<impl Read>, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // A read that fails leaves what came before; the status says what to think of it.
        let _read = stream.take(bytes_max).read_to_end(&mut bytes);
    }
    bytes
}

/// Waits for the child; after `time_max`, or when the host is to stop, it is killed, and the answer
/// is `None`.
fn wait_at_most(
    child: &mut Child,
    time_max: Duration,
    stop: &StopLatch,
) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < time_max && !stop.is_set() {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
