//! Kill bits: what a person switches off is refused, held or ended, and nothing else is.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use host::base::error::Code;
use host::base::ids::RequestId;
use host::base::limits::MAILBOX_REQUESTS_MAX;
use host::pure::kill_bits::{Arrived, Line};
use host::pure::request::Answer;
use host::tree::DaemonPlan;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tests::{REAL, Tree, deploy, deployed, plan, rebuilt, request, setting, until};

/// A daemon that `die(spin)` keeps busy until it is cancelled.
fn spinner() -> DaemonPlan {
    plan("spinner", &deployed("chaos"), |options| {
        options.limits.fuel = u64::MAX / 2;
        options.limits.deadline = Duration::from_secs(600);
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

    fn submit(&self, tree: &Tree, daemon: &str, contract: &str, args: Value) {
        let reply = self.reply.clone();
        let answer = Box::new(move |answer| drop(reply.send(answer)));
        tree.root.submit(request(daemon, contract, args), answer);
    }

    fn spin(&self, tree: &Tree) -> RequestId {
        self.submit(tree, "spinner", "die", json!({"how": "spin"}));
        running(tree)
    }

    /// The next answer: contract and code, which is empty when it was committed.
    fn next(&self) -> (String, String) {
        let answer = self.answers.recv_timeout(Duration::from_secs(60)).unwrap();
        let code = answer.to_json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        (answer.contract, code)
    }

    fn expect(&self, contract: &str, code: &str) {
        assert_eq!(self.next(), (contract.to_owned(), code.to_owned()));
    }

    fn expect_none(&self) {
        assert!(self.answers.try_recv().is_err(), "somebody was answered");
    }
}

/// The request that spins, as soon as it does.
fn running(tree: &Tree) -> RequestId {
    let spins = || tree.view("spinner").report.running;
    until("runs", || spins().is_some());
    RequestId(spins().unwrap().0)
}

fn held(tree: &Tree, count: usize) {
    until("held", || tree.view("spinner").held == count);
}

#[test]
fn s4_29_a_disabled_contract_refuses_new_cancels_running_and_holds_queued() {
    let (tree, sent) = (Tree::start_quietly(vec![spinner()]), Sending::new());
    let id = sent.spin(&tree);
    sent.submit(&tree, "spinner", "die", json!({"how": "panic"}));
    sent.submit(&tree, "spinner", "touch", json!({"pages": 1}));
    let mut off = tree.root.disable("spinner", Some("die"), true).unwrap();
    let stopped = off.stopped.remove(0);
    assert_eq!((stopped.request, stopped.contract.as_str()), (id, "die"));
    assert_eq!(stopped.end, Some("E_CANCELLED"));
    assert!(stopped.took < Duration::from_secs(2), "{stopped:?}");
    // Running: cancelled. Queued: held, and what came after it passes. New: refused.
    sent.expect("die", "E_CANCELLED");
    sent.expect("touch", "");
    held(&tree, 1);
    assert_eq!(tree.code("spinner", "die", json!({"how": "panic"})), "E_DISABLED");
    assert_eq!(tree.code("spinner", "balances", json!({})), "");
    sent.expect_none();
    let on = tree.root.enable("spinner", Some("die")).unwrap();
    assert_eq!((on.held, on.bits.contracts), (1, BTreeSet::new()));
    sent.expect("die", "E_TRAP_UNREACHABLE");
    held(&tree, 0);
}

#[test]
fn s4_29_a_disabled_daemon_lets_what_runs_go_on_unless_told_otherwise() {
    let other = plan("other", &deployed("counter"), |_| {});
    let (tree, sent) = (Tree::start_quietly(vec![spinner(), other]), Sending::new());
    let id = sent.spin(&tree);
    sent.submit(&tree, "spinner", "balances", json!({}));
    let off = tree.root.disable("spinner", None, false).unwrap();
    assert_eq!((off.stopped, off.left), (vec![], vec![id]));
    for contract in ["balances", "die", "no such contract"] {
        assert_eq!(tree.code("spinner", contract, json!({})), "E_DISABLED");
    }
    assert_eq!(tree.committed("other", "increment", json!({"by": 1})), 1);
    assert_eq!(running(&tree), id, "it goes on");
    let again = tree.root.disable("spinner", None, true).unwrap();
    assert_eq!(again.stopped[0].request, id);
    sent.expect("die", "E_CANCELLED");
    held(&tree, 1);
    sent.expect_none();
    assert!(tree.root.enable("spinner", None).unwrap().bits.words().is_none());
    sent.expect("balances", "");
}

#[test]
fn s4_29_a_paused_daemon_takes_requests_and_runs_them_in_order_when_it_is_resumed() {
    let (tree, sent) = (Tree::start_quietly(vec![spinner()]), Sending::new());
    let paused = tree.root.pause("spinner", true).unwrap();
    assert_eq!((paused.stopped, paused.held), (vec![], 0));
    for pages in 0..5 {
        sent.submit(&tree, "spinner", "touch", json!({"pages": pages}));
        sent.submit(&tree, "spinner", "balances", json!({}));
    }
    held(&tree, 10);
    // What isn't a request passes those that are held.
    assert!(!tree.hash("spinner").is_empty());
    assert_eq!(tree.root.simulate_crash("spinner").unwrap().generation.0, 2);
    tree.root.upgrade("spinner", deploy(&rebuilt("chaos", 1)).unwrap(), REAL).unwrap();
    sent.expect_none();
    let resumed = tree.root.resume("spinner").unwrap();
    assert_eq!((resumed.held, resumed.was_parked), (10, false));
    for _ in 0..5 {
        sent.expect("touch", "");
        sent.expect("balances", "");
    }
    assert_eq!(tree.view("spinner").report.crashed, 0);
}

#[test]
fn s4_29_a_contracts_bit_outlives_an_upgrade() {
    let (tree, sent) = (Tree::start_quietly(vec![spinner()]), Sending::new());
    sent.spin(&tree);
    sent.submit(&tree, "spinner", "touch", json!({"pages": 1}));
    drop(tree.root.disable("spinner", Some("touch"), true).unwrap());
    drop(tree.root.kill(running(&tree)).unwrap());
    sent.expect("die", "E_CANCELLED");
    tree.root.upgrade("spinner", deploy(&rebuilt("chaos", 2)).unwrap(), REAL).unwrap();
    assert_eq!(tree.code("spinner", "touch", json!({"pages": 1})), "E_DISABLED");
    sent.expect_none();
    drop(tree.root.enable("spinner", Some("touch")).unwrap());
    sent.expect("touch", "");
}

#[test]
fn s4_29_a_kill_hits_its_transaction_and_never_the_next_one() {
    let (tree, sent) = (Tree::start_quietly(vec![spinner()]), Sending::new());
    let mut past: Option<RequestId> = None;
    for _ in 0..50 {
        let id = sent.spin(&tree);
        sent.submit(&tree, "spinner", "touch", json!({"pages": 1}));
        if let Some(past) = past {
            let fault = tree.root.kill(past).unwrap_err();
            assert_eq!(fault.code, Code::NoTransaction, "{fault}");
        }
        let (daemon, stopped) = tree.root.kill(id).unwrap();
        assert_eq!((daemon.as_str(), stopped.request), ("spinner", id));
        assert_eq!(stopped.end, Some("E_CANCELLED"));
        sent.expect("die", "E_CANCELLED");
        sent.expect("touch", "");
        past = Some(id);
    }
    let report = tree.view("spinner").report;
    assert_eq!((report.crashed, report.committed), (50, 50));
    // Two at once: both hear of the same end.
    let id = sent.spin(&tree);
    let kill = || tree.root.kill(id).map(|(_, stopped)| stopped.end);
    let ends = std::thread::scope(|scope| {
        let kills = [scope.spawn(kill), scope.spawn(kill)];
        kills.map(|kill| kill.join().unwrap())
    });
    assert!(ends.contains(&Ok(Some("E_CANCELLED"))), "{ends:?}");
    for end in ends.into_iter().filter_map(Result::err) {
        assert_eq!(end.code, Code::NoTransaction);
    }
}

#[test]
fn s4_29_with_a_full_mailbox_everything_can_still_be_switched() {
    let (tree, sent) = (Tree::start_quietly(vec![spinner()]), Sending::new());
    let id = sent.spin(&tree);
    for _ in 0..MAILBOX_REQUESTS_MAX {
        sent.submit(&tree, "spinner", "balances", json!({}));
    }
    sent.submit(&tree, "spinner", "state", json!({}));
    sent.expect("state", "E_QUEUE_FULL");
    drop(tree.root.disable("spinner", Some("state"), false).unwrap());
    sent.submit(&tree, "spinner", "state", json!({}));
    sent.expect("state", "E_DISABLED");
    drop(tree.root.enable("spinner", Some("state")).unwrap());
    drop(tree.root.pause("spinner", false).unwrap());
    let (_, stopped) = tree.root.kill(id).unwrap();
    assert_eq!(stopped.end, Some("E_CANCELLED"));
    sent.expect("die", "E_CANCELLED");
    held(&tree, MAILBOX_REQUESTS_MAX);
    sent.submit(&tree, "spinner", "state", json!({}));
    sent.expect("state", "E_QUEUE_FULL");
    assert_eq!(tree.root.resume("spinner").unwrap().held, MAILBOX_REQUESTS_MAX);
    for _ in 0..MAILBOX_REQUESTS_MAX {
        sent.expect("balances", "");
    }
    sent.expect_none();
}

#[test]
fn s4_29_a_stop_refuses_what_is_held() {
    let (mut tree, sent) = (Tree::start_quietly(vec![spinner()]), Sending::new());
    drop(tree.root.pause("spinner", false).unwrap());
    for _ in 0..3 {
        sent.submit(&tree, "spinner", "balances", json!({}));
    }
    held(&tree, 3);
    tree.root.stop();
    for _ in 0..3 {
        sent.expect("balances", "E_STOPPING");
    }
    assert_eq!(tree.code("spinner", "balances", json!({})), "E_STOPPING");
}

#[test]
fn s4_29_what_is_not_there_cannot_be_switched() {
    let tree = Tree::start_quietly(vec![spinner()]);
    let root = &tree.root;
    for fault in [
        root.disable("nobody", None, false).unwrap_err(),
        root.enable("nobody", Some("die")).unwrap_err(),
        root.pause("nobody", false).unwrap_err(),
        root.resume("nobody").unwrap_err(),
    ] {
        assert_eq!(fault.code, Code::DaemonUnknown);
    }
    let steal = "steal\u{1b}[31m";
    for fault in [
        root.disable("spinner", Some(steal), false).unwrap_err(),
        root.enable("spinner", Some(steal)).unwrap_err(),
    ] {
        assert_eq!(fault.code, Code::ContractUnknown);
        assert!(!fault.message.contains('\u{1b}'), "{fault}");
    }
    assert_eq!(root.kill(RequestId(0)).unwrap_err().code, Code::NoTransaction);
    assert_eq!(tree.view("spinner").bits.words(), None);
}

/// What is done to a daemon or to a line.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request to one of the contracts.
    Send(usize),
    Pause(bool),
    Disable(bool),
    DisableOne(usize, bool),
}

const CONTRACTS: [&str; 3] = ["balances", "state", "touch"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize).prop_map(Step::Send),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => any::<bool>().prop_map(Step::Disable),
        1 => (0..3_usize, any::<bool>()).prop_map(|(one, off)| Step::DisableOne(one, off)),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The bits and the waiting requests, in the plainest way.
#[derive(Default)]
struct Model {
    paused: bool,
    disabled: bool,
    contracts: [bool; 3],
    waiting: Vec<(usize, usize)>,
}

impl Model {
    fn refuses(&self, contract: usize) -> bool {
        self.disabled || self.contracts[contract]
    }

    fn set(&mut self, step: Step) {
        match step {
            Step::Send(_) => {}
            Step::Pause(on) => self.paused = on,
            Step::Disable(on) => self.disabled = on,
            Step::DisableOne(one, on) => self.contracts[one] = on,
        }
    }

    /// What runs now, in order.
    fn run(&mut self) -> Vec<(usize, usize)> {
        let waiting = std::mem::take(&mut self.waiting);
        let (held, run) =
            waiting.into_iter().partition(|&(contract, _)| self.paused || self.refuses(contract));
        self.waiting = held;
        run
    }
}

/// `PROPTEST_CASES` makes it longer.
fn runner(cases: u32) -> TestRunner {
    let cases = u32::try_from(setting("PROPTEST_CASES", cases.into())).unwrap();
    TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) })
}

