//! Readers: daemons that run read-only transactions on the state that another one has committed.
//!
//! A reader follows before each transaction, and answers for the commit that it has then. The
//! daemon itself publishes when its records are on their way to the journal, so that whoever waits
//! for them behind it waits for all that was seen.

use std::sync::Arc;
use std::time::Duration;

use super::recorder::{JournalSeat, Recorder};
use super::{Daemon, DaemonOptions, Phase, World};
use crate::base::error::{Code, Fault};
use crate::base::ids::Generation;
use crate::mechanisms::memory::{Followed, Follower, Images, Published};
use crate::mechanisms::sandbox::Guest;
use crate::tree::gauges::Gauges;

/// A reader's end of the daemon that it reads the state of.
#[derive(Debug)]
pub(in crate::tree) struct Following {
    /// The name of that daemon.
    pub(in crate::tree) of: Arc<str>,
    pub(in crate::tree) follower: Follower,
    /// Where its commits become durable, if they do.
    pub(in crate::tree) seat: Option<JournalSeat>,
}

impl Following {
    /// The journal has not gone back behind what was seen.
    fn stands(&self) -> bool {
        match (self.follower.published(), &self.seat) {
            (Some(seen), Some(seat)) => seen.incarnation == seat.journal.incarnation(),
            (seen, _) => seen.is_some(),
        }
    }

    fn nothing_yet(&self) -> Fault {
        let message = format!("daemon `{}` has no state yet that could be read", self.of);
        Fault::new(Code::Unavailable, message)
    }
}

impl Daemon {
    /// A reader. It has no instance before it has followed for the first time.
    pub(in crate::tree) fn reader(
        guest: Arc<Guest>,
        images: Images,
        options: DaemonOptions,
        world: World,
        following: Following,
    ) -> Self {
        let lacking = world.lacking().unwrap_or_else(|| following.nothing_yet());
        // Its first instance is the first generation.
        let none = Generation(0);
        let mut daemon = Self::without_instance(guest, images, options, world, none, lacking);
        daemon.following = Some(following);
        daemon.show_state();
        daemon.follow(Duration::ZERO);
        daemon
    }

    /// Reads the state of another daemon, and has none of its own.
    pub(in crate::tree) fn is_reader(&self) -> bool {
        self.following.is_some()
    }

    /// Has a state of its own, which its transactions change.
    pub(super) fn keeps_state(&self) -> bool {
        self.options.stateless.is_none() && self.following.is_none()
    }

    /// Lets readers see the last commit. Its records, and those before it, must have been handed to
    /// the journal.
    pub(in crate::tree) fn publish(&mut self) {
        if !self.images.is_changing() || self.halfway || self.unborn {
            return;
        }
        let (record, incarnation) = match &self.recorder {
            None => (blake3::Hash::from_bytes([0; 32]), Some(0)),
            Some(recorder) if recorder.is_stale() => return,
            Some(recorder) => (recorder.last_hash(), recorder.incarnation()),
        };
        let Some(incarnation) = incarnation else { return };
        self.images.publish(Published { sequence: self.sequence, record, incarnation });
    }

    /// Makes the state that of the last commit of the daemon that this reads, with an instance on
    /// it; waits up to `wait` while that is committing. False when a read can't be run here now.
    pub(in crate::tree) fn follow(&mut self, wait: Duration) -> bool {
        let resized = match self.catch_up(wait) {
            Ok(resized) => resized,
            Err(reason) if reason.code == Code::Unavailable => return false,
            Err(reason) => {
                self.park(reason);
                self.show_state();
                return false;
            }
        };
        let started = match &self.phase {
            Phase::Live(_) if !resized => return true,
            Phase::Live(_) => self.again(),
            _ if self.is_waiting() => self.start_with_leases(),
            _ => return false,
        };
        match &started {
            Ok(()) => self.gauges.set_parked(None),
            Err(reason) => self.park(reason.clone()),
        }
        self.show_state();
        started.is_ok()
    }

    /// The images alone; answers whether they have another size now.
    ///
    /// # Errors
    ///
    /// `E_UNAVAILABLE` when there is nothing to follow at the moment; `E_BARRIER` when what was
    /// copied is not what is there.
    fn catch_up(&mut self, wait: Duration) -> Result<bool, Fault> {
        let Some(following) = &mut self.following else { return Ok(false) };
        let followed = self.images.follow(&mut following.follower, wait, self.options.verify);
        match followed.map_err(|mismatch| Fault::new(Code::Barrier, mismatch.to_string()))? {
            Followed::Same if following.stands() => Ok(false),
            Followed::Changed { resized } => {
                let seen = following.follower.published();
                self.sequence = seen.map(|seen| seen.sequence).unwrap_or_default();
                self.hash = None;
                if following.stands() { Ok(resized) } else { self.catch_nothing(resized) }
            }
            Followed::Same | Followed::Late | Followed::Over => Err(following.nothing_yet()),
        }
    }

    /// What was seen is gone: no read is run on it. An instance goes with a size that it doesn't
    /// know of.
    fn catch_nothing(&mut self, resized: bool) -> Result<bool, Fault> {
        let Some(following) = &self.following else { return Ok(resized) };
        let reason = following.nothing_yet();
        if resized && matches!(self.phase, Phase::Live(_)) {
            self.let_go(reason.clone());
        }
        Err(reason)
    }

    /// There is nobody to follow any more.
    pub(in crate::tree) fn lost_its_daemon(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.follower.is_over())
    }

    /// Goes on with other code, on images of its shape, behind the same daemon.
    pub(in crate::tree) fn follow_anew(
        &mut self,
        guest: Arc<Guest>,
        images: Images,
        follower: Follower,
    ) {
        let Some(following) = &mut self.following else { return };
        following.follower = follower;
        let reason = following.nothing_yet();
        if self.parked().is_none() || self.is_waiting() {
            self.let_go(reason);
        }
        // No instance is on the old ones any more.
        (self.guest, self.images) = (guest, images);
        (self.held, self.hash) = (None, None);
        self.follow(Duration::ZERO);
    }

    /// Its resources are there again. Unlike the daemon that it reads it may still have to wait.
    pub(super) fn follow_on(&mut self) {
        let again = self.held.is_some();
        if self.follow(Duration::ZERO) && again {
            Gauges::add(&self.gauges.resource_restarts, 1);
        }
    }

    /// The incarnation of the journal that the state is of, when it is another daemon's.
    pub(in crate::tree) fn seen_incarnation(&self) -> Option<u64> {
        Some(self.following.as_ref()?.follower.published()?.incarnation)
    }

    /// Has followed nobody yet.
    pub(super) fn has_seen_nothing(&self) -> bool {
        let following = self.following.as_ref();
        following.is_some_and(|following| following.follower.published().is_none())
    }

    /// Hash of the record of the commit that it is at, and whose; none without a journal.
    pub(super) fn last_record(&self) -> Option<(blake3::Hash, u64)> {
        if let Some(Following { follower, seat, .. }) = &self.following {
            return Some((follower.published()?.record, seat.as_ref()?.key.0));
        }
        let recorder: &Recorder = self.recorder.as_ref()?;
        Some((recorder.last_hash(), recorder.seat().key.0))
    }
}
