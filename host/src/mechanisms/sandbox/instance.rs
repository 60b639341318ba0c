//! One instance of a guest over one daemon's images.
//!
//! ```text
//!   Environment --start/restart--> Instance --call ...--> Instance
//!        ^                            |  a trap makes it unfit for any further call
//!        +------ into_environment ---+
//! ```
//!
//! An [`Environment`] outlives instances; the Store, with everything that the engine knows of an
//! instance, does not. Starting again costs a new Store and an instantiation that writes nothing:
//! active data segments and start functions run only over a cleared image (see `pure::barrier`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use wasmtime::component::{self, ComponentNamedList, Lift, Lower, TypedFunc};
use wasmtime::{Store, UpdateDeadline};

use super::bindings::{WitCallError, WitRejection};
use super::cancel::Cancel;
use super::crash::{Caught, Stop};
use super::creator;
use super::deploy::Guest;
use super::handles::Held;
use super::meter::{Counted, Meter};
use super::outputs::Outputs;
use super::outside::Outside;
use super::state::{CallContext, GuestLog, Limits, StoreState, Usage};
use crate::base::entropy::EntropyStream;
use crate::base::error::{Blame, Code, printable};
use crate::base::ids::{Generation, RequestId};
use crate::base::limits::{
    EPOCH_TICK, HOSTCALL_BYTES_MAX, INIT_DEADLINE, INIT_FUEL, KEY_BYTES_MAX, MESSAGE_BYTES_MAX,
};
use crate::mechanisms::memory::Images;
use crate::pure::barrier::MemoryRole;
use crate::pure::output::SeenOutput;
use crate::pure::pace::CpuShare;
use crate::pure::request::Rejection;

/// What the host offers one daemon's guest: log, clock, entropy, limits. Survives restarts.
pub struct Environment(StoreState);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

impl Environment {
    /// An environment for one daemon. `entropy_secret` keys its random numbers.
    #[must_use]
    pub fn new(
        log: Arc<dyn GuestLog>,
        outputs: Arc<Outputs>,
        entropy_secret: [u8; 32],
        share: CpuShare,
        budget_bytes: usize,
    ) -> Self {
        let entropy = EntropyStream::new(entropy_secret);
        Self(StoreState::new(log, outputs, entropy, share, budget_bytes))
    }

    /// An environment for running one transaction again; `seed` is that of its random numbers, and
    /// `outputs` what it saw of other daemons.
    #[must_use]
    pub fn repeating(
        log: Arc<dyn GuestLog>,
        outputs: Arc<Outputs>,
        seed: [u8; 32],
        budget_bytes: usize,
    ) -> Self {
        let entropy = EntropyStream::pinned(seed);
        let mut state = StoreState::new(log, outputs, entropy, CpuShare::FULL, budget_bytes);
        state.repeating = true;
        Self(state)
    }

    /// The seed of a transaction's random numbers.
    #[must_use]
    pub fn seed(&self, generation: Generation, request: RequestId) -> [u8; 32] {
        self.0.seed(generation, request)
    }

    /// The same with resources.
    #[must_use]
    pub fn with_outside(mut self, outside: Option<Arc<dyn Outside>>) -> Self {
        self.0.outside = outside;
        self
    }

    /// The same with the flags of another one: of the daemon that it is to take the place of.
    #[must_use]
    pub fn with_flags(mut self, flags: Flags) -> Self {
        self.0.cancel = flags.cancel;
        self.0.panic_in_host_call = flags.panic_in_host_call;
        self.0.gauge.meter = flags.meter;
        self
    }

    /// What other threads see of it, and say to it.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            cancel: self.0.cancel.clone(),
            panic_in_host_call: self.0.panic_in_host_call.clone(),
            meter: self.0.gauge.meter.clone(),
        }
    }
}

/// What the instances of one daemon have in common with other threads.
#[derive(Clone, Debug)]
pub struct Flags {
    /// What ends the running call at the next tick with `E_CANCELLED`.
    pub cancel: Arc<Cancel>,
    /// Makes the next host call panic: how tests provoke a host bug.
    pub panic_in_host_call: Arc<AtomicBool>,
    /// What they use at the moment.
    pub meter: Arc<Meter>,
}

/// An instance could not be started.
#[derive(Debug)]
pub struct StartError {
    /// To start again with.
    pub environment: Environment,
    /// Why.
    pub cause: StartCause,
}

impl StartError {
    fn new(environment: Environment, cause: StartCause) -> Box<Self> {
        Box::new(Self { environment, cause })
    }
}

