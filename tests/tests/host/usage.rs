//! What daemons use and hold while they run, and give back: fuel, instances, memory, ids.

use std::sync::Arc;
use std::time::Duration;

use host::base::clock::SystemClock;
use host::base::entropy::SeededEntropy;
use host::base::error::{Code, Fault};
use host::base::ids::NodeId;
use host::base::limits::{DAEMON_OVERHEAD_BYTES, WASM_PAGE_BYTES};
use host::mechanisms::memory::{Arena, Bill, BillLine};
use host::mechanisms::sandbox::NoLog;
use host::pure::policy::OnCrash;
use host::pure::request::Outcome;
use host::tree::{DaemonPlan, DaemonState, Root, RootOptions};
use serde_json::json;
use tests::{
    BUMP, Fake, RUN, Tree, deploy, deployed, hostile, in_own_process, limit_for, plan, until,
};

use super::chaos::WAYS;
use super::durable::store;

/// It grows by four pages, and then goes on for ever.
#[test]
fn s2_33_what_a_transaction_uses_is_seen_while_it_runs_and_stays_afterwards() {
    let run = "(drop (memory.grow #4)) (loop $on (call $reset) (br $on))";
    let busy = plan("busy", &deploy(&hostile(run)).unwrap(), |options| {
        options.limits.fuel = u64::MAX / 2;
        options.limits.deadline = Duration::from_secs(100);
        options.retries_max = 0;
    });
    let tree = Tree::start_quietly(vec![busy]);
    let usage = || tree.view("busy").report;
    assert_eq!(tree.committed("busy", BUMP, json!({})), 1);
    let before = usage();
    assert!(before.fuel > 0 && before.bytes_changed > 0);
    let grown = before.memory_bytes + 4 * WASM_PAGE_BYTES as u64;
    let (live, answer) = std::thread::scope(|scope| {
        let spins = scope.spawn(|| tree.call("busy", RUN, json!({})));
        for _ in 0..3 {
            let seen = usage().fuel;
            until("it uses more", || usage().fuel > seen);
        }
        let live = usage();
        let (_, since) = live.running.unwrap();
        let wall = || tree.root.clock().monotonic_nanos() - since;
        let seen = wall();
        until("its time goes by", || wall() > seen);
        assert_eq!((live.state, live.memory_peak_bytes), (DaemonState::Running, grown));
        assert_eq!(live.memory_bytes, before.memory_bytes, "nothing is committed");
        assert_eq!((live.busy, live.crashed), (before.busy, 0), "nothing has ended");
        tree.root.cancel("busy").unwrap();
        (live, spins.join().unwrap())
    });
    let Outcome::Crashed(crash) = answer.outcome else { panic!("{answer:?}") };
    assert_eq!((crash.code, live.running.unwrap().0), (Code::Cancelled, answer.request.0));
    let ended = usage();
    assert_eq!((ended.running, ended.state), (None, DaemonState::Ready));
    assert_eq!(ended.fuel, before.fuel + crash.fuel_used, "what was seen is not counted twice");
    assert!(ended.fuel >= live.fuel && ended.busy > before.busy);
    assert_eq!((ended.memory_bytes, ended.memory_peak_bytes), (before.memory_bytes, grown));
    assert_eq!((ended.committed, ended.crashed, ended.restarts), (1, 1, 1));
}

/// One for each daemon that can run a request, and none for the others, whatever was before.
#[test]
fn s4_19_the_number_of_instances_goes_back_to_what_it_was() {
    let cache = Fake::alive();
    let mortal = plan("mortal", &deployed("chaos"), |options| {
        (options.limits.fuel, options.budget_bytes) = (2_000_000, 2 << 20);
    });
    let parking = plan("parking", &deployed("chaos"), |options| {
        options.on_crash = OnCrash::Ask;
        options.parameters = json!({"recovery": "park"});
    });
    let needing = plan("needing", &deployed("counter"), |_| {});
    let needing = DaemonPlan { needs: vec!["bank/cache".to_owned()], ..needing };
    let web = plan("web", &deployed("chaos"), |options| {
        *options = options.clone().stateless(3);
    });
    let plans = vec![mortal, parking, needing, web];
    let mut tree = Tree::with_resources(plans, vec![cache.plan("bank/cache", &[])], None);
    let names = ["mortal", "parking", "needing", "web"];
    let counts = |tree: &Tree| names.map(|name| tree.view(name).report.instances);
    let expect = |tree: &Tree, expected: [u64; 4]| {
        until(&format!("{expected:?}"), || counts(tree) == expected);
    };
    expect(&tree, [1, 1, 1, 3]);
    for round in 0..10 {
        for (way, code) in WAYS {
            assert_eq!(tree.code("mortal", "die", json!({"how": way})), code.as_str(), "{round}");
        }
        let _touched = tree.committed("mortal", "touch", json!({"pages": 1}));
        let _state = tree.committed("mortal", "state", json!({}));
        assert_eq!(tree.code("web", "die", json!({"how": "panic"})), "E_TRAP_UNREACHABLE");
    }
    assert_eq!(counts(&tree), [1, 1, 1, 3], "at once");
    assert_eq!(tree.code("parking", "die", json!({"how": "panic"})), "E_TRAP_UNREACHABLE");
    cache.kill();
    expect(&tree, [1, 0, 0, 3]);
    tree.root.resume("parking").unwrap();
    cache.revive();
    expect(&tree, [1, 1, 1, 3]);
    tree.root.let_thread_die("mortal", 2).unwrap();
    let _state = tree.committed("mortal", "state", json!({}));
    assert_eq!(counts(&tree), [1, 1, 1, 3]);
    tree.root.stop();
    assert_eq!(counts(&tree), [0; 4]);
}

