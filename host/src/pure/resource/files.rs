//! What transactions ask of a directory that they may read, and what comes back, as values.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A file or a directory that a provider opened. With its last copy it is closed.
#[derive(Clone)]
pub struct Opened(Arc<dyn Any + Send + Sync>);

impl Opened {
    /// Hides what the provider opened from everybody else.
    #[must_use]
    pub fn new(what: impl Any + Send + Sync) -> Self {
        Self(Arc::new(what))
    }

    /// What the provider opened; none when it is of another type.
    #[must_use]
    pub fn open<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl PartialEq for Opened {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A path, and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePath {
    /// The directory; none for the resource itself.
    pub from: Option<Opened>,
    /// Relative to it.
    pub path: String,
    /// Whether a link at its end is followed. Those on the way are.
    pub follow: bool,
}

/// One look into a directory.
#[derive(Clone, Debug, PartialEq)]
pub enum FileCall {
    /// Opens a file, or a directory, for reading.
    Open(FilePath),
    /// Reads from a place in a file: at most that many bytes, none at its end.
    Read {
        /// Which.
        file: Opened,
        /// From where.
        offset: u64,
        /// How many bytes, at most.
        bytes: usize,
    },
    /// The names in a directory, in order.
    List(Opened),
    /// What is known of something open.
    Facts(Opened),
    /// What is known of something by its path.
    FactsAt(FilePath),
    /// Where a link leads to.
    Link(FilePath),
}

/// What a directory answered.
#[derive(Clone, Debug, PartialEq)]
pub enum FileReply {
    /// It is open.
    Opened(Opened, FileKind),
    /// What was read.
    Bytes(Vec<u8>),
    /// Names.
    Names(Vec<(String, FileKind)>),
    /// What is known of it.
    Facts(FileFacts),
    /// A link's text.
    Link(String),
}

/// What something in a directory is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// Something else, which can't be opened.
    Other,
}

/// A moment: seconds since the Unix epoch, and nanoseconds.
pub type FileTime = (u64, u32);

/// What is known of something in a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileFacts {
    /// What it is.
    pub kind: FileKind,
    /// Names that it has.
    pub links: u64,
    /// Its size.
    pub bytes: u64,
    /// When it was read last; none before 1970.
    pub accessed: Option<FileTime>,
    /// When its content changed last.
    pub modified: Option<FileTime>,
    /// When it changed last.
    pub changed: Option<FileTime>,
    /// The same for the same thing, and for nothing else there.
    pub identity: (u64, u64),
}
