//! What reaches the system: a trace of the real binary's calls.

use std::collections::BTreeMap;

use super::*;

/// One call: its number, its name, its arguments, paths of descriptors included.
struct Traced(Vec<(String, String)>);

impl Traced {
    /// Runs `during` beside a traced host; none where strace is missing.
    fn run(dir: &Path, guests: &[PathBuf], during: impl FnOnce()) -> Option<Self> {
        let out = dir.join("trace");
        let host = command(dir, guests);
        let mut command = Command::new("strace");
        let calls = "trace=fdatasync,fsync,pwrite64,rename,renameat,renameat2,fadvise64,openat";
        command.args(["-f", "-qq", "-y", "-s", "0", "-e", calls, "-o"]).arg(&out);
        command.arg(host.get_program()).args(host.get_args());
        command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let greeting: Value = serde_json::from_str(&line).ok()?;
        during();
        let pid = greeting["pid"].to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        child.wait().unwrap();
        let text = std::fs::read_to_string(&out).unwrap();
        Some(Self(text.lines().filter_map(Self::call).collect()))
    }

    /// `123 fdatasync(7</dir/log>) = 0`; a call that others cut in two counts where it ends.
    fn call(line: &str) -> Option<(String, String)> {
        let line = line.split_once(' ')?.1.trim_start();
        if line.starts_with("<...") || line.contains("<unfinished ...>") {
            return Self::in_two(line);
        }
        let (name, rest) = line.split_once('(')?;
        Some((name.to_owned(), rest.to_owned()))
    }

    fn in_two(line: &str) -> Option<(String, String)> {
        let (name, rest) = line.strip_suffix("<unfinished ...>")?.split_once('(')?;
        Some((name.to_owned(), rest.to_owned()))
    }

    /// Where each call of that name on that path is in the trace.
    fn places(&self, name: &str, path: &str) -> Vec<usize> {
        let calls = self.0.iter().enumerate();
        let hits = calls.filter(|(_, call)| call.0.starts_with(name) && call.1.contains(path));
        hits.map(|(at, _)| at).collect()
    }

    /// Some call of that name on that path comes after `at`.
    fn follows(&self, at: usize, name: &str, path: &str) -> bool {
        self.places(name, path).into_iter().any(|place| place > at)
    }
}

/// Each sync that a promise rests on is asked of the system, after what it is for.
#[test]
fn d3_what_is_promised_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, guests) = (dir.path(), [guest("counter")]);
    let increments = |count: usize| {
        for _ in 0..count {
            let answer = call(dir, "counter", "increment", &json!({"by": 1}));
            assert_eq!(answer["outcome"], "committed");
        }
    };
    let Some(made) = Traced::run(dir, &guests, || increments(5)) else {
        assert!(std::env::var("BULKHEAD_SEEDS").is_err(), "no strace: install it for the soak");
        eprintln!("NOT TESTED: no strace here");
        return;
    };
    let data = dir.join("data");
    let at = |name: &str| format!("{}>", data.join(name).display());
    let (log, acked) = (at("log"), at("acked"));
    // Each commit was answered before the next was asked, so each write has a sync of its own.
    let (writes, syncs) = (made.places("pwrite64", &log), made.places("fdatasync", &log));
    assert!(writes.len() > 6 && syncs.len() > 6, "{} {}", writes.len(), syncs.len());
    let between = |from: usize, to: usize| syncs.iter().any(|&sync| from < sync && sync < to);
    let mut groups = writes.clone();
    // The zeros of a new log are written in a row, and synced once.
    groups.drain(..groups.windows(2).take_while(|pair| !between(pair[0], pair[1])).count());
    assert!(groups.len() > 5, "{groups:?}");
    for pair in groups.windows(2) {
        assert!(between(pair[0], pair[1]), "a write of the log without a sync: {pair:?}");
    }
    assert!(made.follows(*groups.last().unwrap(), "fdatasync", &log));
    assert!(made.follows(made.places("pwrite64", &acked)[0], "fdatasync", &acked));
    assert!(!made.places("fdatasync", &at("state.redb.new")).is_empty(), "the tables");
    // A new name is durable when its directory is synced.
    let directory = format!("{}>", data.display());
    let (renames, parent) = (made.places("rename", "bulkhead.data"), format!("{}>", dir.display()));
    assert_eq!(made.places("rename", "state.redb").len(), 1);
    assert_eq!(renames.len(), 1, "the marker");
    let synced: BTreeMap<_, _> =
        made.places("fsync", &directory).into_iter().map(|at| (at, ())).collect();
    let tables = made.places("rename", "state.redb")[0];
    assert!(synced.range(..tables).count() > 0, "the marker's text");
    assert!(synced.range(tables..renames[0]).count() > 0, "the tables' name");
    assert!(synced.range(renames[0]..).count() > 0, "the marker's name");
    assert!(made.follows(0, "fsync", &parent), "the directory's own name");
    // What is read after a start comes from the disk.
    let again = Traced::run(dir, &guests, || increments(1)).unwrap();
    let dropped = again.places("fadvise64", &log);
    assert!(!dropped.is_empty(), "the cache of the log is believed");
    let before = again.places("fdatasync", &log);
    assert!(before.first() < dropped.first(), "what the cache had was not written first");
    let opened = again.places("openat", "/data/log");
    assert!(opened.first() < dropped.first());
}
