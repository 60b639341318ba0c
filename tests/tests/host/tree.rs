//! A root with its daemons: budgets, queues, shares, stopping.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use host::base::error::{Code, Fault};
use host::base::limits::{DAEMON_OVERHEAD_BYTES, MAILBOX_REQUESTS_MAX, RETRIES_MAX};
use host::pure::pace::CpuShare;
use host::pure::request::{Answer, Outcome, Request};
use host::tree::{DaemonPlan, DaemonState};
use serde_json::{Value, json};
use tests::{
    BUMP, Holdings, RUN, Tree, deploy, deployed, hostile, in_own_process, limit_for, plan, request,
    threads,
};

fn counter(name: &str) -> DaemonPlan {
    plan(name, &deployed("counter"), |_| {})
}

/// A daemon that `die(spin)` keeps busy until it is cancelled.
fn spinner() -> DaemonPlan {
    plan("spinner", &deployed("chaos"), |options| {
        options.limits.fuel = u64::MAX / 2;
        options.limits.deadline = Duration::from_secs(600);
    })
}

fn fault(plans: Vec<DaemonPlan>, memory_limit_bytes: usize) -> Fault {
    Fault::from(&Tree::try_start(plans, memory_limit_bytes).unwrap_err())
}

#[test]
fn r4_s4_22_budgets_over_the_limit_are_refused_with_the_bill() {
    let sum = 2 * (2 * (4 << 20) + DAEMON_OVERHEAD_BYTES);
    let refused = fault(vec![counter("a"), counter("b")], limit_for(sum) - 1);
    assert_eq!(refused.code, Code::Budget);
    for word in ["  a ", "  b ", "2 x 4 MiB", "requests", "sum", "limit"] {
        assert!(refused.message.contains(word), "{word} is not in {}", refused.message);
    }
    let tree = Tree::try_start(vec![counter("a"), counter("b")], limit_for(sum)).unwrap();
    let bill = tree.root.bill();
    assert_eq!(bill.total_bytes(), sum + bill.traffic_bytes);
    assert_eq!(tree.committed("b", "increment", json!({"by": 3})), 3);
}

#[test]
fn s4_15_no_daemons_and_ones_that_cannot_be_are_refused() {
    let all = usize::MAX;
    assert_eq!(fault(vec![], all).code, Code::Name);
    let refused = fault(vec![counter("a"), counter("b"), counter("a")], all);
    assert_eq!(refused.code, Code::Name);
    assert!(refused.message.contains("`a`"), "{refused}");
    for name in ["", "a b", "a/b", "\u{1b}[31m", "\u{e9}", &"a".repeat(65)] {
        assert_eq!(fault(vec![counter(name)], all).code, Code::Name, "{name:?}");
    }
    for budget in [0, 1, (4_usize << 30) + 1, usize::MAX] {
        let plan = plan("a", &deployed("counter"), |options| options.budget_bytes = budget);
        assert_eq!(fault(vec![plan], all).code, Code::BudgetSize, "{budget}");
    }
    let refusing = plan("refusing", &deployed("chaos"), |options| {
        options.parameters = json!({"refuse_init": true});
    });
    let refused = fault(vec![counter("a"), refusing], all);
    assert_eq!(refused.code, Code::Init);
    assert!(refused.message.contains("refused"), "{refused}");
}

#[test]
fn r2_memory_that_the_machine_does_not_give_is_refused_and_nothing_is_left() {
    in_own_process(
        "host::tree::r2_memory_that_the_machine_does_not_give_is_refused_and_nothing_is_left",
        || {
            let guest = deployed("counter");
            drop(Tree::start(vec![plan("warm", &guest, |_| {})]));
            let before = Holdings::now();
            let used = std::fs::read_to_string("/proc/self/statm").unwrap();
            let used: u64 = used.split(' ').next().unwrap().parse().unwrap();
            let most = Some(used * 4096 + (6 << 30));
            let limit = rustix::process::Rlimit { current: most, maximum: most };
            rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
            let plans = (0..10).map(|n| plan(&format!("d{n}"), &guest, |_| {})).collect();
            let refused = fault(plans, usize::MAX);
            assert_eq!(refused.code, Code::NoMemory, "{refused}");
            let after = Holdings::now();
            assert_eq!(after.threads, before.threads, "no daemon was started");
            assert!(after.mappings <= before.mappings + 2, "{before:?} -> {after:?}");
        },
    );
}

