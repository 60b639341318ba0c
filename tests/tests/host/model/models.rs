//! The guests `counter`, `ledger` and `chaos` as plain values, and the promises of the host.

use std::collections::{BTreeMap, HashMap};

use host::pure::policy::{OnCrash, RECOVER_FAILURES_MAX};
use proptest::prelude::{Just, Strategy, prop_oneof};
use serde_json::{Value, json};

use crate::host::chaos::WAYS;

/// A request to one of the daemons.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    Increment(u64),
    Value,
    Deposit(u8, u64),
    Transfer(u8, u8, u64),
    Balance(u8),
    Total,
    Die(usize),
    Touch(u32),
    Hold(u32),
    State,
    Balances,
    Print(u8),
    Resume,
}

pub(super) fn calls() -> impl Strategy<Value = Call> {
    let amounts = || prop_oneof![0..100_u64, Just(u64::MAX / 2), Just(u64::MAX)];
    prop_oneof![
        2 => amounts().prop_map(Call::Increment),
        1 => Just(Call::Value),
        2 => (0..4_u8, amounts()).prop_map(|(account, amount)| Call::Deposit(account, amount)),
        3 => (0..4_u8, 0..4_u8, amounts()).prop_map(|(a, b, amount)| Call::Transfer(a, b, amount)),
        1 => (0..4_u8).prop_map(Call::Balance),
        1 => Just(Call::Total),
        5 => (0..WAYS.len()).prop_map(Call::Die),
        2 => (0..8_u32).prop_map(Call::Touch),
        1 => (0..2_u32).prop_map(Call::Hold),
        1 => Just(Call::State),
        1 => Just(Call::Balances),
        1 => (0..200_u8).prop_map(Call::Print),
        1 => Just(Call::Resume),
    ]
}

impl Call {
    /// Which daemon it is for.
    pub(super) fn daemon(&self) -> usize {
        match self {
            Self::Increment(_) | Self::Value => 0,
            Self::Deposit(..) | Self::Transfer(..) | Self::Balance(_) | Self::Total => 1,
            _ => 2,
        }
    }

    pub(super) fn request(&self) -> (&'static str, Value) {
        match *self {
            Self::Increment(by) => ("increment", json!({"by": by})),
            Self::Value => ("value", json!({})),
            Self::Deposit(account, amount) => {
                ("deposit", json!({"account": name(account), "amount": amount}))
            }
            Self::Transfer(from, to, amount) => {
                ("transfer", json!({"from": name(from), "to": name(to), "amount": amount}))
            }
            Self::Balance(account) => ("balance", json!({"account": name(account)})),
            Self::Total => ("total", json!({})),
            Self::Die(way) => ("die", json!({"how": WAYS[way].0})),
            Self::Touch(pages) => ("touch", json!({"pages": pages})),
            Self::Hold(mib) => ("hold", json!({"mib": mib})),
            Self::State => ("state", json!({})),
            Self::Balances => ("balances", json!({})),
            Self::Print(length) => ("print", json!({"text": "x".repeat(length.into())})),
            Self::Resume => ("resume", json!({})),
        }
    }
}

fn name(account: u8) -> String {
    format!("account {account}")
}

/// What a guest holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Counter(u64),
    Ledger(BTreeMap<u8, u64>),
    Chaos { recoveries: u64, touched: Vec<u8>, held: u64 },
}

