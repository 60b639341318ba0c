//! {{name}}: greets people and remembers how often.

use guest_sdk::prelude::*;

/// The state. It lives in memory, and every change of a committed call is kept. As `#[state]` it
/// can be handed over to a later build of this guest: `host upgrade`.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Greeter {
    greetings: BTreeMap<String, u64>,
}

#[guest]
impl Greeter {
    /// Greets `who` and answers the greeting.
    pub fn greet(&mut self, who: String) -> Result<String, Rejection> {
        ensure!(!who.is_empty(), "nobody", "there is nobody to greet");
        let count = self.greetings.entry(who.clone()).or_default();
        *count += 1;
        info!(count = *count, "greeting {who}");
        Ok(format!("Hello {who}! This is greeting number {count}."))
    }

    /// Answers how often `who` was greeted.
    pub fn greetings(&self, who: String) -> u64 {
        self.greetings.get(&who).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use guest_sdk::test::{Harness, json};

    use super::*;

    #[test]
    fn greetings_are_counted() {
        let mut greeter = Harness::<Greeter>::new(json!({}));
        let greeting = greeter.call("greet", json!({"who": "ann"})).committed();
        assert_eq!(greeting, json!("Hello ann! This is greeting number 1."));
        assert_eq!(
            greeter.call("greetings", json!({"who": "ann"})).committed(),
            json!(1)
        );
    }

    #[test]
    fn a_later_build_takes_the_state_over() {
        let mut greeter = Harness::<Greeter>::new(json!({}));
        greeter.call("greet", json!({"who": "ann"})).committed();
        let mut next: Harness<Greeter> = greeter.upgrade().unwrap();
        assert_eq!(
            next.call("greetings", json!({"who": "ann"})).committed(),
            json!(1)
        );
    }

    #[test]
    fn nobody_is_not_greeted() {
        let mut greeter = Harness::<Greeter>::new(json!({}));
        let rejection = greeter.call("greet", json!({"who": ""})).rejected();
        assert_eq!(rejection.code(), "nobody");
        assert_eq!(
            greeter.call("greetings", json!({"who": ""})).committed(),
            json!(0)
        );
    }
}
