//! Faults to survive that belong to no other page: code in the cache that is not whole, other
//! engines, memory that the machine has not got, neighbours, and daemons that come and go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use host::base::error::{Code, Fault};
use host::base::ids::{RequestId, Sequence};
use host::base::limits::ANSWER_BYTES_MAX;
use host::base::room::Room;
use host::mechanisms::sandbox::{CacheDir, Guest, Sandbox, SandboxOptions};
use host::pure::request::{Answer, Outcome};
use host::tree::{Bound, RevertTo};
use rustix::process::Resource;
use serde_json::{Value, json};
use tests::{
    BUMP, Hostile, REAL, RUN, Rig, RigOptions, Tree, VALUE, deploy, deployed, hostile,
    in_own_process, plan, rebuilt, request, setting, until,
};

use super::durable::store;

/// What makes an engine another one.
type Change = fn(&mut SandboxOptions);

/// A sandbox that keeps compiled code in that directory, after `change`.
fn sandbox(cache: &Path, change: impl FnOnce(&mut SandboxOptions)) -> Sandbox {
    let cache = Some(CacheDir::open(cache, [7; 32]).unwrap());
    let mut options = SandboxOptions { cache, ..SandboxOptions::default() };
    change(&mut options);
    Sandbox::new(options).unwrap()
}

/// The compiled codes in a cache, by path.
fn entries(cache: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|its| its == "cwasm"));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// That guest counts.
fn counts(guest: &Arc<Guest>, what: &str) {
    let mut rig = Rig::start(guest, RigOptions::default());
    rig.committed(BUMP, json!({}));
    assert_eq!(rig.committed(VALUE, json!({})), 1, "{what}");
}

#[test]
fn h12_compiled_code_that_is_not_what_was_stored_is_compiled_anew() {
    let dir = tempfile::tempdir().unwrap();
    let code = hostile("");
    let other = hostile("(i32.store #4096 #1)");
    counts(&sandbox(dir.path(), |_| {}).deploy(&other).unwrap(), "the other one");
    let others = entries(dir.path()).into_values().next().unwrap();
    counts(&sandbox(dir.path(), |_| {}).deploy(&code).unwrap(), "at first");
    let all = entries(dir.path());
    let (path, good) = all.into_iter().find(|(_, bytes)| *bytes != others).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    // The engine loads whatever says that it is of its version: nothing else looks inside.
    for (what, bad) in [
        ("a bit of the seal", flipped(3)),
        ("a bit of the code", flipped(good.len() / 2)),
        ("the last bit", flipped(good.len() - 1)),
        ("cut", good[..good.len() / 2].to_vec()),
        ("nothing", Vec::new()),
        ("other code with its seal", others),
        ("code without a seal", good[32..].to_vec()),
        ("zeros", vec![0; good.len()]),
    ] {
        fs::write(&path, &bad).unwrap();
        counts(&sandbox(dir.path(), |_| {}).deploy(&code).unwrap(), what);
        assert!(fs::read(&path).unwrap() == good, "{what}: it is not there anew");
    }
    // What is there anew is used: nothing is compiled when nothing is wrong.
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    counts(&sandbox(dir.path(), |_| {}).deploy(&code).unwrap(), "again");
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
}

#[test]
fn u3_another_engine_compiles_the_code_anew_and_keeps_the_state() {
    let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let code = hostile("(i64.store #4096 (call $random))");
    let engines: [(&str, Change); 5] = [
        ("as it was", |_| {}),
        ("other traps", |options| options.signals = false),
        ("other backtraces", |options| options.full_backtraces = true),
        ("other cards", |options| options.card_shift += 1),
        ("as it was again", |_| {}),
    ];
    let (mut compiled, mut hash, mut value) = (0, None, 0);
    for (what, change) in engines {
        let sandbox = sandbox(cache.path(), change);
        let guest = sandbox.deploy(&code).unwrap();
        let now = entries(cache.path()).len();
        assert_eq!(now, compiled + usize::from(what != "as it was again"), "{what}");
        compiled = now;
        let tree = Tree::durable(vec![plan("dice", &guest, |_| {})], store(data.path()));
        // What was drawn is state: it is loaded, not drawn again.
        let found = tree.hash("dice");
        assert_eq!(hash.get_or_insert_with(|| found.clone()), &found, "{what}");
        let _drawn = tree.committed("dice", RUN, json!({}));
        value += 1;
        assert_eq!(tree.committed("dice", VALUE, json!({})), value, "{what}");
        tree.root.revert("dice", RevertTo::Last(1)).unwrap();
        assert_eq!(tree.hash("dice"), found, "{what}: an earlier commit is of all engines");
        let _drawn = tree.committed("dice", RUN, json!({}));
        hash = Some(tree.hash("dice"));
        drop(tree);
        assert!(store(data.path()).verify().is_good(), "{what}");
    }
}

