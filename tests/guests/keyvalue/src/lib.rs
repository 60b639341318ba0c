//! A guest of the tests that uses `wasi:keyvalue`, as components do that know nothing of this host.

use guest_sdk::prelude::*;

#[cfg(target_family = "wasm")]
mod store {
    wit_bindgen::generate!({
        inline: "
            package wasi:keyvalue@0.2.0-draft;

            interface store {
                variant error { no-such-store, access-denied, other(string) }
                record key-response { keys: list<string>, cursor: option<u64> }
                open: func(identifier: string) -> result<bucket, error>;
                resource bucket {
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                    exists: func(key: string) -> result<bool, error>;
                    list-keys: func(cursor: option<u64>) -> result<key-response, error>;
                }
            }

            interface atomics {
                use store.{bucket, error};
                increment: func(bucket: borrow<bucket>, key: string, delta: u64)
                    -> result<u64, error>;
            }

            interface batch {
                use store.{bucket, error};
                get-many: func(bucket: borrow<bucket>, keys: list<string>)
                    -> result<list<option<tuple<string, list<u8>>>>, error>;
                set-many: func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>)
                    -> result<_, error>;
                delete-many: func(bucket: borrow<bucket>, keys: list<string>)
                    -> result<_, error>;
            }

            world imports {
                import store;
                import atomics;
                import batch;
            }
        ",
        generate_all,
    });

    pub(crate) use self::wasi::keyvalue::{atomics, batch, store::*};
}

/// The second draft, of which a part is enough.
#[cfg(target_family = "wasm")]
mod second {
    wit_bindgen::generate!({
        inline: "
            package wasi:keyvalue@0.2.0-draft2;

            interface store {
                variant error { no-such-store, access-denied, other(string) }
                open: func(identifier: string) -> result<bucket, error>;
                resource bucket {
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                }
            }

            interface atomics {
                use store.{bucket, error};
                variant cas-error { store-error(error), cas-failed(cas) }
                resource cas {
                    new: static func(bucket: borrow<bucket>, key: string) -> result<cas, error>;
                    current: func() -> result<option<list<u8>>, error>;
                }
                increment: func(bucket: borrow<bucket>, key: string, delta: s64)
                    -> result<s64, error>;
                swap: func(cas: cas, value: list<u8>) -> result<_, cas-error>;
            }

            world imports {
                import store;
                import atomics;
            }
        ",
        generate_all,
    });

    pub(crate) use self::wasi::keyvalue::atomics::{Cas, CasError, swap};
    pub(crate) use self::wasi::keyvalue::store::{Error, open};
}

/// Keeps nothing of its own.
#[derive(Clone, Debug, Default)]
pub struct KeyValue {
    calls: u64,
}

#[guest]
impl KeyValue {
    /// Does one thing with a key of a store, and answers what came of it, as text.
    pub fn run(&mut self, store: String, what: String, key: String) -> String {
        self.calls += 1;
        run(&store, &what, &key)
    }

    /// Looks at a key, sets it to something else if it is to meddle, and swaps what it saw for a
    /// value: again, when that failed.
    pub fn swap(&mut self, key: String, meddle: Option<String>, value: String) -> String {
        self.calls += 1;
        swap(&key, meddle.as_deref(), &value)
    }

    /// Opens a store, and keeps it.
    pub fn leak(&mut self, store: String) -> String {
        leak(&store)
    }

    /// Uses a handle that nobody gave it.
    pub fn forge(&mut self, handle: u32) -> String {
        forge(handle)
    }

    /// How often it was called.
    pub fn calls(&self) -> u64 {
        self.calls
    }
}

#[cfg(not(target_family = "wasm"))]
fn run(_store: &str, _what: &str, _key: &str) -> String {
    String::new()
}

#[cfg(not(target_family = "wasm"))]
fn swap(_key: &str, _meddle: Option<&str>, _value: &str) -> String {
    String::new()
}

