//! `wasi:filesystem`, for reading: the directories that the daemon may read, each under its name in
//! `/`.
//!
//! Each look is a call of a resource, as any other: it has a lease, it ends with the resource, with
//! a cancel and with the deadline, whatever the disk does. What a guest keeps between transactions
//! is the handle of `/`, of which there is one whatever the manifest says; it leads to names and to
//! nothing open. What is open is closed by the end of the transaction at the latest.

mod facts;

use std::vec::IntoIter;

use wasmtime::component::{
    ComponentNamedList, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource,
    ResourceTable, ResourceType,
};
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    Advice, DescriptorFlags, DirectoryEntry, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi_io::bindings::wasi::io::streams::StreamError;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, Error as IoError};

use super::super::host_calls::{Store, charge};
use super::super::state::StoreState;
use super::super::wasi::WASI_VERSIONS;
use super::ask;
use super::streams::Streamed;
use crate::base::limits::FILE_READ_BYTES_MAX;
use crate::pure::resource::files::{FileCall, FileKind, FilePath, FileReply, Opened};
use crate::pure::resource::operation::{CallError, Operation, Reply};

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;
type Looked<T> = wasmtime::Result<Result<T, ErrorCode>>;

/// A descriptor.
#[derive(Clone, Debug)]
enum Descriptor {
    /// `/`, in which there are the directories of the daemon.
    Root,
    /// Something in one of these.
    Open { resource: String, opened: Opened, kind: FileKind },
}

/// Names in a directory that the guest hasn't asked for yet.
struct Entries(IntoIter<(String, FileKind)>);

/// What a stream reads, and where it goes on.
#[derive(Debug)]
pub(in crate::mechanisms::sandbox) struct FileStream {
    resource: String,
    file: Opened,
    offset: u64,
}

/// Why a stream of a file can't go on.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
struct FileFault(ErrorCode);

type Handle = Resource<Descriptor>;

/// True when `/` is at this place.
pub(in crate::mechanisms::sandbox) fn is_root(table: &ResourceTable, place: u32) -> bool {
    matches!(table.get(&Handle::new_borrow(place)), Ok(Descriptor::Root))
}

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    for version in WASI_VERSIONS {
        let mut preopens = linker.instance(&format!("wasi:filesystem/preopens@{version}"))?;
        preopens.func_wrap("get-directories", |mut store: Store<'_>, ()| {
            charge(&mut store, 1)?;
            let state = store.data_mut();
            state.asked_directories = true;
            Ok((vec![(state.table().push(Descriptor::Root)?, "/".to_owned())],))
        })?;
        let mut types = linker.instance(&format!("wasi:filesystem/types@{version}"))?;
        link_resources(&mut types)?;
        link_opening(&mut types)?;
        link_reading(&mut types)?;
        facts::link(&mut types)?;
        link_refused(&mut types)?;
    }
    Ok(())
}

