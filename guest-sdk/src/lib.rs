//! Write a Bulkhead guest as plain structs and methods.
//!
//! A guest keeps its state in its own memory, in whatever Rust data it likes; there is no storage
//! API. Each `pub fn` of the block under [`#[guest]`](macro@guest) is a *contract*: with `&mut
//! self` a transaction that commits whole or never happened, with `&self` a read.
//!
//! ```
//! use guest_sdk::prelude::*;
//!
//! #[state]
//! #[derive(Clone, Default)]
//! struct Ledger {
//!     accounts: BTreeMap<String, u64>,
//! }
//!
//! /// What a transfer leaves.
//! #[data]
//! struct Receipt {
//!     left: u64,
//! }
//!
//! #[guest]
//! impl Ledger {
//!     /// Pays `amount` in.
//!     pub fn deposit(&mut self, account: String, amount: u64) {
//!         *self.accounts.entry(account).or_default() += amount;
//!     }
//!
//!     /// Moves `amount` from one account to another.
//!     pub fn transfer(
//!         &mut self,
//!         from: String,
//!         to: String,
//!         amount: u64,
//!     ) -> Result<Receipt, Rejection> {
//!         // A rejection undoes everything, so there is no order of steps to be careful about.
//!         *self.accounts.entry(to).or_default() += amount;
//!         let balance = self.accounts.entry(from).or_default();
//!         ensure!(*balance >= amount, "overdraft", "there is only {balance}");
//!         *balance -= amount;
//!         info!(amount, "moved");
//!         Ok(Receipt { left: *balance })
//!     }
//!
//!     /// Answers what the account holds.
//!     pub fn balance(&self, account: String) -> Option<u64> {
//!         self.accounts.get(&account).copied()
//!     }
//! }
//!
//! // The methods are plain Rust; the harness runs them as the host would, rollback included.
//! use guest_sdk::test::{Harness, json};
//!
//! let mut ledger = Harness::<Ledger>::new(json!({}));
//! ledger.call("deposit", json!({"account": "ann", "amount": 10})).committed();
//! let receipt = ledger.call("transfer", json!({"from": "ann", "to": "bob", "amount": 4}));
//! assert_eq!(receipt.committed(), json!({"left": 6}));
//! let refused = ledger.call("transfer", json!({"from": "ann", "to": "bob", "amount": 7}));
//! assert_eq!(refused.rejected().code(), "overdraft");
//! assert_eq!(ledger.call("balance", json!({"account": "bob"})).committed(), json!(4));
//! ```
//!
//! # What a guest should know
//!
//! * **Values** travel as MessagePack. Arguments and results are any serde types with a JSON
//!   Schema; [`#[data]`](macro@data) makes such types of a guest's own. Arguments that do not fit
//!   are refused before the guest runs.
//! * **A panic is a crash**: the transaction is undone, the guest restarted on its last commit, the
//!   message told to whoever looks. A [`Rejection`] is an answer, and undoes the transaction as
//!   well.
//! * **The outside** is the host's: [`log`], [`clock`], [`entropy`], [`context`]. `println!` goes
//!   to the host's log, too. What a guest keeps of the outside (a seed, an id) belongs to a
//!   generation; drop it in `#[on_restore]`.
//! * **Resources**, which a service's manifest gives to a daemon, are called by name: [`redis`],
//!   [`sql`], [`files`], [`http`]. What they do is not undone by a rollback; what is [`staged`]
//!   is done after the commit. See [`resource`].
//! * **One `#[guest]`** per crate that is built as a component, with `crate-type = ["cdylib",
//!   "rlib"]`.
//!
//! # Types
//!
//! Arguments, results and state may be of these types, alone and in others:
//!
//! | types | outside, in JSON |
//! |---|---|
//! | integers, `u128` and `i128` too | a number; beyond 64 bits its digits as text |
//! | `f32`, `f64` | a number, or `"nan"`, `"inf"`, `"-inf"` |
//! | maps with keys of text, numbers, `bool`, `char` or enums | an object |
//! | `std::net::{IpAddr, SocketAddr}` and their like | text |
//! | `std::time::Duration` | `{"secs": 1, "nanos": 0}` |
//! | `Vec<u8>`; with the feature `bytes` also `bytes::Bytes` | a list of numbers |
//! | `chrono`: `DateTime<Utc>`, `NaiveDate` and so on | text as in RFC 3339 |
//! | `uuid::Uuid` | text |
//! | `rust_decimal::Decimal` | text; an integer of 64 bits is taken, too |
//! | `url::Url` | text |
//!
//! A decimal is exact, so a number with a fraction is refused: in JSON that is a float. `"1.10"` is
//! text, and so is `rate=1.10` on the command line.
//!
//! The last ones come with a feature of that name, as `guest_sdk::chrono` and so on, so that a
//! guest needs no other dependency. Such a crate that a guest depends on itself is the same one.
//! `chrono::Utc::now` is the host's clock in a guest, but the machine's in a native test, whatever
//! `Harness::set_clock` said: `DateTime::<Utc>::from(clock::system_time())` is the same in both.
//! `uuid::Builder::from_random_bytes` makes an id of what [`entropy::fill`] gives.
//!
//! # Numbers
//!
//! Arithmetic that overflows panics in a guest as it does in its tests: `host build` sees to that,
//! and `#[guest]` refuses a build for wasm without it. What is to wrap says so: `wrapping_add`.
//! A dependency that is too slow with these checks goes without them by
//! `[profile.guest.package.NAME] overflow-checks = false`.
//!
//! # Upgrades
//!
//! Memory belongs to the code that laid it out: a new build of a guest never adopts the memory of
//! an old one. With [`#[state]`](macro@state) on its type, the old code hands its state over as a
//! value, and the new code takes that. A new field with `#[serde(default)]` needs nothing more.
//! When the form changes, keep the old one, and say how the new one is made of it:
//!
//! ```
//! use guest_sdk::prelude::*;
//!
//! #[state(version = 1)]
//! struct OldLedger {
//!     accounts: BTreeMap<String, u32>,
//! }
//!
//! #[state]
//! #[derive(Clone, Default)]
//! struct Ledger {
//!     accounts: BTreeMap<String, u64>,
//!     total: u64,
//! }
//!
//! impl From<OldLedger> for Ledger {
//!     fn from(old: OldLedger) -> Self {
//!         let total = old.accounts.values().copied().map(u64::from).sum();
//!         let widened = |(name, balance)| (name, u64::from(balance));
//!         Self { accounts: old.accounts.into_iter().map(widened).collect(), total }
//!     }
//! }
//!
//! #[guest(version = 2, from = OldLedger)]
//! impl Ledger {
//!     /// Refuses an upgrade after which the money is not all there.
//!     #[check]
//!     fn sums_up(&self) -> Result<(), Rejection> {
//!         let sum: u64 = self.accounts.values().sum();
//!         ensure!(sum == self.total, "sum", "the accounts hold {sum}, not {}", self.total);
//!         Ok(())
//!     }
//!
//!     pub fn total(&self) -> u64 {
//!         self.total
//!     }
//! }
//! # let old = OldLedger { accounts: [("ann".to_owned(), 7)].into() };
//! # assert_eq!(Ledger::from(old).total, 7);
//! ```
//!
//! The host rehearses an upgrade on copies: whatever fails (saving, loading, the migration, the
//! check) leaves the old code running on its state. `Harness::upgrade` tests it natively.
//!
//! So does what would be lost without a word: the new code saves again what it has loaded, and a
//! field that is gone, or a number that became another one, stops the upgrade until a person says
//! `--accept-loss`. With a newer version and `from = OldLedger` it is `OldLedger` that must hold
//! all that the old code saved; what is made of that is its author's business, and the check's.
//!
//! # Imports
//!
//! Every import of a component costs time at each restart, so with the default feature `lean` a
//! guest has no WASI imports until it uses something that needs them: files, sockets, standard
//! input, or a `HashMap` (one function, for its seed; a `BTreeMap` needs none). With `lean`,
//! environment variables are empty. A guest that reads files says so: `#[guest(files)]`. It can't
//! write any; see [`files`] for adding to one.

