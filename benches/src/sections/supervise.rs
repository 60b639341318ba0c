//! From a native component's crash to the first reply of the restarted one.

use super::Setup;
use crate::contenders::erlang::{self, Reports};
use crate::contenders::native;
use crate::race::{Contender, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 100;
const CRASHES_PER_ROUND: u32 = 50;

const OTHERS: [&str; 3] =
    ["ractor", "Erlang/OTP, no crash reports", "Erlang/OTP, crash reports written"];

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let mut crews = [
        ("supervisor", native::start("supervisor")),
        ("ractor", native::start("ractor")),
        ("Erlang/OTP, no crash reports", erlang::start(Reports::Quiet)),
        ("Erlang/OTP, crash reports written", erlang::start(Reports::Written)),
    ];
    let missing: Vec<String> =
        crews.iter().filter_map(|(_, crew)| crew.as_ref().err().cloned()).collect();
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (name, crew) in &mut crews {
        let Ok(crew) = crew else { continue };
        contenders.push(Box::new(move |samples| {
            let answers = crew.samples(CRASHES_PER_ROUND);
            let answers = answers.unwrap_or_else(|error| panic!("{name}: {error}"));
            answers.into_iter().for_each(|nanos| samples.add(name, nanos));
        }));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    let mut rows = Vec::new();
    if let Some(own) = samples.find("supervisor") {
        for other in OTHERS {
            let Some(theirs) = samples.find(other) else { continue };
            let row = Row::new("a component returns an error", Quantity::Nanos(own));
            rows.push(row.against(other, Quantity::Nanos(theirs)));
        }
    }
    for missing in missing {
        rows.push(Row::missing("a component returns an error", missing));
    }
    let heading = "supervise: crash -> first reply of the restarted native component, blank state\n  \
         (supervisor: hook called, old task ended; ractor: a parent spawns its child again;\n  \
         Erlang/OTP: a supervisor and a gen_server)";
    table.add(heading, rows);
}
