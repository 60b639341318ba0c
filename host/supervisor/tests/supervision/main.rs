//! Components, groups and whole trees under supervision.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

mod components;
mod groups;
mod script;
