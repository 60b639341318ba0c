//! The machine's decisions, one by one.

use super::*;
use crate::base::limits::{
    CHECK_EVERY, CHECK_TIME_MAX, CONNECT_TIME_MAX, INIT_JOB_TIME_MAX, PROBE_GAP, UP_STABLE,
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn on(machine: &mut Machine, event: Event, now: u64) -> Vec<Action> {
    machine.on(event, now, 0).into_vec()
}

fn up(generation: u64) -> Action {
    Action::Announce(Change::Up { generation: ResourceGeneration(generation) })
}

fn down(since_nanos: u64, why: &str) -> Action {
    Action::Announce(Change::Down { since_nanos, why: why.to_owned() })
}

fn wake(now: u64, after: Duration) -> Action {
    Action::WakeAt(now + nanos(after))
}

/// A resource without jobs that is up since `now`.
fn available(now: u64) -> Machine {
    let mut machine = Machine::new(Policy::default(), 0, now);
    on(&mut machine, Event::Due, now);
    assert_eq!(on(&mut machine, Event::Connected, now), [up(1), wake(now, CHECK_EVERY)]);
    machine
}

/// Brings it back without any delay but its own; answers when it is up.
fn recover(machine: &mut Machine, now: u64) -> u64 {
    let settled = on(machine, Event::Connected, now);
    let [Action::WakeAt(settled)] = settled[..] else { panic!("{settled:?}") };
    let actions = on(machine, Event::Due, settled);
    assert_eq!(actions, [Action::Check, wake(settled, CHECK_TIME_MAX)]);
    let generation = machine.generation().0 + 1;
    let actions = on(machine, Event::CheckPassed, settled);
    assert_eq!(actions, [up(generation), wake(settled, CHECK_EVERY)]);
    settled
}

#[test]
fn s0_12_two_jobs_run_in_order_at_each_recovery() {
    let mut machine = Machine::new(Policy::default(), 2, 7);
    let down_since = Status::Down { since_nanos: 7, why: "it has not been connected yet".into() };
    assert_eq!((machine.status(), machine.due_nanos()), (down_since, Some(7)));
    let job = |job, now| [Action::RunJob(job), wake(now, INIT_JOB_TIME_MAX)];
    let start = on(&mut machine, Event::Due, 7);
    assert_eq!(start, [Action::Connect, wake(7, CONNECT_TIME_MAX)]);
    assert_eq!(on(&mut machine, Event::Connected, 8), job(0, 8));
    assert_eq!(on(&mut machine, Event::JobDone, 9), job(1, 9));
    assert_eq!(on(&mut machine, Event::JobDone, 10), [up(1), wake(10, CHECK_EVERY)]);
    assert_eq!((machine.status(), machine.generation().0), (Status::Available, 1));
    let now = 11 * SECOND;
    let death = on(&mut machine, Event::CheckFailed("reset".into()), now);
    let again = [Action::Disconnect, Action::Connect, wake(now, CONNECT_TIME_MAX)];
    assert_eq!(death, [&[down(now, "reset")], &again[..]].concat());
    assert_eq!(on(&mut machine, Event::Connected, now), job(0, now));
    assert_eq!(on(&mut machine, Event::JobDone, now), job(1, now));
    assert_eq!(on(&mut machine, Event::JobDone, now), [wake(now, UP_DELAY)]);
    assert_ne!(machine.status(), Status::Available, "it settles");
}

#[test]
fn s0_11_a_job_that_fails_keeps_it_down_and_a_later_attempt_begins_with_the_first() {
    let mut machine = Machine::new(Policy::default(), 2, 0);
    on(&mut machine, Event::Due, 0);
    on(&mut machine, Event::Connected, 0);
    on(&mut machine, Event::JobDone, 0);
    let failed = on(&mut machine, Event::JobFailed("NOSCRIPT".into()), 1);
    assert_eq!(failed, [Action::Disconnect, Action::WakeAt(1 + 100 * MS)]);
    let status = Status::Down { since_nanos: 0, why: "init job 2: NOSCRIPT".into() };
    assert_eq!(machine.status(), status);
    on(&mut machine, Event::Due, SECOND);
    assert_eq!(on(&mut machine, Event::Connected, SECOND)[0], Action::RunJob(0));
    assert_eq!(on(&mut machine, Event::ConnectionDied("reset".into()), SECOND).len(), 2);
    let status = Status::Down { since_nanos: 0, why: "reset".into() };
    assert_eq!(machine.status(), status, "since the beginning, for the last reason");
}

#[test]
fn attempts_that_fail_wait_longer_and_longer_until_it_is_up() {
    let mut machine = available(0);
    let mut now = 20 * SECOND;
    on(&mut machine, Event::CheckFailed("reset".into()), now);
    for delay in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
        let failed = on(&mut machine, Event::ConnectFailed("refused".into()), now);
        assert_eq!(failed, [Action::Disconnect, Action::WakeAt(now + delay * MS)]);
        let early = on(&mut machine, Event::Due, now + delay * MS - 1);
        assert_eq!(early, [Action::WakeAt(now + delay * MS)], "too early");
        now += delay * MS;
        assert_eq!(on(&mut machine, Event::Due, now)[0], Action::Connect);
    }
    assert_eq!((machine.generation().0, machine.flaps()), (1, 0), "never up is no flap");
    now = recover(&mut machine, now);
    let actions = on(&mut machine, Event::CheckFailed("reset".into()), now);
    assert_eq!(actions[2], Action::Connect, "at once again");
}

