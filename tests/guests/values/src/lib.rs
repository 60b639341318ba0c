//! A guest of the tests that takes, answers and keeps values of the types that guests use most.

use std::iter;
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

/// An enum of all forms.
#[data]
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Nothing in it.
    #[serde(alias = "Crimson")]
    Red,
    /// One value.
    Shade(u8),
    /// Several.
    Pair(i8, bool),
    /// Fields.
    #[serde(alias = "Own")]
    Custom {
        /// Over 64 bits.
        wide: u128,
        /// A text that older callers know by another name.
        #[serde(alias = "label")]
        name: String,
    },
}

/// One that says what it is.
#[data]
#[derive(Clone, Debug, PartialEq)]
#[serde(tag = "type")]
pub enum Shape {
    /// Round.
    Circle {
        /// Half as wide.
        radius: f64,
    },
    /// Not round.
    #[serde(alias = "Quad")]
    Square {
        /// As wide.
        #[serde(alias = "edge")]
        side: f64,
    },
}

/// A struct with others in it.
#[data]
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// A small number.
    #[serde(alias = "quantity", alias = "count")]
    pub amount: u8,
    /// What may be left out.
    pub note: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Or this.
    pub shape: Option<Shape>,
}

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

    /// Answers what it was given: types of other crates in structs.
    pub fn echo(&self, all: Vec<Known>) -> Vec<Known> {
        all
    }

    /// The same for decimals.
    pub fn rates(&self, rate: Decimal, others: Option<Vec<Decimal>>) -> Vec<Decimal> {
        iter::once(rate).chain(others.unwrap_or_default()).collect()
    }

    /// Twice a number that 64 bits need not hold.
    pub fn twice(&self, wide: u128) -> Option<u128> {
        wide.checked_mul(2)
    }

    /// A float and its negative.
    pub fn mirrored(&self, float: f64) -> (f64, f64) {
        (float, -float)
    }

    /// Answers what it was given: enums and structs in each other.
    pub fn lines(&self, lines: Vec<Line>) -> Vec<Line> {
        lines
    }

    /// The same for maps whose keys are no texts.
    pub fn keys(
        &self,
        numbers: BTreeMap<u64, String>,
        wide: BTreeMap<i128, u8>,
        truths: BTreeMap<bool, u8>,
    ) -> (BTreeMap<u64, String>, BTreeMap<i128, u8>, BTreeMap<bool, u8>) {
        (numbers, wide, truths)
    }

    /// The same for floats of both widths.
    pub fn floats(&self, doubles: Vec<f64>, singles: Vec<f32>) -> (Vec<f64>, Vec<f32>) {
        (doubles, singles)
    }

    /// The same for integers of 128 bits.
    pub fn wide(&self, low: i128, high: u128) -> (i128, u128) {
        (low, high)
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
