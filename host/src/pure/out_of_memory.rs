//! Whether a guest that stopped itself ran out of memory, and what to say then.
//!
//! The host knows that it refused memory; it can't see whether that is why the guest went on to
//! stop. A guest may do with less, and panic over something else in the same call. Its last words
//! tell: a panic names its own reason, an allocator's abort names the allocation or nothing.

use super::size::show_bytes;

/// Memory that a guest asked for and did not get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Denied {
    /// Bytes that it asked for on top of what it had.
    pub asked: usize,
    /// Bytes that it had.
    pub used: usize,
    /// Bytes that it may have.
    pub limit: Limit,
}

/// What was reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// The daemon's budget.
    Budget(usize),
    /// The maximum that the guest's own file states.
    Own(usize),
}

/// How allocators say that they have nothing left: std's abort, its error where a panic shows it.
const ALLOCATORS: [&str; 3] = ["memory allocation of", "AllocError", "out of memory"];

impl Denied {
    /// What the crash was, if it was this. `words` are the guest's last ones.
    #[must_use]
    pub fn explain(&self, words: Option<&str>) -> Option<String> {
        let words = words.unwrap_or_default();
        let is_mute = words.is_empty() || words == "aborted";
        if !is_mute && !ALLOCATORS.iter().any(|said| words.contains(said)) {
            return None;
        }
        let (asked, used) = (show_bytes(self.asked), show_bytes(self.used));
        Some(match self.limit {
            Limit::Budget(budget) => {
                let budget = show_bytes(budget);
                format!("it asked for {asked} more while it used {used} of its budget of {budget}")
            }
            Limit::Own(maximum) => {
                let maximum = show_bytes(maximum);
                format!(
                    "it asked for {asked} more while it used {used}; its own file allows {maximum}"
                )
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: Denied =
        Denied { asked: 5 << 20, used: 60 << 20, limit: Limit::Budget(64 << 20) };

    #[test]
    fn an_allocators_abort_is_told_from_a_panic_over_something_else() {
        for (words, is_it) in [
            (None, true),
            (Some("aborted"), true),
            (Some("aborted, having printed: memory allocation of 17 bytes failed"), true),
            (Some("memory allocation of 17 bytes failed"), true),
            (Some("TryReserveError { kind: AllocError { .. } } (src/lib.rs:7)"), true),
            (Some("index out of bounds (src/lib.rs:7)"), false),
            (Some("aborted, having printed: hello"), false),
        ] {
            assert_eq!(DENIED.explain(words).is_some(), is_it, "{words:?}");
        }
    }

    #[test]
    fn it_says_what_was_asked_for_what_was_used_and_what_is_allowed() {
        let budget = DENIED.explain(None).unwrap();
        let own = Denied { limit: Limit::Own(60 << 20), ..DENIED }.explain(None).unwrap();
        for told in ["5 MiB", "60 MiB"] {
            assert!(budget.contains(told) && own.contains(told), "{budget}; {own}");
        }
        assert!(budget.contains("64 MiB") && own.contains("its own file"), "{budget}; {own}");
    }
}
