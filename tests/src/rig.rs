//! One daemon, driven from the test's own thread, its log and clock under the test's control.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::base::clock::ManualClock;
use host::base::entropy::SeededEntropy;
use host::base::error::{Code, Fault};
use host::base::ids::RequestId;
use host::mechanisms::memory::Images;
use host::mechanisms::sandbox::{Guest, GuestLine, GuestLog, Level, Limits};
use host::pure::contract::Meter;
use host::pure::json::from_message_pack;
use host::pure::policy::OnCrash;
use host::pure::request::{Crash, Outcome, Rejection};
use host::tree::{
    Arguments, Bound, Daemon, DaemonOptions, Transacted, UpgradeOptions, Upgraded, World,
};
use serde_json::Value;

/// One line of a guest's log, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Severity.
    pub level: Level,
    /// Where it comes from.
    pub target: String,
    /// The text.
    pub message: String,
    /// The request.
    pub request: RequestId,
    /// The correlation id, when the request has one.
    pub correlation: Option<String>,
    /// Which try.
    pub attempt: u32,
    /// The instance.
    pub generation: u64,
}

/// A log that keeps what it gets.
#[derive(Debug, Default)]
pub struct Lines(Mutex<Vec<Line>>);

impl Lines {
    /// Everything since the last time.
    ///
    /// # Panics
    ///
    /// When a thread panicked while it logged.
    pub fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The texts alone, since the last time.
    pub fn texts(&self) -> Vec<String> {
        self.take().into_iter().map(|line| line.message).collect()
    }
}

impl GuestLog for Lines {
    fn line(&self, line: &GuestLine<'_>) {
        self.0.lock().unwrap().push(Line {
            level: line.level,
            target: line.target.to_owned(),
            message: line.message.to_owned(),
            request: line.request,
            correlation: line.correlation.map(str::to_owned),
            attempt: line.attempt,
            generation: line.generation.0,
        });
    }
}

/// How a rig's daemon is set up. Whole images are compared unless a test says otherwise.
#[derive(Clone, Debug)]
pub struct RigOptions {
    /// Bytes of its budget.
    pub budget_bytes: usize,
    /// What `init` gets.
    pub parameters: Value,
    /// Fuel of each transaction.
    pub fuel: u64,
    /// Fuel of each of `save`, `load` and `check`.
    pub upgrade_fuel: u64,
    /// Deadline of each transaction, and of each of those.
    pub deadline: Duration,
    /// Times that a crashed transaction is tried again.
    pub retries_max: u32,
    /// What happens after a crash.
    pub on_crash: OnCrash,
    /// Compare whole images.
    pub verify: bool,
}

impl Default for RigOptions {
    fn default() -> Self {
        let defaults = DaemonOptions::new("rig", 4 << 20);
        Self {
            budget_bytes: defaults.budget_bytes,
            parameters: Value::Object(serde_json::Map::new()),
            fuel: 100_000_000,
            upgrade_fuel: 1_000_000_000,
            // Fuel ends what doesn't end; a busy machine must not.
            deadline: Duration::from_secs(60),
            retries_max: 0,
            on_crash: defaults.on_crash,
            verify: true,
        }
    }
}

/// A daemon, its log and its clock.
#[derive(Debug)]
pub struct Rig {
    /// The daemon.
    pub daemon: Daemon,
    /// What its guest logged.
    pub lines: Arc<Lines>,
    /// What it takes the time from.
    pub clock: Arc<ManualClock>,
    requests: u64,
}

impl Rig {
    /// A daemon of that guest.
    ///
    /// # Errors
    ///
    /// The daemon's.
    ///
    /// # Panics
    ///
    /// When there is no memory.
    pub fn try_start(guest: &Arc<Guest>, options: RigOptions) -> Result<Self, Fault> {
        let (lines, clock) = (Arc::new(Lines::default()), Arc::new(ManualClock::at(1_000_000_000)));
        let entropy = Arc::new(SeededEntropy::new(7));
        let (log, outputs) = (lines.clone(), Arc::default());
        let world = World { clock: clock.clone(), entropy, log, outputs, hold: None };
        let images = Images::new(options.budget_bytes, &guest.shape()).unwrap();
        let mut daemon_options = DaemonOptions::new("rig", options.budget_bytes);
        daemon_options.parameters = options.parameters;
        daemon_options.limits.fuel = options.fuel;
        daemon_options.limits.deadline = options.deadline;
        daemon_options.retries_max = options.retries_max;
        daemon_options.on_crash = options.on_crash;
        daemon_options.verify = options.verify;
        daemon_options.upgrade_limits =
            Limits { fuel: options.upgrade_fuel, deadline: options.deadline };
        let daemon = Daemon::start(guest.clone(), images, daemon_options, world)?;
        Ok(Self { daemon, lines, clock, requests: 0 })
    }

