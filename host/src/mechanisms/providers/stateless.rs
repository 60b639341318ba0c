//! Resources that can't die: there is nothing behind them but the host itself.

use std::collections::BTreeMap;

use super::{Connection, NoConnection, Pending, Provider};

/// A resource that is always available.
#[derive(Debug)]
pub struct Stateless {
    kind: &'static str,
    values: Option<BTreeMap<String, String>>,
}

impl Stateless {
    /// One of this kind.
    #[must_use]
    pub fn new(kind: &'static str) -> Self {
        Self { kind, values: None }
    }

    /// Constants.
    #[must_use]
    pub fn config(values: BTreeMap<String, String>) -> Self {
        Self { kind: "config", values: Some(values) }
    }
}

impl Provider for Stateless {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn place(&self) -> String {
        "this host".to_owned()
    }

    fn values(&self) -> Option<&BTreeMap<String, String>> {
        self.values.as_ref()
    }

    fn can_die(&self) -> bool {
        false
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, NoConnection>> {
        Box::pin(async { Err(NoConnection::Failed("there is nothing to connect to".to_owned())) })
    }
}
