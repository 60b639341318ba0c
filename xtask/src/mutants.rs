//! Takes safety lines out, one at a time, and looks whether a test goes red.
//!
//! A mutant is a patch in `tests/mutants`, with the test that has to fail in its first line:
//!
//! ```text
//! Killed-by: -p host --lib mechanisms::journal::backend
//! diff --git a/host/src/...
//! ```
//!
//! It is applied to a copy of the tree, with a build folder of its own. A mutant that survives, one
//! that is killed by nothing but the time limit, and one that doesn't apply or compile any more
//! are failures.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::guests;
use crate::step::{Failure, cargo, output_of, root, say, target_dir};

/// Where the patches are.
const FOLDER: &str = "tests/mutants";

/// What a patch's first line begins with.
const KILLED_BY: &str = "Killed-by: ";

/// Longest run of the tests that are to kill a mutant, and what ends one that hangs.
const RUN_MAX: Duration = Duration::from_secs(600);

/// Time between two looks at a run.
const TICK: Duration = Duration::from_millis(50);

/// One safety line less.
#[derive(Debug, Eq, PartialEq)]
struct Mutant {
    name: String,
    /// Words for `cargo test`.
    tests: Vec<String>,
    patch: PathBuf,
}

/// How a run of tests ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    Green,
    Red,
    Hung,
}

/// Runs the mutants whose names contain `wanted`, all of them if it is empty.
pub(crate) fn run(wanted: &str) -> Result<(), Failure> {
    let mutants = read(&root().join(FOLDER))?;
    let mutants: Vec<Mutant> =
        mutants.into_iter().filter(|mutant| mutant.name.contains(wanted)).collect();
    if mutants.is_empty() {
        let what = format!("no mutant's name contains `{wanted}`");
        return Err(Failure::new(what, format!("see {FOLDER}")));
    }
    guests::build()?;
    let place = Place::new()?;
    let tests: BTreeSet<&[String]> = mutants.iter().map(|mutant| mutant.tests.as_slice()).collect();
    for tests in tests {
        say(&format!("without a mutant: cargo test {}", tests.join(" ")));
        place.check_green(tests)?;
    }
    let mut wrong = Vec::new();
    for mutant in &mutants {
        let verdict = place.verdict(mutant)?;
        println!("{:48} {}", mutant.name, verdict.unwrap_or("killed"));
        if let Some(verdict) = verdict {
            wrong.push(format!("{} {verdict}", mutant.name));
        }
    }
    println!("{} of {} mutants were killed", mutants.len() - wrong.len(), mutants.len());
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(wrong.join("; "), "write the test that misses the line, or mend the patch"))
}

/// The patches of a folder, by name.
fn read(folder: &Path) -> Result<Vec<Mutant>, Failure> {
    let entries = fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| mutant(path)).collect()
}

fn mutant(path: &Path) -> Result<Mutant, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
    let tests = text.lines().next().and_then(|line| line.strip_prefix(KILLED_BY));
    let tests: Vec<String> =
        tests.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    if tests.is_empty() {
        let what = format!("{}: the first line names no tests", path.display());
        return Err(Failure::new(what, format!("write `{KILLED_BY}-p PACKAGE --lib NAME`")));
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Mutant { name, tests, patch: path.to_owned() })
}

/// A copy of the tree, where mutants are applied and built.
struct Place {
    tree: PathBuf,
    build: PathBuf,
}

impl Place {
    fn new() -> Result<Self, Failure> {
        let place = target_dir().join("mutants");
        let (tree, build) = (place.join("tree"), place.join("build"));
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = output_of(list.current_dir(root()), "run it in a clone of the repository")?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let mut paths: BTreeSet<PathBuf> =
            listed.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        paths.extend(guests::built()?);
        remove_others(&tree, &tree, &paths)?;
        for path in &paths {
            copy_if_other(&root().join(path), &tree.join(path))?;
        }
        Ok(Self { tree, build })
    }

