//! What a daemon shows others: noted by a call, committed with it, shown when it is durable.

use std::sync::Arc;

use super::{Daemon, Phase};
use crate::base::error::Code;
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::{Caught, Instance, OutputVersion, Outputs};

/// What a daemon shows since some commit; to be shown when that is durable.
#[derive(Debug)]
pub(in crate::tree) struct Showing {
    outputs: Arc<Outputs>,
    daemon: String,
    output: Option<Arc<OutputVersion>>,
}

impl Showing {
    /// Lets the others see it.
    pub(in crate::tree) fn show(self) {
        self.outputs.show(&self.daemon, self.output);
    }
}

impl Daemon {
    /// Notes the range that the running instance's last call wants to show, before its commit.
    pub(super) fn note_output(&mut self) -> Result<(), Caught> {
        match &self.phase {
            Phase::Live(instance) => set_output(instance, &mut self.images),
            Phase::Parked(_) | Phase::Between => Ok(()),
        }
    }

    /// Copies what the committed state shows: after a commit that changed it, and whenever the
    /// state became another one as a whole. One without a state of its own shows nothing.
    pub(in crate::tree) fn show_output(&mut self) {
        if !self.keeps_state() {
            return;
        }
        let range = self.images.output();
        let bytes = range.and_then(|range| self.images.committed().get(range));
        let sequence = self.sequence;
        let output = bytes.map(|bytes| Arc::new(OutputVersion { sequence, bytes: bytes.into() }));
        let (outputs, daemon) = (self.world.outputs.clone(), self.options.name.clone());
        self.showing = Some(Showing { outputs, daemon, output });
    }

    /// What it shows since its last commits, if that has changed: for when they are durable.
    pub(in crate::tree) fn take_showing(&mut self) -> Option<Showing> {
        self.showing.take()
    }
}

/// Notes in the images what an instance's last call wants to show.
///
/// # Errors
///
/// `E_OUTPUT_RANGE`.
pub(super) fn set_output(instance: &Instance, images: &mut Images) -> Result<(), Caught> {
    let Some((address, size)) = instance.shown() else { return Ok(()) };
    images
        .set_output(address, size)
        .map_err(|error| Caught::new(Code::OutputRange, error.to_string()))
}