#[cfg(not(target_family = "wasm"))]
fn leak(_store: &str) -> String {
    String::new()
}

#[cfg(not(target_family = "wasm"))]
fn forge(_handle: u32) -> String {
    String::new()
}

#[cfg(target_family = "wasm")]
fn run(name: &str, what: &str, key: &str) -> String {
    let done = || -> Result<String, store::Error> {
        let bucket = store::open(name)?;
        let text = |bytes: Option<Vec<u8>>| match bytes {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => "none".to_owned(),
        };
        Ok(match what {
            "get" => text(bucket.get(key)?),
            "set" => {
                bucket.set(key, b"5")?;
                "set".to_owned()
            }
            "delete" => {
                bucket.delete(key)?;
                "deleted".to_owned()
            }
            "exists" => bucket.exists(key)?.to_string(),
            "increment" => store::atomics::increment(&bucket, key, 3)?.to_string(),
            "keys" => {
                let mut keys = Vec::new();
                let mut cursor = None;
                loop {
                    let page = bucket.list_keys(cursor)?;
                    keys.extend(page.keys);
                    cursor = page.cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                keys.sort();
                keys.dedup();
                keys.join(" ")
            }
            "set-many" => {
                let pairs = ["x", "y"].map(|name| (format!("{key}{name}"), b"1".to_vec()));
                store::batch::set_many(&bucket, &pairs)?;
                "set".to_owned()
            }
            "get-many" => {
                let keys = ["x", "gone", "y"].map(|name| format!("{key}{name}"));
                let values = store::batch::get_many(&bucket, &keys)?;
                let shown =
                    values.into_iter().map(|pair| pair.map_or("none".to_owned(), |(k, _)| k));
                shown.collect::<Vec<_>>().join(" ")
            }
            "delete-many" => {
                let keys = ["x", "gone", "y"].map(|name| format!("{key}{name}"));
                store::batch::delete_many(&bucket, &keys)?;
                "deleted".to_owned()
            }
            _ => "?".to_owned(),
        })
    };
    match done() {
        Ok(text) => text,
        Err(store::Error::NoSuchStore) => "no such store".to_owned(),
        Err(store::Error::AccessDenied) => "access denied".to_owned(),
        Err(store::Error::Other(why)) => format!("other: {why}"),
    }
}

#[cfg(target_family = "wasm")]
fn swap(key: &str, meddle: Option<&str>, value: &str) -> String {
    let shown = |cas: &second::Cas| match cas.current() {
        Ok(Some(seen)) => String::from_utf8_lossy(&seen).into_owned(),
        Ok(None) => "none".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    let done = || -> Result<String, second::Error> {
        let bucket = second::open("")?;
        let mut cas = second::Cas::new(&bucket, key)?;
        let mut text = shown(&cas);
        if let Some(meddle) = meddle {
            bucket.set(key, meddle.as_bytes())?;
        }
        loop {
            match second::swap(cas, value.as_bytes()) {
                Ok(()) => return Ok(text),
                Err(second::CasError::CasFailed(again)) => {
                    text = format!("{text}, then {}", shown(&again));
                    cas = again;
                }
                Err(second::CasError::StoreError(error)) => return Err(error),
            }
        }
    };
    done().unwrap_or_else(|error| format!("{error:?}"))
}

#[cfg(target_family = "wasm")]
fn leak(name: &str) -> String {
    let opened = store::open(name).is_ok_and(|bucket| {
        std::mem::forget(bucket);
        true
    });
    opened.to_string()
}

#[cfg(target_family = "wasm")]
#[expect(unsafe_code, reason = "it forges a handle, which the host has to survive")]
fn forge(handle: u32) -> String {
    // SAFETY: the handle is an index into a table of the host's, which checks it.
    let bucket = unsafe { store::Bucket::from_handle(handle) };
    let exists = bucket.exists("x").is_ok();
    std::mem::forget(bucket);
    exists.to_string()
}
