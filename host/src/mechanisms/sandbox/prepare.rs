//! What is done with a stranger's file before it is compiled: it is admitted, and rewritten.
//!
//! With [`super::CompileMode::Child`] that runs in the compiler's process, which sends what it
//! found as a [`Prepared`]: the host itself never parses a component.

use serde::{Deserialize, Serialize};

use super::deploy::DeployError;
use crate::base::error::{Code, Fault};
use crate::pure::admission::{Admitted, Caps, ImportedInterface, Refusal, World, admit};
use crate::pure::barrier::{Layout, Options, RewriteError, rewrite};

/// What is known of a file that was admitted and rewritten.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Prepared {
    /// Bytes after the write barrier was put in.
    pub(super) rewritten_bytes: usize,
    pub(super) imports: Vec<ImportedInterface>,
    pub(super) core_modules: usize,
    pub(super) functions: usize,
    pub(super) memory_minimum_bytes: u64,
    pub(super) memory_maximum_bytes: Option<u64>,
    pub(super) data_bytes: u64,
    pub(super) layout: Layout,
}

/// Admits and rewrites a file; the second is the rewritten component.
pub(super) fn prepare(bytes: &[u8], card_shift: u32) -> Result<(Prepared, Vec<u8>), DeployError> {
    let admitted = admit(bytes, &Caps::default(), &World::GUEST)?;
    let options = Options { card_shift, ..Options::default() };
    let rewritten = rewrite(&admitted, &options).map_err(|error| match error {
        RewriteError::Refused(refusal) => refusal.into(),
        RewriteError::HostBug { message } => DeployError::Barrier(message),
    })?;
    let prepared = prepared(&admitted, rewritten.component.len(), rewritten.layout);
    Ok((prepared, rewritten.component))
}

fn prepared(admitted: &Admitted<'_>, rewritten_bytes: usize, layout: Layout) -> Prepared {
    let functions: u64 = admitted.modules.iter().map(|module| u64::from(module.functions)).sum();
    Prepared {
        rewritten_bytes,
        imports: admitted.imports.clone(),
        core_modules: admitted.modules.len(),
        functions: usize::try_from(functions).unwrap_or(usize::MAX),
        memory_minimum_bytes: admitted.memory.minimum,
        memory_maximum_bytes: admitted.memory.maximum,
        data_bytes: admitted.data_bytes,
        layout,
    }
}

impl From<Refusal> for DeployError {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.code().parse().unwrap_or(Code::ModuleInvalid);
        Self::Refused(Fault::new(code, refusal.to_string()))
    }
}
