//! New code for a daemon that runs.

use std::sync::{Arc, PoisonError};

use super::Root;
use super::readers::Reserved;
use crate::base::error::Fault;
use crate::mechanisms::sandbox::Guest;
use crate::tree::daemon::{UpgradeOptions, Upgraded};
use crate::tree::service::contract_needs;

impl Root {
    /// Upgrades a daemon to other code on its state, as far as `options` say. Its requests wait
    /// meanwhile, and go on with the new code. The memory of the new code is reserved beside that
    /// of the old one, inside the limit, for as long as both are there. Its readers change over one
    /// by one; what they can't run until then it runs itself.
    ///
    /// # Errors
    ///
    /// `E_DAEMON_UNKNOWN`, `E_STATELESS`, `E_RESOURCE_UNKNOWN` when a new contract needs what the
    /// daemon hasn't got, `E_BUDGET` and `E_NO_MEM` when there is no room for both, the journal's,
    /// and those of [`crate::tree::Daemon::upgrade`]. The old code then runs on.
    pub fn upgrade(
        &self,
        name: &str,
        guest: Arc<Guest>,
        options: UpgradeOptions,
    ) -> Result<Upgraded, Fault> {
        let dry_run = options.dry_run;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = self.keeper(name)?;
        let contracts = contract_needs(worker.hold(), name, &guest, false)?;
        let reserved = self.reserve(&worker, &guest, dry_run);
        let Reserved { images, readers: next } = reserved.map_err(|error| Fault::from(&error))?;
        if let Some(journal) = self.ground.journal.as_ref().filter(|_| !dry_run) {
            // Before any state that it makes. Code that nothing needs is dropped at a start.
            let digest = *guest.facts().digest.as_bytes();
            journal.store.put_code(digest, guest.code()).map_err(|fault| Fault::from(&fault))?;
        }
        let crew = self.readers.get(name).cloned();
        let readers: Vec<_> = crew.iter().flat_map(|crew| self.members(crew)).collect();
        let upgrading = worker.clone();
        let upgraded = self.control(name, move |daemon| {
            let upgraded = daemon.upgrade(guest.clone(), images, options)?;
            if !dry_run {
                let bits = readers.iter().map(|reader| &reader.bits);
                for bits in bits.chain(crew.iter().map(|crew| &crew.bits)) {
                    bits.rebind(contracts.clone());
                }
                if let Some(crew) = crew {
                    // They go on with it when they see that there is nobody to follow any more.
                    crew.renew(next.renewals(&guest));
                }
                for worker in readers.iter().chain([&worker]) {
                    worker.set_guest(guest.clone());
                }
                worker.bits.rebind(contracts);
            }
            Ok(upgraded)
        })?;
        if !dry_run {
            self.note_code(&upgrading);
        }
        Ok(upgraded)
    }
}