#[test]
fn s4_13_s4_23_all_memory_is_there_before_the_first_daemon_runs() {
    in_own_process(
        "host::tree::s4_13_s4_23_all_memory_is_there_before_the_first_daemon_runs",
        || {
            let guest = deployed("chaos");
            drop(Tree::start(vec![plan("warm", &guest, |_| {})]));
            let before = Holdings::now();
            let budget = 32 << 20;
            let plans =
                ["a", "b"].map(|name| plan(name, &guest, |options| options.budget_bytes = budget));
            let tree = Tree::start_quietly(plans.to_vec());
            let started = Holdings::now();
            let (grown, bill) = (
                started.resident_bytes - before.resident_bytes,
                tree.root.bill().total_bytes() as u64,
            );
            assert!(grown >= 4 * budget as u64, "{grown} bytes are resident, the images need more");
            assert!(grown <= bill, "{grown} bytes are resident, the bill said {bill}");
            // Using all of it takes no more.
            for name in ["a", "b"] {
                assert_eq!(tree.committed(name, "hold", json!({"mib": 24})), 24);
                assert_eq!(tree.code(name, "die", json!({"how": "grow"})), "E_OUT_OF_MEMORY");
            }
            let used = Holdings::now();
            let more = used.resident_bytes.saturating_sub(started.resident_bytes);
            assert!(more < 4 << 20, "{more} bytes more than at the start: {started:?} {used:?}");
        },
    );
}

#[test]
fn r6_a_full_mailbox_refuses_and_says_so() {
    let tree = Tree::start_quietly(vec![spinner(), counter("other")]);
    let (reply, answers) = channel::<Answer>();
    let submit = |request: Request| {
        let reply = reply.clone();
        tree.root.submit(request, Box::new(move |answer| reply.send(answer).unwrap()));
    };
    submit(request("spinner", "die", json!({"how": "spin"})));
    wait_until(|| tree.view("spinner").report.state == DaemonState::Running);
    let more = 10;
    for _ in 0..MAILBOX_REQUESTS_MAX + more {
        submit(request("spinner", "balances", json!({})));
    }
    // Only what was refused is answered, at once.
    for _ in 0..more {
        let refused = answers.recv_timeout(Duration::from_secs(10)).unwrap();
        let Outcome::Rejected(rejection) = &refused.outcome else { panic!("{refused:?}") };
        assert_eq!((rejection.code.as_str(), refused.attempts), ("E_QUEUE_FULL", 0));
    }
    assert!(answers.try_recv().is_err());
    assert_eq!(
        tree.root.committed_hash("spinner", Duration::ZERO).unwrap_err().code,
        Code::QueueFull
    );
    assert_eq!(tree.committed("other", "increment", json!({"by": 1})), 1);
    tree.root.cancel("spinner").unwrap();
    for _ in 0..=MAILBOX_REQUESTS_MAX {
        let answer = answers.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(
            matches!(answer.outcome, Outcome::Committed(_) | Outcome::Crashed(_)),
            "{answer:?}"
        );
    }
    assert!(answers.try_recv().is_err(), "each request is answered once");
}

