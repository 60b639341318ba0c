//! Reads a component before anything is compiled, and admits it or says why not.
//!
//! The bytes come from a stranger. Nothing here allocates or computes more than [`Caps`] allow, and
//! nothing panics whatever the bytes are.
//!
//! What is admitted has these properties, which the write barrier and the images rely on:
//!
//! * All state is in one linear memory and in mutable numeric globals that no other module sees.
//!   Tables never change after instantiation, segments are never dropped.
//! * Each core module is instantiated once, by the outermost component, in a known order.
//! * It is known which core functions the host calls, where it writes to, and how much.
//! * It uses only what [`FEATURES`] has.
//!
//! This module decides from bytes alone: it compiles nothing and reads no files. Whether a budget
//! is large enough, and whether an import has the right type, is for those who hand out budgets and
//! link imports.

mod canonical;
mod caps;
mod component;
mod module;
mod refusal;
mod wiring;
mod world;

use wasmparser::WasmFeatures;

pub use self::caps::Caps;
pub use self::component::{Admitted, ImportedInterface, MAGIC, admit};
pub(in crate::pure) use self::component::{admit_module, validate};
pub use self::module::{CoreModule, MemoryBytes};
pub use self::refusal::{Place, Refusal, printable};
pub(in crate::pure) use self::wiring::{ModuleUse, Wiring};
pub use self::world::{Interface, World};

/// The WebAssembly features that a guest may use: what compilers emit by default for
/// `wasm32-wasip2`, and nothing whose state the images don't hold.
///
/// The engine that runs guests needs these and [`WasmFeatures::MULTI_MEMORY`], which only the write
/// barrier may use.
pub const FEATURES: WasmFeatures =
    WasmFeatures::WASM2.union(WasmFeatures::EXTENDED_CONST).union(WasmFeatures::COMPONENT_MODEL);
