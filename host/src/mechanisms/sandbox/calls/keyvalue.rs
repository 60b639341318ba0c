//! `wasi:keyvalue`, over a resource of kind `redis`. Its two drafts in use differ in little.
//!
//! A store's identifier is the resource's name; the empty one means the only such resource. A
//! bucket is a handle: one that is held when the transaction ends is a leak, as any other.

mod cas;

use wasmtime::component::{
    ComponentNamedList, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};

use super::super::host_calls::{Store, charge};
use super::super::state::StoreState;
use super::redis::command;
use crate::base::limits::KEYS_LISTED_MAX;
use crate::pure::resource::operation::{CallError, RedisValue};

/// `wasi:keyvalue/store.error`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(variant)]
enum WitError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<CallError> for WitError {
    fn from(error: CallError) -> Self {
        let other = |text: &str| Self::Other(text.to_owned());
        match error {
            CallError::NoSuchResource | CallError::WrongKind => Self::NoSuchStore,
            CallError::Denied(_) => Self::AccessDenied,
            CallError::Refused { message, .. } => Self::Other(message),
            CallError::TooLarge(most) => Self::Other(format!("larger than {most} bytes")),
            CallError::TimedOut => other("no answer in time"),
            CallError::Unavailable(why) => Self::Other(why),
            CallError::Full => other("too many calls wait for this store"),
            CallError::Died | CallError::NotSent(_) => other("the connection died"),
        }
    }
}

/// An open store.
struct Bucket {
    resource: String,
    prefix: String,
}

/// Where the next page of keys begins, as each draft writes it.
trait Cursor: ComponentType + Lift + Lower + Sized + Send + Sync + 'static {
    fn from_redis(text: &str) -> Option<Self>;
    fn to_redis(&self) -> String;
}

impl Cursor for u64 {
    fn from_redis(text: &str) -> Option<Self> {
        text.parse().ok().filter(|&cursor| cursor != 0)
    }

    fn to_redis(&self) -> String {
        self.to_string()
    }
}

impl Cursor for String {
    fn from_redis(text: &str) -> Option<Self> {
        (text != "0").then(|| text.to_owned())
    }

    fn to_redis(&self) -> String {
        self.clone()
    }
}

/// `wasi:keyvalue/store.key-response`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(record)]
struct WitKeys<C> {
    keys: Vec<String>,
    cursor: Option<C>,
}

type Answer<T> = wasmtime::Result<(Result<T, WitError>,)>;

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    link_draft::<u64, u64>(linker, "0.2.0-draft")?;
    link_draft::<String, i64>(linker, "0.2.0-draft2")?;
    cas::link(&mut linker.instance("wasi:keyvalue/atomics@0.2.0-draft2")?)
}

fn link_draft<C: Cursor, N>(linker: &mut Linker<StoreState>, version: &str) -> wasmtime::Result<()>
where
    N: ComponentType + Lift + Lower + Copy + Send + Sync + 'static,
    N: TryFrom<i64> + TryInto<i64>,
{
    let mut store = linker.instance(&format!("wasi:keyvalue/store@{version}"))?;
    link_store::<C>(&mut store)?;
    let mut atomics = linker.instance(&format!("wasi:keyvalue/atomics@{version}"))?;
    atomics.func_wrap(
        "increment",
        |mut store: Store<'_>, (bucket, key, delta): (Resource<Bucket>, String, N)| -> Answer<N> {
            let Ok(delta) = delta.try_into() else {
                return other("the number is too large for this store");
            };
            let delta: i64 = delta;
            let words = vec![b"INCRBY".to_vec(), key.into_bytes(), delta.to_string().into_bytes()];
            let answer = run(&mut store, &bucket, words, &[1])?;
            Ok((answer.and_then(|values| match values.as_slice() {
                [RedisValue::Int(number)] => N::try_from(*number)
                    .map_err(|_| WitError::Other("the value is negative".to_owned())),
                _ => Err(odd()),
            }),))
        },
    )?;
    let mut batch = linker.instance(&format!("wasi:keyvalue/batch@{version}"))?;
    link_batch(&mut batch)
}

