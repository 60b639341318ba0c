//! What a daemon's clients notice of the crashes beside it.

use super::Setup;
use crate::contenders::storm::{Beside, Storm};
use crate::race::{Contender, race};
use crate::table::{Goal, Quantity, Row, Table};

const ROUNDS: usize = 40;

/// Requests in a round: the slowest five are beyond the last percentile.
const REQUESTS: usize = 5_000;

/// What is beside it, what that is called, what it is like without crashes, and whether it has a
/// goal.
const BESIDE: [(Beside, &str, Option<&str>, bool); 7] = [
    (Beside::Quiet, QUIET, None, false),
    (Beside::Commits, "short commits", None, false),
    (Beside::LongCommits, "long commits", None, false),
    (Beside::Threads, "plain threads", None, false),
    (Beside::Crashes, "crashes", Some("long commits"), true),
    (Beside::Deaths, "dying threads", Some("plain threads"), false),
    (Beside::ApartDeaths, "threads that die 1 ms apart", None, true),
];

const QUIET: &str = "nothing";

/// The percentile with a goal.
const JUDGED: &str = "p99";

/// Percentiles, in thousandths.
const PERCENTILES: [(&str, usize); 3] = [("p50", 500), (JUDGED, 990), ("p99.9", 999)];

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let storm = Storm::start(&setup.sandbox);
    let storm = &storm;
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (beside, name, ..) in BESIDE {
        contenders.push(Box::new(move |samples| {
            let (took, per_second) = storm.ask(beside, REQUESTS);
            for (percentile, thousandths) in PERCENTILES {
                let place = took.len() * thousandths / 1000;
                samples.add_time(&format!("{percentile} {name}"), took[place]);
            }
            samples.add(name, per_second);
        }));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    let mut rows = Vec::new();
    for (beside, name, like, goal) in BESIDE {
        let rate = Quantity::PerSecond(samples.median(name));
        for (percentile, _) in PERCENTILES {
            let nanos =
                |name: &str| Quantity::Nanos(samples.median(&format!("{percentile} {name}")));
            let row = || Row::new(format!("{percentile}, beside it {name}"), nanos(name));
            if beside == Beside::Quiet {
                rows.push(row());
                continue;
            }
            let next = row().against(QUIET, nanos(QUIET)).note(format!("{rate} beside it"));
            let judged = goal && percentile == JUDGED;
            rows.push(if judged { next.goal(Goal::Ratio(2.0)) } else { next });
            rows.extend(like.map(|like| row().against(like, nanos(like))));
        }
    }
    let heading = "storm: counter.increment through the root, in memory, one client; another \
                   client makes something else\n  happen at another daemon all the time \
                   (medians of rounds)";
    table.add(heading, rows);
}
