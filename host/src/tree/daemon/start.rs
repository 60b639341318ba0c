//! A daemon's start: the first state of its guest, or the one that the journal holds.

use std::sync::Arc;
use std::time::Duration;

use super::now::Now;
use super::output::set_output;
use super::recorder::{JournalSeat, Recorder};
use super::recovery::init_fault;
use super::values::Spent;
use super::{Daemon, DaemonOptions, Phase, World, own_context};
use crate::base::error::{Code, Fault};
use crate::base::ids::{Generation, Sequence};
use crate::mechanisms::journal::{ImageSink, JournalFault, SinkError};
use crate::mechanisms::memory::Images;
use crate::mechanisms::sandbox::{Environment, Flags, Guest, Instance, Outside, StartCause};
use crate::pure::contract::write_json;
use crate::pure::keys::{KeptAnswer, Keys};
use crate::pure::line_rate::LineRate;
use crate::pure::record::Kind;
use crate::pure::upgrade::SaveTrials;
use crate::tree::gauges::Gauges;

impl Daemon {
    /// Makes the guest's first state and commits it as sequence 0. It lives in memory only.
    ///
    /// # Errors
    ///
    /// `E_INIT` when the guest can't make it.
    pub fn start(
        guest: Arc<Guest>,
        mut images: Images,
        options: DaemonOptions,
        world: World,
    ) -> Result<Self, Fault> {
        if let Some(lacking) = world.lacking() {
            let generation = Generation::FIRST;
            let mut daemon =
                Self::without_instance(guest, images, options, world, generation, lacking);
            daemon.unborn = true;
            daemon.show_form(SaveTrials::AT_ONCE);
            daemon.show_state();
            return Ok(daemon);
        }
        let environment = environment(&options, &world);
        let flags = environment.flags();
        let parameters = parameters(&options);
        let context = own_context(&world);
        let generation = Generation::FIRST;
        let instance =
            Instance::first(&guest, &mut images, environment, &parameters, generation, &context)
                .map_err(|error| init_fault(&options.name, &error.cause))?;
        set_output(&instance, &mut images)
            .map_err(|caught| init_fault(&options.name, &StartCause::Crashed(caught)))?;
        images.commit_whole();
        let mut daemon = Self::new(guest, images, instance, flags, options, world, generation);
        daemon.show_form(SaveTrials::AT_ONCE);
        daemon.show_state();
        Ok(daemon)
    }

    /// Goes on with the state that the journal holds, or makes the first one. Either way commits
    /// become records from here on; [`Daemon::take_records`] may have some at once.
    ///
    /// # Errors
    ///
    /// `E_INIT`; `E_CODE_CHANGED` when other code made the state; the journal's own when the state
    /// can't be loaded.
    pub fn open(
        guest: Arc<Guest>,
        mut images: Images,
        options: DaemonOptions,
        world: World,
        seat: &JournalSeat,
    ) -> Result<Self, Fault> {
        let code = *guest.facts().digest.as_bytes();
        let mut keys = Keys::default();
        let incarnation = seat.journal.incarnation();
        images.clear_committed();
        let mut sink = Sink { images: &mut images, keys: &mut keys };
        let loaded = seat
            .journal
            .load(seat.key, None, &mut sink)
            .map_err(|fault| load_fault(&options.name, &fault))?;
        let Some(loaded) = loaded else {
            let mut daemon = Self::start(guest, images, options, world)?;
            let none = blake3::Hash::from_bytes([0; 32]);
            daemon.recorder = Some(Recorder::new(seat, incarnation, code, none));
            daemon.now.look(daemon.world.clock.as_ref());
            if daemon.unborn {
                return Ok(daemon);
            }
            daemon.record(Kind::Init, None).map_err(|c| Fault::new(c.code, c.message))?;
            return Ok(daemon);
        };
        if loaded.code != code {
            let made = blake3::Hash::from_bytes(loaded.code).to_hex();
            let name = &options.name;
            let message = format!("the state of daemon `{name}` was made by the code {made}");
            return Err(Fault::new(Code::CodeChanged, message));
        }
        let generation = Generation(loaded.generation).next();
        let mut daemon = Self::over_committed(guest, images, options, world, generation)?;
        daemon.recorder = Some(Recorder::new(seat, incarnation, loaded.code, loaded.hash));
        daemon.sequence = loaded.sequence;
        daemon.keys = keys;
        daemon.now.look(daemon.world.clock.as_ref());
        daemon.tell_restored()?;
        daemon.show_state();
        Ok(daemon)
    }