fn link_store<C: Cursor>(store: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    store.resource("bucket", ResourceType::host::<Bucket>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<Bucket>::new_own(rep))?;
        Ok(())
    })?;
    store.func_wrap(
        "open",
        |mut store: Store<'_>, (identifier,): (String,)| -> Answer<Resource<Bucket>> {
            charge(&mut store, identifier.len())?;
            let state = store.data_mut();
            let Some(outside) = state.outside.clone() else {
                return Ok((Err(WitError::NoSuchStore),));
            };
            let resource =
                if identifier.is_empty() { outside.only("redis") } else { Some(identifier) };
            let Some(resource) = resource.filter(|name| outside.is_of_kind(name, "redis")) else {
                return Ok((Err(WitError::NoSuchStore),));
            };
            let prefix = outside.prefix(&resource);
            Ok((Ok(state.table().push(Bucket { resource, prefix })?),))
        },
    )?;
    method(store, "get", "GET", |values| match values {
        [RedisValue::Nil] => Ok(None),
        [RedisValue::Bytes(bytes)] => Ok(Some(bytes.clone())),
        _ => Err(odd()),
    })?;
    method(store, "delete", "DEL", |_| Ok(()))?;
    method(store, "exists", "EXISTS", |values| match values {
        [RedisValue::Int(count)] => Ok(*count > 0),
        _ => Err(odd()),
    })?;
    store.func_wrap(
        "[method]bucket.set",
        |mut store: Store<'_>,
         (bucket, key, value): (Resource<Bucket>, String, Vec<u8>)|
         -> Answer<()> {
            let words = vec![b"SET".to_vec(), key.into_bytes(), value];
            Ok((run(&mut store, &bucket, words, &[1])?.map(drop),))
        },
    )?;
    store.func_wrap(
        "[method]bucket.list-keys",
        |mut store: Store<'_>,
         (bucket, cursor): (Resource<Bucket>, Option<C>)|
         -> Answer<WitKeys<C>> {
            let prefix = store.data_mut().table().get(&bucket)?.prefix.clone();
            let cursor = cursor.map_or_else(|| "0".to_owned(), |cursor| cursor.to_redis());
            let count = KEYS_LISTED_MAX.to_string();
            let pattern = format!("{}*", escape(&prefix));
            let words = ["SCAN", &cursor, "MATCH", &pattern, "COUNT", &count];
            let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            let values = run(&mut store, &bucket, words, &[])?;
            Ok((values.and_then(|values| keys(&values, &prefix)),))
        },
    )
}

/// A method on one key, which is one command.
fn method<T>(
    store: &mut LinkerInstance<'_, StoreState>,
    name: &str,
    word: &'static str,
    read: impl Fn(&[RedisValue]) -> Result<T, WitError> + Send + Sync + 'static,
) -> wasmtime::Result<()>
where
    (Result<T, WitError>,): ComponentNamedList + Lower,
    T: 'static,
{
    let name = format!("[method]bucket.{name}");
    store.func_wrap(
        &name,
        move |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| -> Answer<T> {
            let words = vec![word.as_bytes().to_vec(), key.into_bytes()];
            let answer = run(&mut store, &bucket, words, &[1])?;
            Ok((answer.and_then(|values| read(&values)),))
        },
    )
}

type Pairs = Vec<Option<(String, Vec<u8>)>>;

fn link_batch(batch: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    batch.func_wrap(
        "get-many",
        |mut store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| -> Answer<Pairs> {
            let values = many(&mut store, &bucket, "MGET", &keys)?;
            Ok((values.map(|values| {
                // The first says how many there are.
                let pairs = values.into_iter().skip(1).zip(keys).map(|(value, key)| match value {
                    RedisValue::Bytes(bytes) => Some((key, bytes)),
                    _ => None,
                });
                pairs.collect()
            }),))
        },
    )?;
    batch.func_wrap(
        "delete-many",
        |mut store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| -> Answer<()> {
            Ok((many(&mut store, &bucket, "DEL", &keys)?.map(drop),))
        },
    )?;
    batch.func_wrap(
        "set-many",
        |mut store: Store<'_>,
         (bucket, pairs): (Resource<Bucket>, Vec<(String, Vec<u8>)>)|
         -> Answer<()> {
            if pairs.is_empty() {
                charge(&mut store, 0)?;
                return Ok((Ok(()),));
            }
            let pairs = pairs.into_iter().flat_map(|(key, value)| [key.into_bytes(), value]);
            let words: Vec<Vec<u8>> = std::iter::once(b"MSET".to_vec()).chain(pairs).collect();
            let keys: Vec<usize> = (1..words.len()).step_by(2).collect();
            Ok((run(&mut store, &bucket, words, &keys)?.map(drop),))
        },
    )
}

