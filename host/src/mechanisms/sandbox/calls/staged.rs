//! `bulkhead:guest/staged`: what is to be done when the commit is durable.

use wasmtime::component::{ComponentType, Lift, Linker};

use super::super::host_calls::{Store, VERSION, charge};
use super::super::state::StoreState;
use super::http::WitRequest;
use super::told;
use super::types::{WitError, WitSqlValue};
use crate::base::limits::CALL_BYTES_MAX;
use crate::pure::resource::operation::{CallError, HttpRequest, Operation, SqlValue};

/// `staged.script`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
struct WitScript {
    script: String,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

/// `staged.effect`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(variant)]
enum WitEffect {
    #[component(name = "redis")]
    Redis(Vec<Vec<u8>>),
    #[component(name = "redis-script")]
    RedisScript(WitScript),
    #[component(name = "sql")]
    Sql((String, Vec<WitSqlValue>)),
    #[component(name = "append")]
    Append((String, Vec<u8>)),
    #[component(name = "http")]
    Http(WitRequest),
}

impl WitEffect {
    /// What is to be done, and how many bytes that is.
    fn operation(self) -> (Operation, usize) {
        let sum = |words: &[Vec<u8>]| words.iter().map(Vec::len).fold(0, usize::saturating_add);
        match self {
            Self::Redis(words) => {
                let bytes = sum(&words);
                (Operation::Redis(words), bytes)
            }
            Self::RedisScript(WitScript { script, keys, arguments }) => {
                let bytes = sum(&keys).saturating_add(sum(&arguments)).saturating_add(script.len());
                (Operation::RedisScript { script, keys, arguments }, bytes)
            }
            Self::Sql((statement, values)) => {
                let sizes = values.iter().map(WitSqlValue::bytes);
                let bytes = sizes.fold(statement.len(), usize::saturating_add);
                let values = values.into_iter().map(SqlValue::from).collect();
                (Operation::Sql { statement, values }, bytes)
            }
            Self::Append((path, bytes)) => {
                let size = path.len().saturating_add(bytes.len());
                (Operation::Append { path, bytes }, size)
            }
            Self::Http(request) => {
                let request = HttpRequest::from(request);
                let bytes = request.bytes();
                (Operation::Http(request), bytes)
            }
        }
    }
}

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut staged = linker.instance(&format!("bulkhead:guest/staged@{VERSION}"))?;
    staged.func_wrap(
        "stage",
        |mut store: Store<'_>, (name, effect, repeatable): (String, WitEffect, bool)| {
            let (operation, bytes) = effect.operation();
            charge(&mut store, name.len().saturating_add(bytes))?;
            if bytes > CALL_BYTES_MAX {
                return Ok((Err(WitError::from(CallError::TooLarge(CALL_BYTES_MAX as u64))),));
            }
            let staged = match &store.data().outside {
                Some(outside) => outside.stage(&name, operation, repeatable, bytes),
                None => Err(CallError::NoSuchResource),
            };
            Ok((staged.map_err(|error| WitError::from(told(store.data_mut(), &name, error))),))
        },
    )
}
