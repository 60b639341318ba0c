//! Random commits, upgrades, reverts, forks, snapshots, removals, crashes, replays of crashes and
//! restarts over one data directory, against plain maps that remember every state of every daemon.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use host::base::error::{Code, Fault};
use host::base::ids::Sequence;
use host::mechanisms::journal::{DirectoryId, Durability, Store, StoreOptions};
use host::mechanisms::sandbox::{Guest, NoLog};
use host::pure::crash_report::differences;
use host::pure::request::{Crash, Outcome, Request};
use host::tree::{DaemonOptions, DaemonPlan, Replayed, RevertTo, UpgradeOptions, replay};
use proptest::prelude::{Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tests::{Tree, deployed, plan, rebuilt, request};

const DAEMONS_MAX: usize = 5;
const BUDGET: usize = 2 << 20;
/// Enough for any deposit but one to a name of [`STARVING`] bytes.
const FUEL: u64 = 100_000;
const STARVING: usize = 60_000;

/// One step; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Deposit { daemon: usize, account: u8, amount: u64, key: Option<u8> },
    Revert { daemon: usize, back: u64 },
    Fork { daemon: usize, back: Option<u64> },
    Copy { daemon: usize, back: Option<u64> },
    Upgrade { daemon: usize, code: usize, dry_run: bool },
    Remove { daemon: usize },
    Crash { daemon: usize },
    Replay { crash: usize },
    Simulate { daemon: usize },
    Restart,
}

/// The codes that a daemon may have: two builds of the first version, two of the second.
fn codes() -> &'static [Arc<Guest>; 4] {
    static CODES: OnceLock<[Arc<Guest>; 4]> = OnceLock::new();
    CODES.get_or_init(|| {
        let rebuilt = |name| tests::deploy(&rebuilt(name, 1)).unwrap();
        let (ledger, next) = (deployed("ledger"), deployed("ledger-next"));
        [ledger, rebuilt("ledger"), next, rebuilt("ledger-next")]
    })
}

/// The one account that the check of the second version refuses.
const UNSOUND: &str = "a2#unsound";

fn account_name(account: u8) -> String {
    if account == 2 { UNSOUND.to_owned() } else { format!("a{account}") }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let daemon = || 0..DAEMONS_MAX;
    let back = || proptest::option::of(0..12_u64);
    let key = proptest::option::weighted(0.4, 0..4_u8);
    let account = prop_oneof![9 => 0..2_u8, 1 => proptest::strategy::Just(2)];
    let step = prop_oneof![
        12 => (daemon(), account, 0..4_u64, key).prop_map(|(daemon, account, amount, key)| {
            Step::Deposit { daemon, account, amount, key }
        }),
        3 => (daemon(), 0..12_u64).prop_map(|(daemon, back)| Step::Revert { daemon, back }),
        1 => (daemon(), back()).prop_map(|(daemon, back)| Step::Fork { daemon, back }),
        1 => (daemon(), back()).prop_map(|(daemon, back)| Step::Copy { daemon, back }),
        2 => (daemon(), 0..4_usize, proptest::bool::weighted(0.3)).prop_map(
            |(daemon, code, dry_run)| Step::Upgrade { daemon, code, dry_run }
        ),
        1 => daemon().prop_map(|daemon| Step::Remove { daemon }),
        2 => daemon().prop_map(|daemon| Step::Crash { daemon }),
        2 => (0..100_usize).prop_map(|crash| Step::Replay { crash }),
        1 => daemon().prop_map(|daemon| Step::Simulate { daemon }),
        1 => proptest::strategy::Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..50)
}

type Accounts = BTreeMap<String, u64>;

/// What is known of one commit.
#[derive(Clone, Debug)]
struct State {
    accounts: Accounts,
    hash: String,
    code: usize,
}

/// What is known of one daemon: its state after each commit, and the keys that it answered.
#[derive(Clone, Debug, Default)]
struct Known {
    states: Vec<State>,
    keys: BTreeMap<u8, (u8, u64, usize)>,
    generation: u64,
    /// It crashed since its last commit: no commit knows of the generations since.
    restarted: bool,
    /// Tells daemons of one name apart.
    born: usize,
}

