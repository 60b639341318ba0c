//! Lists the mechanisms that have a test: tests carry their ids in their names, as in
//! `fn s4_01_commits_are_atomic()`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::step::{Failure, root};

/// The folders whose sources are read.
const FOLDERS: [&str; 6] = ["benches", "guest-sdk", "guests", "host", "tests", "xtask"];

/// Chapter and number of a mechanism.
type Id = (u32, u32);

/// Prints each id and the number of its tests.
pub(crate) fn print() -> Result<(), Failure> {
    let mut counts = BTreeMap::new();
    for folder in FOLDERS {
        count_folder(&root().join(folder), &mut counts)?;
    }
    for ((chapter, number), tests) in &counts {
        println!("S{chapter}-{number:02}  {tests}");
    }
    println!("{} mechanisms have a test", counts.len());
    Ok(())
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

fn count_source(source: &str, counts: &mut BTreeMap<Id, usize>) {
    for line in source.lines() {
        let line = line.trim_start();
        let line = line.strip_prefix("async ").unwrap_or(line);
        let Some(name) = line.strip_prefix("fn ") else { continue };
        let name = name.split('(').next().unwrap_or(name);
        let parts: Vec<&str> = name.split('_').collect();
        for pair in parts.windows(2) {
            if let Some(id) = id_of(pair) {
                *counts.entry(id).or_default() += 1;
            }
        }
    }
}

/// `s4` and `01`, anywhere in a name: it may carry several ids, and those of faults too.
fn id_of(pair: &[&str]) -> Option<Id> {
    let &[chapter, number] = pair else { return None };
    let chapter = chapter.strip_prefix('s')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(chapter) || !digits(number) || number.len() != 2 {
        return None;
    }
    Some((chapter.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_off_names() {
        let source = "
            fn s4_01_commits() {}
            async fn s4_01_s0_13_both() {}
            fn c4_s2_30_after_a_fault() {}
            fn s4_1_is_no_id() {}
            fn same_03_is_none() {}
            // fn s9_99_in_a_comment() {}
        ";
        let mut counts = BTreeMap::new();
        count_source(source, &mut counts);
        assert_eq!(counts, BTreeMap::from([((0, 13), 1), ((2, 30), 1), ((4, 1), 2)]));
    }
}
