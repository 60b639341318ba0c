//! Measures everything side by side and prints one table.

use std::process::Command;

use crate::guests;
use crate::step::{Failure, cargo, first_build_hint, root, run as run_step, say, target_dir};

/// Builds and runs the benchmark's program, all of it or the section of that name.
pub(crate) fn run(name: Option<&str>) -> Result<(), Failure> {
    guests::build()?;
    say(&format!("building the benchmark{}", first_build_hint()));
    run_step(
        cargo(&["build", "--release", "--package", "benches", "--bin", "side-by-side"]).args([
            "--package",
            "host",
            "--bin",
            "host",
        ]),
        "see the compiler's messages above",
    )?;
    run_step(
        cargo(&["build", "--release", "--locked", "--manifest-path"])
            .arg(root().join("benches/native/Cargo.toml"))
            .arg("--target-dir")
            .arg(target_dir().join("native")),
        "see the compiler's messages above",
    )?;
    say("measuring; leave the machine alone meanwhile (some minutes)");
    let mut bench = Command::new(target_dir().join("release/side-by-side"));
    bench.current_dir(root()).args(name);
    run_step(&mut bench, "see its message above; `cargo xtask bench list` lists the sections")
}
