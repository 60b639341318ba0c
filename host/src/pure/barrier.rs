//! Rewrites an admitted component so that the host knows which parts of its memory changed.
//!
//! Each core module that can change state gets one linear memory of its own beside its data memory,
//! the *control memory*, which the host supplies and reads:
//!
//! ```text
//!  0                               2^(32-shift)                             + 64 KiB
//!  +-------------------------------+-----------------------------------------+
//!  | cards: one byte for each      | state area                              |
//!  | 2^shift bytes of 4 GiB of data|  0: started (0 or 1)                    |
//!  |                               | 16: moved globals, 16 bytes each        |
//!  +-------------------------------+-----------------------------------------+
//! ```
//!
//! There is a card for every 32-bit address, so a mark can neither trap nor need a bounds check.
//! The last page of the 4 GiB is never memory: the data memory's maximum is lowered to
//! [`DATA_PAGES_MAX`] pages. So what lies a little behind an address that was written lies behind
//! it without wrapping around.
//!
//! # Who marks what
//!
//! | writer | where it is marked |
//! |---|---|
//! | stores, vector and lane stores | before the instruction |
//! | `memory.fill`, `memory.copy`, `memory.init` | before the instruction, the whole range |
//! | active data segments | they become passive and are written by the guarded start |
//! | the host, through `realloc` | in a wrapper around the export that a canonical option names |
//! | the host, results of imported functions | in a wrapper around the import, before the call |
//! | the host, through a shared table or an imported global | before the `call_indirect` |
//! | adapters between components | like the host: they use `realloc` and result areas |
//!
//! Nothing else can write: there are no threads, no asynchronous or GC canonical ABI, and other
//! modules over the same memory have control memories of their own; the host takes the union.
//! Lifting reads only, `post-return` and destructors are guest code, and handles live in tables of
//! the host.
//!
//! A function of the host comes into a module by an import of a function, a table that is shared or
//! an imported global, for no admitted code changes a table or calls a reference. A module without
//! marks of its own is never entered first, has no memory, and only passes the calls of others on,
//! with their parameters: so whoever began such a call has marked what the host writes.
//!
//! # What the host must keep to
//!
//! * A dirty card stands for its `1 << card_shift` bytes *and the [`OVERRUN`] bytes after it*. So a
//!   store that straddles two cards, and a run of stores near each other, need one mark.
//! * Marks come before writes and may come without one. They may lie beyond the end of memory, when
//!   the write after them traps.
//! * Cards are cleared only when no function of the instance is running. Functions rely on marks
//!   that they made before calling others.
//! * The used bytes of each state area belong to the committed state, like the data memory. They
//!   need no cards.
//! * A new instance over a restored memory must find the restored state areas. Then its guarded
//!   start finds `started` set and does nothing, and instantiation writes nothing at all.
//! * A guest that reaches `unreachable` asks to grow a control memory by 2^32 - 1 pages. The host's
//!   limiter turns that into a trap, which saves raising and catching a signal. No data memory can
//!   ask the same, because [`Layout::control_pages`] is unlike its maximum.
//! * Instructions that were added burn fuel like the others. Same bytes in, same bytes out: fuel is
//!   as deterministic as without the barrier.

mod body;
mod component;
mod flow;
mod helpers;
mod module;
mod plan;
mod source;
mod unroll;
mod values;

use serde::{Deserialize, Serialize};

use super::admission::{
    Admitted, Caps, FEATURES, ModuleUse, Refusal, Wiring, admit_module, validate,
};
use crate::base::limits::BARRIER_FLOW_STEPS_MAX;

/// Version of what this module emits. Part of the key of cached compiled code.
pub const BARRIER_VERSION: u32 = 2;

/// Bytes after a dirty card that the host must treat as dirty, too.
pub const OVERRUN: u32 = 128;

/// Smallest shift of a card: a card isn't smaller than what is copied after it.
pub const CARD_SHIFT_MIN: u32 = 8;

/// Largest shift of a card: the cards fill at least one page of WebAssembly.
pub const CARD_SHIFT_MAX: u32 = 16;

/// Pages that a data memory may have: all but the last of the 4 GiB.
pub const DATA_PAGES_MAX: u64 = (1 << 16) - 1;

/// Bytes of a WebAssembly page, and of the state area.
pub(crate) const PAGE_BYTES: u64 = 64 << 10;

/// How to rewrite.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// A card is `1 << card_shift` bytes.
    pub card_shift: u32,
    /// Raise traps for `unreachable` through the host's limiter instead of a signal.
    pub trap_by_grow: bool,
    /// Leave out marks that other marks make superfluous. Off only to measure what that saves.
    pub share_marks: bool,
    /// Repeat the bodies of small loops that store. Off only to measure what that saves.
    pub unroll: bool,
    /// Steps for which one function is followed. Less than usual only in tests.
    pub flow_steps_max: usize,
    /// Leave this kind of site without its mark. For tests that show that such a hole is found.
    pub omit: Option<Site>,
    /// Export each control memory under [`CONTROL_EXPORT`]. For tests on single modules.
    pub export_control: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            card_shift: 12,
            trap_by_grow: true,
            share_marks: true,
            unroll: true,
            flow_steps_max: BARRIER_FLOW_STEPS_MAX,
            omit: None,
            export_control: false,
        }
    }
}

/// Name under which [`Options::export_control`] exports a control memory.
pub const CONTROL_EXPORT: &str = "bulkhead:control";

