//! What [`crate::slot`] is built on. Its model under a scheduler has other primitives here.

pub(crate) use std::sync::{Mutex, PoisonError};
