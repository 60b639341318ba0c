//! Who is late, and what that means for the host.
//!
//! | a thread | means |
//! |---|---|
//! | waits for work, or began a piece of it less than its allowance ago | all is well |
//! | waits for the disk for longer | degraded: the disk is slow, not the host |
//! | of a daemon is over its allowance while the disk stalls | nothing: it waits for the disk |
//! | is over its allowance otherwise | stuck |
//!
//! Time is what this process was awake: a host that was held by a signal, or by its machine, has
//! not been late meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use super::awake::Awake;
use crate::base::limits::AWAKE_GAP_MAX;
use crate::base::vitals::Kind;

/// One thread at one look.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Look {
    /// The thread.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Pieces of work that it has begun.
    pub beats: u64,
    /// How long the present one may take; none while it waits for work.
    pub allowed: Option<Duration>,
}

/// A thread that is over its allowance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Late {
    /// The thread.
    pub name: String,
    /// How long its present piece of work has been going on, as far as was seen.
    pub busy: Duration,
}

/// What a look found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Finding {
    /// Threads that wait too long for the disk.
    pub stalled: Vec<Late>,
    /// Threads that don't turn any more.
    pub stuck: Vec<Late>,
}

/// What earlier looks saw.
#[derive(Clone, Debug)]
pub struct Watch {
    awake: Awake,
    /// By name: the piece of work, and nanoseconds awake when it was first seen.
    seen: BTreeMap<String, (u64, u64)>,
}

impl Watch {
    /// Begins at `now`, in monotonic nanoseconds.
    #[must_use]
    pub fn begin(now: u64) -> Self {
        Self { awake: Awake::begin(now, AWAKE_GAP_MAX), seen: BTreeMap::new() }
    }

    /// Looks at all threads.
    pub fn look(&mut self, now: u64, threads: &[Look]) -> Finding {
        let awake = self.awake.at(now);
        let mut seen = BTreeMap::new();
        let (mut stalled, mut others) = (Vec::new(), Vec::new());
        for thread in threads {
            let Some(allowed) = thread.allowed else { continue };
            let since = match self.seen.get(&thread.name) {
                Some((beats, since)) if *beats == thread.beats => *since,
                _ => awake,
            };
            seen.insert(thread.name.clone(), (thread.beats, since));
            let busy = Duration::from_nanos(awake.saturating_sub(since));
            if busy > allowed {
                let late = Late { name: thread.name.clone(), busy };
                match thread.kind {
                    Kind::Journal => stalled.push(late),
                    kind => others.push((kind, late)),
                }
            }
        }
        self.seen = seen;
        let excused = |kind: &Kind| *kind == Kind::Daemon && !stalled.is_empty();
        let stuck = others.into_iter().filter(|(kind, _)| !excused(kind));
        let stuck = stuck.map(|(_, late)| late).collect();
        Finding { stalled, stuck }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn thread(kind: Kind, beats: u64, allowed_ms: u64) -> Look {
        let allowed = (allowed_ms > 0).then(|| Duration::from_millis(allowed_ms));
        Look { name: format!("{kind:?}"), kind, beats, allowed }
    }

    /// Looks each 100 ms for 10 s; answers when something was first stalled and stuck, in ms.
    fn run(threads: impl Fn(u64) -> Vec<Look>) -> (Option<u64>, Option<u64>) {
        let mut watch = Watch::begin(0);
        let (mut stalled, mut stuck) = (None, None);
        for now in (0..=10_000).step_by(100) {
            let finding = watch.look(now * MILLI, &threads(now));
            stalled = stalled.or((!finding.stalled.is_empty()).then_some(now));
            stuck = stuck.or((!finding.stuck.is_empty()).then_some(now));
        }
        (stalled, stuck)
    }

    #[test]
    fn s3_14_only_work_that_goes_on_for_too_long_is_late() {
        use Kind::{Api, Daemon, Journal, Loop, Ticker};
        for kind in [Loop, Api, Ticker, Journal, Daemon] {
            // Waits for work all the time; turns all the time; works as long as it may.
            assert_eq!(run(|_| vec![thread(kind, 7, 0)]), (None, None));
            assert_eq!(run(|now| vec![thread(kind, now / 900, 1000)]), (None, None));
            assert_eq!(run(|_| vec![thread(kind, 7, 10_000)]), (None, None));
            // Stopped turning at second 5.
            let stops = run(|now| vec![thread(kind, now.min(5000), 1000)]);
            let late = Some(6100);
            let expected = if kind == Journal { (late, None) } else { (None, late) };
            assert_eq!(stops, expected, "{kind:?}");
        }
    }

    #[test]
    fn s3_14_a_daemon_that_waits_for_a_stalled_disk_is_not_stuck_but_the_loop_is() {
        let disk = || thread(Kind::Journal, 1, 500);
        assert_eq!(run(|_| vec![disk(), thread(Kind::Daemon, 1, 1000)]), (Some(600), None));
        assert_eq!(run(|_| vec![disk(), thread(Kind::Loop, 1, 1000)]), (Some(600), Some(1100)));
    }

    #[test]
    fn t2_a_process_that_was_held_has_nobody_late() {
        let mut watch = Watch::begin(0);
        let threads = [thread(Kind::Loop, 1, 2000), thread(Kind::Journal, 1, 2000)];
        assert_eq!(watch.look(0, &threads), Finding::default());
        // Half an hour in one gap.
        assert_eq!(watch.look(1_800_000 * MILLI, &threads), Finding::default());
        // And then it doesn't turn.
        let later = (1..=20).map(|look| watch.look((1_800_000 + look * 100) * MILLI, &threads));
        let last = later.last().unwrap();
        assert_eq!((last.stalled.len(), last.stuck.len()), (1, 1));
    }
}