    /// A daemon with a first instance over images whose committed one is filled.
    pub(super) fn over_committed(
        guest: Arc<Guest>,
        mut images: Images,
        options: DaemonOptions,
        world: World,
        generation: Generation,
    ) -> Result<Self, Fault> {
        if let Some(lacking) = world.lacking() {
            let mut daemon =
                Self::without_instance(guest, images, options, world, generation, lacking);
            daemon.show_form(SaveTrials::later(daemon.world.clock.monotonic_nanos()));
            return Ok(daemon);
        }
        let environment = environment(&options, &world);
        let flags = environment.flags();
        let context = own_context(&world);
        let instance =
            Instance::again(&guest, &mut images, environment, None, generation, &context).map_err(
                |error| match error.cause {
                    StartCause::Crashed(caught) => Fault::new(caught.code, caught.message),
                    StartCause::Rejected(rejection) => Fault::new(Code::Init, rejection.message),
                },
            )?;
        let mut daemon = Self::new(guest, images, instance, flags, options, world, generation);
        // This state was tried before; a start is no time for work that can wait.
        daemon.show_form(SaveTrials::later(daemon.world.clock.monotonic_nanos()));
        Ok(daemon)
    }

    pub(super) fn new(
        guest: Arc<Guest>,
        images: Images,
        instance: Instance,
        flags: Flags,
        options: DaemonOptions,
        world: World,
        generation: Generation,
    ) -> Self {
        let held = Some(instance.held().clone());
        let phase = Phase::Live(instance);
        Self { held, ..Self::in_phase(guest, images, phase, flags, options, world, generation) }
    }

    /// A daemon that begins by waiting for a resource; it takes the next generation then.
    pub(super) fn without_instance(
        guest: Arc<Guest>,
        images: Images,
        options: DaemonOptions,
        world: World,
        generation: Generation,
        lacking: Fault,
    ) -> Self {
        let environment = environment(&options, &world);
        let flags = environment.flags();
        let phase = Phase::Parked(Box::new((environment, lacking.clone())));
        let daemon = Self::in_phase(guest, images, phase, flags, options, world, generation);
        daemon.gauges.set_parked(Some(lacking));
        daemon
    }

    fn in_phase(
        guest: Arc<Guest>,
        images: Images,
        phase: Phase,
        flags: Flags,
        options: DaemonOptions,
        world: World,
        generation: Generation,
    ) -> Self {
        Self {
            guest,
            images,
            held: None,
            phase,
            parameters: parameters(&options),
            options,
            world,
            gauges: Arc::new(Gauges::new(flags.meter.clone())),
            flags,
            keys: Keys::default(),
            keyed: None,
            recorder: None,
            reports: None,
            crash_lines: LineRate::default(),
            generation,
            sequence: Sequence::default(),
            recover_failures: 0,
            host_bugs: 0,
            hash: None,
            now: Now::default(),
            trials: SaveTrials::AT_ONCE,
            rested: Duration::ZERO,
            live: false,
            staged: Vec::new(),
            spent: Spent::default(),
            shown: None,
            showing: None,
            seen: Vec::new(),
            following: None,
            halfway: false,
            unborn: false,
        }
    }
}

pub(super) fn environment(options: &DaemonOptions, world: &World) -> Environment {
    let (log, outputs) = (world.log.clone(), world.outputs.clone());
    let secret = world.entropy.seed();
    let outside = world.hold.clone().map(|hold| hold as Arc<dyn Outside>);
    Environment::new(log, outputs, secret, options.share, options.budget_bytes)
        .with_outside(outside)
}

fn parameters(options: &DaemonOptions) -> Vec<u8> {
    let mut parameters = Vec::new();
    write_json(&mut parameters, &options.parameters);
    parameters
}

/// A fault of the journal, as a fault of this daemon.
pub(super) fn load_fault(name: &str, fault: &JournalFault) -> Fault {
    Fault::new(fault.kind.code(), format!("daemon `{name}`: {fault}"))
}

/// Loads into the committed image.
pub(super) struct Sink<'a> {
    pub(super) images: &'a mut Images,
    pub(super) keys: &'a mut Keys,
}

fn at_most(fits: bool, what: &str) -> Result<(), SinkError> {
    if fits { Ok(()) } else { Err(SinkError(what.to_owned())) }
}

impl ImageSink for Sink<'_> {
    fn clear(&mut self) -> Result<(), SinkError> {
        self.images.clear_committed();
        Ok(())
    }

    fn resize(&mut self, memory_bytes: u64) -> Result<(), SinkError> {
        let bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        at_most(self.images.resize_committed(bytes), "the state is larger than the daemon's budget")
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        at_most(self.images.write_committed(offset, bytes), "a range outside the memory")
    }

    fn control(&mut self, module: usize, state: &[u8]) -> Result<(), SinkError> {
        at_most(self.images.write_committed_state(module, state), "globals of another shape")
    }

    fn answer(&mut self, key: &str, answer: KeptAnswer) {
        self.keys.keep(key, answer);
    }

    fn void_answers(&mut self, first: Sequence) {
        self.keys.forget_from(first);
    }
}