/// Why an instance could not be started.
#[derive(Clone, Debug)]
pub enum StartCause {
    /// The guest's `init` or `load` said no.
    Rejected(Rejection),
    /// Instantiation, `prime`, `init` or `load` crashed.
    Crashed(Caught),
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Called {
    /// With a value, MessagePack.
    Returned(Vec<u8>),
    /// With the guest's own "no".
    Rejected(Rejection),
    /// The guest could not decode the arguments.
    BadArguments(String),
    /// Not at all: the instance must be dropped.
    Caught(Caught),
}

type CallFunc = TypedFunc<(u32, Arc<[u8]>), (Result<Vec<u8>, WitCallError>,)>;

/// A running guest.
pub struct Instance {
    pub(super) store: Store<StoreState>,
    instance: component::Instance,
    call: CallFunc,
    pub(super) guest: Arc<Guest>,
    /// What it holds after `prime`, hence between any two calls.
    held: Held,
    /// The handles that it would get next are other ones than after `prime`.
    worn: bool,
    usage: Usage,
    _counted: Counted,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Instance {
    /// Makes the guest's first state over cleared images: start functions, `prime`, `init`. Nothing
    /// is committed yet.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the guest refuses or crashes; the images then hold nothing of use.
    pub fn first(
        guest: &Arc<Guest>,
        images: &mut Images,
        environment: Environment,
        parameters: &[u8],
        generation: Generation,
        context: &CallContext,
    ) -> Result<Self, Box<StartError>> {
        let mut instance = Self::unstarted(guest, images, environment, generation, context)?;
        let started = instance.prime(context).and_then(|()| instance.init(parameters, context));
        instance.started(started)
    }

    /// Itself, when its first state was made.
    pub(super) fn started(self, made: Result<(), StartCause>) -> Result<Self, Box<StartError>> {
        match made {
            Ok(()) => Ok(self),
            Err(cause) => Err(StartError::new(self.into_environment(), cause)),
        }
    }

    /// An instance over cleared images, on which nothing but start functions has run.
    pub(super) fn unstarted(
        guest: &Arc<Guest>,
        images: &mut Images,
        environment: Environment,
        generation: Generation,
        context: &CallContext,
    ) -> Result<Self, Box<StartError>> {
        images.clear_live();
        Self::instantiate(guest, images, environment, generation, context)
    }

    /// Starts the guest again on its committed state. The images must be rolled back.
    ///
    /// A guest that holds host resources must acquire them again first, over a cleared image, and
    /// pays for it with a copy of the whole image; `held` is what it held after `prime`, or `None`
    /// when that is not known because the state was loaded.
    ///
    /// # Errors
    ///
    /// [`StartError`] when instantiation or `prime` crashes.
    pub fn again(
        guest: &Arc<Guest>,
        images: &mut Images,
        environment: Environment,
        held: Option<&Held>,
        generation: Generation,
        context: &CallContext,
    ) -> Result<Self, Box<StartError>> {
        if held.is_some_and(Held::is_new) {
            return Self::instantiate(guest, images, environment, generation, context);
        }
        images.clear_live();
        images.set_live_size_to_committed();
        let mut instance = Self::instantiate(guest, images, environment, generation, context)?;
        if let Err(cause) = instance.prime(context) {
            return Err(StartError::new(instance.into_environment(), cause));
        }
        if let Some(held) = held
            && instance.held != *held
        {
            let (now, first) = (instance.held.count(), held.count());
            let message = format!(
                "`prime` acquired other handles than the first time: {now} of them, not {first}, or \
                 in another order"
            );
            let cause = StartCause::Crashed(Caught::new(Code::HandleLeak, message));
            return Err(StartError::new(instance.into_environment(), cause));
        }
        images.load_committed();
        Ok(instance)
    }

    /// A new Store and an instance in it.
    fn instantiate(
        guest: &Arc<Guest>,
        images: &Images,
        environment: Environment,
        generation: Generation,
        context: &CallContext,
    ) -> Result<Self, Box<StartError>> {
        let mut state = environment.0;
        state.gauge.control_bytes = guest.control_bytes();
        state.begin_generation(generation);
        state.begin_call(context.clone(), &INIT_LIMITS);
        let counted = state.gauge.meter.count();
        let mut store = Store::new(guest.pre.engine(), state);
        store.limiter(|state| &mut state.gauge);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.epoch_deadline_callback(|mut store| {
            let left = store.get_fuel()?;
            let state = store.data_mut();
            state.gauge.meter.used(state.fuel.saturating_sub(left));
            on_tick(state)
        });
        store.set_epoch_deadline(1);
        let mut control = 0;
        let slots: smallvec::SmallVec<[_; 4]> = guest
            .layout
            .memories
            .iter()
            .filter_map(|role| match role {
                MemoryRole::Data => Some(images.live_slot().clone()),
                MemoryRole::Control { .. } => {
                    control += 1;
                    images.control_slot(control - 1).cloned()
                }
            })
            .collect();
        let instantiated = store.set_fuel(INIT_FUEL).and_then(|()| {
            let (instance, left) =
                creator::with_slots(slots.into_iter(), || guest.pre.instantiate(&mut store));
            let instance = instance?;
            if left > 0 {
                return Err(Stop::new(Code::HostBug, "memories were left over").into());
            }
            let call = instance.get_typed_func(&mut store, guest.exports.call)?;
            Ok((instance, call))
        });
        match instantiated {
            Ok((instance, call)) => {
                let guest = guest.clone();
                let (held, worn, usage) = (Held::default(), false, Usage::default());
                Ok(Self { store, instance, call, guest, held, worn, usage, _counted: counted })
            }
            Err(error) => {
                let caught = caught(&mut store, &error);
                let environment = Environment(store.into_data());
                Err(StartError::new(environment, StartCause::Crashed(caught)))
            }
        }
    }

    pub(super) fn prime(&mut self, context: &CallContext) -> Result<(), StartCause> {
        let export = self.guest.exports.prime;
        self.store.data_mut().gauge.growth_denied = true;
        let primed = self.run::<_, ()>(export, (), context, &INIT_LIMITS);
        self.store.data_mut().gauge.growth_denied = false;
        primed.map_err(StartCause::Crashed)?;
        self.held = self.store.data_mut().handles.look().unwrap_or_default();
        match self.held.refuse_kept() {
            Some(why) => Err(StartCause::Crashed(Caught::new(Code::HandleLeak, why))),
            None => Ok(()),
        }
    }

    fn init(&mut self, parameters: &[u8], context: &CallContext) -> Result<(), StartCause> {
        let export = self.guest.exports.init;
        let parameters = parameters.to_vec();
        let result = self.run::<_, (Result<(), WitRejection>,)>(
            export,
            (parameters,),
            context,
            &INIT_LIMITS,
        );
        match result.map_err(StartCause::Crashed)? {
            (Ok(()),) => self.check_handles().map_err(StartCause::Crashed),
            (Err(rejection),) => Err(StartCause::Rejected(shown(rejection))),
        }
    }

    /// Runs one transaction. The images are not touched: the caller commits or rolls back.
    ///
    /// After [`Called::Caught`] the instance must be dropped.
    pub fn call(
        &mut self,
        contract: u32,
        arguments: &Arc<[u8]>,
        context: CallContext,
        limits: &Limits,
    ) -> Called {
        let call = self.call;
        let arguments = arguments.clone();
        let ran = self.guarded(context, limits, |store| call.call(store, (contract, arguments)));
        let returned = match ran {
            Err(caught) => return Called::Caught(caught),
            Ok((result,)) => result,
        };
        if let Err(caught) = self.check_handles() {
            return Called::Caught(caught);
        }
        match returned {
            Ok(value) => Called::Returned(value),
            Err(WitCallError::Rejected(rejection)) => {
                let mut rejection = shown(rejection);
                if let Some(told) = self.store.data().told.get(rejection.code.as_str()) {
                    rejection.blame = told.blame;
                    if let Some(about) = &told.about {
                        let message = format!("{}: {about}", rejection.message);
                        rejection.message = printable(&message, MESSAGE_BYTES_MAX);
                    }
                }
                Called::Rejected(rejection)
            }
            Err(WitCallError::BadArguments(message)) => {
                Called::BadArguments(printable(&message, MESSAGE_BYTES_MAX))
            }
            Err(WitCallError::UnknownContract) => {
                Called::BadArguments("the guest does not know this contract".to_owned())
            }
        }
    }

    /// What the last call used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What the guest holds of the host's resources between calls.
    #[must_use]
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Its next call would get other handles than after a restart: it has to be replaced before.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.worn
    }

