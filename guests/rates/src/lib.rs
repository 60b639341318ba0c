//! Two daemons in one guest: what one sets and shows, others look at.
//!
//! ```
//! use guest_sdk::prelude::*;
//! use guest_sdk::test::{Harness, json};
//! use rates::Rates;
//!
//! let mut rates = Harness::<Rates>::new(json!({}));
//! rates.call("set", json!({"currency": "EUR", "rate": 1.1})).committed();
//! let shown: BTreeMap<String, f64> = rates.shown().unwrap_or_default();
//! assert_eq!(shown["EUR"], 1.1);
//!
//! let mut till = Harness::<Rates>::new(json!({}));
//! till.set_output("rates", 1, &shown);
//! let sale = till.call("sell", json!({"at": "rates", "currency": "EUR", "amount": 10.0}));
//! assert_eq!(sale.committed(), json!({"value": 11.0, "version": 1}));
//! ```

use guest_sdk::output::Output;
use guest_sdk::prelude::*;

/// Exchange rates, and what was sold at those of others.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Rates {
    rates: BTreeMap<String, f64>,
    shown: Output,
    sold: f64,
}

/// What an amount is worth.
#[data]
#[derive(Debug)]
pub struct Sale {
    value: f64,
    /// The commit of the other daemon whose rates these are.
    version: u64,
}

#[guest]
impl Rates {
    /// Sets a rate and shows all of them; `rate` where it is no positive number.
    pub fn set(&mut self, currency: String, rate: f64) -> Result<(), Rejection> {
        self.rates.insert(currency, rate);
        self.shown.show(&self.rates)?;
        // A rejection undoes what came before, also what is shown.
        ensure!(rate.is_finite() && rate > 0.0, "rate", "{rate} is no positive number");
        Ok(())
    }

    /// Shows nothing any more.
    pub fn hide(&mut self) {
        self.shown.hide();
    }

    /// Books an amount at the rates that the daemon `at` shows; `unknown` where it shows none.
    pub fn sell(&mut self, at: String, currency: String, amount: f64) -> Result<Sale, Rejection> {
        let sale = worth(&at, &currency, amount)?;
        self.sold += sale.value;
        Ok(sale)
    }

    /// Answers what an amount is worth at the rates that the daemon `at` shows.
    pub fn worth(&self, at: String, currency: String, amount: f64) -> Result<Sale, Rejection> {
        worth(&at, &currency, amount)
    }

    /// Answers what was sold.
    pub fn sold(&self) -> f64 {
        self.sold
    }
}

fn worth(at: &str, currency: &str, amount: f64) -> Result<Sale, Rejection> {
    let seen = output::look::<BTreeMap<String, f64>>(at)?;
    let rate = seen.as_ref().and_then(|seen| seen.value.get(currency));
    let (Some(rate), Some(seen)) = (rate, &seen) else {
        reject!("unknown", "`{at}` shows no rate of {currency}");
    };
    let value = amount * rate;
    assert!(value.is_finite(), "{amount} {currency} at {rate} are more than a number holds");
    Ok(Sale { value, version: seen.sequence })
}
