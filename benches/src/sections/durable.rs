//! `SmallBank` on disk: how many transactions a second, how long a commit takes, what is written.

use std::path::Path;

use host::mechanisms::journal::StoreOptions;
use smallbank::mix::{Access, Mix, Request};

use super::Setup;
use crate::contenders::durable::DurableBank;
use crate::contenders::durable::appends::{Appends, Space};
use crate::contenders::durable::place::Place;
use crate::contenders::durable::postgres::PostgresBank;
use crate::contenders::durable::redis::RedisBank;
use crate::contenders::durable::rooted::{DurableHost, changed_bytes, records};
use crate::contenders::durable::sqlite::{self, SqliteBank};
use crate::contenders::sqlite::Transactions;
use crate::contenders::{MIB, deploy};
use crate::race::{Contender, Samples, race};
use crate::table::{Goal, Quantity, Row, Table};

const ROUNDS: usize = 11;

const CUSTOMERS: u64 = 10_000;
const BUDGET_BYTES: usize = 16 * MIB;

/// Clients, each with one request outstanding.
const CLIENTS: [usize; 3] = [1, 8, 64];

/// Requests of a round, by the number of clients: a few tenths of a second for whoever groups
/// commits, and for whoever does not.
const GROUPING: [usize; 3] = [1000, 4000, 16_000];
const ONE_BY_ONE: [usize; 3] = [1000, 1000, 1000];
const SERVER: [usize; 3] = [1000, 2000, 6000];

/// Requests after which all banks must hold the same.
const CHECKED: usize = 2000;

const HOST: &str = "host";
const APPENDS: &str = "appends to a growing file";
const PREALLOCATED: &str = "appends to a preallocated file";
const SQLITE: &str = "SQLite, WAL, synchronous=FULL";
const SQLITE_GROUPED: &str = "SQLite, all that wait in one commit";
const REDIS: &str = "Redis, appendfsync always";
const POSTGRES: &str = "PostgreSQL";

/// A contender with the requests that it runs next.
struct Bank<'a> {
    name: &'static str,
    bank: Box<dyn DurableBank + 'a>,
    counts: [usize; 3],
    mix: Mix,
}

impl<'a> Bank<'a> {
    fn new(name: &'static str, counts: [usize; 3], bank: impl DurableBank + 'a) -> Self {
        Self { name, bank: Box::new(bank), counts, mix: mix() }
    }

    fn next(&mut self, count: usize) -> Vec<Request> {
        self.mix.by_ref().take(count).collect()
    }
}

fn mix() -> Mix {
    Mix::new(CUSTOMERS, Access::Uniform, 1)
}

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let place = Place::new();
    let guest = deploy(&setup.sandbox, "smallbank");
    let host =
        DurableHost::start(&place.directory("host"), &guest, BUDGET_BYTES, StoreOptions::default());
    host.load(CUSTOMERS);
    let databases = ["sqlite", "sqlite-grouped"].map(|name| sqlite::open(&place.directory(name)));
    let mut missing = Vec::new();
    let most = GROUPING.into_iter().max().unwrap_or_default();
    let requests: Vec<Request> = mix().take(most).collect();
    let scratch = place.directory("records");
    let records = records(&scratch, &guest, BUDGET_BYTES, CUSTOMERS, &requests);
    let mut banks = bare(&place.directory("appends"), &records);
    for (database, name, counts, transactions) in [
        (&databases[0], SQLITE, ONE_BY_ONE, Transactions::Own),
        (&databases[1], SQLITE_GROUPED, GROUPING, Transactions::Savepoints),
    ] {
        let bank = SqliteBank::load(database, CUSTOMERS, transactions);
        banks.push(Bank::new(name, counts, bank));
    }
    let most = CLIENTS[CLIENTS.len() - 1];
    match RedisBank::start(&place.directory("redis"), CUSTOMERS, most) {
        Ok(bank) => banks.push(Bank::new(REDIS, GROUPING, bank)),
        Err(todo) => missing.push(Row::missing(REDIS, todo)),
    }
    match PostgresBank::start(&place.directory("postgres"), CUSTOMERS, most) {
        Ok(bank) => banks.push(Bank::new(POSTGRES, SERVER, bank)),
        Err(todo) => missing.push(Row::missing(POSTGRES, todo)),
    }
    let mut host = Bank::new(HOST, GROUPING, host);
    check_totals(&mut host, &mut banks);
    let names: Vec<&str> = banks.iter().map(|bank| bank.name).collect();
    banks.insert(0, host);
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for bank in &mut banks {
        let place = &place;
        contenders.push(Box::new(move |samples| round(bank, place, samples)));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    for clients in CLIENTS {
        let heading = format!(
            "durable: SmallBank, published mix, {}, on {}",
            shown(clients),
            place.describe()
        );
        table.add(heading, rows(clients, &names, &samples));
    }
    let heading = "durable: bytes written per commit (to the device: by the whole machine)";
    table.add(heading, bytes_rows(&names, &records, &samples));
    if !missing.is_empty() {
        table.add("durable: not measured", missing);
    }
}

