//! A ledger: accounts with balances, and transfers that never change their total.
//!
//! ```
//! use guest_sdk::test::{Harness, json};
//! use ledger::Ledger;
//!
//! let mut ledger = Harness::<Ledger>::new(json!({}));
//! ledger.call("deposit", json!({"account": "ann", "amount": 10})).committed();
//! ledger.call("deposit", json!({"account": "bob", "amount": 1})).committed();
//! let receipt = ledger.call("transfer", json!({"from": "ann", "to": "bob", "amount": 4}));
//! assert_eq!(receipt.committed(), json!({"from_balance": 6, "to_balance": 5}));
//! ```
//!
//! Depositing into an account, or transferring to one, opens it where there is none.
//!
//! | contract | | rejects with |
//! |---|---|---|
//! | `deposit(account, amount) -> balance` | | `overflow` |
//! | `transfer(from, to, amount) -> Receipt` | | `unknown_account`, `overdraft` |
//! | `balance(account) -> balance or null` | read-only | |
//! | `total() -> u64` | read-only; the sum of all balances | |

use guest_sdk::prelude::*;

/// All accounts with their balances.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<String, u64>,
    /// The sum of all balances. That it fits in 64 bits is what keeps every single one from
    /// overflowing.
    total: u64,
}

/// Both balances after a transfer.
#[data]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// What the sender has left.
    pub from_balance: u64,
    /// What the receiver has now.
    pub to_balance: u64,
}

#[guest]
impl Ledger {
    /// Refuses an upgrade that would lose money, or make some.
    #[check]
    fn money_is_all_there(&self) -> Result<(), Rejection> {
        let sum = self.accounts.values().try_fold(0_u64, |sum, &balance| sum.checked_add(balance));
        ensure!(sum == Some(self.total), "unbalanced", "the accounts hold {sum:?}, not the total");
        Ok(())
    }

    /// Pays `amount` in, opens the account where there is none, and answers the new balance.
    pub fn deposit(&mut self, account: String, amount: u64) -> Result<u64, Rejection> {
        let Some(total) = self.total.checked_add(amount) else {
            reject!("overflow", "a total of {} + {amount} does not fit in 64 bits", self.total);
        };
        self.total = total;
        let balance = self.accounts.entry(account).or_default();
        *balance += amount;
        Ok(*balance)
    }

    /// Moves `amount` from one account to another, which is opened where there is none.
    pub fn transfer(
        &mut self,
        from: String,
        to: String,
        amount: u64,
    ) -> Result<Receipt, Rejection> {
        let from_before = self.existing(&from)?;
        let to_before = self.accounts.get(&to).copied().unwrap_or(0);
        let Some(from_balance) = from_before.checked_sub(amount) else {
            let details = BTreeMap::from([("balance", from_before), ("amount", amount)]);
            let message = format!("{from} has {from_before}, not {amount}");
            return Err(Rejection::new("overdraft", message).with_details(&details));
        };
        if from == to {
            return Ok(Receipt { from_balance: from_before, to_balance: to_before });
        }
        let to_balance = to_before + amount;
        self.accounts.insert(from, from_balance);
        self.accounts.insert(to, to_balance);
        Ok(Receipt { from_balance, to_balance })
    }

    /// Answers what the account holds, or nothing where there is none.
    pub fn balance(&self, account: String) -> Option<u64> {
        self.accounts.get(&account).copied()
    }

    /// Answers the sum of all balances, counted anew.
    pub fn total(&self) -> u64 {
        self.accounts.values().sum()
    }

    fn existing(&self, account: &str) -> Result<u64, Rejection> {
        let unknown =
            || Rejection::new("unknown_account", format!("there is no account {account}"));
        self.accounts.get(account).copied().ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use guest_sdk::test::{Harness, Outcome, Value, json};

    use super::*;

    fn ledger() -> Harness<Ledger> {
        let mut ledger = Harness::new(json!({}));
        ledger.call("deposit", json!({"account": "ann", "amount": 10})).committed();
        ledger.call("deposit", json!({"account": "bob", "amount": 1})).committed();
        ledger
    }

    #[track_caller]
    fn assert_rejected(outcome: Outcome, code: &str) {
        let Outcome::Rejected(rejection) = outcome else { panic!("{outcome:?}") };
        assert_eq!(rejection.code(), code);
    }

    #[test]
    fn a_transfer_keeps_the_total() {
        let mut ledger = ledger();
        ledger.call("transfer", json!({"from": "ann", "to": "bob", "amount": 10})).committed();
        assert_eq!(ledger.call("balance", json!(["ann"])).committed(), json!(0));
        assert_eq!(ledger.call("total", json!([])).committed(), json!(11));
        assert_eq!(ledger.state().total, 11);
    }

    #[test]
    fn a_transfer_to_oneself_changes_nothing() {
        let mut ledger = ledger();
        let outcome = ledger.call("transfer", json!(["ann", "ann", 4]));
        assert_eq!(outcome.committed(), json!({"from_balance": 10, "to_balance": 10}));
        assert_rejected(ledger.call("transfer", json!(["ann", "ann", 11])), "overdraft");
    }

    #[test]
    fn an_overdraft_is_rejected_with_its_numbers() {
        let mut ledger = ledger();
        let outcome = ledger.call("transfer", json!(["bob", "ann", 2]));
        let Outcome::Rejected(rejection) = outcome else { panic!("{outcome:?}") };
        assert_eq!(rejection.code(), "overdraft");
        assert_eq!(rejection.details::<Value>(), Some(json!({"balance": 1, "amount": 2})));
    }

    #[test]
    fn an_unknown_sender_is_rejected_and_an_unknown_receiver_opened() {
        let mut ledger = ledger();
        assert_rejected(ledger.call("transfer", json!(["eve", "bob", 0])), "unknown_account");
        assert_eq!(ledger.call("balance", json!(["eve"])).committed(), Value::Null);
        ledger.call("transfer", json!(["ann", "eve", 4])).committed();
        assert_eq!(ledger.call("balance", json!(["eve"])).committed(), json!(4));
        assert_eq!(ledger.call("total", json!([])).committed(), json!(11));
    }

    #[test]
    fn a_build_with_the_same_form_takes_the_state_over() {
        let mut ledger = ledger();
        let mut next: Harness<Ledger> = ledger.upgrade().unwrap();
        assert_eq!(next.call("balance", json!(["ann"])).committed(), json!(10));
        assert_eq!(next.call("total", json!([])).committed(), json!(11));
        let unbalanced = b"\x82\xa8accounts\x81\xa3ann\x0a\xa5total\x0b";
        let refused = Harness::<Ledger>::load(1, unbalanced).unwrap_err();
        assert_eq!(refused.code(), "unbalanced");
    }

    #[test]
    fn the_total_never_overflows() {
        let mut ledger = ledger();
        assert_rejected(ledger.call("deposit", json!(["ann", u64::MAX - 10])), "overflow");
        ledger.call("deposit", json!(["ann", u64::MAX - 11])).committed();
        assert_eq!(ledger.call("total", json!([])).committed(), json!(u64::MAX));
        ledger.call("transfer", json!(["ann", "bob", u64::MAX - 1])).committed();
        assert_eq!(ledger.call("balance", json!(["bob"])).committed(), json!(u64::MAX));
    }
}