#[test]
fn s2_26_r10_a_spinning_guest_is_cancelled_when_the_root_stops() {
    let mut tree = Tree::start_quietly(vec![spinner(), counter("other")]);
    let (reply, answers) = channel::<Answer>();
    let submit = |tree: &Tree, contract: &str, args: Value| {
        let reply = reply.clone();
        let answer = Box::new(move |answer| reply.send(answer).unwrap());
        tree.root.submit(request("spinner", contract, args), answer);
    };
    submit(&tree, "die", json!({"how": "spin"}));
    wait_until(|| tree.view("spinner").report.state == DaemonState::Running);
    submit(&tree, "balances", json!({}));
    let start = Instant::now();
    tree.root.stop();
    let took = start.elapsed();
    assert!(took >= host::base::limits::STOP_GRACE, "{took:?}: it got its grace");
    assert!(took < host::base::limits::STOP_GRACE + Duration::from_secs(2), "{took:?}");
    let codes: Vec<String> = answers.try_iter().map(|answer| code(&answer)).collect();
    assert_eq!(codes, ["E_CANCELLED", "E_STOPPING"]);
    assert_eq!(tree.view("spinner").report.state, DaemonState::Stopped);
    assert_eq!(tree.code("other", "value", json!({})), "E_STOPPING");
}

fn code(answer: &Answer) -> String {
    answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn wait_until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn s0_21_cancelling_ends_one_transaction_which_is_not_tried_again() {
    let tree = Tree::start_quietly(vec![spinner()]);
    std::thread::scope(|scope| {
        let spin = scope.spawn(|| tree.call("spinner", "die", json!({"how": "spin"})));
        wait_until(|| tree.view("spinner").report.running.is_some());
        let start = Instant::now();
        tree.root.cancel("spinner").unwrap();
        let answer = spin.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!((code(&answer).as_str(), answer.attempts), ("E_CANCELLED", 1));
    });
    assert_eq!(tree.committed("spinner", "balances", json!({})), json!([1000, 1000]));
    assert_eq!(tree.view("spinner").report.restarts, 1);
    assert_eq!(tree.root.cancel("nobody").unwrap_err().code, Code::DaemonUnknown);
}

#[test]
fn s2_29_daemons_with_shares_of_one_to_two_progress_about_one_to_two() {
    let share = |name: &str, thousandths: u32| {
        plan(name, &deployed("compute"), |options| {
            options.share = CpuShare::from_thousandths(thousandths).unwrap();
            options.verify = false;
        })
    };
    let tree = Tree::start_quietly(vec![share("half", 200), share("full", 400)]);
    let work = |name: &'static str, end: Instant| {
        let mut done = 0_u32;
        while Instant::now() < end {
            let _value = tree.committed(name, "run", json!({"program": "sieve", "rounds": 1}));
            done += 1;
        }
        f64::from(done)
    };
    // Time that a busy machine takes away counts for both, so all of it is looked at.
    let end = Instant::now() + Duration::from_secs(10);
    let (half, full) = std::thread::scope(|scope| {
        let half = scope.spawn(|| work("half", end));
        let full = scope.spawn(|| work("full", end));
        (half.join().unwrap(), full.join().unwrap())
    });
    eprintln!("{half} : {full}");
    assert!((1.5..2.7).contains(&(full / half)), "{half} : {full}");
}

