//! From a crash to the next committed transaction.

use host::tree::Bound;
use serde_json::json;

use super::Setup;
use crate::contenders::daemon::{Driven, Recovered};
use crate::contenders::erlang::{self, Reports};
use crate::contenders::fork;
use crate::contenders::helper::Helper;
use crate::contenders::instance::{Bare, PAGES_MAX};
use crate::contenders::pooled::{Clearing, Pooled};
use crate::contenders::{MIB, deploy};
use crate::race::{Contender, Samples, race, time_per_run};
use crate::table::{Goal, Quantity, Row, Table};

/// Image sizes in MiB.
const SIZES: [usize; 4] = [1, 4, 16, 64];

/// The size for which there are goals.
const GOAL_MIB: usize = 4;

/// Ways to crash: the first two end in a call of the host, the last one in a signal.
const WAYS: [&str; 3] = ["panic", "unreachable", "out_of_bounds"];

/// Cards that are dirty at a crash.
const DIRTY: [u32; 5] = [4, 16, 64, 256, 1024];

/// The size at which the number of dirty cards varies, in MiB.
const DIRTY_AT_MIB: usize = 16;

const ROUNDS: usize = 100;
const CRASHES_PER_ROUND: usize = 20;
const POOLED_PER_ROUND: usize = 20;
const FORKS_PER_ROUND: u32 = 3;
const ERLANG_PER_ROUND: u32 = 20;

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let mut forks = SIZES.map(|mib| (mib, fork::start(mib).expect("a helper that forks")));
    let mut erlangs = [Reports::Quiet, Reports::Written].map(|kind| (kind, erlang::start(kind)));
    let chaos = deploy(&setup.sandbox, "chaos");
    let mut sized = SIZES.map(|mib| (mib, Driven::chaos(&chaos, mib * MIB)));
    let images: Vec<String> = sized
        .iter()
        .map(|(_, daemon)| format!("{:.1}", daemon.image_bytes() as f64 / MIB as f64))
        .collect();
    let mut dirty = Dirty::new(Bare::chaos(&chaos, DIRTY_AT_MIB * MIB, PAGES_MAX));
    let pools = [Clearing::Tuned, Clearing::Default].map(|kind| (kind, Pooled::new("chaos", kind)));
    let missing = erlangs.iter().find_map(|(_, node)| node.as_ref().err().cloned());

    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (mib, daemon) in &mut sized {
        contenders.push(Box::new(|samples| sized_crashes(*mib, daemon, samples)));
    }
    contenders.push(Box::new(|samples| dirty.crashes(samples)));
    for (kind, pooled) in &pools {
        let series = format!("pooled {kind:?}");
        contenders.push(Box::new(move |samples| {
            for _ in 0..POOLED_PER_ROUND {
                samples.add(&series, time_per_run(1, || pooled.once()));
            }
        }));
    }
    for (mib, helper) in &mut forks {
        let series = format!("fork {mib}");
        contenders.push(Box::new(move |samples| ask(helper, &series, FORKS_PER_ROUND, samples)));
    }
    for (kind, node) in &mut erlangs {
        let Ok(node) = node else { continue };
        let series = format!("erlang {kind:?}");
        contenders.push(Box::new(move |samples| ask(node, &series, ERLANG_PER_ROUND, samples)));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    drop(contenders);
    let cards = samples.median("cards");
    let heading = format!(
        "restart: crash -> next transaction committed, {cards} dirty cards, images of {} MiB\n  \
         (after the trap: since the trap was caught and its crash report made; pooled instance: \
         wasmtime's\n  pooling allocator, Store + instantiate + drop; Erlang/OTP: a supervisor \
         restarts a worker of blank state)",
        images.join(", ")
    );
    let mut rows = goal_rows(&samples, missing.as_deref());
    rows.extend(size_rows(&samples));
    table.add(heading, rows);
    let heading =
        format!("restart: the same by dirty cards, {DIRTY_AT_MIB} MiB, driven without a daemon");
    table.add(heading, dirty_rows(&samples));
}

fn ask(helper: &mut Helper, series: &str, count: u32, samples: &mut Samples) {
    let answers = helper.samples(count).unwrap_or_else(|error| panic!("{series}: {error}"));
    answers.into_iter().for_each(|nanos| samples.add(series, nanos));
}

fn add(samples: &mut Samples, series: &str, recovered: Recovered) {
    samples.add_time(&format!("with trap, {series}"), recovered.with_trap);
    samples.add_time(&format!("after trap, {series}"), recovered.after_trap);
}

fn sized_crashes(mib: usize, daemon: &mut Driven, samples: &mut Samples) {
    let next = daemon.bind("touch", json!({"pages": 1}));
    for way in WAYS {
        let crash = daemon.bind("die", json!({"how": way}));
        let series = format!("{way}, {mib} MiB");
        for _ in 0..CRASHES_PER_ROUND {
            let (recovered, cards) = daemon.crash_then_commit(&crash, &next);
            add(samples, &series, recovered);
            samples.add("cards", f64::from(cards));
        }
    }
}

