//! Stateless daemons: several transactions at once, each on the first state, out of one line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use host::base::error::{Code, Fault};
use host::base::ids::RequestId;
use host::base::limits::{DAEMON_OVERHEAD_BYTES, DAEMONS_MAX, MAILBOX_REQUESTS_MAX};
use host::pure::request::{Answer, Request};
use host::tree::{DaemonOptions, DaemonPlan, DaemonState, DaemonView, RevertTo};
use serde_json::json;
use supervisor::policy::{Exhausted, Intensity, Policy, Restart};
use tests::{
    Fake, Holdings, REAL, Tree, deployed, in_own_process, limit_for, plan, rebuilt, request,
    setting, until,
};

use super::durable::store;

const MINUTE: Duration = Duration::from_secs(60);
const CACHE: &str = "web/cache";

fn stateless(instances: u32, change: impl FnOnce(&mut DaemonOptions)) -> DaemonPlan {
    plan("web", &deployed("chaos"), |options| {
        *options = options.clone().stateless(instances);
        options.limits.fuel = u64::MAX / 2;
        options.limits.deadline = 10 * MINUTE;
        // Those that spin leave something to the others.
        options.share = "0.05".parse().unwrap();
        change(options);
    })
}

/// Sends requests without waiting, and takes the answers as they come.
struct Sending {
    reply: Sender<Answer>,
    answers: Receiver<Answer>,
}

impl Sending {
    fn new() -> Self {
        let (reply, answers) = channel();
        Self { reply, answers }
    }

    fn submit(&self, tree: &Tree, request: Request) {
        let reply = self.reply.clone();
        tree.root.submit(request, Box::new(move |answer| drop(reply.send(answer))));
    }

    /// Lets so many instances spin.
    fn spin(&self, tree: &Tree, count: usize) -> Vec<RequestId> {
        for _ in 0..count {
            self.submit(tree, request("web", "die", json!({"how": "spin"})));
        }
        until("all run", || running(tree).len() == count);
        running(tree)
    }

    fn next(&self) -> Answer {
        self.answers.recv_timeout(MINUTE).unwrap()
    }

    /// So many next answers, by contract and code.
    fn take(&self, count: usize) -> BTreeMap<(String, String), usize> {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            let answer = self.next();
            *seen.entry((answer.contract.clone(), code(&answer))).or_default() += 1;
        }
        seen
    }

    fn expect_none(&self) {
        assert!(self.answers.try_recv().is_err(), "somebody was answered");
    }
}

fn code(answer: &Answer) -> String {
    answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn seen<const N: usize>(seen: [(&str, &str, usize); N]) -> BTreeMap<(String, String), usize> {
    seen.map(|(contract, code, count)| ((contract.to_owned(), code.to_owned()), count)).into()
}

fn balances() -> Request {
    request("web", "balances", json!({}))
}

fn running(tree: &Tree) -> Vec<RequestId> {
    let instances = tree.view("web").instances;
    let running = instances.iter().filter_map(|instance| instance.report.running);
    running.map(|(id, _)| RequestId(id)).collect()
}

fn instance(tree: &Tree, index: usize) -> DaemonView {
    tree.view("web").instances.remove(index)
}

/// Generations of the instances, in the order of their numbers.
fn generations(tree: &Tree) -> Vec<u64> {
    tree.view("web").instances.iter().map(|instance| instance.report.generation).collect()
}

#[test]
fn s0_17_a_stateless_daemon_runs_n_requests_at_once_and_queues_the_next() {
    let (tree, sent) = (Tree::start_quietly(vec![stateless(4, |_| {})]), Sending::new());
    let ids = sent.spin(&tree, 4);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 4);
    for _ in 0..MAILBOX_REQUESTS_MAX {
        sent.submit(&tree, balances());
    }
    sent.expect_none();
    // There is room for no more.
    let over = tree.call("web", "balances", json!({}));
    assert_eq!((code(&over).as_str(), over.attempts), ("E_QUEUE_FULL", 0));
    // One instance is enough for those that wait; the others go on.
    let (daemon, stopped) = tree.root.kill(ids[2]).unwrap();
    assert!(daemon.starts_with("web/") && stopped.end == Some("E_CANCELLED"), "{daemon}");
    let expected = [("balances", "", MAILBOX_REQUESTS_MAX), ("die", "E_CANCELLED", 1)];
    assert_eq!(sent.take(MAILBOX_REQUESTS_MAX + 1), seen(expected));
    let view = tree.view("web");
    let left: BTreeSet<_> = running(&tree).into_iter().collect();
    assert_eq!(left, [ids[0], ids[1], ids[3]].into());
    assert_eq!((view.report.state, view.report.read), (DaemonState::Running, 1024));
    assert_eq!((view.report.crashed, view.report.sequence), (1, 0));
    sent.expect_none();
}