#[test]
fn what_never_answers_is_given_up_in_its_time() {
    let late = |machine: &mut Machine, limit: Duration, why: &str| {
        let due = machine.due_nanos().unwrap();
        assert_eq!(on(machine, Event::Due, due - 1), [Action::WakeAt(due)]);
        let actions = on(machine, Event::Due, due);
        assert!(actions.contains(&Action::Disconnect), "{actions:?}");
        let Status::Down { why: said, .. } = machine.status() else { panic!("{limit:?}") };
        assert_eq!(said, why);
        due
    };
    let mut machine = Machine::new(Policy::default(), 1, 0);
    on(&mut machine, Event::Due, 0);
    let due = late(&mut machine, CONNECT_TIME_MAX, "it did not connect within 3s");
    assert_eq!(due, nanos(CONNECT_TIME_MAX));
    let now = machine.due_nanos().unwrap();
    on(&mut machine, Event::Due, now);
    on(&mut machine, Event::Connected, now);
    let due = late(&mut machine, INIT_JOB_TIME_MAX, "init job 1: it did not end within 10s");
    assert_eq!(due, now + nanos(INIT_JOB_TIME_MAX));
    let mut machine = available(0);
    assert_eq!(on(&mut machine, Event::Due, SECOND)[0], Action::Check);
    let due = late(&mut machine, CHECK_TIME_MAX, "it did not check within 2s");
    assert_eq!(due, nanos(CHECK_EVERY + CHECK_TIME_MAX), "an idle dead peer is noticed");
    on(&mut machine, Event::Connected, due);
    let settled = machine.due_nanos().unwrap();
    on(&mut machine, Event::Due, settled);
    late(&mut machine, CHECK_TIME_MAX, "it did not check within 2s");
    assert_eq!(machine.generation().0, 1, "it died while it settled, and was never up");
}