#[cfg(feature = "bytes")]
pub use bytes;
#[cfg(feature = "chrono")]
pub use chrono;
pub use guest_sdk_macros::{data, guest, state};
#[cfg(feature = "rust_decimal")]
pub use rust_decimal;
#[cfg(feature = "url")]
pub use url;
#[cfg(feature = "uuid")]
pub use uuid;

pub use crate::guest::{CrashReport, Fallback, Recovery, Stale};
pub use crate::rejection::Rejection;
pub use crate::state::State;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_family = "wasm")]
mod call;
pub mod clock;
#[cfg(target_family = "wasm")]
mod component;
pub mod context;
#[cfg(target_family = "wasm")]
mod directories;
pub mod entropy;
pub mod files;
mod guest;
mod host;
pub mod http;
#[cfg(all(target_family = "wasm", feature = "lean"))]
mod lean;
pub mod log;
pub mod output;
#[cfg(target_family = "wasm")]
mod panic;
pub mod prelude;
pub mod redis;
mod rejection;
pub mod resource;
mod schema;
pub mod sql;
pub mod staged;
mod state;
#[cfg(all(target_family = "wasm", not(feature = "lean")))]
mod streams;
#[cfg(not(target_family = "wasm"))]
pub mod test;
#[cfg(any(target_family = "wasm", test))]
mod text;
mod wire;

/// What generated code names. Not for use by hand, and free to change.
#[doc(hidden)]
pub mod __private {
    pub use schemars;
    pub use serde;

    #[cfg(target_family = "wasm")]
    pub use crate::bindings;
    #[cfg(target_family = "wasm")]
    pub use crate::call::call;
    #[cfg(target_family = "wasm")]
    pub use crate::component::{Component, State, Stateful};
    pub use crate::guest::{Argument, CallError, Contract, Fallible, Guest, Hooks};
    pub use crate::schema::{argument_schema, result_schema};
    pub use crate::state::{
        ByForm, BySerde, NotAtAll, Probe, migrate, read_state, unknown_version, write_state,
    };
    pub use crate::wire::{decode_arguments, decode_parameters, encode_reply};
}

/// Exports a guest's type as the component; there is none outside wasm.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($guest:ty) => {};
}