/// Each start of the guest writes a line, and each of its crashes is another one than the last.
#[test]
fn s4_18_s2_22_a_crash_is_tried_again_up_to_the_maximum_and_the_daemon_stays_the_same() {
    let run = "(call $write #2 #1216 #3 #1216 #3)
        (if (i32.and (call $attempt) #1) (then unreachable)) (drop (i32.div_u #1 (local.get $i)))";
    let guest = deploy(&hostile(run)).unwrap();
    for retries_max in [0, 1, 3, RETRIES_MAX] {
        // No other test has a thread of this name.
        let name = format!("tried-{retries_max}");
        let tree = Tree::start(vec![plan(&name, &guest, |options| {
            options.retries_max = retries_max;
        })]);
        let (before, thread) = (tree.view(&name), threads(&format!("daemon-{name}")));
        assert_eq!(thread.len(), 1);
        let answer = tree.call(&name, RUN, json!({}));
        let Outcome::Crashed(crash) = &answer.outcome else { panic!("{answer:?}") };
        let tries = retries_max + 1;
        assert_eq!((answer.attempts, crash.attempt, crash.poison), (tries, tries, false));
        // Whoever comes next finds the state before it, and no try of it comes after that.
        assert_eq!(tree.committed(&name, BUMP, json!({})), 1);
        let attempts: Vec<u32> = tree.lines.take().iter().map(|line| line.attempt).collect();
        assert!(attempts.into_iter().eq(1..=tries));
        let view = tree.view(&name);
        assert_eq!(
            (view.id, view.deaths, threads(&format!("daemon-{name}"))),
            (before.id, 0, thread)
        );
        let generations = view.report.generation - before.report.generation;
        assert_eq!((generations, view.report.crashed), (u64::from(tries), 1), "instances");
    }
}

#[test]
fn s4_26_s4_30_ids_increase_and_lines_carry_them() {
    let tree = Tree::start(vec![plan("chaos", &deployed("chaos"), |_| {})]);
    let mut last = None;
    for n in 0..20 {
        let mut request = request("chaos", "print", json!({"text": "x"}));
        request.correlation = (n % 2 == 0).then(|| format!("outside-{n}"));
        let correlation = request.correlation.clone();
        let answer = tree.root.call(request).unwrap();
        assert!(Some(answer.request) > last, "ids increase");
        last = Some(answer.request);
        let lines = tree.lines.take();
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].request, &lines[0].correlation), (answer.request, &correlation));
    }
    let views = tree.root.daemons();
    assert!(views.iter().all(|view| view.id > host::base::ids::NodeId::ROOT));
}