impl Known {
    fn last(&self) -> usize {
        self.states.len() - 1
    }

    fn state(&self) -> &State {
        &self.states[self.last()]
    }

    /// The code to start with; there is no state before the first start.
    fn code(&self) -> Arc<Guest> {
        codes()[self.states.last().map_or(0, |state| state.code)].clone()
    }
}

/// A crash: of which daemon, on which of its commits.
struct Crashed {
    name: String,
    born: usize,
    at: usize,
    crash: Crash,
}

struct World {
    dir: tempfile::TempDir,
    tree: Option<Tree>,
    known: BTreeMap<String, Known>,
    made: usize,
    crashes: Vec<Crashed>,
}

/// Compiling it again for each copy would be most of the test's time.
fn deploy(code: &[u8]) -> Result<Arc<Guest>, Fault> {
    let made = codes().iter().find(|guest| **guest.code() == *code);
    Ok(made.unwrap_or_else(|| panic!("not a code that made a state")).clone())
}

fn number(at: u64) -> usize {
    usize::try_from(at).unwrap()
}

impl World {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let known = BTreeMap::from([("ledger".to_owned(), Known::default())]);
        let mut world = Self { dir, tree: None, known, made: 0, crashes: Vec::new() };
        world.restart();
        let (accounts, hash) = (Accounts::new(), world.tree().hash("ledger"));
        let first = State { accounts, hash, code: 0 };
        world.known.get_mut("ledger").unwrap().states.push(first);
        world
    }

    fn tree(&self) -> &Tree {
        self.tree.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.tree = None;
        for known in self.known.values_mut().filter(|known| known.restarted) {
            (known.restarted, known.generation) = (false, 0);
        }
        // Few commits are kept, so that folding happens, and whole states come in several parts;
        // the journal's own tests do the syncing.
        let options = StoreOptions {
            durability: Durability::Os,
            retain_commits: 8,
            part_bytes: 4 << 10,
            ..StoreOptions::default()
        };
        let store = Store::open(self.dir.path(), options, DirectoryId(3)).unwrap();
        let plans = self.known.iter().map(|(name, known)| DaemonPlan {
            copied: name != "ledger",
            ..plan(name, &known.code(), |options| {
                options.budget_bytes = BUDGET;
                options.limits.fuel = FUEL;
            })
        });
        self.tree = Some(Tree::durable(plans.collect(), Arc::new(store)));
    }

    fn name(&self, daemon: usize) -> String {
        self.known.keys().nth(daemon % self.known.len()).unwrap().clone()
    }

    fn deposit(&mut self, daemon: usize, account: u8, amount: u64, key: Option<u8>) {
        let name = self.name(daemon);
        let args = json!({"account": account_name(account), "amount": amount});
        let request =
            Request { key: key.map(|key| format!("key-{key}")), ..request(&name, "deposit", args) };
        let answer = self.tree().root.call(request).unwrap();
        let hash = self.tree().hash(&name);
        let known = self.known.get_mut(&name).unwrap();
        match key.and_then(|key| known.keys.get(&key)) {
            Some(&(a, b, sequence)) if (a, b) == (account, amount) => {
                assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
                assert_eq!(number(answer.sequence.0), sequence, "the first answer");
            }
            Some(_) => {
                let conflict =
                    matches!(&answer.outcome, Outcome::Rejected(r) if r.code == "E_KEY_CONFLICT");
                assert!(conflict, "{answer:?}");
            }
            None => {
                assert!(matches!(answer.outcome, Outcome::Committed(_)), "{answer:?}");
                assert_eq!(number(answer.sequence.0), known.states.len());
                let State { mut accounts, code, .. } = known.state().clone();
                *accounts.entry(account_name(account)).or_default() += amount;
                if let Some(key) = key {
                    known.keys.insert(key, (account, amount, known.states.len()));
                }
                known.states.push(State { accounts, hash, code });
                known.restarted = false;
                return;
            }
        }
        assert_eq!(hash, known.state().hash, "nothing changed");
    }

    /// True when the commit was there; else it was folded away, and the journal says so.
    fn was_kept<T>(&self, name: &str, at: usize, result: &Result<T, Fault>) -> bool {
        let Err(fault) = result else { return true };
        assert_eq!(fault.code, Code::NoCommit, "{fault}");
        let oldest = self.tree().root.commits(name, 1).unwrap().oldest.unwrap();
        assert!((at as u64) < oldest.0, "commit {at} is kept, the oldest is {oldest}");
        false
    }

    fn revert(&mut self, daemon: usize, back: u64) {
        let name = self.name(daemon);
        let last = self.known[&name].last();
        let reverted = self.tree().root.revert(&name, RevertTo::Last(back));
        let Some(to) = last.checked_sub(number(back)) else {
            assert_eq!(reverted.unwrap_err().code, Code::NoCommit);
            return;
        };
        let known = &self.known[&name];
        let changed = known.states[to].code != known.state().code;
        if changed && matches!(&reverted, Err(fault) if fault.code == Code::CodeChanged) {
            return;
        }
        if !self.was_kept(&name, to, &reverted) {
            return;
        }
        assert!(!changed, "other code made the state");
        assert_eq!(reverted.unwrap(), (Sequence(to as u64), Sequence(last as u64 + 1)));
        let known = self.known.get_mut(&name).unwrap();
        known.keys.retain(|_, (_, _, sequence)| *sequence <= to);
        known.states.push(known.states[to].clone());
        known.restarted = false;
    }

    fn copy(&mut self, daemon: usize, back: Option<u64>, by_file: bool) {
        if self.known.len() == DAEMONS_MAX {
            return;
        }
        let name = self.name(daemon);
        let at = self.known[&name].last().saturating_sub(number(back.unwrap_or(0)));
        let wanted = back.map(|_| Sequence(at as u64));
        self.made += 1;
        let new = format!("copy-{}", self.made % 7);
        if self.known.contains_key(&new) {
            return;
        }
        let root = &self.tree().root;
        let copied = if by_file {
            let mut options = DaemonOptions::new(new.clone(), BUDGET);
            options.limits.fuel = FUEL;
            let saved = root.snapshot(&name, wanted);
            saved.and_then(|(_, file)| root.restore(&file, options, &deploy))
        } else {
            root.fork(&name, &new, wanted, &deploy)
        };
        if !self.was_kept(&name, at, &copied) {
            return;
        }
        let (state, checkpoint) = (self.known[&name].states[at].clone(), copied.unwrap());
        assert_eq!(checkpoint.hash().to_hex().to_string(), state.hash);
        let view = self.tree().view(&new);
        assert!(view.report.generation > checkpoint.generation.0, "a generation of its own");
        let known = Known { states: vec![state], born: self.made, ..Known::default() };
        self.known.insert(new, known);
    }

    fn upgrade(&mut self, daemon: usize, code: usize, dry_run: bool) {
        let name = self.name(daemon);
        let before = self.known[&name].state().clone();
        let options = UpgradeOptions { dry_run, ..UpgradeOptions::default() };
        let upgraded = self.tree().root.upgrade(&name, codes()[code].clone(), options);
        let second = |code: usize| code >= 2;
        let expected = match before.code {
            same if same == code => Err(Code::UpgradeSame),
            old if second(old) && !second(code) => Err(Code::UpgradeVersion),
            _ if second(code) && before.accounts.contains_key(UNSOUND) => Err(Code::UpgradeCheck),
            _ => Ok(()),
        };
        assert_eq!(upgraded.as_ref().map(|_| ()).map_err(|fault| fault.code), expected);
        if expected.is_ok() && !dry_run {
            let hash = self.tree().hash(&name);
            let known = self.known.get_mut(&name).unwrap();
            known.states.push(State { hash, code, ..before });
            known.restarted = false;
        }
    }

    fn remove(&mut self, daemon: usize) {
        let name = self.name(daemon);
        let removed = self.tree().root.remove(&name);
        if name == "ledger" {
            assert_eq!(removed.unwrap_err().code, Code::DaemonFile);
        } else {
            removed.unwrap();
            self.known.remove(&name);
        }
    }

    /// Runs a daemon out of fuel. Each time in another way, or it would be the same report.
    fn crash(&mut self, daemon: usize) {
        let name = self.name(daemon);
        let account = format!("{:x>STARVING$}", self.crashes.len());
        let args = json!({"account": account, "amount": 1});
        let outcome = self.tree().root.call(request(&name, "deposit", args)).unwrap().outcome;
        let Outcome::Crashed(crash) = outcome else { panic!("{outcome:?}") };
        assert_eq!(crash.code, Code::Fuel);
        let known = self.known.get_mut(&name).unwrap();
        known.restarted = true;
        let (born, at) = (known.born, known.last());
        if crash.report.is_some() {
            self.crashes.push(Crashed { name, born, at, crash: *crash });
        }
    }

    fn replay(&self, crash: usize) {
        let Some(Crashed { name, born, at, crash }) = self.crashes.get(crash) else { return };
        // Its report may still be on the way to the disk.
        let mut materials = self.tree().root.replay_materials(crash.report.unwrap());
        for _ in 0..1000 {
            if !matches!(&materials, Err(fault) if fault.code == Code::NoCrash) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            materials = self.tree().root.replay_materials(crash.report.unwrap());
        }
        let Some(known) = self.known.get(name).filter(|known| known.born == *born) else {
            assert_eq!(materials.unwrap_err().code, Code::NoCommit, "{name} was removed");
            return;
        };
        if !self.was_kept(name, *at, &materials) {
            return;
        }
        let materials = materials.unwrap();
        assert_eq!(materials.checkpoint.hash().to_hex().to_string(), known.states[*at].hash);
        let limits = materials.limits();
        match replay(&codes()[known.states[*at].code], &materials, &limits, Arc::new(NoLog))
            .unwrap()
        {
            Replayed::Crashed { crash: again, .. } => {
                assert!(differences(crash, &again, true).is_empty(), "{crash:?}, {again:?}");
            }
            other => panic!("{crash:?}, then {other:?}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Deposit { daemon, account, amount, key } => {
                self.deposit(daemon, account, amount, key);
            }
            Step::Revert { daemon, back } => self.revert(daemon, back),
            Step::Fork { daemon, back } => self.copy(daemon, back, false),
            Step::Copy { daemon, back } => self.copy(daemon, back, true),
            Step::Upgrade { daemon, code, dry_run } => self.upgrade(daemon, code, dry_run),
            Step::Remove { daemon } => self.remove(daemon),
            Step::Crash { daemon } => self.crash(daemon),
            Step::Replay { crash } => self.replay(crash % self.crashes.len().max(1)),
            Step::Simulate { daemon } => {
                let name = self.name(daemon);
                let simulated = self.tree().root.simulate_crash(&name).unwrap();
                assert_ne!(simulated.hash, simulated.ruined);
                self.known.get_mut(&name).unwrap().restarted = true;
            }
            Step::Restart => self.restart(),
        }
        self.compare();
    }

    /// Every daemon has the state of its last commit, and a generation that only grows.
    fn compare(&mut self) {
        let Some(tree) = &self.tree else { return };
        for (name, known) in &mut self.known {
            let state = known.state();
            assert_eq!(tree.hash(name), state.hash, "{name}");
            let total = tree.committed(name, "total", json!({}));
            assert_eq!(total, json!(state.accounts.values().sum::<u64>()), "{name}");
            let running = tree.root.guest(name).unwrap();
            assert!(Arc::ptr_eq(&running, &codes()[state.code]), "{name}");
            let report = tree.view(name).report;
            assert_eq!(number(report.sequence), known.states.len() - 1, "{name}");
            assert!(report.generation >= known.generation, "{name}");
            known.generation = report.generation;
        }
        let views = tree.root.daemons();
        let names: Vec<&String> = views.iter().map(|view| &view.name).collect();
        assert!(names.into_iter().eq(self.known.keys()), "{views:?}");
    }
}

#[test]
fn s4_08_i3_i5_states_of_the_past_are_what_they_were() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = if std::env::var("PROPTEST_CASES").is_ok() { config.cases } else { 40 };
    let mut runner = TestRunner::new(Config { cases, ..config });
    runner
        .run(&steps(), |steps| {
            let mut world = World::start();
            for step in &steps {
                world.step(step);
            }
            world.restart();
            world.compare();
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
