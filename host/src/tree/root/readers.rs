//! Readers: beside which daemons they stand, and what an upgrade gives them.

use std::sync::Arc;

use super::{DaemonPlan, Root, RootError};
use crate::mechanisms::memory::{BillLine, Follower, Images, Shared};
use crate::mechanisms::sandbox::Guest;
use crate::tree::crew::{Berth, Crew};
use crate::tree::daemon::Following;
use crate::tree::readers::Renewal;
use crate::tree::worker::{First, Starting, Worker};

/// What an upgrade has reserved.
pub(super) struct Reserved {
    /// For the daemon itself.
    pub(super) images: Images,
    pub(super) readers: ForReaders,
}

/// The part of its readers.
pub(super) struct ForReaders {
    images: Vec<Images>,
    shared: Option<Arc<Shared>>,
}

impl ForReaders {
    /// What each of them goes on with.
    pub(super) fn renewals(self, guest: &Arc<Guest>) -> impl Iterator<Item = Renewal> {
        let Self { images, shared } = self;
        images.into_iter().zip(shared.into_iter().cycle()).map(|(images, shared)| Renewal {
            guest: guest.clone(),
            images,
            follower: Follower::new(&shared),
        })
    }
}

impl Root {
    /// Starts a daemon, and when it is ready its readers, which are added to `starting`. The first
    /// images are its own, each of the others is for a reader.
    pub(super) fn start_with_readers(
        &mut self,
        plan: &DaemonPlan,
        images: Vec<Images>,
        starting: &mut Vec<Starting>,
    ) -> Result<(), RootError> {
        let (name, mut images) = (plan.options.name.clone(), images.into_iter());
        let Some(mut own) = images.next() else { return Ok(()) };
        let shared = own.share();
        let started = self.ground.spawn(plan.clone(), own, First::Open, None)?;
        self.insert_started([started])?;
        // Without itself there is nothing to read.
        let Ok(worker) = self.worker(&name) else { return Ok(()) };
        let (id, leader) = (self.ground.next_id(), Some(worker.leader()));
        let crew = Crew::new(id, &name, plan.guest.clone(), images.len(), leader);
        self.readers.insert(name.clone(), crew.clone());
        let names = plan.names().skip(1);
        for (index, (reader, images)) in names.zip(images).enumerate() {
            let mut plan = plan.clone();
            (plan.options.name, plan.options.readers) = (reader, 0);
            let (gate, follower) = (worker.gate.clone(), Follower::new(&shared));
            let seat = gate.as_ref().map(|gate| gate.seat.clone());
            let following = Following { of: name.as_str().into(), follower, seat };
            let first = First::Follow(following, gate);
            starting.push(self.ground.spawn(
                plan,
                images,
                first,
                Some(Berth::new(&crew, index)),
            )?);
        }
        Ok(())
    }

    /// Reserves the memory of other code for a daemon and its readers, beside what they have.
    ///
    /// # Errors
    ///
    /// `E_BUDGET`, `E_NO_MEM`.
    pub(super) fn reserve(
        &self,
        worker: &Worker,
        guest: &Guest,
        dry_run: bool,
    ) -> Result<Reserved, RootError> {
        let name = &worker.options.name;
        let budget_bytes = worker.options.budget_bytes;
        let crew = self.readers.get(name).filter(|_| !dry_run);
        let readers = crew.map_or(0, |_| worker.options.readers);
        let names = (0..readers).map(|reader| format!("{name}/reader-{reader}"));
        let mut bill = self.bill();
        let lines = [name.clone()].into_iter().chain(names);
        bill.lines.extend(lines.map(|name| {
            let name = format!("{name}, new code");
            BillLine { name, budget_bytes }
        }));
        bill.check()?;
        let make = || Images::new(budget_bytes, &guest.shape());
        let mut images = make()?;
        let shared = (readers > 0).then(|| images.share());
        let their_images = (0..readers).map(|_| make()).collect::<Result<_, _>>()?;
        Ok(Reserved { images, readers: ForReaders { images: their_images, shared } })
    }
}