/// How a call ends when it is tried: with a value and perhaps another state, or with a code.
enum Tried {
    Changed(Value, State),
    Read(Value),
    Rejected(&'static str),
    Crashed(&'static str),
}

impl State {
    pub(super) fn counter() -> Self {
        Self::Counter(0)
    }

    pub(super) fn ledger() -> Self {
        Self::Ledger(BTreeMap::new())
    }

    pub(super) fn chaos() -> Self {
        Self::Chaos { recoveries: 0, touched: Vec::new(), held: 0 }
    }

    /// Every read, with its answer.
    pub(super) fn everything(&self) -> Vec<(Call, Value)> {
        let calls = match self {
            Self::Counter(_) => vec![Call::Value],
            Self::Ledger(_) => (0..4).map(Call::Balance).chain([Call::Total]).collect(),
            Self::Chaos { .. } => vec![Call::State, Call::Balances],
        };
        let answer = |call: Call| match self.tried(&call) {
            Tried::Read(value) => (call, value),
            _ => panic!("{call:?} is not a read"),
        };
        calls.into_iter().map(answer).collect()
    }

    fn tried(&self, call: &Call) -> Tried {
        match (self, call) {
            (Self::Counter(value), Call::Increment(by)) => match value.checked_add(*by) {
                Some(sum) => Tried::Changed(json!(sum), Self::Counter(sum)),
                None => Tried::Rejected("overflow"),
            },
            (Self::Counter(value), Call::Value) => Tried::Read(json!(value)),
            (Self::Ledger(accounts), _) => ledger(accounts, call),
            (Self::Chaos { .. }, _) => self.chaos_tried(call),
            _ => panic!("{call:?} is for another daemon"),
        }
    }

    fn chaos_tried(&self, call: &Call) -> Tried {
        let Self::Chaos { recoveries, touched, held } = self else { panic!("another guest") };
        let (recoveries, held) = (*recoveries, *held);
        match *call {
            Call::Die(way) => Tried::Crashed(WAYS[way].1.as_str()),
            Call::Touch(pages) => {
                let mut touched = touched.clone();
                let pages = pages as usize;
                touched.resize(touched.len().max(pages * 4096), 0);
                for byte in touched.iter_mut().step_by(4096).take(pages) {
                    *byte = byte.wrapping_add(1);
                }
                let count = touched.len() / 4096;
                Tried::Changed(json!(count), Self::Chaos { recoveries, touched, held })
            }
            Call::Hold(mib) => {
                let (touched, held) = (touched.clone(), held + u64::from(mib));
                Tried::Changed(json!(held), Self::Chaos { recoveries, touched, held })
            }
            Call::State => Tried::Read(json!(fnv(recoveries, touched, held))),
            Call::Balances => Tried::Read(json!([1000, 1000])),
            Call::Print(_) => Tried::Read(Value::Null),
            _ => panic!("{call:?} is for another daemon"),
        }
    }
}

fn ledger(accounts: &BTreeMap<u8, u64>, call: &Call) -> Tried {
    let mut changed = accounts.clone();
    let total = accounts.values().sum::<u64>();
    match *call {
        Call::Deposit(_, amount) if total.checked_add(amount).is_none() => {
            Tried::Rejected("overflow")
        }
        Call::Deposit(account, amount) => {
            let balance = changed.entry(account).or_default();
            *balance += amount;
            Tried::Changed(json!(*balance), State::Ledger(changed))
        }
        Call::Transfer(from, to, amount) => {
            let Some(&has) = accounts.get(&from) else {
                return Tried::Rejected("unknown_account");
            };
            if has < amount {
                return Tried::Rejected("overdraft");
            }
            *changed.entry(from).or_default() -= amount;
            *changed.entry(to).or_default() += amount;
            let receipt = json!({"from_balance": changed[&from], "to_balance": changed[&to]});
            Tried::Changed(receipt, State::Ledger(changed))
        }
        Call::Balance(account) => Tried::Read(json!(accounts.get(&account))),
        Call::Total => Tried::Read(json!(total)),
        _ => panic!("{call:?} is for another daemon"),
    }
}

/// The hash that `chaos` answers of its state.
fn fnv(recoveries: u64, touched: &[u8], held: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut number = |n: u64| hash = (hash ^ n).wrapping_mul(0x0100_0000_01b3);
    [0, recoveries, 1000, 1000].into_iter().for_each(&mut number);
    number(touched.len() as u64);
    for word in touched.chunks(8) {
        number(u64::from_le_bytes(word.try_into().unwrap()));
    }
    for _ in 0..held {
        number(1 << 20);
        (0..1 << 17).for_each(|_| number(0xa5a5_a5a5_a5a5_a5a5));
    }
    hash
}

/// A guest without `recover` is not asked.
pub(super) fn without_recover(on_crash: OnCrash) -> OnCrash {
    if on_crash == OnCrash::Ask { OnCrash::Checkpoint } else { on_crash }
}

/// How a request must end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) value: Result<Value, String>,
    pub(super) attempts: u32,
    pub(super) poison: bool,
    /// The sequence number of the answer, when it isn't the daemon's.
    pub(super) sequence: Option<u64>,
}

impl Expected {
    pub(super) fn rejected(code: &str, attempts: u32) -> Self {
        Self { value: Err(code.to_owned()), attempts, poison: false, sequence: None }
    }
}

/// What the host promises of one daemon.
pub(super) struct Model {
    pub(super) state: State,
    first: State,
    on_crash: OnCrash,
    retries_max: u32,
    /// What `recover` answers; `None` when it fails.
    recovery: Option<String>,
    keys: HashMap<u8, (Call, Expected)>,
    pub(super) sequence: u64,
    pub(super) generation: u64,
    pub(super) parked: bool,
    failures: u32,
    /// The last call changed nothing.
    pub(super) unchanged: bool,
    /// The last thing that happened was a start from nothing.
    pub(super) started_over: bool,
}

impl Model {
    pub(super) fn new(
        state: State,
        on_crash: OnCrash,
        retries_max: u32,
        parameters: &Value,
    ) -> Self {
        let fails =
            parameters["refuse_recover"] == true || parameters["die_in_recover"] != Value::Null;
        let recovery = parameters["recovery"].as_str().unwrap_or("resume").to_owned();
        Self {
            first: state.clone(),
            state,
            on_crash,
            retries_max,
            recovery: (!fails).then_some(recovery),
            keys: HashMap::new(),
            sequence: 0,
            generation: 1,
            parked: false,
            failures: 0,
            unchanged: true,
            started_over: false,
        }
    }

