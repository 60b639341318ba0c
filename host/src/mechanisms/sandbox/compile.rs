//! Compiles guests, in a process that may die of it, and keeps the result where only its owner can
//! write.
//!
//! # Safety argument
//!
//! Loading compiled code executes it: whoever can write those bytes owns the host. Bytes are loaded
//! only (a) straight from the compiler, in this process or in a child running the same executable,
//! or (b) from a cache entry whose MAC, keyed by a secret that only this user can read, is right.
//! An entry is read into memory before it is checked, so it can't change in between.

#![expect(unsafe_code, reason = "loads compiled code")]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::engine::{Sandbox, SandboxOptions, config};
use crate::base::error::printable;
use crate::base::limits::{COMPILE_MEMORY_BYTES_MAX, COMPILE_TIME_MAX, MODULE_BYTES_MAX};
use crate::base::stop::StopLatch;
use crate::pure::barrier::BARRIER_VERSION;

/// Where the compiler runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum CompileMode {
    /// In this process: for guests that you built yourself.
    #[default]
    InProcess,
    /// In a child process with limits on time and memory: this executable must answer to the
    /// arguments `compile-guest` like the binary `host` does.
    Child(PathBuf),
}

/// A guest could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler refused it.
    #[error("the compiler refused it: {0}")]
    Refused(String),
    /// The host was stopped meanwhile.
    #[error("the host was stopped while the guest was compiled")]
    Stopped,
    /// It took too much time or memory.
    #[error("{0}")]
    Limit(String),
    /// The compiler's process could not be run.
    #[error("the compiler's process {program}: {error}", program = program.display())]
    Process {
        /// The executable.
        program: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// The cache directory can't be trusted or used.
    #[error("the cache {path}: {reason}", path = path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A directory of compiled code that only its owner can write.
#[derive(Clone, Debug)]
pub struct CacheDir {
    path: PathBuf,
    secret: [u8; 32],
}

impl CacheDir {
    /// Opens the directory, made when it is missing, and its secret.
    ///
    /// # Errors
    ///
    /// [`CompileError::Cache`] when another user owns it or may write to it, or it can't be used.
    pub fn open(path: &Path, fresh_secret: [u8; 32]) -> Result<Self, CompileError> {
        let wrong = |reason: String| CompileError::Cache { path: path.to_owned(), reason };
        let io = |error: io::Error| wrong(error.to_string());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let facts = fs::symlink_metadata(path).map_err(io)?;
        let me = rustix::process::geteuid().as_raw();
        if !facts.is_dir() || facts.uid() != me {
            return Err(wrong("it is not a directory of this user".to_owned()));
        }
        if facts.permissions().mode() & 0o022 != 0 {
            return Err(wrong("others may write to it; chmod go-w".to_owned()));
        }
        let secret_path = path.join("secret");
        if !secret_path.exists() {
            // Two hosts may start at once: the first link wins, both read the winner.
            let mine = path.join(format!("secret.{}", std::process::id()));
            write_private(&mine, &fresh_secret).map_err(io)?;
            let linked = fs::hard_link(&mine, &secret_path);
            fs::remove_file(&mine).map_err(io)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(io(error));
                }
                _ => {}
            }
        }
        let facts = fs::symlink_metadata(&secret_path).map_err(io)?;
        if !facts.is_file() || facts.uid() != me || facts.permissions().mode() & 0o077 != 0 {
            return Err(wrong("its file `secret` is readable by others; delete it".to_owned()));
        }
        let secret = fs::read(&secret_path).map_err(io)?;
        let secret = secret
            .try_into()
            .map_err(|_| wrong("its file `secret` is damaged; delete it".to_owned()))?;
        Ok(Self { path: path.to_owned(), secret })
    }

    fn entry(&self, key: &blake3::Hash) -> PathBuf {
        self.path.join(format!("{}.cwasm", key.to_hex()))
    }

    fn mac(&self, key: &blake3::Hash, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(key.as_bytes());
        hasher.update(code);
        hasher.finalize()
    }

    /// The entry's code; none when there is none, or one that isn't ours.
    fn load(&self, key: &blake3::Hash) -> Option<Vec<u8>> {
        let mut entry = fs::read(self.entry(key)).ok()?;
        let mac: [u8; 32] = entry.get(..32)?.try_into().ok()?;
        let code = entry.split_off(32);
        // Comparison of hashes takes constant time.
        (self.mac(key, &code) == blake3::Hash::from_bytes(mac)).then_some(code)
    }

    /// Stores an entry. A full disk costs the next start a compilation, nothing else.
    fn store(&self, key: &blake3::Hash, code: &[u8]) {
        let path = self.entry(key);
        let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut entry = self.mac(key, code).as_bytes().to_vec();
        entry.extend_from_slice(code);
        let stored =
            write_private(&unfinished, &entry).and_then(|()| fs::rename(&unfinished, &path));
        if let Err(error) = stored {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be cached");
        }
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

impl Sandbox {
    /// Compiles a rewritten component, or finds it in the cache.
    pub(super) fn compile(&self, component: &[u8]) -> Result<Component, CompileError> {
        let key = cache_key(&self.engine, self.options.full_backtraces, component);
        let cache = self.options.cache.as_ref();
        if let Some(code) = cache.and_then(|cache| cache.load(&key)) {
            match load(&self.engine, &code) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(%error, "compiled code in the cache is stale"),
            }
        }
        let code = match &self.options.compile {
            CompileMode::InProcess => precompile(&self.engine, component)?,
            CompileMode::Child(program) => compile_in_child(program, component, &self.options)?,
        };
        if let Some(cache) = cache {
            cache.store(&key, &code);
        }
        load(&self.engine, &code).map_err(|error| CompileError::Refused(format!("{error:#}")))
    }
}

