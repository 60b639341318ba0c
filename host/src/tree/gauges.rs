//! What a daemon shows of itself while it works: written by its thread, read by everybody.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::base::error::{Code, Fault};
use crate::base::limits::STATES_KEPT_MAX;
use crate::mechanisms::sandbox::Meter;

/// What a daemon is doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum DaemonState {
    /// Waiting for requests.
    #[default]
    Ready = 0,
    /// Running a transaction.
    Running = 1,
    /// Taking no requests until a person resumes it.
    Parked = 2,
    /// Gone.
    Stopped = 3,
    /// Its thread died and it waits for the next one, or what it needs is there again and it is
    /// being started.
    Restarting = 4,
    /// A resource that it needs is not available.
    Waiting = 5,
    /// It has no first state yet.
    Starting = 6,
}

impl DaemonState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
        }
    }
}

/// Whether a daemon's state could be handed over to other code.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Upgradable {
    /// Not tried yet.
    #[default]
    Unknown,
    /// The last trial of `save` worked.
    Yes {
        /// The version in which it saves.
        version: u32,
        /// Bytes of the state as a value.
        value_bytes: u64,
    },
    /// Why not.
    No(String),
}

/// Numbers of one daemon. Each is right by itself; two read one after the other may be a
/// transaction apart.
#[derive(Debug)]
pub struct Gauges {
    state: AtomicU8,
    pub(super) generation: AtomicU64,
    pub(super) sequence: AtomicU64,
    pub(super) committed: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) crashed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) restarts: AtomicU64,
    pub(super) resource_restarts: AtomicU64,
    pub(super) fuel: AtomicU64,
    pub(super) busy_nanos: AtomicU64,
    pub(super) cards_changed: AtomicU64,
    pub(super) bytes_changed: AtomicU64,
    pub(super) memory_bytes: AtomicU64,
    pub(super) memory_peak_bytes: AtomicU64,
    pub(super) lines_dropped: AtomicU64,
    pub(super) crash_reports: AtomicU64,
    pub(super) crash_reports_repeated: AtomicU64,
    pub(super) crash_reports_left_out: AtomicU64,
    pub(super) crash_reports_dropped: AtomicU64,
    /// The running request; 0 when there is none.
    pub(super) running: AtomicU64,
    pub(super) running_since: AtomicU64,
    /// What it was lately, newest last. Whether it runs a transaction is no matter here.
    states: Mutex<VecDeque<DaemonState>>,
    restart_nanos: Mutex<Option<Histogram<u32>>>,
    parked: Mutex<Option<Fault>>,
    last_exit: Mutex<Option<LastExit>>,
    upgradable: Mutex<Upgradable>,
    /// What of the running call is not booked yet.
    meter: Arc<Meter>,
}

impl Default for Gauges {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Gauges {
    /// All at zero; `meter` is that of the daemon's instances.
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Self {
            state: AtomicU8::new(DaemonState::Starting as u8),
            generation: AtomicU64::default(),
            sequence: AtomicU64::default(),
            committed: AtomicU64::default(),
            read: AtomicU64::default(),
            rejected: AtomicU64::default(),
            crashed: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            restarts: AtomicU64::default(),
            resource_restarts: AtomicU64::default(),
            fuel: AtomicU64::default(),
            busy_nanos: AtomicU64::default(),
            cards_changed: AtomicU64::default(),
            bytes_changed: AtomicU64::default(),
            memory_bytes: AtomicU64::default(),
            memory_peak_bytes: AtomicU64::default(),
            lines_dropped: AtomicU64::default(),
            crash_reports: AtomicU64::default(),
            crash_reports_repeated: AtomicU64::default(),
            crash_reports_left_out: AtomicU64::default(),
            crash_reports_dropped: AtomicU64::default(),
            running: AtomicU64::default(),
            running_since: AtomicU64::default(),
            states: Mutex::new(VecDeque::from([DaemonState::Starting])),
            restart_nanos: Mutex::new(histogram()),
            parked: Mutex::default(),
            last_exit: Mutex::default(),
            upgradable: Mutex::default(),
            meter,
        }
    }
}