    /// The range that the last call wants to show, as address and size, if it wants to.
    #[must_use]
    pub fn shown(&self) -> Option<(u32, u32)> {
        self.store.data().shown
    }

    /// What the last call saw of other daemons.
    #[must_use]
    pub fn seen(&self) -> Vec<SeenOutput> {
        self.store.data().seen.list()
    }

    /// The seed of a transaction's random numbers.
    #[must_use]
    pub fn seed(&self, generation: Generation, request: RequestId) -> [u8; 32] {
        self.store.data().seed(generation, request)
    }

    /// Drops the instance and its Store, and answers what to start the next one with.
    #[must_use]
    pub fn into_environment(self) -> Environment {
        Environment(self.store.into_data())
    }

    pub(super) fn run<Params, Return>(
        &mut self,
        export: component::ComponentExportIndex,
        params: Params,
        context: &CallContext,
        limits: &Limits,
    ) -> Result<Return, Caught>
    where
        Params: ComponentNamedList + Lower,
        Return: ComponentNamedList + Lift + 'static,
    {
        let instance = self.instance;
        self.guarded(context.clone(), limits, |store| {
            instance.get_typed_func::<Params, Return>(&mut *store, export)?.call(store, params)
        })
    }

    /// Runs guest code with the meters set, and catches whatever comes out of it: errors of the
    /// engine, and panics of host calls, which are bugs of ours and must not end the daemon.
    fn guarded<R>(
        &mut self,
        context: CallContext,
        limits: &Limits,
        run: impl FnOnce(&mut Store<StoreState>) -> wasmtime::Result<R>,
    ) -> Result<R, Caught> {
        let store = &mut self.store;
        store.data_mut().begin_call(context, limits);
        store.set_epoch_deadline(1);
        if let Err(error) = store.set_fuel(limits.fuel) {
            return Err(caught(store, &error));
        }
        // Unwind safety: after a panic only the Store's data is used again, and that is plain
        // values.
        let result = catch_unwind(AssertUnwindSafe(|| run(store)));
        let left = store.get_fuel().unwrap_or(0);
        let data = store.data_mut();
        let lines_dropped = data.end_call();
        self.usage = Usage {
            fuel: limits.fuel.saturating_sub(left),
            host_calls: data.host_calls,
            live_calls: data.live_calls,
            lines_dropped,
            rested: data.rested,
        };
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(caught(store, &error)),
            Err(payload) => Err(Caught::from_panic(payload.as_ref())),
        }
    }

