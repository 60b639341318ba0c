//! What marking costs while a guest computes.

use super::Setup;
use crate::contenders::compute::{Computer, Form, PROGRAMS};
use crate::race::{Contender, race, time_per_run};
use crate::table::{Goal, Quantity, Row, Table};

const ROUNDS: usize = 60;

const FORMS: [Form; 3] = [Form::Plain, Form::Rewritten, Form::NotUnrolled];

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let mut computers = FORMS.map(|form| (form, Computer::start(&setup.sandbox, form)));
    let (mut as_run, mut marks_alone) = (Vec::new(), Vec::new());
    for (place, program) in PROGRAMS.iter().enumerate() {
        let [plain, others @ ..] = computers.each_mut().map(|(_, computer)| computer.run(place));
        assert!(others.iter().all(|other| *other == plain), "{program} computes something else");
        let mut contenders: Vec<Contender<'_>> = Vec::new();
        for (form, computer) in &mut computers {
            let series = format!("{form:?}");
            contenders.push(Box::new(move |samples| {
                samples.add(&series, time_per_run(1, || drop(computer.run(place))));
            }));
        }
        let samples = race(setup.rounds(ROUNDS), &mut contenders);
        let row = |form: Form| {
            let nanos = |form: Form| Quantity::Nanos(samples.median(&format!("{form:?}")));
            let row = Row::new(*program, nanos(form)).against("plain", nanos(Form::Plain));
            row.goal(Goal::Ratio(1.10))
        };
        as_run.push(row(Form::Rewritten));
        marks_alone.push(row(Form::NotUnrolled));
    }
    table.add("barrier: guests that compute, as the host runs them, no commit", as_run);
    let heading = "barrier: the same without unrolling loops, so the marks alone";
    table.add(heading, marks_alone);
}
