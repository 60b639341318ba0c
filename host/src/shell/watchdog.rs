//! The watchdog: a thread that looks whether the others turn, tells the service manager, and ends
//! the process when a stop takes too long.

use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use super::cli::print_fault;
use super::health::Health;
use super::notify::{self, Told};
use super::{exit, sink};
use crate::base::clock::Clock;
use crate::base::error::{Code, Fault};
use crate::base::limits::{AWAKE_GAP_MAX, LAST_WORDS, WATCH_TICK};
use crate::base::stop::StopLatch;
use crate::base::vitals::Vitals;
use crate::pure::awake::Awake;
use crate::pure::watchdog::{Look, Watch};

/// Starts the thread. `stop_time` is what a stop may take as a whole.
///
/// # Errors
///
/// When the machine gives no thread.
pub(super) fn start(
    vitals: Arc<Vitals>,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    stop_time: Duration,
) -> std::io::Result<()> {
    let thread = Builder::new().name("watchdog".to_owned());
    thread.spawn(move || watch(&vitals, &health, clock.as_ref(), stop_time)).map(drop)
}

fn watch(vitals: &Vitals, health: &Health, clock: &dyn Clock, stop_time: Duration) {
    let begin = clock.monotonic_nanos();
    let (mut watch, mut awake) = (Watch::begin(begin), Awake::begin(begin, AWAKE_GAP_MAX));
    let asked_for = notify::is_watched();
    let mut stop_since = None;
    loop {
        std::thread::sleep(WATCH_TICK);
        let now = clock.monotonic_nanos();
        let looks = vitals.pulses().into_iter().map(|pulse| {
            let (beats, allowed) = pulse.read();
            Look { name: pulse.name.clone(), kind: pulse.kind, beats, allowed }
        });
        let finding = watch.look(now, &looks.collect::<Vec<_>>());
        let stop = vitals.stop();
        if let Some(late) = finding.stuck.first() {
            let text = format!("the thread `{}` has not turned for {:?}", late.name, late.busy);
            // Another reason may have been there first; the stop is under way then.
            let _first = stop.emergency(Code::Stuck, text);
        } else if asked_for {
            notify::tell(Told::Watchdog);
        }
        health.note(finding);
        let awake = awake.at(now);
        if stop.is_set() {
            let since = *stop_since.get_or_insert(awake);
            if u128::from(awake - since) >= stop_time.as_nanos() {
                leave(stop, stop_time);
            }
        }
    }
}

/// The last resort: ends the process without the main loop.
fn leave(stop: &StopLatch, stop_time: Duration) {
    let reason = stop.reason().map_or_else(String::new, |reason| reason.to_string());
    let text = stop.text().map_or_else(String::new, |text| format!(" ({text})"));
    let message = format!("the stop did not end within {stop_time:?}: {reason}{text}");
    print_fault(&Fault::new(Code::StopForced, message));
    sink::flush(LAST_WORDS);
    let emergency = stop.reason().is_some_and(|reason| reason.is_emergency());
    let code = if emergency { exit::EMERGENCY } else { exit::FORCED };
    signal_hook::low_level::exit(i32::from(code));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{JumpingClock, SystemClock};
    use crate::base::stop::Reason;
    use crate::base::vitals::Kind;

    #[test]
    fn s3_14_a_thread_that_does_not_turn_ends_the_host_and_one_that_waits_does_not() {
        let (vitals, health) = (Arc::new(Vitals::default()), Arc::new(Health::default()));
        start(vitals.clone(), health, Arc::new(SystemClock::new()), Duration::MAX).unwrap();
        let (waits, turns) = (vitals.heart("waits", Kind::Api), vitals.heart("turns", Kind::Api));
        waits.work(Duration::from_millis(1));
        waits.rest();
        for _ in 0..20 {
            turns.work(Duration::from_secs(3600));
            std::thread::sleep(WATCH_TICK / 10);
            assert!(!vitals.stop().is_set());
        }
        let stuck = vitals.heart("stuck", Kind::Api);
        stuck.work(Duration::from_millis(1));
        while !vitals.stop().is_set() {
            std::thread::sleep(WATCH_TICK);
        }
        assert_eq!(vitals.stop().reason(), Some(Reason::Emergency(Code::Stuck)));
        let text = vitals.stop().text().unwrap();
        assert!(text.contains("`stuck` has not turned"), "{text}");
    }

    #[test]
    fn t1_whatever_the_wall_clock_does_only_a_thread_that_is_late_is() {
        let (vitals, health) = (Arc::new(Vitals::default()), Arc::new(Health::default()));
        let clock = Arc::new(JumpingClock::default());
        start(vitals.clone(), health, clock.clone(), Duration::MAX).unwrap();
        let works = vitals.heart("works", Kind::Loop);
        works.work(Duration::from_secs(600));
        for _ in 0..2 * JumpingClock::SECONDS.len() {
            let _jumped = clock.unix_nanos();
            std::thread::sleep(WATCH_TICK / 2);
            assert_eq!(vitals.stop().text(), None);
        }
        works.work(Duration::from_millis(1));
        while !vitals.stop().is_set() {
            std::thread::sleep(WATCH_TICK);
        }
        let text = vitals.stop().text().unwrap();
        assert!(text.contains("`works` has not turned"), "{text}");
    }
}
