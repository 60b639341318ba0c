//! A guest that dies in every way it can, so that tests can see the host undo it.
//!
//! `die(how)` first changes the state, so that a rollback that is missing shows in `state`. The
//! other contracts give tests something to hold and to move: `touch` dirties pages, `hold` makes
//! the state large, `echo` sends text of any size both ways, `print` uses standard output.
//!
//! | parameter | |
//! |---|---|
//! | `refuse_init` | `true`: `init` rejects with `refused` |
//! | `die_in_init` | a way to die: `init` does |
//! | `refuse_recover` | `true`: `recover` rejects with `refused` |
//! | `die_in_recover` | a way to die: `recover` does |
//! | `recovery` | `resume` (default), `zero` or `park`: what `recover` answers otherwise |
//!
//! Outside wasm every way to die is a panic, save `leak_handle`, which then does nothing.

mod ways;

use guest_sdk::prelude::*;

pub use crate::ways::How;

/// The stride of `touch`: the smallest page of the machines that hosts run on.
pub const PAGE_BYTES: usize = 4096;

const MIB: usize = 1024 * 1024;
const HELD_BYTE: u8 = 0xa5;
const START_BALANCE: i64 = 1000;
const MOVED: i64 = 10;

/// What tests watch over.
#[state]
#[derive(Clone, Debug)]
pub struct Chaos {
    parameters: Parameters,
    /// Calls of `die` that came to a commit; of all ways only `leak_handle` even returns.
    deaths: u64,
    recoveries: u64,
    /// Two balances with a constant sum, save half way through a move.
    left: i64,
    right: i64,
    touched: Vec<u8>,
    held: Held,
}

/// Blocks of a MiB, all alike: as a value only their number counts.
#[state]
#[serde(from = "u32", into = "u32")]
#[derive(Clone, Debug, Default)]
struct Held(Vec<Vec<u8>>);

impl From<Held> for u32 {
    fn from(held: Held) -> Self {
        Self::try_from(held.0.len()).unwrap_or(Self::MAX)
    }
}

impl From<u32> for Held {
    fn from(mib: u32) -> Self {
        Self((0..mib).map(|_| vec![HELD_BYTE; MIB]).collect())
    }
}

/// How the guest is to behave where nobody calls it.
#[data]
#[serde(default, deny_unknown_fields)]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parameters {
    /// Whether `init` rejects.
    pub refuse_init: bool,
    /// How `init` dies, if it does.
    pub die_in_init: Option<How>,
    /// Whether `recover` rejects.
    pub refuse_recover: bool,
    /// How `recover` dies, if it does.
    pub die_in_recover: Option<How>,
    /// What `recover` answers otherwise.
    pub recovery: Answer,
}

/// What `recover` may answer.
#[data]
#[serde(rename_all = "snake_case")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Answer {
    /// Go on.
    #[default]
    Resume,
    /// Start over.
    Zero,
    /// Wait for a person.
    Park,
}

#[guest]
impl Chaos {
    #[init]
    fn new(parameters: Parameters) -> Result<Self, Rejection> {
        ensure!(!parameters.refuse_init, "refused", "the parameters say that init refuses");
        if let Some(how) = parameters.die_in_init {
            ways::die(how);
        }
        Ok(Self {
            parameters,
            deaths: 0,
            recoveries: 0,
            left: START_BALANCE,
            right: START_BALANCE,
            touched: Vec::new(),
            held: Held::default(),
        })
    }

    #[recover]
    fn recover(&mut self, report: CrashReport) -> Result<Recovery, Rejection> {
        warn!(code = report.code, contract = report.contract, "asked to recover");
        self.recoveries += 1;
        ensure!(
            !self.parameters.refuse_recover,
            "refused",
            "the parameters say that recover refuses"
        );
        if let Some(how) = self.parameters.die_in_recover {
            self.die(how);
        }
        Ok(match self.parameters.recovery {
            Answer::Resume => Recovery::Resume,
            Answer::Zero => Recovery::Zero,
            Answer::Park => Recovery::Park,
        })
    }

    /// Changes the state, then dies in the way asked for.
    pub fn die(&mut self, how: How) {
        self.deaths += 1;
        if let Some(byte) = self.touched.first_mut() {
            *byte = byte.wrapping_add(1);
        }
        if how == How::HalfMoved {
            self.left -= MOVED;
            ways::die(how);
            self.right += MOVED;
        } else {
            ways::die(how);
        }
    }

    /// Writes one byte in each of `pages` pages of a buffer, which grows where it has fewer, and
    /// answers how many it has; `no_room` where they do not fit.
    pub fn touch(&mut self, pages: u32) -> Result<u64, Rejection> {
        let pages = pages as usize;
        let missing = pages.saturating_mul(PAGE_BYTES).saturating_sub(self.touched.len());
        if self.touched.try_reserve_exact(missing).is_err() {
            reject!("no_room", "{pages} pages do not fit in memory");
        }
        self.touched.resize(self.touched.len() + missing, 0);
        for byte in self.touched.iter_mut().step_by(PAGE_BYTES).take(pages) {
            *byte = byte.wrapping_add(1);
        }
        Ok((self.touched.len() / PAGE_BYTES) as u64)
    }

