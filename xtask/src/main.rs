//! The project's own commands: `cargo xtask COMMAND`.
//!
//! Each command does its own set-up, prints one line per step, and stops at the first step that
//! fails with what was run and what to do. There are no dependencies, so that it builds in a
//! second.

mod audit;
mod bench;
mod demo;
mod guests;
mod mutants;
mod proofs;
mod step;
mod test;

use std::process::ExitCode;

use step::Failure;

const HELP: &str = "\
The project's own commands. Each does all the set-up that it needs.

Usage: cargo xtask COMMAND

Commands:
  demo          build everything, run 100,000 requests through the host, some of them crash it
  test          run all tests
  guests        build guests/* and tests/guests/* for wasm32-wasip2 and copy them there
  bench [NAME]  measure and print one table; NAME is a section of it, `list` lists them
                (environment: BULKHEAD_BENCH_DIR, the directory for what is kept on disk)
  soak          run the tests longer, and those that take long (environment: BULKHEAD_SEEDS,
                BULKHEAD_PROGRAMS, PROPTEST_CASES)
  audit         look at what comes in: licences, sources, advisories (with cargo-deny)
  mutants [PART]
                take safety lines out, one at a time, and look whether a test goes red; only
                those whose names contain PART
  mechanisms    list what is proven of the mechanisms, with the number of tests
  faults        the same of the faults to survive
  help          this text

A first build compiles the WebAssembly engine: 6 to 10 minutes on two cores.
";

const EXIT_WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.iter().any(|word| matches!(*word, "-h" | "--help")) {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let done = match words.as_slice() {
        ["help"] => {
            print!("{HELP}");
            Ok(())
        }
        ["guests"] => guests::build(),
        ["demo"] => demo::run(),
        ["test"] => test::run(),
        ["soak"] => test::soak(),
        ["audit"] => audit::run_all(),
        ["bench"] => bench::run(None),
        ["bench", name] => bench::run(Some(name)),
        ["mutants"] => mutants::run(""),
        ["mutants", part] => mutants::run(part),
        ["mechanisms"] => proofs::print_mechanisms(),
        ["faults"] => proofs::print_faults(),
        _ => return wrong_usage(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { what, todo }) => {
            eprintln!("error: {what}\n  -> {todo}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_usage(words: &[&str]) -> ExitCode {
    match words.split_first() {
        None => eprint!("{HELP}"),
        Some((command, _)) => {
            let words = words.join(" ");
            eprintln!(
                "error: `cargo xtask {words}`: `{command}` is no command or takes other words"
            );
            eprintln!("  -> see `cargo xtask --help`");
        }
    }
    ExitCode::from(EXIT_WRONG_USAGE)
}
