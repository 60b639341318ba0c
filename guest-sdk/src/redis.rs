//! Redis: commands and scripts of a resource of kind `redis`.
//!
//! ```
//! use guest_sdk::prelude::*;
//! use guest_sdk::redis;
//! use guest_sdk::test::{Harness, json};
//!
//! #[derive(Clone, Default)]
//! struct Visits;
//!
//! #[guest]
//! impl Visits {
//!     /// Counts a visit, and answers how many there were.
//!     pub fn visit(&mut self, page: String) -> Result<i64, Rejection> {
//!         let count = redis::command("cache", ["INCR", &page])?;
//!         count.int().ok_or_else(|| Rejection::new("odd", "the cache answered no number"))
//!     }
//! }
//!
//! let mut visits = Harness::<Visits>::new(json!({}));
//! visits.set_redis("cache", |words| {
//!     assert_eq!(words, [b"INCR".to_vec(), b"home".to_vec()]);
//!     Ok(redis::Value::Int(7))
//! });
//! assert_eq!(visits.call("visit", json!(["home"])).committed(), json!(7));
//! ```

use crate::host;
use crate::resource::CallError;

/// What a command answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Nothing there.
    Nil,
    /// A status line, like `OK`.
    Status(String),
    /// A number.
    Int(i64),
    /// A string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
}

impl Value {
    /// The number, if it is one.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// The text of a string or a status, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// What is in a list; nothing in anything else.
    #[must_use]
    pub fn list(&self) -> &[Self] {
        if let Self::List(values) = self { values } else { &[] }
    }
}

/// Runs one command, its name first. What blocks, and what changes the connection, is denied: it is
/// shared with others.
///
/// # Errors
///
/// [`CallError`].
pub fn command<W: AsRef<[u8]>>(
    resource: &str,
    words: impl IntoIterator<Item = W>,
) -> Result<Value, CallError> {
    host::redis(resource, &owned(words))
}

/// Runs a script. The host sends its hash where the server knows it already.
///
/// # Errors
///
/// [`CallError`].
pub fn eval<K: AsRef<[u8]>, A: AsRef<[u8]>>(
    resource: &str,
    script: &str,
    keys: impl IntoIterator<Item = K>,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Value, CallError> {
    host::redis_eval(resource, script, &owned(keys), &owned(arguments))
}

pub(crate) fn owned<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> Vec<Vec<u8>> {
    words.into_iter().map(|word| word.as_ref().to_vec()).collect()
}

/// One element of an answer, as the host hands it over.
#[cfg(any(target_family = "wasm", test))]
pub(crate) enum Flat {
    One(Value),
    /// The next so many values are in it.
    Items(u32),
}

/// Makes one value of the host's flat list; nil of one that isn't whole.
#[cfg(any(target_family = "wasm", test))]
pub(crate) fn fold(flat: Vec<Flat>) -> Value {
    // Lists that are not full yet, with how many values they still miss.
    let mut open: Vec<(Vec<Value>, u32)> = Vec::new();
    for element in flat {
        let mut value = match element {
            Flat::Items(count) if count > 0 => {
                open.push((Vec::new(), count));
                continue;
            }
            Flat::Items(_) => Value::List(Vec::new()),
            Flat::One(value) => value,
        };
        loop {
            let Some((values, missing)) = open.last_mut() else { return value };
            values.push(value);
            *missing -= 1;
            if *missing > 0 {
                break;
            }
            value = Value::List(open.pop().map(|(values, _)| values).unwrap_or_default());
        }
    }
    Value::Nil
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_answer_becomes_lists_in_lists() {
        let int = |number| Flat::One(Value::Int(number));
        let flat = vec![
            Flat::Items(3),
            int(1),
            Flat::Items(2),
            int(2),
            Flat::Items(0),
            Flat::One(Value::Nil),
        ];
        let inner = Value::List(vec![Value::Int(2), Value::List(vec![])]);
        assert_eq!(fold(flat), Value::List(vec![Value::Int(1), inner, Value::Nil]));
        assert_eq!(fold(vec![int(7)]), Value::Int(7));
        assert_eq!(fold(vec![Flat::Items(2), int(7)]), Value::Nil);
        assert_eq!(fold(vec![]), Value::Nil);
    }
}
