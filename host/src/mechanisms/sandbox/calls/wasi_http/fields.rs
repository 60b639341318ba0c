//! Headers of `wasi:http/types`.

use http::{HeaderName, HeaderValue};
use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource, ResourceType};

use super::super::super::host_calls::{Store, charge};
use super::super::super::state::StoreState;
use crate::base::limits::HTTP_CALL_HEAD_BYTES_MAX;
use crate::pure::resource::outgoing::is_hosts;

/// `types.header-error`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(variant)]
enum HeaderError {
    #[component(name = "invalid-syntax")]
    InvalidSyntax,
    #[component(name = "forbidden")]
    Forbidden,
    #[component(name = "immutable")]
    Immutable,
}

/// Names and values, in order.
pub(super) type Entries = Vec<(String, Vec<u8>)>;

/// Headers.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) entries: Entries,
    /// They are those of a request, or of an answer.
    is_fixed: bool,
}

impl Fields {
    /// A copy that says what headers are.
    pub(super) fn fixed(entries: &Entries) -> Self {
        Self { entries: entries.clone(), is_fixed: true }
    }

    fn bytes(&self) -> usize {
        let sizes = self.entries.iter().map(|(name, value)| name.len().saturating_add(value.len()));
        sizes.fold(0, usize::saturating_add)
    }

    fn check(&self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        if self.is_fixed {
            return Err(HeaderError::Immutable);
        }
        if HeaderName::from_bytes(name.as_bytes()).is_err()
            || HeaderValue::from_bytes(value).is_err()
        {
            return Err(HeaderError::InvalidSyntax);
        }
        // Its length is checked when the body is whole.
        let is_length = name.eq_ignore_ascii_case("content-length");
        let bytes = self.bytes().saturating_add(name.len()).saturating_add(value.len());
        if (is_hosts(name) && !is_length) || bytes > HTTP_CALL_HEAD_BYTES_MAX {
            return Err(HeaderError::Forbidden);
        }
        Ok(())
    }

    fn append(&mut self, name: String, value: Vec<u8>) -> Result<(), HeaderError> {
        self.check(&name, &value)?;
        self.entries.push((name, value));
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Result<(), HeaderError> {
        if self.is_fixed {
            return Err(HeaderError::Immutable);
        }
        self.entries.retain(|(its, _)| !its.eq_ignore_ascii_case(name));
        Ok(())
    }

    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let those = self.entries.iter().filter(|(its, _)| its.eq_ignore_ascii_case(name));
        those.map(|(_, value)| value.clone()).collect()
    }
}

pub(super) type Handle = Resource<Fields>;
type Changed<T> = wasmtime::Result<(Result<T, HeaderError>,)>;

pub(super) fn link(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.resource("fields", ResourceType::host::<Fields>(), |mut store, rep| {
        store.data_mut().table().delete(Handle::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap("[constructor]fields", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data_mut().table().push(Fields::default())?,))
    })?;
    types.func_wrap(
        "[static]fields.from-list",
        |mut store: Store<'_>, (entries,): (Entries,)| -> Changed<Handle> {
            let mut fields = Fields::default();
            for (name, value) in entries {
                charge(&mut store, name.len().saturating_add(value.len()))?;
                if let Err(error) = fields.append(name, value) {
                    return Ok((Err(error),));
                }
            }
            Ok((Ok(store.data_mut().table().push(fields)?),))
        },
    )?;
    link_looks(types)?;
    link_changes(types)
}

fn link_looks(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]fields.get",
        |mut store: Store<'_>, (fields, name): (Handle, String)| {
            let values = store.data_mut().table().get(&fields)?.values(&name);
            charge(&mut store, values.iter().map(Vec::len).sum())?;
            Ok((values,))
        },
    )?;
    types.func_wrap(
        "[method]fields.has",
        |mut store: Store<'_>, (fields, name): (Handle, String)| {
            charge(&mut store, name.len())?;
            Ok((!store.data_mut().table().get(&fields)?.values(&name).is_empty(),))
        },
    )?;
    types.func_wrap("[method]fields.entries", |mut store: Store<'_>, (fields,): (Handle,)| {
        let fields = store.data_mut().table().get(&fields)?;
        let (bytes, entries) = (fields.bytes(), fields.entries.clone());
        charge(&mut store, bytes)?;
        Ok((entries,))
    })?;
    types.func_wrap("[method]fields.clone", |mut store: Store<'_>, (fields,): (Handle,)| {
        let fields = store.data_mut().table().get(&fields)?;
        let copy = Fields { entries: fields.entries.clone(), is_fixed: false };
        charge(&mut store, copy.bytes())?;
        Ok((store.data_mut().table().push(copy)?,))
    })
}

fn link_changes(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]fields.set",
        |mut store: Store<'_>,
         (fields, name, values): (Handle, String, Vec<Vec<u8>>)|
         -> Changed<()> {
            charge(&mut store, values.iter().map(Vec::len).sum())?;
            let fields = store.data_mut().table().get_mut(&fields)?;
            for value in &values {
                if let Err(error) = fields.check(&name, value) {
                    return Ok((Err(error),));
                }
            }
            let mut changed = fields.delete(&name);
            for value in values {
                changed = changed.and_then(|()| fields.append(name.clone(), value));
            }
            Ok((changed,))
        },
    )?;
    types.func_wrap(
        "[method]fields.delete",
        |mut store: Store<'_>, (fields, name): (Handle, String)| -> Changed<()> {
            charge(&mut store, name.len())?;
            Ok((store.data_mut().table().get_mut(&fields)?.delete(&name),))
        },
    )?;
    types.func_wrap(
        "[method]fields.append",
        |mut store: Store<'_>, (fields, name, value): (Handle, String, Vec<u8>)| -> Changed<()> {
            charge(&mut store, name.len().saturating_add(value.len()))?;
            Ok((store.data_mut().table().get_mut(&fields)?.append(name, value),))
        },
    )
}
