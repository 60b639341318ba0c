//! A guest of the tests whose state other code does not keep whole: `stock-next`.

use guest_sdk::prelude::*;

/// All that is in stock.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Stock {
    names: Vec<String>,
    sold: u64,
    items: BTreeMap<String, Item>,
    chain: Option<Box<Link>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flat: Option<Flat>,
}

/// One thing.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Item {
    price: u64,
    label: String,
}

/// A list as textbooks have it.
#[state]
#[derive(Clone, Debug)]
pub struct Link {
    next: Option<Box<Link>>,
}

/// What serde can write, and not read again.
#[state]
#[derive(Clone, Debug)]
pub struct Flat {
    #[serde(flatten)]
    wide: Wide,
}

/// It is all right where it isn't flattened.
#[state]
#[derive(Clone, Debug)]
pub struct Wide {
    wide: u128,
}

#[guest]
impl Stock {
    /// Adds a name.
    pub fn name(&mut self, name: String) {
        self.names.push(name);
    }

    /// Answers the names.
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// Says how many were sold.
    pub fn sell(&mut self, sold: u64) {
        self.sold = sold;
    }

    /// Adds an item.
    pub fn add(&mut self, name: String, price: u64, label: String) {
        self.items.insert(name, Item { price, label });
    }

    /// Makes a chain of so many links.
    pub fn link(&mut self, count: u64) {
        self.chain = None;
        for _ in 0..count {
            self.chain = Some(Box::new(Link { next: self.chain.take() }));
        }
    }

    /// Sets a number of up to 128 bits, or none.
    pub fn widen(&mut self, wide: Option<u128>) {
        self.flat = wide.map(|wide| Flat { wide: Wide { wide } });
    }
}