fn link_resources(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.resource("descriptor", ResourceType::host::<Descriptor>(), |mut store, rep| {
        store.data_mut().table().delete(Handle::new_own(rep))?;
        Ok(())
    })?;
    let entries = ResourceType::host::<Entries>();
    types.resource("directory-entry-stream", entries, |mut store, rep| {
        store.data_mut().table().delete(Resource::<Entries>::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap(
        "filesystem-error-code",
        |mut store: Store<'_>, (error,): (Resource<IoError>,)| {
            charge(&mut store, 0)?;
            let error = store.data_mut().table().get(&error)?;
            Ok((error.downcast_ref().map(|FileFault(code)| *code),))
        },
    )
}

/// One look, at a resource that the daemon has.
fn look(store: &mut Store<'_>, resource: &str, call: FileCall) -> Looked<FileReply> {
    let bytes = match &call {
        FileCall::Open(path) | FileCall::FactsAt(path) | FileCall::Link(path) => path.path.len(),
        FileCall::Read { .. } | FileCall::List(_) | FileCall::Facts(_) => 0,
    };
    let answer = ask(store, resource, Operation::Files(call), bytes)?;
    match answer {
        Ok(Reply::Files(reply)) => {
            charge(store, size(&reply))?;
            Ok(Ok(reply))
        }
        Ok(_) => Ok(Err(ErrorCode::Io)),
        Err(error) => Ok(Err(code(&error))),
    }
}

fn size(reply: &FileReply) -> usize {
    match reply {
        FileReply::Opened(..) | FileReply::Facts(_) => 0,
        FileReply::Bytes(bytes) => bytes.len(),
        FileReply::Names(names) => names.iter().map(|(name, _)| name.len()).sum(),
        FileReply::Link(text) => text.len(),
    }
}

fn code(error: &CallError) -> ErrorCode {
    match error {
        CallError::NoSuchResource => ErrorCode::NoEntry,
        CallError::WrongKind => ErrorCode::NotDirectory,
        CallError::Denied(_) => ErrorCode::NotPermitted,
        CallError::TooLarge(_) => ErrorCode::Overflow,
        CallError::Unavailable(_) | CallError::Died | CallError::NotSent(_) => ErrorCode::NoDevice,
        CallError::Full => ErrorCode::Busy,
        CallError::TimedOut => ErrorCode::Io,
        CallError::Refused { code, .. } => match code.as_str() {
            "access" => ErrorCode::Access,
            "not-permitted" => ErrorCode::NotPermitted,
            "no-entry" => ErrorCode::NoEntry,
            "not-directory" => ErrorCode::NotDirectory,
            "is-directory" => ErrorCode::IsDirectory,
            "loop" => ErrorCode::Loop,
            "name-too-long" => ErrorCode::NameTooLong,
            "invalid" => ErrorCode::Invalid,
            "overflow" => ErrorCode::Overflow,
            "illegal-byte-sequence" => ErrorCode::IllegalByteSequence,
            "busy" => ErrorCode::Busy,
            _ => ErrorCode::Io,
        },
    }
}

/// Where a path leads to.
enum Target {
    /// `/` itself.
    Root,
    In {
        resource: String,
        path: FilePath,
    },
}

/// Finds out in which resource a path is. Within it, the provider walks.
fn target(store: &mut Store<'_>, handle: &Handle, path: String, follow: bool) -> Looked<Target> {
    charge(store, path.len())?;
    let (resource, from) = match store.data_mut().table().get(handle)? {
        Descriptor::Open { resource, opened, .. } => (resource.clone(), Some(opened.clone())),
        Descriptor::Root => match split(&path) {
            Ok(None) => return Ok(Ok(Target::Root)),
            Ok(Some((resource, rest))) => {
                if !directories(store)?.iter().any(|name| name == resource) {
                    return Ok(Err(ErrorCode::NoEntry));
                }
                let path = FilePath { from: None, path: rest.to_owned(), follow };
                return Ok(Ok(Target::In { resource: resource.to_owned(), path }));
            }
            Err(code) => return Ok(Err(code)),
        },
    };
    if path.is_empty() {
        return Ok(Err(ErrorCode::NoEntry));
    }
    Ok(Ok(Target::In { resource, path: FilePath { from, path, follow } }))
}

/// The directories of the daemon, in order.
fn directories(store: &mut Store<'_>) -> wasmtime::Result<Vec<String>> {
    let state = store.data();
    state.resources_are_there()?;
    let mut names = state.outside.as_ref().map_or(Vec::new(), |outside| outside.directories());
    names.sort_unstable();
    Ok(names)
}

/// The first name of a path in `/`, and the path after it; none for `/` itself.
fn split(path: &str) -> Result<Option<(&str, &str)>, ErrorCode> {
    if path.is_empty() {
        return Err(ErrorCode::NoEntry);
    }
    if path.starts_with('/') {
        return Err(ErrorCode::NotPermitted);
    }
    let mut rest = path;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('/').unwrap_or((rest, ""));
        let after = after.trim_start_matches('/');
        match name {
            "." => rest = after,
            ".." => return Err(ErrorCode::NotPermitted),
            _ => return Ok(Some((name, if after.is_empty() { "." } else { after }))),
        }
    }
    Ok(None)
}

fn link_opening(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]descriptor.open-at",
        |mut store: Store<'_>,
         (handle, path_flags, path, open_flags, flags): (
            Handle,
            PathFlags,
            String,
            OpenFlags,
            DescriptorFlags,
        )|
         -> Answer<Handle> {
            let changes = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
            if open_flags.intersects(changes) || flags.contains(DescriptorFlags::WRITE) {
                charge(&mut store, path.len())?;
                return Ok((Err(ErrorCode::ReadOnly),));
            }
            let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
            let opened = open(&mut store, &handle, path, follow)?;
            let opened = opened.and_then(|opened| match opened {
                Descriptor::Open { kind, .. }
                    if kind != FileKind::Directory && open_flags.contains(OpenFlags::DIRECTORY) =>
                {
                    Err(ErrorCode::NotDirectory)
                }
                opened => Ok(opened),
            });
            Ok((match opened {
                Ok(opened) => Ok(store.data_mut().table().push(opened)?),
                Err(code) => Err(code),
            },))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.readlink-at",
        |mut store: Store<'_>, (handle, path): (Handle, String)| -> Answer<String> {
            let (resource, path) = match target(&mut store, &handle, path, false)? {
                Ok(Target::In { resource, path }) => (resource, path),
                Ok(Target::Root) => return Ok((Err(ErrorCode::Invalid),)),
                Err(code) => return Ok((Err(code),)),
            };
            Ok((match look(&mut store, &resource, FileCall::Link(path))? {
                Ok(FileReply::Link(text)) => Ok(text),
                other => Err(unexpected(other)),
            },))
        },
    )
}