#[test]
fn s0_17_no_transaction_sees_what_another_one_changed() {
    let counter = plan("web", &deployed("counter"), |options| {
        *options = options.clone().stateless(3);
    });
    let tree = Tree::start_quietly(vec![counter]);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for by in 1..=200 {
                    let answer = tree.call("web", "increment", json!({"by": by}));
                    assert_eq!((answer.value(), answer.sequence.0), (Some(json!(by)), 0));
                }
            });
        }
    });
    let hashes: BTreeSet<String> = (0..3).map(|n| tree.hash(&format!("web/{n}"))).collect();
    assert_eq!(hashes.len(), 1, "all have the same first state");
    let report = tree.view("web").report;
    assert_eq!((report.read, report.committed, report.restarts), (1200, 0, 0));
    assert_eq!(tree.committed("web", "value", json!({})), 0);
    // Nor does one that needs more memory than the first state has.
    let chaos = Tree::start_quietly(vec![stateless(2, |_| {})]);
    for _ in 0..3 {
        assert_eq!(chaos.committed("web", "hold", json!({"mib": 1})), 1);
        assert_eq!(chaos.committed("web", "touch", json!({"pages": 2})), 2);
    }
}

#[test]
fn s0_21_a_transaction_that_crashed_or_was_cancelled_is_not_started_again() {
    let tree = Tree::start(vec![stateless(2, |options| options.retries_max = 0)]);
    let answer = tree.call("web", "die", json!({"how": "print_then_panic"}));
    assert_eq!((code(&answer).as_str(), answer.attempts), ("E_TRAP_UNREACHABLE", 1));
    let starts = |lines: Vec<String>| lines.iter().filter(|line| *line == "about to panic").count();
    assert_eq!(starts(tree.lines.texts()), 1);
    let sent = Sending::new();
    let id = sent.spin(&tree, 1)[0];
    tree.root.kill(id).unwrap();
    let cancelled = sent.next();
    assert_eq!((code(&cancelled).as_str(), cancelled.attempts), ("E_CANCELLED", 1));
    assert_eq!(running(&tree), vec![]);
    let report = tree.view("web").report;
    assert_eq!((report.crashed, report.restarts), (2, 2));
    // That is what stateless means unless somebody says otherwise.
    assert_eq!(DaemonOptions::new("web", 1 << 20).stateless(3).retries_max, 0);
    let stubborn = Tree::start(vec![stateless(2, |options| options.retries_max = 2)]);
    assert!(stubborn.call("web", "die", json!({"how": "print_then_panic"})).attempts > 1);
}

#[test]
fn s0_17_a_crash_and_a_dead_thread_of_one_instance_leave_the_others_alone() {
    let (tree, sent) = (Tree::start_quietly(vec![stateless(4, |_| {})]), Sending::new());
    let ids = sent.spin(&tree, 3);
    let before = generations(&tree);
    assert_eq!(before, vec![1; 4]);
    for _ in 0..5 {
        assert_eq!(tree.code("web", "die", json!({"how": "panic"})), "E_TRAP_UNREACHABLE");
        assert_eq!(tree.committed("web", "balances", json!({})), json!([1000, 1000]));
    }
    let after = generations(&tree);
    assert_eq!(after.iter().filter(|&&generation| generation == 1).count(), 3, "{after:?}");
    assert_eq!(after.iter().max(), Some(&6));
    // Of a thread that dies only the transaction that it ran ends; here it ran none.
    let idle = after.iter().position(|&generation| generation == 6).unwrap();
    let died = tree.root.simulate_thread_death(&format!("web/{idle}")).unwrap();
    assert_eq!((died.deaths, died.before.hash), (1, died.after.hash));
    assert_eq!(tree.committed("web", "balances", json!({})), json!([1000, 1000]));
    assert_eq!(running(&tree), ids);
    assert_eq!((tree.view("web").deaths, instance(&tree, idle).deaths), (1, 1));
    sent.expect_none();
}