#[test]
fn d12_i22_the_same_request_draws_other_numbers_in_another_generation() {
    let dice = Hostile {
        run: "(i64.store #4096 (call $random))
            (if (i32.and (i32.eq (i32.load #16) #4) (i64.eq (call $generation) (i64.const 1)))
              (then unreachable))"
            .to_owned(),
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&dice.build()).unwrap(), RigOptions::default());
    // The same id each time: request and secret are what they were.
    let mut throw = |expected: bool| {
        let bound = Bound { request: RequestId(1), ..tests::bound(0, &[0x90]) };
        let outcome = rig.transact(&bound).outcome;
        assert_eq!(matches!(outcome, Outcome::Committed(_)), expected, "{outcome:?}");
        let drawn = rig.daemon.capture().memory[4096..4104].to_vec();
        (rig.daemon.generation().0, drawn)
    };
    let first = throw(true);
    assert_eq!(throw(true), first, "nothing else makes a difference");
    assert_eq!(throw(true), first);
    let crashed = throw(false);
    assert!(crashed.0 > first.0 && crashed.1 == first.1, "rolled back");
    let after = throw(true);
    assert!(after.0 == crashed.0 && after.1 != first.1, "{after:?}");
}

#[test]
fn r2_when_the_machine_gives_nothing_more_only_a_guests_growth_fails() {
    in_own_process(
        "host::faults::r2_when_the_machine_gives_nothing_more_only_a_guests_growth_fails",
        || {
            let large = plan("chaos", &deployed("chaos"), |options| {
                options.budget_bytes = 64 << 20;
                options.limits.fuel = 100 << 30;
                options.retries_max = 0;
            });
            let tree = Tree::start_quietly(vec![large, plan("a", &deployed("counter"), |_| {})]);
            // The soft limit is so much more than what is there.
            let limit = |what, name: &str, more: Option<u64>| {
                let status = fs::read_to_string("/proc/self/status").unwrap();
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                let used: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
                let current = more.map(|more| (used << 10) + more);
                let limit = rustix::process::Rlimit { current, maximum: None };
                rustix::process::setrlimit(what, limit).unwrap();
            };
            let hold = |mib: u32| tree.call("chaos", "hold", json!({ "mib": mib })).outcome;
            // Some is left for what the host itself says and answers, and none for 16 MiB.
            let some = Some(8 << 20);
            limit(Resource::As, "VmSize", some);
            assert!(matches!(hold(16), Outcome::Committed(_)), "it was reserved");
            limit(Resource::Data, "VmData", some);
            let hash = tree.hash("chaos");
            for _ in 0..2 {
                let refused = hold(32);
                assert_eq!(code_of(&refused).as_deref(), Some("no_room"), "{refused:?}");
                assert_eq!(tree.hash("chaos"), hash);
                let _value = tree.committed("a", "increment", json!({"by": 1}));
                let copy = tree.root.fork("chaos", "copy", None, &|_| unreachable!()).unwrap_err();
                assert_eq!(copy.code, Code::NoMemory, "{copy}");
            }
            limit(Resource::Data, "VmData", None);
            assert!(matches!(hold(32), Outcome::Committed(_)));
            assert_eq!(tree.committed("chaos", "hold", json!({"mib": 0})), json!(48));
            assert_eq!(tree.committed("a", "value", json!({})), 2);
        },
    );
}

#[test]
fn r5_a_daemon_gets_its_turn_beside_many_that_never_rest() {
    let busy = |n: usize| {
        plan(&format!("busy-{n}"), &deployed("chaos"), |options| {
            options.limits.fuel = u64::MAX / 2;
            options.limits.deadline = Duration::from_secs(600);
        })
    };
    let others = 4 * std::thread::available_parallelism().unwrap().get();
    let plans = (0..others).map(busy).chain([plan("victim", &deployed("counter"), |_| {})]);
    let tree = Tree::start_quietly(plans.collect());
    for n in 0..others {
        let spin = request(&format!("busy-{n}"), "die", json!({"how": "spin"}));
        tree.root.submit(spin, Box::new(drop));
    }
    let running = || tree.root.daemons().iter().filter(|d| d.report.running.is_some()).count();
    until("all are busy", || running() == others);
    let mut slowest = Duration::ZERO;
    for n in 1..=setting("VICTIM_CALLS", 300) {
        let since = Instant::now();
        assert_eq!(tree.committed("victim", "increment", json!({"by": 1})), n);
        slowest = slowest.max(since.elapsed());
    }
    assert_eq!(running(), others, "none of them has ended");
    // Its turn comes in milliseconds; seconds are for a machine that does other things as well.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    tree.root.cancel_all();
}

#[test]
fn c16_an_answer_that_is_too_large_is_a_crash_and_nothing_stays_of_it() {
    // Each of these bytes is six of JSON, and the quotes are two.
    let most = (ANSWER_BYTES_MAX - 2) / 6;
    for (bytes, fits) in [(most, true), (most + 1, false)] {
        let head = [0xdb, bytes >> 24, bytes >> 16 & 255, bytes >> 8 & 255, bytes & 255];
        let head = (65_536..).zip(head).map(|(at, byte)| format!("(i32.store8 #{at} #{byte})"));
        let run = format!(
            "(memory.fill #65541 #1 #{bytes}) {} (return (call $answer #65536 #{}))",
            head.collect::<String>(),
            bytes + 5
        );
        let memory = format!("(memory (export \"memory\") {})", bytes / 65_536 + 4);
        let guest = deploy(&Hostile { memory, run, ..Hostile::default() }.build()).unwrap();
        let options = RigOptions { budget_bytes: 16 << 20, fuel: 1 << 40, ..RigOptions::default() };
        let mut rig = Rig::start(&guest, options);
        let before = rig.hash();
        let show = Some(Room::new(ANSWER_BYTES_MAX));
        let bound = Bound { show, ..tests::bound(0, &[0x90]) };
        let transacted = rig.transact(&bound);
        match transacted.outcome {
            Outcome::Committed(_) if fits => {
                assert_eq!(transacted.shown.unwrap().as_str().len(), 6 * bytes + 2);
                assert_ne!(rig.hash(), before);
            }
            Outcome::Crashed(crash) if !fits => {
                assert_eq!(crash.code, Code::AnswerTooLarge, "{crash:?}");
                assert_eq!(rig.hash(), before, "rolled back");
            }
            outcome => panic!("{bytes} bytes: {outcome:?}"),
        }
        rig.committed(BUMP, json!({}));
    }
}

/// How often a name was made and removed, and how often it counted up to a number.
type Seen = (u64, u64, BTreeMap<u64, u64>);

/// A host with copies of a counter, under names that come and go.
struct Copies {
    tree: Tree,
    builds: Vec<Arc<Guest>>,
    seen: Mutex<BTreeMap<&'static str, Seen>>,
}

impl Copies {
    /// Does one thing to one name. Whatever is refused is refused because of what others do.
    fn act(&self, name: &'static str, what: usize) {
        let root = &self.tree.root;
        let deploy = |code: &[u8]| deploy(code).map_err(|error| Fault::from(&error));
        let done = match what {
            0 => root.fork("source", name, None, &deploy).map(|_| 0),
            1 => root.remove(name).map(|()| 0),
            2 | 3 => root.upgrade(name, self.builds[what - 2].clone(), REAL).map(|_| 0),
            _ => {
                let answer = self.tree.call(name, "increment", json!({"by": 1}));
                let value = answer.value().and_then(|value| value.as_u64());
                value.ok_or_else(|| Fault::new(Code::Stopping, answer.to_json().to_string()))
            }
        };
        let mut seen = self.seen.lock().unwrap();
        let (made, removed, values) = seen.entry(name).or_default();
        match (what, done) {
            (0, Ok(_)) => *made += 1,
            (1, Ok(_)) => *removed += 1,
            (2 | 3, Ok(_)) => {}
            (_, Ok(value)) => *values.entry(value).or_default() += 1,
            (_, Err(fault)) => {
                let expected = match what {
                    0 => fault.code == Code::DaemonExists,
                    1 => fault.code == Code::DaemonUnknown,
                    2 | 3 => matches!(
                        fault.code,
                        Code::DaemonUnknown | Code::UpgradeSame | Code::Stopping
                    ),
                    _ => ["E_DAEMON_UNKNOWN", "E_STOPPING"]
                        .iter()
                        .any(|code| fault.message.contains(code)),
                };
                assert!(expected, "{name} {what}: {fault}");
            }
        }
    }
}

#[test]
fn a3_daemons_that_are_made_removed_and_upgraded_at_once_are_what_the_answers_say() {
    let dir = tempfile::tempdir().unwrap();
    let source = || vec![plan("source", &deployed("counter"), |_| {})];
    let tree = Tree::durable(source(), store(dir.path()));
    let builds = [1, 2].map(|build| deploy(&rebuilt("counter", build)).unwrap()).to_vec();
    let copies = Copies { tree, builds, seen: Mutex::default() };
    let names = ["x", "y"];
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let copies = &copies;
            scope.spawn(move || {
                let mut dice = Dice(thread);
                for _ in 0..setting("COPIES_OPS", 100) {
                    copies.act(names[dice.roll(2)], dice.roll(9));
                }
            });
        }
    });
    let Copies { tree, seen, .. } = copies;
    let mut left = BTreeMap::new();
    for (name, (made, removed, values)) in seen.into_inner().unwrap() {
        assert!(made > 3 && removed > 3 && values.len() > 2, "{name}: {made} {removed} {values:?}");
        // Each life begins at nothing and counts without a gap.
        let mut lives = made;
        for (n, (value, times)) in (1..).zip(values) {
            assert!(value == n && times <= lives, "{name}: {times} times {value}, not {n}");
            lives = times;
        }
        assert!(made == removed || made == removed + 1, "{name}: {made} {removed}");
        if made > removed {
            left.insert(name.to_owned(), tree.hash(name));
        } else {
            assert_eq!(tree.code(name, "value", json!({})), "E_DAEMON_UNKNOWN");
        }
    }
    drop(tree);
    // What was removed is not there again.
    let kept = store(dir.path());
    let names: Vec<String> = kept.daemons().into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().filter(|name| *name != "source").eq(left.keys()), "{names:?}");
    assert!(kept.verify().is_good());
}

