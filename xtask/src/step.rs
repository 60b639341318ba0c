//! Steps: what is run, said before it is run, and explained when it fails.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a command stopped.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What went wrong, and where.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) todo: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { what: what.into(), todo: todo.into() }
    }

    /// A file that could not be read or written.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::new(
            format!("{}: {error}", path.display()),
            "make it readable and writable, and retry",
        )
    }
}

/// Says what is being done.
pub(crate) fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A command of cargo, run in the repository's root.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(words).current_dir(root());
    command
}

/// Runs a command to its end, its output going where ours goes.
pub(crate) fn run(command: &mut Command, todo: &str) -> Result<(), Failure> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{}: {status}", shown(command)), todo))
}

/// Runs a command to its end and answers its standard output.
pub(crate) fn output_of(command: &mut Command, todo: &str) -> Result<Vec<u8>, Failure> {
    let ran = command.stderr(Stdio::inherit()).output();
    let output = ran.map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Failure::new(format!("{}: {}", shown(command), output.status), todo))
}

fn not_started(command: &Command, error: &io::Error) -> Failure {
    let todo = "install it, or put it on PATH";
    Failure::new(format!("{}: {error}", command.get_program().display()), todo)
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let mut words = vec![program.to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    format!("`{}`", words.join(" "))
}

/// A hint for builds that take long, when nothing of them is there yet.
pub(crate) fn first_build_hint() -> &'static str {
    if target_dir().join("release/host").exists() {
        ""
    } else {
        " (the first build compiles the WebAssembly engine: 6 to 10 minutes on two cores)"
    }
}
