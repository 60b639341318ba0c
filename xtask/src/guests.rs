//! Builds the guests for WebAssembly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::step::{Failure, cargo, output_of, root, run, say, target_dir};

pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

/// Where crates of guests are: the examples, and what only tests run.
const FOLDERS: [&str; 2] = ["guests", "tests/guests"];

/// Builds all crates under [`FOLDERS`] and copies the components next to them.
pub(crate) fn build() -> Result<(), Failure> {
    add_wasm_target()?;
    let mut guests = Vec::new();
    for folder in FOLDERS {
        let folder = root().join(folder);
        guests.extend(names(&folder)?.into_iter().map(|name| (folder.clone(), name)));
    }
    let names: Vec<&str> = guests.iter().map(|(_, name)| name.as_str()).collect();
    let built = target_dir().join(WASM_TARGET).join("guest");
    let hint = if built.exists() { "" } else { " (the first time: about a minute)" };
    say(&format!("building the guests {} for {WASM_TARGET}{hint}", names.join(", ")));
    let mut command = cargo(&["build", "--profile", "guest", "--lib", "--target", WASM_TARGET]);
    for name in &names {
        command.args(["--package", name]);
    }
    run(&mut command, "see the compiler's messages above")?;
    for (folder, name) in &guests {
        copy(&built, folder, name)?;
    }
    say(&format!("copied {} components to guests/ and tests/guests/", names.len()));
    Ok(())
}

/// The built components, relative to the repository's root.
pub(crate) fn built() -> Result<Vec<PathBuf>, Failure> {
    let mut built = Vec::new();
    for folder in FOLDERS {
        let names = names(&root().join(folder))?;
        built.extend(names.iter().map(|name| Path::new(folder).join(format!("{name}.wasm"))));
    }
    Ok(built)
}

/// The crates under `folder`; each is called like its own folder.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    if names.is_empty() {
        let what = format!("{}: there are no guests", folder.display());
        return Err(Failure::new(what, "get a complete copy of the repository"));
    }
    Ok(names)
}

/// Copies a component; hosts and tests that read it at the same time see the old or the new one.
fn copy(built: &Path, folder: &Path, name: &str) -> Result<(), Failure> {
    let from = built.join(format!("{}.wasm", name.replace('-', "_")));
    let to = folder.join(format!("{name}.wasm"));
    let unfinished = to.with_extension("wasm.unfinished");
    fs::copy(&from, &unfinished).map_err(|error| Failure::file(&from, &error))?;
    fs::rename(&unfinished, &to).map_err(|error| Failure::file(&to, &error))
}

/// Makes sure that the compiler can build for WebAssembly.
fn add_wasm_target() -> Result<(), Failure> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]).current_dir(root());
    let sysroot = output_of(&mut rustc, "install Rust from https://rustup.rs")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    if sysroot.join("lib/rustlib").join(WASM_TARGET).join("lib").exists() {
        return Ok(());
    }
    let found = Command::new("rustup")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        let what = format!("{}: no standard library for {WASM_TARGET}", sysroot.display());
        let todo = format!(
            "install rustup (https://rustup.rs), or {WASM_TARGET} the way your compiler came here"
        );
        return Err(Failure::new(what, todo));
    }
    say(&format!("adding the compiler's target {WASM_TARGET} (about 20 MB to download)"));
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", WASM_TARGET]).current_dir(root());
    run(&mut rustup, "check the connection to static.rust-lang.org, and retry")
}
