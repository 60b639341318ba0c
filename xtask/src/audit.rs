//! `cargo xtask audit`: what has come in is allowed to be there. See `deny.toml`.

use crate::step::{Failure, cargo, run, say};

pub(crate) fn run_all() -> Result<(), Failure> {
    let todo = "cargo install cargo-deny --locked";
    run(cargo(&["deny", "--version"]).stdout(std::process::Stdio::null()), todo)?;
    say("bans, licences and sources");
    let todo = "take the dependency out, or say in deny.toml why it may stay";
    run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]), todo)?;
    say("advisories");
    let fetched = run(&mut cargo(&["deny", "fetch", "db"]), "");
    if fetched.is_err() {
        // Loud, and no failure: a machine without a way to it can't check them.
        say("ADVISORIES WERE NOT CHECKED: their database could not be fetched");
        return Ok(());
    }
    let todo = "raise the version, or say in deny.toml why it does not concern us";
    run(&mut cargo(&["deny", "check", "advisories"]), todo)
}
