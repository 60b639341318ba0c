//! Who owns state, each on one thread: the root, and the daemons under it.

mod bits;
mod child;
mod crashes;
mod crew;
mod daemon;
mod durable;
mod duty;
mod gauges;
mod guest_log;
mod mailbox;
mod readers;
mod replay;
mod root;
mod service;
mod worker;

pub use bits::Stopped;
pub use daemon::{
    Arguments, Bound, COMMIT_BYTES_MAX, Daemon, DaemonOptions, JournalSeat, Simulated, Transacted,
    UpgradeOptions, Upgraded, World,
};
pub use gauges::{CrashReports, DaemonState, Gauges, LastExit, Report, Restarts, Upgradable};
pub use replay::{ReplayMaterials, Replayed, replay, replay_materials};
pub use root::{
    DaemonPlan, DaemonView, Depends, Deploy, KeptCommits, Lent, MakeLog, Reply, RevertTo, Root,
    RootError, RootOptions, Stand, Switched, ThreadDeath, ThreadExit, Unstarted, Unsynced,
    crash_of, last_crashes,
};
pub use service::{Hold, LeaseView, ResourcePlan, ResourceView, lacks};