    pub(super) fn resume(&mut self) {
        if self.parked {
            (self.parked, self.failures) = (false, 0);
            self.generation += 1;
        }
    }

    pub(super) fn run(&mut self, call: &Call, key: Option<u8>, starved: bool) -> Expected {
        (self.unchanged, self.started_over) = (true, false);
        match key.and_then(|key| self.keys.get(&key)) {
            Some((answered, expected)) if answered == call => return expected.clone(),
            Some(_) => return Expected::rejected("E_KEY_CONFLICT", 0),
            None => {}
        }
        if self.parked {
            return Expected::rejected("E_PARKED", 0);
        }
        let expected = self.tries(call, starved);
        if let (Some(key), Ok(_)) = (key, &expected.value) {
            // Nothing is started for whoever asks again.
            let sequence = Some(self.sequence);
            let kept = Expected { sequence, attempts: 0, ..expected.clone() };
            self.keys.insert(key, (call.clone(), kept));
        }
        expected
    }

    fn tries(&mut self, call: &Call, starved: bool) -> Expected {
        let mut previous = None;
        for attempts in 1.. {
            let checkpoint = self.sequence;
            let tried = if starved { Tried::Crashed("E_FUEL") } else { self.state.tried(call) };
            let code = match tried {
                Tried::Crashed(code) => code,
                Tried::Rejected(code) => return Expected::rejected(code, attempts),
                Tried::Read(value) => {
                    return Expected { value: Ok(value), attempts, poison: false, sequence: None };
                }
                Tried::Changed(value, state) => {
                    (self.state, self.unchanged, self.started_over) = (state, false, false);
                    self.sequence += 1;
                    self.failures = 0;
                    return Expected { value: Ok(value), attempts, poison: false, sequence: None };
                }
            };
            self.after_crash();
            let poison = previous == Some((code, checkpoint));
            if poison || self.parked || attempts > self.retries_max {
                return Expected { poison, ..Expected::rejected(code, attempts) };
            }
            previous = Some((code, checkpoint));
        }
        unreachable!("retries are bounded")
    }

    fn after_crash(&mut self) {
        self.generation += 1;
        match self.on_crash {
            OnCrash::Checkpoint => {}
            OnCrash::Zero => self.start_over(),
            OnCrash::Ask => self.ask(),
        }
    }

    fn start_over(&mut self) {
        self.state = self.first.clone();
        self.sequence += 1;
        self.keys.clear();
        (self.unchanged, self.started_over) = (false, true);
    }

    fn ask(&mut self) {
        match self.recovery.as_deref() {
            Some("zero") => {
                self.generation += 1;
                self.start_over();
            }
            Some("park") => self.parked = true,
            Some(_) => {
                if let State::Chaos { recoveries, .. } = &mut self.state {
                    *recoveries += 1;
                }
                self.sequence += 1;
                (self.unchanged, self.started_over) = (false, false);
            }
            None => {
                self.failures += 1;
                if self.failures == RECOVER_FAILURES_MAX {
                    self.parked = true;
                } else {
                    self.generation += 1;
                }
            }
        }
    }
}
