//! What programs read when a command fails: one JSON object on standard output.

use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;

use serde_json::Value;

use super::{code, host, stderr, stdout};

/// Each command that has `--output`, so that it fails in an empty directory without a host, with
/// its exit code and the error's.
const FAILING: &[(&[&str], i32, &str)] = &[
    (&["inspect", "missing.wasm"], 1, "E_FILE"),
    (&["validate"], 2, "E_OPTION"),
    (&["call", "a", "b"], 5, "E_SOCKET"),
    (&["call", "a", "b", "c"], 2, "E_ARGS"),
    (&["stop"], 5, "E_SOCKET"),
    (&["health"], 5, "E_SOCKET"),
    (&["ps"], 5, "E_SOCKET"),
    (&["ps", "--data", "nowhere"], 1, "E_DATA_DIR"),
    (&["kill", "1"], 5, "E_SOCKET"),
    (&["disable", "a"], 5, "E_SOCKET"),
    (&["enable", "a"], 5, "E_SOCKET"),
    (&["pause", "a"], 5, "E_SOCKET"),
    (&["resume", "a"], 5, "E_SOCKET"),
    (&["resources"], 5, "E_SOCKET"),
    (&["resource", "down", "a"], 5, "E_SOCKET"),
    (&["resource", "up", "a"], 5, "E_SOCKET"),
    (&["checkpoints", "a"], 5, "E_SOCKET"),
    (&["history", "a"], 5, "E_SOCKET"),
    (&["snapshot", "a"], 5, "E_SOCKET"),
    (&["restore", "a", "--as", "b"], 5, "E_SOCKET"),
    (&["restore", "a", "--as", "b", "--budget", "x"], 2, "E_BUDGET_SIZE"),
    (&["fork", "a", "b"], 5, "E_SOCKET"),
    (&["revert", "a", "--last", "1"], 5, "E_SOCKET"),
    (&["upgrade", "a", "b.wasm"], 5, "E_SOCKET"),
    (&["output", "a"], 5, "E_SOCKET"),
    (&["remove", "a"], 5, "E_SOCKET"),
    (&["rename", "a", "b"], 1, "E_DATA_DIR"),
    (&["crashes"], 5, "E_SOCKET"),
    (&["replay", "1"], 5, "E_SOCKET"),
    (&["simulate-crash", "a"], 5, "E_SOCKET"),
    (&["simulate-crash", "a", "--host"], 5, "E_SOCKET"),
    (&["verify"], 1, "E_DATA_DIR"),
    (&["explain", "E_NONSENSE"], 2, "E_OPTION"),
    // What the command line itself refuses.
    (&["kill", "no-id"], 2, "E_OPTION"),
    (&["history"], 2, "E_OPTION"),
    (&["histroy", "a"], 2, "E_OPTION"),
];

#[test]
fn each_failure_of_each_command_is_one_json_object_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    for (words, exit, expected) in FAILING {
        let output = host(dir.path(), &[words, &["--output", "json"][..]].concat());
        let (said, printed) = (stderr(&output), stdout(&output));
        assert_eq!(code(&output), *exit, "{words:?}: {said}");
        let line: Value = serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{words:?}: {error}: `{printed}`; {said}"));
        let error = &line["error"];
        assert_eq!(error["code"], *expected, "{words:?}: {line}");
        for field in ["message", "blame", "remedy"] {
            assert!(
                error[field].as_str().is_some_and(|text| !text.is_empty()),
                "{words:?}: {line}"
            );
        }
        // People read it beside that.
        assert!(said.contains(&format!("error[{expected}]")), "{words:?}: {said}");
        let human = host(dir.path(), words);
        assert_eq!((code(&human), stdout(&human).as_str()), (*exit, ""), "{words:?}");
    }
}

#[test]
fn an_answer_that_never_comes_is_unknown_and_said_to_programs() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    std::fs::DirBuilder::new().mode(0o700).create(&run).unwrap();
    let listener = UnixListener::bind(run.join("host.sock")).unwrap();
    let gone = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let output = host(dir.path(), &["call", "a", "b", "--output", "json"]);
    gone.join().unwrap();
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["error"]["code"], "E_NO_ANSWER", "{line}");
    assert_eq!(line["error"]["blame"], "environment");
}

#[test]
fn every_command_that_prints_json_is_made_to_fail() {
    let dir = tempfile::tempdir().unwrap();
    let help = |words: &[&str]| stdout(&host(dir.path(), &[words, &["--help"][..]].concat()));
    let commands = |help: &str| {
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let listed = listed.take_while(|line| !line.is_empty());
        let names = listed.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
        names.filter(|name| name != "help").collect::<Vec<_>>()
    };
    let mut seen = 0;
    for command in commands(&help(&[])) {
        let text = help(&[&command]);
        let inner = commands(&text);
        let inner = inner.iter().map(|inner| vec![command.as_str(), inner.as_str()]);
        for words in inner.chain([vec![command.as_str()]]) {
            // A host's standard output is for its greeting, and answers.
            if words != ["run"] && help(&words).contains("--output <OUTPUT>") {
                seen += 1;
                let fails = FAILING.iter().any(|(failing, ..)| failing.starts_with(&words));
                assert!(fails, "`host {}` is not among those that fail", words.join(" "));
            }
        }
    }
    assert!(seen > 25, "{seen}");
}
