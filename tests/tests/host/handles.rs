//! Handles are state outside of the memory: whatever a transaction did with them and however it
//! ended, the next one finds them as they were after `prime`, number by number.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use host::base::error::Code;
use host::mechanisms::sandbox::Guest;
use host::pure::json::from_message_pack;
use host::pure::request::Outcome;
use proptest::prelude::*;
use serde_json::{Value, json};
use tests::{Hostile, Rig, RigOptions, bound, deploy};

const COMPONENT: &str = r#"
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $pollable (type $pollable0))
    (export "pollable" (type $pollable (eq $pollable0)))
    (export "output-stream" (type $output (sub resource)))
    (export "input-stream" (type $input (sub resource)))
    (export "[method]output-stream.subscribe"
      (func (param "self" (borrow $output)) (result (own $pollable))))))
  (alias export $streams "output-stream" (type $output))
  (alias export $streams "input-stream" (type $input))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input (type $input0))
    (export "input-stream" (type $input (eq $input0)))
    (export "get-stdin" (func (result (own $input))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $output0))
    (export "output-stream" (type $output (eq $output0)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:cli/stderr@0.2.0" (instance $stderr
    (alias outer 1 $output (type $output0))
    (export "output-stream" (type $output (eq $output0)))
    (export "get-stderr" (func (result (own $output))))))
  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $subscribe (canon lower (func $streams "[method]output-stream.subscribe")))
  (core func $drop-output (canon resource.drop $output))
  (core func $drop-input (canon resource.drop $input))
  (core func $drop-pollable (canon resource.drop $pollable))"#;

const EXTRA: &str = r#"
  (export "get-stdin" (func $get-stdin)) (export "get-stdout" (func $get-stdout))
  (export "get-stderr" (func $get-stderr)) (export "subscribe" (func $subscribe))
  (export "drop-output" (func $drop-output)) (export "drop-input" (func $drop-input))
  (export "drop-pollable" (func $drop-pollable))"#;

const IMPORTS: &str = r#"
  (import "extra" "get-stdin" (func $get-stdin (result i32)))
  (import "extra" "get-stdout" (func $get-stdout (result i32)))
  (import "extra" "get-stderr" (func $get-stderr (result i32)))
  (import "extra" "subscribe" (func $subscribe (param i32) (result i32)))
  (import "extra" "drop-output" (func $drop-output (param i32)))
  (import "extra" "drop-input" (func $drop-input (param i32)))
  (import "extra" "drop-pollable" (func $drop-pollable (param i32)))"#;

