//! Opens files that have to be regular ones: whoever opens a pipe waits for somebody at its other
//! end, a device may do anything, and neither says how long it is.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// What is there is something else than a regular file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is {0}, not a regular file")]
pub struct NotRegular(pub &'static str);

impl NotRegular {
    /// True for an error of [`open_regular`] that says this.
    #[must_use]
    pub fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Self>)
    }
}

impl From<NotRegular> for io::Error {
    fn from(found: NotRegular) -> Self {
        Self::new(io::ErrorKind::InvalidInput, found)
    }
}

/// Opens a file, or makes it where `options` say so, with these flags in place of the options' own.
/// Nothing that is no regular file is opened, but in the moment in which somebody puts it there; it
/// is closed then, and keeps nobody waiting.
///
/// # Errors
///
/// [`NotRegular`], and the system's.
pub fn open_regular(
    path: &Path,
    options: &OpenOptions,
    flags: OFlags,
) -> io::Result<(File, Metadata)> {
    let found = match flags.contains(OFlags::NOFOLLOW) {
        true => fs::symlink_metadata(path),
        false => fs::metadata(path),
    };
    match found {
        Ok(facts) => look(facts.file_type())?,
        // It may be one that is made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.clone().custom_flags(flags.bits().cast_signed()).open(path)?;
    let facts = file.metadata()?;
    look(facts.file_type())?;
    Ok((file, facts))
}

/// Opens one to read it.
///
/// # Errors
///
/// As [`open_regular`].
pub fn read_regular(path: &Path, flags: OFlags) -> io::Result<(File, Metadata)> {
    open_regular(path, OpenOptions::new().read(true), flags)
}

fn look(kind: FileType) -> io::Result<()> {
    if kind.is_file() { Ok(()) } else { Err(NotRegular(name(kind)).into()) }
}

/// What a person calls it.
fn name(kind: FileType) -> &'static str {
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        mknodat(CWD, at("pipe"), Kind::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlink(at("pipe"), at("link-to-pipe")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        let reads = || OpenOptions::new().read(true).clone();
        let writes = || OpenOptions::new().read(true).write(true).create(true).clone();
        for options in [reads(), writes()] {
            for (name, kind) in [
                (dir.path().to_owned(), "a directory"),
                (at("pipe"), "a named pipe"),
                (at("link-to-pipe"), "a named pipe"),
                (at("socket"), "a socket"),
                ("/dev/null".into(), "a device"),
            ] {
                let error = open_regular(&name, &options, OFlags::empty()).unwrap_err();
                assert!(NotRegular::is_in(&error), "{kind}: {error}");
                assert_eq!(error.to_string(), format!("it is {kind}, not a regular file"));
            }
            let facts = open_regular(&at("link"), &options, OFlags::empty()).unwrap().1;
            assert_eq!(facts.len(), 4);
            let error = open_regular(&at("link"), &options, OFlags::NOFOLLOW).unwrap_err();
            assert_eq!(error.to_string(), "it is a symbolic link, not a regular file");
        }
        let error = open_regular(&at("none"), &reads(), OFlags::empty()).unwrap_err();
        assert!(error.kind() == io::ErrorKind::NotFound && !NotRegular::is_in(&error));
        assert_eq!(open_regular(&at("new"), &writes(), OFlags::NOFOLLOW).unwrap().1.len(), 0);
    }
}