/// What a disk does when nobody computes anything.
fn bare<'a>(dir: &Path, records: &[Option<Vec<u8>>]) -> Vec<Bank<'a>> {
    [(APPENDS, Space::Growing), (PREALLOCATED, Space::Preallocated)]
        .map(|(name, space)| Bank::new(name, GROUPING, Appends::new(dir, space, records.to_vec())))
        .into()
}

/// After the same requests all banks hold the same: otherwise the race would mean nothing.
fn check_totals(host: &mut Bank<'_>, banks: &mut [Bank<'_>]) {
    let requests = host.next(CHECKED);
    let _served = host.bank.serve(1, &requests);
    let expected = host.bank.total();
    for bank in banks {
        let requests = bank.next(CHECKED);
        let _served = bank.bank.serve(1, &requests);
        let total = bank.bank.total();
        assert!(total.is_none() || total == expected, "{}: {total:?}, {expected:?}", bank.name);
    }
}

fn round(bank: &mut Bank<'_>, place: &Place, samples: &mut Samples) {
    for (clients, count) in CLIENTS.into_iter().zip(bank.counts) {
        let requests = bank.next(count);
        let written = |bank: &Bank<'_>| [place.device_bytes(), bank.bank.file_bytes()];
        let before = written(bank);
        let served = bank.bank.serve(clients, &requests);
        bank.bank.settle();
        let series = series(bank.name, clients);
        samples.add(&series, served.per_second());
        for percent in [50, 99] {
            samples.add(&format!("{series} p{percent}"), served.percentile(percent));
        }
        for ((before, after), what) in before.iter().zip(written(bank)).zip(["device", "files"]) {
            if let Some((before, after)) = before.zip(after) {
                let each = (after - before) as f64 / served.commits() as f64;
                samples.add(&format!("{series} {what}"), each);
            }
        }
    }
}

fn shown(clients: usize) -> String {
    format!("{clients} client{}", if clients == 1 { "" } else { "s" })
}

fn series(name: &str, clients: usize) -> String {
    format!("{name}, {clients}")
}

/// Throughput next to everybody's, then latency.
fn rows(clients: usize, names: &[&str], samples: &Samples) -> Vec<Row> {
    let of = |name: &str, what: &str| samples.median(&format!("{}{what}", series(name, clients)));
    let most = CLIENTS[CLIENTS.len() - 1] == clients;
    let mut rows = Vec::new();
    let host = Quantity::PerSecond(of(HOST, ""));
    if clients > 1 {
        let one = samples.median(&series(APPENDS, 1));
        let row = Row::new("transactions", host);
        let row = row.against(format!("{APPENDS}, one to a sync"), Quantity::PerSecond(one));
        rows.push(if most { row.goal(Goal::Times(50.0)) } else { row });
    }
    for name in names {
        let grouped = clients > 1 && [APPENDS, PREALLOCATED].contains(name);
        let shown = if grouped { format!("{name}, {clients} to a sync") } else { (*name).into() };
        let row = Row::new("transactions", host).against(shown, Quantity::PerSecond(of(name, "")));
        let goal = most && *name == SQLITE;
        rows.push(if goal { row.goal(Goal::Times(20.0)) } else { row });
    }
    for name in names {
        let [host, other] = [HOST, name].map(|name| of(name, " p50"));
        let [host_p99, other_p99] = [HOST, name].map(|name| Quantity::Nanos(of(name, " p99")));
        let row = Row::new("a commit, p50", Quantity::Nanos(host))
            .against(*name, Quantity::Nanos(other))
            .note(format!("p99 {host_p99}, {other_p99}"));
        let goal = clients == 1 && *name == APPENDS;
        rows.push(if goal { row.goal(Goal::Ratio(1.3)) } else { row });
    }
    rows
}

/// Next to what a commit changes.
fn bytes_rows(names: &[&str], records: &[Option<Vec<u8>>], samples: &Samples) -> Vec<Row> {
    let records: Vec<&Vec<u8>> = records.iter().flatten().collect();
    let mean = |bytes: usize| Quantity::Bytes(bytes as f64 / records.len() as f64);
    let changed = mean(records.iter().map(|record| changed_bytes(record)).sum());
    let recorded = mean(records.iter().map(|record| record.len()).sum());
    let mut rows = vec![Row::new("the record", recorded).against("state that changes", changed)];
    for clients in CLIENTS {
        let find = |what: &str| samples.find(&format!("{} {what}", series(HOST, clients)));
        let Some(files) = find("files") else { continue };
        let what = format!("{HOST}, {}, to its files", shown(clients));
        let row = Row::new(what, Quantity::Bytes(files));
        rows.push(row.against("state that changes", changed));
    }
    let both = [CLIENTS[0], CLIENTS[CLIENTS.len() - 1]];
    for name in std::iter::once(&HOST).chain(names) {
        let [one, most] =
            both.map(|clients| samples.find(&format!("{} device", series(name, clients))));
        let Some((one, most)) = one.zip(most) else { continue };
        let row = Row::new(format!("{name}, to the device"), Quantity::Bytes(most));
        let against = Quantity::Bytes(one);
        rows.push(row.against("with 1 client instead of 64", against));
    }
    rows
}
