//! Runs guests: the only module that names wasmtime.
//!
//! [`Sandbox`] holds the engine; [`Sandbox::deploy`] turns a file into a [`Guest`], admitted,
//! rewritten and compiled; [`Instance`] runs one guest over one daemon's images. What to do after a
//! crash is not decided here.
//!
//! Unsafe code is confined to `creator` (linear memories) and `compile` (loading compiled code).

mod bindings;
mod calls;
mod cancel;
mod compile;
mod compiler;
mod confine;
mod countdown;
mod crash;
mod creator;
mod deploy;
mod engine;
mod handles;
mod handover;
mod hooks;
mod host_calls;
mod instance;
mod meter;
mod outputs;
mod outside;
mod prepare;
mod state;
mod wasi;

pub use cancel::Cancel;
pub use compile::{CacheDir, CompileError, CompileLimits, CompileMode};
pub use compiler::{admit_file, compile_in_this_process};
pub use confine::{Bounds, confine};
pub use crash::Caught;
pub use deploy::{DeployError, Guest, GuestFacts};
pub use engine::{EngineError, Sandbox, SandboxOptions};
pub use handles::Held;
pub use handover::Handover;
pub use instance::{Called, Environment, Flags, Instance, StartCause, StartError};
pub use meter::Meter;
pub use outputs::{OutputVersion, Outputs};
pub use outside::Outside;
pub use state::{CallContext, GuestLine, GuestLog, Level, Limits, NoLog, Usage};
