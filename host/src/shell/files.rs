//! Files that people name: read whole, inside a limit, and written in the place of nothing but a
//! regular file.

mod target;

pub(super) use target::Target;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::OFlags;

use crate::base::error::{Code, Fault};
use crate::base::regular::{NotRegular, read_regular};
use crate::pure::size::show_bytes;

/// What an error of the system means for a path.
pub(super) fn fault(path: &Path, error: &io::Error) -> Fault {
    let code = if NotRegular::is_in(error) { Code::FileRefused } else { Code::File };
    Fault::new(code, format!("{}: {error}", path.display()))
}

/// Opens a regular file to read it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    read_regular(path, OFlags::empty()).map(|(file, _)| file)
}

/// A file before it is read: whoever reads it makes room for so many bytes first.
#[derive(Debug)]
pub(super) struct Unread<'a> {
    path: &'a Path,
    file: File,
    bytes: usize,
}

impl<'a> Unread<'a> {
    /// Opens a file of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// `E_FILE`; `E_FILE_REFUSED` for what is no regular file; `over` for one that is larger.
    pub(super) fn open(path: &'a Path, most: usize, over: Code) -> Result<Self, Fault> {
        let opened = read_regular(path, OFlags::empty());
        let (file, facts) = opened.map_err(|error| fault(path, &error))?;
        let bytes = usize::try_from(facts.len()).unwrap_or(usize::MAX);
        if bytes > most {
            let (path, bytes, most) = (path.display(), show_bytes(bytes), show_bytes(most));
            let message = format!("{path}: it has {bytes}; at most {most} are read");
            return Err(Fault::new(over, message));
        }
        Ok(Self { path, file, bytes })
    }

    /// Bytes that [`Unread::read`] takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// `E_NO_MEM`; `E_FILE`, also when it has become longer.
    pub(super) fn read(self) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(self.bytes).map_err(|error| {
            Fault::new(Code::NoMemory, format!("{}: {error}", self.path.display()))
        })?;
        let limit = (self.bytes as u64).saturating_add(1);
        let read = self.file.take(limit).read_to_end(&mut bytes);
        read.map_err(|error| fault(self.path, &error))?;
        if bytes.len() > self.bytes {
            let message = format!("{}: it grew while it was read", self.path.display());
            return Err(Fault::new(Code::File, message));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_file_is_read_inside_its_limit_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        let open = |most| Unread::open(&path, most, Code::Snapshot);
        let file = open(5).unwrap();
        assert_eq!(file.bytes(), 5);
        assert_eq!(file.read().unwrap(), b"12345");
        let refused = open(4).unwrap_err();
        assert_eq!(refused.code, Code::Snapshot, "{refused}");
        assert!(refused.message.contains("5 B; at most 4 B"), "{refused}");
        // Nothing is read of one that is too long: this one is longer than any memory.
        File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
        assert_eq!(open(1 << 30).unwrap_err().code, Code::Snapshot);
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for (path, code) in [
            (pipe.as_path(), Code::FileRefused),
            (dir.path(), Code::FileRefused),
            (Path::new("/dev/zero"), Code::FileRefused),
            (&dir.path().join("none"), Code::File),
        ] {
            let refused = Unread::open(path, 1 << 30, Code::Snapshot).unwrap_err();
            assert_eq!(refused.code, code, "{refused}");
        }
    }

    #[test]
    fn a_file_that_grows_meanwhile_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"12").unwrap();
        let file = Unread::open(&path, 10, Code::Snapshot).unwrap();
        writer.write_all(&[b'3'; 1000]).unwrap();
        let refused = file.read().unwrap_err();
        assert!(refused.code == Code::File && refused.message.contains("grew"), "{refused}");
    }
}
