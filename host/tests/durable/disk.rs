//! Disks that are full, that refuse writes, and whose system calls fail; under the real binary.
//!
//! A small file system is mounted in a namespace of its own, which root may do, and others where
//! user namespaces are allowed. The tests of the soak fail where it can't be.

use super::*;

/// Bytes of the small disk: a log, tables, and some room.
const DISK: &str = "size=100m";

/// Longest time until something is as it should be, on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The words before a command that give it a mount namespace of its own; none where that can't be.
fn unshare() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] =
        [&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]];
    WAYS.into_iter().find(|words| {
        let script = "mount -t tmpfs none /mnt";
        let mut tried = Command::new(words[0]);
        tried.args(&words[1..]).args(["sh", "-c", script]).stderr(Stdio::null());
        tried.status().is_ok_and(|status| status.success())
    })
}

/// A host whose data directory is on a small disk, reached through its process.
struct Small {
    child: Child,
    dir: tempfile::TempDir,
    inside: PathBuf,
}

impl Drop for Small {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

impl Small {
    fn start(options: &str, guests: &[PathBuf]) -> Option<Self> {
        let words = unshare()?;
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let host = command(dir.path(), guests);
        let mut command = Command::new(words[0]);
        let script = format!("mount -t tmpfs -o mode=0700,{options} none \"$0\" && exec \"$@\"");
        command.args(&words[1..]).args(["sh", "-c", &script]).arg(&data);
        command.arg(host.get_program()).args(host.get_args());
        command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        let inside = PathBuf::from(format!("/proc/{}/root{}", child.id(), data.display()));
        Some(Self { child, dir, inside })
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.inside.join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.inside.join("filler")).unwrap();
    }

    fn host(&self, words: &[&str]) -> Output {
        let mut command = Command::new(HOST);
        command.args(words).env("BULKHEAD_SOCKET", self.dir.path().join("run/host.sock"));
        command.output().unwrap()
    }

    fn increment(&self) -> Value {
        call(self.dir.path(), "counter", "increment", &json!({ "by": 1 }))
    }

