//! Kill bits, and what else ends or holds requests at a person's word. None of it asks a daemon's
//! thread or the journal; only starting a parked guest again does.

use std::time::Duration;

use super::crew::Asked;
use super::{Root, read};
use crate::base::error::{Code, Fault, printable};
use crate::base::ids::RequestId;
use crate::base::limits::STOP_CANCEL;
use crate::pure::kill_bits::Bits;
use crate::tree::bits::{Running, Stopped};
use crate::tree::child::Standing;
use crate::tree::daemon::Daemon;

/// What switching a daemon did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Switched {
    /// What is switched off now.
    pub bits: Bits,
    /// Requests that were held when it was switched.
    pub held: usize,
    /// The transactions that were stopped; several only at a stateless daemon, or one with readers.
    pub stopped: Vec<Stopped>,
    /// Transactions that go on although new ones like them would not start.
    pub left: Vec<RequestId>,
    /// The guest was parked, and is running again.
    pub was_parked: bool,
}

impl Root {
    /// Ends one running transaction, and waits for its end: a tick and the longest host call, at
    /// most [`STOP_CANCEL`]. It is that transaction or none, never the one after it.
    ///
    /// # Errors
    ///
    /// `E_NO_TRANSACTION` when no transaction of that id runs: it has ended, or waits for its turn.
    pub fn kill(&self, id: RequestId) -> Result<(String, Stopped), Fault> {
        let workers: Vec<_> = {
            let daemons = read(&self.daemons);
            daemons.values().cloned().collect()
        };
        let stopped = workers.iter().find_map(|worker| {
            let stopped =
                worker.bits.stop(&worker.cancel, STOP_CANCEL, |running| running.request == id)?;
            Some((worker.options.name.clone(), stopped))
        });
        stopped.ok_or_else(|| {
            Fault::new(Code::NoTransaction, format!("no transaction {id} is running"))
        })
    }

    /// Refuses new requests to a daemon, or to one contract of it, and holds those that wait. What
    /// runs goes on, or is cancelled.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_CONTRACT_UNKNOWN`.
    pub fn disable(
        &self,
        name: &str,
        contract: Option<&str>,
        cancel: bool,
    ) -> Result<Switched, Fault> {
        let asked = self.asked(name)?;
        let Some(contract) = contract else {
            return Ok(self.switch_off(&asked, cancel, |_| true, |bits| bits.disabled = true));
        };
        if asked.guest().contract(contract).is_none() {
            return Err(no_contract(name, contract));
        }
        let off = |bits: &mut Bits| bits.contracts.extend([contract.to_owned()]);
        Ok(self.switch_off(&asked, cancel, |running| running == contract, off))
    }

    /// Takes back what [`Root::disable`] did: held requests run, new ones are taken.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`; `E_CONTRACT_UNKNOWN` when there is none and none is disabled.
    pub fn enable(&self, name: &str, contract: Option<&str>) -> Result<Switched, Fault> {
        let asked = self.asked(name)?;
        let Some(contract) = contract else {
            return Ok(switch_on(&asked, |bits| bits.disabled = false));
        };
        let mut known = asked.guest().contract(contract).is_some();
        // An upgrade may have taken it: its bit is then all that is left of it.
        let switched = switch_on(&asked, |bits| known |= bits.contracts.remove(contract));
        if known { Ok(switched) } else { Err(no_contract(name, contract)) }
    }

    /// Starts no more requests of a daemon; they wait until it is resumed. What runs goes on, or
    /// is cancelled.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub fn pause(&self, name: &str, cancel: bool) -> Result<Switched, Fault> {
        let asked = self.asked(name)?;
        Ok(self.switch_off(&asked, cancel, |_| true, |bits| bits.paused = true))
    }

    /// Lets a paused daemon go on, and starts a parked guest again on its last commit. Only the
    /// latter waits for the daemon's thread.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, and why a parked guest stays parked.
    pub fn resume(&self, name: &str) -> Result<Switched, Fault> {
        let asked = self.asked(name)?;
        let mut parked = self.workers(&asked);
        parked.retain(|worker| worker.gauges.report().parked.is_some());
        for worker in &parked {
            if worker.child.standing() == Standing::Parked {
                worker.resume_thread();
            }
        }
        let switched = switch_on(&asked, |bits| bits.paused = false);
        for worker in &parked {
            self.control(&worker.options.name, Daemon::resume)?;
        }
        Ok(Switched { was_parked: !parked.is_empty(), ..switched })
    }

    /// Ends what a daemon runs, if it runs anything, within a tick, and doesn't wait for that.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`.
    pub fn cancel(&self, name: &str) -> Result<(), Fault> {
        let cancelled = self.stop_running(&self.asked(name)?, Duration::ZERO, |_| true);
        tracing::debug!(daemon = name, ?cancelled, "cancelled");
        Ok(())
    }

    fn switch_off(
        &self,
        asked: &Asked,
        cancel: bool,
        mine: impl Fn(&str) -> bool,
        change: impl FnMut(&mut Bits),
    ) -> Switched {
        let (bits, held) = asked.change(change);
        // Nothing that is wanted starts any more, so what is found here is all that there is.
        let (stopped, left) = if cancel {
            (self.stop_running(asked, STOP_CANCEL, mine), Vec::new())
        } else {
            let workers = self.workers(asked);
            let running = workers.iter().filter_map(|worker| worker.bits.look().2);
            let left = running.filter(|running| mine(&running.contract));
            (Vec::new(), left.map(|running| running.request).collect())
        };
        Switched { bits, held, stopped, left, was_parked: false }
    }

    /// Cancels what runs of the contracts that are `mine`, all at once, and waits for the ends.
    fn stop_running(
        &self,
        asked: &Asked,
        wait: Duration,
        mine: impl Fn(&str) -> bool,
    ) -> Vec<Stopped> {
        let workers = self.workers(asked);
        let stopping: Vec<_> = workers
            .iter()
            .filter_map(|worker| {
                let wanted = |running: &Running| mine(&running.contract);
                Some((worker, worker.bits.begin_stop(&worker.cancel, wanted)?))
            })
            .collect();
        let ended = stopping.into_iter().map(|(worker, one)| worker.bits.see_end(one, wait));
        ended.collect()
    }
}

fn switch_on(asked: &Asked, change: impl FnMut(&mut Bits)) -> Switched {
    let (bits, held) = asked.change(change);
    asked.wake();
    Switched { bits, held, stopped: Vec::new(), left: Vec::new(), was_parked: false }
}

fn no_contract(name: &str, contract: &str) -> Fault {
    let contract = printable(contract, 64);
    let message = format!("daemon `{name}` has no contract `{contract}`");
    Fault::new(Code::ContractUnknown, message)
}