#[test]
fn s0_02_s0_17_the_death_of_a_resource_cancels_exactly_what_runs() {
    let cache = Fake::alive();
    let needing = DaemonPlan { needs: vec![CACHE.to_owned()], ..stateless(5, |_| {}) };
    let tree = Tree::with_resources(vec![needing], vec![cache.plan(CACHE, &[])], None);
    let leases = || {
        let view = tree.root.resources().remove(0);
        let of = |lease: &host::tree::LeaseView| lease.request;
        (view.leases.iter().map(of).collect::<BTreeSet<_>>(), view.needed_by)
    };
    for recovery in 1..=3 {
        let sent = Sending::new();
        let ids = sent.spin(&tree, 5);
        assert_eq!(leases(), (ids.iter().copied().collect(), vec!["web".to_owned()]));
        for wait in [Some(MINUTE), None, Some(Duration::from_millis(20)), Some(MINUTE)] {
            sent.submit(&tree, Request { wait, ..balances() });
        }
        cache.kill();
        // The five, the one that must not wait, the one that has waited for long enough.
        let expected = [("balances", "E_UNAVAILABLE", 2), ("die", "E_HANDLE_STALE", 5)];
        assert_eq!(sent.take(7), seen(expected));
        let is_waiting = || tree.view("web").report.state == DaemonState::Waiting;
        until("all wait", || is_waiting() && tree.view("web").held == 2);
        assert_eq!(tree.code("web", "balances", json!({})), "E_UNAVAILABLE");
        sent.expect_none();
        cache.revive();
        assert_eq!(sent.take(2), seen([("balances", "", 2)]));
        until("all started", || generations(&tree) == vec![recovery + 1; 5]);
        assert_eq!(leases().0, BTreeSet::new());
    }
    let report = tree.view("web").report;
    assert_eq!((report.cancelled, report.crashed, report.restarts), (15, 0, 0));
    assert_eq!(report.resource_restarts, 15);
}

#[test]
fn s0_03_s0_17_instances_that_wait_at_the_start_begin_when_their_resource_is_there() {
    let cache = Fake::default();
    let needing = DaemonPlan { needs: vec![CACHE.to_owned()], ..stateless(3, |_| {}) };
    let tree = Tree::with_resources(vec![needing], vec![cache.plan(CACHE, &[])], None);
    assert_eq!(tree.view("web").report.state, DaemonState::Waiting);
    assert_eq!(tree.code("web", "balances", json!({})), "E_UNAVAILABLE");
    cache.revive();
    let patient = Request { wait: Some(MINUTE), ..balances() };
    assert_eq!(tree.root.call(patient).unwrap().value(), Some(json!([1000, 1000])));
    until("all begin", || generations(&tree) == vec![1; 3]);
}

#[test]
fn s4_22_s0_17_each_instance_is_on_the_bill() {
    let each = 2 * (4 << 20) + DAEMON_OVERHEAD_BYTES;
    let refused = Tree::try_start(vec![stateless(3, |_| {})], limit_for(3 * each) - 1).unwrap_err();
    let refused = Fault::from(&refused);
    assert_eq!(refused.code, Code::Budget);
    for word in ["  web/0 ", "  web/1 ", "  web/2 ", "sum"] {
        assert!(refused.message.contains(word), "{word} is not in {}", refused.message);
    }
    let tree = Tree::try_start(vec![stateless(3, |_| {})], limit_for(3 * each)).unwrap();
    let bill = tree.root.bill();
    assert_eq!(bill.total_bytes(), 3 * each + bill.traffic_bytes);
    assert_eq!(tree.view("web").budget_bytes, 3 * (4 << 20));
    let many = stateless(u32::try_from(DAEMONS_MAX).unwrap(), |_| {});
    let other = plan("other", &deployed("counter"), |_| {});
    let refused = Tree::try_start(vec![other, many], usize::MAX).unwrap_err();
    assert_eq!(Fault::from(&refused).code, Code::Name);
}

/// A root whose stateless daemon is busy, with requests that wait; it is stopped.
fn busy_and_stopped() {
    let counter = plan("counter", &deployed("counter"), |_| {});
    let mut tree = Tree::start_quietly(vec![stateless(4, |_| {}), counter]);
    let sent = Sending::new();
    sent.spin(&tree, 4);
    for _ in 0..10 {
        sent.submit(&tree, balances());
    }
    tree.root.refuse_requests();
    assert_eq!(tree.code("web", "balances", json!({})), "E_STOPPING");
    assert_eq!(tree.root.daemons_left().iter().filter(|name| name.starts_with("web/")).count(), 4);
    sent.expect_none();
    tree.root.cancel_all();
    tree.root.stop();
    let expected = [("balances", "E_STOPPING", 10), ("die", "E_CANCELLED", 4)];
    assert_eq!(sent.take(14), seen(expected));
    assert_eq!(tree.view("web").report.state, DaemonState::Stopped);
}

