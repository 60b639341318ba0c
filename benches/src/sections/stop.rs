//! From `host stop` to the end of the host, and of all its daemons.

use std::cell::RefCell;
use std::collections::BTreeSet;

use host::mechanisms::memory::machine_memory_bytes;

use super::Setup;
use crate::contenders::fleet::{FLEET, Hosts, MACHINE_BYTES, Times, processes};
use crate::race::{Contender, Samples, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 3;

const PROCESSES: &str = "processes, TERM and wait";

/// What is measured, and whether it has a journal.
const HOSTS: [(&str, bool); 2] = [("daemons in memory", false), ("durable daemons", true)];

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let heading =
        format!("stop: `host stop` of {FLEET} daemons, from the command to the host's end");
    if machine_memory_bytes() < MACHINE_BYTES {
        let note = format!("the machine has less than {} GiB of memory", MACHINE_BYTES >> 30);
        table.add(heading, vec![Row::missing("daemons", note)]);
        return;
    }
    let hosts = RefCell::new(Hosts::new());
    let failures = RefCell::new(BTreeSet::new());
    let add = |samples: &mut Samples, name: &str, times: Result<Times, String>| match times {
        Ok(times) => {
            samples.add_time(name, times.stop);
            samples.add_time(&format!("{name}, start"), times.start);
        }
        Err(error) => drop(failures.borrow_mut().insert(format!("{name}: {error}"))),
    };
    let mut contenders: Vec<Contender<'_>> = vec![Box::new(|samples| {
        add(samples, PROCESSES, processes().map_err(|error| error.to_string()));
    })];
    for (name, journal) in HOSTS {
        let (hosts, add) = (&hosts, &add);
        contenders.push(Box::new(move |samples| {
            add(samples, name, hosts.borrow_mut().run(journal));
        }));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    let mut rows: Vec<Row> = HOSTS.iter().filter_map(|(name, _)| row(name, &samples)).collect();
    rows.extend(failures.into_inner().into_iter().map(|failure| Row::missing("daemons", failure)));
    table.add(heading, rows);
}

fn row(name: &str, samples: &Samples) -> Option<Row> {
    let nanos = |series: &str| samples.find(series).map(Quantity::Nanos);
    let started = nanos(&format!("{name}, start"))?;
    let row = Row::new(name, nanos(name)?).note(format!("started in {started}"));
    Some(match (nanos(PROCESSES), nanos(&format!("{PROCESSES}, start"))) {
        (Some(others), Some(start)) => {
            row.against(PROCESSES, others).note(format!("started in {started}; processes {start}"))
        }
        _ => row,
    })
}