/// Runs a script of two bytes a step, which are what to do and a slot. Each slot is a word from
/// 6000 on that keeps a handle; from 8002 on stands each handle that was given out, as a character.
const INTERPRET: &str = r#"
  (func $noted (param $slot i32) (param $handle i32)
    (i32.store offset=6000 (i32.shl (local.get $slot) #2) (local.get $handle))
    (i32.store8 offset=8002 (i32.load #7000) (i32.add (local.get $handle) #48))
    (i32.store #7000 (i32.add (i32.load #7000) #1)))
  (func $interpret (param $at i32) (param $len i32)
    (local $end i32) (local $do i32) (local $slot i32) (local $handle i32)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (loop $next
      (if (i32.lt_u (local.get $at) (local.get $end)) (then
        (local.set $do (i32.load8_u (local.get $at)))
        (local.set $slot (i32.load8_u offset=1 (local.get $at)))
        (local.set $handle (i32.load offset=6000 (i32.shl (local.get $slot) #2)))
        (local.set $at (i32.add (local.get $at) #2))
        (if (i32.eq (local.get $do) #0) (then
          (call $noted (local.get $slot) (call $get-stdin))))
        (if (i32.eq (local.get $do) #1) (then
          (call $noted (local.get $slot) (call $get-stdout))))
        (if (i32.eq (local.get $do) #2) (then
          (call $noted (local.get $slot) (call $get-stderr))))
        (if (i32.eq (local.get $do) #3) (then
          (call $noted (i32.add (local.get $slot) #16) (call $subscribe (local.get $handle)))))
        (if (i32.eq (local.get $do) #4) (then (call $drop-input (local.get $handle))))
        (if (i32.eq (local.get $do) #5) (then (call $drop-output (local.get $handle))))
        (if (i32.eq (local.get $do) #6) (then (call $drop-pollable (local.get $handle))))
        (br $next)))))"#;

/// Ends as the first byte of the arguments says: a value, a rejection, a crash. Each says which
/// handles were given out.
const RUN: &str = r#"
  (i32.store #7000 #0)
  (call $interpret (i32.add (local.get 1) #1) (i32.sub (local.get 2) #1))
  (i32.store8 #8000 #0xd9)
  (i32.store8 #8001 (i32.load #7000))
  (if (i32.eq (i32.load8_u (local.get 1)) #1) (then
    (return (call $reject #8002 (i32.load #7000)))))
  (if (i32.eq (i32.load8_u (local.get 1)) #2) (then
    (call $panicked #8002 (i32.load #7000)) unreachable))
  (return (call $answer #8000 (i32.add (i32.load #7000) #2)))"#;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Stdin,
    Stdout,
    Stderr,
    Pollable { of: usize },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Get(Kind, u8),
    /// Of the output stream in a slot; goes into the slot 16 further.
    Subscribe(u8),
    Drop(u8),
    /// Drops one of those that can be dropped, whichever comes up by this number.
    DropAny(u8),
}

/// The engine's table of handles, by its specification: the place that was freed last is taken
/// first.
#[derive(Clone, Debug, Default)]
struct Model {
    places: Vec<Option<Kind>>,
    free: Vec<usize>,
}

impl Model {
    fn get(&mut self, kind: Kind) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(kind);
        u32::try_from(place + 1).unwrap()
    }

    fn kind(&self, handle: u32) -> Option<Kind> {
        self.places.get(usize::try_from(handle).unwrap().checked_sub(1)?).copied().flatten()
    }

    fn remove(&mut self, handle: u32) {
        let place = usize::try_from(handle).unwrap() - 1;
        self.places[place] = None;
        self.free.push(place);
    }

    fn is_waited_for(&self, handle: u32) -> bool {
        let of = usize::try_from(handle).unwrap();
        self.places.contains(&Some(Kind::Pollable { of }))
    }

    fn live(&self) -> BTreeMap<usize, Kind> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(place, kind)| Some((place, (*kind)?))).collect()
    }

    /// Does a step; its bytes, and false when it is a mistake that ends the call.
    fn step(&mut self, slots: &mut [u32; 32], step: Step, given: &mut String) -> ([u8; 2], bool) {
        let mut note = |slots: &mut [u32; 32], slot: u8, handle: u32| {
            slots[usize::from(slot)] = handle;
            given.push(char::from(48 + u8::try_from(handle).unwrap()));
        };
        let step = match step {
            Step::DropAny(number) => {
                let right = |slot: &usize| {
                    self.kind(slots[*slot]).is_some() && !self.is_waited_for(slots[*slot])
                };
                let droppable: Vec<usize> = (0..slots.len()).filter(right).collect();
                let slot = droppable.get(usize::from(number) % droppable.len().max(1));
                Step::Drop(slot.map_or(31, |slot| u8::try_from(*slot).unwrap()))
            }
            step => step,
        };
        match step {
            Step::DropAny(_) => unreachable!("it became a drop"),
            Step::Get(kind, slot) => {
                let handle = self.get(kind);
                note(slots, slot, handle);
                let what =
                    [Kind::Stdin, Kind::Stdout, Kind::Stderr].iter().position(|k| *k == kind);
                ([u8::try_from(what.unwrap()).unwrap(), slot], true)
            }
            Step::Subscribe(slot) => {
                // One that holds an output stream, if there is any.
                let waits = |slot: &usize| {
                    matches!(self.kind(slots[*slot]), Some(Kind::Stdout | Kind::Stderr))
                };
                let slot = (usize::from(slot)..16).chain(0..16).find(waits);
                let slot = u8::try_from(slot.unwrap_or(15)).unwrap();
                let of = slots[usize::from(slot)];
                if !matches!(self.kind(of), Some(Kind::Stdout | Kind::Stderr)) {
                    return ([3, slot], false);
                }
                let handle = self.get(Kind::Pollable { of: usize::try_from(of).unwrap() });
                note(slots, slot + 16, handle);
                ([3, slot], true)
            }
            Step::Drop(slot) => {
                let handle = slots[usize::from(slot)];
                let what = match self.kind(handle) {
                    Some(Kind::Stdin) => 4,
                    Some(Kind::Pollable { .. }) => 6,
                    Some(Kind::Stdout | Kind::Stderr) | None => 5,
                };
                let right = self.kind(handle).is_some() && !self.is_waited_for(handle);
                if right {
                    self.remove(handle);
                }
                ([what, slot], right)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Commit,
    Reject,
    Crash,
}

#[derive(Clone, Debug)]
struct Transaction {
    steps: Vec<Step>,
    /// Drops what it acquired before it ends, in an order that this number picks.
    tidy: Option<u64>,
    end: End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = 0..6_u8;
    let kind = prop_oneof![Just(Kind::Stdin), Just(Kind::Stdout), Just(Kind::Stderr)];
    let step = prop_oneof![
        60 => (kind, slot.clone()).prop_map(|(kind, slot)| Step::Get(kind, slot)),
        20 => slot.clone().prop_map(Step::Subscribe),
        50 => any::<u8>().prop_map(Step::DropAny),
        1 => slot.prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 0..9)
}

fn transactions() -> impl Strategy<Value = Vec<Transaction>> {
    let end = prop_oneof![Just(End::Commit), Just(End::Reject), Just(End::Crash)];
    let one = (steps(), prop::option::weighted(0.8, any::<u64>()), end)
        .prop_map(|(steps, tidy, end)| Transaction { steps, tidy, end });
    prop::collection::vec(one, 1..10)
}

/// What is held now and was not before goes; what is gone comes again. Whether that makes it the
/// same as before is for the model to say.
fn tidied(model: &Model, slots: &[u32; 32], before: &Model, order: u64) -> Vec<Step> {
    let (now, then) = (model.live(), before.live());
    let slot_of = |place: usize| {
        let handle = u32::try_from(place + 1).unwrap();
        slots.iter().position(|its| *its == handle).map(|slot| u8::try_from(slot).unwrap())
    };
    let mut drops: Vec<(bool, u64, Step)> = now
        .iter()
        .filter(|(place, kind)| then.get(place) != Some(kind))
        .filter_map(|(place, kind)| {
            let first = matches!(kind, Kind::Pollable { .. });
            let order = order.rotate_left(u32::try_from(*place).unwrap() * 7) % 97;
            Some((!first, order, Step::Drop(slot_of(*place)?)))
        })
        .collect();
    drops.sort_by_key(|(later, order, _)| (*later, *order));
    let gone = then.iter().filter(|(place, kind)| now.get(place) != Some(kind));
    let again = gone.filter_map(|(_, kind)| match kind {
        Kind::Pollable { .. } => None,
        kind => Some(Step::Get(*kind, 7)),
    });
    drops.into_iter().map(|(.., step)| step).chain(again).collect()
}

/// What a guest does in `prime`: nothing, two streams, a hole, free places in another order.
const PRIMES: [&[Step]; 4] = [
    &[],
    &[OUT, ERR],
    &[OUT, ERR, IN, Step::Subscribe(0), Step::Drop(1)],
    &[OUT, ERR, IN, Step::Drop(0), Step::Drop(2)],
];

/// The guest whose `prime` is that script, compiled once.
fn primed(prime: usize, script: &[u8]) -> Arc<Guest> {
    static GUESTS: [OnceLock<Arc<Guest>>; 4] = [const { OnceLock::new() }; 4];
    let made = GUESTS[prime].get_or_init(|| {
        let escaped: String = script.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let guest = Hostile {
            component: COMPONENT.to_owned(),
            extra: EXTRA.to_owned(),
            imports: IMPORTS.to_owned(),
            items: format!("(data #7100 \"{escaped}\") {INTERPRET}"),
            prime: format!("(call $interpret #7100 #{})", script.len()),
            run: RUN.to_owned(),
            ..Hostile::default()
        };
        deploy(&guest.build()).unwrap()
    });
    made.clone()
}

/// Plays transactions on a daemon of that guest, and on the model.
fn play(prime: usize, transactions: &[Transaction]) {
    let (mut base, mut committed, mut given) = (Model::default(), [0; 32], String::new());
    let script: Vec<u8> = PRIMES[prime]
        .iter()
        .flat_map(|step| {
            let (bytes, right) = base.step(&mut committed, *step, &mut given);
            assert!(right, "{step:?}");
            bytes
        })
        .collect();
    let mut rig = Rig::start(&primed(prime, &script), RigOptions::default());
    for transaction in transactions {
        let (mut model, mut slots, mut given) = (base.clone(), committed, String::new());
        let mut script = vec![transaction.end as u8];
        let mut right = true;
        let mut steps = transaction.steps.clone().into_iter();
        let mut tidy = transaction.tidy;
        while right {
            let step = match (steps.next(), tidy) {
                (Some(step), _) => step,
                (None, None) => break,
                (None, Some(order)) => {
                    tidy = None;
                    steps = tidied(&model, &slots, &base, order).into_iter();
                    continue;
                }
            };
            let (bytes, was_right) = model.step(&mut slots, step, &mut given);
            script.extend(bytes);
            right = was_right;
        }
        let outcome = rig.transact(&bound(0, &script)).outcome;
        let leaked = model.live() != base.live();
        match (&outcome, transaction.end) {
            (Outcome::Crashed(crash), _) if !right => assert_eq!(crash.code, Code::Handle),
            (Outcome::Crashed(crash), End::Crash) => {
                assert_eq!((crash.code, &crash.message), (Code::Unreachable, &given));
            }
            (Outcome::Crashed(crash), _) => {
                assert!(leaked, "{crash:?}");
                assert_eq!(crash.code, Code::HandleLeak, "{crash:?}");
            }
            (Outcome::Committed(value), End::Commit) if !leaked => {
                assert_eq!(from_message_pack(value).unwrap(), Value::from(given));
                committed = slots;
            }
            (Outcome::Rejected(rejection), End::Reject) if !leaked => {
                assert_eq!(rejection.message, given);
            }
            _ => panic!("{outcome:?} of {transaction:?}, leaked: {leaked}"),
        }
    }
}

const OUT: Step = Step::Get(Kind::Stdout, 0);
const ERR: Step = Step::Get(Kind::Stderr, 1);
const IN: Step = Step::Get(Kind::Stdin, 2);

#[test]
fn c9_handles_swapped_in_a_rejected_transaction_are_as_before() {
    let swapped = [Step::Drop(1), Step::Drop(0), ERR, OUT].map(|step| match step {
        Step::Get(Kind::Stderr, _) => Step::Get(Kind::Stderr, 0),
        Step::Get(_, _) => Step::Get(Kind::Stdout, 1),
        step => step,
    });
    let freed_in_another_order = [IN, Step::Subscribe(0), Step::Drop(2), Step::Drop(16)];
    let again = Transaction { steps: vec![IN], tidy: Some(0), end: End::Commit };
    for end in [End::Reject, End::Commit, End::Crash] {
        for steps in [&swapped[..], &freed_in_another_order] {
            let first = Transaction { steps: steps.to_vec(), tidy: None, end };
            play(1, &[first.clone(), again.clone(), first, again.clone()]);
        }
    }
}

#[test]
fn c9_a_leak_names_the_handle_and_what_is_there_now() {
    let swap =
        [Step::Drop(1), Step::Drop(0), Step::Get(Kind::Stderr, 0), Step::Get(Kind::Stdout, 1)];
    let (mut model, mut slots, mut given) = (Model::default(), [0; 32], String::new());
    let mut play = |steps: &[Step]| -> Vec<u8> {
        let bytes = steps.iter().flat_map(|step| model.step(&mut slots, *step, &mut given).0);
        bytes.collect()
    };
    let (prime, script) = (play(PRIMES[1]), play(&swap));
    let mut rig = Rig::start(&primed(1, &prime), RigOptions::default());
    let outcome = rig.transact(&bound(0, &[&[End::Commit as u8], &script[..]].concat())).outcome;
    let Outcome::Crashed(crash) = outcome else { panic!("{outcome:?}") };
    let told = "the call ended with standard error as handle 1, not standard output";
    assert_eq!((crash.code, crash.message.as_str()), (Code::HandleLeak, told));
}

#[test]
fn c9_a_prime_that_takes_its_streams_in_another_order_parks_its_daemon() {
    let take =
        |first: &str, then: &str| format!("(drop (call $get-{first})) (drop (call $get-{then}))");
    let guest = Hostile {
        component: COMPONENT.to_owned(),
        extra: EXTRA.to_owned(),
        imports: IMPORTS.to_owned(),
        prime: format!(
            "(if (i64.eq (call $generation) (i64.const 1)) (then {}) (else {}))",
            take("stdout", "stderr"),
            take("stderr", "stdout")
        ),
        run: "unreachable".to_owned(),
        ..Hostile::default()
    };
    let mut rig = Rig::start(&deploy(&guest.build()).unwrap(), RigOptions::default());
    let hash = rig.hash();
    rig.crashes_with(tests::RUN, json!({}), Code::Unreachable);
    let reason = rig.daemon.parked().unwrap();
    assert_eq!(reason.code, Code::HandleLeak, "{reason}");
    assert_eq!(rig.hash(), hash, "the last commit is intact");
}

#[test]
fn c9_a_prime_that_keeps_what_has_a_state_of_its_own_is_refused() {
    // A call could add to these headers, and no image would put that back.
    let guest = Hostile {
        component: r#"
          (import "wasi:http/types@0.2.0" (instance $http
            (export "fields" (type $fields (sub resource)))
            (export "[constructor]fields" (func (result (own $fields))))))
          (core func $fields (canon lower (func $http "[constructor]fields")))"#
            .to_owned(),
        extra: "(export \"fields\" (func $fields))".to_owned(),
        imports: "(import \"extra\" \"fields\" (func $fields (result i32)))".to_owned(),
        prime: "(drop (call $fields))".to_owned(),
        ..Hostile::default()
    };
    let guest = deploy(&guest.build()).unwrap();
    let refused = Rig::try_start(&guest, RigOptions::default()).unwrap_err();
    assert_eq!(refused.code, Code::Init);
    assert!(refused.message.contains("could not be put back"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(tests::setting("BULKHEAD_HANDLE_CASES", 300)).unwrap(),
        ..ProptestConfig::default()
    })]

    #[test]
    fn c9_each_transaction_finds_the_handles_as_after_prime(
        prime in 0..PRIMES.len(),
        transactions in transactions(),
    ) {
        play(prime, &transactions);
    }
}
