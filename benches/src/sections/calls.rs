//! What a call to a resource costs on top of the native client.

use servers::Redis;

use super::Setup;
use crate::contenders::limiter::{Hosted, Native};
use crate::race::{Contender, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 5;

/// Calls of one round.
const CALLS: u32 = 2_000;

/// Runs the race and adds its rows.
///
/// # Panics
///
/// When there is no Redis: it says what to install.
pub fn run(setup: &Setup, table: &mut Table) {
    let server = Redis::start();
    let mut native = Native::start(&server.url());
    let hosted = Hosted::start(&setup.sandbox, &server.url());
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    contenders.push(Box::new(|samples| samples.add_time("native", native.count(CALLS) / CALLS)));
    contenders
        .push(Box::new(|samples| samples.add_time("call", hosted.count("take", CALLS) / CALLS)));
    contenders.push(Box::new(|samples| {
        samples.add_time("none", hosted.count("counted_here", CALLS) / CALLS);
    }));
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    let nanos = |name: &str| Quantity::Nanos(samples.median(name));
    let rows = vec![
        Row::new("the native client, a script by its hash".to_owned(), nanos("native")),
        Row::new("a transaction that runs that script".to_owned(), nanos("call")),
        Row::new("a read of the same guest without a call".to_owned(), nanos("none")),
    ];
    let heading =
        "calls: a rate limiter on a Redis, one count after the other, over TCP, in memory";
    table.add(heading.to_owned(), rows);
}
