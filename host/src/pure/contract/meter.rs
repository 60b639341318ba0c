//! What reading a value costs, and who may end it.

use crate::base::error::Code;
use crate::base::limits::{
    VALUE_FUEL_ASKED, VALUE_FUEL_PER_BYTE, VALUE_FUEL_PER_STEP, VALUE_STEPS_MIN,
    VALUE_STEPS_PER_BYTE,
};
use crate::pure::value::Wrong;

/// Takes the fuel that was used since it was asked last; answers why reading is to end, if it is.
pub type Ask<'a> = dyn FnMut(u64) -> Option<Code> + 'a;

/// Counts the steps of reading values, in proportion to their bytes whatever the schema is.
pub struct Meter<'a> {
    ask: Option<&'a mut Ask<'a>>,
    spent: u64,
    /// What of that was asked for.
    asked: u64,
    /// Steps that the value which is being read may still take.
    steps_left: u64,
}

impl std::fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("spent", &self.spent).finish_non_exhaustive()
    }
}

impl<'a> Meter<'a> {
    /// Asks now and then; of short values never. Who makes it asks what was spent at the end.
    pub fn new(ask: &'a mut Ask<'a>) -> Self {
        Self { ask: Some(ask), spent: 0, asked: 0, steps_left: 0 }
    }

    /// Nobody pays, and nobody ends it: on the thread of whoever wants the value.
    #[must_use]
    pub fn free() -> Self {
        Self { ask: None, spent: 0, asked: 0, steps_left: 0 }
    }

    /// A value of so many bytes is read next.
    pub(super) fn begin(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.steps_left = bytes.saturating_mul(VALUE_STEPS_PER_BYTE).max(VALUE_STEPS_MIN);
    }

    /// One value of so many bytes was looked at.
    pub(super) fn step(&mut self, bytes: usize) -> Result<(), Wrong> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let long = bytes / VALUE_FUEL_PER_STEP;
        let Some(left) = self.steps_left.checked_sub(1 + long) else {
            let why = "its alternatives take too many steps: tell them apart by a constant";
            return Err(Wrong::broken(why));
        };
        self.steps_left = left;
        let fuel = VALUE_FUEL_PER_STEP + bytes.saturating_mul(VALUE_FUEL_PER_BYTE);
        self.spent = self.spent.saturating_add(fuel);
        let unasked = self.spent - self.asked;
        if unasked < VALUE_FUEL_ASKED {
            return Ok(());
        }
        self.asked = self.spent;
        match self.ask.as_mut().and_then(|ask| ask(unasked)) {
            None => Ok(()),
            Some(code) => Err(Wrong::Ended(code)),
        }
    }

    /// Fuel of all that was read.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent
    }
}
