//! A guest's state moves from old code to new, seen through the harness.

#![expect(unreachable_pub, reason = "`pub` is what makes a contract, also in a test")]

use guest_sdk::prelude::*;
use guest_sdk::test::{Harness, json};

/// The ledger of three releases, each in its own module as it would be in its own crate.
mod first {
    use super::*;

    #[state]
    #[derive(Clone, Debug, Default)]
    pub struct Ledger {
        pub accounts: BTreeMap<String, u32>,
    }

    #[guest]
    impl Ledger {
        pub fn deposit(&mut self, account: String, amount: u32) {
            *self.accounts.entry(account).or_default() += amount;
        }
    }
}

mod second {
    use super::*;

    #[state(version = 1)]
    pub struct FirstLedger {
        accounts: BTreeMap<String, u32>,
    }

    #[state]
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Ledger {
        pub accounts: BTreeMap<String, i64>,
    }

    impl From<FirstLedger> for Ledger {
        fn from(old: FirstLedger) -> Self {
            let wide = |(name, balance)| (name, i64::from(balance));
            Self { accounts: old.accounts.into_iter().map(wide).collect() }
        }
    }

    #[guest(version = 2, from = FirstLedger)]
    impl Ledger {
        pub fn withdraw(&mut self, account: String, amount: i64) {
            *self.accounts.entry(account).or_default() -= amount;
        }
    }
}

mod third {
    use super::*;

    #[state(version = 2, from = super::second::FirstLedger)]
    pub struct SecondLedger {
        pub accounts: BTreeMap<String, i64>,
    }

    impl From<super::second::FirstLedger> for SecondLedger {
        fn from(old: super::second::FirstLedger) -> Self {
            Self { accounts: super::second::Ledger::from(old).accounts }
        }
    }

    #[state]
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Ledger {
        pub accounts: BTreeMap<String, u64>,
        pub total: u64,
        #[serde(default)]
        pub note: Option<String>,
        #[serde(skip)]
        pub generation: u64,
    }

    impl TryFrom<SecondLedger> for Ledger {
        type Error = Rejection;

        fn try_from(old: SecondLedger) -> Result<Self, Rejection> {
            let mut accounts = BTreeMap::new();
            for (name, balance) in old.accounts {
                let Ok(balance) = u64::try_from(balance) else {
                    reject!("debt", "{name} has {balance}");
                };
                accounts.insert(name, balance);
            }
            let total = accounts.values().sum();
            Ok(Self { accounts, total, ..Self::default() })
        }
    }

    #[guest(version = 3, from = SecondLedger)]
    impl Ledger {
        #[on_restore]
        fn restored(&mut self, generation: u64) {
            self.generation = generation;
        }

        #[check]
        fn nobody_is_too_rich(&self) -> Result<(), Rejection> {
            ensure!(self.total < 1000, "rich", "the accounts hold {}", self.total);
            Ok(())
        }

        pub fn total(&self) -> u64 {
            self.total
        }

        pub fn set_note(&mut self, note: String) {
            self.note = Some(note);
        }
    }
}

/// A guest that nobody derived anything for.
#[derive(Clone, Default)]
struct Plain(u64);

#[guest]
impl Plain {
    pub fn value(&self) -> u64 {
        self.0
    }
}

/// A guest whose type is serde's by hand, and at its first version.
#[data]
#[derive(Clone, Debug, Default)]
struct ByHand {
    value: u64,
}

#[guest]
impl ByHand {
    pub fn value(&self) -> u64 {
        self.value
    }
}

fn first(deposits: &[(&str, u32)]) -> Harness<first::Ledger> {
    let mut ledger = Harness::new(json!({}));
    for deposit in deposits {
        ledger.call("deposit", json!(deposit)).committed();
    }
    ledger
}

#[test]
fn a_state_moves_through_all_its_forms() {
    let mut first = first(&[("ann", 7), ("bob", 1)]);
    let mut second: Harness<second::Ledger> = first.upgrade().unwrap();
    assert_eq!(second.state().accounts["ann"], 7);
    second.call("withdraw", json!(["ann", 2])).committed();
    let mut third: Harness<third::Ledger> = second.upgrade().unwrap();
    assert_eq!((third.state().total, third.state().generation), (6, 3));
    third.call("set_note", json!(["moved"])).committed();
    let again: Harness<third::Ledger> = third.upgrade().unwrap();
    assert_eq!(again.state().note.as_deref(), Some("moved"));
    assert_eq!(again.state().generation, 4, "told of its new generation");
    // Two versions at once.
    let jumped: Harness<third::Ledger> = first.upgrade().unwrap();
    assert_eq!(jumped.state().total, 8);
}

#[test]
fn what_fails_says_whose_words_it_was() {
    let mut ledger: Harness<second::Ledger> = first(&[("ann", 7)]).upgrade().unwrap();
    ledger.call("withdraw", json!(["ann", 8])).committed();
    let debt = ledger.upgrade::<third::Ledger>().unwrap_err();
    assert_eq!((debt.code(), debt.message()), ("debt", "ann has -1"));
    ledger.call("withdraw", json!(["ann", -2000])).committed();
    assert_eq!(ledger.upgrade::<third::Ledger>().unwrap_err().code(), "rich");
    let newer = Harness::<second::Ledger>::load(3, &[0x80]).unwrap_err();
    assert_eq!(newer.code(), "unknown_version");
    assert!(newer.message().contains("version 3") && newer.message().contains("at 2"), "{newer}");
    let shape = ledger.upgrade::<ByHand>().unwrap_err();
    assert_eq!(shape.code(), "unknown_version");
    assert_eq!(Harness::<ByHand>::load(1, &[0x80]).unwrap_err().code(), "bad_state");
}

#[test]
fn a_type_tells_by_itself_whether_it_can_be_handed_over() {
    use guest_sdk::__private::Guest;
    let versions =
        [Plain::upgrade(), ByHand::upgrade(), first::Ledger::upgrade(), third::Ledger::upgrade()];
    assert_eq!(versions, [None, Some(1), Some(1), Some(3)]);
    assert_eq!(Harness::<Plain>::new(json!({})).save().unwrap_err().code(), "not_upgradable");
    assert_eq!(Harness::<Plain>::load(1, &[]).err().unwrap().code(), "not_upgradable");
}

#[test]
fn a_saved_value_is_plain_message_pack() {
    let saved = first(&[("ann", 7)]).save().unwrap();
    assert_eq!(saved, b"\x81\xa8accounts\x81\xa3ann\x07");
    let loaded = Harness::<first::Ledger>::load(1, &saved).unwrap();
    assert_eq!(loaded.state().accounts["ann"], 7);
    // What older code did not know of is left out, what it knew of and is gone is ignored.
    let more = b"\x82\xa8accounts\x80\xa4gone\xc3";
    assert!(Harness::<first::Ledger>::load(1, more).is_ok());
}