#[test]
fn s2_26_s0_17_a_stop_with_all_instances_busy_answers_everybody_and_leaves_nothing() {
    in_own_process(
        "host::crew::s2_26_s0_17_a_stop_with_all_instances_busy_answers_everybody_and_leaves_nothing",
        || {
            let (before, after) = Holdings::around(busy_and_stopped);
            assert_eq!((after.threads, after.descriptors), (before.threads, before.descriptors));
        },
    );
}

#[test]
fn a_start_that_fails_at_one_daemon_leaves_no_thread_of_the_others() {
    in_own_process(
        "host::crew::a_start_that_fails_at_one_daemon_leaves_no_thread_of_the_others",
        || {
            let fails = |plan: DaemonPlan| {
                let mut plan = plan;
                plan.options.parameters = json!({"refuse_init": true});
                plan
            };
            let named = |name: &str| plan(name, &deployed("chaos"), |_| {});
            drop(Tree::start_quietly(vec![named("warm")]));
            let before = Holdings::now().threads;
            for plans in [
                vec![named("a"), fails(named("b")), named("c"), stateless(3, |_| {})],
                vec![named("a"), fails(stateless(3, |_| {})), named("c")],
                vec![stateless(3, |_| {}), named("a"), fails(named("b")), named("c")],
            ] {
                let refused = Tree::try_start(plans, usize::MAX).unwrap_err();
                assert_eq!(Fault::from(&refused).code, Code::Init);
                until("all threads end", || Holdings::now().threads == before);
            }
        },
    );
}

