//! What a data directory keeps about a copy beside its state: how it is run.
//!
//! A daemon of a file has its options from the command line or a manifest at each start. A copy has
//! no file, so its options are written down when it is made. They are kept as people write them,
//! and read by the same functions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use supervisor::policy::{Exhausted, Policy};

use super::pace::CpuShare;
use super::policy::OnCrash;
use super::setting::{parse_deadline, parse_restarts};
use crate::base::limits::{DEADLINE_MAX, RESTARTS_WINDOW_MAX};

/// How a copy is run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KeptSetup {
    /// The resources that it can't do without, as SERVICE/NAME.
    pub needs: Vec<String>,
    /// Those that it can do without.
    pub uses: Vec<String>,
    /// Fuel per transaction.
    pub fuel: u64,
    /// Time per transaction, like `1000ms`.
    deadline: String,
    /// Times that a crashed transaction is tried again.
    pub retries: u32,
    /// The same after live calls.
    pub retry_live: bool,
    /// The word for what follows a crash.
    on_crash: String,
    /// Deaths of its thread, like `10/60000ms,park`.
    restarts: String,
    /// Share of one processor, in thousandths.
    cpu: u32,
    /// What its `init` gets.
    pub parameters: Map<String, Value>,
}

/// The parts that are kept as texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parts {
    /// Time per transaction.
    pub deadline: std::time::Duration,
    /// Which state follows a crash.
    pub on_crash: OnCrash,
    /// How often its thread is started again.
    pub restarts: Policy,
    /// Share of one processor.
    pub share: CpuShare,
}

impl KeptSetup {
    /// One with these parts, and nothing else yet.
    #[must_use]
    pub fn new(parts: &Parts) -> Self {
        Self {
            needs: Vec::new(),
            uses: Vec::new(),
            fuel: 0,
            deadline: format!("{}ms", parts.deadline.min(DEADLINE_MAX).as_millis().max(1)),
            retries: 0,
            retry_live: false,
            on_crash: parts.on_crash.as_str().to_owned(),
            restarts: show_restarts(&parts.restarts),
            cpu: parts.share.thousandths(),
            parameters: Map::new(),
        }
    }

    /// The parts that are kept as texts; none when a later host wrote words that are unknown here.
    #[must_use]
    pub fn parts(&self) -> Option<Parts> {
        Some(Parts {
            deadline: parse_deadline(&self.deadline).ok()?,
            on_crash: self.on_crash.parse().ok()?,
            restarts: parse_restarts(&self.restarts).ok()?,
            share: CpuShare::from_thousandths(self.cpu)?,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Texts, numbers and a map with texts as keys: JSON has them all.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`KeptSetup::encode`] made; none for anything that can't be used.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let setup: Self = serde_json::from_slice(bytes).ok()?;
        setup.parts().map(|_usable| setup)
    }
}

fn show_restarts(policy: &Policy) -> String {
    let then = match policy.exhausted() {
        Exhausted::Emergency => "emergency",
        // A daemon has no parent to escalate to.
        Exhausted::Park | Exhausted::Escalate => "park",
    };
    let intensity = policy.intensity().unwrap_or_default();
    let window = intensity.window().min(RESTARTS_WINDOW_MAX).as_millis().max(1);
    format!("{}/{window}ms,{then}", intensity.restarts_max())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        for on_crash in [OnCrash::Checkpoint, OnCrash::Zero, OnCrash::Ask] {
            for restarts in ["10/60s,park", "0/1ms,emergency", "1024/24m"] {
                for thousandths in [1, 500, 1000] {
                    let parts = Parts {
                        deadline: Duration::from_millis(u64::from(thousandths)),
                        on_crash,
                        restarts: parse_restarts(restarts).unwrap(),
                        share: CpuShare::from_thousandths(thousandths).unwrap(),
                    };
                    let mut kept = KeptSetup::new(&parts);
                    kept.uses = vec!["limits/cache".to_owned()];
                    (kept.fuel, kept.retries, kept.retry_live) = (7, 3, true);
                    kept.parameters.insert("a".to_owned(), json!({"b": [1, null]}));
                    let read = KeptSetup::decode(&kept.encode()).unwrap();
                    assert_eq!(read, kept);
                    assert_eq!(read.parts(), Some(parts));
                }
            }
        }
    }

    #[test]
    fn bytes_that_mean_nothing_here_are_none() {
        let parts = Parts {
            deadline: Duration::from_secs(1),
            on_crash: OnCrash::Ask,
            restarts: parse_restarts("10/60s").unwrap(),
            share: CpuShare::FULL,
        };
        let good = String::from_utf8(KeptSetup::new(&parts).encode()).unwrap();
        assert!(KeptSetup::decode(good.as_bytes()).is_some());
        for (from, to) in
            [("ask", "wish"), ("1000ms", "1y"), ("/60000ms", ""), ("\"cpu\":1000", "\"cpu\":0")]
        {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert_eq!(KeptSetup::decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(KeptSetup::decode(b""), None);
    }
}