    /// A daemon of that guest.
    ///
    /// # Panics
    ///
    /// When it can't start.
    #[must_use]
    pub fn start(guest: &Arc<Guest>, options: RigOptions) -> Self {
        Self::try_start(guest, options).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// A daemon of an example guest, with all defaults.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self::start(&super::deployed(name), RigOptions::default())
    }

    /// Binds a request with an id of its own.
    ///
    /// # Panics
    ///
    /// When the arguments don't fit.
    #[must_use]
    pub fn bind(&mut self, contract: &str, args: &Value) -> Bound {
        self.requests += 1;
        let mut bound = bind(self.daemon.guest(), contract, args);
        bound.request = RequestId(self.requests);
        bound
    }

    /// Runs a request to its end. The state must be whole afterwards.
    ///
    /// # Panics
    ///
    /// When live and committed state differ.
    pub fn transact(&mut self, bound: &Bound) -> Transacted {
        let transacted = self.daemon.transact(bound);
        self.assert_whole();
        transacted
    }

    /// Binds and runs a request.
    pub fn call(&mut self, contract: &str, args: Value) -> Outcome {
        let bound = self.bind(contract, &args);
        self.transact(&bound).outcome
    }

    /// The value of a request that must be committed.
    ///
    /// # Panics
    ///
    /// When it isn't.
    pub fn committed(&mut self, contract: &str, args: Value) -> Value {
        match self.call(contract, args) {
            Outcome::Committed(value) => from_message_pack(&value).unwrap(),
            outcome => panic!("{contract}: {outcome:?}"),
        }
    }

    /// The rejection of a request that must be rejected.
    ///
    /// # Panics
    ///
    /// When it isn't.
    pub fn rejected(&mut self, contract: &str, args: Value) -> Rejection {
        match self.call(contract, args) {
            Outcome::Rejected(rejection) => rejection,
            outcome => panic!("{contract}: {outcome:?}"),
        }
    }

    /// The crash of a request that must crash.
    ///
    /// # Panics
    ///
    /// When it doesn't.
    pub fn crashed(&mut self, contract: &str, args: Value) -> Crash {
        match self.call(contract, args) {
            Outcome::Crashed(crash) => *crash,
            outcome => panic!("{contract}: {outcome:?}"),
        }
    }

    /// Calls a contract without arguments that must crash with that code.
    ///
    /// # Panics
    ///
    /// When it doesn't.
    pub fn crashes_with(&mut self, contract: &str, args: Value, code: Code) -> Crash {
        let crash = self.crashed(contract, args);
        assert_eq!(crash.code, code, "{crash:?}");
        crash
    }

    /// Upgrades to other code, in images of the same budget; nothing may be lost.
    ///
    /// # Errors
    ///
    /// The daemon's.
    pub fn upgrade(&mut self, guest: &Arc<Guest>, dry_run: bool) -> Result<Upgraded, Fault> {
        self.upgrade_as(guest, UpgradeOptions { dry_run, ..UpgradeOptions::default() })
    }

    /// Upgrades to other code, in images of the same budget.
    ///
    /// # Errors
    ///
    /// The daemon's.
    ///
    /// # Panics
    ///
    /// When there is no memory, or live and committed state differ.
    pub fn upgrade_as(
        &mut self,
        guest: &Arc<Guest>,
        options: UpgradeOptions,
    ) -> Result<Upgraded, Fault> {
        let images = Images::new(self.daemon.options().budget_bytes, &guest.shape()).unwrap();
        let upgraded = self.daemon.upgrade(guest.clone(), images, options);
        self.assert_whole();
        upgraded
    }

    /// Hash of the committed state.
    pub fn hash(&mut self) -> String {
        self.daemon.committed_hash().to_hex().to_string()
    }

    /// Live and committed state are equal, byte for byte, unless the daemon is parked.
    ///
    /// # Panics
    ///
    /// When they are not.
    pub fn assert_whole(&self) {
        if self.daemon.parked().is_none() {
            self.daemon.images().verify().unwrap();
        }
    }
}

/// Binds arguments to a contract.
///
/// # Panics
///
/// When there is no such contract, or the arguments don't fit it.
#[must_use]
pub fn bind(guest: &Guest, contract: &str, args: &Value) -> Bound {
    let found = guest.contract(contract).unwrap_or_else(|| panic!("no contract {contract}"));
    let arguments = found.bind(&args.clone().into(), &mut Meter::free());
    let arguments = arguments.unwrap_or_else(|error| panic!("{contract}: {error}"));
    bound(found.index, &arguments)
}

/// A request with raw arguments, which nothing has checked.
#[must_use]
pub fn bound(contract: u32, arguments: &[u8]) -> Bound {
    let (key, correlation) = (None, None);
    Bound {
        request: RequestId(1),
        contract,
        arguments: Arguments::Packed(arguments.into()),
        key,
        correlation,
        wait_until_nanos: None,
        show: None,
    }
}
