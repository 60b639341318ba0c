//! Which process is which, among all that ever were on this machine.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// One process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Process {
    /// Its number, where it runs.
    pub pid: u32,
    /// When it was started, in the kernel's ticks since the boot.
    pub(super) start_ticks: u64,
    /// The boot; empty where `/proc` shows processes alone.
    boot: String,
    /// The namespace in which it has that number; 0 where that is not shown.
    #[serde(default)]
    pub(super) namespace: u64,
}

impl Process {
    /// This process.
    pub(super) fn this() -> Option<Self> {
        Self::find(std::process::id())
    }

    /// The process of that number, if it is there and has not ended.
    fn find(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let start_ticks = fields.nth(18)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Some(Self { pid, start_ticks, boot: boot.trim().to_owned(), namespace: namespace() })
    }

    /// True until it has ended; none when it can't be seen from here.
    pub(super) fn is_alive(&self) -> Option<bool> {
        let is_same = |found: Self| {
            // Not each sees the boot.
            let boots_alike =
                found.boot == self.boot || found.boot.is_empty() || self.boot.is_empty();
            found.start_ticks == self.start_ticks && boots_alike
        };
        (self.namespace == namespace()).then(|| Self::find(self.pid).is_some_and(is_same))
    }
}

/// The namespace of this process's numbers.
fn namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |facts| facts.ino())
}
