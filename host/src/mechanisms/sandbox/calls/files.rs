//! `bulkhead:guest/files`: adding to files.

use wasmtime::component::Linker;

use super::super::host_calls::{Store, VERSION};
use super::super::state::StoreState;
use super::ask;
use super::types::WitError;
use crate::pure::resource::operation::Operation;

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut files = linker.instance(&format!("bulkhead:guest/files@{VERSION}"))?;
    files.func_wrap(
        "append",
        |mut store: Store<'_>, (name, path, bytes): (String, String, Vec<u8>)| {
            let size = path.len().saturating_add(bytes.len());
            let answer = ask(&mut store, &name, Operation::Append { path, bytes }, size)?;
            Ok((answer.map(drop).map_err(WitError::from),))
        },
    )
}
