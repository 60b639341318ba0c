//! The slot under shuttle's scheduler: reports of two generations against their supervisor.

/// What the slot is built on here.
mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use shuttle::sync::Mutex;
}

#[path = "../slot.rs"]
#[expect(clippy::duplicate_mod, reason = "the slot again, built on other primitives")]
#[expect(dead_code, reason = "the model doesn't use all of it")]
mod slot;

use std::future::poll_fn;
use std::sync::Arc;

use shuttle::thread;
use slot::Slot;

use crate::error::{Generation, ReportError};

/// Schedules that are tried, chosen at random with a bias to many switches.
const SCHEDULES: usize = 3_000;
const SWITCHES: usize = 3;

/// One generation whose task reports from two threads, and a supervisor that waits for the report
/// or - if the task's end comes first - closes the slot. A third thread reports whenever it likes.
fn hand_over(waits: bool) {
    let mut seen = Vec::new();
    let mut accepted = Vec::new();
    for generation in [Generation(1), Generation(2)] {
        let slot = Arc::new(Slot::new(generation));
        let reporters: Vec<_> = (0..2)
            .map(|_| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.report(generation.to_string().into()))
            })
            .collect();
        if waits {
            let report = poll_fn(|context| slot.poll_report(context));
            // It hangs here if the report's wake-up is lost, and shuttle calls that a deadlock.
            seen.push((generation, shuttle::future::block_on(report).to_string()));
        }
        let report = slot.close();
        assert!(!waits || report.is_none(), "seen twice");
        seen.extend(report.map(|report| (generation, report.to_string())));
        for reporter in reporters {
            match reporter.join().unwrap() {
                Ok(()) => accepted.push((generation, generation.to_string())),
                Err(ReportError::Twice(of) | ReportError::Stale(of)) => assert_eq!(of, generation),
            }
        }
        assert_eq!(slot.report("late".into()), Err(ReportError::Stale(generation)));
    }
    assert_eq!(seen, accepted, "what was taken in is seen once, by its own generation");
}

#[test]
fn s1_04_s1_09_a_report_is_seen_once_by_its_generation_or_refused() {
    shuttle::check_pct(|| hand_over(false), SCHEDULES, SWITCHES);
    shuttle::check_random(|| hand_over(false), SCHEDULES);
}

#[test]
fn s1_08_a_supervisor_that_waits_for_a_report_gets_it() {
    shuttle::check_pct(|| hand_over(true), SCHEDULES, SWITCHES);
    shuttle::check_random(|| hand_over(true), SCHEDULES);
}
