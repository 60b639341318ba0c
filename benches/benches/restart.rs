//! Crash to next commit.

use std::time::Duration;

use benches::contenders::daemon::Driven;
use benches::contenders::pooled::{Clearing, Pooled};
use benches::contenders::{MIB, deploy};
use benches::sections::Setup;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;

fn restart(criterion: &mut Criterion) {
    let setup = Setup::new(100);
    let chaos = deploy(&setup.sandbox, "chaos");
    for mib in [1, 4, 16, 64] {
        let mut daemon = Driven::chaos(&chaos, mib * MIB);
        let next = daemon.bind("touch", json!({"pages": 1}));
        let mut group = criterion.benchmark_group(format!("restart/{mib} MiB"));
        for way in ["panic", "unreachable", "out_of_bounds"] {
            let crash = daemon.bind("die", json!({"how": way}));
            let mut crash = || daemon.crash_then_commit(&crash, &next).0;
            group.bench_function(format!("{way}, with the trap"), |bencher| {
                bencher
                    .iter_custom(|count| (0..count).map(|_| crash().with_trap).sum::<Duration>());
            });
            group.bench_function(format!("{way}, after the trap"), |bencher| {
                bencher
                    .iter_custom(|count| (0..count).map(|_| crash().after_trap).sum::<Duration>());
            });
        }
        group.finish();
    }
    let pooled = Pooled::new("chaos", Clearing::Tuned);
    criterion.bench_function("restart/pooled instance", |bencher| bencher.iter(|| pooled.once()));
}

criterion_group!(benches, restart);
criterion_main!(benches);