    /// Allocates `mib` MiB more, writes to each of their pages, keeps them, and answers how many
    /// MiB are kept; `no_room` where they do not fit.
    pub fn hold(&mut self, mib: u32) -> Result<u64, Rejection> {
        for _ in 0..mib {
            let mut block = Vec::new();
            if block.try_reserve_exact(MIB).is_err() || self.held.0.try_reserve(1).is_err() {
                reject!("no_room", "{mib} MiB more do not fit in memory");
            }
            block.resize(MIB, HELD_BYTE);
            self.held.0.push(block);
        }
        Ok(self.held.0.len() as u64)
    }

    /// Answers a hash of everything that the guest holds.
    pub fn state(&self) -> u64 {
        let mut hash = Fnv::new();
        hash.number(self.deaths);
        hash.number(self.recoveries);
        hash.number(self.left.cast_unsigned());
        hash.number(self.right.cast_unsigned());
        hash.bytes(&self.touched);
        self.held.0.iter().for_each(|block| hash.bytes(block));
        hash.0
    }

    /// Answers both balances; their sum is 2000 unless a move was left half done.
    pub fn balances(&self) -> (i64, i64) {
        (self.left, self.right)
    }

    /// Answers `text` as it came.
    pub fn echo(&self, text: String) -> String {
        text
    }

    /// Prints `text` and a line break to standard output.
    pub fn print(&self, text: String) {
        println!("{text}");
    }
}

/// FNV-1a, eight bytes at a time where there are so many.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0100_0000_01b3);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|&word| self.number(u64::from_le_bytes(word)));
        rest.iter().for_each(|&byte| self.number(byte.into()));
    }
}

#[cfg(test)]
mod tests {
    use guest_sdk::test::{Harness, Outcome, Value, json};

    use super::*;

    fn chaos(parameters: Value) -> Harness<Chaos> {
        Harness::new(parameters)
    }

    fn report() -> CrashReport {
        CrashReport {
            code: "E_TRAP".to_owned(),
            message: "unreachable".to_owned(),
            contract: "die".to_owned(),
            attempt: 1,
            generation: 1,
            fuel_used: 0,
        }
    }

    #[test]
    fn every_death_is_undone() {
        let mut chaos = chaos(json!({}));
        let before = chaos.call("state", json!([])).committed();
        for how in How::ALL {
            let name = serde_name(how);
            let outcome = chaos.call("die", json!({"how": name}));
            if how == How::LeakHandle {
                assert_eq!(outcome, Outcome::Committed(Value::Null));
                assert_ne!(chaos.call("state", json!([])).committed(), before);
                chaos = self::chaos(json!({}));
            } else {
                assert!(matches!(outcome, Outcome::Crashed(_)), "{outcome:?}");
            }
            assert_eq!(chaos.call("state", json!([])).committed(), before, "{name}");
        }
    }

    /// The name of a way as the outside writes it.
    fn serde_name(how: How) -> Value {
        json!(how)
    }

    #[test]
    fn each_change_shows_in_the_state() {
        let mut chaos = chaos(json!({}));
        let mut states = vec![chaos.call("state", json!([])).committed()];
        for (contract, argument) in [("touch", 1), ("touch", 3), ("touch", 1), ("hold", 1)] {
            chaos.call(contract, json!([argument])).committed();
            states.push(chaos.call("state", json!([])).committed());
        }
        let mut distinct = states.clone();
        distinct.dedup();
        assert_eq!(states, distinct);
        assert_eq!(chaos.call("touch", json!([0])).committed(), json!(3));
        assert_eq!(chaos.call("balances", json!([])).committed(), json!([1000, 1000]));
    }

    #[test]
    fn the_parameters_refuse() {
        let refused = Harness::<Chaos>::start(json!({"refuse_init": true})).unwrap_err();
        assert_eq!(refused.code(), "refused");
        let unknown = Harness::<Chaos>::start(json!({"refuse": true})).unwrap_err();
        assert_eq!(unknown.code(), "bad_parameters");
        let answer = chaos(json!({"refuse_recover": true})).recover(report());
        assert_eq!(answer.unwrap().unwrap_err().code(), "refused");
    }

    #[test]
    fn recover_answers_as_told() {
        let answer = chaos(json!({})).recover(report());
        assert_eq!(answer, Ok(Ok(Recovery::Resume)));
        let answer = chaos(json!({"recovery": "park"})).recover(report());
        assert_eq!(answer, Ok(Ok(Recovery::Park)));
        let answer = chaos(json!({"die_in_recover": "spin"})).recover(report());
        assert!(answer.is_err());
        let dies = || Harness::<Chaos>::start(json!({"die_in_init": "spin"})).map(drop);
        assert!(std::panic::catch_unwind(dies).is_err());
    }

    #[test]
    fn everything_it_holds_moves_to_new_code() {
        let mut chaos = chaos(json!({"recovery": "park"}));
        chaos.call("touch", json!([3])).committed();
        chaos.call("hold", json!([2])).committed();
        let before = chaos.call("state", json!([])).committed();
        let mut next: Harness<Chaos> = chaos.upgrade().unwrap();
        assert_eq!(next.call("state", json!([])).committed(), before);
        assert_eq!(next.recover(report()), Ok(Ok(Recovery::Park)));
    }

    #[test]
    fn text_comes_back_whole() {
        let mut chaos = chaos(json!({}));
        let text = "x\u{e9}\0".repeat(100_000);
        assert_eq!(chaos.call("echo", json!([text])).committed(), json!(text));
        assert_eq!(chaos.call("print", json!([text])).committed(), Value::Null);
    }
}
