//! Compiles guests, and keeps the result where only its owner can write. Where the compiler runs
//! says [`CompileMode`]; [`super::compiler`] is a process that may die of it.
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
use std::time::Duration;

use rustix::fs::OFlags;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compiler::{Built, build_in_child};
use super::deploy::DeployError;
use super::engine::Sandbox;
use super::prepare::{Prepared, prepare};
use crate::base::error::printable;
use crate::base::limits::{COMPILE_MEMORY_BYTES_MAX, COMPILE_TIME_MAX, MODULE_BYTES_MAX};
use crate::base::regular::{open_regular, read_regular};
use crate::pure::barrier::BARRIER_VERSION;

/// What the compiler's process may use.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// Time, by the clock on the wall; of the processor's it may use twice as much.
    pub time: Duration,
    /// Address space, in bytes.
    pub memory_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { time: COMPILE_TIME_MAX, memory_bytes: COMPILE_MEMORY_BYTES_MAX }
    }
}

/// Where files are read and the compiler runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum CompileMode {
    /// In this process: for guests that you built yourself.
    #[default]
    InProcess,
    /// In a child process with limits on time and memory, which can reach nothing else: this
    /// executable must answer to the argument `compile-guest` like the binary `host` does.
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
        discard_foreign(&secret_path).map_err(io)?;
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
        let secret = read_own(&secret_path).map_err(io)?;
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
        let mut entry = read_own(&self.entry(key)).ok()?;
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

/// Makes way for a file of this host: what is no regular file is none, whoever put it there.
fn discard_foreign(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(facts) if !facts.is_file() => fs::remove_file(path),
        _ => Ok(()),
    }
}

fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_regular(path, OFlags::NOFOLLOW)?.0.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    discard_foreign(path)?;
    let options =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    open_regular(path, &options, OFlags::NOFOLLOW)?.0.write_all(bytes)
}

impl Sandbox {
    /// Admits, rewrites and compiles a file, or finds its code in the cache.
    pub(super) fn build(&self, file: &[u8]) -> Result<(Prepared, Component), DeployError> {
        let options = &self.options;
        let program = match &options.compile {
            // One that is too long is refused by its length.
            CompileMode::Child(program) if file.len() <= MODULE_BYTES_MAX => program,
            CompileMode::Child(_) | CompileMode::InProcess => return self.build_here(file),
        };
        let mut found = None;
        let is_known = |key: &blake3::Hash| {
            found = self.cached(key);
            found.is_some()
        };
        let (prepared, key, built) = build_in_child(program, file, options, is_known)?;
        let component = match (found, built) {
            (Some(component), _) => component,
            (None, Built::Code(code)) => self.keep(&key, &code)?,
            (None, Built::Known) => {
                return Err(DeployError::Barrier("the compiler answered without code".to_owned()));
            }
        };
        Ok((prepared, component))
    }

    fn build_here(&self, file: &[u8]) -> Result<(Prepared, Component), DeployError> {
        let (prepared, rewritten) = prepare(file, self.options.card_shift)?;
        let key = key(&self.engine, self.options.full_backtraces, &rewritten);
        let component = match self.cached(&key) {
            Some(component) => component,
            None => self.keep(&key, &precompile(&self.engine, &rewritten)?)?,
        };
        Ok((prepared, component))
    }

    /// The code of this key, if it is in the cache and can be loaded.
    fn cached(&self, key: &blake3::Hash) -> Option<Component> {
        let code = self.options.cache.as_ref()?.load(key)?;
        load(&self.engine, &code)
            .inspect_err(|error| tracing::warn!(%error, "compiled code in the cache is stale"))
            .ok()
    }

    /// Loads new code, and keeps it in the cache.
    fn keep(&self, key: &blake3::Hash, code: &[u8]) -> Result<Component, CompileError> {
        if let Some(cache) = &self.options.cache {
            cache.store(key, code);
        }
        load(&self.engine, code).map_err(|error| CompileError::Refused(format!("{error:#}")))
    }
}

/// The name of a rewritten component's code in a cache. The engine loads code with and without
/// offsets for backtraces alike; which it is, is ours to tell.
pub(super) fn key(engine: &Engine, full_backtraces: bool, component: &[u8]) -> blake3::Hash {
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

pub(super) fn precompile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    engine
        .precompile_component(component)
        .map_err(|error| CompileError::Refused(printable(&format!("{error:#}"), 1000)))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

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
    fn what_is_no_file_is_not_there_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let first = CacheDir::open(&path, [1; 32]).unwrap();
        let key = blake3::hash(b"component");
        let entry = first.entry(&key);
        let own = std::process::id();
        let pipe = |path: &Path| {
            drop(fs::remove_file(path));
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        };
        for unfinished in [None, Some(entry.with_extension(format!("{own}.tmp")))] {
            pipe(&entry);
            unfinished.iter().for_each(|path| pipe(path));
            assert_eq!(first.load(&key), None);
            first.store(&key, b"code");
            assert_eq!(first.load(&key).as_deref(), Some(b"code".as_slice()));
        }
        pipe(&path.join("secret"));
        pipe(&path.join(format!("secret.{own}")));
        let second = CacheDir::open(&path, [2; 32]).unwrap();
        assert_eq!(second.secret, [2; 32]);
        assert_eq!(CacheDir::open(&path, [3; 32]).unwrap().secret, [2; 32]);
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