    /// Sees to it that a call which returned has left the handles as they were after `prime`.
    pub(super) fn check_handles(&mut self) -> Result<(), Caught> {
        // Most calls touch none.
        let Some(now) = self.store.data_mut().handles.look() else { return Ok(()) };
        let Some(mut message) = now.refuse(&self.held) else {
            self.worn = now != self.held;
            return Ok(());
        };
        if self.store.data().asked_directories {
            message.push_str(
                "; it reads files with std::fs, for which the SDK wants `#[guest(files)]`: then \
                 the guest has its directories before the first call",
            );
        }
        Err(Caught::new(Code::HandleLeak, message))
    }
}

/// For what runs once per deployment or restart.
pub(super) const INIT_LIMITS: Limits = Limits { fuel: INIT_FUEL, deadline: INIT_DEADLINE };

fn caught(store: &mut Store<StoreState>, error: &wasmtime::Error) -> Caught {
    let data = store.data_mut();
    let words = data.diary.with(|diary| diary.last_words.take());
    let why = data.gauge.denied.and_then(|denied| denied.explain(words.as_deref()));
    let caught = Caught::from_error(error, words);
    match why {
        Some(message) if caught.code == Code::Unreachable => {
            let code = Code::OutOfMemory;
            Caught { code, blame: code.blame(), message, ..caught }
        }
        _ => caught,
    }
}

/// Runs at each tick of the epoch while guest code runs.
fn on_tick(state: &mut StoreState) -> wasmtime::Result<UpdateDeadline> {
    if let Some(code) = state.cancel.hits(state.request) {
        return Err(Stop::new(code, "cancelled while it was running").into());
    }
    if !state.countdown.tick(Instant::now()) {
        return Err(Stop::new(Code::Deadline, "still running at its deadline").into());
    }
    if let Some(since) = state.running_since {
        // By time, not by ticks: a tick right after a rest must not be paid like a whole one.
        let tired = Instant::now();
        let rest = state.share.rest_after(tired.duration_since(since));
        while tired.elapsed() < rest && state.cancel.hits(state.request).is_none() {
            std::thread::sleep(rest.saturating_sub(tired.elapsed()).min(EPOCH_TICK));
        }
        let rest = tired.elapsed();
        state.waited(rest);
        state.running_since = Some(Instant::now());
        state.rested += rest;
    }
    Ok(UpdateDeadline::Continue(1))
}

pub(super) fn shown(rejection: WitRejection) -> Rejection {
    Rejection {
        code: printable(&rejection.code, KEY_BYTES_MAX),
        blame: Blame::Caller,
        message: printable(&rejection.message, MESSAGE_BYTES_MAX),
        details: rejection.details,
    }
}
