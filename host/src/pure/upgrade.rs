//! Upgrades of a guest's code: what is refused, what changes for callers, and when to try whether
//! an upgrade would be possible. Carried out by `tree::daemon`.

mod compare;
mod loss;
mod value;

pub use compare::compare;
pub use loss::{Fate, Incomparable, Line, Loss};

use crate::base::error::{Code, Fault};
use crate::base::ids::Sequence;
use crate::base::limits::{SAVE_TRIAL_REST, SAVE_TRIAL_WAIT_MAX, SAVE_TRIAL_WAIT_MIN};
use crate::pure::contract::{Argument, Contract};

/// What a guest's code says of the state that it keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Side {
    /// Digest of the code.
    pub digest: blake3::Hash,
    /// Version in which it saves; none when it can't.
    pub version: Option<u32>,
}

/// Why an upgrade is not even tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It is the code that runs.
    #[error("the daemon runs this code already ({0}); there is nothing to do")]
    Same(blake3::Hash),
    /// The running code can't save.
    #[error("the running code can't hand its state over: {NO_FORM}")]
    OldHasNoForm,
    /// The new code can't load.
    #[error("the new code can't take a state over: {NO_FORM}")]
    NewHasNoForm,
    /// The new code is older.
    #[error("the state is at version {from}, the new code knows versions up to {to}")]
    Backwards {
        /// Version of the running code.
        from: u32,
        /// Version of the new code.
        to: u32,
    },
}

/// Why a guest has no version, and what its author does about it.
pub const NO_FORM: &str = "its type has no form for that; with `#[state]` the SDK makes one";

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Same(_) => Code::UpgradeSame,
            Refused::OldHasNoForm | Refused::NewHasNoForm => Code::UpgradeForm,
            Refused::Backwards { .. } => Code::UpgradeVersion,
        };
        Self::new(code, refused.to_string())
    }
}

/// Decides whether new code may try to take a state over; answers both versions.
///
/// # Errors
///
/// [`Refused`].
pub fn admit(old: Side, new: Side) -> Result<(u32, u32), Refused> {
    if old.digest == new.digest {
        return Err(Refused::Same(old.digest));
    }
    let from = old.version.ok_or(Refused::OldHasNoForm)?;
    let to = new.version.ok_or(Refused::NewHasNoForm)?;
    if to < from { Err(Refused::Backwards { from, to }) } else { Ok((from, to)) }
}

/// What callers find changed after an upgrade: names of contracts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContractChanges {
    /// The new code has them no more.
    pub gone: Vec<String>,
    /// They take other arguments, answer another type, or change the state where they did not.
    pub changed: Vec<String>,
    /// The old code did not have them.
    pub added: Vec<String>,
}

impl ContractChanges {
    /// Compares what two codes offer.
    #[must_use]
    pub fn between(old: &[Contract], new: &[Contract]) -> Self {
        let named = |contracts: &[Contract], name: &str| {
            contracts.iter().find(|contract| contract.name == name).cloned()
        };
        let mut changes = Self::default();
        for contract in old {
            let name = contract.name.clone();
            match named(new, &name) {
                None => changes.gone.push(name),
                Some(new) if !same(contract, &new) => changes.changed.push(name),
                Some(_) => {}
            }
        }
        let added = new.iter().filter(|contract| named(old, &contract.name).is_none());
        changes.added = added.map(|contract| contract.name.clone()).collect();
        changes
    }
}

fn same(old: &Contract, new: &Contract) -> bool {
    old.read_only == new.read_only && old.result.json == new.result.json && same_arguments(old, new)
}

fn same_arguments(old: &Contract, new: &Contract) -> bool {
    let same = |(old, new): (&Argument, &Argument)| {
        old.name == new.name && old.required == new.required && old.schema.json == new.schema.json
    };
    old.arguments.len() == new.arguments.len() && old.arguments.iter().zip(&new.arguments).all(same)
}

/// Where a request goes whose arguments were bound to a contract of the old code.
///
/// # Errors
///
/// `E_CONTRACT_UNKNOWN` and `E_ARGS` when the new code has no contract for these arguments.
pub fn rebind(old: &Contract, new: &[Contract]) -> Result<u32, Fault> {
    let name = &old.name;
    match new.iter().find(|contract| contract.name == *name) {
        Some(new) if same_arguments(old, new) => Ok(new.index),
        Some(_) => {
            let message = format!("`{name}` takes other arguments since an upgrade; ask again");
            Err(Fault::new(Code::Args, message))
        }
        None => {
            let message = format!("the daemon was upgraded, and has no contract `{name}` any more");
            Err(Fault::new(Code::ContractUnknown, message))
        }
    }
}

/// Decides when `save` is tried again. Times are monotonic nanoseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SaveTrials {
    /// The commit that was tried last.
    tried: Option<Sequence>,
    due: u64,
}

impl SaveTrials {
    /// Nothing was tried; the first trial is due at once.
    pub const AT_ONCE: Self = Self { tried: None, due: 0 };

    /// Nothing was tried since the start at `now`, but in the life before.
    #[must_use]
    pub fn later(now: u64) -> Self {
        Self { tried: None, due: now.saturating_add(nanos(SAVE_TRIAL_WAIT_MIN)) }
    }

