//! One-key transactions, one at a time.

use serde_json::json;
use smallbank::mix::Request;

use super::Setup;
use crate::contenders::daemon::Driven;
use crate::contenders::{MIB, deploy, sqlite};
use crate::race::{Contender, race, time_per_run};
use crate::table::{Goal, Quantity, Row, Table};

const ROUNDS: usize = 300;

/// Transactions per sample: few enough that a median over samples leaves out what interrupts them,
/// and enough that reading the clock does not count.
const BATCH: u32 = 50;

const CUSTOMERS: u64 = 10_000;

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let mut counter = Driven::start(&deploy(&setup.sandbox, "counter"), 16 * MIB);
    let mut bank = Driven::start(&deploy(&setup.sandbox, "smallbank"), 16 * MIB);
    bank.commit(&bank.bind("load", json!({"customers": CUSTOMERS})));
    let increment = counter.bind("increment", json!({"by": 1}));
    let deposit = bank.bind("deposit_checking", json!({"customer": 7, "amount": 130}));
    let value = counter.bind("value", json!({}));

    let connection = sqlite::open();
    let mut sqlite_counter = sqlite::Counter::new(&connection);
    let mut sqlite_bank = sqlite::Bank::load(&connection, CUSTOMERS, sqlite::Transactions::Own);
    let sqlite_deposit = Request::DepositChecking { customer: 7, amount: 130 };

    let mut contenders: Vec<Contender<'_>> = vec![
        Box::new(|samples| {
            samples.add("increment", time_per_run(BATCH, || counter.commit(&increment)));
            samples.add("value", time_per_run(BATCH, || counter.commit(&value)));
        }),
        Box::new(|samples| {
            samples.add("deposit", time_per_run(BATCH, || bank.commit(&deposit)));
        }),
        Box::new(|samples| {
            let upsert = time_per_run(BATCH, || sqlite_counter.add(1));
            samples.add("sqlite upsert", upsert);
            let upsert = time_per_run(BATCH, || assert!(sqlite_counter.increment(1) > 0));
            samples.add("sqlite upsert returning", upsert);
        }),
        Box::new(|samples| {
            let deposit = || assert!(sqlite_bank.run(&sqlite_deposit).is_some());
            samples.add("sqlite deposit", time_per_run(BATCH, deposit));
            let update = time_per_run(BATCH, || sqlite_bank.deposit_at_once(7, 130));
            samples.add("sqlite update", update);
        }),
    ];
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    let nanos = |series: &str| Quantity::Nanos(samples.median(series));
    let rows = vec![
        Row::new("counter.increment", nanos("increment"))
            .goal(Goal::AtMost(Quantity::Nanos(1000.0))),
        Row::new("counter.increment", nanos("increment"))
            .against("SQLite upsert", nanos("sqlite upsert"))
            .goal(Goal::Ratio(0.5)),
        Row::new("counter.increment", nanos("increment"))
            .against("SQLite upsert returning", nanos("sqlite upsert returning")),
        Row::new("smallbank.deposit_checking", nanos("deposit"))
            .goal(Goal::AtMost(Quantity::Nanos(1000.0))),
        Row::new("smallbank.deposit_checking", nanos("deposit"))
            .against("SQLite update", nanos("sqlite update"))
            .goal(Goal::Ratio(0.5)),
        Row::new("smallbank.deposit_checking", nanos("deposit"))
            .against("SQLite begin, select, update, commit", nanos("sqlite deposit")),
        Row::new("counter.value (reads only)", nanos("value")),
    ];
    table.add("latency: one-key transaction with commit, in memory", rows);
}
