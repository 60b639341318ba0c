//! What the compiler's process can't reach, however its limits were before.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use host::mechanisms::sandbox::{CompileMode, Sandbox, SandboxOptions};
use serde_json::json;
use tests::{BUMP, Rig, RigOptions, hostile};

/// What every confined process says, but for its limits.
const CONFINED: [&str; 13] = [
    "threads: yes",
    "memory: yes",
    "time: yes",
    "reading files: no",
    "writing files: no",
    "folders: no",
    "programs: no",
    "tcp: no",
    "udp: no",
    "unix sockets: no",
    "signals to others: no",
    "new limits: no",
    "new privileges: no",
];

/// Runs the program `confined` under limits that a shell sets, and looks at what it said.
fn check_confined(ulimits: &str, limits: &str) {
    let script = format!("{ulimits} exec \"$0\"");
    let ran =
        Command::new("/bin/sh").args(["-c", &script, env!("CARGO_BIN_EXE_confined")]).output();
    let ran = ran.unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let limits = format!("limits: {limits}");
    let expected: Vec<&str> = CONFINED.into_iter().chain([limits.as_str()]).collect();
    assert_eq!(lines, expected, "{ulimits}");
    assert_eq!(ran.status.signal(), Some(6), "an abort is one: {:?}", ran.status);
}

#[test]
fn h4_the_compilers_process_reaches_no_file_no_socket_and_no_other_process() {
    check_confined("", "[4294967296, 60, 0]");
}

#[test]
fn h4_limits_that_are_lower_already_leave_the_compilers_process_confined() {
    check_confined("ulimit -c 0; ulimit -t 30;", "[4294967296, 30, 0]");
    check_confined("ulimit -v 2097152;", "[2147483648, 60, 0]");
}

#[test]
fn h4_guests_are_compiled_under_limits_that_are_lower_already() {
    let folder = tempfile::tempdir().unwrap();
    let (program, words) = (folder.path().join("lowered"), folder.path().join("words"));
    let script = format!(
        "#!/bin/sh\nulimit -v 3145728; ulimit -t 50\nexec {} \"$@\" 2>{}\n",
        env!("CARGO_BIN_EXE_compiler"),
        words.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let compile = CompileMode::Child(program);
    let sandbox = Sandbox::new(SandboxOptions { compile, ..SandboxOptions::default() }).unwrap();
    let mut rig = Rig::start(&sandbox.deploy(&hostile("")).unwrap(), RigOptions::default());
    rig.committed(BUMP, json!({}));
    // It would say that it isn't confined.
    assert_eq!(std::fs::read_to_string(words).unwrap(), "");
}
