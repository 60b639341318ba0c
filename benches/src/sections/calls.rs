//! What a call to a resource costs on top of the native client, and what staging one does.

use std::collections::BTreeMap;
use std::sync::Arc;

use host::mechanisms::providers::postgres::Postgres;
use host::mechanisms::providers::redis::{Jobs, Redis};
use serde_json::json;

use super::Setup;
use crate::contenders::calls::{Hosted, Native, NativeSql};
use crate::race::{Contender, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 5;

/// Calls of one round of Redis.
const CALLS: u32 = 2_000;

/// Calls of one round of `PostgreSQL`, which takes longer; effects of one round, which have to fit
/// an outbox.
const FEWER_CALLS: u32 = 500;

/// A guest that calls whatever it is told to.
const CALLER: &str = "../tests/guests/caller";

/// Runs the races and adds their rows.
///
/// # Panics
///
/// When there is no Redis or no `PostgreSQL`: it says what to install.
pub fn run(setup: &Setup, table: &mut Table) {
    redis(setup, table);
    postgres(setup, table);
}

fn redis(setup: &Setup, table: &mut Table) {
    let server = servers::Redis::start();
    let mut native = Native::start(&server.url());
    let provider = || Arc::new(Redis::new(&server.url(), None, 1, Jobs::new()).expect("a URL"));
    let limits = Hosted::start(&setup.sandbox, "limits", provider());
    let caller = Hosted::start(&setup.sandbox, CALLER, provider());
    let take = json!({"user": "hosted", "limit": u32::MAX, "seconds": 60});
    let stage = json!({"name": "cache", "words": ["INCR", "staged"], "repeatable": false});
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    contenders.push(Box::new(|samples| samples.add_time("native", native.count(CALLS) / CALLS)));
    contenders.push(Box::new(|samples| {
        samples.add_time("call", limits.run("take", &take, CALLS) / CALLS);
    }));
    contenders.push(Box::new(|samples| {
        samples.add_time("none", limits.run("counted_here", &json!({}), CALLS) / CALLS);
    }));
    contenders.push(Box::new(|samples| {
        samples.add_time("stage", caller.run("stage", &stage, FEWER_CALLS) / FEWER_CALLS);
        caller.settle();
    }));
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    let nanos = |name: &str| Quantity::Nanos(samples.median(name));
    let rows = vec![
        Row::new("the native client, a script by its hash".to_owned(), nanos("native")),
        Row::new("a transaction that runs that script".to_owned(), nanos("call"))
            .against("native", nanos("native")),
        Row::new("a read of the same guest without a call".to_owned(), nanos("none")),
        Row::new("a commit that stages a command".to_owned(), nanos("stage"))
            .against("native", nanos("native")),
    ];
    let heading =
        "calls: a rate limiter on a Redis, one count after the other, over TCP, in memory";
    table.add(heading.to_owned(), rows);
}

fn postgres(setup: &Setup, table: &mut Table) {
    let server = servers::Postgres::start();
    let native = NativeSql::start(&server.url());
    let provider = Postgres::new(&server.url(), 4, BTreeMap::new()).expect("a URL");
    let caller = Hosted::start(&setup.sandbox, CALLER, Arc::new(provider));
    let query = json!({"name": "cache", "statement": "SELECT 7::bigint"});
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    contenders.push(Box::new(|samples| {
        samples.add_time("native", native.run("SELECT 7::bigint", FEWER_CALLS) / FEWER_CALLS);
    }));
    contenders.push(Box::new(|samples| {
        samples.add_time("call", caller.run("query", &query, FEWER_CALLS) / FEWER_CALLS);
    }));
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    let nanos = |name: &str| Quantity::Nanos(samples.median(name));
    let rows = vec![
        Row::new("the native client, a statement unprepared".to_owned(), nanos("native")),
        Row::new(
            "a transaction that runs one, on a connection reset for it".to_owned(),
            nanos("call"),
        )
        .against("native", nanos("native")),
    ];
    table.add(
        "calls: a PostgreSQL, one statement after the other, over TCP, in memory".to_owned(),
        rows,
    );
}
