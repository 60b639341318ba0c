//! How large a card should be: small cards copy less, and make a longer table to scan.

use host::base::limits::CARD_SHIFT;
use host::mechanisms::sandbox::{Sandbox, SandboxOptions};

use super::Setup;
use crate::contenders::instance::Bare;
use crate::contenders::{MIB, deploy};
use crate::race::{Contender, race};
use crate::table::{Quantity, Row, Table};

const SHIFTS: [u32; 4] = [8, 10, 12, 14];

/// Image sizes in MiB.
const SIZES: [usize; 2] = [4, 64];

/// Pages of 4 KiB that a transaction writes one byte to.
const PAGES: [u32; 2] = [1, 64];

const ROUNDS: usize = 100;
const COMMITS_PER_ROUND: usize = 20;

/// Runs the race and adds its rows.
pub fn run(setup: &Setup, table: &mut Table) {
    let mut bares = Vec::new();
    for shift in SHIFTS {
        let options = SandboxOptions { card_shift: shift, ..SandboxOptions::default() };
        let sandbox = Sandbox::new(options).expect("an engine");
        let chaos = deploy(&sandbox, "chaos");
        for mib in SIZES {
            bares.push((shift, mib, Bare::chaos(&chaos, mib * MIB, 64)));
        }
    }
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (shift, mib, bare) in &mut bares {
        contenders.push(Box::new(|samples| {
            for pages in PAGES {
                let touch = bare.touch(pages);
                let series = series(*shift, *mib, pages);
                for _ in 0..COMMITS_PER_ROUND {
                    bare.call(&touch);
                    let (changed, time) = bare.commit();
                    samples.add_time(&series, time);
                    samples.add(&format!("{series} bytes"), changed.bytes as f64);
                }
            }
        }));
    }
    let samples = race(setup.rounds(ROUNDS), &mut contenders);
    for mib in SIZES {
        let rows = PAGES.iter().flat_map(|&pages| {
            let samples = &samples;
            SHIFTS.iter().map(move |&shift| {
                let nanos = |shift| Quantity::Nanos(samples.median(&series(shift, mib, pages)));
                let bytes = samples.median(&format!("{} bytes", series(shift, mib, pages)));
                let pages = if pages == 1 { "1 page".to_owned() } else { format!("{pages} pages") };
                let what = format!("{pages} touched, cards of {} bytes", 1 << shift);
                let row = Row::new(what, nanos(shift)).note(format!("{:.1} KiB", bytes / 1024.0));
                row.against(format!("{} bytes, the default", 1 << CARD_SHIFT), nanos(CARD_SHIFT))
            })
        });
        table.add(format!("cards: the commit alone, image of {mib} MiB"), rows.collect());
    }
}

fn series(shift: u32, mib: usize, pages: u32) -> String {
    format!("{shift} {mib} {pages}")
}

// What the rows are compared with must be measured.
const _: () = assert!(SHIFTS[2] == CARD_SHIFT);