/// From 100 ns to 100 s with two digits; nothing is allocated while recording.
fn histogram() -> Option<Histogram<u32>> {
    Histogram::new_with_bounds(100, 100_000_000_000, 2).ok()
}

/// How long restarts took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Restarts {
    /// How many.
    pub count: u64,
    /// Half of them were faster.
    pub p50: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
}

/// What became of a daemon's crashed requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CrashReports {
    /// Reports made.
    pub made: u64,
    /// Crashes that a recent report tells of already.
    pub repeated: u64,
    /// Crashes without a report, because there were too many.
    pub left_out: u64,
    /// Reports dropped, because the disk was too slow for them.
    pub dropped: u64,
}

/// How an instance ended that had to be replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LastExit {
    /// What ended it.
    pub code: Code,
    /// Which one it was.
    pub generation: u64,
    /// When: nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
}

/// A copy of all numbers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// What the daemon is doing.
    pub state: DaemonState,
    /// Why it is parked, or waits.
    pub parked: Option<Fault>,
    /// Incarnation of its instance.
    pub generation: u64,
    /// Its last commit.
    pub sequence: u64,
    /// Committed requests that may change the state.
    pub committed: u64,
    /// Answered read-only requests.
    pub read: u64,
    /// Requests rejected by the guest, or refused before they started.
    pub rejected: u64,
    /// Requests that crashed.
    pub crashed: u64,
    /// Requests that ended because a resource died under them.
    pub cancelled: u64,
    /// Restarts of the instance, more than one per crashed request when it was tried again.
    pub restarts: u64,
    /// Starts of the instance because a resource was there again.
    pub resource_restarts: u64,
    /// Instances that it has: one, or none while it is parked or waits.
    pub instances: u64,
    /// Fuel used by all transactions, that of the running one as of its last look.
    pub fuel: u64,
    /// Wall time spent in transactions.
    pub busy: Duration,
    /// Cards committed.
    pub cards_changed: u64,
    /// Bytes committed.
    pub bytes_changed: u64,
    /// Bytes of the guest's memory at the last commit.
    pub memory_bytes: u64,
    /// Most bytes it ever had, in transactions that run or came to nothing, too.
    pub memory_peak_bytes: u64,
    /// Log lines dropped over the limit.
    pub lines_dropped: u64,
    /// What became of the crashed requests; all zero without a journal.
    pub crash_reports: CrashReports,
    /// The running request and its start in monotonic nanoseconds.
    pub running: Option<(u64, u64)>,
    /// How long restarts took.
    pub restart_times: Restarts,
    /// How its last instance ended before the present one; none when none did.
    pub last_exit: Option<LastExit>,
    /// Whether it can be upgraded.
    pub upgradable: Upgradable,
}

impl Gauges {
    pub(super) fn set_state(&self, state: DaemonState) {
        let before = self.state.swap(state as u8, Ordering::Relaxed);
        let up = [DaemonState::Ready as u8, DaemonState::Running as u8];
        if before == state as u8 || (up.contains(&before) && up.contains(&(state as u8))) {
            return;
        }
        let state = if state == DaemonState::Running { DaemonState::Ready } else { state };
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() == STATES_KEPT_MAX {
            states.pop_front();
        }
        states.push_back(state);
    }

    /// What it was lately, newest last: at most [`STATES_KEPT_MAX`].
    pub(super) fn states(&self) -> Vec<DaemonState> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// It runs requests, as far as its guest and its resources go, or will in a moment.
    pub(super) fn serves(&self) -> bool {
        const SERVES: [DaemonState; 3] =
            [DaemonState::Ready, DaemonState::Running, DaemonState::Restarting];
        let state = self.state.load(Ordering::Relaxed);
        SERVES.iter().any(|&serves| serves as u8 == state)
    }

    pub(super) fn set_parked(&self, reason: Option<Fault>) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(super) fn set_last_exit(&self, exit: LastExit) {
        *self.last_exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
    }

    pub(super) fn set_upgradable(&self, upgradable: Upgradable) {
        *self.upgradable.lock().unwrap_or_else(PoisonError::into_inner) = upgradable;
    }