/// The kinds of places where memory is written, hence marked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "named after the instructions")]
pub enum Site {
    I32Store,
    I32Store8,
    I32Store16,
    I64Store,
    I64Store8,
    I64Store16,
    I64Store32,
    F32Store,
    F64Store,
    V128Store,
    V128Store8Lane,
    V128Store16Lane,
    V128Store32Lane,
    V128Store64Lane,
    MemoryFill,
    MemoryCopy,
    MemoryInit,
    /// An active data segment.
    ActiveSegment,
    /// What the host writes to memory that `realloc` returned.
    Realloc,
    /// What the host writes as the result of an imported function.
    ResultArea,
}

impl Site {
    /// All kinds.
    pub const ALL: [Self; 20] = [
        Self::I32Store,
        Self::I32Store8,
        Self::I32Store16,
        Self::I64Store,
        Self::I64Store8,
        Self::I64Store16,
        Self::I64Store32,
        Self::F32Store,
        Self::F64Store,
        Self::V128Store,
        Self::V128Store8Lane,
        Self::V128Store16Lane,
        Self::V128Store32Lane,
        Self::V128Store64Lane,
        Self::MemoryFill,
        Self::MemoryCopy,
        Self::MemoryInit,
        Self::ActiveSegment,
        Self::Realloc,
        Self::ResultArea,
    ];
}

/// A rewritten component.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// Its bytes.
    pub component: Vec<u8>,
    /// What the host must know to run it.
    pub layout: Layout,
}

/// What the host must know of the memories of a rewritten component.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// [`BARRIER_VERSION`] of who made it.
    pub version: u32,
    /// A card is `1 << card_shift` bytes.
    pub card_shift: u32,
    /// The linear memories in the order in which instantiation creates them.
    pub memories: Vec<MemoryRole>,
    /// Minimum of the data memory in bytes; 0 when there is none.
    pub data_minimum_bytes: u64,
    /// Maximum of the data memory in bytes, where the guest states one.
    pub data_maximum_bytes: Option<u64>,
    /// Pages of each control memory: its minimum and maximum, unlike any maximum of the data
    /// memory.
    pub control_pages: u64,
    /// Offset of the state area in each control memory, in bytes. The cards are before it.
    pub state_offset: u64,
}

/// What a linear memory is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum MemoryRole {
    /// The guest's own. There is at most one.
    Data,
    /// Cards and state of one core module.
    Control {
        /// Index of the core module in the component.
        module: u32,
        /// Bytes of the state area that are in use.
        state_bytes: u32,
    },
}

/// Why a component can't be rewritten.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RewriteError {
    /// The guest is to blame.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The host is to blame: an admitted guest came out wrong.
    #[error("the write barrier failed on an admitted guest: {message}; this is a bug of the host")]
    HostBug {
        /// What went wrong.
        message: String,
    },
}

impl RewriteError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::HostBug { .. } => "E_HOST_BUG",
        }
    }

    fn bug(message: impl std::fmt::Display) -> Self {
        Self::HostBug { message: message.to_string() }
    }
}

impl From<wasm_encoder::reencode::Error> for RewriteError {
    fn from(error: wasm_encoder::reencode::Error) -> Self {
        match error {
            wasm_encoder::reencode::Error::ParseError(error) => Self::bug(error),
            other => Self::bug(other),
        }
    }
}

impl From<wasmparser::Error> for RewriteError {
    fn from(error: wasmparser::Error) -> Self {
        Self::bug(error)
    }
}

/// Rewrites an admitted component.
///
/// # Errors
///
/// [`RewriteError::Refused`] when the state doesn't fit the state area, [`RewriteError::HostBug`]
/// when the result doesn't validate.
pub fn rewrite(admitted: &Admitted<'_>, options: &Options) -> Result<Rewritten, RewriteError> {
    let rewritten = component::rewrite(admitted, options)?;
    check(&rewritten.component)?;
    Ok(rewritten)
}

/// One rewritten core module.
#[derive(Clone, Debug)]
pub struct RewrittenModule {
    /// Its bytes.
    pub module: Vec<u8>,
    /// What the host must know to run it.
    pub layout: Layout,
}

/// Rewrites one core module alone, for tests and benchmarks.
///
/// The host is taken to enter it, to write to what the exports in `reallocs` return, and to store
/// results of at most `result_area_bytes` bytes for its imports.
///
/// # Errors
///
/// As for [`rewrite`], and a [`Refusal`] when the module wouldn't be admitted in a component.
pub fn rewrite_module(
    bytes: &[u8],
    reallocs: &[&str],
    result_area_bytes: u32,
    options: &Options,
) -> Result<RewrittenModule, RewriteError> {
    let module = admit_module(bytes, &Caps::default())?;
    let reallocs = reallocs.iter().map(|&name| name.to_owned()).collect();
    let wiring = Wiring {
        instantiated: vec![0],
        uses: vec![ModuleUse { entered: true, reallocs }],
        result_area_bytes,
    };
    let memory = module.memory.unwrap_or_default();
    let (modules, layout) = component::rewrite_modules(bytes, &[module], memory, &wiring, options)?;
    let module = modules.into_iter().next().ok_or_else(|| RewriteError::bug("no module"))?;
    check(&module)?;
    Ok(RewrittenModule { module, layout })
}

/// Validates what was written. Whatever is wrong with it is our mistake, the input was valid.
fn check(bytes: &[u8]) -> Result<(), RewriteError> {
    validate(bytes, FEATURES.union(wasmparser::WasmFeatures::MULTI_MEMORY))
        .map_err(RewriteError::bug)
}

const _: () = assert!(OVERRUN <= 1 << CARD_SHIFT_MIN);
const _: () = assert!((OVERRUN as u64) < (1 << 32) - DATA_PAGES_MAX * PAGE_BYTES);
const _: () = assert!(PAGE_BYTES <= 1 << (32 - CARD_SHIFT_MAX));
