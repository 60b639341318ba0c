//! Measures everything side by side and prints one table: what `cargo xtask bench` runs.

use std::process::ExitCode;
use std::time::Instant;

use benches::contenders::fork;
use benches::machine::{OTHERS_PERCENT_MAX, Watch};
use benches::sections::{SECTIONS, Section, Setup};
use benches::table::Table;

const EXIT_WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let sections: Vec<Section> = match words.as_slice() {
        [fork::COMMAND, mib] => return help_forking(mib),
        [] => SECTIONS.to_vec(),
        ["list"] => {
            SECTIONS.iter().for_each(|section| println!("{:11} {}", section.name, section.about));
            return ExitCode::SUCCESS;
        }
        [name] => SECTIONS.iter().filter(|section| section.name == *name).copied().collect(),
        _ => Vec::new(),
    };
    if sections.is_empty() {
        let names: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
        eprintln!("error: `{}` is no section; there are {}", words.join(" "), names.join(", "));
        return ExitCode::from(EXIT_WRONG_USAGE);
    }
    let rounds_percent = std::env::var("BULKHEAD_BENCH_ROUNDS_PERCENT")
        .ok()
        .and_then(|percent| percent.parse().ok())
        .unwrap_or(100);
    let setup = Setup::new(rounds_percent);
    let machine = machine();
    let mut table = Table::default();
    let watch = Watch::start();
    for section in sections {
        eprint!("{}: {} ...", section.name, section.about);
        let start = Instant::now();
        (section.run)(&setup, &mut table);
        eprintln!(" {:.0} s", start.elapsed().as_secs_f64());
    }
    if let Some(others) = watch.others_percent().filter(|&others| others > OTHERS_PERCENT_MAX) {
        table.disturb(format!("other programs used {others:.0} % of the processors meanwhile"));
    }
    print!("{machine}\n{table}");
    ExitCode::SUCCESS
}

/// What it was measured on, and whether something else was running.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    format!("{processors} processors; load before the start {load}: above 0.5, figures are rough")
}

/// This program is its own helper for what must run in a small process.
fn help_forking(mib: &str) -> ExitCode {
    match mib.parse().map(fork::help) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {mib}: {error}");
            ExitCode::from(EXIT_WRONG_USAGE)
        }
    }
}