    /// What is wrong with a mutant: nothing when its tests kill it.
    fn verdict(&self, mutant: &Mutant) -> Result<Option<&'static str>, Failure> {
        if !apply(&self.tree, &mutant.patch, &[])? {
            return Ok(Some("does not apply"));
        }
        let ended = if self.run(&mutant.tests, &["--no-run"])?.0 == Ended::Green {
            Some(self.run(&mutant.tests, &[])?.0)
        } else {
            None
        };
        if !apply(&self.tree, &mutant.patch, &["--reverse"])? {
            let what = format!("{}: can't be taken back", mutant.name);
            return Err(Failure::new(what, "remove target/mutants/tree, and retry"));
        }
        Ok(match ended {
            Some(Ended::Red) => None,
            Some(Ended::Green) => Some("survived"),
            Some(Ended::Hung) => Some("was killed by the time limit alone"),
            None => Some("does not compile"),
        })
    }

    /// Checks that the tests pass without a mutant, and that there are any.
    fn check_green(&self, tests: &[String]) -> Result<(), Failure> {
        // Building has no time limit.
        self.run(tests, &["--no-run"])?;
        let (ended, output) = self.run(tests, &[])?;
        if ended == Ended::Green && passed(&output) > 0 {
            return Ok(());
        }
        let what =
            format!("`cargo test {}`: {ended:?} without a mutant\n{output}", tests.join(" "));
        Err(Failure::new(what, "name tests that are there and pass"))
    }

    /// Runs tests, and answers what they printed.
    fn run(&self, tests: &[String], words: &[&str]) -> Result<(Ended, String), Failure> {
        let path = self.build.with_extension("log");
        let log = fs::File::create(&path).map_err(|error| Failure::file(&path, &error))?;
        let errors = log.try_clone().map_err(|error| Failure::file(&path, &error))?;
        let mut command = cargo(&["test", "--release", "--quiet"]);
        command.args(words).args(tests).current_dir(&self.tree);
        command.env("CARGO_TARGET_DIR", &self.build);
        // Tests start processes of their own: a hang ends with all of them.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let mut child = command.spawn().map_err(|error| Failure::file(&path, &error))?;
        let begun = Instant::now();
        // Building takes as long as it takes.
        let limit = if words.is_empty() { RUN_MAX } else { Duration::MAX };
        let ended = loop {
            match child.try_wait().map_err(|error| Failure::file(&path, &error))? {
                Some(status) if status.success() => break Ended::Green,
                Some(_) => break Ended::Red,
                None if begun.elapsed() > limit => {
                    let group = format!("-{}", child.id());
                    let _killed = Command::new("kill").args(["-9", "--", &group]).status();
                    let _reaped = child.wait();
                    break Ended::Hung;
                }
                None => std::thread::sleep(TICK),
            }
        };
        let output = fs::read(&path).map_err(|error| Failure::file(&path, &error))?;
        Ok((ended, String::from_utf8_lossy(&output).into_owned()))
    }
}

/// Applies a patch to a tree; false when it doesn't fit.
fn apply(tree: &Path, patch: &Path, words: &[&str]) -> Result<bool, Failure> {
    let mut git = Command::new("git");
    // A copy is inside of a repository, whose root git would take the paths from.
    git.env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    git.args(["apply", "--recount", "-C1"]).args(words).arg(patch).current_dir(tree);
    let status = git.status().map_err(|error| Failure::file(patch, &error))?;
    Ok(status.success())
}

/// Tests that passed, by what `cargo test` printed.
fn passed(output: &str) -> u64 {
    let counts = output.lines().filter_map(|line| line.split_once("test result: ok. "));
    counts.filter_map(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// Copies a file unless the same is there: a new time would make cargo build it again.
fn copy_if_other(from: &Path, to: &Path) -> Result<(), Failure> {
    let bytes = match fs::read(from) {
        Ok(bytes) => bytes,
        // Removed, and still in the index.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::file(from, &error)),
    };
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    fs::write(to, bytes).map_err(|error| Failure::file(to, &error))?;
    let mode = fs::metadata(from).map_err(|error| Failure::file(from, &error))?.permissions();
    fs::set_permissions(to, mode).map_err(|error| Failure::file(to, &error))
}

/// Removes what is in the copy and not in `paths`: of a branch before, or of a mutant that was
/// left when this was interrupted.
fn remove_others(folder: &Path, tree: &Path, paths: &BTreeSet<PathBuf>) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|error| Failure::file(folder, &error))?.path();
        if path.is_dir() {
            remove_others(&path, tree, paths)?;
        } else if !path.strip_prefix(tree).is_ok_and(|path| paths.contains(path)) {
            fs::remove_file(&path).map_err(|error| Failure::file(&path, &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_added_up() {
        let output = "test result: ok. 2 passed; 0 failed\nx\ntest result: ok. 40 passed; 0\n";
        assert_eq!(passed(output), 42);
        assert_eq!(passed("test result: FAILED. 1 passed; 1 failed\n"), 0);
    }

    #[test]
    fn every_mutant_of_this_tree_names_its_tests_and_applies() {
        for mutant in read(&root().join(FOLDER)).unwrap() {
            assert!(apply(&root(), &mutant.patch, &["--check"]).unwrap(), "{}", mutant.name);
            assert!(mutant.tests.contains(&"-p".to_owned()), "{}", mutant.name);
        }
    }
}
