//! Style that a program can check: layers, sizes, forgotten files. Needs nothing but the sources.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::{Path, PathBuf};

/// Lines of a file, tests included.
const FILE_LINES_MAX: usize = 600;
/// Characters of a line.
const LINE_CHARS_MAX: usize = 100;
/// Layers from the bottom up. A module names only what is in its own layer or below.
const LAYERS: [&str; 5] = ["base", "pure", "mechanisms", "tree", "shell"];
/// Which mechanism may name which other one.
const SIBLINGS: [(&str, &str); 1] = [("sandbox", "memory")];
/// Folders with sources.
const SOURCES: [&str; 6] = ["benches", "guest-sdk", "guests", "host", "tests", "xtask"];
/// Where unsafe code of the host may be.
const UNSAFE: [&str; 3] = [
    "host/src/mechanisms/memory",
    "host/src/mechanisms/sandbox/creator.rs",
    "host/src/mechanisms/sandbox/compile.rs",
];

/// A source file with its path in the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines with their numbers, without comments and the texts of strings.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        self.text.lines().enumerate().filter_map(|(index, line)| {
            let outside = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
            let code = outside.split("//").next().unwrap().trim().to_owned();
            (!code.is_empty()).then_some((index + 1, code))
        })
    }

    /// Its layer, if it is a module of the library `host`.
    fn layer(&self) -> Option<usize> {
        let path = self.path.strip_prefix("host/src/")?;
        let top = path.split(['/', '.']).next().unwrap();
        let top = if top == "main" { "shell" } else { top };
        LAYERS.iter().position(|layer| *layer == top)
    }

    /// The mechanism that it is part of.
    fn mechanism(&self) -> Option<&str> {
        self.path.strip_prefix("host/src/mechanisms/")?.split(['/', '.']).next()
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(folder: &Path, wanted: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, wanted, found);
        } else if wanted(&path) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let (root, mut paths) = (repository(), Vec::new());
    for folder in SOURCES {
        let is_rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
        files(&root.join(folder), &is_rust, &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 50, "only {} sources were found", paths.len());
    let source = |path: PathBuf| Source {
        text: std::fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
    };
    paths.into_iter().map(source).collect()
}

/// Fails with all that is wrong, a line each.
fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every place in `code` where `crate::` is followed by a path, as its segments.
fn crate_paths(code: &str) -> impl Iterator<Item = Vec<&str>> {
    code.match_indices("crate::").map(move |(at, found)| {
        let path = &code[at + found.len()..];
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        path[..end.unwrap_or(path.len())].split("::").collect()
    })
}

#[test]
fn modules_of_the_host_name_only_what_is_below_them() {
    let mut wrong = Vec::new();
    let mut edges = 0;
    for source in sources() {
        let Some(layer) = source.layer() else { continue };
        for (number, code) in source.code() {
            for path in crate_paths(&code) {
                let target = LAYERS.iter().position(|layer| *layer == path[0]);
                edges += usize::from(target.is_some());
                if target.is_some_and(|target| target > layer) {
                    wrong.push(format!("{}:{number}: {code}", source.path));
                }
            }
        }
    }
    assert!(edges > 50, "only {edges} edges were found");
    check(&wrong);
}

#[test]
fn mechanisms_do_not_name_each_other() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = source.mechanism() else { continue };
        for (number, code) in source.code() {
            for path in crate_paths(&code) {
                let other = if path[0] == "mechanisms" { path.get(1).copied() } else { None };
                let allowed = |other| other == own || SIBLINGS.contains(&(own, other));
                if other.is_some_and(|other| !allowed(other)) {
                    wrong.push(format!("{}:{number}: {code}", source.path));
                }
            }
        }
    }
    check(&wrong);
}

/// True when `word` stands in `code` by itself.
fn names(code: &str, word: &str) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (code[..at].chars().last(), code[at + word.len()..].chars().next());
        !part_of_word(before) && !part_of_word(after)
    })
}

/// Lines of the host's library in which one of `words` stands, outside of `places`.
fn outside(words: &[&str], places: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("host/src/")) {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for (number, code) in source.code() {
            if words.iter().any(|word| names(&code, word)) {
                wrong.push(format!("{}:{number}: {code}", source.path));
            }
        }
    }
    wrong
}

#[test]
fn only_the_sandbox_names_the_engine() {
    check(&outside(&["wasmtime", "wasmtime_wasi"], &["host/src/mechanisms/sandbox"]));
}

#[test]
fn only_manifests_name_toml() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("host/src/")) {
        // That of a service, and that of a crate.
        let manifest = source.path.starts_with("host/src/pure/manifest")
            || source.path == "host/src/shell/cli/new.rs";
        for (number, code) in source.code().filter(|_| !manifest) {
            if code.contains("toml::") || code.starts_with("use toml") {
                wrong.push(format!("{}:{number}: {code}", source.path));
            }
        }
    }
    check(&wrong);
}

#[test]
fn only_providers_name_clients_of_servers() {
    check(&outside(&["tokio_postgres"], &["host/src/mechanisms/providers"]));
}

