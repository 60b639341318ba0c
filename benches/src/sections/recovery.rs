//! From `kill -9` to the first answer: how long it takes to open the journal and load the state.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use host::mechanisms::journal::StoreOptions;
use host::mechanisms::sandbox::Guest;
use rustix::fs::{Advice, fadvise};
use serde_json::{Value, json};
use smallbank::mix::{Access, Mix, Request};

use super::Setup;
use crate::contenders::durable::DurableBank;
use crate::contenders::durable::place::Place;
use crate::contenders::durable::rooted::DurableHost;
use crate::contenders::rooted::Rooted;
use crate::contenders::{MIB, budget_for, deploy};
use crate::race::{Contender, Samples, race};
use crate::table::{Quantity, Row, Table};

const ROUNDS: usize = 5;

/// Sizes of a state, in MiB, of letters that don't compress.
const STATES_MIB: [usize; 4] = [1, 16, 64, 256];

/// Commits whose records are not folded yet.
const COMMITS: [usize; 4] = [0, 1000, 10_000, 100_000];

const CUSTOMERS: u64 = 10_000;
const CLIENTS: usize = 64;

/// What a killed host has left behind.
struct Remains {
    name: String,
    guest: Arc<Guest>,
    budget_bytes: usize,
    options: StoreOptions,
    dir: PathBuf,
    /// A read that the guest answers when it runs again.
    read: (&'static str, Value),
}

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let place = Place::new();
    let ledger = deploy(&setup.sandbox, "ledger");
    let bank = deploy(&setup.sandbox, "smallbank");
    let states = STATES_MIB.map(|mib| large_state(&place, &ledger, mib));
    let chains = COMMITS.map(|commits| long_chain(&place, &bank, commits));
    let work = place.directory("work");
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for remains in states.iter().chain(&chains) {
        let work = &work;
        contenders.push(Box::new(move |samples| round(remains, work, samples)));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    for (remains, what) in [
        (&states, "state of that size, everything folded"),
        (&chains, "SmallBank with 10,000 customers, commits that are not folded"),
    ] {
        let heading = format!(
            "recovery: {what}; kill -9 to first answer, files in the page cache, on {}",
            place.describe()
        );
        table.add(heading, rows(remains, &samples));
    }
}

fn large_state(place: &Place, guest: &Arc<Guest>, mib: usize) -> Remains {
    let name = format!("{mib} MiB");
    let budget_bytes = budget_for(mib * MIB);
    // As few as can be.
    let options = StoreOptions { retain_commits: 0, ..StoreOptions::default() };
    let read = ("total", json!({}));
    let fill = |host: &mut DurableHost| host.grow(mib * MIB);
    Remains { read, ..killed(place, name, guest, budget_bytes, options, fill) }
}

fn long_chain(place: &Place, guest: &Arc<Guest>, commits: usize) -> Remains {
    let name = format!("{commits} commits");
    let unfolded = StoreOptions {
        retain_commits: u64::MAX,
        retain_bytes: u64::MAX,
        ..StoreOptions::default()
    };
    let read = ("balance", json!({"customer": 7}));
    let fill = |host: &mut DurableHost| {
        host.load(CUSTOMERS);
        let mix = Mix::new(CUSTOMERS, Access::Uniform, 1);
        let deposits = mix.filter(|request| matches!(request, Request::DepositChecking { .. }));
        let deposits: Vec<Request> = deposits.take(commits).collect();
        if commits > 0 {
            let served = host.serve(CLIENTS, &deposits);
            assert_eq!(served.commits(), commits, "each deposit is a commit");
        }
    };
    Remains { read, ..killed(place, name, guest, 16 * MIB, unfolded, fill) }
}

/// Lets a host run and keeps what is in its directory while it still does: what would be there
/// after `kill -9`.
fn killed(
    place: &Place,
    name: String,
    guest: &Arc<Guest>,
    budget_bytes: usize,
    options: StoreOptions,
    fill: impl FnOnce(&mut DurableHost),
) -> Remains {
    let (running, dir) = (place.directory("running"), place.directory(&name));
    let mut host = DurableHost::start(&running, guest, budget_bytes, options);
    fill(&mut host);
    host.settle();
    copy(&running, &dir);
    drop(host);
    fs::remove_dir_all(&running).expect("the directory can be removed");
    let read = ("", Value::Null);
    Remains { name, guest: guest.clone(), budget_bytes, options, dir, read }
}

/// Copies the files of a directory and waits until they are on the disk.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the directory") {
        let entry = entry.expect("a file");
        let copied = to.join(entry.file_name());
        fs::copy(entry.path(), &copied).expect("a copy");
        File::open(copied).and_then(|file| file.sync_all()).expect("a sync");
    }
}

/// Drops the files of a directory from the page cache.
fn forget(dir: &Path) {
    for entry in fs::read_dir(dir).expect("the directory") {
        let file = File::open(entry.expect("a file").path()).expect("a file");
        fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
    }
}

fn round(remains: &Remains, work: &Path, samples: &mut Samples) {
    let Remains { name, guest, budget_bytes, options, dir, read } = remains;
    for cached in [true, false] {
        for entry in fs::read_dir(work).expect("the directory") {
            fs::remove_file(entry.expect("a file").path()).expect("a file that can go");
        }
        copy(dir, work);
        if !cached {
            forget(work);
        }
        let start = Instant::now();
        let host = DurableHost::start(work, guest, *budget_bytes, *options);
        let _value = host.commit(read.0, read.1.clone());
        let series = if cached { name.clone() } else { format!("{name}, not cached") };
        samples.add_time(&series, start.elapsed());
        samples.add_time(&format!("{series}, store"), host.opened());
    }
    let start = Instant::now();
    let rooted = Rooted::start(guest, 1, *budget_bytes, None);
    samples.add_time(&format!("{name}, in memory"), start.elapsed());
    drop(rooted);
}

fn rows(remains: &[Remains], samples: &Samples) -> Vec<Row> {
    let nanos = |series: String| Quantity::Nanos(samples.median(&series));
    remains
        .iter()
        .map(|Remains { name, .. }| {
            let note = format!(
                "of that the store {}; from the disk {}",
                nanos(format!("{name}, store")),
                nanos(format!("{name}, not cached"))
            );
            Row::new(name, nanos(name.clone()))
                .against("start without a journal", nanos(format!("{name}, in memory")))
                .note(note)
        })
        .collect()
}
