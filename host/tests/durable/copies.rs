//! The host is killed in the middle of forks, upgrades, restores, reverts and removals.

use super::*;

/// Kills, where `BULKHEAD_KILLS` says nothing.
const KILLS: u64 = 200;

/// Copies that the commands make.
const COPIES: [&str; 2] = ["trial", "old"];

/// A command of a person, which may find the host dead. True when it did what it says.
fn host(dir: &Path, words: &[&str]) -> bool {
    let mut command = Command::new(HOST);
    command.args(words).env("BULKHEAD_SOCKET", dir.join("run/host.sock")).current_dir(dir);
    command.output().unwrap().status.success()
}

/// Copies come and go and the code changes, until the host is gone. Counts what was done.
fn operate(dir: &Path, first: u64) -> [u64; 8] {
    let next = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/ledger-next.wasm");
    let next = next.display().to_string();
    let verbs: [&[&str]; 8] = [
        &["fork", "ledger", "trial"],
        &["upgrade", "trial", &next],
        &["remove", "trial"],
        &["snapshot", "ledger", "-o", "state.snapshot"],
        &["restore", "state.snapshot", "--as", "old"],
        &["call", "old", "deposit", "account=ann", "amount=1"],
        &["revert", "old", "--last", "1"],
        &["remove", "old"],
    ];
    let mut done = [0; 8];
    for verb in (0..8).cycle().skip(usize::try_from(first).unwrap()) {
        done[verb] += u64::from(host(dir, verbs[verb]));
        if !host(dir, &["ps"]) {
            break;
        }
    }
    done
}

/// Deposits of one unit each: those that were acknowledged, and those that may have happened.
#[derive(Default)]
struct Deposits {
    acknowledged: i64,
    unknown: i64,
}

impl Deposits {
    /// Deposits until the host is gone.
    fn make(&mut self, dir: &Path) {
        let Some(mut client) = Client::connect(dir) else { return };
        let args = json!({"account": "ann", "amount": 1});
        let request = json!({"daemon": "ledger", "contract": "deposit", "args": args});
        loop {
            let answer = client.call(&request);
            match answer.as_ref().map(|answer| answer["outcome"].as_str().unwrap()) {
                Some("committed") => self.acknowledged += 1,
                // It may wait for a change of code for longer than it wants to.
                Some("rejected") => {}
                _ => self.unknown += 1,
            }
            if answer.is_none() {
                return;
            }
        }
    }

    /// The ledger has all of them, a copy has no others.
    fn check(&self, dir: &Path, when: &str) {
        let total = |daemon| call(dir, daemon, "total", &json!({}));
        let ledger = total("ledger");
        let ledger = ledger["value"].as_i64().unwrap_or_else(|| panic!("{when}: {ledger}"));
        let possible = self.acknowledged..=self.acknowledged + self.unknown;
        assert!(possible.contains(&ledger), "{when}: {ledger} is not in {possible:?}");
        for copy in COPIES {
            let copied = total(copy);
            match copied["value"].as_i64() {
                // One deposit may be a copy's own.
                Some(value) => assert!(value <= ledger + 1, "{when}: {copy} has {value}"),
                None => assert_eq!(copied["error"]["code"], "E_DAEMON_UNKNOWN", "{when}: {copied}"),
            }
        }
    }
}

/// No acknowledged deposit is lost, each copy is there whole or not at all, and every start goes
/// well.
#[test]
#[ignore = "takes minutes"]
fn soak_d1_kills_in_the_middle_of_forks_upgrades_and_restores_lose_nothing() {
    let kills = std::env::var("BULKHEAD_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (dir, guests) = (dir.path(), [guest("ledger")]);
    let (mut deposits, mut done) = (Deposits::default(), [0; 8]);
    for round in 0..kills {
        let child = start(dir, &guests);
        deposits.check(dir, &format!("round {round}"));
        let since = Instant::now();
        // Every eighth time late enough for what compiles.
        let unit = if round % 8 == 7 { 10 } else { 1 };
        let moment = Duration::from_micros((20_000 + round * 7919 % 400_000) * unit);
        std::thread::scope(|scope| {
            let operator = scope.spawn(|| operate(dir, round * 3 % 8));
            scope.spawn(|| deposits.make(dir));
            std::thread::sleep(moment.saturating_sub(since.elapsed()));
            kill(child);
            let did = operator.join().unwrap();
            done.iter_mut().zip(did).for_each(|(done, did)| *done += did);
        });
    }
    println!(
        "{done:?} commands done, {} deposits, {} unknown",
        deposits.acknowledged, deposits.unknown
    );
    assert!(done.iter().all(|&done| done > 0), "{done:?}");
    let child = start(dir, &guests);
    deposits.check(dir, "at the end");
    kill(child);
    let verified = Command::new(HOST).arg("verify").arg(dir.join("data")).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

/// Whichever sync fails, a fork that fails is not there, and its name is free.
#[test]
fn d1_a_fork_that_fails_leaves_nothing() {
    let guests = [guest("ledger")];
    let mut failed = 0;
    for sync in 2..7 {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut command = command(dir, &guests);
        command.arg(format!("--fail-at=before-sync:{sync}:error"));
        let mut child = begin(&mut command);
        let forked = host(dir, &["fork", "ledger", "trial"]);
        failed += u32::from(!forked);
        if !forked {
            kill(child);
            child = start(dir, &guests);
            let total = call(dir, "trial", "total", &json!({}));
            assert_eq!(total["error"]["code"], "E_DAEMON_UNKNOWN", "sync {sync}: {total}");
            assert!(host(dir, &["fork", "ledger", "trial"]), "sync {sync}");
        }
        kill(child);
    }
    assert!(failed > 0, "no fork failed");
}
