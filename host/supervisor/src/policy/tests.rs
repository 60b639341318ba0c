use proptest::prelude::*;

use super::*;

const SECOND: u64 = NANOS_PER_SECOND;
const MINUTE: u64 = 60 * SECOND;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Lets a fresh child end like this at each of `times`, with one random number for all.
fn ends_at(policy: &Policy, exit: Exit, times: &[u64], random: u64) -> Vec<Decision> {
    let mut history = History::default();
    let mut decisions = Vec::new();
    for &now in times {
        let (decision, next) = decide(policy, history, exit, now, random);
        history = next;
        decisions.push(decision);
    }
    decisions
}

#[test]
fn s1_01_s1_12_every_exit_under_every_restart_kind() {
    use Restart::{Permanent, Temporary, Transient};
    const RESTART: Decision = Decision::Restart { after_nanos: 0 };
    for (restart, exit, expected) in [
        (Permanent, Exit::Completed, RESTART),
        (Permanent, Exit::Failed, RESTART),
        (Permanent, Exit::Panicked, RESTART),
        (Permanent, Exit::Cancelled, Decision::End(End::Stopped)),
        (Permanent, Exit::Killed, Decision::End(End::Stopped)),
        (Transient, Exit::Completed, Decision::End(End::Completed)),
        (Transient, Exit::Failed, RESTART),
        (Transient, Exit::Panicked, RESTART),
        (Transient, Exit::Cancelled, Decision::End(End::Stopped)),
        (Transient, Exit::Killed, Decision::End(End::Stopped)),
        (Temporary, Exit::Completed, Decision::End(End::Completed)),
        (Temporary, Exit::Failed, Decision::End(End::Failed)),
        (Temporary, Exit::Panicked, Decision::End(End::Failed)),
        (Temporary, Exit::Cancelled, Decision::End(End::Stopped)),
        (Temporary, Exit::Killed, Decision::End(End::Stopped)),
    ] {
        let decided = ends_at(&Policy::new(restart), exit, &[5], 0);
        assert_eq!(decided, [expected], "{restart:?} {exit:?}");
    }
}

#[test]
fn the_defaults_give_a_child_that_dies_at_once_up_within_a_minute() {
    for (random, given_up_at) in [(0, 51_100), (u64::MAX, 40_880)] {
        let (mut now, mut delays, mut history) = (7 * SECOND, Vec::new(), History::default());
        let last = loop {
            let (decision, next) = decide(&Policy::default(), history, Exit::Failed, now, random);
            history = next;
            let Decision::Restart { after_nanos } = decision else { break decision };
            delays.push(after_nanos / NANOS_PER_MILLISECOND);
            now += after_nanos;
        };
        assert_eq!(last, Decision::Escalate);
        assert_eq!(now / NANOS_PER_MILLISECOND - 7000, given_up_at);
        if random == 0 {
            assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600]);
        }
    }
}

#[test]
fn used_up_restarts_end_as_the_policy_says() {
    for (exhausted, expected) in [
        (Exhausted::Park, Decision::Park),
        (Exhausted::Escalate, Decision::Escalate),
        (Exhausted::Emergency, Decision::Emergency),
    ] {
        let intensity = Intensity::new(2, seconds(60)).unwrap();
        let policy = Policy::default().with_intensity(intensity).with_exhausted(exhausted);
        let decided = ends_at(&policy, Exit::Panicked, &[0, SECOND, 2 * SECOND], 0);
        assert_eq!(decided[2], expected);
        assert!(decided[..2].iter().all(|one| matches!(one, Decision::Restart { .. })));
    }
    let never = Policy::default().with_intensity(Intensity::new(0, seconds(1)).unwrap());
    assert_eq!(ends_at(&never, Exit::Failed, &[0], 0), [Decision::Escalate]);
}

/// The window slides: it has room again when the oldest restart leaves it, to the nanosecond.
#[test]
fn the_window_ends_after_its_last_nanosecond() {
    let policy = Policy::default()
        .with_intensity(Intensity::new(1, seconds(60)).unwrap())
        .with_exhausted(Exhausted::Park);
    let at = |now| ends_at(&policy, Exit::Failed, &[0, now], 0)[1];
    assert_eq!(at(MINUTE - 1), Decision::Park);
    assert_eq!(at(MINUTE), Decision::Restart { after_nanos: 0 });
}

