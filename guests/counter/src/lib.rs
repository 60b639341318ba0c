//! The smallest guest: one number.
//!
//! ```
//! use counter::Counter;
//! use guest_sdk::test::{Harness, json};
//!
//! let mut counter = Harness::<Counter>::new(json!({}));
//! assert_eq!(counter.call("increment", json!({"by": 2})).committed(), json!(2));
//! assert_eq!(counter.call("value", json!({})).committed(), json!(2));
//! ```

use guest_sdk::prelude::*;

/// A number that only grows.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Counter {
    value: u64,
}

#[guest]
impl Counter {
    /// Adds `by` and answers the new value; `overflow` where that would not fit in 64 bits.
    pub fn increment(&mut self, by: u64) -> Result<u64, Rejection> {
        let Some(value) = self.value.checked_add(by) else {
            reject!("overflow", "{} + {by} does not fit in 64 bits", self.value);
        };
        self.value = value;
        Ok(value)
    }

    /// Answers the value.
    pub fn value(&self) -> u64 {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use guest_sdk::test::{Harness, Outcome, json};

    use super::*;

    #[test]
    fn overflow_is_rejected_and_changes_nothing() {
        let mut counter = Harness::<Counter>::new(json!({}));
        assert_eq!(counter.call("increment", json!([u64::MAX])).committed(), json!(u64::MAX));
        let outcome = counter.call("increment", json!([1]));
        assert!(
            matches!(outcome, Outcome::Rejected(ref rejection) if rejection.code() == "overflow")
        );
        assert_eq!(counter.call("value", json!([])).committed(), json!(u64::MAX));
    }

    #[test]
    fn a_negative_step_is_a_bad_argument() {
        let mut counter = Harness::<Counter>::new(json!({}));
        assert!(matches!(counter.call("increment", json!({"by": -1})), Outcome::BadArguments(_)));
    }
}
