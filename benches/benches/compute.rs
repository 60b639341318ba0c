//! The write barrier's cost while a guest computes.

use benches::contenders::compute::{Computer, Form, PROGRAMS};
use benches::sections::Setup;
use criterion::{Criterion, criterion_group, criterion_main};

fn compute(criterion: &mut Criterion) {
    let setup = Setup::new(100);
    let mut computers = [
        ("plain", Computer::start(&setup.sandbox, Form::Plain)),
        ("rewritten", Computer::start(&setup.sandbox, Form::Rewritten)),
    ];
    for (place, program) in PROGRAMS.iter().enumerate() {
        let mut group = criterion.benchmark_group(*program);
        group.sample_size(30);
        for (form, computer) in &mut computers {
            group.bench_function(*form, |bencher| bencher.iter(|| computer.run(place)));
        }
        group.finish();
    }
}

criterion_group!(benches, compute);
criterion_main!(benches);
