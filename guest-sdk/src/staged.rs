//! Effects that the host carries out when the transaction's commit is durable.
//!
//! A live call is seen by the world whatever becomes of the transaction. An effect that is staged
//! is forgotten when the transaction is rolled back, and carried out after its commit: once, if all
//! goes well. While the resource is down it waits, so staging one works then, too. When it is not
//! known whether it was carried out, because the connection broke before there was an answer, it is
//! given up, unless it is [`Effect::repeatable`]. What waits when the host's process dies is lost.
//!
//! Nobody hears what a resource answers: a refusal is counted, and logged by the host.
//!
//! ```
//! use guest_sdk::prelude::*;
//! use guest_sdk::staged;
//! use guest_sdk::test::{Harness, json};
//!
//! #[derive(Clone, Default)]
//! struct Orders {
//!     placed: u64,
//! }
//!
//! #[guest]
//! impl Orders {
//!     /// Places an order; the shelf is told of those alone that were placed.
//!     pub fn place(&mut self, item: String) -> Result<u64, Rejection> {
//!         self.placed += 1;
//!         staged::redis(["DECR", &item]).stage("shelf")?;
//!         ensure!(self.placed < 3, "closed", "no more orders today");
//!         Ok(self.placed)
//!     }
//! }
//!
//! let mut orders = Harness::<Orders>::new(json!({}));
//! orders.set_down("shelf", "it is being painted");
//! for item in ["a", "b", "c"] {
//!     let _outcome = orders.call("place", json!([item]));
//! }
//! let told = ["a", "b"].map(|item| ("shelf".to_owned(), staged::redis(["DECR", item])));
//! assert_eq!(orders.take_staged(), told);
//! ```

use crate::host;
use crate::http::Request;
use crate::redis::owned;
use crate::resource::CallError;
use crate::sql::Value;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Redis(Vec<Vec<u8>>),
    RedisScript { script: String, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>> },
    Sql { statement: String, values: Vec<Value> },
    Append { path: String, bytes: Vec<u8> },
    Http(Request),
}

/// An effect, which is nothing until it is staged.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "it is nothing until it is staged"]
pub struct Effect {
    pub(crate) kind: Kind,
    pub(crate) repeatable: bool,
}

impl Effect {
    fn new(kind: Kind) -> Self {
        Self { kind, repeatable: false }
    }

    /// It does no harm to carry it out twice: so it is sent again when nobody knows whether it was
    /// carried out.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Stages it, for the resource of that name.
    ///
    /// # Errors
    ///
    /// [`CallError`]; `Full` when too much waits for that resource, `Denied` in what commits
    /// nothing: read-only contracts, stateless daemons, and hooks.
    pub fn stage(self, resource: &str) -> Result<(), CallError> {
        host::stage(resource, self)
    }
}

/// One command of Redis, its name first.
pub fn redis<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> Effect {
    Effect::new(Kind::Redis(owned(words)))
}

/// A script of Redis.
pub fn eval<K: AsRef<[u8]>, A: AsRef<[u8]>>(
    script: &str,
    keys: impl IntoIterator<Item = K>,
    arguments: impl IntoIterator<Item = A>,
) -> Effect {
    let (keys, arguments) = (owned(keys), owned(arguments));
    Effect::new(Kind::RedisScript { script: script.to_owned(), keys, arguments })
}

/// One statement of SQL, on a connection of its own.
pub fn sql<V: Into<Value>>(statement: &str, values: impl IntoIterator<Item = V>) -> Effect {
    let values = values.into_iter().map(Into::into).collect();
    Effect::new(Kind::Sql { statement: statement.to_owned(), values })
}

/// Bytes that are added to the end of a file.
pub fn append(path: &str, bytes: &[u8]) -> Effect {
    Effect::new(Kind::Append { path: path.to_owned(), bytes: bytes.to_vec() })
}

/// A request of HTTP. An answer of 429, or of 500 and above, is a reason to send it again if it is
/// repeatable.
pub fn http(request: Request) -> Effect {
    Effect::new(Kind::Http(request))
}
