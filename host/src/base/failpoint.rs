//! Points at which a test may end the process, as SIGKILL does, with nothing flushed, closed or
//! said; or let an operation fail or stall, or a thread hang.
//!
//! One point can be armed, once, before work begins. Passing a point that isn't armed costs the
//! reading of one variable that nobody writes.

use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// Where the process can end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
    /// A group of commits is ready, and nothing of it is written.
    BeforeAppend,
    /// Half of a group is written.
    InsideWrite,
    /// A group is written, and not synced.
    BeforeSync,
    /// A group is synced, and no daemon knows.
    AfterSync,
    /// A group is durable, and its first answer has not left.
    BeforeReply,
    /// Groups are in the tables' transaction, which is not committed.
    DuringMove,
    /// Between two steps of folding.
    DuringFold,
    /// While what a crash left behind is read: passed before, within and after the move.
    DuringRecovery,
    /// The main loop looks for a reason to stop.
    MainLoop,
    /// The control plane shows that it turns.
    ControlPlane,
    /// The main loop looks how far a stop is.
    DuringStop,
    /// The control plane has accepted a client.
    AcceptClient,
    /// The control plane has accepted an HTTP client.
    AcceptHttp,
    /// Crash reports are about to be written.
    WriteReports,
    /// A guest has returned, and its transaction still has its leases.
    GuestReturned,
    /// A transaction has given its leases back, and has not looked whether one had ended.
    LeasesGivenBack,
}

impl Point {
    /// All points.
    pub const ALL: [Self; 16] = [
        Self::BeforeAppend,
        Self::InsideWrite,
        Self::BeforeSync,
        Self::AfterSync,
        Self::BeforeReply,
        Self::DuringMove,
        Self::DuringFold,
        Self::DuringRecovery,
        Self::MainLoop,
        Self::ControlPlane,
        Self::DuringStop,
        Self::AcceptClient,
        Self::AcceptHttp,
        Self::WriteReports,
        Self::GuestReturned,
        Self::LeasesGivenBack,
    ];

    /// The word for it on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeAppend => "before-append",
            Self::InsideWrite => "inside-write",
            Self::BeforeSync => "before-sync",
            Self::AfterSync => "after-sync",
            Self::BeforeReply => "before-reply",
            Self::DuringMove => "during-move",
            Self::DuringFold => "during-fold",
            Self::DuringRecovery => "during-recovery",
            Self::MainLoop => "main-loop",
            Self::ControlPlane => "control-plane",
            Self::DuringStop => "during-stop",
            Self::AcceptClient => "accept-client",
            Self::AcceptHttp => "accept-http",
            Self::WriteReports => "write-reports",
            Self::GuestReturned => "guest-returned",
            Self::LeasesGivenBack => "leases-given-back",
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|point| point.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no fail point; there are {}", known()))
    }
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The process ends.
    Kill,
    /// The operation fails, once, as if the disk had refused it.
    Error,
    /// The operation takes [`STALL`] longer, once.
    Stall,
    /// The operation never ends.
    Hang,
    /// The thread panics.
    Panic,
}

/// How long a stalled operation takes.
pub const STALL: Duration = Duration::from_secs(2);

/// What to do, where, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Where.
    pub point: Point,
    /// When it is passed for the nth time, counted from 1.
    pub nth: u64,
    /// What.
    pub action: Action,
}

impl FromStr for Failure {
    type Err = String;

    /// Reads `POINT`, `POINT:N` or `POINT:N:ACTION`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let point = parts.next().unwrap_or_default().parse()?;
        let nth = parts.next().map_or(Ok(1), str::parse);
        let nth = nth.map_err(|error| format!("which time: {error}"))?;
        let action = match (parts.next(), parts.next()) {
            (None | Some("kill"), None) => Action::Kill,
            (Some("error"), None) => Action::Error,
            (Some("stall"), None) => Action::Stall,
            (Some("hang"), None) => Action::Hang,
            (Some("panic"), None) => Action::Panic,
            _ => return Err("the action is kill, error, stall, hang or panic".to_owned()),
        };
        Ok(Self { point, nth, action })
    }
}

/// The armed point as its number plus one; 0 when there is none.
static ARMED: AtomicUsize = AtomicUsize::new(0);

/// Passes until it happens.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// The action, as its number.
static ACTION: AtomicUsize = AtomicUsize::new(0);

/// Lets `failure` happen in this process.
pub fn arm(failure: Failure) {
    LEFT.store(failure.nth.max(1), Ordering::Relaxed);
    ACTION.store(failure.action as usize, Ordering::Relaxed);
    ARMED.store(failure.point as usize + 1, Ordering::Release);
}

/// Passes a point.
///
/// # Errors
///
/// When its operation is to fail.
pub fn pass(point: Point) -> io::Result<()> {
    if reached(point) { act() } else { Ok(()) }
}

/// Passes a point: true when the caller has to call [`act`], after whatever belongs to the point.
#[must_use]
pub fn reached(point: Point) -> bool {
    ARMED.load(Ordering::Relaxed) == point as usize + 1 && LEFT.fetch_sub(1, Ordering::Relaxed) == 1
}

/// Does what is to be done at the armed point.
///
/// # Errors
///
/// When its operation is to fail.
pub fn act() -> io::Result<()> {
    let action = ACTION.load(Ordering::Relaxed);
    if action == Action::Error as usize {
        return Err(io::Error::other("a fail point"));
    }
    if action == Action::Stall as usize {
        std::thread::sleep(STALL);
        return Ok(());
    }
    assert_ne!(action, Action::Panic as usize, "a fail point");
    if action == Action::Kill as usize {
        kill_process(getpid(), Signal::KILL)?;
    }
    // Of a hanging operation, and until the signal arrives, nothing more may be seen.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_as_they_are_written() {
        for point in Point::ALL {
            let read = format!("{}:7:error", point.as_str()).parse::<Failure>().unwrap();
            assert_eq!(read, Failure { point, nth: 7, action: Action::Error });
        }
        let killed = "after-sync".parse::<Failure>().unwrap();
        assert_eq!((killed.nth, killed.action), (1, Action::Kill));
        for wrong in ["", "nowhere", "after-sync:x", "after-sync:1:dance", "after-sync:1:kill:1"] {
            assert!(wrong.parse::<Failure>().is_err(), "{wrong}");
        }
    }
}
