//! `wasi:keyvalue/atomics.cas` of the second draft: what a key holds is changed by who has seen it.
//!
//! A handle keeps the value that was seen. A script, which runs alone at the server, compares it
//! and sets the new one. A value that was changed and put back counts as not changed.

use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource, ResourceType};

use super::super::super::host_calls::{Store, charge};
use super::super::super::state::StoreState;
use super::super::ask;
use super::{Answer, Bucket, WitError, odd, run};
use crate::base::limits::CAS_BYTES_MAX;
use crate::pure::resource::operation::{Operation, RedisValue, Reply};

/// Sets KEYS[1] to ARGV[3] if it holds ARGV[2], or nothing where ARGV[1] is 0. Answers 1, or 0 and
/// what it holds.
const SWAP: &str = "
local now = redis.call('GET', KEYS[1])
if (ARGV[1] == '1' and now == ARGV[2]) or (ARGV[1] == '0' and not now) then
    redis.call('SET', KEYS[1], ARGV[3])
    return {1}
end
return {0, now}
";

/// What was seen at a key.
struct Cas {
    resource: String,
    /// With the prefix.
    key: String,
    seen: Option<Vec<u8>>,
}

/// `atomics.cas-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    Store(WitError),
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}

pub(super) fn link(atomics: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    atomics.resource("cas", ResourceType::host::<Cas>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<Cas>::new_own(rep))?;
        Ok(())
    })?;
    atomics.func_wrap(
        "[static]cas.new",
        |mut store: Store<'_>,
         (bucket, key): (Resource<Bucket>, String)|
         -> Answer<Resource<Cas>> {
            let Bucket { resource, prefix } = store.data_mut().table().get(&bucket)?;
            let (resource, prefixed) = (resource.clone(), format!("{prefix}{key}"));
            let words = vec![b"GET".to_vec(), key.into_bytes()];
            let seen = match run(&mut store, &bucket, words, &[1])? {
                Ok(values) => values.into_iter().next(),
                Err(error) => return Ok((Err(error),)),
            };
            let seen = match held(seen) {
                Ok(seen) => seen,
                Err(error) => return Ok((Err(error),)),
            };
            let cas = Cas { resource, key: prefixed, seen };
            Ok((Ok(store.data_mut().table().push(cas)?),))
        },
    )?;
    atomics.func_wrap(
        "[method]cas.current",
        |mut store: Store<'_>, (cas,): (Resource<Cas>,)| -> Answer<Option<Vec<u8>>> {
            let seen = store.data_mut().table().get(&cas)?.seen.clone();
            charge(&mut store, seen.as_ref().map_or(0, Vec::len))?;
            Ok((Ok(seen),))
        },
    )?;
    atomics.func_wrap(
        "swap",
        |mut store: Store<'_>,
         (cas, value): (Resource<Cas>, Vec<u8>)|
         -> wasmtime::Result<(Result<(), CasError>,)> {
            let cas = store.data_mut().table().delete(cas)?;
            Ok((match swap(&mut store, &cas, value)? {
                Ok(None) => Ok(()),
                Ok(Some(seen)) => {
                    let cas = Cas { seen, ..cas };
                    Err(CasError::Failed(store.data_mut().table().push(cas)?))
                }
                Err(error) => Err(CasError::Store(error)),
            },))
        },
    )
}

/// What a handle may keep of what a key holds.
fn held(value: Option<RedisValue>) -> Result<Option<Vec<u8>>, WitError> {
    match value {
        None | Some(RedisValue::Nil) => Ok(None),
        Some(RedisValue::Bytes(bytes)) if bytes.len() <= CAS_BYTES_MAX => Ok(Some(bytes)),
        Some(RedisValue::Bytes(_)) => {
            Err(WitError::Other(format!("it holds more than {CAS_BYTES_MAX} bytes")))
        }
        Some(_) => Err(odd()),
    }
}

/// Swaps, or answers what the key holds now.
fn swap(
    store: &mut Store<'_>,
    cas: &Cas,
    value: Vec<u8>,
) -> wasmtime::Result<Result<Option<Option<Vec<u8>>>, WitError>> {
    let flag = if cas.seen.is_some() { b"1" } else { b"0" };
    let seen = cas.seen.clone().unwrap_or_default();
    let bytes = SWAP.len() + cas.key.len() + seen.len() + value.len();
    let operation = Operation::RedisScript {
        script: SWAP.to_owned(),
        keys: vec![cas.key.clone().into_bytes()],
        arguments: vec![flag.to_vec(), seen, value],
    };
    let answer = match ask(store, &cas.resource, operation, bytes)? {
        Ok(Reply::Redis(values)) => values,
        Ok(_) => return Ok(Err(odd())),
        Err(error) => return Ok(Err(error.into())),
    };
    Ok(match answer.as_slice() {
        [RedisValue::Items(1), RedisValue::Int(1)] => Ok(None),
        [RedisValue::Items(2), RedisValue::Int(0), now] => {
            if let RedisValue::Bytes(now) = now {
                charge(store, now.len())?;
            }
            held(Some(now.clone())).map(Some)
        }
        _ => Err(odd()),
    })
}
