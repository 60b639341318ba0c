//! Exhaustive interruption: a mixed workload, each of its transactions with fuel 1, 2, 3 ... until
//! it gets through. The cheapest proof of atomicity that there is.
//!
//! Every start of a loop and every function entry is a place where fuel can end. Wherever it ends,
//! the committed state must be what it was, byte for byte, and the live one equal to it.
//!
//! `BULKHEAD_FUEL_SWEEP_STEPS` bounds the steps of one transaction (0: none). The default sweeps
//! all of each short transaction, and of a long one the beginning and the end.

use host::base::error::Code;
use host::mechanisms::sandbox::Limits;
use host::pure::request::Outcome;
use serde_json::{Value, json};
use tests::{Rig, RigOptions, deployed, setting};

/// More than any transaction of the workloads needs.
const PLENTY: u64 = 100_000_000;

/// What a transaction needed, and how many steps of the sweep it took.
#[derive(Debug)]
struct Swept {
    contract: &'static str,
    needed: u64,
    steps: u64,
    /// Steps that were interrupted after they had changed something.
    interrupted_changes: u64,
}

/// A daemon that is swept, and a twin that ran the same transactions without interruption.
struct Sweep {
    rig: Rig,
    twin: Rig,
    probe: (&'static str, Value),
    steps_max: u64,
}

impl Sweep {
    fn new(name: &str, probe: (&'static str, Value), steps_max: u64) -> Self {
        let start = || {
            let options = RigOptions { fuel: PLENTY, ..RigOptions::default() };
            Rig::start(&deployed(name), options)
        };
        let (rig, twin) = (start(), start());
        assert_eq!(rig.daemon.images().committed(), twin.daemon.images().committed());
        Self { rig, twin, probe, steps_max }
    }

    fn step(&mut self, contract: &'static str, args: &Value) -> Swept {
        let before = self.rig.daemon.images().committed().to_vec();
        let (hash, sequence) = (self.rig.hash(), self.rig.daemon.sequence());
        let answer_before = self.twin.committed(self.probe.0, self.probe.1.clone());
        let fuel_before = self.twin.daemon.gauges().report().fuel;
        let expected = self.twin.call(contract, args.clone());
        let needed = self.twin.daemon.gauges().report().fuel - fuel_before;
        let mut swept = Swept { contract, needed, steps: 0, interrupted_changes: 0 };
        let bound = self.rig.bind(contract, args);
        for fuel in self.amounts(needed) {
            swept.steps += 1;
            self.set_fuel(fuel);
            let outcome = self.rig.transact(&bound).outcome;
            self.set_fuel(PLENTY);
            let Outcome::Crashed(crash) = outcome else {
                // Fuel is looked at where functions and loops begin: the last stretch is free.
                assert!(fuel + 1000 > needed, "{contract} got through with {fuel} of {needed}");
                assert_eq!(outcome, expected);
                self.assert_like_twin();
                return swept;
            };
            assert_eq!(crash.code, Code::Fuel, "{crash:?}");
            swept.interrupted_changes += u64::from(crash.cards_changed > 0);
            assert_eq!(self.rig.daemon.sequence(), sequence);
            assert!(self.rig.daemon.images().committed() == before, "{contract} with {fuel}");
            if swept.steps.is_multiple_of(1024) {
                assert_eq!(self.rig.daemon.images().committed_hash().to_hex().as_str(), hash);
                assert_eq!(self.rig.daemon.images().live_hash().to_hex().as_str(), hash);
            }
            let answer = self.rig.committed(self.probe.0, self.probe.1.clone());
            assert_eq!(answer, answer_before, "after {contract} with {fuel}");
        }
        panic!("{contract} needs {needed}, and did not get through with more");
    }

    /// Every amount up to what is needed and a little more; the ends of it when that is too much.
    fn amounts(&self, needed: u64) -> impl Iterator<Item = u64> + use<> {
        let end = needed + 10;
        let half = if end > self.steps_max { self.steps_max / 2 } else { end };
        (1..=half).chain((half + 1).max(end - half.min(end))..=end)
    }

    fn set_fuel(&mut self, fuel: u64) {
        let deadline = self.rig.daemon.options().limits.deadline;
        self.rig.daemon.set_limits(Limits { fuel, deadline });
    }

    fn assert_like_twin(&mut self) {
        assert_eq!(self.rig.daemon.sequence(), self.twin.daemon.sequence());
        assert!(self.rig.daemon.images().committed() == self.twin.daemon.images().committed());
        assert_eq!(self.rig.hash(), self.twin.hash());
        self.rig.assert_whole();
    }
}

fn sweep(name: &str, probe: (&'static str, Value), workload: &[(&'static str, Value)]) {
    let steps_max = match setting("BULKHEAD_FUEL_SWEEP_STEPS", 8000) {
        0 => u64::MAX,
        steps => steps,
    };
    let mut sweep = Sweep::new(name, probe, steps_max);
    let mut interrupted_changes = 0;
    for (contract, args) in workload {
        let swept = sweep.step(contract, args);
        let Swept { contract, needed, steps, .. } = swept;
        eprintln!("{name}: {contract} needs {needed}, {steps} steps");
        interrupted_changes += swept.interrupted_changes;
    }
    assert!(interrupted_changes > 1000, "{interrupted_changes}: the sweep hardly hit a change");
}

#[test]
fn c3_s4_08_a_ledger_is_whole_wherever_its_fuel_ends() {
    let deposit =
        |account: &str, amount: u64| ("deposit", json!({"account": account, "amount": amount}));
    let transfer =
        |amount: u64| ("transfer", json!({"from": "ann", "to": "bob", "amount": amount}));
    let workload = [
        deposit("ann", 100),
        deposit("bob", 1),
        transfer(30),
        transfer(1000),
        ("balance", json!({"account": "ann"})),
    ];
    sweep("ledger", ("total", json!({})), &workload);
}

#[test]
fn c3_s4_08_a_bank_is_whole_wherever_its_fuel_ends() {
    let workload = [
        ("load", json!({"customers": 20})),
        ("send_payment", json!({"from": 3, "to": 4, "amount": 500})),
        ("amalgamate", json!({"from": 3, "to": 5})),
        ("write_check", json!({"customer": 3, "amount": 500})),
        ("send_payment", json!({"from": 3, "to": 4, "amount": 1})),
    ];
    sweep("smallbank", ("total", json!({})), &workload);
}

#[test]
fn c3_s4_08_growth_printing_and_large_arguments_are_whole_wherever_fuel_ends() {
    let workload = [
        ("touch", json!({"pages": 20})),
        ("print", json!({"text": "one\ntwo"})),
        ("echo", json!({"text": "x".repeat(10_000)})),
        ("hold", json!({"mib": 1})),
        ("touch", json!({"pages": 2})),
    ];
    sweep("chaos", ("state", json!({})), &workload);
}