/// A command on any number of keys.
fn many(
    store: &mut Store<'_>,
    bucket: &Resource<Bucket>,
    word: &str,
    keys: &[String],
) -> wasmtime::Result<Result<Vec<RedisValue>, WitError>> {
    if keys.is_empty() {
        charge(store, 0)?;
        return Ok(Ok(Vec::new()));
    }
    let words = std::iter::once(word).chain(keys.iter().map(String::as_str));
    let words: Vec<Vec<u8>> = words.map(|word| word.as_bytes().to_vec()).collect();
    let places: Vec<usize> = (1..words.len()).collect();
    run(store, bucket, words, &places)
}

/// Runs a command on a bucket; the words at these places are keys.
fn run(
    store: &mut Store<'_>,
    bucket: &Resource<Bucket>,
    mut words: Vec<Vec<u8>>,
    keys: &[usize],
) -> wasmtime::Result<Result<Vec<RedisValue>, WitError>> {
    let Bucket { resource, prefix } = store.data_mut().table().get(bucket)?;
    for key in keys {
        if let Some(word) = words.get_mut(*key) {
            word.splice(0..0, prefix.bytes());
        }
    }
    let resource = resource.clone();
    Ok(command(store, &resource, words)?.map_err(WitError::from))
}

fn odd() -> WitError {
    WitError::Other("the store answered something else than that".to_owned())
}

fn other<T>(text: &str) -> Answer<T> {
    Ok((Err(WitError::Other(text.to_owned())),))
}

/// A text as a pattern that matches nothing but itself.
fn escape(text: &str) -> String {
    let special = |c| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^');
    let escaped = text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c]));
    escaped.collect()
}

/// A page of keys: a cursor, and a list. Names that are no text are left out.
fn keys<C: Cursor>(values: &[RedisValue], prefix: &str) -> Result<WitKeys<C>, WitError> {
    let [RedisValue::Items(2), RedisValue::Bytes(cursor), RedisValue::Items(_), keys @ ..] = values
    else {
        return Err(odd());
    };
    let keys = keys.iter().filter_map(|key| match key {
        RedisValue::Bytes(key) => Some(std::str::from_utf8(key).ok()?.strip_prefix(prefix)?),
        _ => None,
    });
    let cursor = C::from_redis(&String::from_utf8_lossy(cursor));
    Ok(WitKeys { keys: keys.map(str::to_owned).collect(), cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escape("a:b"), "a:b");
        assert_eq!(escape("a*[x]?\\"), "a\\*\\[x\\]\\?\\\\");
    }

    #[test]
    fn a_page_of_keys_ends_where_the_server_says() {
        let page = |cursor: &str| {
            let key = |text: &str| RedisValue::Bytes(text.as_bytes().to_vec());
            let keys = [key("p:a"), key("q:b"), RedisValue::Bytes(vec![0xff])];
            let head = [RedisValue::Items(2), key(cursor), RedisValue::Items(3)];
            head.into_iter().chain(keys).collect::<Vec<_>>()
        };
        let first: WitKeys<u64> = keys(&page("17"), "p:").unwrap();
        assert_eq!((first.keys, first.cursor), (vec!["a".to_owned()], Some(17)));
        assert_eq!(keys::<u64>(&page("0"), "p:").unwrap().cursor, None);
        assert_eq!(keys::<String>(&page("0"), "p:").unwrap().cursor, None);
        assert!(keys::<u64>(&[RedisValue::Nil], "").is_err());
    }
}
