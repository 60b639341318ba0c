//! What a guest needs, in one line: `use guest_sdk::prelude::*;`.

pub use std::collections::{BTreeMap, BTreeSet};

pub use crate::{
    CrashReport, Fallback, Recovery, Rejection, Stale, clock, context, data, debug, ensure,
    entropy, error, guest, info, output, reject, state, trace, warn,
};