#[test]
fn delays_start_over_after_a_stable_run_and_the_window_does_not() {
    let policy = Policy::default().with_stable_after(seconds(5)).unwrap();
    let delays = |gap: u64| {
        let times: Vec<u64> = (0..4).map(|count| count * gap).collect();
        ends_at(&policy, Exit::Failed, &times, 0)
    };
    let first = Decision::Restart { after_nanos: 0 };
    assert_eq!(delays(5 * SECOND), [first; 4]);
    assert_ne!(delays(5 * SECOND - 1)[1..], [first; 3]);
    let times: Vec<u64> = (0..11).map(|count| count * 5 * SECOND).collect();
    assert_eq!(ends_at(&policy, Exit::Failed, &times, 0)[10], Decision::Escalate);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    use PolicyError as E;
    let long = DURATION_MAX + Duration::from_nanos(1);
    let intensity = |restarts, window| Intensity::new(restarts, window).unwrap_err();
    assert_eq!(intensity(RESTARTS_MAX + 1, seconds(1)), E::TooManyRestarts(RESTARTS_MAX + 1));
    assert_eq!(intensity(1, Duration::ZERO), E::EmptyWindow);
    assert_eq!(intensity(1, long), E::TooLong(long));
    for (initial, factor, max, jitter, expected) in [
        (Duration::ZERO, 2, seconds(1), 0, E::ZeroDelay),
        (seconds(2), 2, seconds(1), 0, E::DelayAboveMax),
        (seconds(1), 0, seconds(1), 0, E::ZeroFactor),
        (seconds(1), 2, seconds(1), 101, E::JitterAbove100(101)),
        (seconds(1), 2, long, 0, E::TooLong(long)),
    ] {
        assert_eq!(Backoff::new(initial, factor, max, jitter).unwrap_err(), expected);
    }
    assert_eq!(Policy::default().with_stable_after(long).unwrap_err(), E::TooLong(long));
    assert!(Backoff::new(DURATION_MAX, u32::MAX, DURATION_MAX, 100).is_ok());
}

proptest! {
    /// Whenever children end, no window holds more restarts than it may, and the history is small.
    #[test]
    fn no_window_holds_more_restarts_than_the_intensity(
        restarts_max in 0_u32..6,
        window in 1_u64..200,
        initial in 1_u64..50,
        stable in 0_u64..100,
        ran in prop::collection::vec((0_u64..100, any::<u64>()), 1..80),
    ) {
        let nanos = Duration::from_nanos;
        let policy = Policy::new(Restart::Permanent)
            .with_intensity(Intensity::new(restarts_max, nanos(window)).unwrap())
            .with_backoff(Backoff::new(nanos(initial), 3, nanos(initial * 5), 50).unwrap())
            .with_stable_after(nanos(stable)).unwrap()
            .with_exhausted(Exhausted::Park);
        let (mut now, mut restarts, mut history) = (0, Vec::new(), History::default());
        for (ran, random) in ran {
            now += ran;
            let (decision, next) = decide(&policy, history, Exit::Completed, now, random);
            history = next;
            prop_assert!(history.in_window() <= restarts_max as usize);
            match decision {
                Decision::Restart { after_nanos } => {
                    now += after_nanos;
                    restarts.push(now);
                }
                // Somebody resumes it at once.
                other => prop_assert_eq!(other, Decision::Park),
            }
        }
        for (index, &first) in restarts.iter().enumerate() {
            let inside = restarts[index..].iter().filter(|&&at| at - first < window).count();
            prop_assert!(inside <= restarts_max as usize, "{} from {} on", inside, first);
        }
    }

    /// Delays: none, then growing to the limit, each shorter by no more than the jitter.
    #[test]
    fn delays_grow_to_the_limit_within_their_jitter(
        initial in 1_u64..=DURATION_MAX.as_secs(),
        factor in 1_u32..,
        times in 1_u64..1000,
        jitter in 0_u8..=100,
        random in any::<u64>(),
    ) {
        let max = (seconds(initial) * u32::try_from(times).unwrap()).min(DURATION_MAX);
        let backoff = Backoff::new(seconds(initial), factor, max, jitter).unwrap();
        prop_assert_eq!(backoff.delay_nanos(0, random), 0);
        prop_assert_eq!(backoff.delay_nanos(1, 0), backoff.initial_nanos);
        let mut before = 0;
        for restarts in 1..70 {
            let full = backoff.delay_nanos(restarts, 0);
            prop_assert!(before <= full && full <= backoff.max_nanos);
            let grown = u128::from(before) * u128::from(factor);
            prop_assert!(before == 0 || u128::from(full) == grown.min(max.as_nanos()));
            let shorter = u128::from(full - backoff.delay_nanos(restarts, random));
            prop_assert!(shorter * 100 <= u128::from(full) * u128::from(jitter));
            before = full;
        }
        if factor > 1 {
            prop_assert_eq!(before, backoff.max_nanos);
        }
    }

    /// Later is never worse: a child that ran longer is not delayed more.
    #[test]
    fn a_longer_run_is_never_delayed_more(
        times in prop::collection::vec(0_u64..20 * SECOND, 1..12),
        longer in 0_u64..100 * SECOND,
    ) {
        let policy = Policy::default().with_intensity(None);
        let run = |last: u64| {
            let mut now = 0;
            let mut history = History::default();
            let mut after = 0;
            for (index, ran) in times.iter().enumerate() {
                now += ran + if index + 1 == times.len() { last } else { 0 };
                let (decision, next) = decide(&policy, history, Exit::Failed, now, 0);
                history = next;
                let Decision::Restart { after_nanos } = decision else { panic!("{decision:?}") };
                (now, after) = (now + after_nanos, after_nanos);
            }
            after
        };
        prop_assert!(run(longer) <= run(0));
    }
}