#[test]
fn s0_15_one_daemon_serves_many_clients_without_a_restart() {
    let tree = Arc::new(Tree::start_quietly(vec![counter("counter")]));
    let sum = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 1..=8_u64 {
            let (tree, sum) = (&tree, &sum);
            scope.spawn(move || {
                for _ in 0..100 {
                    let _value = tree.committed("counter", "increment", json!({"by": client}));
                    sum.fetch_add(client, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(tree.committed("counter", "value", json!({})), sum.into_inner());
    let report = tree.view("counter").report;
    assert_eq!((report.restarts, report.generation, report.sequence), (0, 1, 800));
}

#[test]
fn c15_a_hundred_calls_at_once_run_one_after_the_other() {
    let tree = Tree::start_quietly(vec![counter("counter")]);
    let (tree, gate) = (&tree, &Barrier::new(100));
    let values: BTreeSet<u64> = std::thread::scope(|scope| {
        let call = move || {
            gate.wait();
            tree.committed("counter", "increment", json!({"by": 1})).as_u64().unwrap()
        };
        let calls: Vec<_> = (0..100).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    // Each saw what the one before it left, and nobody saw the same.
    assert!(values.into_iter().eq(1..=100));
    assert_eq!(tree.view("counter").report.sequence, 100);
}

#[test]
fn s3_01_s4_15_each_daemon_has_a_thread_and_its_traps_are_its_own() {
    in_own_process(
        "host::tree::s3_01_s4_15_each_daemon_has_a_thread_and_its_traps_are_its_own",
        || {
            let chaos = || plan("chaos", &deployed("chaos"), |_| {});
            let one = Tree::start_quietly(vec![chaos()]);
            let with_one = Holdings::now().threads;
            drop(one);
            let tree = Tree::start_quietly(vec![chaos(), counter("a"), counter("b")]);
            assert_eq!(Holdings::now().threads, with_one + 2);
            let mut hashes = Vec::new();
            for daemon in ["a", "b"] {
                assert_eq!(tree.committed(daemon, "increment", json!({"by": 3})), 3);
                hashes.push(tree.hash(daemon));
            }
            for how in ["panic", "out_of_bounds", "stack_overflow", "half_moved"] {
                let outcome = tree.call("chaos", "die", json!({"how": how})).outcome;
                assert!(!matches!(outcome, Outcome::Committed(_)), "{how}: {outcome:?}");
            }
            assert!(tree.view("chaos").report.generation > 4);
            assert_eq!([tree.hash("a"), tree.hash("b")], hashes[..]);
            for daemon in ["a", "b"] {
                assert_eq!(tree.view(daemon).report.generation, 1);
            }
        },
    );
}

#[test]
fn c8_s0_14_requests_that_fit_nothing_are_refused_before_anything_starts() {
    let tree = Tree::start_quietly(vec![plan("ledger", &deployed("ledger"), |_| {})]);
    let mut deep = json!(1);
    for _ in 0..1000 {
        deep = json!([deep]);
    }
    let deposit = |account: Value, amount: Value| json!({"account": account, "amount": amount});
    let hash = tree.hash("ledger");
    for (what, args) in [
        ("missing", json!({"account": "ann"})),
        ("superfluous", json!({"account": "ann", "amount": 1, "tip": 1})),
        ("no object", json!([])),
        ("another type", deposit(json!(7), json!(1))),
        ("negative", deposit(json!("ann"), json!(-1))),
        ("a fraction", deposit(json!("ann"), json!(0.5))),
        ("huge", deposit(json!("ann"), json!(1e300))),
        ("a text", deposit(json!("ann"), json!("one"))),
        ("null", deposit(Value::Null, json!(1))),
        ("deep", deposit(deep, json!(1))),
        ("NUL in a name", json!({"account\u{0}": "ann", "amount": 1})),
    ] {
        let answer = tree.call("ledger", "deposit", args);
        assert_eq!((code(&answer).as_str(), answer.attempts), ("E_ARGS", 0), "{what}: {answer:?}");
    }
    for (daemon, contract, expected) in [
        ("nobody", "deposit", "E_DAEMON_UNKNOWN"),
        ("\u{1b}[31m", "deposit", "E_DAEMON_UNKNOWN"),
        ("ledger", "steal", "E_CONTRACT_UNKNOWN"),
        ("ledger", "", "E_CONTRACT_UNKNOWN"),
    ] {
        let answer = tree.call(daemon, contract, json!({}));
        assert_eq!(code(&answer), expected);
        assert!(!answer.to_json()["error"]["message"].to_string().contains('\u{1b}'));
    }
    assert_eq!(tree.hash("ledger"), hash);
    let report = tree.view("ledger").report;
    // Reading what was sent is all that was paid for.
    assert!(report.fuel < 1000, "{}", report.fuel);
    assert_eq!((report.crashed, report.sequence), (0, 0), "nothing was started");
    let nul = deposit(json!("a\u{0}b"), json!(1));
    assert_eq!(tree.committed("ledger", "deposit", nul), 1, "a NUL in a text is a text");
}

#[test]
fn s4_09_a_restart_takes_no_longer_over_a_large_state() {
    let restart = |mib: u32| {
        let plan = plan("chaos", &deployed("chaos"), |options| {
            options.budget_bytes = 64 << 20;
            options.verify = false;
            options.retries_max = 0;
        });
        let tree = Tree::start_quietly(vec![plan]);
        assert_eq!(tree.committed("chaos", "hold", json!({"mib": mib})), mib);
        for _ in 0..1000 {
            assert_eq!(tree.code("chaos", "die", json!({"how": "panic"})), "E_TRAP_UNREACHABLE");
        }
        tree.view("chaos").report.restart_times
    };
    // What a copy of the large one takes here and now, as fast as it goes.
    let large = vec![1_u8; 40 << 20];
    let mut copy = vec![0_u8; 40 << 20];
    let copies = (0..20).map(|_| {
        let start = Instant::now();
        copy.copy_from_slice(std::hint::black_box(&large));
        start.elapsed()
    });
    let copied = copies.min().unwrap();
    let (small, large) = (restart(1), restart(40));
    eprintln!("{small:?} over 1 MiB, {large:?} over 40 MiB, of which a copy takes {copied:?}");
    assert!(large.p50 < small.p50 * 3 + Duration::from_micros(20), "{small:?}, {large:?}");
    assert!(large.p50 < copied / 4, "{large:?}, and a copy {copied:?}");
    // The slowest of a hundred may have been interrupted, over a small state as over a large one.
    assert!(large.p99 < (small.p99 * 5).max(copied), "{small:?}, {large:?}, copy {copied:?}");
}
