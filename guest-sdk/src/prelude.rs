//! What a guest needs, in one line: `use guest_sdk::prelude::*;`.

pub use std::collections::{BTreeMap, BTreeSet};

pub use crate::{
    CrashReport, Recovery, Rejection, clock, context, data, debug, ensure, entropy, error, guest,
    info, output, reject, state, trace, warn,
};
