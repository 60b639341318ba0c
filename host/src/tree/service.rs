//! Resources, and the daemons that depend on them.
//!
//! ```text
//!  a keeper: gone  --> under the resource's lock: daemons that need it are told to wait, all its
//!                      leases end, their transactions are cancelled by name
//!  a keeper: there --> daemons that lack nothing any more are told to start
//!  a transaction   --> takes a lease of each resource that its daemon needs, under that same lock,
//!                      and gives it back before its changes are committed
//! ```
//!
//! So the transactions that a death cancels are exactly those that hold a lease of the resource;
//! and one whose lease ended can't commit, because giving the lease back says so. A cancel is only
//! ever named while the transaction holds the lease: it can't hit a later one.

mod board;
mod hold;
mod plan;
mod resource;

pub(super) use self::board::Board;
pub(super) use self::hold::contract_needs;
pub use self::hold::{Hold, lacks};
pub use self::plan::ResourcePlan;
pub use self::resource::{LeaseView, ResourceView};
