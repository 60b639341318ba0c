//! What a guest reaches outside of the host: by name, through whoever keeps it.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::base::ids::ResourceGeneration;
use crate::base::ticket::Claim;
use crate::pure::resource::operation::{CallError, CallResult, Operation};

/// The resources of one daemon, for the transaction that runs.
pub trait Outside: Send + Sync {
    /// Begins a call; the thread that calls this is the one that the claim wakes.
    ///
    /// # Errors
    ///
    /// [`CallError`] when it could not even begin.
    fn call(
        &self,
        resource: &str,
        operation: Operation,
        until: Instant,
    ) -> Result<Claim<CallResult>, CallError>;

    /// Keeps an operation of so many bytes for when the running transaction's commit is durable.
    ///
    /// # Errors
    ///
    /// [`CallError`]: it is not kept.
    fn stage(
        &self,
        resource: &str,
        operation: Operation,
        repeatable: bool,
        bytes: usize,
    ) -> Result<(), CallError>;

    /// Whether a resource may be used, and which generation of it is meant by its name; none when
    /// the daemon has none of that name.
    fn look(&self, resource: &str) -> Option<(bool, ResourceGeneration)>;

    /// The names of all resources, each with its kind, for people.
    fn names(&self) -> Vec<String>;

    /// The only resource of that kind; none when there are more, or none.
    fn only(&self, kind: &str) -> Option<String>;

    /// The resource of HTTP that a request to this URL is for: the only one, or the first that
    /// lets it pass.
    fn for_url(&self, url: &str) -> Option<String>;

    /// Whether the daemon has a resource of that name and kind.
    fn is_of_kind(&self, resource: &str, kind: &str) -> bool;

    /// The names of the directories that the daemon may read.
    fn directories(&self) -> Vec<String>;

    /// What each key begins with at that resource.
    fn prefix(&self, resource: &str) -> String;

    /// A constant.
    fn constant(&self, key: &str) -> Option<String>;

    /// All constants.
    fn config(&self) -> BTreeMap<String, String>;
}
