//! Random requests to several daemons, against a plain Rust model of each.
//!
//! The models know the guests' logic, and what the host promises of sequence numbers, generations,
//! attempts, keys and policies after a crash. `PROPTEST_CASES` makes it longer.

mod lineage;
mod models;

use host::base::error::Code;
use host::mechanisms::sandbox::Limits;
use host::pure::json::from_message_pack;
use host::pure::policy::OnCrash;
use host::pure::request::Outcome;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tests::{Rig, RigOptions, deployed};

use models::{Call, Expected, Model, State};

/// More than any call takes, but for those that never end.
const FUEL: u64 = 20_000_000;
/// Less than any call takes.
const STARVED: u64 = 100;

/// One step of a run.
#[derive(Clone, Debug)]
struct Step {
    call: Call,
    key: Option<u8>,
    /// Runs it without the fuel that it needs.
    starved: bool,
}

/// How the daemons of a run are set up.
#[derive(Clone, Debug)]
struct Setup {
    on_crash: OnCrash,
    retries_max: u32,
    parameters: Value,
}

fn setups() -> impl Strategy<Value = Setup> {
    let policies = prop_oneof![Just(OnCrash::Checkpoint), Just(OnCrash::Zero), Just(OnCrash::Ask)];
    let parameters = prop_oneof![
        Just(json!({})),
        Just(json!({"recovery": "zero"})),
        Just(json!({"recovery": "park"})),
        Just(json!({"refuse_recover": true})),
        Just(json!({"die_in_recover": "half_moved"})),
        Just(json!({"die_in_recover": "allocate"})),
    ];
    (policies, 0..4_u32, parameters).prop_map(|(on_crash, retries_max, parameters)| Setup {
        on_crash,
        retries_max,
        parameters,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (models::calls(), proptest::option::weighted(0.2, 0..4_u8), 0..10_u8)
        .prop_map(|(call, key, starved)| Step { call, key, starved: starved == 0 });
    proptest::collection::vec(step, 1..60)
}

/// A daemon and its model.
struct Pair {
    rig: Rig,
    model: Model,
    first_hash: String,
}

impl Pair {
    fn start(name: &str, state: State, setup: &Setup) -> Self {
        let parameters = if name == "chaos" { setup.parameters.clone() } else { json!({}) };
        let mut rig = Rig::start(
            &deployed(name),
            RigOptions {
                fuel: FUEL,
                parameters: parameters.clone(),
                retries_max: setup.retries_max,
                on_crash: setup.on_crash,
                ..RigOptions::default()
            },
        );
        let on_crash =
            if name == "chaos" { setup.on_crash } else { models::without_recover(setup.on_crash) };
        let model = Model::new(state, on_crash, setup.retries_max, &parameters);
        let first_hash = rig.hash();
        Self { rig, model, first_hash }
    }

    fn real_hash(&self) -> String {
        self.rig.daemon.images().committed_hash().to_hex().to_string()
    }

    fn step(&mut self, step: &Step) {
        if step.call == Call::Resume {
            self.rig.daemon.resume().unwrap();
            self.model.resume();
            return self.compare_numbers(false);
        }
        let (contract, args) = step.call.request();
        let mut bound = self.rig.bind(contract, &args);
        bound.key = step.key.map(|key| format!("key {key}").into());
        let fuel = if step.starved { STARVED } else { FUEL };
        let deadline = self.rig.daemon.options().limits.deadline;
        self.rig.daemon.set_limits(Limits { fuel, deadline });
        let hash_before = self.real_hash();
        let transacted = self.rig.transact(&bound);

        let no_room = matches!(&transacted.outcome, Outcome::Rejected(r) if r.code == "no_room");
        let expected = if no_room {
            assert!(matches!(step.call, Call::Hold(_)), "{step:?}: {transacted:?}");
            Expected::rejected("no_room", 1)
        } else {
            self.model.run(&step.call, step.key, step.starved)
        };
        assert_eq!(transacted.attempts, expected.attempts, "{step:?}: {transacted:?}");
        match (&transacted.outcome, &expected.value) {
            (Outcome::Committed(value), Ok(expected)) => {
                assert_eq!(from_message_pack(value).as_ref(), Ok(expected), "{step:?}");
            }
            (Outcome::Rejected(rejection), Err(code)) => {
                assert_eq!(&rejection.code, code, "{step:?}")
            }
            (Outcome::Crashed(crash), Err(code)) => {
                assert_eq!(crash.code.as_str(), code, "{step:?}");
                assert_eq!(crash.poison, expected.poison, "{step:?}");
            }
            other => panic!("{step:?}: {other:?}"),
        }
        assert_eq!(
            transacted.sequence.0,
            expected.sequence.unwrap_or(self.model.sequence),
            "{step:?}"
        );
        // What leaves an instance with grown memory replaces it.
        let quiet = !matches!(transacted.outcome, Outcome::Crashed(_));
        self.compare_numbers(quiet);
        if self.model.unchanged {
            assert_eq!(self.real_hash(), hash_before, "{step:?} changed the state");
        }
        if self.model.started_over {
            assert_eq!(self.real_hash(), self.first_hash, "{step:?} did not start over");
        }
    }

    fn compare_numbers(&mut self, may_replace: bool) {
        let daemon = &self.rig.daemon;
        assert_eq!(daemon.sequence().0, self.model.sequence);
        assert_eq!(daemon.parked().is_some(), self.model.parked);
        let generation = daemon.generation().0;
        if may_replace && generation == self.model.generation + 1 {
            self.model.generation = generation;
        }
        assert_eq!(generation, self.model.generation);
        self.rig.assert_whole();
    }

    /// Asks the guest for everything it knows.
    fn compare_state(&mut self) {
        if self.model.parked {
            return;
        }
        let deadline = self.rig.daemon.options().limits.deadline;
        self.rig.daemon.set_limits(Limits { fuel: FUEL, deadline });
        for (call, expected) in self.model.state.everything() {
            let (contract, args) = call.request();
            assert_eq!(self.rig.committed(contract, args), expected, "{call:?}");
        }
        self.model.generation = self.rig.daemon.generation().0;
    }
}

fn run(setup: &Setup, steps: &[Step]) {
    let mut pairs = [
        Pair::start("counter", State::counter(), setup),
        Pair::start("ledger", State::ledger(), setup),
        Pair::start("chaos", State::chaos(), setup),
    ];
    for step in steps {
        let target = step.call.daemon();
        let others: Vec<_> = (0..3).filter(|&n| n != target).collect();
        let before: Vec<_> = others.iter().map(|&n| pairs[n].rig.daemon.generation()).collect();
        pairs[target].step(step);
        let after: Vec<_> = others.iter().map(|&n| pairs[n].rig.daemon.generation()).collect();
        assert_eq!(before, after, "{step:?} reached another daemon");
    }
    for pair in &mut pairs {
        pair.compare_state();
    }
}

#[test]
fn s4_02_s4_04_s4_08_s4_18_daemons_are_what_their_models_are() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = if std::env::var("PROPTEST_CASES").is_ok() { config.cases } else { 150 };
    let mut runner = TestRunner::new(Config { cases, ..config });
    runner
        .run(&(setups(), steps()), |(setup, steps)| {
            run(&setup, &steps);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn ten_thousand_calls_of_one_daemon_are_what_the_model_says() {
    let mut pair = Pair::start(
        "counter",
        State::counter(),
        &Setup { on_crash: OnCrash::Checkpoint, retries_max: 1, parameters: json!({}) },
    );
    let mut runner = TestRunner::deterministic();
    let amounts = any::<u32>();
    for n in 0..10_000_u32 {
        let by = u64::from(proptest::strategy::ValueTree::current(
            &amounts.new_tree(&mut runner).unwrap(),
        ));
        let starved = n.is_multiple_of(7);
        pair.step(&Step { call: Call::Increment(by), key: None, starved });
    }
    pair.compare_state();
    assert_eq!(pair.rig.daemon.gauges().report().crashed, 1429);
    assert_eq!(Code::Fuel.as_str(), "E_FUEL");
}
