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

/// How many requests with their answers a transaction has in the host's memory.
#[derive(Debug, Default)]
pub(in crate::mechanisms::sandbox) struct Exchanges(Arc<()>);

/// One of these: whoever has bytes of it has a copy.
#[derive(Clone, Debug)]
struct Exchange {
    _counted: Arc<Counted>,
}

/// Counts an exchange as long as it lives.
#[derive(Debug)]
struct Counted {
    _one: Arc<()>,
}

impl Exchanges {
    /// Another one, if there may be more.
    fn begin(&self) -> Option<Exchange> {
        let others = Arc::strong_count(&self.0).saturating_sub(1);
        let counted = || Arc::new(Counted { _one: self.0.clone() });
        (others < HTTP_EXCHANGES_MAX).then(|| Exchange { _counted: counted() })
    }
}