    /// Notes a trial of the state at `sequence`.
    pub fn tried(&mut self, sequence: Sequence, started: u64, ended: u64) {
        let rest = ended.saturating_sub(started).saturating_mul(SAVE_TRIAL_REST.into());
        let wait = rest.clamp(nanos(SAVE_TRIAL_WAIT_MIN), nanos(SAVE_TRIAL_WAIT_MAX));
        *self = Self { tried: Some(sequence), due: ended.saturating_add(wait) };
    }

    /// The state that was tried last is the one at `sequence`.
    pub fn is_of(&mut self, sequence: Sequence) {
        self.tried = Some(sequence);
    }

    /// How long to wait before the state at `sequence` is tried; none when that was done.
    #[must_use]
    pub fn wait(&self, sequence: Sequence, now: u64) -> Option<u64> {
        (self.tried != Some(sequence)).then(|| self.due.saturating_sub(now))
    }
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::contract::Schema;

    fn side(code: &str, version: Option<u32>) -> Side {
        Side { digest: blake3::hash(code.as_bytes()), version }
    }

    #[test]
    fn only_other_code_that_knows_the_version_may_try() {
        let (old, new) = (side("a", Some(2)), |version| side("b", version));
        assert_eq!(admit(old, new(Some(2))), Ok((2, 2)));
        assert_eq!(admit(old, new(Some(5))), Ok((2, 5)));
        assert_eq!(admit(old, new(Some(1))), Err(Refused::Backwards { from: 2, to: 1 }));
        assert_eq!(admit(old, new(None)), Err(Refused::NewHasNoForm));
        assert_eq!(admit(side("a", None), new(Some(2))), Err(Refused::OldHasNoForm));
        assert_eq!(admit(old, old), Err(Refused::Same(old.digest)));
        let code = |refused: Refused| Fault::from(refused).code;
        assert_eq!(code(Refused::Same(old.digest)), Code::UpgradeSame);
        assert_eq!(code(Refused::NewHasNoForm), Code::UpgradeForm);
        assert_eq!(code(Refused::Backwards { from: 2, to: 1 }), Code::UpgradeVersion);
    }

    fn contract(index: u32, name: &str, arguments: &[(&str, &str)], result: &str) -> Contract {
        let schema = |text: &str| Schema::parse(&format!("{{\"type\": \"{text}\"}}")).unwrap();
        let arguments = arguments.iter().map(|(name, of)| Argument {
            name: (*name).to_owned(),
            required: true,
            schema: schema(of),
        });
        Contract {
            index,
            name: name.to_owned(),
            documentation: String::new(),
            needs: Vec::new(),
            read_only: false,
            arguments: arguments.collect(),
            result: schema(result),
        }
    }

    #[test]
    fn changes_of_contracts_are_told_apart() {
        let old = [
            contract(0, "same", &[("a", "string")], "null"),
            contract(1, "gone", &[], "null"),
            contract(2, "other_result", &[], "null"),
            contract(3, "other_type", &[("a", "string")], "null"),
            contract(4, "more", &[("a", "string")], "null"),
        ];
        let new = [
            contract(0, "added", &[], "null"),
            contract(1, "other_result", &[], "string"),
            contract(2, "other_type", &[("a", "integer")], "null"),
            contract(3, "more", &[("a", "string"), ("b", "string")], "null"),
            contract(4, "same", &[("a", "string")], "null"),
        ];
        let changes = ContractChanges::between(&old, &new);
        assert_eq!(changes.gone, ["gone"]);
        assert_eq!(changes.changed, ["other_result", "other_type", "more"]);
        assert_eq!(changes.added, ["added"]);
        assert_eq!(ContractChanges::between(&old, &old), ContractChanges::default());
        // A request that waited goes where its arguments fit, by name.
        let codes: Vec<Result<u32, Code>> =
            old.iter().map(|old| rebind(old, &new).map_err(|fault| fault.code)).collect();
        let (args, unknown) = (Err(Code::Args), Err(Code::ContractUnknown));
        assert_eq!(codes, [Ok(4), unknown, Ok(1), args, args]);
    }

    #[test]
    fn trials_take_a_thousandth_of_the_time_and_come_once_an_hour_at_least() {
        const SECOND: u64 = 1_000_000_000;
        let mut trials = SaveTrials::AT_ONCE;
        assert_eq!(trials.wait(Sequence(0), 5), Some(0));
        for (took, wait) in
            [(0, 60 * SECOND), (SECOND / 10, 100 * SECOND), (30 * SECOND, 3600 * SECOND)]
        {
            trials.tried(Sequence(7), 1000, 1000 + took);
            assert_eq!(trials.wait(Sequence(7), u64::MAX), None, "the state was tried");
            assert_eq!(trials.wait(Sequence(8), 1000 + took), Some(wait));
            assert_eq!(trials.wait(Sequence(8), 1000 + took + wait - 3), Some(3));
            assert_eq!(trials.wait(Sequence(9), u64::MAX), Some(0));
        }
        assert_eq!(SaveTrials::later(SECOND).wait(Sequence(3), SECOND), Some(60 * SECOND));
    }
}
