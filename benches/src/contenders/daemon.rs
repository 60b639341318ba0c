//! The host through its daemon, the way that everybody uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use host::base::clock::{Clock, SystemClock};
use host::base::entropy::SystemEntropy;
use host::base::ids::RequestId;
use host::mechanisms::memory::Images;
use host::mechanisms::sandbox::{Guest, NoLog};
use host::pure::contract::{Args, Meter};
use host::pure::request::Outcome;
use host::tree::{Arguments, Bound, Daemon, DaemonOptions, World};
use serde_json::json;

use super::{MIB, budget_for};

/// Keeps the first readings since it was asked, so that a measurement sees when the daemon got
/// where: a daemon reads its clock when a transaction starts, when a crash was caught, and when it
/// is over.
#[derive(Debug, Default)]
pub struct Stopwatch {
    clock: SystemClock,
    readings: [AtomicU64; 4],
    count: AtomicU64,
}

impl Stopwatch {
    fn begin(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    /// When the crash of the transaction since `begin` was caught.
    fn caught(&self) -> u64 {
        assert!(self.count.load(Ordering::Relaxed) == 4, "a crashed transaction reads four times");
        self.readings[1].load(Ordering::Relaxed)
    }
}

impl Clock for Stopwatch {
    fn unix_nanos(&self) -> u64 {
        self.clock.unix_nanos()
    }

    fn monotonic_nanos(&self) -> u64 {
        let now = self.clock.monotonic_nanos();
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(reading) = usize::try_from(count).ok().and_then(|at| self.readings.get(at)) {
            reading.store(now, Ordering::Relaxed);
        }
        now
    }
}

/// A daemon that is driven on the spot.
#[derive(Debug)]
pub struct Driven {
    daemon: Daemon,
    guest: Arc<Guest>,
    stopwatch: Arc<Stopwatch>,
}

/// How long it took from a crash to the next committed transaction.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    /// From the call that crashes, so with raising and catching the trap.
    pub with_trap: Duration,
    /// From when the trap was caught.
    pub after_trap: Duration,
}

impl Driven {
    /// Starts a daemon of that guest.
    ///
    /// # Panics
    ///
    /// When it doesn't start.
    #[must_use]
    pub fn start(guest: &Arc<Guest>, budget_bytes: usize) -> Self {
        let stopwatch = Arc::new(Stopwatch::default());
        let world = World {
            clock: stopwatch.clone(),
            entropy: Arc::new(SystemEntropy),
            log: Arc::new(NoLog),
            outputs: Arc::default(),
            hold: None,
        };
        let images = Images::new(budget_bytes, &guest.shape()).expect("memory for the images");
        let mut options = DaemonOptions::new("bench", budget_bytes);
        // One crash, one restart.
        options.retries_max = 0;
        let guest = guest.clone();
        let daemon = Daemon::start(guest.clone(), images, options, world);
        Self { daemon: daemon.expect("the guest starts"), guest, stopwatch }
    }

    /// Starts the guest `chaos` and lets it grow to an image of about that many bytes.
    #[must_use]
    pub fn chaos(guest: &Arc<Guest>, image_bytes: usize) -> Self {
        let mut driven = Self::start(guest, budget_for(image_bytes));
        let (touch, hold) = (driven.bind("touch", json!({"pages": 4})), driven.hold());
        driven.commit(&touch);
        while driven.image_bytes() + MIB / 2 < image_bytes {
            driven.commit(&hold);
        }
        driven
    }

    fn hold(&self) -> Bound {
        self.bind("hold", json!({"mib": 1}))
    }

    /// Bytes of the committed image.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.daemon.images().committed_size()
    }

    /// The daemon.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Binds a request.
    #[must_use]
    pub fn bind(&self, contract: &str, arguments: impl Into<Args>) -> Bound {
        bind(&self.guest, contract, arguments)
    }

    /// Runs a request that must commit.
    pub fn commit(&mut self, bound: &Bound) {
        let transacted = self.daemon.transact(bound);
        assert!(matches!(transacted.outcome, Outcome::Committed(_)), "{transacted:?}");
    }

    /// Runs a request, however it ends, short of a crash.
    pub fn answer(&mut self, bound: &Bound) {
        let transacted = self.daemon.transact(bound);
        assert!(!matches!(transacted.outcome, Outcome::Crashed(_)), "{transacted:?}");
    }

    /// The value of a request as a whole number.
    #[must_use]
    pub fn number(&mut self, bound: &Bound) -> i64 {
        let transacted = self.daemon.transact(bound);
        let Outcome::Committed(value) = &transacted.outcome else { panic!("{transacted:?}") };
        let value = host::pure::json::from_message_pack(value).expect("a value");
        value.as_i64().expect("a whole number")
    }

    /// Runs a request that crashes, then one that commits. Also answers the cards that the first
    /// one had marked.
    pub fn crash_then_commit(&mut self, crash: &Bound, next: &Bound) -> (Recovered, u32) {
        self.stopwatch.begin();
        let start = Instant::now();
        let transacted = self.daemon.transact(crash);
        let caught = self.stopwatch.caught();
        self.commit(next);
        let with_trap = start.elapsed();
        let after_trap = self.stopwatch.clock.monotonic_nanos() - caught;
        let Outcome::Crashed(crash) = transacted.outcome else { panic!("it did not crash") };
        let after_trap = Duration::from_nanos(after_trap);
        (Recovered { with_trap, after_trap }, crash.cards_changed)
    }
}

/// Binds a request to a guest's contract.
///
/// # Panics
///
/// When there is no such contract, or the arguments are others.
#[must_use]
pub fn bind(guest: &Guest, contract: &str, arguments: impl Into<Args>) -> Bound {
    let contract = guest.contract(contract).expect("the contract exists");
    let bytes = contract.bind(&arguments.into(), &mut Meter::free());
    Bound {
        request: RequestId(1),
        contract: contract.index,
        arguments: Arguments::Packed(bytes.expect("the arguments fit").into()),
        key: None,
        correlation: None,
        wait_until_nanos: None,
        show: None,
    }
}
