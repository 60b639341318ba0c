//! Room for bytes that many hold for a while, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes, of which parts are taken and given back.
#[derive(Clone, Debug)]
pub struct Room(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    taken: AtomicUsize,
    bytes_max: usize,
}

/// A part of it, given back when it is dropped.
#[derive(Debug)]
#[must_use = "it is given back at once"]
pub struct Taken {
    room: Room,
    bytes: usize,
}

impl Room {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Counted { taken: AtomicUsize::new(0), bytes_max }))
    }

    /// Takes so many bytes; none when there are fewer left.
    pub fn take(&self, bytes: usize) -> Option<Taken> {
        let more = |taken: usize| taken.checked_add(bytes).filter(|all| *all <= self.0.bytes_max);
        let taken = self.0.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_before| Taken { room: self.clone(), bytes })
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Acquire)
    }

    /// All of it.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let room = Room::new(10);
        let (some, rest) = (room.take(4).unwrap(), room.take(6).unwrap());
        assert!(room.take(1).is_none() && room.take(usize::MAX).is_none());
        assert!(room.take(0).is_some());
        drop(some);
        assert_eq!(room.taken(), 6);
        drop((room.take(4).unwrap(), rest));
        assert_eq!(room.taken(), 0);
    }
}
