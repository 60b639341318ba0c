//! `bulkhead:guest/staged`: what is to be done when the commit is durable.

use wasmtime::component::{ComponentType, Lift, Linker};

use super::super::host_calls::{Store, VERSION, charge};
use super::super::state::StoreState;
use super::http::WitRequest;
use super::types::{WitError, WitSqlValue};
use crate::base::limits::CALL_BYTES_MAX;
use crate::pure::resource::operation::{CallError, Operation, SqlValue};

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
    fn bytes(&self) -> usize {
        let sum = |words: &[Vec<u8>]| words.iter().map(Vec::len).fold(0, usize::saturating_add);
        match self {
            Self::Redis(words) => sum(words),
            Self::RedisScript(WitScript { script, keys, arguments }) => {
                script.len().saturating_add(sum(keys)).saturating_add(sum(arguments))
            }
            Self::Sql((statement, values)) => {
                let sizes = values.iter().map(WitSqlValue::bytes);
                sizes.fold(statement.len(), usize::saturating_add)
            }
            Self::Append((path, bytes)) => path.len().saturating_add(bytes.len()),
            Self::Http(request) => request.bytes(),
        }
    }
}

impl From<WitEffect> for Operation {
    fn from(effect: WitEffect) -> Self {
        match effect {
            WitEffect::Redis(words) => Self::Redis(words),
            WitEffect::RedisScript(WitScript { script, keys, arguments }) => {
                Self::RedisScript { script, keys, arguments }
            }
            WitEffect::Sql((statement, values)) => {
                let values = values.into_iter().map(SqlValue::from).collect();
                Self::Sql { statement, values }
            }
            WitEffect::Append((path, bytes)) => Self::Append { path, bytes },
            WitEffect::Http(request) => Self::Http(request.into()),
        }
    }
}

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut staged = linker.instance(&format!("bulkhead:guest/staged@{VERSION}"))?;
    staged.func_wrap(
        "stage",
        |mut store: Store<'_>, (name, effect, repeatable): (String, WitEffect, bool)| {
            let bytes = effect.bytes();
            charge(&mut store, name.len().saturating_add(bytes))?;
            if bytes > CALL_BYTES_MAX {
                return Ok((Err(WitError::from(CallError::TooLarge(CALL_BYTES_MAX as u64))),));
            }
            let staged = match &store.data().outside {
                Some(outside) => outside.stage(&name, effect.into(), repeatable, bytes),
                None => Err(CallError::NoSuchResource),
            };
            Ok((staged.map_err(WitError::from),))
        },
    )
}