#[test]
fn the_death_of_a_connection_is_probed_at_once_and_is_not_the_resources() {
    let died = || Event::ConnectionDied("reset".into());
    let (mut machine, now) = (available(0), 500 * MS);
    let probe = |now| [Action::Probe, wake(now, CHECK_TIME_MAX)];
    assert_eq!(on(&mut machine, died(), now), probe(now));
    assert_eq!(on(&mut machine, Event::CheckPassed, now), [wake(now, CHECK_EVERY)]);
    assert_eq!(machine.status(), Status::Available);
    // A peer that drops each connection at once is not probed all the time.
    assert_eq!(on(&mut machine, died(), now), [wake(now, PROBE_GAP)]);
    let later = now + nanos(PROBE_GAP);
    assert_eq!(on(&mut machine, Event::Due, later), probe(later));
    // What dies while it is probed may have died after the answer was given.
    assert_eq!(on(&mut machine, died(), later), []);
    assert_eq!(on(&mut machine, Event::CheckPassed, later), [wake(later, PROBE_GAP)]);
    let last = later + nanos(PROBE_GAP);
    assert_eq!(on(&mut machine, Event::Due, last), probe(last));
    let failed = on(&mut machine, Event::CheckFailed("refused".into()), last);
    assert_eq!(failed[0], down(last, "refused"));
    // In the middle of a check: asked again, as the answer may be older than the death.
    let (mut machine, now) = (available(0), SECOND);
    assert_eq!(on(&mut machine, Event::Due, now)[0], Action::Check);
    assert_eq!(on(&mut machine, died(), now), []);
    assert_eq!(on(&mut machine, Event::CheckPassed, now), probe(now));
}

/// Dies as soon as it is up; answers how often it is up in the first minute.
fn ups_while_flapping(up_delay: Duration) -> u32 {
    let mut machine = Machine::new(Policy::new(Backoff::default(), up_delay), 0, 0);
    on(&mut machine, Event::Due, 0);
    on(&mut machine, Event::Connected, 0);
    let (mut now, mut ups) = (0, 0);
    while now < 60 * SECOND {
        ups += 1;
        on(&mut machine, Event::CheckFailed("reset".into()), now);
        assert_eq!(machine.flaps(), ups);
        now = recover(&mut machine, now);
    }
    ups
}

#[test]
fn a_minute_of_flapping_brings_a_few_recoveries() {
    assert_eq!(ups_while_flapping(Duration::from_millis(100)), 9);
    assert_eq!(ups_while_flapping(Duration::from_millis(10)), 12);
    assert_eq!(ups_while_flapping(Duration::ZERO), 15, "not below the least delay");
    assert_eq!(ups_while_flapping(Duration::MAX), 2, "nor above the longest");
}

#[test]
fn flaps_are_forgotten_after_a_stable_run() {
    let mut machine = available(0);
    let mut now = 0;
    for flaps in 1..=5 {
        on(&mut machine, Event::CheckFailed("reset".into()), now + 1);
        assert_eq!(machine.flaps(), flaps);
        now = recover(&mut machine, now + 1);
    }
    let stable = now + nanos(UP_STABLE);
    on(&mut machine, Event::Due, stable - 1);
    assert_eq!(machine.flaps(), 5);
    on(&mut machine, Event::CheckPassed, stable);
    assert_eq!(machine.flaps(), 0);
    on(&mut machine, Event::CheckFailed("reset".into()), stable);
    assert_eq!((machine.flaps(), recover(&mut machine, stable)), (0, stable + 100 * MS));
}

