//! The published mixture of requests, from a seed: the same seed, the same requests.
//!
//! | request | share | amount in cents |
//! |---|---|---|
//! | `balance` | 15 % | |
//! | `deposit_checking` | 15 % | 130 |
//! | `transact_savings` | 15 % | 2020 |
//! | `amalgamate` | 15 % | |
//! | `write_check` | 15 % | 500 |
//! | `send_payment` | 25 % | 500 |
//!
//! Shares and amounts are those of the H-Store and OLTP-Bench implementations.

use std::fmt;

const DEPOSIT_CENTS: i64 = 130;
const SAVINGS_CENTS: i64 = 2020;
const CHECK_CENTS: i64 = 500;
const PAYMENT_CENTS: i64 = 500;

/// Which customers the requests are about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Each as often as any other.
    Uniform,
    /// The first `customers` get `percent` of the accesses, all together the rest.
    HotSpot {
        /// How many are hot.
        customers: u64,
        /// Their share of the accesses, up to 100.
        percent: u64,
    },
}

impl Access {
    /// 100 customers with 90 % of the accesses.
    pub const HOT_SPOT: Self = Self::HotSpot { customers: 100, percent: 90 };
}

/// One request to the bank.
#[expect(missing_docs, reason = "the fields are the arguments of the contracts by the same names")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    /// Opens the accounts; not part of the mix.
    Load { customers: u64 },
    /// Reads both accounts.
    Balance { customer: u64 },
    /// Pays into checking.
    DepositChecking { customer: u64, amount: i64 },
    /// Pays into savings.
    TransactSavings { customer: u64, amount: i64 },
    /// Moves everything.
    Amalgamate { from: u64, to: u64 },
    /// Takes a check.
    WriteCheck { customer: u64, amount: i64 },
    /// Moves an amount.
    SendPayment { from: u64, to: u64, amount: i64 },
}

impl Request {
    /// The contract's name.
    #[must_use]
    pub const fn contract(&self) -> &'static str {
        match self {
            Self::Load { .. } => "load",
            Self::Balance { .. } => "balance",
            Self::DepositChecking { .. } => "deposit_checking",
            Self::TransactSavings { .. } => "transact_savings",
            Self::Amalgamate { .. } => "amalgamate",
            Self::WriteCheck { .. } => "write_check",
            Self::SendPayment { .. } => "send_payment",
        }
    }

    /// The arguments by name, in the contract's order. All are whole numbers.
    pub fn arguments(&self) -> impl Iterator<Item = (&'static str, i64)> + use<> {
        // Numbers of customers come from a count that fits in memory, far below 2^63.
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let arguments = match *self {
            Self::Load { customers } => [Some(("customers", number(customers))), None, None],
            Self::Balance { customer } => [Some(("customer", number(customer))), None, None],
            Self::DepositChecking { customer, amount }
            | Self::TransactSavings { customer, amount }
            | Self::WriteCheck { customer, amount } => {
                [Some(("customer", number(customer))), Some(("amount", amount)), None]
            }
            Self::Amalgamate { from, to } => {
                [Some(("from", number(from))), Some(("to", number(to))), None]
            }
            Self::SendPayment { from, to, amount } => {
                [Some(("from", number(from))), Some(("to", number(to))), Some(("amount", amount))]
            }
        };
        arguments.into_iter().flatten()
    }
}

impl fmt::Display for Request {
    /// Writes the line of a request file, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contract = self.contract();
        write!(f, r#"{{"daemon":"smallbank","contract":"{contract}","args":{{"#)?;
        for (place, (name, value)) in self.arguments().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, r#"{comma}"{name}":{value}"#)?;
        }
        f.write_str("}}")
    }
}

/// The endless mixture, for a number of customers that are loaded already.
#[derive(Clone, Debug)]
pub struct Mix {
    customers: u64,
    access: Access,
    random: Random,
}

impl Mix {
    /// A mixture over `customers` customers.
    ///
    /// # Panics
    ///
    /// With fewer than two customers, or a hot spot of fewer: payments need two sides.
    #[must_use]
    pub fn new(customers: u64, access: Access, seed: u64) -> Self {
        assert!(customers >= 2, "payments need two customers");
        if let Access::HotSpot { customers: hot, percent } = access {
            assert!(2 <= hot && hot <= customers, "a hot spot has two customers, or up to all");
            assert!(percent <= 100, "a share is at most 100 %");
        }
        Self { customers, access, random: Random(seed) }
    }

    /// The request that the mix takes for granted.
    #[must_use]
    pub const fn load(&self) -> Request {
        Request::Load { customers: self.customers }
    }

    fn customer(&mut self) -> u64 {
        let among = match self.access {
            Access::HotSpot { customers, percent } if self.random.below(100) < percent => customers,
            Access::HotSpot { .. } | Access::Uniform => self.customers,
        };
        self.random.below(among)
    }

    fn two_customers(&mut self) -> (u64, u64) {
        let from = self.customer();
        loop {
            let to = self.customer();
            if to != from {
                return (from, to);
            }
        }
    }
}

impl Iterator for Mix {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        Some(match self.random.below(100) {
            0..15 => Request::Balance { customer: self.customer() },
            15..30 => Request::DepositChecking { customer: self.customer(), amount: DEPOSIT_CENTS },
            30..45 => Request::TransactSavings { customer: self.customer(), amount: SAVINGS_CENTS },
            45..60 => {
                let (from, to) = self.two_customers();
                Request::Amalgamate { from, to }
            }
            60..75 => Request::WriteCheck { customer: self.customer(), amount: CHECK_CENTS },
            _ => {
                let (from, to) = self.two_customers();
                Request::SendPayment { from, to, amount: PAYMENT_CENTS }
            }
        })
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// A number below `bound`. The bias of the remainder is below one in 2^40 for the bounds here.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_shares_are_the_published_ones() {
        let mut counts = BTreeMap::new();
        for request in Mix::new(1000, Access::Uniform, 1).take(100_000) {
            *counts.entry(request.contract()).or_insert(0_i32) += 1;
        }
        for (contract, count) in counts {
            let share = if contract == "send_payment" { 25_000 } else { 15_000 };
            assert!((count - share).abs() < 500, "{contract}: {count}");
        }
    }

    #[test]
    fn the_hot_spot_is_hot() {
        let mut hot = 0;
        let requests = Mix::new(10_000, Access::HOT_SPOT, 1)
            .filter_map(|request| match request {
                Request::Balance { customer } => Some(customer),
                _ => None,
            })
            .take(10_000);
        for customer in requests {
            hot += i32::from(customer < 100);
        }
        // 90 %, and 1 % of the others.
        assert!((hot - 9010).abs() < 150, "{hot}");
    }

    #[test]
    fn a_seed_gives_the_same_requests() {
        let requests = |seed| Mix::new(100, Access::HOT_SPOT, seed).take(1000).collect::<Vec<_>>();
        assert_eq!(requests(3), requests(3));
        assert_ne!(requests(3), requests(4));
    }

    #[test]
    fn a_line_is_json() {
        let request = Request::SendPayment { from: 1, to: 2, amount: 500 };
        let expected = concat!(
            r#"{"daemon":"smallbank","contract":"send_payment","#,
            r#""args":{"from":1,"to":2,"amount":500}}"#
        );
        assert_eq!(request.to_string(), expected);
    }
}