/// The engine loads code with and without offsets for backtraces alike; which it is, is ours to
/// tell.
fn cache_key(engine: &Engine, full_backtraces: bool, component: &[u8]) -> blake3::Hash {
    let mut compatibility = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&compatibility.finish().to_le_bytes());
    hasher.update(&BARRIER_VERSION.to_le_bytes());
    hasher.update(&[u8::from(full_backtraces)]);
    hasher.update(component);
    hasher.finalize()
}

fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: see the module's safety argument: the bytes come from the compiler, or carry our MAC.
    unsafe { Component::deserialize(engine, code) }
}

fn precompile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    engine
        .precompile_component(component)
        .map_err(|error| CompileError::Refused(printable(&format!("{error:#}"), 1000)))
}

/// What the child does: compiles standard input to standard output, under limits it sets itself.
///
/// # Errors
///
/// What the compiler or the system says.
pub fn compile_in_this_process(signals: bool, full_backtraces: bool) -> Result<(), CompileError> {
    limit_this_process();
    let engine = Engine::new(&config(signals, full_backtraces))
        .map_err(|error| CompileError::Refused(format!("{error:#}")))?;
    let io = |error: io::Error| CompileError::Process { program: PathBuf::new(), error };
    let mut component = Vec::new();
    let input_max = 2 * MODULE_BYTES_MAX as u64;
    io::stdin().lock().take(input_max).read_to_end(&mut component).map_err(io)?;
    let code = precompile(&engine, &component)?;
    io::stdout().lock().write_all(&code).map_err(io)
}

fn limit_this_process() {
    // Whoever asked for the code may be killed: nobody else wants it.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("prctl: {error}");
    }
    let limit = |resource, maximum| {
        let rlimit = Rlimit { current: Some(maximum), maximum: Some(maximum) };
        if let Err(error) = setrlimit(resource, rlimit) {
            eprintln!("setrlimit: {error}");
        }
    };
    limit(Resource::As, COMPILE_MEMORY_BYTES_MAX);
    limit(Resource::Cpu, 2 * COMPILE_TIME_MAX.as_secs());
    limit(Resource::Core, 0);
}

fn compile_in_child(
    program: &Path,
    component: &[u8],
    options: &SandboxOptions,
) -> Result<Vec<u8>, CompileError> {
    let failed = |error| CompileError::Process { program: program.to_owned(), error };
    let mut child = Command::new(program)
        .arg("compile-guest")
        .args((!options.signals).then_some("--no-signals"))
        .args(options.full_backtraces.then_some("--full-backtraces"))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A child that died early shows in its status; what it didn't read is of no use.
            stdin.map(|mut stdin| stdin.write_all(component))
        });
        let code = scope.spawn(move || read_all(stdout, 8 * MODULE_BYTES_MAX as u64));
        let words = scope.spawn(move || read_all(stderr, 4096));
        let stop = options.vitals.stop();
        let status = wait_at_most(&mut child, COMPILE_TIME_MAX, stop).map_err(failed)?;
        let code = code.join().unwrap_or_default();
        let words = String::from_utf8_lossy(&words.join().unwrap_or_default()).into_owned();
        match status {
            None if stop.is_set() => Err(CompileError::Stopped),
            None => Err(CompileError::Limit(format!("it took longer than {COMPILE_TIME_MAX:?}"))),
            Some(status) if status.success() => Ok(code),
            Some(status) if status.code() == Some(1) => {
                Err(CompileError::Refused(printable(words.trim(), 1000)))
            }
            Some(status) => Err(CompileError::Limit(format!(
                "the compiler's process ended by its limits ({status}; {} MiB of memory)",
                COMPILE_MEMORY_BYTES_MAX >> 20
            ))),
        }
    })
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
) -> io::Result<Option<std::process::ExitStatus>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_cache_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        CacheDir::open(&path, [1; 32]).unwrap();
        mode(&path, 0o777);
        assert!(CacheDir::open(&path, [1; 32]).unwrap_err().to_string().contains("others"));
        mode(&path, 0o700);
        mode(&path.join("secret"), 0o644);
        assert!(CacheDir::open(&path, [1; 32]).is_err());
    }

    #[test]
    fn h12_an_entry_that_was_changed_is_not_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::open(&dir.path().join("cache"), [1; 32]).unwrap();
        let key = blake3::hash(b"component");
        cache.store(&key, b"code");
        assert_eq!(cache.load(&key).as_deref(), Some(b"code".as_slice()));
        let entry = cache.entry(&key);
        let good = fs::read(&entry).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&entry, bad).unwrap();
            assert_eq!(cache.load(&key), None);
        }
        for end in 0..good.len() {
            fs::write(&entry, &good[..end]).unwrap();
            assert_eq!(cache.load(&key), None);
        }
        // An entry under another name, and one made with another secret.
        fs::write(cache.entry(&blake3::hash(b"other")), &good).unwrap();
        assert_eq!(cache.load(&blake3::hash(b"other")), None);
        let stranger = CacheDir { secret: [2; 32], ..cache.clone() };
        fs::write(&entry, &good).unwrap();
        assert_eq!(stranger.load(&key), None);
    }

    #[test]
    fn the_secret_stays_the_same_from_run_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let first = CacheDir::open(&path, [1; 32]).unwrap();
        let second = CacheDir::open(&path, [2; 32]).unwrap();
        assert_eq!(first.secret, second.secret);
    }
}
