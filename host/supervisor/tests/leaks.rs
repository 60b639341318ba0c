//! Thousands of restarts leave nothing behind. Alone in its process, which it counts.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;

use supervisor::{
    BoxError, Generation, Irrecoverable, Manageable, Policy, Reporter, Restart, Signals,
    Supervisor, Task,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// Restarts before the first count: buffers have their size then.
const WARM_UP: u64 = 2_000;
const RESTARTS: u64 = 10_000;

/// Holds a descriptor and some memory, and goes away in each of the ways.
struct Holder;

impl Manageable for Holder {
    async fn start(&mut self, reports: Reporter, mut signals: Signals) -> Result<Task, BoxError> {
        let held = (TcpListener::bind("127.0.0.1:0").await?, vec![1_u8; 64 << 10]);
        let generation = reports.generation().0;
        if generation.is_multiple_of(7) && generation < WARM_UP + RESTARTS {
            return Err("not this time".into());
        }
        Ok(Task::new(async move {
            match generation % 5 {
                _ if generation >= WARM_UP + RESTARTS => {
                    signals.cancelled().await;
                }
                0 => reports.report("reports")?,
                1 => std::panic::resume_unwind(Box::new("panics")),
                2 => return Err("returns".into()),
                3 => {
                    reports.report("reports and stays")?;
                    signals.cancelled().await;
                }
                _ => {}
            }
            drop(held);
            Ok(())
        }))
    }

    async fn handle_irrecoverable(&mut self, _: &Irrecoverable) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Counts {
    tasks: usize,
    threads: usize,
    descriptors: usize,
    resident_kib: u64,
}

fn counts() -> Counts {
    let entries = |folder| fs::read_dir(folder).unwrap().count();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Counts {
        tasks: Handle::current().metrics().num_alive_tasks(),
        threads: entries("/proc/self/task"),
        descriptors: entries("/proc/self/fd"),
        resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_13_ten_thousand_restarts_leave_no_task_thread_descriptor_or_memory() {
    let supervisor = Supervisor::new(Holder);
    let policy = Policy::new(Restart::Permanent).with_backoff(None).with_intensity(None);
    let mut supervised = supervisor.policy(policy).spawn().await.unwrap();
    supervised.until("root", |node| node.generation.0 >= WARM_UP).await;
    let before = settled(None).await;
    let last = Generation(WARM_UP + RESTARTS);
    supervised.until("root", |node| node.generation >= last).await;
    supervised.stop().await.unwrap();
    let after = settled(Some(&before)).await;
    assert!(after.tasks <= before.tasks, "{before:?} {after:?}");
    assert!(after.threads <= before.threads, "{before:?} {after:?}");
    assert!(after.descriptors <= before.descriptors, "{before:?} {after:?}");
    assert!(after.resident_kib <= before.resident_kib + (4 << 10), "{before:?} {after:?}");
}

/// Counts; compared with others, when tasks that are ending have ended.
async fn settled(before: Option<&Counts>) -> Counts {
    for _ in 0..100_000 {
        let now = counts();
        if before.is_none_or(|before| now.tasks <= before.tasks) {
            return now;
        }
        tokio::task::yield_now().await;
    }
    counts()
}
