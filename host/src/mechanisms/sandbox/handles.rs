//! What a guest holds of the host's resources, and which handle it would get next.
//!
//! The engine keeps a table of handles for the guest, which nobody can look into. The table of
//! resources here is its mirror: both give out the place that was freed last, else the next new
//! one, and whatever enters or leaves one enters or leaves the other in the same order. So what is
//! at place `n` here is handle `n + 1` of the guest.
//!
//! No image holds any of that. So a transaction has to leave it as it was after `prime`: the same
//! at each place, and the free places in the same order. A kind that has a state of its own
//! (headers, a file that is open) can't be kept at all.

use std::collections::BTreeMap;
use std::fmt;

use wasmtime::component::{Resource, ResourceTable};

use super::calls::is_root;
use crate::base::limits::HANDLES_MAX;

/// What may be held between calls. None of these has a state that a call could change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kept {
    Stdin,
    Stdout,
    Stderr,
    /// What waits for the stream at that place.
    Pollable(u32),
    /// `/`.
    Root,
}

/// One place of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Free,
    Kept(Kept),
    /// Something that no transaction may leave behind.
    Other,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("nothing"),
            Self::Kept(Kept::Stdin) => f.write_str("standard input"),
            Self::Kept(Kept::Stdout) => f.write_str("standard output"),
            Self::Kept(Kept::Stderr) => f.write_str("standard error"),
            Self::Kept(Kept::Pollable(of)) => {
                write!(f, "a pollable of handle {}", of.saturating_add(1))
            }
            Self::Kept(Kept::Root) => f.write_str("`/`"),
            Self::Other => f.write_str("another resource"),
        }
    }
}

/// A table of handles at one moment. Equal ones are the same to the guest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Held {
    /// Up to the last one that is in use, or out of order.
    places: Vec<Place>,
    /// Those that are free, in the order in which they are given out next.
    free: Vec<usize>,
}

impl Held {
    /// How many resources are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }

    /// As in an instance that has never run.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.places.is_empty()
    }

    /// The first handle that is another one than in `before`, with what it was and is.
    fn changed(&self, before: &Self) -> Option<(usize, Place, Place)> {
        let at = |held: &Self, place| held.places.get(place).copied().unwrap_or(Place::Free);
        let places = 0..self.places.len().max(before.places.len());
        let both = places.map(|place| (place + 1, at(before, place), at(self, place)));
        both.into_iter().find(|(_, was, is)| was != is)
    }

    /// Why a call may not end with this, when it began with `before`.
    pub(super) fn refuse(&self, before: &Self) -> Option<String> {
        let (handle, was, is) = self.changed(before)?;
        let (now, kept) = (self.count(), before.count());
        Some(if now == kept {
            format!("the call ended with {is} as handle {handle}, not {was}")
        } else {
            format!("the call ended with {now} host resources held, not {kept}")
        })
    }

    /// Why `prime` may not end with this.
    pub(super) fn refuse_kept(&self) -> Option<String> {
        let place = self.places.iter().position(|place| *place == Place::Other)?;
        Some(format!(
            "`prime` keeps a resource whose state could not be put back, as handle {}; what may be \
             kept is standard streams, pollables of them, and `/`",
            place + 1
        ))
    }
}

/// Fills a place while the table is looked at.
struct Probe;

/// The table.
#[derive(Debug)]
pub(super) struct Handles {
    table: ResourceTable,
    /// What may be kept of it, by place; `/` is known by itself.
    kept: BTreeMap<u32, Kept>,
    /// Somebody has had the table since it was looked at last.
    touched: bool,
}

impl Handles {
    pub(super) fn new() -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self { table, kept: BTreeMap::new(), touched: false }
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        self.touched = true;
        &mut self.table
    }

    /// Notes what was put at this place.
    pub(super) fn note(&mut self, place: u32, what: Kept) {
        self.kept.insert(place, what);
    }

    /// Notes that what was at this place is gone.
    pub(super) fn forget(&mut self, place: u32) {
        self.kept.remove(&place);
    }

    /// What is held; none when nobody has touched it since the last time.
    pub(super) fn look(&mut self) -> Option<Held> {
        if !std::mem::take(&mut self.touched) {
            return None;
        }
        // A table that may not become longer gives out its free places, in their order.
        self.table.set_max_capacity(0);
        let mut probes: Vec<Resource<Probe>> =
            std::iter::from_fn(|| self.table.push(Probe).ok()).collect();
        self.table.set_max_capacity(HANDLES_MAX);
        let mut free: Vec<usize> = probes.iter().map(|probe| index(probe.rep())).collect();
        while let Some(probe) = probes.pop() {
            // The last one first: that leaves the order as it was.
            let deleted = self.table.delete(probe);
            debug_assert!(deleted.is_ok(), "a probe is in the table");
        }
        let mut places = vec![Place::Free; self.table.iter_mut().count() + free.len()];
        for (place, its) in (0..).zip(&mut places) {
            if !free.contains(&index(place)) {
                *its = self.place(place);
            }
        }
        // Free ones at the end, in order, are as if they had never been used.
        while free.last().is_some_and(|last| last + 1 == places.len()) {
            free.pop();
            places.pop();
        }
        Some(Held { places, free })
    }

    fn place(&self, place: u32) -> Place {
        match self.kept.get(&place) {
            Some(what) => Place::Kept(*what),
            None if is_root(&self.table, place) => Place::Kept(Kept::Root),
            None => Place::Other,
        }
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
