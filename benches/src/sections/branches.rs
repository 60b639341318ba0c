//! How long it takes to copy a daemon with its state, and to take one back.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use host::mechanisms::journal::StoreOptions;

use super::Setup;
use crate::contenders::durable::DurableBank;
use crate::contenders::durable::place::Place;
use crate::contenders::durable::rooted::DurableHost;
use crate::contenders::{MIB, budget_for, deploy};
use crate::race::{Contender, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 7;

/// Sizes of a state, in MiB, of letters that don't compress.
const SIZES_MIB: [usize; 3] = [1, 16, 64];

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let place = Place::new();
    let ledger = deploy(&setup.sandbox, "ledger");
    // The least: a state in the journal is then as folded as it gets.
    let options = StoreOptions { retain_commits: 0, ..StoreOptions::default() };
    let mut hosts = SIZES_MIB.map(|mib| {
        let dir = place.directory(&format!("{mib} MiB"));
        let mut host = DurableHost::start(&dir, &ledger, budget_for(mib * MIB), options);
        host.grow(mib * MIB);
        host.settle();
        (mib, host)
    });
    let dir = place.directory("files");
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (mib, host) in &mut hosts {
        let dir = &dir;
        contenders.push(Box::new(move |samples| {
            samples.add_time(&format!("fork {mib}"), host.fork());
            host.deposit("last");
            samples.add_time(&format!("revert {mib}"), host.revert());
            host.settle();
            samples.add(&format!("file {mib}"), write_file(dir, *mib * MIB));
        }));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    let rows = ["fork", "revert"].into_iter().flat_map(|what| {
        let samples = &samples;
        SIZES_MIB.map(|mib| {
            let nanos = |what: &str| Quantity::Nanos(samples.median(&format!("{what} {mib}")));
            let row = Row::new(format!("{what}, {mib} MiB"), nanos(what));
            row.against("a new file of that size, synced", nanos("file"))
        })
    });
    let heading =
        format!("branches: a durable copy, and undoing the last commit, on {}", place.describe());
    table.add(heading, rows.collect());
}

/// Nanoseconds to write and sync a file of that many bytes.
fn write_file(dir: &Path, bytes: usize) -> f64 {
    let (path, content) = (dir.join("file"), vec![0x5a; bytes]);
    let start = Instant::now();
    let mut file = File::create(&path).expect("a file");
    file.write_all(&content).and_then(|()| file.sync_all()).expect("a synced file");
    let time = crate::race::nanos(start.elapsed());
    std::fs::remove_file(path).expect("the file can be removed");
    time
}
