//! What resources a root is started with.

use std::sync::Arc;

use crate::mechanisms::providers::Provider;
use crate::pure::resource::Policy;

/// A resource to keep.
#[derive(Clone, Debug)]
pub struct ResourcePlan {
    /// Its name: `SERVICE/NAME`.
    pub name: String,
    /// How it is reached.
    pub provider: Arc<dyn Provider>,
    /// Run in order each time, before it counts as available.
    pub jobs: Vec<String>,
    /// Its delays.
    pub policy: Policy,
}
