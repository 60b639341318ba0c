//! The guest's own "no".

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::num::{ParseFloatError, ParseIntError, TryFromIntError};
use std::str::Utf8Error;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire;

/// A guest's own "no": an answer to its caller, not a failure.
///
/// All changes of the transaction are rolled back, nothing restarts and no crash is counted.
///
/// ```
/// use guest_sdk::Rejection;
///
/// let rejection = Rejection::new("overdraft", "ann has only 3").with_details(&3_u64);
/// assert_eq!(rejection.code(), "overdraft");
/// assert_eq!(rejection.details::<u64>(), Some(3));
/// ```
///
/// `?` makes one of texts, and of errors that say all there is to say, like [`ParseIntError`].
/// Other errors, [`std::io::Error`] among them, need a code of the guest's own:
///
/// ```
/// use guest_sdk::Rejection;
///
/// fn rules() -> Result<String, Rejection> {
///     std::fs::read_to_string("/rules/today.txt")
///         .map_err(|error| Rejection::new("no_rules", error.to_string()))
/// }
/// assert_eq!(rules().unwrap_err().code(), "no_rules");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejection {
    code: Cow<'static, str>,
    message: String,
    /// A MessagePack value.
    details: Option<Vec<u8>>,
}

impl Rejection {
    /// A rejection with a stable `code` for programs and a `message` for people.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: None }
    }

    /// Adds a value for programs. One that can't be serialized is replaced by the text of the
    /// reason.
    #[must_use]
    pub fn with_details<T: Serialize + ?Sized>(mut self, details: &T) -> Self {
        let encoded = wire::encode(details)
            .or_else(|error| wire::encode(&format!("details cannot be serialized: {error}")));
        self.details = encoded.ok();
        self
    }

    /// The stable code, like `overdraft`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details, where there are any and they are a `T`.
    #[must_use]
    pub fn details<T: DeserializeOwned>(&self) -> Option<T> {
        wire::decode(self.details.as_deref()?).ok()
    }

    /// The details as they travel.
    #[cfg(target_family = "wasm")]
    pub(crate) fn encoded_details(&self) -> Option<&[u8]> {
        self.details.as_deref()
    }

    /// Takes the rejection apart, for the wire.
    #[cfg(target_family = "wasm")]
    pub(crate) fn into_parts(self) -> (String, String, Option<Vec<u8>>) {
        (self.code.into_owned(), self.message, self.details)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Rejection {}

impl From<String> for Rejection {
    /// A rejection with the code `rejected`.
    fn from(message: String) -> Self {
        Self::new("rejected", message)
    }
}

impl From<&str> for Rejection {
    /// A rejection with the code `rejected`.
    fn from(message: &str) -> Self {
        Self::new("rejected", message)
    }
}

impl From<TryFromIntError> for Rejection {
    /// A rejection with the code `out_of_range`.
    fn from(error: TryFromIntError) -> Self {
        Self::new("out_of_range", error.to_string())
    }
}

impl From<ParseIntError> for Rejection {
    /// A rejection with the code `not_a_number`.
    fn from(error: ParseIntError) -> Self {
        Self::new("not_a_number", error.to_string())
    }
}

impl From<ParseFloatError> for Rejection {
    /// A rejection with the code `not_a_number`.
    fn from(error: ParseFloatError) -> Self {
        Self::new("not_a_number", error.to_string())
    }
}

impl From<Utf8Error> for Rejection {
    /// A rejection with the code `not_utf8`.
    fn from(error: Utf8Error) -> Self {
        Self::new("not_utf8", error.to_string())
    }
}

impl From<Infallible> for Rejection {
    fn from(error: Infallible) -> Self {
        match error {}
    }
}

/// Leaves the function with a [`Rejection`]: a code, then what `format!` takes.
///
/// ```
/// # use guest_sdk::prelude::*;
/// fn half(amount: u64) -> Result<u64, Rejection> {
///     if amount % 2 == 1 {
///         reject!("odd", "{amount} can't be halved");
///     }
///     Ok(amount / 2)
/// }
/// assert_eq!(half(3), Err(Rejection::new("odd", "3 can't be halved")));
/// ```
#[macro_export]
macro_rules! reject {
    ($code:expr, $($message:tt)+) => {
        return ::core::result::Result::Err(::core::convert::Into::into(
            $crate::Rejection::new($code, ::std::format!($($message)+)),
        ))
    };
}

/// Leaves the function with a [`Rejection`] unless the condition holds.
///
/// ```
/// # use guest_sdk::prelude::*;
/// fn half(amount: u64) -> Result<u64, Rejection> {
///     ensure!(amount % 2 == 0, "odd", "{amount} can't be halved");
///     Ok(amount / 2)
/// }
/// assert_eq!(half(4), Ok(2));
/// ```
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $code:expr, $($message:tt)+) => {
        if !$condition {
            $crate::reject!($code, $($message)+);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_that_cannot_be_serialized_say_why() {
        struct Stubborn;
        impl Serialize for Stubborn {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        let details: String = Rejection::new("a", "b").with_details(&Stubborn).details().unwrap();
        assert!(details.contains("no"), "{details}");
    }

    #[test]
    fn question_mark_turns_common_errors_into_rejections() {
        fn narrow(wide: u64) -> Result<u8, Rejection> {
            Ok(u8::try_from(wide)?)
        }
        assert_eq!(narrow(7), Ok(7));
        assert_eq!(narrow(700).unwrap_err().code(), "out_of_range");
    }
}
