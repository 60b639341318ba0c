//! The engine: one per process, configured for guests that nobody trusts.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel, Strategy};

use super::compile::{CacheDir, CompileLimits, CompileMode};
use super::creator::SlotCreator;
use super::state::StoreState;
use super::{calls, host_calls, wasi};
use crate::base::limits::{
    BACKTRACE_FRAMES_CAPTURED_MAX, CARD_SHIFT, EPOCH_TICK, GUEST_STACK_BYTES, MEMORY_GUARD_BYTES,
    MEMORY_RESERVATION_BYTES, REPLAY_FRAMES_MAX, WATCH_SLACK,
};
use crate::base::vitals::{Kind, Vitals};

/// How guests are compiled.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Where the compiler runs.
    pub compile: CompileMode,
    /// What a compiler in a process of its own may use.
    pub compile_limits: CompileLimits,
    /// Where compiled code is kept; `None` compiles each time.
    pub cache: Option<CacheDir>,
    /// Bytes per card, as a shift.
    pub card_shift: u32,
    /// Raise traps by signals: less code for memory accesses, slower traps.
    pub signals: bool,
    /// Backtraces of all frames with offsets: for running a crash again. Traps take longer then.
    pub full_backtraces: bool,
    /// Where the ticker shows that it turns; a stop ends a compiler that runs.
    pub vitals: Arc<Vitals>,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            compile: CompileMode::InProcess,
            compile_limits: CompileLimits::default(),
            cache: None,
            card_shift: CARD_SHIFT,
            signals: true,
            full_backtraces: false,
            vitals: Arc::default(),
        }
    }
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine refused its configuration, or the linker a function.
    #[error("the WebAssembly engine can't be set up: {0:#}")]
    Engine(wasmtime::Error),
    /// No thread for the ticker.
    #[error("no thread for the epoch ticker: {0}")]
    Ticker(std::io::Error),
}

/// The engine with everything that guests may import, and the ticker that ends late calls.
///
/// Cheap to clone. The ticker ends with the last clone and the last guest.
#[derive(Clone)]
pub struct Sandbox {
    pub(super) engine: Engine,
    pub(super) linker: Arc<Linker<StoreState>>,
    pub(super) options: Arc<SandboxOptions>,
    pub(super) ticker: Arc<Ticker>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Sets up engine, linker and ticker.
    ///
    /// # Errors
    ///
    /// [`EngineError`] on a machine that can't run it.
    pub fn new(options: SandboxOptions) -> Result<Self, EngineError> {
        let mut config = config(options.signals, options.full_backtraces);
        config.with_host_memory(Arc::new(SlotCreator));
        let engine = Engine::new(&config).map_err(EngineError::Engine)?;
        let mut linker = Linker::new(&engine);
        host_calls::link(&mut linker).map_err(EngineError::Engine)?;
        wasi::link(&mut linker).map_err(EngineError::Engine)?;
        calls::link(&mut linker).map_err(EngineError::Engine)?;
        let ticker = Ticker::start(&engine, &options.vitals).map_err(EngineError::Ticker)?;
        Ok(Self {
            engine,
            linker: Arc::new(linker),
            options: Arc::new(options),
            ticker: Arc::new(ticker),
        })
    }
}

/// The configuration, without the memories: compiled code depends on all of it.
pub(super) fn config(signals: bool, full_backtraces: bool) -> Config {
    let frames = if full_backtraces { REPLAY_FRAMES_MAX } else { BACKTRACE_FRAMES_CAPTURED_MAX };
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // The same bits on every machine: a backup will run the same requests.
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION_BYTES as u64)
        .memory_guard_size(MEMORY_GUARD_BYTES as u64)
        .memory_reservation_for_growth(0)
        .memory_may_move(false)
        // With memories of our own wasmtime must not map initial contents over them.
        .memory_init_cow(false)
        .signals_based_traps(signals)
        .wasm_backtrace_max_frames(NonZeroUsize::new(frames))
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable)
        // Backtraces name functions; looking up code offsets for them took a fifth of a restart.
        .generate_address_map(full_backtraces)
        .native_unwind_info(false)
        .wasm_component_model(true)
        // The write barrier's control memory; admission refuses a second one of the guest's own.
        .wasm_multi_memory(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .concurrency_support(false);
    config
}

/// A thread that advances the engine's epoch.
pub(super) struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &Engine, vitals: &Vitals) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (engine, stopped) = (engine.clone(), stop.clone());
        let heart = vitals.heart("epoch-ticker", Kind::Ticker);
        let thread =
            std::thread::Builder::new().name("epoch-ticker".to_owned()).spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::park_timeout(EPOCH_TICK);
                    engine.increment_epoch();
                    heart.work(WATCH_SLACK);
                }
            })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let ended = thread.join();
            debug_assert!(ended.is_ok(), "the ticker can't panic");
        }
    }
}
