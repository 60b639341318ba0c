//! One-key transactions with commit.

use benches::contenders::daemon::Driven;
use benches::contenders::{MIB, deploy, sqlite};
use benches::sections::Setup;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;

fn transaction(criterion: &mut Criterion) {
    let setup = Setup::new(100);
    let mut group = criterion.benchmark_group("transaction");
    let mut counter = Driven::start(&deploy(&setup.sandbox, "counter"), 16 * MIB);
    let increment = counter.bind("increment", json!({"by": 1}));
    group.bench_function("counter.increment", |bencher| {
        bencher.iter(|| counter.commit(&increment));
    });
    let mut bank = Driven::start(&deploy(&setup.sandbox, "smallbank"), 16 * MIB);
    bank.commit(&bank.bind("load", json!({"customers": 10_000})));
    let deposit = bank.bind("deposit_checking", json!({"customer": 7, "amount": 130}));
    group.bench_function("smallbank.deposit_checking", |bencher| {
        bencher.iter(|| bank.commit(&deposit));
    });
    let connection = sqlite::open();
    let mut sqlite_counter = sqlite::Counter::new(&connection);
    group.bench_function("sqlite upsert", |bencher| bencher.iter(|| sqlite_counter.add(1)));
    group.finish();
}

criterion_group!(benches, transaction);
criterion_main!(benches);
