//! Identities. Ids grow and are never reused; a generation tells incarnations of one id apart.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A node of the tree that `host ps` prints: the root or a daemon.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the process.
    pub const ROOT: Self = Self(1);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One request, and with it the transaction that answers it.
///
/// Written as 16 hexadecimal digits everywhere outside the process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Hands out request ids.
///
/// The first id is the start time in milliseconds shifted left by 20 bits, so that ids of a later
/// run are larger unless a run answered more than a million requests per millisecond of its life;
/// and larger than those that an earlier run left behind, should the clock stand still or go back.
#[derive(Debug)]
pub struct RequestIds(AtomicU64);

impl RequestIds {
    /// Ids for a run that starts at `unix_nanos`, and that finds `last` of an earlier one.
    #[must_use]
    pub fn starting_at(unix_nanos: u64, last: RequestId) -> Self {
        let first = ((unix_nanos / 1_000_000) << 20).max(last.0.saturating_add(1));
        Self(AtomicU64::new(first))
    }

    /// The next id; never the same twice.
    pub fn next(&self) -> RequestId {
        RequestId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Incarnation number of an instance, from 1; grows by one with each restart.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The first incarnation.
    pub const FIRST: Self = Self(1);

    /// The incarnation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a commit within a daemon, without gaps; 0 is the state that `init` made.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The commit after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One transaction's right to use a resource, from its beginning to its end.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Hands out the lease ids of a process, to all of its resources.
#[derive(Debug, Default)]
pub struct LeaseIds(AtomicU64);

impl LeaseIds {
    /// The next id, from 1; never the same twice.
    pub fn next(&self) -> LeaseId {
        LeaseId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A connection to what a resource stands for. Leases may share one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Hands out the connection ids of a process, to all of its resources.
#[derive(Debug, Default)]
pub struct ConnectionIds(AtomicU64);

impl ConnectionIds {
    /// The next id, from 1; never the same twice.
    pub fn next(&self) -> ConnectionId {
        ConnectionId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// How often a resource has become available, from 1: what is behind its name may be another
/// thing each time.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ResourceGeneration(pub u64);

impl ResourceGeneration {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ResourceGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_grow_within_a_run_and_from_run_to_run() {
        let first = RequestIds::starting_at(1_700_000_000_000_000_000, RequestId(0));
        let a = first.next();
        let b = first.next();
        assert!(a < b);
        let later = RequestIds::starting_at(1_700_000_000_001_000_000, b).next();
        assert!(b < later);
        for frozen in [1_700_000_000_000_000_000, 0] {
            assert!(later < RequestIds::starting_at(frozen, later).next());
        }
        assert_eq!(a.to_string().len(), 16);
    }

    #[test]
    fn generations_and_sequences_grow_by_one() {
        assert_eq!(Generation::FIRST.next(), Generation(2));
        assert_eq!(Sequence::default().next(), Sequence(1));
        assert_eq!(ResourceGeneration::default().next(), ResourceGeneration(1));
        let leases = LeaseIds::default();
        assert_eq!([leases.next(), leases.next()], [LeaseId(1), LeaseId(2)]);
        let connections = ConnectionIds::default();
        assert_eq!([connections.next(), connections.next()], [ConnectionId(1), ConnectionId(2)]);
    }
}