/// Crashes on top of a number of dirty cards.
struct Dirty {
    bare: Bare,
    crash: Bound,
    next: Bound,
    /// What to touch before a crash for that many dirty cards.
    touches: Vec<(u32, Option<Bound>)>,
}

impl Dirty {
    fn new(mut bare: Bare) -> Self {
        let crash = bare.bind("die", json!({"how": "panic"}));
        let next = bare.touch(1);
        // What a crash dirties by itself, and with a page touched before it.
        let (_, alone) = bare.crash_then_commit(&crash, &next);
        bare.call(&next);
        let (_, with_page) = bare.crash_then_commit(&crash, &next);
        let touches = DIRTY
            .iter()
            .map(|&cards| {
                let pages = (cards + 1).saturating_sub(with_page.cards);
                (cards, (cards > alone.cards).then(|| bare.touch(pages)))
            })
            .collect();
        Self { bare, crash, next, touches }
    }

    fn crashes(&mut self, samples: &mut Samples) {
        for (cards, touch) in &self.touches {
            for _ in 0..CRASHES_PER_ROUND {
                if let Some(touch) = touch {
                    self.bare.call(touch);
                }
                let (recovered, changed) = self.bare.crash_then_commit(&self.crash, &self.next);
                add(samples, &format!("{cards} cards"), recovered);
                samples.add(&format!("{cards} cards"), f64::from(changed.cards));
            }
        }
    }
}

/// The rows that have goals.
fn goal_rows(samples: &Samples, erlang_missing: Option<&str>) -> Vec<Row> {
    let nanos = |series: &str| Quantity::Nanos(samples.median(series));
    let mut rows = Vec::new();
    for way in WAYS {
        let with_trap = nanos(&format!("with trap, {way}, {GOAL_MIB} MiB"));
        let row = || Row::new(format!("{way}, {GOAL_MIB} MiB, with raising the trap"), with_trap);
        let goal = Goal::Ratio(0.15);
        match erlang_missing {
            Some(missing) => rows.push(row().note(format!("{missing} for Erlang's row"))),
            None => {
                let name = "Erlang/OTP, crash reports written";
                rows.push(row().against(name, nanos("erlang Written")).goal(goal));
                let name = "Erlang/OTP, no crash reports";
                rows.push(row().against(name, nanos("erlang Quiet")).goal(goal));
            }
        }
        let fork = nanos(&format!("fork {GOAL_MIB}"));
        rows.push(row().against("fork and wait", fork).goal(Goal::Ratio(0.04)));
    }
    for way in WAYS {
        let after_trap = nanos(&format!("after trap, {way}, {GOAL_MIB} MiB"));
        let row = || Row::new(format!("{way}, {GOAL_MIB} MiB, after the trap"), after_trap);
        let name = "pooled instance";
        for (kind, how) in [("Tuned", "pool tuned"), ("Default", "pool as it comes")] {
            let pooled = nanos(&format!("pooled {kind}"));
            rows.push(row().against(format!("{name}, {how}"), pooled).goal(Goal::Ratio(1.0)));
        }
    }
    for part in ["with", "after"] {
        let growth = |mib: usize| nanos(&format!("{part} trap, panic, {mib} MiB"));
        let row = Row::new(format!("panic, 64 MiB, {part} the trap"), growth(64));
        rows.push(row.against("the same, 4 MiB", growth(4)).goal(Goal::Ratio(1.15)));
    }
    rows
}

/// All sizes, with and after the trap.
fn size_rows(samples: &Samples) -> Vec<Row> {
    let mut rows = Vec::new();
    for way in WAYS {
        for mib in SIZES {
            let series = format!("{way}, {mib} MiB");
            let with_trap = samples.median(&format!("with trap, {series}"));
            let after_trap = Quantity::Nanos(samples.median(&format!("after trap, {series}")));
            let fork = Quantity::Nanos(samples.median(&format!("fork {mib}")));
            let row = Row::new(series, Quantity::Nanos(with_trap));
            let note = format!("after the trap {after_trap}");
            rows.push(row.against(format!("fork and wait, {mib} MiB"), fork).note(note));
        }
    }
    rows
}

fn dirty_rows(samples: &Samples) -> Vec<Row> {
    DIRTY
        .iter()
        .map(|cards| {
            let with_trap = samples.median(&format!("with trap, {cards} cards"));
            let after_trap = Quantity::Nanos(samples.median(&format!("after trap, {cards} cards")));
            let exactly = samples.median(&format!("{cards} cards"));
            let note = format!("after the trap {after_trap}");
            Row::new(format!("panic, {exactly} cards"), Quantity::Nanos(with_trap)).note(note)
        })
        .collect()
}
