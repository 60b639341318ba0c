//! The example guest `ledger` in its next version: what tests upgrade to.
//!
//! Accounts have got a count of their uses, so the form of the state is another one. An account
//! whose name ends in one of these makes something go wrong when its turn comes:
//!
//! | name ends in | |
//! |---|---|
//! | `#reject`, `#panic`, `#spin`, `#allocate` | the migration does |
//! | `#unsound`, `#die-in-check` | the check rejects, or panics |
//! | `#unsaved` | the new code can't save |

use guest_sdk::prelude::*;
use serde::Serializer;
use serde::ser::Error as _;

/// The state of `ledger`.
#[state(version = 1)]
#[derive(Debug)]
pub struct OldLedger {
    accounts: BTreeMap<String, u64>,
    total: u64,
}

/// All accounts.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<String, Account>,
    total: u64,
}

/// What is known of an account.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Account {
    balance: u64,
    /// Since it was taken over.
    uses: u32,
    #[serde(serialize_with = "refuse_if_set")]
    unsaved: bool,
}

fn refuse_if_set<S: Serializer>(unsaved: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    if *unsaved { Err(S::Error::custom("on request")) } else { serializer.serialize_bool(false) }
}

impl TryFrom<OldLedger> for Ledger {
    type Error = Rejection;

    fn try_from(old: OldLedger) -> Result<Self, Rejection> {
        let migrated = old.accounts.into_iter().map(|(name, balance)| {
            let unsaved = go_wrong(&name)?;
            Ok((name, Account { balance, uses: 0, unsaved }))
        });
        Ok(Self { accounts: migrated.collect::<Result<_, Rejection>>()?, total: old.total })
    }
}

/// Does what the name of an account says; true for one that can't be saved.
#[expect(clippy::panic, reason = "that is what the guest is for")]
fn go_wrong(name: &str) -> Result<bool, Rejection> {
    match name.split_once('#').map_or("", |(_, how)| how) {
        "reject" => reject!("refused", "{name} is not migrated"),
        "panic" => panic!("{name} can't be migrated"),
        "spin" => loop {
            std::hint::black_box(());
        },
        "allocate" => loop {
            std::hint::black_box(vec![1_u8; 1 << 20].leak());
        },
        "unsaved" => return Ok(true),
        _ => {}
    }
    Ok(false)
}

#[guest(version = 2, from = OldLedger)]
impl Ledger {
    #[check]
    #[expect(clippy::panic, reason = "that is what the guest is for")]
    fn check(&self) -> Result<(), Rejection> {
        for name in self.accounts.keys() {
            ensure!(!name.ends_with("#unsound"), "unsound", "{name} is not sound");
            if name.ends_with("#die-in-check") {
                panic!("{name} can't be checked");
            }
        }
        Ok(())
    }

    /// Answers how often the account was used since it was taken over.
    pub fn uses(&self, account: String) -> u32 {
        self.accounts.get(&account).map_or(0, |account| account.uses)
    }

    /// Answers what the account holds, or nothing where there is none.
    pub fn balance(&self, account: String) -> Option<u64> {
        self.accounts.get(&account).map(|account| account.balance)
    }

    /// Answers the sum of all balances, counted anew.
    pub fn total(&self) -> u64 {
        self.accounts.values().map(|account| account.balance).sum()
    }

    /// Answers all balances.
    pub fn balances(&self) -> BTreeMap<String, u64> {
        self.accounts.iter().map(|(name, account)| (name.clone(), account.balance)).collect()
    }

    /// Pays `amount` in and answers the new balance.
    pub fn deposit(&mut self, account: String, amount: u64) -> Result<u64, Rejection> {
        let Some(total) = self.total.checked_add(amount) else {
            reject!("overflow", "a total of {} + {amount} does not fit in 64 bits", self.total);
        };
        self.total = total;
        let account = self.accounts.entry(account).or_default();
        account.uses += 1;
        account.balance += amount;
        Ok(account.balance)
    }
}
