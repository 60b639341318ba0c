//! What daemons show each other, and what a transaction has seen of it.
//!
//! A version is a copy of the range that its daemon shows, made when that was committed and put
//! here when the commit is durable. A transaction keeps the versions that it has seen, so that it
//! sees one state of another daemon to its end, and no daemon ever waits for another one.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use smallvec::SmallVec;

use super::crash::Stop;
use crate::base::error::{Code, printable};
use crate::base::ids::Sequence;
use crate::base::limits::{NAME_BYTES_MAX, OUTPUTS_SEEN_MAX};
use crate::pure::output::SeenOutput;

/// A version of what a daemon shows.
#[derive(Debug)]
pub struct OutputVersion {
    /// The commit that it is of.
    pub sequence: Sequence,
    /// The bytes.
    pub bytes: Box<[u8]>,
}

/// What each daemon of the host shows.
#[derive(Debug, Default)]
pub struct Outputs(RwLock<BTreeMap<String, Arc<OutputVersion>>>);

impl Outputs {
    /// What `daemon` shows, if it does.
    #[must_use]
    pub fn of(&self, daemon: &str) -> Option<Arc<OutputVersion>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(daemon).cloned()
    }

    /// From now on `daemon` shows this.
    pub fn show(&self, daemon: &str, output: Option<Arc<OutputVersion>>) {
        let mut shown = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match output {
            Some(output) => match shown.get_mut(daemon) {
                Some(place) => *place = output,
                None => drop(shown.insert(daemon.to_owned(), output)),
            },
            None => drop(shown.remove(daemon)),
        }
    }
}

/// The versions that the running transaction sees.
#[derive(Debug, Default)]
pub(super) struct Seen(SmallVec<[(String, Option<Arc<OutputVersion>>); 2]>);

impl Seen {
    /// Forgets all: another transaction begins.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The version of `daemon` that this transaction sees.
    pub(super) fn of(
        &mut self,
        outputs: &Outputs,
        daemon: &str,
    ) -> Result<Option<&Arc<OutputVersion>>, Stop> {
        let place = match self.0.iter().position(|(seen, _)| seen == daemon) {
            Some(place) => place,
            None if self.0.len() >= OUTPUTS_SEEN_MAX => {
                let message = format!("it reads what more than {OUTPUTS_SEEN_MAX} daemons show");
                return Err(Stop::new(Code::HostcallLimit, message));
            }
            None if daemon.len() > NAME_BYTES_MAX => {
                let message = format!("`{}` is no daemon's name", printable(daemon, 64));
                return Err(Stop::new(Code::HostcallArgs, message));
            }
            None => {
                self.0.push((daemon.to_owned(), outputs.of(daemon)));
                self.0.len() - 1
            }
        };
        Ok(self.0.get(place).and_then(|(_, output)| output.as_ref()))
    }

    /// What a report of the transaction has to name.
    pub(super) fn list(&self) -> Vec<SeenOutput> {
        let seen = self.0.iter().map(|(daemon, output)| {
            let sequence = output.as_ref().map(|output| output.sequence);
            SeenOutput { daemon: daemon.clone(), sequence }
        });
        seen.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(sequence: u64) -> Option<Arc<OutputVersion>> {
        Some(Arc::new(OutputVersion { sequence: Sequence(sequence), bytes: Box::default() }))
    }

    #[test]
    fn a_transaction_sees_one_version_to_its_end() {
        let (outputs, mut seen) = (Outputs::default(), Seen::default());
        let look = |seen: &mut Seen, daemon: &str| {
            seen.of(&outputs, daemon).unwrap().map(|output| output.sequence.0)
        };
        outputs.show("a", output(1));
        assert_eq!((look(&mut seen, "a"), look(&mut seen, "b")), (Some(1), None));
        outputs.show("a", output(2));
        outputs.show("b", output(3));
        assert_eq!((look(&mut seen, "a"), look(&mut seen, "b")), (Some(1), None));
        let named = seen.list();
        assert_eq!(named[0], SeenOutput { daemon: "a".into(), sequence: Some(Sequence(1)) });
        assert_eq!(named[1], SeenOutput { daemon: "b".into(), sequence: None });
        seen.clear();
        assert_eq!((look(&mut seen, "a"), look(&mut seen, "b")), (Some(2), Some(3)));
        outputs.show("a", None);
        assert!(outputs.of("a").is_none());
    }

    #[test]
    fn there_is_a_limit_on_daemons_and_names() {
        let (outputs, mut seen) = (Outputs::default(), Seen::default());
        assert!(seen.of(&outputs, &"x".repeat(NAME_BYTES_MAX + 1)).is_err());
        for n in 0..OUTPUTS_SEEN_MAX {
            assert!(seen.of(&outputs, &n.to_string()).is_ok());
        }
        assert!(seen.of(&outputs, "more").is_err());
        assert!(seen.of(&outputs, "0").is_ok());
    }
}
