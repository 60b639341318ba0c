//! `wasi:http`, outgoing, for components made with standard bindings.
//!
//! It is another form of the same call: what is sent, to whom, for how long and how much of it is
//! decided where `bulkhead:guest/http` is, too. A request is sent when its body is whole, which has
//! to fit into one call; an answer is there when it is whole. Several may be under way at once.
//! What nobody has waited for by the end of the transaction is given up.

mod answer;
mod fields;
mod request;
mod words;

use std::sync::Arc;

use wasmtime::component::Linker;

use super::super::state::StoreState;
use super::super::wasi::WASI_VERSIONS;
use crate::base::limits::HTTP_EXCHANGES_MAX;

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    for version in WASI_VERSIONS {
        let mut types = linker.instance(&format!("wasi:http/types@{version}"))?;
        words::link(&mut types)?;
        fields::link(&mut types)?;
        request::link(&mut types)?;
        answer::link(&mut types)?;
        let mut handler = linker.instance(&format!("wasi:http/outgoing-handler@{version}"))?;
        request::link_handler(&mut handler)?;
    }
    Ok(())
}

/// One of the requests whose bytes a transaction may have in the host's memory at once: its body,
/// and then that of its answer.
#[derive(Clone, Debug, Default)]
pub(in crate::mechanisms::sandbox) struct Exchange(Arc<()>);

impl Exchange {
    /// Another one beside those that there are, of which this one is none.
    fn begin(&self) -> Option<Self> {
        // One is the store's own, which has no bytes.
        let others = Arc::strong_count(&self.0).saturating_sub(1);
        (others < HTTP_EXCHANGES_MAX).then(|| self.clone())
    }
}
