//! SmallBank: the banking benchmark of Alomari, Cahill, Fekete and Roehm (ICDE 2008).
//!
//! Every customer has a savings and a checking account. Six short transactions read and change
//! them; [`mix`] makes the published mixture of requests, and the program `smallbank-requests`
//! writes it as lines that the host runs. Money is counted in whole cents.
//!
//! ```
//! use guest_sdk::test::{Harness, json};
//! use smallbank::SmallBank;
//!
//! let mut bank = Harness::<SmallBank>::new(json!({}));
//! bank.call("load", json!({"customers": 2})).committed();
//! bank.call("send_payment", json!({"from": 0, "to": 1, "amount": 500})).committed();
//! assert_eq!(bank.call("total", json!({})).committed(), json!(2 * smallbank::START_CENTS));
//! ```

pub mod mix;

use guest_sdk::prelude::*;

/// What a customer's savings account holds after `load`.
pub const SAVINGS_START_CENTS: i64 = 1_000_000;
/// What a customer's checking account holds after `load`.
pub const CHECKING_START_CENTS: i64 = 1_000_000;
/// What a customer has after `load`.
pub const START_CENTS: i64 = SAVINGS_START_CENTS + CHECKING_START_CENTS;
/// What a check costs that is not covered.
pub const PENALTY_CENTS: i64 = 1;

/// A bank; a customer's number is the place in the list.
#[state]
#[derive(Clone, Debug, Default)]
pub struct SmallBank {
    customers: Vec<Customer>,
}

#[state]
#[derive(Clone, Copy, Debug)]
struct Customer {
    savings: i64,
    checking: i64,
}

impl Customer {
    const START: Self = Self { savings: SAVINGS_START_CENTS, checking: CHECKING_START_CENTS };

    fn total(self) -> Result<i64, Rejection> {
        add(self.savings, self.checking)
    }
}

#[guest]
impl SmallBank {
    /// Opens the accounts of `customers` customers anew, and answers what the bank holds.
    pub fn load(&mut self, customers: u64) -> Result<i64, Rejection> {
        let count = usize::try_from(customers)?;
        self.customers.clear();
        if self.customers.try_reserve_exact(count).is_err() {
            reject!("no_room", "{customers} customers do not fit in memory");
        }
        self.customers.resize(count, Customer::START);
        self.total()
    }

    /// Answers what the customer has in both accounts.
    pub fn balance(&self, customer: u64) -> Result<i64, Rejection> {
        self.customer(customer)?.total()
    }

    /// Pays into the checking account; answers what is in it.
    pub fn deposit_checking(&mut self, customer: u64, amount: i64) -> Result<i64, Rejection> {
        let amount = not_negative(amount)?;
        let customer = self.customer_mut(customer)?;
        customer.checking = add(customer.checking, amount)?;
        Ok(customer.checking)
    }

    /// Pays into the savings account, or out of it where `amount` is negative; answers what is in
    /// it.
    pub fn transact_savings(&mut self, customer: u64, amount: i64) -> Result<i64, Rejection> {
        let number = customer;
        let customer = self.customer_mut(customer)?;
        let savings = add(customer.savings, amount)?;
        ensure!(
            savings >= 0,
            "insufficient_funds",
            "customer {number} has savings of {}, not {}",
            customer.savings,
            amount.unsigned_abs()
        );
        customer.savings = savings;
        Ok(savings)
    }

    /// Moves all that `from` has into the checking account of `to`; answers what is in it.
    pub fn amalgamate(&mut self, from: u64, to: u64) -> Result<i64, Rejection> {
        not_the_same(from, to)?;
        let moved = self.customer(from)?.total()?;
        let receiver = self.customer_mut(to)?;
        receiver.checking = add(receiver.checking, moved)?;
        let checking = receiver.checking;
        *self.customer_mut(from)? = Customer { savings: 0, checking: 0 };
        Ok(checking)
    }

    /// Takes a check out of the checking account, with a penalty of one cent where both accounts
    /// together do not cover it; answers what is in it.
    pub fn write_check(&mut self, customer: u64, amount: i64) -> Result<i64, Rejection> {
        let amount = not_negative(amount)?;
        let customer = self.customer_mut(customer)?;
        let charge = if amount > customer.total()? { add(amount, PENALTY_CENTS)? } else { amount };
        customer.checking = add(customer.checking, -charge)?;
        Ok(customer.checking)
    }

    /// Moves `amount` from one checking account to another; answers what the sender has left in it.
    pub fn send_payment(&mut self, from: u64, to: u64, amount: i64) -> Result<i64, Rejection> {
        not_the_same(from, to)?;
        let amount = not_negative(amount)?;
        let available = self.customer(from)?.checking;
        ensure!(
            amount <= available,
            "insufficient_funds",
            "customer {from} has {available} in checking, not {amount}"
        );
        let receiver = self.customer_mut(to)?;
        receiver.checking = add(receiver.checking, amount)?;
        let left = add(available, -amount)?;
        self.customer_mut(from)?.checking = left;
        Ok(left)
    }