    fn health(&self) -> Value {
        let output = self.host(&["health", "--output", "json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let since = Instant::now();
        while !is_so() {
            let health = self.health();
            assert!(since.elapsed() < WAIT_MAX, "not {what} after {WAIT_MAX:?}: {health}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The disk is full, then it isn't: commits are refused before they run, reads are not, and the
/// same process takes commits again.
#[test]
fn r8_a_full_disk_refuses_commits_and_is_got_over_without_a_restart() {
    let Some(small) = Small::start("size=48m", &[guest("counter")]) else {
        eprintln!("NOT TESTED: no file system can be mounted here; the soak needs one");
        return;
    };
    full_and_free_again(small);
}

#[test]
#[ignore = "mounts a file system"]
fn soak_r8_a_full_disk_refuses_commits_and_is_got_over_without_a_restart() {
    full_and_free_again(Small::start("size=48m", &[guest("counter")]).expect(NO_MOUNT));
}

const NO_MOUNT: &str =
    "no file system can be mounted: run the soak as root, or with user namespaces";

fn full_and_free_again(mut small: Small) {
    small.fill();
    let mut committed = 0;
    let refused = loop {
        let answer = small.increment();
        if answer["outcome"] != "committed" {
            break answer;
        }
        committed += 1;
        assert!(committed < 100_000, "never full");
    };
    assert_eq!(refused["error"]["code"], "E_STORE_FULL", "{refused}");
    assert_eq!(refused["outcome"], "rejected");
    let value = || call(small.dir.path(), "counter", "value", &json!({}))["value"].clone();
    assert_eq!(value(), committed);
    // What is there can be looked at.
    let history = small.host(&["history", "counter", "--output", "json"]);
    assert!(history.status.success(), "{history:?}");
    assert!(small.host(&["crashes", "--output", "json"]).status.success());
    let health = small.health();
    assert_eq!(health["state"], "degraded", "{health}");
    assert_eq!(health["journal_trouble"]["code"], "E_STORE_FULL", "{health}");
    let trouble = health["journal_trouble"]["message"].as_str().unwrap();
    assert!(trouble.contains("wants to grow by"), "{trouble}");
    small.free();
    small.until("committing", || small.increment()["outcome"] == "committed");
    small.until("well", || small.health()["state"] == "ok");
    assert!(small.child.try_wait().unwrap().is_none(), "the host has ended");
    assert_eq!(value(), committed + 1);
}

/// Forks, reverts and removals go on while the disk fills up, and after it has space again.
#[test]
#[ignore = "mounts a file system"]
fn soak_r8_a_disk_that_fills_up_during_forks_is_got_over() {
    let mut small = Small::start(DISK, &[guest("counter")]).expect(NO_MOUNT);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                for words in [
                    &["fork", "counter", "trial"][..],
                    &["revert", "trial", "--last", "1"],
                    &["revert", "counter", "--last", "1"],
                    &["remove", "trial"],
                ] {
                    drop(small.host(words));
                }
            }
        });
        for round in 0..3 {
            for _ in 0..50 {
                small.increment();
            }
            small.fill();
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(3) {
                small.increment();
            }
            // A copy that finds no space is its own failure: nobody else's commits are refused
            // before the log is half full.
            small.free();
            small.until(&format!("committing, round {round}"), || {
                small.increment()["outcome"] == "committed"
            });
        }
        stop.store(true, Ordering::SeqCst);
    });
    small.until("well", || small.health()["state"] == "ok");
    let idle = cpu_ticks(small.child.id());
    std::thread::sleep(Duration::from_secs(2));
    // A tick is 10 ms: well below half of a processor.
    assert!(cpu_ticks(small.child.id()) - idle < 100, "it turns and turns");
    let stopped = small.host(&["stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(small.child.wait().unwrap().code(), Some(0));
}

/// Ticks of the processor that a process has used.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A host starts on a disk that is full or takes no writes, on what is there, and takes commits
/// when it can; `verify` says the same as before and changes nothing.
#[test]
#[ignore = "mounts a file system"]
fn soak_r8_d10_a_start_on_a_disk_that_takes_nothing_reads_what_is_there() {
    let words = unshare().expect(NO_MOUNT);
    let full = "dd if=/dev/zero of=\"$0/filler\" bs=4k 2>/dev/null";
    // Nothing is said to be gone that is there again.
    let read_only = "mount -o remount,ro \"$0\"; \
        ! \"$1\" remove counter --data \"$0\" >&2 || exit 8";
    for block in [full, read_only] {
        let dir = tempfile::tempdir().unwrap();
        let (dir, guests) = (dir.path(), [guest("counter")]);
        let first = start(dir, &guests);
        for _ in 0..20 {
            call(dir, "counter", "increment", &json!({"by": 1}));
        }
        kill(first);
        std::fs::rename(dir.join("data"), dir.join("made")).unwrap();
        std::fs::create_dir(dir.join("data")).unwrap();
        let host = command(dir, &guests);
        let mut command = Command::new(words[0]);
        let script = format!(
            "mount -t tmpfs -o {DISK} none \"$0\" && cp -r \"$0\"/../made/. \"$0\" && \
             chmod 700 \"$0\"; {block}; \"$1\" verify \"$0\" >&2 || exit 9; exec \"$@\""
        );
        command.args(&words[1..]).args(["sh", "-c", &script]).arg(dir.join("data"));
        command.arg(host.get_program()).args(host.get_args());
        command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{block}: {line}");
        assert_eq!(call(dir, "counter", "value", &json!({}))["value"], 20, "{block}");
        let refused = call(dir, "counter", "increment", &json!({"by": 1}));
        if refused["outcome"] != "committed" {
            assert_eq!(refused["outcome"], "rejected", "{block}: {refused}");
        }
        kill(child);
    }
}

/// Each system call of the journal fails: once, and fifty times from its third on. The host goes on
/// by itself, and what it acknowledged is there.
#[test]
#[ignore = "needs strace"]
fn soak_d7_d8_every_system_call_of_the_journal_may_fail() {
    let strace = Command::new("strace").arg("-V").output();
    assert!(strace.is_ok_and(|done| done.status.success()), "no strace: install it for the soak");
    for inject in [
        "fdatasync:error=EIO:when=3..52",
        "fdatasync:error=EIO:when=4",
        "fdatasync:error=ENOSPC:when=5..20",
        "pwrite64:error=EIO:when=100..150",
        "pwrite64:error=ENOSPC:when=90..140",
        "pwrite64:error=EDQUOT:when=95..99",
        "pwrite64:error=EINTR:when=90..110",
        "pwrite64:retval=0:when=100",
        "pread64:error=EIO:when=120..160",
        "fallocate:error=ENOSPC:when=3..20",
        "fallocate:error=EOPNOTSUPP",
        "ftruncate:error=EFBIG:when=3..9",
        "fadvise64:error=EIO:when=1..4",
        "fstat:error=EIO:when=200..230",
    ] {
        under_injection(inject);
    }
}

fn under_injection(inject: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (dir, guests) = (dir.path(), [guest("counter")]);
    // The directory is there before: a start is not what is looked at.
    kill(start(dir, &guests));
    let host = command(dir, &guests);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=none", "-e"]);
    command.arg(format!("inject={inject}")).arg(host.get_program()).args(host.get_args());
    command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        // It hit the start, which ends with a code and no signal.
        assert!(child.wait().unwrap().code().is_some(), "{inject}");
    } else {
        let pid = serde_json::from_str::<Value>(&line).unwrap()["pid"].as_u64().unwrap();
        let (mut acked, mut unknown, since) = (0, 0, Instant::now());
        while acked < 60 {
            assert!(since.elapsed() < WAIT_MAX, "{inject}: {acked} in {WAIT_MAX:?}");
            let answer = call(dir, "counter", "increment", &json!({"by": 1}));
            match answer["outcome"].as_str().unwrap() {
                "committed" => acked += 1,
                "unknown" => unknown += 1,
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        let value = call(dir, "counter", "value", &json!({}))["value"].as_u64().unwrap();
        assert!((acked..=acked + unknown).contains(&value), "{inject}: {value} of {acked}");
        Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        child.wait().unwrap();
        let again = start(dir, &guests);
        let found = call(dir, "counter", "value", &json!({}))["value"].as_u64().unwrap();
        assert!(value <= found, "{inject}: {found} of {value}");
        kill(again);
    }
    let verified = Command::new(HOST).arg("verify").arg(dir.join("data")).output().unwrap();
    assert!(verified.status.success(), "{inject}: {verified:?}");
}

/// The largest file that the host may write is smaller than what it needs: an error with a code,
/// and no signal.
#[test]
fn r8_a_limit_on_the_size_of_files_is_a_full_disk() {
    for kib in [16, 2 << 10, 40 << 10] {
        let dir = tempfile::tempdir().unwrap();
        let (dir, guests) = (dir.path(), [guest("counter")]);
        let host = command(dir, &guests);
        let mut command = Command::new("bash");
        let script = format!("ulimit -f {kib}; exec \"$@\"");
        command.args(["-c", &script, "bash"]).arg(host.get_program()).args(host.get_args());
        command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("BULKHEAD_CACHE_DIR", std::env::temp_dir().join("no-cache-for-that"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{kib} KiB: {stderr}");
            assert!(stderr.contains("E_STORE_FULL"), "{kib} KiB: {stderr}");
            assert!(stderr.contains("ulimit -f"), "{kib} KiB: {stderr}");
        } else {
            let answer = call(dir, "counter", "increment", &json!({"by": 1}));
            assert_eq!(answer["outcome"], "committed", "{kib} KiB: {answer}");
            kill(child);
        }
    }
}
