//! The root's decisions, simulated: a clock of its own, exits from a seed, an oracle beside it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use supervisor::policy::{Backoff, Exhausted, Intensity, Restart};

use super::*;
use crate::pure::dice::{Dice, seeds};

const A: NodeId = NodeId(2);
const B: NodeId = NodeId(3);

fn policy(restarts: u32, window: Duration, exhausted: Exhausted) -> Policy {
    Policy::new(Restart::Permanent)
        .with_intensity(Intensity::new(restarts, window).unwrap())
        .with_exhausted(exhausted)
}

#[test]
fn s4_14_a_child_that_died_is_started_again_once_and_its_sibling_is_not() {
    let (mut children, policy) = (Children::default(), Policy::new(Restart::Permanent));
    assert_eq!(children.died(A, &policy, false, 7, 0), Verdict::RestartAt(7));
    assert_eq!((children.next_due_nanos(), children.due(6)), (Some(7), None));
    assert_eq!((children.due(7), children.due(u64::MAX)), (Some(A), None));
    let Verdict::RestartAt(at) = children.died(A, &policy, false, 8, 0) else { panic!() };
    assert!(at > 8, "only the first restart comes at once");
    assert_eq!(children.died(B, &policy, false, 8, 0), Verdict::RestartAt(8));
}

#[test]
fn r9_restarts_that_are_used_up_end_as_the_policy_says() {
    for (exhausted, end) in [
        (Exhausted::Park, Verdict::Park),
        (Exhausted::Escalate, Verdict::Emergency),
        (Exhausted::Emergency, Verdict::Emergency),
    ] {
        let (mut children, policy) =
            (Children::default(), policy(2, Duration::from_secs(60), exhausted));
        for now in 0..2 {
            assert!(matches!(children.died(A, &policy, false, now, 0), Verdict::RestartAt(_)));
            assert_eq!(children.due(u64::MAX), Some(A));
        }
        assert_eq!(children.died(A, &policy, false, 2, 0), end);
        assert_eq!(children.next_due_nanos(), None, "it stays down");
        assert!(children.resume(A) && !children.resume(A));
        assert!(matches!(children.died(A, &policy, false, 3, 0), Verdict::RestartAt(3)));
    }
}

#[test]
fn a_child_that_was_told_to_end_and_all_of_a_host_that_stops_stay_down() {
    let (mut children, policy) = (Children::default(), Policy::new(Restart::Permanent));
    assert_eq!(children.died(A, &policy, true, 1, 0), Verdict::Over);
    assert_eq!(children.died(B, &policy, false, 1, 0), Verdict::RestartAt(1));
    children.stop();
    assert_eq!((children.due(u64::MAX), children.resume(B)), (None, false));
    assert_eq!(children.died(A, &policy, false, 1, 0), Verdict::Over);
}

/// What the oracle knows of a child, from what was done to it alone.
#[derive(Clone, Debug, Default)]
struct Known {
    up: bool,
    parked: bool,
    told: bool,
    generation: u64,
    starts: Vec<u64>,
    due: Option<u64>,
}

impl Known {
    /// Checks what was decided about its death, and goes on accordingly.
    fn judge(&mut self, verdict: Verdict, policy: &Policy, stopped: bool, now: u64) {
        let intensity = policy.intensity().unwrap();
        let window = u64::try_from(intensity.window().as_nanos()).unwrap();
        let recent = self.starts.iter().filter(|at| now.saturating_sub(**at) < window);
        let used_up = recent.count() >= usize::try_from(intensity.restarts_max()).unwrap();
        match verdict {
            Verdict::Over => assert!(stopped || self.told),
            Verdict::RestartAt(at) => {
                assert!(!stopped && !self.told && !used_up && at >= now);
                assert!(at - now <= 64_000_000, "longer than the longest delay");
                self.starts.push(at);
                self.due = Some(at);
            }
            Verdict::Park | Verdict::Emergency => {
                assert!(!stopped && !self.told && used_up);
                assert_eq!(verdict == Verdict::Park, policy.exhausted() == Exhausted::Park);
                self.parked = true;
            }
        }
    }
}

/// One tree under one seed: children that die at random, are told to end, are resumed. Answers what
/// happened, line by line.
fn simulate(seed: u64) -> String {
    let (mut dice, mut trace, mut now) = (Dice(seed), String::new(), 0_u64);
    let window = Duration::from_millis(1 + dice.below(2000));
    let most = u32::try_from(dice.below(6)).unwrap();
    let exhausted = [Exhausted::Park, Exhausted::Escalate][usize::from(dice.below(2) == 0)];
    let backoff = Backoff::new(Duration::from_millis(1), 2, Duration::from_millis(64), 50);
    let policy = policy(most, window, exhausted).with_backoff(backoff.unwrap());
    let mut children = Children::default();
    let count = 1 + dice.below(5);
    let up = Known { up: true, ..Known::default() };
    let mut known: BTreeMap<NodeId, Known> =
        (0..count).map(|n| (NodeId(n + 2), up.clone())).collect();
    let (mut stopped, mut emergency) = (false, false);
    for _ in 0..300 {
        now += dice.below(20_000_000);
        while let Some(id) = children.due(now) {
            let child = known.get_mut(&id).unwrap();
            assert!(!stopped && !child.up && !child.parked, "{id} is started twice");
            assert!(child.due.take().unwrap() <= now, "{id} is started early");
            (child.up, child.generation) = (true, child.generation + 1);
            writeln!(trace, "{now} {id} starts").unwrap();
        }
        let overdue = known.iter().find(|(_, one)| one.due.is_some_and(|due| due <= now));
        assert!(overdue.is_none(), "{overdue:?} is not started in time");
        let id = NodeId(dice.below(count) + 2);
        let before = known.clone();
        let child = known.get_mut(&id).unwrap();
        match dice.below(10) {
            0 if child.parked => {
                let resumed = children.resume(id);
                assert_eq!(resumed, !stopped);
                if resumed {
                    *child = Known { up: true, generation: child.generation + 1, ..up.clone() };
                }
            }
            1 if dice.below(20) == 0 => {
                children.stop();
                stopped = true;
                known.values_mut().for_each(|child| child.due = None);
            }
            2 => child.told |= dice.below(10) == 0,
            _ if child.up => {
                child.up = false;
                let verdict = children.died(id, &policy, child.told, now, dice.roll());
                writeln!(trace, "{now} {id} dies: {verdict:?}").unwrap();
                child.judge(verdict, &policy, stopped, now);
                emergency |= verdict == Verdict::Emergency;
            }
            _ => {}
        }
        for (other, child) in known.iter().filter(|(other, _)| **other != id && !stopped) {
            assert_eq!(child.generation, before[other].generation, "a sibling moved");
        }
        if emergency {
            children.stop();
            known.values_mut().for_each(|child| child.due = None);
            break;
        }
    }
    assert_eq!(children.next_due_nanos().is_some(), known.values().any(|one| one.due.is_some()));
    trace
}

#[test]
fn r9_s4_14_thousands_of_trees_die_at_random_and_the_same_seed_gives_the_same_trace() {
    let seeds = seeds(5000);
    let mut deaths = 0;
    for seed in 0..seeds {
        let run = || std::panic::catch_unwind(|| simulate(seed));
        let trace = run().unwrap_or_else(|_| panic!("seed {seed}"));
        deaths += trace.matches("dies").count();
        if seed % 50 == 0 {
            assert_eq!(run().unwrap(), trace, "seed {seed} has two traces");
        }
    }
    assert!(deaths > 10 * usize::try_from(seeds).unwrap(), "{deaths} deaths: too few to tell");
}
