//! Who owns state, each on one thread: the root, and the daemons under it.

mod daemon;
mod durable;
mod gauges;
mod guest_log;
mod root;
mod worker;

pub use daemon::{Bound, Daemon, DaemonOptions, JournalSeat, Transacted, Upgraded, World};
pub use gauges::{DaemonState, Gauges, Report, Restarts, Upgradable};
pub use root::{
    DaemonPlan, DaemonView, Deploy, KeptCommits, MakeLog, Reply, RevertTo, Root, RootError,
    RootOptions,
};