#[test]
fn s4_29_a_line_loses_nothing_doubles_nothing_and_keeps_each_order() {
    let ran = runner(1000).run(&steps(), |steps| {
        let (mut model, mut line) = (Model::default(), Line::new(8));
        for (number, step) in steps.into_iter().enumerate() {
            model.set(step);
            line.change(|bits| {
                bits.paused = model.paused;
                bits.disabled = model.disabled;
                let off = (0..3).filter(|&one| model.contracts[one]);
                bits.contracts = off.map(|one| CONTRACTS[one].to_owned()).collect();
            });
            // What a change lets go is still there when the next request arrives.
            let Step::Send(contract) = step else { continue };
            let mut came = Vec::new();
            model.waiting.push((contract, number));
            match line.arrive(CONTRACTS[contract], None, (contract, number), false) {
                Arrived::Next(next) => came.push(next),
                Arrived::Held => {}
                Arrived::Full(back) => {
                    assert_eq!((back, line.held()), ((contract, number), 8));
                    model.waiting.truncate(8);
                }
            }
            came.extend(std::iter::from_fn(|| line.next(false)));
            assert_eq!(came, model.run());
            assert_eq!(line.held(), model.waiting.len());
        }
        let refused: Vec<_> = std::iter::from_fn(|| line.next(true)).collect();
        assert_eq!(refused, model.waiting);
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn s4_29_a_daemon_runs_holds_and_refuses_as_its_model_says() {
    let guest = deployed("chaos");
    let ran = runner(32).run(&steps(), |steps| {
        let (mut model, sent) = (Model::default(), Sending::new());
        let tree = Tree::start_quietly(vec![plan("spinner", &guest, |_| {})]);
        let root = &tree.root;
        for (number, step) in steps.into_iter().enumerate() {
            model.set(step);
            match step {
                Step::Send(contract) => {
                    let name = CONTRACTS[contract];
                    let args = if name == "touch" { json!({"pages": 1}) } else { json!({}) };
                    sent.submit(&tree, "spinner", name, args);
                    if model.refuses(contract) {
                        sent.expect(name, "E_DISABLED");
                    } else {
                        model.waiting.push((contract, number));
                    }
                }
                Step::Pause(true) => drop(root.pause("spinner", false).unwrap()),
                Step::Pause(false) => drop(root.resume("spinner").unwrap()),
                Step::Disable(true) => drop(root.disable("spinner", None, false).unwrap()),
                Step::Disable(false) => drop(root.enable("spinner", None).unwrap()),
                Step::DisableOne(one, true) => {
                    drop(root.disable("spinner", Some(CONTRACTS[one]), false).unwrap());
                }
                Step::DisableOne(one, false) => {
                    drop(root.enable("spinner", Some(CONTRACTS[one])).unwrap());
                }
            }
            for (contract, _) in model.run() {
                sent.expect(CONTRACTS[contract], "");
            }
            held(&tree, model.waiting.len());
            sent.expect_none();
        }
        Ok(())
    });
    ran.unwrap();
}
