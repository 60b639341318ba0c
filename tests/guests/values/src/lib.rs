//! A guest of the tests that takes, answers and keeps values of the types that guests use most.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use guest_sdk::bytes::Bytes;
use guest_sdk::chrono::{DateTime, NaiveDate, Utc};
use guest_sdk::prelude::*;
use guest_sdk::rust_decimal::Decimal;
use guest_sdk::url::Url;
use guest_sdk::uuid::Uuid;

/// Types of other crates, and of std.
#[data]
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// When.
    pub at: DateTime<Utc>,
    /// A day.
    pub day: NaiveDate,
    /// How long.
    pub lasts: Duration,
    /// An id.
    pub id: Uuid,
    /// Money.
    pub price: Decimal,
    /// A page.
    pub page: Url,
    /// A machine.
    pub address: IpAddr,
    /// A server.
    pub peer: SocketAddr,
    /// Bytes, one by one in JSON.
    pub blob: Bytes,
    /// The same without a type of its own.
    pub raw: Vec<u8>,
}

/// Types that are no part of JSON.
#[data]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Odd {
    /// Over 64 bits.
    pub wide: u128,
    /// The same, below zero.
    pub low: i128,
    /// Not a number, or without end.
    pub float: f64,
    /// A small one.
    pub single: f32,
    /// Keys that are numbers.
    pub by_number: BTreeMap<u64, String>,
    /// Also below zero.
    pub by_sign: BTreeMap<i8, bool>,
    /// Two keys.
    pub by_truth: BTreeMap<bool, u8>,
    /// Keys of one letter.
    pub by_letter: BTreeMap<char, Nothing>,
    /// Keys of another crate's type.
    pub by_id: BTreeMap<Uuid, u8>,
}

/// It is there or not.
#[data]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nothing;

/// What was kept.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Values {
    known: Vec<Known>,
    odd: Odd,
    known_by_id: BTreeMap<Uuid, Known>,
    somes: Vec<Option<Option<Option<()>>>>,
    cash: u64,
}

#[guest]
impl Values {
    /// Keeps one of each type and answers them.
    #[expect(clippy::too_many_arguments, reason = "one of each type")]
    pub fn keep(
        &mut self,
        at: DateTime<Utc>,
        day: NaiveDate,
        lasts: Duration,
        id: Uuid,
        price: Decimal,
        page: Url,
        address: IpAddr,
        peer: SocketAddr,
        blob: Bytes,
        raw: Vec<u8>,
    ) -> Known {
        let known = Known { at, day, lasts, id, price, page, address, peer, blob, raw };
        self.known.push(known.clone());
        self.known_by_id.insert(id, known.clone());
        known
    }

    /// Answers all that was kept.
    pub fn known(&self) -> BTreeMap<Uuid, Known> {
        self.known_by_id.clone()
    }

    /// Adds a day, for arithmetic's sake.
    pub fn tomorrow(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        at.checked_add_days(guest_sdk::chrono::Days::new(1))
    }

    /// The time of the transaction.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    /// Keeps types that are no part of JSON, and answers what was there before.
    pub fn swap(&mut self, odd: Odd) -> Odd {
        std::mem::replace(&mut self.odd, odd)
    }

    /// Answers them.
    pub fn odd(&self) -> Odd {
        self.odd.clone()
    }

    /// Twice a number that 64 bits need not hold.
    pub fn twice(&self, wide: u128) -> Option<u128> {
        wide.checked_mul(2)
    }

    /// A float and its negative.
    pub fn mirrored(&self, float: f64) -> (f64, f64) {
        (float, -float)
    }

    /// Keeps nothing in as many ways as there are.
    pub fn keep_nothing(&mut self) {
        self.somes = vec![None, Some(None), Some(Some(None)), Some(Some(Some(())))];
    }

    /// Whether they are still told apart.
    pub fn nothings(&self) -> Vec<u8> {
        let depth = |some: &Option<Option<Option<()>>>| match some {
            None => 0,
            Some(None) => 1,
            Some(Some(None)) => 2,
            Some(Some(Some(()))) => 3,
        };
        self.somes.iter().map(depth).collect()
    }

    /// Pays in.
    pub fn deposit(&mut self, amount: u64) -> u64 {
        self.cash += amount;
        self.cash
    }

    /// Takes out, and trusts its callers.
    pub fn withdraw(&mut self, amount: u64) -> u64 {
        self.cash -= amount;
        self.cash
    }
}