    /// Answers what all customers have together.
    pub fn total(&self) -> Result<i64, Rejection> {
        self.customers.iter().try_fold(0, |sum, customer| add(sum, customer.total()?))
    }

    fn customer(&self, number: u64) -> Result<Customer, Rejection> {
        let place = usize::try_from(number).ok();
        place.and_then(|place| self.customers.get(place)).copied().ok_or_else(|| unknown(number))
    }

    fn customer_mut(&mut self, number: u64) -> Result<&mut Customer, Rejection> {
        let place = usize::try_from(number).ok();
        place.and_then(|place| self.customers.get_mut(place)).ok_or_else(|| unknown(number))
    }
}

fn unknown(customer: u64) -> Rejection {
    Rejection::new("unknown_customer", format!("there is no customer {customer}"))
}

fn add(left: i64, right: i64) -> Result<i64, Rejection> {
    let too_much =
        || Rejection::new("overflow", format!("{left} + {right} does not fit in 64 bits"));
    left.checked_add(right).ok_or_else(too_much)
}

fn not_negative(amount: i64) -> Result<i64, Rejection> {
    ensure!(amount >= 0, "negative_amount", "an amount of {amount} can't be moved");
    Ok(amount)
}

fn not_the_same(from: u64, to: u64) -> Result<(), Rejection> {
    ensure!(from != to, "same_customer", "customer {from} is on both sides");
    Ok(())
}

#[cfg(test)]
mod tests {
    use guest_sdk::test::{Harness, Outcome, Value, json};

    use super::*;
    use crate::mix::{Access, Mix, Request};

    fn bank(customers: u64) -> Harness<SmallBank> {
        let mut bank = Harness::new(json!({}));
        bank.call("load", json!([customers])).committed();
        bank
    }

    #[test]
    fn loading_again_starts_over() {
        let mut bank = bank(3);
        bank.call("deposit_checking", json!([0, 130])).committed();
        assert_eq!(bank.call("load", json!([3])).committed(), json!(3 * START_CENTS));
        assert_eq!(bank.call("balance", json!([0])).committed(), json!(START_CENTS));
    }

    #[test]
    fn a_check_that_is_not_covered_costs_a_penalty() {
        let mut bank = bank(1);
        let covered = bank.call("write_check", json!([0, START_CENTS]));
        assert_eq!(covered.committed(), json!(CHECKING_START_CENTS - START_CENTS));
        let bounced = bank.call("write_check", json!([0, 1]));
        assert_eq!(bounced.committed(), json!(CHECKING_START_CENTS - START_CENTS - 2));
    }

    #[test]
    fn amalgamate_moves_everything() {
        let mut bank = bank(2);
        let moved = bank.call("amalgamate", json!([0, 1])).committed();
        assert_eq!(moved, json!(CHECKING_START_CENTS + START_CENTS));
        assert_eq!(bank.call("balance", json!([0])).committed(), json!(0));
        assert_eq!(bank.call("total", json!([])).committed(), json!(2 * START_CENTS));
    }

    #[test]
    fn what_cannot_be_done_is_rejected() {
        let mut bank = bank(2);
        let mut code =
            |contract, arguments| bank.call(contract, arguments).rejected().code().to_owned();
        assert_eq!(code("balance", json!([2])), "unknown_customer");
        assert_eq!(code("deposit_checking", json!([0, -1])), "negative_amount");
        assert_eq!(code("deposit_checking", json!([0, i64::MAX])), "overflow");
        assert_eq!(
            code("transact_savings", json!([0, -SAVINGS_START_CENTS - 1])),
            "insufficient_funds"
        );
        assert_eq!(code("transact_savings", json!([0, i64::MIN])), "insufficient_funds");
        assert_eq!(
            code("send_payment", json!([0, 1, CHECKING_START_CENTS + 1])),
            "insufficient_funds"
        );
        assert_eq!(code("send_payment", json!([1, 1, 1])), "same_customer");
        assert_eq!(code("amalgamate", json!([0, 2])), "unknown_customer");
        assert_eq!(code("load", json!([u64::MAX / 16])), "no_room");
    }

    #[test]
    fn the_mix_runs() {
        let mut bank = bank(50);
        let mut committed = 0;
        for request in Mix::new(50, Access::Uniform, 7).take(2000) {
            let arguments: Value =
                request.arguments().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            match bank.call(request.contract(), arguments) {
                Outcome::Committed(_) => committed += 1,
                outcome => assert_eq!(outcome.rejected().code(), "insufficient_funds"),
            }
        }
        // Whom `amalgamate` left with nothing can't pay, which with so few customers is common.
        assert!(committed > 1500, "{committed}");
        assert_eq!(Request::Load { customers: 50 }.contract(), "load");
    }
}
