//! How many transactions a second, with one owner of state and with two.

use std::sync::Arc;

use host::mechanisms::sandbox::Guest;
use host::pure::request::Request;
use serde_json::{Map, Value, json};
use smallbank::mix::{self, Access, Mix};

use super::Setup;
use crate::contenders::crew::Crew;
use crate::contenders::daemon::{Driven, bind};
use crate::contenders::rooted::Rooted;
use crate::contenders::{MIB, deploy, sqlite};
use crate::race::{Contender, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 20;

/// Transactions of each owner in a round.
const COUNT: u32 = 10_000;

const CUSTOMERS: u64 = 10_000;
const BUDGET_BYTES: usize = 16 * MIB;

/// Owners of state, each on a thread of its own: daemons, or databases.
const OWNERS: usize = 2;

/// One workload for all contenders.
struct Workload {
    name: &'static str,
    guest: Arc<Guest>,
    /// Run once, before the others.
    first: Option<Request>,
    requests: Vec<Request>,
    databases: Crew,
}

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    for workload in [counter(setup), smallbank(setup)] {
        let daemons = daemons(&workload);
        let (guest, first) = (&workload.guest, workload.first.as_ref());
        let rooted = Rooted::start(guest, OWNERS, BUDGET_BYTES, first);
        let mut contenders: Vec<Contender<'_>> = Vec::new();
        for owners in 1..=OWNERS {
            let (daemons, rooted, workload) = (&daemons, &rooted, &workload);
            contenders.push(Box::new(move |samples| {
                samples.add(&format!("daemon {owners}"), daemons.per_second(owners));
            }));
            contenders.push(Box::new(move |samples| {
                let per_second = rooted.per_second(&workload.requests, owners);
                samples.add(&format!("root {owners}"), per_second);
            }));
            contenders.push(Box::new(move |samples| {
                samples.add(&format!("sqlite {owners}"), workload.databases.per_second(owners));
            }));
        }
        let samples = race(setup.rounds(ROUNDS), &mut contenders);
        let mut rows = Vec::new();
        for (way, what) in [("daemon", "driven on the spot"), ("root", "through the root")] {
            for owners in 1..=OWNERS {
                let median = |way: &str| samples.median(&format!("{way} {owners}"));
                let plural = if owners == 1 { "" } else { "s" };
                let row = Row::new(
                    format!("{owners} daemon{plural}, {what}"),
                    Quantity::PerSecond(median(way)),
                );
                let against = format!("SQLite, {owners} database{plural}");
                rows.push(row.against(against, Quantity::PerSecond(median("sqlite"))));
            }
        }
        let heading = format!("throughput: {}, in memory (more is better)", workload.name);
        table.add(heading, rows);
    }
}

fn counter(setup: &Setup) -> Workload {
    let request = request("increment", json!({"by": 1}));
    Workload {
        name: "counter",
        guest: deploy(&setup.sandbox, "counter"),
        first: None,
        requests: (0..COUNT).map(|_| request.clone()).collect(),
        databases: Crew::start(OWNERS, COUNT, |turns| {
            let connection = sqlite::open();
            let mut counter = sqlite::Counter::new(&connection);
            turns.each(|| (0..COUNT).for_each(|_| counter.add(1)));
        }),
    }
}

fn smallbank(setup: &Setup) -> Workload {
    let requests: Vec<mix::Request> =
        Mix::new(CUSTOMERS, Access::Uniform, 1).zip(0..COUNT).map(|(request, _)| request).collect();
    let guest = deploy(&setup.sandbox, "smallbank");
    check_totals(&guest, &requests);
    let host_requests = requests.iter().map(host_request).collect();
    Workload {
        name: "SmallBank, published mix, 10,000 customers",
        guest,
        first: Some(host_request(&mix::Request::Load { customers: CUSTOMERS })),
        requests: host_requests,
        databases: Crew::start(OWNERS, COUNT, move |turns| {
            let connection = sqlite::open();
            let mut bank = sqlite::Bank::load(&connection, CUSTOMERS, sqlite::Transactions::Own);
            turns.each(|| {
                for request in &requests {
                    std::hint::black_box(bank.run(request));
                }
            });
        }),
    }
}

/// Daemons that their own threads drive, with requests that are bound already.
fn daemons(workload: &Workload) -> Crew {
    let guest = workload.guest.clone();
    let bind = |request: &Request| bind(&guest, &request.contract, request.args.clone());
    let bounds: Vec<_> = workload.requests.iter().map(bind).collect();
    let first = workload.first.as_ref().map(bind);
    let guest = guest.clone();
    Crew::start(OWNERS, COUNT, move |turns| {
        let mut daemon = Driven::start(&guest, BUDGET_BYTES);
        if let Some(first) = &first {
            daemon.commit(first);
        }
        turns.each(|| bounds.iter().for_each(|bound| daemon.answer(bound)));
    })
}

/// After the same requests both banks hold the same: otherwise the race would mean nothing.
fn check_totals(guest: &Arc<Guest>, requests: &[mix::Request]) {
    let connection = sqlite::open();
    let mut bank = sqlite::Bank::load(&connection, CUSTOMERS, sqlite::Transactions::Own);
    let mut daemon = Driven::start(guest, BUDGET_BYTES);
    let load = host_request(&mix::Request::Load { customers: CUSTOMERS });
    daemon.commit(&daemon.bind(&load.contract, load.args));
    for request in requests {
        bank.run(request);
        let request = host_request(request);
        let bound = daemon.bind(&request.contract, request.args);
        daemon.answer(&bound);
    }
    let total = daemon.bind("total", json!({}));
    assert_eq!(daemon.number(&total), bank.total(), "the banks hold different amounts");
}

fn request(contract: &str, args: Value) -> Request {
    Request::new("", contract, args)
}

fn host_request(bank: &mix::Request) -> Request {
    let arguments = bank.arguments().map(|(name, value)| (name.to_owned(), Value::from(value)));
    request(bank.contract(), Value::Object(Map::from_iter(arguments)))
}
