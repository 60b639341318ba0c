//! The guest `stock` after changes that look harmless: a field has another name, one is gone, and a
//! number is narrower.

use guest_sdk::prelude::*;

/// All that is in stock.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Stock {
    #[serde(default)]
    titles: Vec<String>,
    sold: f32,
    items: BTreeMap<String, Item>,
}

/// One thing.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Item {
    price: u64,
    #[serde(default)]
    weight: u64,
}

#[guest]
impl Stock {
    /// Answers the titles.
    pub fn titles(&self) -> Vec<String> {
        self.titles.clone()
    }

    /// Answers how many were sold.
    pub fn sold(&self) -> f32 {
        self.sold
    }

    /// Answers what all items weigh and cost.
    pub fn total(&self) -> (u64, u64) {
        self.items.values().fold((0, 0), |all, item| (all.0 + item.weight, all.1 + item.price))
    }
}
