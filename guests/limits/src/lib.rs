//! A rate limiter whose counts are in a Redis, so that several hosts can share them.
//!
//! | contract | when the Redis is down |
//! |---|---|
//! | `take` | is refused, or waits with `--wait`: it needs the resource `cache` |
//! | `take_anyway` | goes by what this daemon itself has counted |
//!
//! The daemon itself can do without: its manifest says `uses = ["cache"]`.

use guest_sdk::prelude::*;
use guest_sdk::redis;
use guest_sdk::resource::CallError;

const CACHE: &str = "cache";

/// Counts one more in a window of so many seconds, and answers how many there are now. One step, so
/// that a count never stays without its end.
const COUNT: &str = "local count = redis.call('INCR', KEYS[1]) \
                     if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end \
                     return count";

/// What it counted while nobody else could.
#[state]
#[derive(Clone, Debug, Default)]
pub struct Limits {
    counted_here: BTreeMap<String, u64>,
}

/// A request that is within its limit.
#[data]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    /// How many more there are in this window.
    pub left: u64,
    /// Whether all hosts were counted, or this one alone.
    pub shared: bool,
}

#[guest]
impl Limits {
    /// Takes one of `limit` permits that `user` has in a window of `seconds`; `limited` when there
    /// is none left.
    #[needs("cache")]
    pub fn take(&mut self, user: String, limit: u64, seconds: u32) -> Result<Permit, Rejection> {
        let count = count_in_cache(&user, seconds)?;
        permit(&user, count, limit, true)
    }

    /// The same. While the cache is down it goes by what this daemon has counted since then.
    pub fn take_anyway(
        &mut self,
        user: String,
        limit: u64,
        seconds: u32,
    ) -> Result<Permit, Rejection> {
        match count_in_cache(&user, seconds) {
            Ok(count) => {
                self.counted_here.clear();
                permit(&user, count, limit, true)
            }
            Err(CallError::Unavailable(_)) => {
                let count = self.counted_here.entry(user.clone()).or_default();
                *count += 1;
                permit(&user, *count, limit, false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Users that were counted without the cache.
    pub fn counted_here(&self) -> BTreeMap<String, u64> {
        self.counted_here.clone()
    }

    /// The cache died under a transaction. It may have counted: nobody is let through twice for it.
    #[on_stale]
    fn stale(&self, stale: Stale) -> Result<Fallback, Rejection> {
        if stale.contract == "take_anyway" {
            return Fallback::value(&Permit { left: 0, shared: false });
        }
        Ok(Fallback::none())
    }

    /// Forgets what will be counted elsewhere.
    #[shutdown]
    fn shutdown(&mut self) {
        self.counted_here.clear();
    }
}

fn count_in_cache(user: &str, seconds: u32) -> Result<u64, CallError> {
    let key = format!("limits:{user}");
    let count = redis::eval(CACHE, COUNT, [key], [seconds.to_string()])?;
    Ok(count.int().and_then(|count| u64::try_from(count).ok()).unwrap_or(u64::MAX))
}

fn permit(user: &str, count: u64, limit: u64, shared: bool) -> Result<Permit, Rejection> {
    ensure!(count <= limit, "limited", "{user} has had its {limit} requests");
    Ok(Permit { left: limit - count, shared })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use guest_sdk::redis::Value;
    use guest_sdk::test::{Harness, json};

    use super::*;

    fn arguments() -> guest_sdk::test::Value {
        json!({"user": "ann", "limit": 2, "seconds": 60})
    }

    #[test]
    fn a_limit_is_kept_by_the_cache_and_by_this_daemon_when_that_is_down() {
        let mut limits = Harness::<Limits>::new(json!({}));
        let count = Cell::new(0);
        limits.set_redis(CACHE, move |words| {
            assert_eq!(words[3..], [b"limits:ann".to_vec(), b"60".to_vec()]);
            count.set(count.get() + 1);
            Ok(Value::Int(count.get()))
        });
        let left =
            |permit: guest_sdk::test::Value| (permit["left"].clone(), permit["shared"].clone());
        let taken = limits.call("take", arguments()).committed();
        assert_eq!(left(taken), (json!(1), json!(true)));
        assert_eq!(left(limits.call("take_anyway", arguments()).committed()).0, json!(0));
        assert_eq!(limits.call("take", arguments()).rejected().code(), "limited");
        limits.set_down(CACHE, "nobody answers");
        let code = limits.call("take", arguments()).rejected().code().to_owned();
        assert_eq!(code, "resource_unavailable");
        for expected in [1, 0] {
            let taken = limits.call("take_anyway", arguments()).committed();
            assert_eq!(left(taken), (json!(expected), json!(false)));
        }
        assert_eq!(limits.call("take_anyway", arguments()).rejected().code(), "limited");
        assert_eq!(limits.call("counted_here", json!([])).committed(), json!({"ann": 2}));
        let _end = limits.shutdown().committed();
        assert_eq!(limits.call("counted_here", json!([])).committed(), json!({}));
    }

    #[test]
    fn who_was_cancelled_is_not_counted_twice() {
        let mut limits = Harness::<Limits>::new(json!({}));
        let fallback = limits.stale("take_anyway", CACHE).unwrap().committed();
        assert_eq!(fallback, json!({"left": 0, "shared": false}));
        assert_eq!(limits.stale("take", CACHE), None);
    }
}