fn open(store: &mut Store<'_>, handle: &Handle, path: String, follow: bool) -> Looked<Descriptor> {
    let (resource, path) = match target(store, handle, path, follow)? {
        Ok(Target::In { resource, path }) => (resource, path),
        Ok(Target::Root) => return Ok(Ok(Descriptor::Root)),
        Err(code) => return Ok(Err(code)),
    };
    Ok(match look(store, &resource, FileCall::Open(path))? {
        Ok(FileReply::Opened(opened, kind)) => Ok(Descriptor::Open { resource, opened, kind }),
        other => Err(unexpected(other)),
    })
}

/// The error, or one for an answer to something else.
fn unexpected(answer: Result<FileReply, ErrorCode>) -> ErrorCode {
    answer.err().unwrap_or(ErrorCode::Io)
}

/// What is open, and the resource that it is in.
fn opened(store: &mut Store<'_>, handle: &Handle, kind: FileKind) -> Looked<(String, Opened)> {
    Ok(match store.data_mut().table().get(handle)? {
        Descriptor::Open { resource, opened, kind: its } if *its == kind => {
            Ok((resource.clone(), opened.clone()))
        }
        _ if kind == FileKind::Directory => Err(ErrorCode::NotDirectory),
        _ => Err(ErrorCode::IsDirectory),
    })
}

fn link_reading(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]descriptor.read",
        |mut store: Store<'_>,
         (handle, bytes, offset): (Handle, u64, u64)|
         -> Answer<(Vec<u8>, bool)> {
            let read = match opened(&mut store, &handle, FileKind::File)? {
                Ok((resource, file)) => read(&mut store, &resource, file, offset, bytes)?,
                Err(code) => Err(code),
            };
            Ok((read.map(|read| {
                let ended = read.is_empty() && bytes > 0;
                (read, ended)
            }),))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: Store<'_>,
         (handle, offset): (Handle, u64)|
         -> Answer<Resource<DynInputStream>> {
            charge(&mut store, 0)?;
            let (resource, file) = match opened(&mut store, &handle, FileKind::File)? {
                Ok(found) => found,
                Err(code) => return Ok((Err(code),)),
            };
            let state = store.data_mut();
            // What is read doesn't come from that one.
            let stream: DynInputStream = Box::new(ClosedInputStream);
            let stream = state.table().push(stream)?;
            state.file_streams.insert(stream.rep(), FileStream { resource, file, offset });
            Ok((Ok(stream),))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.read-directory",
        |mut store: Store<'_>, (handle,): (Handle,)| -> Answer<Resource<Entries>> {
            charge(&mut store, 0)?;
            let names = match list(&mut store, &handle)? {
                Ok(names) => names,
                Err(code) => return Ok((Err(code),)),
            };
            Ok((Ok(store.data_mut().table().push(Entries(names.into_iter()))?),))
        },
    )?;
    types.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: Store<'_>,
         (entries,): (Resource<Entries>,)|
         -> Answer<Option<DirectoryEntry>> {
            charge(&mut store, 0)?;
            let entry = store.data_mut().table().get_mut(&entries)?.0.next();
            Ok((Ok(entry.map(|(name, its)| DirectoryEntry { type_: facts::kind(its), name })),))
        },
    )
}

fn list(store: &mut Store<'_>, handle: &Handle) -> Looked<Vec<(String, FileKind)>> {
    if let Descriptor::Root = store.data_mut().table().get(handle)? {
        let names = directories(store)?.into_iter();
        return Ok(Ok(names.map(|name| (name, FileKind::Directory)).collect()));
    }
    let (resource, directory) = match opened(store, handle, FileKind::Directory)? {
        Ok(found) => found,
        Err(code) => return Ok(Err(code)),
    };
    Ok(match look(store, &resource, FileCall::List(directory))? {
        Ok(FileReply::Names(names)) => Ok(names),
        other => Err(unexpected(other)),
    })
}

