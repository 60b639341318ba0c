//! Which crashes become reports on disk: decided per daemon, from values alone.
//!
//! A guest may crash 100,000 times a second, and its reports must neither fill the disk nor push
//! those of other daemons out. So the same crash again is not written again, and what is left has a
//! rate: [`BURST`] reports at once, then one per [`REFILL_NANOS`].

use super::request::Crash;
use crate::base::ids::{RequestId, Sequence};

/// Reports that a quiet daemon may make at once: enough to see the different ways in which a new
/// version fails.
pub const BURST: u32 = 20;

/// Nanoseconds after which a daemon may make another one: an incident that lasts leaves a report
/// for each minute of it, and a week of them is some megabytes.
pub const REFILL_NANOS: u64 = 60_000_000_000;

/// Reports that a crash is compared with: clients that try again make a few alternate.
const RECENT: usize = 8;

/// Bytes of the arguments that are compared, beside their length.
const COMPARED_BYTES: usize = 64 << 10;

/// What is done about a crash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// Make a report.
    Report,
    /// This report says the same.
    Same(RequestId),
    /// Nothing: there were too many.
    LeaveOut,
}

/// What tells crashes apart: the same commit, request and end make the same report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fingerprint(blake3::Hash);

impl Fingerprint {
    /// Of a crash on the commit `sequence`, whose record has the hash `record`.
    #[must_use]
    pub fn of(
        sequence: Sequence,
        record: &blake3::Hash,
        contract: u32,
        arguments: &[u8],
        crash: &Crash,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&sequence.0.to_le_bytes());
        hasher.update(record.as_bytes());
        hasher.update(&contract.to_le_bytes());
        hasher.update(crash.code.as_str().as_bytes());
        hasher.update(&(crash.message.len() as u64).to_le_bytes());
        hasher.update(crash.message.as_bytes());
        hasher.update(&(arguments.len() as u64).to_le_bytes());
        hasher.update(arguments.get(..COMPARED_BYTES).unwrap_or(arguments));
        Self(hasher.finalize())
    }
}

/// The reports of one daemon.
#[derive(Clone, Debug)]
pub struct CrashRate {
    left: u32,
    /// Since when the next one is being waited for.
    since_nanos: u64,
    recent: [Option<(Fingerprint, RequestId)>; RECENT],
    next: usize,
}

impl Default for CrashRate {
    fn default() -> Self {
        Self { left: BURST, since_nanos: 0, recent: [None; RECENT], next: 0 }
    }
}

impl CrashRate {
    /// Decides about a crash at `now_nanos`, monotonic.
    pub fn decide(&mut self, now_nanos: u64, crash: &Fingerprint) -> Keep {
        let known = self.recent.iter().flatten().find(|(known, _)| known == crash);
        if let Some((_, id)) = known {
            return Keep::Same(*id);
        }
        let earned = now_nanos.saturating_sub(self.since_nanos) / REFILL_NANOS;
        self.since_nanos += earned * REFILL_NANOS;
        self.left = u32::try_from(earned).unwrap_or(u32::MAX).saturating_add(self.left).min(BURST);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Keep::Report
            }
            None => Keep::LeaveOut,
        }
    }

    /// Remembers a report that was made.
    pub fn made(&mut self, crash: Fingerprint, id: RequestId) {
        if let Some(place) = self.recent.get_mut(self.next) {
            *place = Some((crash, id));
        }
        self.next = (self.next + 1) % RECENT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Code;
    use crate::base::ids::Generation;

    fn crash(message: &str) -> Crash {
        Crash {
            code: Code::Unreachable,
            blame: Code::Unreachable.blame(),
            message: message.to_owned(),
            backtrace: Vec::new(),
            fuel_used: 1,
            cards_changed: 1,
            attempt: 1,
            generation: Generation(1),
            poison: false,
            report: None,
        }
    }

    fn fingerprint(number: u64) -> Fingerprint {
        let record = blake3::hash(b"");
        Fingerprint::of(Sequence(number), &record, 0, &[], &crash("x"))
    }

    /// Different crashes, 100,000 a second for ten minutes.
    #[test]
    fn a_storm_leaves_a_burst_and_one_report_per_minute() {
        let mut rate = CrashRate::default();
        let (start, step) = (5_000_000_000_000_u64, 1_000_000_u64);
        let mut kept = 0;
        for number in 0..600_000 {
            let now = start + number * step;
            match rate.decide(now, &fingerprint(number)) {
                Keep::Report => {
                    kept += 1;
                    rate.made(fingerprint(number), RequestId(number));
                }
                Keep::LeaveOut => {}
                Keep::Same(id) => panic!("{number} is not {id}"),
            }
        }
        assert!((BURST..=BURST + 10).contains(&kept), "{kept}");
        // A long rest, and there is one burst again, not more.
        let later = start + 1_000 * REFILL_NANOS;
        let again = (1_000_000..1_000_100)
            .filter(|&number| rate.decide(later, &fingerprint(number)) == Keep::Report);
        assert_eq!(again.count(), BURST as usize);
    }

    #[test]
    fn the_same_crash_again_is_the_same_report_while_it_is_recent() {
        let mut rate = CrashRate::default();
        assert_eq!(rate.decide(0, &fingerprint(0)), Keep::Report);
        rate.made(fingerprint(0), RequestId(7));
        for _ in 0..1000 {
            assert_eq!(rate.decide(0, &fingerprint(0)), Keep::Same(RequestId(7)));
        }
        for number in 1..=RECENT as u64 {
            assert_eq!(rate.decide(0, &fingerprint(number)), Keep::Report);
            rate.made(fingerprint(number), RequestId(number));
        }
        assert_eq!(rate.decide(0, &fingerprint(0)), Keep::Report, "forgotten");
    }

    #[test]
    fn crashes_are_the_same_only_if_all_that_matters_is() {
        let record = blake3::hash(b"a");
        let of = |sequence, record: &[u8], contract, arguments: &[u8], crash: &Crash| {
            let record = blake3::hash(record);
            Fingerprint::of(Sequence(sequence), &record, contract, arguments, crash)
        };
        let first = Fingerprint::of(Sequence(1), &record, 1, &[1], &crash("x"));
        let later = Crash { generation: Generation(5), fuel_used: 9, ..crash("x") };
        assert_eq!(of(1, b"a", 1, &[1], &later), first, "when it was doesn't matter");
        let fuel = Crash { code: Code::Fuel, ..crash("x") };
        for other in [
            of(2, b"a", 1, &[1], &crash("x")),
            of(1, b"b", 1, &[1], &crash("x")),
            of(1, b"a", 2, &[1], &crash("x")),
            of(1, b"a", 1, &[2], &crash("x")),
            of(1, b"a", 1, &[1], &crash("y")),
            of(1, b"a", 1, &[1], &fuel),
            of(1, b"a", 1, &[0; COMPARED_BYTES + 1], &crash("x")),
            of(1, b"a", 1, &[0; COMPARED_BYTES + 2], &crash("x")),
        ] {
            assert_ne!(other, first);
        }
    }
}
