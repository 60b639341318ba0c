//! `bulkhead:guest/redis`: commands and scripts, as they are.

use wasmtime::component::Linker;

use super::super::host_calls::{Store, VERSION, charge};
use super::super::state::StoreState;
use super::ask;
use super::types::{WitError, WitRedisValue};
use crate::pure::resource::operation::{CallError, CallResult, Operation, RedisValue, Reply};

type Answer = wasmtime::Result<(Result<Vec<WitRedisValue>, WitError>,)>;

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut redis = linker.instance(&format!("bulkhead:guest/redis@{VERSION}"))?;
    redis.func_wrap(
        "command",
        |mut store: Store<'_>, (name, words): (String, Vec<Vec<u8>>)| -> Answer {
            let bytes = size(&words);
            let answer = ask(&mut store, &name, Operation::Redis(words), bytes)?;
            Ok((values(&mut store, answer)?,))
        },
    )?;
    redis.func_wrap(
        "eval",
        |mut store: Store<'_>,
         (name, script, keys, arguments): (String, String, Vec<Vec<u8>>, Vec<Vec<u8>>)|
         -> Answer {
            let bytes = script.len().saturating_add(size(&keys)).saturating_add(size(&arguments));
            let operation = Operation::RedisScript { script, keys, arguments };
            let answer = ask(&mut store, &name, operation, bytes)?;
            Ok((values(&mut store, answer)?,))
        },
    )
}

fn size(words: &[Vec<u8>]) -> usize {
    words.iter().map(Vec::len).fold(0, usize::saturating_add)
}

fn values(
    store: &mut Store<'_>,
    answer: CallResult,
) -> wasmtime::Result<Result<Vec<WitRedisValue>, WitError>> {
    let values = match answer {
        Ok(Reply::Redis(values)) => values,
        Ok(_) => return Ok(Err(WitError::WrongKind)),
        Err(error) => return Ok(Err(error.into())),
    };
    charge(store, values.iter().map(bytes).fold(0, usize::saturating_add))?;
    Ok(Ok(values.into_iter().map(WitRedisValue::from).collect()))
}

/// Bytes of an element of an answer.
fn bytes(value: &RedisValue) -> usize {
    match value {
        RedisValue::Nil => 1,
        RedisValue::Int(_) | RedisValue::Items(_) => 8,
        RedisValue::Status(text) => text.len(),
        RedisValue::Bytes(bytes) => bytes.len(),
    }
}

/// One command, for the interfaces that are made of commands.
pub(super) fn command(
    store: &mut Store<'_>,
    name: &str,
    words: Vec<Vec<u8>>,
) -> wasmtime::Result<Result<Vec<RedisValue>, CallError>> {
    let size = size(&words);
    let answer = ask(store, name, Operation::Redis(words), size)?;
    if let Ok(Reply::Redis(values)) = &answer {
        charge(store, values.iter().map(bytes).fold(0, usize::saturating_add))?;
    }
    Ok(answer.and_then(|reply| match reply {
        Reply::Redis(values) => Ok(values),
        _ => Err(CallError::WrongKind),
    }))
}