    pub(super) fn add(counter: &AtomicU64, more: u64) {
        // One writer: a plain load and store is enough, and cheaper than a locked add.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(super) fn set(counter: &AtomicU64, value: u64) {
        counter.store(value, Ordering::Relaxed);
    }

    pub(super) fn record_restart(&self, nanos: u64) {
        Self::add(&self.restarts, 1);
        let mut histogram = self.restart_nanos.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = histogram.as_mut() {
            histogram.saturating_record(nanos);
        }
    }

    /// Reads everything.
    #[must_use]
    pub fn report(&self) -> Report {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let running = get(&self.running);
        let state = match self.state.load(Ordering::Relaxed) {
            1 => DaemonState::Running,
            2 => DaemonState::Parked,
            3 => DaemonState::Stopped,
            4 => DaemonState::Restarting,
            5 => DaemonState::Waiting,
            6 => DaemonState::Starting,
            _ => DaemonState::Ready,
        };
        Report {
            state,
            parked: self.parked.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            generation: get(&self.generation),
            sequence: get(&self.sequence),
            committed: get(&self.committed),
            read: get(&self.read),
            rejected: get(&self.rejected),
            crashed: get(&self.crashed),
            cancelled: get(&self.cancelled),
            restarts: get(&self.restarts),
            resource_restarts: get(&self.resource_restarts),
            instances: self.meter.instances(),
            fuel: get(&self.fuel).saturating_add(self.meter.fuel()),
            busy: Duration::from_nanos(get(&self.busy_nanos)),
            cards_changed: get(&self.cards_changed),
            bytes_changed: get(&self.bytes_changed),
            memory_bytes: get(&self.memory_bytes),
            memory_peak_bytes: get(&self.memory_peak_bytes).max(self.meter.peak_bytes()),
            lines_dropped: get(&self.lines_dropped),
            crash_reports: CrashReports {
                made: get(&self.crash_reports),
                repeated: get(&self.crash_reports_repeated),
                left_out: get(&self.crash_reports_left_out),
                dropped: get(&self.crash_reports_dropped),
            },
            running: (running != 0).then(|| (running, get(&self.running_since))),
            restart_times: self.restart_times(),
            last_exit: *self.last_exit.lock().unwrap_or_else(PoisonError::into_inner),
            upgradable: self.upgradable.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn restart_times(&self) -> Restarts {
        let histogram = self.restart_nanos.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.as_ref().map_or_else(Restarts::default, |histogram| Restarts {
            count: histogram.len(),
            p50: Duration::from_nanos(histogram.value_at_quantile(0.5)),
            p99: Duration::from_nanos(histogram.value_at_quantile(0.99)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s0_20_states_are_noted_in_order_and_transactions_are_not() {
        use DaemonState::{Ready, Running, Starting, Waiting};
        let gauges = Gauges::default();
        for state in [Waiting, Ready, Running, Ready, Running, Waiting, Waiting, Running] {
            gauges.set_state(state);
        }
        assert_eq!(gauges.states(), [Starting, Waiting, Ready, Waiting, Ready]);
        for _ in 0..STATES_KEPT_MAX {
            gauges.set_state(Waiting);
            gauges.set_state(Ready);
        }
        assert_eq!(gauges.states().len(), STATES_KEPT_MAX);
        assert_eq!(gauges.states().last(), Some(&Ready));
    }

    #[test]
    fn a_report_shows_what_was_recorded() {
        let gauges = Gauges::default();
        for micros in 1..=100 {
            gauges.record_restart(micros * 1000);
        }
        Gauges::set(&gauges.running, 7);
        gauges.set_state(DaemonState::Running);
        let report = gauges.report();
        assert_eq!(report.restarts, 100);
        assert_eq!(report.state.as_str(), "running");
        assert_eq!(report.running, Some((7, 0)));
        let p50 = report.restart_times.p50.as_micros();
        assert!((49..=52).contains(&p50), "{p50}");
        assert!(report.restart_times.p99.as_micros() >= 98);
    }
}