fn read(
    store: &mut Store<'_>,
    resource: &str,
    file: Opened,
    offset: u64,
    bytes: u64,
) -> Looked<Vec<u8>> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(FILE_READ_BYTES_MAX);
    let call = FileCall::Read { file, offset, bytes };
    Ok(match look(store, resource, call)? {
        Ok(FileReply::Bytes(bytes)) => Ok(bytes),
        other => Err(unexpected(other)),
    })
}

/// Reads from a stream, if it is one of a file. That never has to be waited for elsewhere.
pub(super) fn read_stream(
    store: &mut Store<'_>,
    stream: u32,
    bytes: u64,
) -> wasmtime::Result<Option<Streamed<Vec<u8>>>> {
    let Some(FileStream { resource, file, offset }) = store.data().file_streams.get(&stream) else {
        return Ok(None);
    };
    if bytes == 0 {
        return Ok(Some(Ok(Vec::new())));
    }
    let (resource, file, offset) = (resource.clone(), file.clone(), *offset);
    let read = read(store, &resource, file, offset, bytes)?;
    let state = store.data_mut();
    Ok(Some(match read {
        Ok(read) if read.is_empty() => Err(StreamError::Closed),
        Ok(read) => {
            if let Some(stream) = state.file_streams.get_mut(&stream) {
                stream.offset = offset.saturating_add(read.len() as u64);
            }
            Ok(read)
        }
        Err(code) => {
            let error = IoError::new(FileFault(code));
            Err(StreamError::LastOperationFailed(state.table().push(error)?))
        }
    }))
}

/// Links what would change something, and what there is no need for.
fn link_refused(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    refuse::<(Handle, u64), ()>(types, "set-size")?;
    refuse::<(Handle, NewTimestamp, NewTimestamp), ()>(types, "set-times")?;
    refuse::<(Handle, Vec<u8>, u64), u64>(types, "write")?;
    refuse::<(Handle, u64), Resource<DynOutputStream>>(types, "write-via-stream")?;
    refuse::<(Handle,), Resource<DynOutputStream>>(types, "append-via-stream")?;
    refuse::<(Handle, PathFlags, String, NewTimestamp, NewTimestamp), ()>(types, "set-times-at")?;
    refuse::<(Handle, PathFlags, String, Handle, String), ()>(types, "link-at")?;
    refuse::<(Handle, String, Handle, String), ()>(types, "rename-at")?;
    refuse::<(Handle, String, String), ()>(types, "symlink-at")?;
    for name in ["create-directory-at", "remove-directory-at", "unlink-file-at"] {
        refuse::<(Handle, String), ()>(types, name)?;
    }
    for name in ["sync", "sync-data"] {
        types.func_wrap(
            &format!("[method]descriptor.{name}"),
            |mut store: Store<'_>, (_handle,): (Handle,)| -> Answer<()> {
                charge(&mut store, 0)?;
                Ok((Ok(()),))
            },
        )?;
    }
    types.func_wrap(
        "[method]descriptor.advise",
        |mut store: Store<'_>,
         (_handle, _offset, _bytes, _advice): (Handle, u64, u64, Advice)|
         -> Answer<()> {
            charge(&mut store, 0)?;
            Ok((Ok(()),))
        },
    )
}

fn refuse<Arguments, T>(
    types: &mut LinkerInstance<'_, StoreState>,
    name: &str,
) -> wasmtime::Result<()>
where
    Arguments: ComponentNamedList + Lift + 'static,
    T: ComponentType + Lower + Send + Sync + 'static,
{
    let name = format!("[method]descriptor.{name}");
    types.func_wrap(&name, |mut store: Store<'_>, _arguments: Arguments| -> Answer<T> {
        charge(&mut store, 0)?;
        Ok((Err(ErrorCode::ReadOnly),))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_root_begins_with_the_name_of_a_resource() {
        for (path, expected) in [
            ("data", Some(("data", "."))),
            ("data/", Some(("data", "."))),
            ("data/a/b", Some(("data", "a/b"))),
            ("./data//a", Some(("data", "a"))),
            ("data/../other", Some(("data", "../other"))),
            (".", None),
            ("././", None),
        ] {
            assert_eq!(split(path).ok(), Some(expected), "{path}");
        }
        for path in ["", "/", "/data", "..", "../data", "./../data"] {
            assert!(split(path).is_err(), "{path}");
        }
    }
}
