//! Drives a stop: looks at the host, and does what the order says. Then the effects of the last
//! commits get a moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::api::Served;
use super::main_loop::MainLoop;
use crate::base::error::{Code, Fault};
use crate::base::failpoint::{self, Point};
use crate::base::limits::{STOP_ANSWERS, STOP_TICK};
use crate::pure::stop_order::{Deadlines, Phase, Seen, StopOrder};

/// Stops everything under the root, then lets the last answers reach their clients. The main loop
/// goes on turning meanwhile: an emergency ends what is left of the grace.
///
/// # Errors
///
/// `E_STOP_FORCED` when something did not end in its time. The root must not be touched then: it
/// would wait for that.
pub(super) fn stop_in_order(
    served: &Arc<Served>,
    main: &MainLoop,
    deadlines: Deadlines,
) -> Result<(), Fault> {
    let root = &served.root;
    // First, so that an answer which the stop causes says that it is the connection's last.
    served.closing.send_replace(true);
    root.refuse_requests();
    let now = || root.clock().monotonic_nanos();
    let mut order = StopOrder::begin(now(), deadlines);
    let (mut closing, mut closed): (Option<JoinHandle<()>>, bool) = (None, false);
    loop {
        main.tick();
        // Its operation is a look, which can't fail.
        drop(failpoint::pass(Point::DuringStop));
        let seen = Seen {
            daemons: root.daemons_left().len(),
            journal_closed: closed || closing.as_ref().is_some_and(JoinHandle::is_finished),
            hurry: main.vitals().stop().hurries(),
        };
        match order.look(now(), seen) {
            Phase::Drain => {}
            Phase::Cancel => root.cancel_all(),
            Phase::Sync if closing.is_none() && !closed => {
                let same = served.clone();
                let close = move || same.root.close_journal();
                closing = Builder::new().name("stop".to_owned()).spawn(close).ok();
                if closing.is_none() {
                    // The system gives no more threads. A disk that hangs is the watchdog's then.
                    served.root.close_journal();
                    closed = true;
                }
            }
            Phase::Sync => {}
            Phase::Left => break,
        }
        std::thread::sleep(STOP_TICK);
    }
    let _logged = root.finish_effects(|| {
        main.tick();
        !main.vitals().stop().hurries()
    });
    let result = order.forced().map_or(Ok(()), |phase| Err(forced(served, phase)));
    // Clients hear of it even then.
    let answered = || served.attending.load(Ordering::Acquire) == 0;
    let start = Instant::now();
    while !answered() && start.elapsed() < STOP_ANSWERS {
        std::thread::sleep(STOP_TICK);
    }
    result
}

/// What did not end, and what is not known therefore.
fn forced(served: &Served, phase: Phase) -> Fault {
    let mut message = match phase {
        Phase::Sync => "the journal's last sync did not end in its time".to_owned(),
        _ => {
            let left = served.root.daemons_left().join(", ");
            format!("transactions did not end when they were cancelled: {left}")
        }
    };
    for unsynced in served.root.unsynced() {
        let (name, first) = (unsynced.name, unsynced.durable + 1);
        let last = unsynced.committed;
        message.push_str(&format!("; commits {first} to {last} of `{name}` are unknown"));
    }
    Fault::new(Code::StopForced, message)
}
