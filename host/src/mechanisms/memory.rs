//! The memory of daemons: reserved up front, fixed, and the only place where state lives.
//!
//! ```text
//!   live image      |guard| budget, read-write, prefaulted | no access ... 4 GiB |guard|
//!   control memory  |guard| card table | state area        | no access ... 4 GiB |guard|
//!   (one per core module)
//!   committed image  budget, prefaulted, out of every instance's reach; others may follow it
//! ```
//!
//! [`Images`] is a daemon's set of these; it knows commit, roll back, reset, verify and hash. It
//! knows nothing of WebAssembly, but for the size of an address.
//!
//! Unsafe code is confined to `mapping`, `cards`, `follow`, `images`, `load` and `scribble`; their
//! headers say what it relies on.

mod arena;
mod cards;
mod follow;
mod images;
mod load;
mod mapping;
mod scribble;
mod slot;

pub use arena::{Arena, Bill, BillError, BillLine, machine_memory_bytes};
pub use cards::Changed;
pub use follow::{Followed, Follower, Published, Shared};
pub use images::{ControlShape, Images, ImagesError, Mismatch, Shape};
pub use mapping::MapError;
pub use slot::Slot;

/// Bytes after a dirty card that are copied with it, so that a store which straddles two cards, or
/// a run of stores that starts in one, needs a single mark. What the write barrier relies on.
pub const OVERRUN_BYTES: usize = crate::pure::barrier::OVERRUN as usize;
