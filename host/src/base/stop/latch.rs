//! The latch itself: one word.
//!
//! ```text
//!  0 --- compare-exchange ---> reason, for ever --- a later emergency ---> the same, in a hurry
//! ```
//!
//! The text of an emergency is stored before the word says that there is one, by whoever took the
//! place for it; so nobody who reads the word waits for the text, and none finds it missing.

use std::sync::OnceLock;

use super::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::base::error::Code;
use crate::base::stop::Reason;

/// The word's kinds, in its lowest byte. What belongs to the reason is in the next.
const ASKED: u64 = 1;
const SIGNAL: u64 = 2;
const EMERGENCY: u64 = 3;
const KIND: u64 = 0xff;
/// The emergency has a text.
const TEXT: u64 = 1 << 32;
/// An emergency came after the reason.
const HURRY: u64 = 1 << 33;

/// Whether the host has to end, and why.
#[derive(Debug)]
pub struct StopLatch {
    word: AtomicU64,
    text_taken: AtomicBool,
    text: OnceLock<String>,
}

impl Default for StopLatch {
    fn default() -> Self {
        Self::new()
    }
}

impl StopLatch {
    /// A latch that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), text_taken: AtomicBool::new(false), text: OnceLock::new() }
    }

    /// Sets the latch; false when it was set already, and its reason stays: an emergency then only
    /// lets the stop hurry. Returns at once, takes no lock and no memory: a signal handler may call
    /// it.
    pub fn trigger(&self, reason: Reason) -> bool {
        self.set(match reason {
            Reason::Asked => ASKED,
            Reason::Signal(number) => SIGNAL | u64::from(number) << 8,
            Reason::Emergency(code) => EMERGENCY | (code as u64) << 8,
        })
    }

    /// Sets the latch for an emergency, with a text for people; false when it was set already. Not
    /// for signal handlers: the text needs memory.
    ///
    /// The text is lost when two emergencies race, and one takes the text's place while the other
    /// sets the latch first. The code is not.
    pub fn emergency(&self, code: Code, text: impl Into<String>) -> bool {
        let bare = EMERGENCY | (code as u64) << 8;
        if self.is_set() || self.text_taken.swap(true, Ordering::AcqRel) {
            return self.set(bare);
        }
        // Its place was taken, so nobody else sets it.
        let stored = self.text.set(text.into()).is_ok();
        self.set(if stored { bare | TEXT } else { bare })
    }

    fn set(&self, word: u64) -> bool {
        let set = self.word.compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire);
        if set.is_err() && word & KIND == EMERGENCY {
            self.word.fetch_or(HURRY, Ordering::AcqRel);
        }
        set.is_ok()
    }

    /// True once there was an emergency, first or later: nothing gets its grace any more.
    #[must_use]
    pub fn hurries(&self) -> bool {
        let word = self.word.load(Ordering::Acquire);
        word & HURRY != 0 || word & KIND == EMERGENCY
    }

    /// True once it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.word.load(Ordering::Acquire) != 0
    }

    /// Why, once it is set.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        let word = self.word.load(Ordering::Acquire);
        let detail = (word & (TEXT - 1)) >> 8;
        match word & KIND {
            ASKED => Some(Reason::Asked),
            SIGNAL => Some(Reason::Signal(u8::try_from(detail).unwrap_or(u8::MAX))),
            EMERGENCY => {
                let code = usize::try_from(detail).ok().and_then(|at| Code::ALL.get(at));
                Some(Reason::Emergency(code.copied().unwrap_or(Code::HostBug)))
            }
            _ => None,
        }
    }

    /// What was said with the reason, if the emergency that won has a text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        let word = self.word.load(Ordering::Acquire);
        if word & TEXT == 0 { None } else { self.text.get().map(String::as_str) }
    }
}
