//! From the death of a resource to the last daemon that waits, and from its return to commits.

use super::Setup;
use crate::contenders::dependents::{SETTLES, die_and_return};
use crate::race::{Contender, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 3;

/// Daemons that need it.
const COUNTS: [usize; 3] = [1, 100, 1_000];

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for count in COUNTS {
        contenders.push(Box::new(move |samples| {
            let times = die_and_return(&setup.sandbox, count);
            samples.add_time(&format!("{count} waiting"), times.waiting);
            samples.add_time(&format!("{count} first"), times.first);
            samples.add_time(&format!("{count} last"), times.last);
        }));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    let mut rows = Vec::new();
    for count in COUNTS {
        let nanos = |name: &str| Quantity::Nanos(samples.median(&format!("{count} {name}")));
        let daemons = if count == 1 { "daemon" } else { "daemons" };
        let row = |what: &str, name| Row::new(format!("{count} {daemons}: {what}"), nanos(name));
        rows.push(row("death to the last one waiting", "waiting"));
        rows.push(row("return to the first commit", "first"));
        rows.push(row("return to the last one's commit", "last"));
    }
    let heading = format!(
        "resources: counters in memory that need one resource, which is switched off and on;\n  its \
         return has to last {:?} before it counts",
        2 * SETTLES
    );
    table.add(heading, rows);
}