#[test]
fn s0_17_requests_of_many_clients_are_each_answered_once_whatever_dies() {
    const CLIENTS: usize = 8;
    let each = usize::try_from(setting("BULKHEAD_CREW_REQUESTS", 10_000)).unwrap() / CLIENTS;
    let policy = Policy::new(Restart::Permanent)
        .with_intensity(Intensity::new(1000, MINUTE).unwrap())
        .with_backoff(None);
    let web = stateless(4, |options| {
        options.verify = false;
        options.share = "1.0".parse().unwrap();
        options.restarts = policy;
    });
    let (tree, (reply, answers)) = (Tree::start_quietly(vec![web]), channel());
    let outcomes: Vec<BTreeMap<String, usize>> = std::thread::scope(|scope| {
        let tree = &tree;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let reply = reply.clone();
                scope.spawn(move || {
                    let mut codes = BTreeMap::new();
                    for n in 0..each {
                        let text = format!("{client}/{n}");
                        let (contract, args) = match n % 50 {
                            13 => ("die", json!({"how": "panic"})),
                            _ => ("echo", json!({ "text": text })),
                        };
                        let reply = reply.clone();
                        let sent = text.clone();
                        let (own, answer) = channel();
                        tree.root.submit(
                            request("web", contract, args),
                            Box::new(move |answer| {
                                reply.send(sent).unwrap();
                                own.send(answer).unwrap();
                            }),
                        );
                        let answer = answer.recv_timeout(MINUTE).unwrap();
                        let echoed = answer.value().is_none_or(|value| value == text);
                        assert!(echoed, "{answer:?}");
                        *codes.entry(code(&answer)).or_default() += 1;
                    }
                    codes
                })
            })
            .collect();
        for death in 0..20 {
            tree.root.let_thread_die(&format!("web/{}", death % 4), 0).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let total = |code: &str| outcomes.iter().filter_map(|codes| codes.get(code)).sum::<usize>();
    let crashes = CLIENTS * (0..each).filter(|n| n % 50 == 13).count();
    assert_eq!(total("E_TRAP_UNREACHABLE"), crashes);
    assert_eq!(total(""), CLIENTS * each - crashes, "{outcomes:?}");
    drop(reply);
    let answered: Vec<String> = answers.try_iter().collect();
    let once: BTreeSet<&String> = answered.iter().collect();
    assert_eq!((answered.len(), once.len()), (CLIENTS * each, CLIENTS * each));
    let report = tree.view("web").report;
    assert_eq!((report.read, report.crashed), (total("") as u64, crashes as u64));
    let ran = tree.view("web").instances;
    assert!(ran.iter().all(|instance| instance.report.read > 0), "one did nothing");
}

#[test]
fn s4_29_s0_17_kill_bits_hold_for_the_daemon_as_a_whole() {
    let (tree, sent) = (Tree::start_quietly(vec![stateless(3, |_| {})]), Sending::new());
    let ids = sent.spin(&tree, 2);
    // What runs goes on, and is named.
    let paused = tree.root.pause("web", false).unwrap();
    assert_eq!((paused.left.len(), paused.stopped.len()), (2, 0));
    assert_eq!(paused.left, ids);
    for _ in 0..5 {
        sent.submit(&tree, balances());
    }
    until("held", || tree.view("web").held == 5);
    sent.expect_none();
    assert_eq!(tree.root.resume("web").unwrap().held, 5);
    assert_eq!(sent.take(5), seen([("balances", "", 5)]));
    assert_eq!(running(&tree), ids);
    let cancelled = tree.root.pause("web", true).unwrap();
    assert_eq!((cancelled.left.len(), cancelled.stopped.len()), (0, 2));
    assert_eq!(sent.take(2), seen([("die", "E_CANCELLED", 2)]));
}

#[test]
fn s4_29_s0_17_a_disabled_contract_ends_at_all_instances_and_no_other_does() {
    let (tree, sent) = (Tree::start_quietly(vec![stateless(3, |_| {})]), Sending::new());
    sent.spin(&tree, 3);
    sent.submit(&tree, request("web", "die", json!({"how": "panic"})));
    sent.submit(&tree, balances());
    let off = tree.root.disable("web", Some("die"), true).unwrap();
    assert!(off.stopped.iter().all(|stopped| stopped.end == Some("E_CANCELLED")), "{off:?}");
    assert_eq!((off.stopped.len(), off.left.len()), (3, 0));
    assert_eq!(sent.take(4), seen([("balances", "", 1), ("die", "E_CANCELLED", 3)]));
    until("held", || tree.view("web").held == 1);
    assert_eq!(tree.code("web", "die", json!({"how": "spin"})), "E_DISABLED");
    assert_eq!(tree.root.enable("web", Some("die")).unwrap().held, 1);
    assert_eq!(sent.take(1), seen([("die", "E_TRAP_UNREACHABLE", 1)]));
    // An instance is no daemon that one could ask or switch.
    let refused = tree.call("web/0", "balances", json!({}));
    assert_eq!(code(&refused), "E_DAEMON_UNKNOWN");
    assert_eq!(tree.root.pause("web/0", false).unwrap_err().code, Code::DaemonUnknown);
}

#[test]
fn r9_s0_17_requests_go_to_the_instances_that_are_left_and_are_refused_when_none_is() {
    let strict = Policy::new(Restart::Permanent)
        .with_intensity(Intensity::new(1, MINUTE).unwrap())
        .with_backoff(None)
        .with_exhausted(Exhausted::Park);
    let web = stateless(3, |options| options.restarts = strict);
    let (tree, sent) = (Tree::start_quietly(vec![web]), Sending::new());
    let parked = |index: usize| instance(&tree, index).report.state == DaemonState::Parked;
    for index in [0, 2] {
        tree.root.let_thread_die(&format!("web/{index}"), 1).unwrap();
        until("given up", || parked(index));
    }
    for _ in 0..20 {
        assert_eq!(tree.committed("web", "balances", json!({})), json!([1000, 1000]));
    }
    assert_eq!(tree.view("web").report.state, DaemonState::Ready);
    // One that loses its thread to a bug is answered; those that wait behind it are refused.
    sent.spin(&tree, 1);
    sent.submit(&tree, balances());
    let busy = (0..3).find(|&index| !parked(index)).unwrap();
    tree.root.let_thread_die(&format!("web/{busy}"), 1).unwrap();
    sent.expect_none();
    tree.root.cancel("web").unwrap();
    let answers = sent.take(2);
    until("given up", || parked(busy));
    assert_eq!(answers[&("die".to_owned(), "E_CANCELLED".to_owned())], 1, "{answers:?}");
    assert_eq!(tree.code("web", "balances", json!({})), "E_PARKED");
    assert_eq!(tree.view("web").report.state, DaemonState::Parked);
    assert!(tree.root.resume("web").unwrap().was_parked);
    assert_eq!(tree.committed("web", "balances", json!({})), json!([1000, 1000]));
    assert!((0..3).all(|index| !parked(index)));
}

#[test]
fn s0_17_a_parked_guest_takes_no_request_from_those_that_run() {
    let (tree, sent) = (Tree::start_quietly(vec![stateless(2, |_| {})]), Sending::new());
    let is = |index: usize, state| instance(&tree, index).report.state == state;
    let print = || request("web", "print", json!({"text": "x"}));
    let park = |index: usize| {
        // Two bugs of the host in a row park a guest.
        for _ in 0..2 {
            tree.root.panic_in_next_host_call(&format!("web/{index}")).unwrap();
            assert_eq!(code(&tree.root.call(print()).unwrap()), "E_HOST_BUG");
        }
        assert!(is(index, DaemonState::Parked));
    };
    let id = sent.spin(&tree, 1)[0];
    let idle = usize::from(is(0, DaemonState::Running));
    // Not in a row.
    tree.root.panic_in_next_host_call(&format!("web/{idle}")).unwrap();
    assert_eq!(code(&tree.root.call(print()).unwrap()), "E_HOST_BUG");
    assert_eq!(code(&tree.root.call(print()).unwrap()), "");
    park(idle);
    sent.submit(&tree, print());
    sent.submit(&tree, balances());
    sent.expect_none();
    tree.root.kill(id).unwrap();
    let expected = [("balances", "", 1), ("die", "E_CANCELLED", 1), ("print", "", 1)];
    assert_eq!(sent.take(3), seen(expected));
    assert_eq!(tree.view("web").report.state, DaemonState::Ready);
    park(1 - idle);
    for _ in 0..3 {
        assert_eq!(code(&tree.root.call(print()).unwrap()), "E_PARKED");
    }
    assert_eq!(tree.view("web").report.state, DaemonState::Parked);
    assert!(tree.root.resume("web").unwrap().was_parked);
    assert_eq!(sent.spin(&tree, 2).len(), 2, "both take requests again");
}

#[test]
fn what_needs_a_state_is_refused_at_a_stateless_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let counter = plan("counter", &deployed("counter"), |_| {});
    let tree = Tree::durable(vec![stateless(2, |_| {}), counter], store(dir.path()));
    assert_eq!(tree.committed("counter", "increment", json!({"by": 1})), 1);
    assert_eq!(tree.committed("web", "touch", json!({"pages": 1})), 1);
    assert!(tree.root.unsynced().is_empty());
    let root = &tree.root;
    let never = |_: &[u8]| -> Result<_, Fault> { panic!("nothing is deployed") };
    let guest = || tests::deploy(&rebuilt("chaos", 1)).unwrap();
    for name in ["web", "web/1"] {
        for (what, refused) in [
            ("commits", root.commits(name, 1).map(drop)),
            ("snapshot", root.snapshot(name, None).map(drop)),
            ("fork", root.fork(name, "copy", None, &never).map(drop)),
            ("revert", root.revert(name, RevertTo::Last(1)).map(drop)),
            ("upgrade", root.upgrade(name, guest(), REAL).map(drop)),
            ("crashes", root.crashes(name, 1).map(drop)),
        ] {
            assert_eq!(refused.unwrap_err().code, Code::Stateless, "{what} of {name}");
        }
    }
    for refused in [
        root.output("web").map(drop),
        root.remove("web"),
        root.simulate_crash("web").map(drop),
        root.simulate_thread_death("web").map(drop),
    ] {
        assert_eq!(refused.unwrap_err().code, Code::Stateless);
    }
    assert!(root.simulate_crash("web/1").is_ok(), "a drill has an instance");
    let keyed = Request { key: Some("once".to_owned()), ..balances() };
    assert_eq!(code(&root.call(keyed).unwrap()), "E_STATELESS");
    let restored = DaemonOptions::new("web", 4 << 20);
    let (_, snapshot) = root.snapshot("counter", None).unwrap();
    let same = |_: &[u8]| Ok(deployed("counter"));
    let refused = root.restore(&snapshot, restored, &same).unwrap_err();
    assert_eq!(refused.code, Code::DaemonExists);
    let unknown = tree.call("wep", "balances", json!({})).to_json()["error"]["message"].to_string();
    assert!(unknown.contains("there are counter, web\""), "{unknown}");
    drop(tree);
    // Nothing of it is in the data directory.
    let names = store(dir.path()).daemons().into_iter().map(|(name, _)| name);
    assert_eq!(names.collect::<Vec<_>>(), vec!["counter"]);
}
