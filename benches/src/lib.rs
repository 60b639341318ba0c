//! Measures the host side by side with what it replaces.
//!
//! All contenders of a comparison run in one process (or a helper of it), in turns, so that a
//! machine whose speed changes changes it for all of them. [`race`] takes the turns, [`contenders`]
//! are what is measured, [`sections`] are the comparisons, [`table`] shows them with the goals they
//! have.
//!
//! The guests must be built: `cargo xtask bench` does that first.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that can't go on has nothing better to do than to stop and say where"
)]

pub mod contenders;
pub mod machine;
pub mod race;
pub mod sections;
pub mod table;
