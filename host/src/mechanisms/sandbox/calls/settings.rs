//! `wasi:config/store`: the constants of a daemon's `config` resources.

use wasmtime::component::{ComponentType, Linker, Lower};

use super::super::host_calls::{Store, charge};
use super::super::state::StoreState;

/// `wasi:config/store.error`. Constants are there or not: it is never answered.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "a part of the interface's type")]
enum WitConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Answer<T> = wasmtime::Result<(Result<T, WitConfigError>,)>;

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut store = linker.instance("wasi:config/store@0.2.0-rc.1")?;
    store.func_wrap(
        "get",
        |mut store: Store<'_>, (key,): (String,)| -> Answer<Option<String>> {
            let value = store.data().outside.as_ref().and_then(|outside| outside.constant(&key));
            charge(&mut store, key.len() + value.as_ref().map_or(0, String::len))?;
            Ok((Ok(value),))
        },
    )?;
    store.func_wrap("get-all", |mut store: Store<'_>, ()| -> Answer<Vec<(String, String)>> {
        let values = store.data().outside.as_ref().map(|outside| outside.config());
        let values = values.unwrap_or_default();
        charge(&mut store, values.iter().map(|(key, value)| key.len() + value.len()).sum())?;
        Ok((Ok(values.into_iter().collect()),))
    })
}
