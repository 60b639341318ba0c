//! What `wasi:filesystem` tells of files and directories.

use wasmtime::component::{ComponentNamedList, LinkerInstance, Lower};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, MetadataHashValue, PathFlags,
};

use super::super::super::host_calls::{Store, charge};
use super::super::super::state::StoreState;
use super::{Answer, Descriptor, Handle, Looked, Target, look, target, unexpected};
use crate::pure::resource::files::{FileCall, FileFacts, FileKind, FileReply, FileTime};

pub(super) fn link(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]descriptor.get-flags",
        |mut store: Store<'_>, (_handle,): (Handle,)| -> Answer<DescriptorFlags> {
            charge(&mut store, 0)?;
            Ok((Ok(DescriptorFlags::READ),))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.get-type",
        |mut store: Store<'_>, (handle,): (Handle,)| -> Answer<DescriptorType> {
            charge(&mut store, 0)?;
            Ok((Ok(match store.data_mut().table().get(&handle)? {
                Descriptor::Root => DescriptorType::Directory,
                Descriptor::Open { kind: its, .. } => kind(*its),
            }),))
        },
    )?;
    of_open(types, "stat", |facts| stat(&facts))?;
    of_path(types, "stat-at", |facts| stat(&facts))?;
    of_open(types, "metadata-hash", |facts| hash(&facts))?;
    of_path(types, "metadata-hash-at", |facts| hash(&facts))?;
    types.func_wrap(
        "[method]descriptor.is-same-object",
        |mut store: Store<'_>, (one, other): (Handle, Handle)| {
            let (one, other) = (facts(&mut store, &one)?, facts(&mut store, &other)?);
            let same =
                matches!((one, other), (Ok(one), Ok(other)) if one.identity == other.identity);
            Ok((same,))
        },
    )
}

/// A function of what is known of something open.
fn of_open<T>(
    types: &mut LinkerInstance<'_, StoreState>,
    name: &str,
    of: fn(FileFacts) -> T,
) -> wasmtime::Result<()>
where
    (Result<T, ErrorCode>,): ComponentNamedList + Lower,
    T: 'static,
{
    let name = format!("[method]descriptor.{name}");
    types.func_wrap(&name, move |mut store: Store<'_>, (handle,): (Handle,)| -> Answer<T> {
        Ok((facts(&mut store, &handle)?.map(of),))
    })
}

/// A function of what is known of something by its path.
fn of_path<T>(
    types: &mut LinkerInstance<'_, StoreState>,
    name: &str,
    of: fn(FileFacts) -> T,
) -> wasmtime::Result<()>
where
    (Result<T, ErrorCode>,): ComponentNamedList + Lower,
    T: 'static,
{
    let name = format!("[method]descriptor.{name}");
    types.func_wrap(
        &name,
        move |mut store: Store<'_>,
              (handle, flags, path): (Handle, PathFlags, String)|
              -> Answer<T> {
            let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
            let found = match target(&mut store, &handle, path, follow)? {
                Ok(Target::Root) => Ok(ROOT_FACTS),
                Ok(Target::In { resource, path }) => {
                    only_facts(look(&mut store, &resource, FileCall::FactsAt(path))?)
                }
                Err(code) => Err(code),
            };
            Ok((found.map(of),))
        },
    )
}

/// What is known of `/`, where nothing ever changes.
const ROOT_FACTS: FileFacts = FileFacts {
    kind: FileKind::Directory,
    links: 1,
    bytes: 0,
    accessed: None,
    modified: None,
    changed: None,
    identity: (0, 0),
};

fn facts(store: &mut Store<'_>, handle: &Handle) -> Looked<FileFacts> {
    charge(store, 0)?;
    match store.data_mut().table().get(handle)?.clone() {
        Descriptor::Root => Ok(Ok(ROOT_FACTS)),
        Descriptor::Open { resource, opened, .. } => {
            Ok(only_facts(look(store, &resource, FileCall::Facts(opened))?))
        }
    }
}

fn only_facts(answer: Result<FileReply, ErrorCode>) -> Result<FileFacts, ErrorCode> {
    match answer {
        Ok(FileReply::Facts(facts)) => Ok(facts),
        other => Err(unexpected(other)),
    }
}

pub(super) fn kind(kind: FileKind) -> DescriptorType {
    match kind {
        FileKind::Directory => DescriptorType::Directory,
        FileKind::File => DescriptorType::RegularFile,
        FileKind::Link => DescriptorType::SymbolicLink,
        FileKind::Other => DescriptorType::Unknown,
    }
}

fn stat(facts: &FileFacts) -> DescriptorStat {
    let time = |time: Option<FileTime>| {
        time.map(|(seconds, nanoseconds)| Datetime { seconds, nanoseconds })
    };
    DescriptorStat {
        type_: kind(facts.kind),
        link_count: facts.links,
        size: facts.bytes,
        data_access_timestamp: time(facts.accessed),
        data_modification_timestamp: time(facts.modified),
        status_change_timestamp: time(facts.changed),
    }
}

/// Says nothing of the numbers of devices and files, but whether they are the same.
fn hash(facts: &FileFacts) -> MetadataHashValue {
    let (device, file) = facts.identity;
    let hash = blake3::hash(&[device.to_le_bytes(), file.to_le_bytes()].concat());
    let half = |bytes: &[u8]| {
        bytes.iter().take(8).fold(0, |number: u64, byte| (number << 8) | u64::from(*byte))
    };
    let (lower, upper) = hash.as_bytes().split_at(16);
    MetadataHashValue { lower: half(lower), upper: half(upper) }
}
