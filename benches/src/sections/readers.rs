//! Reads of a daemon that commits all the time, with readers and without.

use super::Setup;
use crate::contenders::readers::{READS, Read};
use crate::race::{Contender, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 10;

/// How many readers a daemon has.
const READERS: [u32; 3] = [0, 1, 2];

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let daemons = READERS.map(|readers| (readers, Read::start(&setup.sandbox, readers)));
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (readers, daemon) in &daemons {
        contenders.push(Box::new(move |samples| {
            for (reads, name) in READS {
                let (read, committed) = daemon.per_second(reads);
                samples.add(&format!("{name} {readers}"), read);
                samples.add(&format!("commits beside {name} {readers}"), committed);
            }
        }));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    let mut rows = Vec::new();
    for (_, name) in READS {
        for readers in READERS {
            let of = |what: &str, readers: u32| {
                Quantity::PerSecond(samples.median(&format!("{what}{name} {readers}")))
            };
            for (what, shown) in [("", "reads"), ("commits beside ", "commits beside them")] {
                let row =
                    Row::new(format!("{name} {shown}, readers = {readers}"), of(what, readers));
                rows.push(if readers == 0 { row } else { row.against("no readers", of(what, 0)) });
            }
        }
    }
    let heading = "readers: SmallBank through the root, in memory; two clients read and one pays, \
                   all the time (more is better)";
    table.add(heading, rows);
}
