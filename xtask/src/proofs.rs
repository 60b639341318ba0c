//! Lists what is proven of the mechanisms and of the faults to survive.
//!
//! A test carries the ids of what it proves at the beginning of its name, as in
//! `fn c14_s4_14_a_panic_in_a_host_call_is_caught()`. A name alone proves nothing, so people read
//! the tests: what they miss in them stands in `tests/gaps.txt`, a line for each id, and such an
//! id doesn't count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::step::{Failure, root};

/// The folders whose sources are read.
const FOLDERS: [&str; 6] = ["benches", "guest-sdk", "guests", "host", "tests", "xtask"];

/// What the tests with an id in their names don't show.
const GAPS: &str = "tests/gaps.txt";

/// Chapters of mechanisms, with the number of mechanisms in each.
const MECHANISMS: [(&str, u32); 5] = [("S0", 22), ("S1", 16), ("S2", 46), ("S3", 16), ("S4", 35)];

/// Kinds of faults, with the number of faults in each: hostile modules and calls, exhausted
/// resources, crashes and disks, clocks, networks, upgrades, the control interface.
const FAULTS: [(&str, u32); 8] =
    [("H", 14), ("C", 16), ("R", 11), ("D", 13), ("T", 4), ("N", 10), ("U", 4), ("A", 7)];

/// Letters of ids that tests carry and that nobody counts here: invariants.
const OTHERS: [&str; 1] = ["I"];

/// A kind of ids and a number in it, as `("S4", 1)` and `("H", 14)`.
type Id = (String, u32);

/// Which ids are proven.
pub(crate) struct Proofs {
    /// How many tests carry an id.
    tests: BTreeMap<Id, usize>,
    /// What is missing.
    gaps: BTreeMap<Id, String>,
}

/// Prints the mechanisms.
pub(crate) fn print_mechanisms() -> Result<(), Failure> {
    read()?.print(&MECHANISMS, "mechanisms");
    Ok(())
}

/// Prints the faults.
pub(crate) fn print_faults() -> Result<(), Failure> {
    read()?.print(&FAULTS, "faults");
    Ok(())
}

fn read() -> Result<Proofs, Failure> {
    let mut tests = BTreeMap::new();
    for folder in FOLDERS {
        count_folder(&root().join(folder), &mut tests)?;
    }
    let path = root().join(GAPS);
    let text = fs::read_to_string(&path).map_err(|error| Failure::file(&path, &error))?;
    let gaps = parse_gaps(&text)?;
    Ok(Proofs { tests, gaps })
}

impl Proofs {
    fn print(&self, kinds: &[(&str, u32)], what: &str) {
        let (mut proven, mut all) = (0, 0);
        for (kind, count) in kinds {
            for number in 1..=*count {
                let id = ((*kind).to_owned(), number);
                let tests = self.tests.get(&id).copied().unwrap_or_default();
                let state = match (self.gaps.get(&id), tests) {
                    (Some(gap), tests) => format!("not proven by {tests}: {gap}"),
                    (None, 0) => "no test".to_owned(),
                    (None, tests) => {
                        proven += 1;
                        format!("proven by {tests}")
                    }
                };
                all += 1;
                println!("{:6} {state}", shown(&id));
            }
        }
        println!("{proven} of {all} {what} are proven");
    }
}

/// An id as people write it.
fn shown((kind, number): &Id) -> String {
    if kind.starts_with('S') { format!("{kind}-{number:02}") } else { format!("{kind}{number}") }
}

/// Reads lines of `ID: what no test shows`. A line with `#` at its beginning is for people.
fn parse_gaps(text: &str) -> Result<BTreeMap<Id, String>, Failure> {
    let mut gaps = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let wrong = |why: &str| {
            let what = format!("{GAPS}: `{line}`: {why}");
            Failure::new(what, "write `S4-05: what no test shows`, one line for each id")
        };
        let (name, gap) = line.split_once(": ").ok_or_else(|| wrong("no colon"))?;
        let parts: Vec<String> = name.to_lowercase().split('-').map(str::to_owned).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let Some((id, _)) =
            leading_id(&parts).filter(|(id, used)| known(id) && *used == parts.len())
        else {
            return Err(wrong("there is no such id"));
        };
        if gaps.insert(id, gap.to_owned()).is_some() {
            return Err(wrong("the id stands there twice"));
        }
    }
    Ok(gaps)
}

/// True when there is such a mechanism or fault.
fn known((kind, number): &Id) -> bool {
    let kinds = MECHANISMS.iter().chain(&FAULTS);
    kinds.into_iter().any(|(name, count)| name == kind && (1..=*count).contains(number))
}

fn count_folder(folder: &Path, counts: &mut BTreeMap<Id, usize>) -> Result<(), Failure> {
    let entries = fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| Failure::file(folder, &error))?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                count_folder(&path, counts)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).map_err(|error| Failure::file(&path, &error))?;
            count_source(&source, counts);
        }
    }
    Ok(())
}

/// What stands over a function that is run as a test; between `proptest!`'s braces, too.
const TEST_ATTRIBUTES: [&str; 2] = ["#[test]", "#[tokio::test"];

