//! What a daemon shows others, and what they show it.
//!
//! A guest keeps an [`Output`] in its state and shows a value in it. Guests of other daemons of the
//! same host look at that value, as of the last commit that is durable; nobody waits for anybody,
//! and nobody can change what another daemon shows.
//!
//! ```
//! use guest_sdk::output::{self, Output};
//! use guest_sdk::prelude::*;
//! use guest_sdk::test::{Harness, json};
//!
//! #[state]
//! #[derive(Clone, Default)]
//! struct Thermometer {
//!     shown: Output,
//! }
//!
//! #[guest]
//! impl Thermometer {
//!     pub fn set(&mut self, degrees: i32) -> Result<(), Rejection> {
//!         self.shown.show(&degrees)
//!     }
//!
//!     /// How much warmer it is here than where another thermometer is.
//!     pub fn difference(&self, here: i32, other: String) -> Result<i32, Rejection> {
//!         match output::look::<i32>(&other)? {
//!             Some(there) => Ok(here - there.value),
//!             None => reject!("dark", "`{other}` shows nothing"),
//!         }
//!     }
//! }
//!
//! let mut here = Harness::<Thermometer>::new(json!({}));
//! here.call("set", json!([21])).committed();
//! assert_eq!(here.shown::<i32>(), Some(21));
//! here.set_output("cellar", 7, &12);
//! let warmer = here.call("difference", json!({"here": 21, "other": "cellar"}));
//! assert_eq!(warmer.committed(), json!(9));
//! ```

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rejection::Rejection;
use crate::{host, wire};

/// Bytes that are read at once.
const PIECE_BYTES: u32 = 64 << 10;

/// The place in a guest's state of what its daemon shows. One per daemon: of several, the one that
/// was shown last counts.
///
/// What it shows is part of the state: it is undone with a transaction that does not commit, and is
/// there again after a restart; upgraded code shows it as soon as it has loaded it. Hide it before
/// you drop it: the host shows a range of memory, whatever comes to be there.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
}

impl Output {
    /// Shows `value` from the commit of this transaction on.
    ///
    /// # Errors
    ///
    /// A rejection with the code `bad_output` when the value has no form in MessagePack. A value of
    /// more bytes than the host's limit (1 MiB) crashes the transaction at its end.
    pub fn show<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Rejection> {
        let bytes =
            wire::encode(value).map_err(|error| Rejection::new("bad_output", error.to_string()))?;
        self.show_bytes(bytes);
        Ok(())
    }

    /// Shows bytes of any form from the commit of this transaction on; none to show nothing.
    pub fn show_bytes(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        host::show(&self.bytes);
    }

    /// Shows nothing from the commit of this transaction on.
    pub fn hide(&mut self) {
        self.show_bytes(Vec::new());
    }

    /// The bytes that it shows.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A copy has the bytes, but they are not what the daemon shows.
impl Clone for Output {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone() }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("bytes", &self.bytes.len()).finish()
    }
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bytes.serialize(serializer)
    }
}

/// Loading it, after an upgrade, shows it.
impl<'de> Deserialize<'de> for Output {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut output = Self::default();
        let bytes = Vec::deserialize(deserializer)?;
        if !bytes.is_empty() {
            output.show_bytes(bytes);
        }
        Ok(output)
    }
}

/// A version of what another daemon shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen<T> {
    /// The other daemon's commit that it is of. Grows with each version.
    pub sequence: u64,
    /// What it showed then.
    pub value: T,
}

/// What a daemon shows, the same to the end of the transaction; none when it shows nothing or there
/// is no such daemon.
///
/// # Errors
///
/// A rejection with the code `bad_output` when it is no `T`.
pub fn look<T: DeserializeOwned>(daemon: &str) -> Result<Option<Seen<T>>, Rejection> {
    let Some(Seen { sequence, value }) = look_at_bytes(daemon) else { return Ok(None) };
    let wrong = |error| Rejection::new("bad_output", format!("what `{daemon}` shows: {error}"));
    Ok(Some(Seen { sequence, value: wire::decode(&value).map_err(wrong)? }))
}

/// The bytes that a daemon shows, as [`look`].
#[must_use]
pub fn look_at_bytes(daemon: &str) -> Option<Seen<Vec<u8>>> {
    let (sequence, size) = host::look(daemon)?;
    let mut value = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut offset = 0;
    while offset < size {
        let piece = host::read_output(daemon, offset, PIECE_BYTES);
        if piece.is_empty() {
            break;
        }
        offset = offset.saturating_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        value.extend_from_slice(&piece);
    }
    Some(Seen { sequence, value })
}