/// A small generator of test cases; the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

#[test]
fn a4_a_daemon_that_is_removed_while_it_runs_answers_once_and_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let source = || {
        vec![plan("chaos", &deployed("chaos"), |options| {
            options.limits.fuel = u64::MAX / 2;
            options.limits.deadline = Duration::from_secs(600);
        })]
    };
    let tree = Tree::durable(source(), store(dir.path()));
    let deploy = |code: &[u8]| deploy(code).map_err(|error| Fault::from(&error));
    let fresh = tree.hash("chaos");
    let fork = || drop(tree.root.fork("chaos", "copy", None, &deploy).unwrap());
    let touch = || tree.call("copy", "touch", json!({"pages": 2})).outcome;
    for spins in [true, false] {
        fork();
        assert!(matches!(touch(), Outcome::Committed(_)));
        let (sender, answers) = channel();
        let submit = |contract: &str, args: Value| {
            let sender = sender.clone();
            let reply = Box::new(move |answer| sender.send(answer).unwrap());
            tree.root.submit(request("copy", contract, args), reply);
        };
        if spins {
            submit("die", json!({"how": "spin"}));
            until("it runs", || tree.view("copy").report.running.is_some());
        }
        for _ in 0..30 {
            submit("touch", json!({"pages": 2}));
        }
        // Somebody reads its state meanwhile, and others call.
        let removed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for what in 0..2 {
                let (tree, removed, touch) = (&tree, &removed, &touch);
                scope.spawn(move || {
                    let read = || tree.root.checkpoint("copy", Some(Sequence(0))).map(drop);
                    loop {
                        let over = removed.load(Ordering::SeqCst);
                        let code = if what == 0 {
                            read().err().map(|fault| fault.code.as_str().to_owned())
                        } else {
                            code_of(&touch())
                        };
                        if over {
                            assert_eq!(code.as_deref(), Some("E_DAEMON_UNKNOWN"));
                            return;
                        }
                    }
                });
            }
            tree.root.remove("copy").unwrap();
            removed.store(true, Ordering::SeqCst);
        });
        drop(sender);
        let answers: Vec<Answer> = answers.iter().collect();
        assert_eq!(answers.len(), 30 + usize::from(spins), "one answer each");
        for answer in &answers {
            let code = code_of(&answer.outcome);
            let known = ["E_STOPPING", "E_CANCELLED", "E_DAEMON_UNKNOWN"];
            assert!(code.is_none_or(|code| known.contains(&code.as_str())), "{answer:?}");
        }
        assert!(store_of(&tree, "copy").is_none());
        fork();
        assert_eq!(tree.hash("copy"), fresh, "nothing of the one before");
        tree.root.remove("copy").unwrap();
    }
    drop(tree);
    let kept = store(dir.path());
    assert_eq!(kept.daemons().len(), 1);
    assert!(kept.verify().is_good(), "{:?}", kept.verify());
}

/// Why it was not committed.
fn code_of(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Committed(_) => None,
        Outcome::Rejected(rejection) => Some(rejection.code.clone()),
        Outcome::Crashed(crash) => Some(crash.code.as_str().to_owned()),
        outcome => panic!("{outcome:?}"),
    }
}

fn store_of(tree: &Tree, name: &str) -> Option<String> {
    let views = tree.root.daemons();
    views.into_iter().map(|view| view.name).find(|found| found == name)
}