#[test]
fn s0_06_a_drill_is_seen_by_status_and_by_subscribers_in_order() {
    let (mut machine, now) = (available(0), 20 * SECOND);
    let held = [down(now, "a person took it down"), Action::Disconnect];
    assert_eq!(on(&mut machine, Event::Hold, now), held);
    assert_eq!(machine.status(), Status::Held { since_nanos: now });
    assert_eq!(machine.due_nanos(), None);
    for event in [Event::Hold, Event::Due, Event::CheckPassed, Event::CheckFailed("x".into())] {
        assert_eq!(on(&mut machine, event, now + 1), []);
    }
    assert_eq!(on(&mut machine, Event::Connected, now + 1), [Action::Disconnect]);
    assert_eq!(machine.status(), Status::Held { since_nanos: now });
    let released = on(&mut machine, Event::Release, now + 2);
    assert_eq!(released, [Action::Connect, wake(now + 2, CONNECT_TIME_MAX)]);
    let why = "it was released, and is not connected yet".to_owned();
    assert_eq!(machine.status(), Status::Down { since_nanos: now, why });
    assert_eq!(on(&mut machine, Event::Release, now + 2), []);
    recover(&mut machine, now + 3);
    assert_eq!(machine.status(), Status::Available);
    // While it is down anyway, nobody has to be told; whoever releases it doesn't wait for backoff.
    on(&mut machine, Event::CheckFailed("x".into()), now + 3);
    on(&mut machine, Event::ConnectFailed("x".into()), now + 3);
    assert_eq!(on(&mut machine, Event::Hold, now + 4), []);
    assert_eq!(on(&mut machine, Event::Release, now + 5)[0], Action::Connect);
    let failed = on(&mut machine, Event::ConnectFailed("x".into()), now + 5);
    assert_eq!(failed[1], Action::WakeAt(now + 5 + 100 * MS), "the backoff begins anew");
}

/// One drill after the other, each soon after the last recovery, and one in the middle of flaps.
#[test]
fn drills_are_no_flaps_and_recoveries_after_them_last_no_longer() {
    let (mut machine, mut now) = (available(0), SECOND);
    for drill in 0..30 {
        on(&mut machine, Event::Hold, now);
        now += 5 * SECOND;
        assert_eq!(on(&mut machine, Event::Release, now)[0], Action::Connect);
        let up = recover(&mut machine, now);
        assert_eq!((machine.flaps(), up), (0, now + nanos(UP_DELAY)), "drill {drill}");
        now = up + SECOND;
    }
    on(&mut machine, Event::CheckFailed("reset".into()), now);
    now = recover(&mut machine, now);
    on(&mut machine, Event::Hold, now + 1);
    assert_eq!(machine.flaps(), 1, "those that there were are not forgotten by a drill either");
    on(&mut machine, Event::Release, now + 2);
    assert_eq!(recover(&mut machine, now + 2), now + 2 + 2 * nanos(UP_DELAY));
}

#[test]
fn after_a_stop_nothing_is_begun() {
    for held in [false, true] {
        let mut machine = available(0);
        if held {
            on(&mut machine, Event::Hold, 4);
            assert_eq!(on(&mut machine, Event::Stop, 5), []);
        } else {
            let stop = on(&mut machine, Event::Stop, 4);
            assert_eq!(stop, [down(4, "its service has ended"), Action::Disconnect]);
        }
        for event in [Event::Due, Event::Release, Event::Hold, Event::JobDone, Event::Stop] {
            assert_eq!(on(&mut machine, event, 6), []);
        }
        assert_eq!(on(&mut machine, Event::Connected, 6), [Action::Disconnect]);
        let status = Status::Down { since_nanos: 4, why: "its service has ended".into() };
        assert_eq!((machine.status(), machine.due_nanos()), (status, None));
    }
}

#[test]
fn s0_05_a_stateless_resource_is_available_whatever_happens() {
    let events = [
        Event::Due,
        Event::Connected,
        Event::ConnectFailed("x".into()),
        Event::JobDone,
        Event::JobFailed("x".into()),
        Event::CheckPassed,
        Event::CheckFailed("x".into()),
        Event::ConnectionDied("x".into()),
        Event::Hold,
        Event::Release,
        Event::Stop,
    ];
    for first in &events {
        let mut machine = Machine::stateless();
        assert_eq!(machine.status(), Status::Available);
        assert_eq!(on(&mut machine, first.clone(), 5), [up(1)]);
        for (second, now) in events.iter().zip(6..) {
            assert_eq!(on(&mut machine, second.clone(), now), [], "{first:?} {second:?}");
            assert_eq!(machine.status(), Status::Available, "{first:?} {second:?}");
            assert_eq!(machine.due_nanos(), None);
        }
    }
}