fn count_source(source: &str, counts: &mut BTreeMap<Id, usize>) {
    let mut is_test = false;
    for line in source.lines() {
        let line = line.trim_start();
        is_test |= TEST_ATTRIBUTES.iter().any(|attribute| line.starts_with(attribute));
        let line = line.strip_prefix("async ").unwrap_or(line);
        let Some(name) = line.strip_prefix("fn ") else { continue };
        let name = name.split('(').next().unwrap_or(name);
        // The attribute goes with the function that comes next, whatever stands in between.
        if !std::mem::take(&mut is_test) {
            continue;
        }
        for id in ids_of(name) {
            *counts.entry(id).or_default() += 1;
        }
    }
}

/// The ids at the beginning of a test's name, where `soak_` may stand first.
fn ids_of(name: &str) -> BTreeSet<Id> {
    let name = name.strip_prefix("soak_").unwrap_or(name);
    let parts: Vec<&str> = name.split('_').collect();
    let mut rest = parts.as_slice();
    let mut ids = BTreeSet::new();
    while let Some((id, used)) = leading_id(rest) {
        rest = rest.get(used..).unwrap_or_default();
        if known(&id) {
            ids.insert(id);
        }
    }
    ids
}

/// The id that these words begin with, and how many of them it takes: `s4`, `01` or `h14`.
fn leading_id(words: &[&str]) -> Option<(Id, usize)> {
    let first = words.first()?;
    let mechanism = MECHANISMS.iter().find(|(kind, _)| first.eq_ignore_ascii_case(kind));
    if let Some((kind, _)) = mechanism {
        let number = words.get(1).filter(|digits| digits.len() == 2).and_then(|d| number(d))?;
        return Some((((*kind).to_owned(), number), 2));
    }
    let letter = first.get(..1)?.to_uppercase();
    let is_id = FAULTS.iter().any(|(kind, _)| *kind == letter) || OTHERS.contains(&letter.as_str());
    is_id.then_some(())?;
    Some(((letter, number(first.get(1..)?)?), 1))
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, number: u32) -> Id {
        (kind.to_owned(), number)
    }

    #[test]
    fn ids_are_read_off_the_beginning_of_names() {
        let source = [
            "fn s4_01_commits() {}",
            "async fn s4_01_s0_13_both() {}",
            "fn c4_s2_30_after_a_fault() {}",
            "fn soak_i20_h14_r9_all_three() {}",
            "fn s4_1_is_no_id() {}",
            "fn same_s0_03_is_none() {}",
            "fn c17_is_not_known() {}",
            "fn s4_36_neither() {}",
            "// fn s4_02_in_a_comment() {}",
        ];
        let source = source.map(|line| format!("    #[test]\n    {line}\n")).concat();
        let mut counts = BTreeMap::new();
        count_source(&source, &mut counts);
        let expected = [
            (id("C", 4), 1),
            (id("H", 14), 1),
            (id("R", 9), 1),
            (id("S0", 13), 1),
            (id("S2", 30), 1),
            (id("S4", 1), 2),
        ];
        assert_eq!(counts, BTreeMap::from(expected));
    }

    #[test]
    fn functions_that_nothing_runs_prove_nothing() {
        let source = "
            |fn s4_01_helps() {}
            |#[test]
            |#[ignore = \"long\"]
            |#[expect(
            |    clippy::panic,
            |    reason = \"a test\"
            |)]
            |fn s4_02_is_run() {}
            |fn s4_02_helps_it() {}
            |#[tokio::test(start_paused = true)]
            |async fn s4_03_is_run() {}
            |async fn s4_03_helps_it() {}
            |// #[test]
            |fn s4_04_was_a_test() {}
            |#[cfg(test)]
            |fn s4_05_helps_tests() {}
            |proptest! {
            |    /// Whatever comes.
            |    #[test]
            |    fn s4_06_is_run(bytes in any::<Vec<u8>>()) { s4_06_helps(bytes) }
            |    fn s4_06_helps(bytes: Vec<u8>) {}
            |}
        ";
        // A line that begins otherwise is no test of this tree.
        let source = source.replace('|', "");
        let mut counts = BTreeMap::new();
        count_source(&source, &mut counts);
        let expected = [(id("S4", 2), 1), (id("S4", 3), 1), (id("S4", 6), 1)];
        assert_eq!(counts, BTreeMap::from(expected));
    }

    #[test]
    fn gaps_name_ids_that_are_there_once() {
        let gaps = parse_gaps("# for people\n\nS4-05: a byte\nH14: escapes: all\n").unwrap();
        let expected = [(id("H", 14), "escapes: all"), (id("S4", 5), "a byte")];
        assert_eq!(gaps, BTreeMap::from(expected.map(|(id, gap)| (id, gap.to_owned()))));
        for wrong in ["S4-05", "S4-99: x", "X1: x", "S4-05-1: x", "H1: x\nH1: y", "I1: x"] {
            assert!(parse_gaps(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_gaps_of_this_tree_can_be_read() {
        assert!(read().is_ok_and(|proofs| proofs.tests.len() > 100));
    }
}
