//! The functions of a guest that are no contracts: what the host asks it at turns of its life.

use super::bindings::{
    WitCrashReport, WitDeclaration, WitDescription, WitRecovery, WitRejection, WitStale,
};
use super::crash::Caught;
use super::instance::{INIT_LIMITS, Instance, shown};
use super::state::{CallContext, Limits};
use crate::base::ids::{Generation, RequestId};
use crate::pure::policy::Recovered;
use crate::pure::request::{Crash, Rejection, Stale};

impl Instance {
    /// Asks the guest what to do about a crash.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes in `recover` too; the instance must be dropped then.
    pub fn recover(
        &mut self,
        crash: &Crash,
        contract: &str,
        context: &CallContext,
        limits: &Limits,
    ) -> Result<Recovered, Caught> {
        let report = WitCrashReport {
            code: crash.code.as_str().to_owned(),
            message: crash.message.clone(),
            contract: contract.to_owned(),
            attempt: crash.attempt,
            generation: crash.generation.0,
            fuel_used: crash.fuel_used,
        };
        let export = self.guest.exports.recover;
        let (answer,) = self.run::<_, (Result<WitRecovery, WitRejection>,)>(
            export,
            (report,),
            context,
            limits,
        )?;
        self.check_handles()?;
        Ok(match answer {
            Ok(WitRecovery::Resume) => Recovered::Resume,
            Ok(WitRecovery::Zero) => Recovered::Zero,
            Ok(WitRecovery::Park) => Recovered::Park,
            Err(_rejection) => Recovered::Failed,
        })
    }

    /// Tells the guest that it was restored.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes; the instance must be dropped then.
    pub fn on_restore(
        &mut self,
        generation: Generation,
        context: &CallContext,
        limits: &Limits,
    ) -> Result<(), Caught> {
        let export = self.guest.exports.on_restore;
        self.run::<_, ()>(export, (generation.0,), context, limits)?;
        self.check_handles()
    }

    /// Asks the guest what it offers.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes.
    pub(super) fn describe(&mut self, context: &CallContext) -> Result<WitDescription, Caught> {
        let export = self.guest.exports.describe;
        let described = self.run::<_, (WitDescription,)>(export, (), context, &INIT_LIMITS)?;
        Ok(described.0)
    }

    /// Asks the guest what it has to say about resources; none when it is without that.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes.
    pub(super) fn declare(
        &mut self,
        context: &CallContext,
    ) -> Result<Option<WitDeclaration>, Caught> {
        let Some(export) = self.guest.exports.declare else { return Ok(None) };
        let declared = self.run::<_, (WitDeclaration,)>(export, (), context, &INIT_LIMITS)?;
        Ok(Some(declared.0))
    }

    /// Asks the guest what to answer to a request whose transaction was cancelled; none when it
    /// says nothing. Changes are the caller's to undo.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes; the instance must be dropped then.
    pub fn on_stale(
        &mut self,
        stale: &Stale,
        contract: &str,
        request: RequestId,
        context: &CallContext,
        limits: &Limits,
    ) -> Result<Option<Result<Vec<u8>, Rejection>>, Caught> {
        let Some(export) = self.guest.exports.on_stale else { return Ok(None) };
        // By the name that the guest knows.
        let name = stale.resource.rsplit('/').next().unwrap_or_default();
        let stale = WitStale {
            name: name.to_owned(),
            lease: stale.lease.0,
            why: stale.why.clone(),
            contract: contract.to_owned(),
            request_id: request.to_string(),
        };
        let (answer,) = self.run::<_, (Result<Option<Vec<u8>>, WitRejection>,)>(
            export,
            (stale,),
            context,
            limits,
        )?;
        self.check_handles()?;
        Ok(match answer {
            Ok(value) => value.map(Ok),
            Err(rejection) => Some(Err(shown(rejection))),
        })
    }

    /// Runs the guest's last transaction. The caller commits or rolls back.
    ///
    /// # Errors
    ///
    /// [`Caught`] when it crashes; the instance must be dropped then.
    pub fn shutdown(
        &mut self,
        context: &CallContext,
        limits: &Limits,
    ) -> Result<Result<(), Rejection>, Caught> {
        let Some(export) = self.guest.exports.shutdown else { return Ok(Ok(())) };
        let (answer,) = self.run::<_, (Result<(), WitRejection>,)>(export, (), context, limits)?;
        self.check_handles()?;
        Ok(answer.map_err(shown))
    }
}
