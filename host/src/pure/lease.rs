//! Leases: the rights of transactions to use a resource while they run.
//!
//! Each resource has its [`Leases`], behind its lock: to take a lease is to be allowed to use the
//! resource, and the lease is there until it is given back or taken away. A lease has an id of its
//! own; the connection that it uses has another one, which leases may share. When a connection
//! dies exactly its leases end, and when the resource does, all of them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::{ConnectionId, LeaseId, LeaseIds, NodeId, RequestId, ResourceGeneration};

/// One lease. `H` is whatever its end is told to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease<H> {
    /// The generation of the resource that it is for.
    pub generation: ResourceGeneration,
    /// The connection that it uses; none before the first use, and where there are none.
    pub connection: Option<ConnectionId>,
    /// Whose it is.
    pub daemon: NodeId,
    /// For which request; request 0 is what the daemon does for itself.
    pub request: RequestId,
    /// To be told when it ends early.
    pub holder: H,
}

/// The leases of one resource, oldest first.
#[derive(Debug)]
pub struct Leases<H> {
    ids: Arc<LeaseIds>,
    /// In the order of their ids, which are taken in turn. Most are given back soon after they were
    /// taken, so little has to move.
    held: VecDeque<(LeaseId, Lease<H>)>,
}

impl<H> Leases<H> {
    /// No leases, and room for so many without another allocation. `ids` gives ids to all resources
    /// of the process.
    #[must_use]
    pub fn new(ids: Arc<LeaseIds>, room: usize) -> Self {
        Self { ids, held: VecDeque::with_capacity(room) }
    }

    /// Takes a lease. Whether the resource may be used the caller knows, under the same lock.
    pub fn acquire(&mut self, lease: Lease<H>) -> LeaseId {
        let id = self.ids.next();
        self.held.push_back((id, lease));
        id
    }

    /// Says which connection a lease uses from now on; false when it has ended.
    #[must_use = "a lease that has ended may not use a connection"]
    pub fn connect(&mut self, id: LeaseId, connection: ConnectionId) -> bool {
        let place = self.place(id);
        let found = place.and_then(|place| self.held.get_mut(place));
        found.map(|(_, lease)| lease.connection = Some(connection)).is_some()
    }

    /// Gives a lease back; none when it was taken away meanwhile.
    pub fn release(&mut self, id: LeaseId) -> Option<Lease<H>> {
        self.held.remove(self.place(id)?).map(|(_, lease)| lease)
    }

    /// Those that use this connection.
    pub fn of_connection(
        &self,
        connection: ConnectionId,
    ) -> impl Iterator<Item = (LeaseId, &Lease<H>)> {
        self.list().filter(move |(_, lease)| lease.connection == Some(connection))
    }

    /// Takes away those that use this connection: it died.
    pub fn take_connection(&mut self, connection: ConnectionId) -> Vec<(LeaseId, Lease<H>)> {
        let mut taken = Vec::new();
        // Each goes round once, so that the order stays and so does the room.
        for _ in 0..self.held.len() {
            match self.held.pop_front() {
                Some(ended) if ended.1.connection == Some(connection) => taken.push(ended),
                Some(other) => self.held.push_back(other),
                None => break,
            }
        }
        taken
    }

    /// Takes all away: the resource is down.
    pub fn take_all(&mut self) -> Vec<(LeaseId, Lease<H>)> {
        self.held.drain(..).collect()
    }

    /// All of them.
    pub fn list(&self) -> impl Iterator<Item = (LeaseId, &Lease<H>)> {
        self.held.iter().map(|(id, lease)| (*id, lease))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held.len()
    }

    fn place(&self, id: LeaseId) -> Option<usize> {
        self.held.binary_search_by_key(&id, |(id, _)| *id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::dice::Dice;

    fn lease(connection: Option<u64>, daemon: u64) -> Lease<u64> {
        Lease {
            generation: ResourceGeneration(1),
            connection: connection.map(ConnectionId),
            daemon: NodeId(daemon),
            request: RequestId(daemon),
            holder: daemon,
        }
    }

    fn ids(leases: &[(LeaseId, Lease<u64>)]) -> Vec<LeaseId> {
        leases.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn s0_09_two_leases_of_one_connection_end_with_it_and_dropping_one_leaves_the_other() {
        let mut leases = Leases::new(Arc::default(), 4);
        let [a, b, c] = [7, 7, 8].map(|connection| leases.acquire(lease(Some(connection), 1)));
        let waiting = leases.acquire(lease(None, 2));
        assert!(a < b && b < c, "each has an id of its own");
        assert!(leases.release(a).is_some());
        assert_eq!(leases.release(a), None, "once");
        assert_eq!(ids(&leases.take_connection(ConnectionId(7))), [b], "its clone was left");
        assert_eq!(leases.release(b), None, "it was taken away");
        assert!(!leases.connect(b, ConnectionId(8)));
        assert!(leases.connect(waiting, ConnectionId(8)));
        assert_eq!(ids(&leases.take_connection(ConnectionId(8))), [c, waiting]);
        assert_eq!(leases.count(), 0);
    }

    /// Compares with a plain list, for two resources that share their ids.
    #[test]
    fn s0_08_s0_10_leases_are_those_of_a_plain_list_whatever_happens() {
        for seed in 0..300 {
            let mut dice = Dice(seed);
            let shared = Arc::new(LeaseIds::default());
            let mut resources = [0, 1].map(|_| Leases::new(shared.clone(), 32));
            let mut models: [Vec<(LeaseId, Lease<u64>)>; 2] = Default::default();
            let mut last = LeaseId(0);
            for step in 0..200 {
                let which = dice.index(2);
                let (leases, model) = (&mut resources[which], &mut models[which]);
                let connection = dice.below(3);
                // Some that have ended, and some of the other resource.
                let id = LeaseId(dice.below(last.0 + 2));
                match dice.below(20) {
                    0 => assert_eq!(leases.take_all(), std::mem::take(model), "seed {seed}"),
                    1 => {
                        let hit =
                            |lease: &Lease<u64>| lease.connection == Some(ConnectionId(connection));
                        let (dead, live) = model.drain(..).partition(|(_, lease)| hit(lease));
                        *model = live;
                        let listed = leases.of_connection(ConnectionId(connection));
                        let listed: Vec<LeaseId> = listed.map(|(id, _)| id).collect();
                        let taken = leases.take_connection(ConnectionId(connection));
                        assert_eq!(taken, dead, "seed {seed}");
                        assert_eq!(listed, ids(&dead), "seed {seed}");
                    }
                    2..5 => {
                        let found = model.iter_mut().find(|(known, _)| *known == id);
                        let known = found.is_some();
                        if let Some((_, lease)) = found {
                            lease.connection = Some(ConnectionId(connection));
                        }
                        assert_eq!(leases.connect(id, ConnectionId(connection)), known);
                    }
                    5..12 => {
                        let place = model.iter().position(|(known, _)| *known == id);
                        let expected = place.map(|place| model.remove(place).1);
                        assert_eq!(leases.release(id), expected, "seed {seed}");
                    }
                    _ => {
                        let new = lease((connection > 0).then_some(connection), step);
                        let id = leases.acquire(new.clone());
                        assert!(id > last, "seed {seed}");
                        last = id;
                        model.push((id, new));
                    }
                }
                let list: Vec<(LeaseId, Lease<u64>)> =
                    leases.list().map(|(id, lease)| (id, lease.clone())).collect();
                assert_eq!((&list, leases.count()), (&*model, model.len()), "seed {seed}");
            }
        }
    }
}
