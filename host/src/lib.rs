//! Bulkhead: a WebAssembly transaction host.

pub mod base;
pub mod mechanisms;
pub mod pure;
pub mod shell;
pub mod tree;
