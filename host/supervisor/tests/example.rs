//! The example's output, and its end by Ctrl-C.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Longest time that the example may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Where cargo puts examples: it builds them before it runs tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().with_file_name("examples").join("stream_example")
}

#[test]
fn s1_15_s1_16_the_stream_example_prints_four_lines_and_ends_by_ctrl_c() {
    let mut child = Command::new(example()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    for _ in 0..3 {
        output.read_line(&mut text).unwrap();
    }
    let interrupt = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
    let (ended, end) = channel();
    let mut watched = child;
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(GRACE).is_err() {
            watched.kill().unwrap();
        }
        watched.wait().unwrap()
    });
    output.read_to_string(&mut text).unwrap();
    // It may have been killed already.
    let _gone = ended.send(());
    assert_eq!(
        text,
        "starting component task\n\
         Received irrecoverable error: missing something required\n\
         starting component task\n\
         terminating component task\n"
    );
    assert_eq!(watch.join().unwrap().code(), Some(0));
}