#[test]
fn only_the_shell_names_the_real_clock_and_entropy() {
    // Where they are defined, and offered to programs that embed the host.
    let definitions = ["host/src/base/clock.rs", "host/src/base/entropy.rs", "host/src/lib.rs"];
    let places = [&definitions[..], &["host/src/shell", "host/src/main.rs"]].concat();
    check(&outside(&["SystemClock", "SystemEntropy", "SystemTime"], &places));
}

#[test]
fn t1_wall_time_is_read_as_data_alone() {
    // The time of a commit, which guests see too, of a thread's death, and the first request's id.
    let data = ["tree/daemon/now.rs", "tree/daemon.rs", "tree/root/root_loop.rs", "tree/root.rs"];
    let data = data.map(|path| format!("host/src/{path}"));
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let definition = ["host/src/base/clock.rs"];
    check(&outside(&["SystemTime"], &definition));
    let (mut wrong, mut read) = (Vec::new(), Vec::new());
    for source in sources().iter().filter(|source| source.path.starts_with("host/src/")) {
        // What is below it is tests.
        let code = source.text.split("#[cfg(test)]").next().unwrap();
        if !code.contains(".unix_nanos()") || definition.contains(&source.path.as_str()) {
            continue;
        }
        match data.iter().find(|path| **path == source.path) {
            Some(path) => read.push(*path),
            None => wrong.push(format!("{} reads the wall clock", source.path)),
        }
    }
    assert_eq!(read, data, "the list is true");
    check(&wrong);
}

#[test]
fn unsafe_code_is_where_its_safety_is_argued() {
    check(&outside(&["unsafe"], &UNSAFE));
    for source in sources().iter().filter(|source| source.path.starts_with("host/src/")) {
        let uses = source.code().any(|(_, code)| names(&code, "unsafe"));
        let argued = source.text.contains("# Safety argument") || source.text.contains("SAFETY:");
        assert!(!uses || argued, "{}: unsafe code without an argument", source.path);
    }
}

#[test]
fn pure_modules_name_no_files_threads_or_clocks() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("host/src/pure")) {
        for (number, code) in source.code() {
            let worldly =
                ["std::fs", "std::thread", "std::net", "std::process", "std::time::Instant"];
            if worldly.iter().chain(&["tokio::", "rustix::"]).any(|word| code.contains(word)) {
                wrong.push(format!("{}:{number}: {code}", source.path));
            }
        }
    }
    check(&wrong);
}

#[test]
fn decisions_of_the_supervisor_name_no_tasks_or_clocks() {
    let mut wrong = Vec::new();
    let pure = ["policy", "strategy", "children"].map(|name| format!("host/supervisor/src/{name}"));
    let mut read = 0;
    for source in sources().iter().filter(|source| pure.iter().any(|p| source.path.starts_with(p)))
    {
        read += 1;
        for (number, code) in source.code() {
            if ["tokio", "Instant", "std::thread"].iter().any(|word| names(&code, word)) {
                wrong.push(format!("{}:{number}: {code}", source.path));
            }
        }
    }
    assert!(read >= pure.len(), "only {read} sources were found");
    check(&wrong);
}

#[test]
fn files_and_lines_are_short_and_plain() {
    let mut wrong = Vec::new();
    // Written in two pieces, so that this line isn't found.
    let leftovers = [["// TO", "DO"], ["// FIX", "ME"], ["// XX", "X"]].map(|parts| parts.concat());
    for source in sources() {
        let (path, text) = (&source.path, &source.text);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{path}: {lines} lines"));
        }
        if path.ends_with("/mod.rs") {
            wrong.push(format!("{path}: modules have the name of their folder"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            // A text is not worth breaking.
            if line.chars().count() > LINE_CHARS_MAX && !line.contains('"') {
                wrong.push(format!("{path}:{number}: {} characters", line.chars().count()));
            }
            if !line.is_ascii() || line.contains('\t') || line.ends_with(' ') {
                wrong.push(format!("{path}:{number}: something else than plain ASCII"));
            }
            if leftovers.iter().any(|leftover| line.contains(leftover)) {
                wrong.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    check(&wrong);
}

#[test]
fn no_test_file_is_forgotten() {
    let tests = repository().join("tests");
    let manifest = std::fs::read_to_string(tests.join("Cargo.toml")).unwrap();
    for entry in std::fs::read_dir(tests.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        if path.is_file() {
            assert!(manifest.contains(&format!("path = \"tests/{name}\"")), "{name} is not in it");
            continue;
        }
        let root = std::fs::read_to_string(path.with_extension("rs")).unwrap();
        for entry in std::fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let module = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(root.contains(&format!("mod {module};")), "{name}/{module} is not a module");
        }
    }
}

#[test]
fn the_papers_are_there_and_no_built_guest_is() {
    let root = repository();
    for paper in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"] {
        let text = std::fs::read_to_string(root.join(paper)).unwrap_or_default();
        assert!(text.len() > 100, "{paper} is missing or empty");
    }
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--", "*.wasm", "*.cwasm"])
        .current_dir(&root)
        .output();
    // Without git, as in an archive, there is nothing to look for.
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&listed), "", "built guests are in git");
}
