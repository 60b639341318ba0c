//! What resources a root is started with, and which daemons depend on them.

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

/// What a daemon wants of the resources, by their whole names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dependencies {
    /// The service that the daemon belongs to; none when it stands alone.
    pub service: Option<String>,
    /// It can't do without these.
    pub needs: Vec<String>,
}
