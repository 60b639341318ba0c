//! A test's own process, what the kernel says of it, and waiting.

use std::process::Command;
use std::time::{Duration, Instant};

/// Longest time that anything may take which has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is `done`.
///
/// # Panics
///
/// When that takes a minute.
pub fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The kernel's numbers of this process's threads of that name.
///
/// # Panics
///
/// Where there is no `/proc`.
#[must_use]
pub fn threads(name: &str) -> Vec<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap());
    let named = tasks.filter(|task| {
        // One that ended meanwhile has none.
        let its = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        its.trim_end() == name
    });
    let mut ids: Vec<u64> =
        named.map(|task| task.file_name().to_str().unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

const MARK: &str = "BULKHEAD_TEST_PROCESS";

/// Runs `body` in a process of its own: this test binary again, with this test alone. For tests
/// that look at the whole process, which other tests share otherwise.
///
/// # Panics
///
/// When the test fails there, or `test` is not its name.
pub fn in_own_process(test: &str, body: impl FnOnce()) {
    if std::env::var(MARK).is_ok_and(|name| name == test) {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(MARK, test)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{test} in its own process:\n{out}\n{err}");
    assert!(out.contains("1 passed"), "there is no test {test}:\n{out}");
    eprint!("{err}");
}

/// What this process holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Holdings {
    /// Bytes of resident memory.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: usize,
    /// Open descriptors.
    pub descriptors: usize,
    /// Mappings.
    pub mappings: usize,
}

impl Holdings {
    /// Before and after doing something three times, when it was done once: what stays for good
    /// is there by then.
    ///
    /// # Panics
    ///
    /// Where there is no `/proc`.
    #[must_use]
    pub fn around(once: impl Fn()) -> (Self, Self) {
        once();
        let before = Self::now();
        (0..3).for_each(|_| once());
        (before, Self::now())
    }

    /// Right now.
    ///
    /// # Panics
    ///
    /// Where there is no `/proc`.
    #[must_use]
    pub fn now() -> Self {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
        Self {
            resident_bytes: pages * 4096,
            threads: count("/proc/self/task"),
            descriptors: count("/proc/self/fd"),
            mappings: std::fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
        }
    }
}
