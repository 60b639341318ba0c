//! Each wraps one world; siblings don't import each other, but for `sandbox`, which runs guests on
//! the memory of `memory`.

pub mod journal;
pub mod memory;
pub mod providers;
pub mod sandbox;
