//! Resources that can't die: there is nothing behind them but the host itself.

use super::{Connection, Pending, Provider};

/// A resource that is always available.
#[derive(Debug)]
pub struct Stateless(&'static str);

impl Stateless {
    /// One of this kind.
    #[must_use]
    pub fn new(kind: &'static str) -> Self {
        Self(kind)
    }
}

impl Provider for Stateless {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn place(&self) -> String {
        "this host".to_owned()
    }

    fn can_die(&self) -> bool {
        false
    }

    fn connect(&self) -> Pending<'_, Result<Box<dyn Connection>, String>> {
        Box::pin(async { Err("there is nothing to connect to".to_owned()) })
    }
}
