//! The README's second command, and its long version.

use crate::guests;
use crate::mutants;
use crate::step::{self, Failure, cargo, first_build_hint, say};

const REMEDY: &str =
    "see the failing test above; `cargo test --release -p PACKAGE NAME` runs it alone";

/// What `soak` sets where the environment says nothing.
const SOAK_DEFAULTS: [(&str, &str); 3] =
    [("BULKHEAD_SEEDS", "10000"), ("BULKHEAD_PROGRAMS", "100000"), ("PROPTEST_CASES", "10000")];

/// All tests: unit, integration, documentation; of the host, the SDK and the guests.
pub(crate) fn run() -> Result<(), Failure> {
    guests::build()?;
    say(&format!("running all tests{}", first_build_hint()));
    step::run(&mut cargo(&["test", "--release", "--workspace"]), REMEDY)
}

/// More seeds for the tests that take some, then the tests that take long.
pub(crate) fn soak() -> Result<(), Failure> {
    guests::build()?;
    let packages = ["--package", "host", "--package", "supervisor", "--package", "tests"];
    let runs = [
        ("running the tests with many seeds", vec![]),
        ("running the tests that take long", vec!["--", "--ignored", "--nocapture", "soak_"]),
    ];
    for (what, words) in runs {
        let mut command = cargo(&["test", "--release"]);
        command.args(packages).args(words);
        let mut shown = Vec::new();
        for (name, value) in SOAK_DEFAULTS {
            let value = std::env::var(name).unwrap_or_else(|_| value.to_owned());
            shown.push(format!("{name}={value}"));
            command.env(name, value);
        }
        say(&format!("{what} ({}){}", shown.join(", "), first_build_hint()));
        step::run(&mut command, REMEDY)?;
    }
    say("taking safety lines out, one at a time");
    mutants::run("")
}