/// Bytes of this process that can be written and that no file or heap is behind, and those of them
/// that are present.
fn own_bytes() -> [u64; 2] {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut own, mut bytes) = (false, [0; 2]);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if let Some(kind) = ["Size:", "Rss:"].iter().position(|kind| *kind == first) {
            let kib: u64 = words.next().unwrap().parse().unwrap();
            bytes[kind] += if own { kib << 10 } else { 0 };
        } else if !first.ends_with(':') {
            own =
                words.next() == Some("rw-p") && words.nth(2) == Some("0") && words.next().is_none();
        }
    }
    bytes
}

#[test]
fn s4_23_what_is_mapped_before_the_first_daemon_is_what_the_plan_says_to_the_byte() {
    in_own_process(
        "host::usage::s4_23_what_is_mapped_before_the_first_daemon_is_what_the_plan_says_to_the_byte",
        || {
            let shapes = ["counter", "chaos", "sql"].map(|name| deployed(name).shape());
            let budgets = [4 << 20, 32 << 20, 48 << 20];
            let line = |budget_bytes: usize| BillLine { name: "a".to_owned(), budget_bytes };
            let reserve = || {
                let lines = budgets.map(line).to_vec();
                let bill = Bill::new(lines, usize::MAX).check().unwrap();
                Arena::reserve(bill, &shapes).unwrap()
            };
            // What the heap needs for this it has then.
            drop(reserve());
            let before = own_bytes();
            let arena = reserve();
            let after = own_bytes();
            let page = |bytes: usize| bytes.next_multiple_of(4096);
            let (mut mapped, mut present) = (0, 0);
            for (budget, shape) in budgets.iter().zip(&shapes) {
                mapped += 2 * budget + shape.controls.len() * shape.control_bytes;
                present += 2 * budget;
                for control in &shape.controls {
                    let cards = page(budget >> shape.card_shift);
                    present += cards + page(control.state_bytes);
                    assert!(cards + control.state_bytes < DAEMON_OVERHEAD_BYTES);
                }
            }
            let grown = [after[0] - before[0], after[1] - before[1]];
            assert_eq!(grown, [mapped as u64, present as u64], "{before:?} {after:?}");
            assert!(present <= arena.bill().total_bytes());
            drop(arena);
            assert_eq!(own_bytes(), before);
        },
    );
}

/// Room for three daemons and the copy of a state: what is refused takes none, and what is removed
/// gives its own back.
#[test]
fn s4_26_a_place_that_is_given_up_is_free_again_and_its_id_never_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = plan("first", &deployed("counter"), |_| {});
    let state = first.options.budget_bytes;
    let each = 2 * state + DAEMON_OVERHEAD_BYTES;
    let options = RootOptions {
        logs: Some(Box::new(|_name| Arc::new(NoLog))),
        journal: Some(store(dir.path())),
        ..RootOptions::new(
            limit_for(3 * each + state),
            Arc::new(SystemClock::new()),
            Arc::new(SeededEntropy::new(7)),
        )
    };
    let tree = Tree { root: Root::start(vec![first], options).unwrap(), lines: Arc::default() };
    let never = |_: &[u8]| -> Result<_, Fault> { panic!("nothing is deployed") };
    let fork = |name: &str| tree.root.fork("first", name, None, &never).map(drop);
    let mut ids = vec![tree.view("first").id];
    let mut take = |name: &str| {
        fork(name).unwrap();
        let id = tree.view(name).id;
        assert!(ids.iter().all(|known| *known < id), "{ids:?}, and then {id}");
        ids.push(id);
    };
    take("second");
    for round in 0..20 {
        // Old names and new ones.
        let name = if round % 2 == 0 { "third".to_owned() } else { format!("third-{round}") };
        take(&name);
        assert_eq!(fork("fourth").unwrap_err().code, Code::Budget);
        assert_eq!(fork("second").unwrap_err().code, Code::DaemonExists);
        tree.root.remove(&name).unwrap();
    }
    assert!(ids.iter().all(|id| *id > NodeId::ROOT));
}
